//! Admission and rejection.

use roomcast_core::{Action, Bytes, CloseReason};
use roomcast_plain::{Mode, PlainConfig};

use crate::client::Client;

#[test]
fn json_mode_sends_id_on_accept() {
    let mut client = Client::knocking(Mode::Json, PlainConfig::default());
    client.assert_idle();
    client.command(Client::accept());
    assert_eq!(client.told(), r#"[{"sid":"s1"}]"#);
    client.assert_idle();

    let mut client = Client::knocking(Mode::Json, PlainConfig::default());
    client.command(Client::accept_with(Some("secret".into())));
    assert_eq!(client.told(), r#"[{"sid":"s1","pid":"secret"}]"#);

    let mut client = Client::knocking(Mode::Plain, PlainConfig::default());
    client.command(Client::accept_with(Some("secret".into())));
    client.assert_idle();
}

#[test]
fn json_mode_sends_reason_on_refusal() {
    let mut client = Client::knocking(Mode::Json, PlainConfig::default());
    client.text(r#"["forgotten"]"#);
    client.command(Client::refuse());
    assert_eq!(client.told(), r#"[{"error":{"message":"not you","data":{"code":7}}}]"#);
    client.assert_turned_away("not you");

    let mut client = Client::knocking(Mode::Plain, PlainConfig::default());
    client.command(Client::refuse());
    client.assert_turned_away("not you");
}

#[test]
fn keeps_early_messages_in_order() {
    let mut client = Client::knocking(Mode::Json, PlainConfig::default());
    client.text(r#"[{"binary":1},"one",{"_placeholder":true,"num":0}]"#);
    client.binary(b"x");
    client.text(r#"[{"re":5},2]"#);
    client.text(r#"["three"]"#);
    client.assert_idle();
    client.command(Client::accept());
    assert_eq!(client.told(), r#"[{"sid":"s1"}]"#);
    assert_eq!(&*client.event().name, "one");
    assert!(matches!(client.next(), Some(Action::Answer { .. })));
    assert_eq!(&*client.event().name, "three");
    client.assert_idle();
}

#[test]
fn early_violation_ends_accepted_session() {
    let mut client = Client::knocking(Mode::Json, PlainConfig::default());
    for text in [r#"["one"]"#, "nonsense", r#"["two"]"#] {
        client.text(text);
    }
    client.assert_idle();
    client.command(Client::accept());
    assert_eq!(client.told(), r#"[{"sid":"s1"}]"#);
    assert_eq!(&*client.event().name, "one");
    client.assert_refused("array");
}

#[test]
fn closes_client_over_early_limit() {
    // Each buffered message costs 64 bytes of overhead.
    let config = PlainConfig::new().pending_limit(15 * 64);
    let mut client = Client::knocking(Mode::Plain, config.clone());
    // The message that exceeds the limit is kept; a driver stops here.
    for _ in 0..16 {
        client.text("");
    }
    client.assert_idle();
    client.text("");
    client.assert_ends(CloseReason::Overloaded);

    let mut client = Client::knocking(Mode::Plain, config);
    client.message(Bytes::from(vec![0; 5_000]));
    client.assert_idle();
    client.text("");
    client.assert_ends(CloseReason::Overloaded);
}

#[test]
fn discards_client_that_leaves_early() {
    let mut client = Client::knocking(Mode::Plain, PlainConfig::default());
    client.text("early");
    client.connection_closed(roomcast_core::ConnectionRole::Primary, CloseReason::TransportClose);
    client.assert_ends(CloseReason::TransportClose);
}
