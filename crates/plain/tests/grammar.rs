//! The examples of the grammar match the implementation.

use std::sync::Arc;
use std::time::Instant;

use roomcast_core::{
    Action, Bytes, CloseReason, Command, ConnectionRole, Event, IntoArgs, Message, Namespace, Session,
    SocketId, TransportName,
};
use roomcast_plain::{Mode, PlainSession};
use serde_json::{Value, json};

const GRAMMAR: &str = include_str!("../docs/grammar.md");

#[test]
fn json_session_matches_grammar_example() {
    let mut session = PlainSession::new(Mode::Json, Arc::default(), Namespace::main());
    let now = start();
    session.handle_connection_opened(ConnectionRole::Primary, TransportName("websocket"), now);
    assert!(matches!(session.poll_action(), Some(Action::Connect { .. })));
    let socket = SocketId::new("8tKZp3lJvRt2WqYw");
    session.handle_command(Command::Accept { namespace: Namespace::main(), socket, recovery: None }, now);

    let codec = Mode::Json.codec();
    let mut seen = vec![];
    let mut told: Vec<String> = vec![];
    for (from, message) in example("### Examples") {
        if from == "server" {
            told.push(message);
            continue;
        }
        let message = match binary(&message) {
            Some(bytes) => Message::Binary(bytes),
            None => Message::from(message),
        };
        session.handle_message(ConnectionRole::Primary, message, now);
        while let Some(action) = session.poll_action() {
            match action {
                Action::Event(event) => seen.push(event.name.to_string()),
                Action::Answer { id, .. } => seen.push(format!("re {id}")),
                Action::Transmit { frame, .. } => {
                    let Message::Text(text) = &frame.messages()[0] else { panic!("text") };
                    seen.push(text.to_string());
                }
                Action::Close(CloseReason::ParseError) => seen.push("close 1007".into()),
                other => panic!("{other:?}"),
            }
        }
    }

    // Server lines, as its codec writes them.
    let namespace = Namespace::main;
    let answer = ("8tKZp3lJvRt2WqYw", true).into_args().unwrap();
    let mut news = Event::new(namespace(), "news", "later".into_args().unwrap());
    news.offset = Some("1700000000000-0".into());
    let written = [
        codec.encode_answer(&namespace(), roomcast_core::AckId(1), &answer).unwrap(),
        codec.encode(&news).unwrap(),
    ];
    for frame in written {
        let Message::Text(text) = &frame.messages()[0] else { panic!("text") };
        assert!(told.contains(&text.to_string()), "{text} is not in {told:?}");
    }

    let (first, rest) = seen.split_first().unwrap();
    assert_eq!(first, &told[0]);
    assert_eq!(rest[..4], ["join", "whoami", "re 0", "upload"]);
    assert_eq!(rest[4..], told[told.len() - 2..], "final messages");
}

#[test]
fn recovered_session_matches_grammar_example() {
    let codec = Mode::Json.codec();
    let said = example("### Connection state recovery").into_iter().map(|(_, line)| line);
    let secret = "h0nUq3zT5xYbN2kC8wLd";
    let mut told = Vec::new();
    for (number, word) in [(17, "later"), (18, "missed")] {
        let mut session = PlainSession::new(Mode::Json, Arc::default(), Namespace::main());
        session.handle_connection_opened(ConnectionRole::Primary, TransportName("websocket"), start());
        let socket = SocketId::new("8tKZp3lJvRt2WqYw");
        let recovery = Some(secret.into());
        session.handle_command(Command::Accept { namespace: Namespace::main(), socket, recovery }, start());
        let welcome = std::iter::from_fn(|| session.poll_action()).find_map(|action| match action {
            Action::Transmit { frame, .. } => Some(frame),
            _ => None,
        });
        let mut news = Event::new(Namespace::main(), "news", word.into_args().unwrap());
        news.offset = Some(format!("Zk3jd8QwbW1nXo5TfE2a-{number}").into());
        for frame in [welcome.expect("the client is admitted"), codec.encode(&news).unwrap()] {
            told.push(String::from_utf8(frame.messages()[0].as_bytes().to_vec()).unwrap());
        }
    }
    assert!(said.eq(told.iter().cloned()), "{told:?}");
    assert!(GRAMMAR.contains(&format!("GET /ws?pid={secret}&offset=Zk3jd8QwbW1nXo5TfE2a-17")));
}

#[test]
fn plain_mode_lines_match_codec() {
    let lines: Vec<String> = example("## Plain mode")
        .into_iter()
        .filter(|(from, _)| from == "server")
        .map(|(_, line)| line)
        .collect();
    let codec = Mode::Plain.codec();
    let say = |name: &'static str, args: roomcast_core::Args| {
        let frame = codec.encode(&Event::new(Namespace::main(), name, args)).unwrap();
        String::from_utf8(frame.messages()[0].as_bytes().to_vec()).unwrap()
    };
    let joined = (json!({"room": "red"}), 2).into_args().unwrap();
    let said = [
        say("message", "hello back".into_args().unwrap()),
        say("joined", joined),
        say("message", 1.into_args().unwrap()),
    ];
    assert_eq!(lines, said);
}

#[test]
fn lists_every_header_key() {
    for key in ["ack", "re", "binary", "offset", "sid", "pid", "error"] {
        assert!(GRAMMAR.contains(&format!("| `{key}` |")), "{key}");
    }
}

/// Returns speaker and message of each line in the first example under a heading, without comments.
fn example(heading: &str) -> Vec<(String, String)> {
    let section = &GRAMMAR[GRAMMAR.find(heading).expect("the heading exists")..];
    let block = section.split("```text\n").nth(1).and_then(|rest| rest.split("```").next());
    let lines = block.expect("the section has an example").lines().filter_map(|line| line.split_once(": "));
    lines
        .map(|(from, rest)| {
            let said = rest.split("   ").next().unwrap_or_default().trim_end();
            (from.to_owned(), said.to_owned())
        })
        .collect()
}

/// Parses binary as written in examples: `<01 02>`.
fn binary(said: &str) -> Option<Bytes> {
    let hex = said.strip_prefix('<')?.strip_suffix('>')?;
    Some(hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect())
}

#[test]
fn server_lines_are_json() {
    for (_, line) in
        example("### Examples").iter().filter(|(from, line)| from == "server" && line != "close 1007")
    {
        assert!(serde_json::from_str::<Vec<Value>>(line).is_ok(), "{line}");
    }
}

#[expect(clippy::disallowed_methods, reason = "virtual time needs a start")]
fn start() -> Instant {
    Instant::now()
}
