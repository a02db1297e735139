//! JSON mode: events, answers, binary, and violations.

use roomcast_core::{Action, Bytes};
use roomcast_plain::{Mode, PlainConfig};

use crate::client::Client;

#[test]
fn receives_events_and_answers() {
    let mut client = Client::admitted(Mode::Json);
    client.text(r#"["join","red",{"a":[1]}]"#);
    let event = client.event();
    assert_eq!((&*event.name, event.ack, event.args.json()), ("join", None, r#""red",{"a":[1]}"#));
    client.text(r#"[{"ack":7},"who"]"#);
    let event = client.event();
    assert_eq!((&*event.name, event.ack.map(|id| id.0), event.args.json()), ("who", Some(7), ""));
    client.text(r#"[{"re":3},1,"b"]"#);
    let Some(Action::Answer { namespace, id, args }) = client.next() else { panic!("expected an answer") };
    assert_eq!((namespace.as_str(), id.0, args.json()), ("/chat", 3, r#"1,"b""#));
    client.text("[{}]");
    client.text(r#"[{"hello":"from the future"}]"#);
    client.assert_idle();
}

#[test]
fn collects_announced_binary() {
    let mut client = Client::admitted(Mode::Json);
    let text = r#"[{"binary":2,"ack":1},"up",{"_placeholder":true,"num":1},[{"_placeholder":true,"num":0}]]"#;
    client.text(text);
    client.binary(b"zero");
    client.assert_idle();
    client.binary(b"");
    let event = client.event();
    assert_eq!((&*event.name, event.ack.map(|id| id.0)), ("up", Some(1)));
    let (one, zero) = event.args.parse::<(Bytes, Vec<Bytes>)>().unwrap();
    assert_eq!((&one[..], &zero[0][..]), (&b""[..], &b"zero"[..]));

    client.text(r#"[{"re":0,"binary":1},{"_placeholder":true,"num":0}]"#);
    client.binary(b"answer");
    let Some(Action::Answer { args, .. }) = client.next() else { panic!("expected an answer") };
    assert_eq!(args.parse::<(Bytes,)>().unwrap().0, "answer");
    client.assert_idle();
}

#[test]
fn accepts_placeholder_without_binary_as_data() {
    let mut client = Client::admitted(Mode::Json);
    client.text(r#"["a",{"_placeholder":true,"num":9}]"#);
    assert_eq!(client.event().args.json(), r#"{"_placeholder":true,"num":9}"#);
}

#[test]
fn refuses_texts_outside_grammar() {
    for (text, part) in [
        ("hello", "array"),
        (r#"{"event":"a"}"#, "array"),
        ("[]", "name"),
        ("[7]", "name"),
        (r#"["disconnect"]"#, "reserved"),
        (r#"[{"ack":"x"},"a"]"#, "header"),
        (r#"[{"binary":11},"a"]"#, "from 1 to 10"),
        (r#"[{"binary":0},"a"]"#, "from 1 to 10"),
    ] {
        let mut client = Client::admitted(Mode::Json);
        client.text(text);
        client.assert_refused(part);
    }
    let mut client = Client::admitted(Mode::Json);
    client.text(&format!(r#"["a",{}{}]"#, "[".repeat(128), "]".repeat(128)));
    client.assert_refused("127");
}

#[test]
fn refuses_unannounced_binary() {
    let mut client = Client::admitted(Mode::Json);
    client.binary(b"x");
    client.assert_refused("no header announced");

    let mut client = Client::admitted(Mode::Json);
    client.text(r#"[{"binary":1},"a",{"_placeholder":true,"num":0}]"#);
    client.binary(b"x");
    client.event();
    client.binary(b"one too many");
    client.assert_refused("no header announced");
}

#[test]
fn refuses_text_between_binary() {
    let mut client = Client::admitted(Mode::Json);
    client.text(r#"[{"binary":2},"a",{"_placeholder":true,"num":0}]"#);
    client.binary(b"x");
    client.text(r#"["b"]"#);
    client.assert_refused("not complete");
}

#[test]
fn refuses_mismatched_placeholders() {
    for num in ["1", "-1", "0.5", "1e99", "\"0\"", "null", "\"splice\""] {
        let mut client = Client::admitted(Mode::Json);
        client.text(&format!(r#"[{{"binary":1}},"a",{{"_placeholder":true,"num":{num}}}]"#));
        client.binary(b"x");
        client.assert_refused("placeholder");
    }
    let mut client = Client::admitted(Mode::Json);
    let twice = r#"{"_placeholder":true,"num":0}"#;
    client.text(&format!(r#"[{{"binary":1}},"a",{twice},{twice}]"#));
    client.binary(b"large");
    client.assert_refused("placeholder");
}

#[test]
fn bounds_events_with_their_binary() {
    let config = PlainConfig::new().max_event_bytes(100);
    let text = r#"[{"binary":2},"a"]"#;
    let mut client = Client::admitted_with(Mode::Json, config.clone());
    client.text(text);
    client.message(Bytes::from(vec![0; 100 - text.len()]));
    client.message(Bytes::new());
    client.event();
    client.text(text);
    client.message(Bytes::from(vec![0; 101 - text.len()]));
    client.assert_refused("100 bytes");

    let mut client = Client::admitted_with(Mode::Json, config);
    client.text(&format!(r#"[{{"binary":1}},"{}"]"#, "a".repeat(100)));
    client.assert_refused("100 bytes");
}

#[test]
fn attachment_count_is_configurable() {
    let config = PlainConfig::new().max_attachments(0);
    let mut client = Client::admitted_with(Mode::Json, config);
    client.text(r#"["a"]"#);
    client.event();
    client.text(r#"[{"binary":1},"a"]"#);
    client.assert_refused("from 1 to 0");
}

/// A quadratic parser would take hours.
#[test]
fn refuses_megabyte_of_placeholders_quickly() {
    const MANY: usize = 1_000_000;
    for text in [
        "[".repeat(MANY),
        format!("[{}", "{\"a\":".repeat(MANY / 5)),
        format!("[\"{}", "a".repeat(MANY)),
        format!("[\"{}", "\\".repeat(MANY)),
        format!("[\"a\",\"{}", "\\u0022".repeat(MANY / 6)),
        format!("[{{\"ack\":{}}},\"a\"]", "9".repeat(MANY)),
        format!("[{{\"binary\":0{}}},\"a\"]", ".0".repeat(MANY / 2)),
        format!("[{{{}\"ack\":-1}},\"a\"]", "\"x\":1,".repeat(MANY / 6)),
        format!("[\"a\"{}", ",1".repeat(MANY / 2)),
        format!("[\"a\"{}]]", " ".repeat(MANY)),
    ] {
        let mut client = Client::admitted(Mode::Json);
        client.text(&text);
        client.assert_refused("");
    }
    for text in [
        format!("[\"a\"{}]", ",1".repeat(MANY / 2)),
        format!("[\"a\",\"{}\"]", "\\\\".repeat(MANY / 2)),
        format!("[\"{}\"]", "\\u0022".repeat(MANY / 6)),
        format!("[{{{}\"ack\":1}},\"a\"]", "\"x\":1,".repeat(MANY / 6)),
    ] {
        let mut client = Client::admitted(Mode::Json);
        client.text(&text);
        client.event();
        client.assert_idle();
    }
}
