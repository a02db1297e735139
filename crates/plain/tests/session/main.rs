//! Tests of a session, step by step.

mod admission;
mod client;
mod json;
mod time;

use roomcast_core::{Action, CloseReason, Command, ConnectionRole, Namespace};
use roomcast_plain::{Mode, PlainSession};

use self::client::Client;

#[test]
fn idle_session_stays_small() {
    let size = size_of::<PlainSession>();
    assert!(size <= 250, "{size} bytes");
}

#[test]
fn passes_bare_messages_unparsed() {
    let mut client = Client::admitted(Mode::Plain);
    for text in ["hello", "", r#"["join","red"]"#, "\u{0}\n\"\\ü😀", "connect"] {
        client.text(text);
        let event = client.event();
        assert_eq!((&*event.name, event.ack), ("message", None));
        assert_eq!(event.args.parse::<(String,)>().unwrap().0, text);
        assert_eq!(event.args.len(), 1);
    }
    client.binary(b"\x00\xff");
    let event = client.event();
    assert_eq!(&*event.name, "message");
    assert_eq!(event.args.parse::<(roomcast_core::Bytes,)>().unwrap().0, &b"\x00\xff"[..]);
    client.assert_idle();
}

#[test]
fn leaving_namespace_closes_session() {
    for mode in [Mode::Plain, Mode::Json] {
        let mut client = Client::admitted(mode);
        client.command(Command::Disconnect { namespace: Namespace::new("/chat") });
        client.assert_ends(CloseReason::ServerNamespaceDisconnect);

        let mut client = Client::admitted(mode);
        client.command(Command::Close(CloseReason::ServerShutdown));
        client.assert_ends(CloseReason::ServerShutdown);

        let mut client = Client::admitted(mode);
        client.connection_closed(ConnectionRole::Primary, CloseReason::TransportClose);
        client.assert_ends(CloseReason::TransportClose);
    }
}

#[test]
fn unrelated_input_changes_nothing() {
    let mut client = Client::admitted(Mode::Json);
    client.command(Command::Disconnect { namespace: Namespace::new("/other") });
    client.command(Client::accept());
    client.command(Client::refuse());
    client.connection_closed(ConnectionRole::Probe, CloseReason::TransportClose);
    client.message_on(ConnectionRole::Probe, "nonsense");
    client.assert_idle();
    client.text(r#"["still here"]"#);
    assert!(matches!(client.next(), Some(Action::Event(_))));
}
