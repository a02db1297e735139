//! A Socket.IO session and its client over minutes of virtual time.

mod support;

use std::time::Duration;

use roomcast_core::ConnectionRole;
use roomcast_testkit::Pair;

use support::{POLLING, WEBSOCKET, session};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(45);
const INTERVAL: Duration = Duration::from_secs(25);
const TIMEOUT: Duration = Duration::from_secs(20);
const MS: Duration = Duration::from_millis(1);

#[test]
fn closes_client_that_joins_nothing() {
    let mut pair = Pair::new(session()).refusing();
    pair.client.answers("2", "3");
    pair.open(WEBSOCKET);
    pair.advance(CONNECT_TIMEOUT - MS);
    // A rejected CONNECT does not count as joining.
    pair.receive("40/closed,");
    pair.seen();
    pair.advance(MS);
    assert_eq!(pair.seen(), ["close: forced close"]);
    assert_eq!(pair.elapsed(), CONNECT_TIMEOUT);

    let mut pair = Pair::new(session()).accepting();
    pair.client.answers("2", "3");
    pair.open(WEBSOCKET);
    pair.advance(CONNECT_TIMEOUT - MS);
    pair.seen();
    pair.receive(r#"40/chat,{"token":1}"#);
    assert_eq!(pair.seen(), [r#"connect /chat {"token":1}"#, r#"> 40/chat,{"sid":"socket-1"}"#]);
    pair.advance(100 * CONNECT_TIMEOUT);
    assert_eq!(pair.closed(), None);
}

#[test]
fn closes_silent_client_in_time() {
    let mut pair = Pair::new(session()).accepting();
    pair.open(WEBSOCKET);
    pair.receive("40");
    pair.advance(INTERVAL + TIMEOUT - MS);
    pair.receive(r#"42["alive, but no pong"]"#);
    pair.seen();
    pair.advance(TIMEOUT - MS);
    assert_eq!(pair.closed(), None);
    pair.advance(MS);
    assert_eq!(pair.seen(), ["close: ping timeout"]);
}

#[test]
fn upgrade_keeps_namespaces_and_answers() {
    let mut pair = Pair::new(session()).accepting();
    pair.client.answers("2", "3");
    pair.client.answers("3probe", "5");
    pair.open(POLLING);
    pair.receive("40");
    pair.receive("40/chat,");
    pair.seen();
    pair.open_probe(WEBSOCKET);
    pair.receive(r#"42["by polling"]"#);
    pair.receive_on(ConnectionRole::Probe, "2probe");
    pair.receive(r#"43/chat,7["by websocket"]"#);
    let expected = [
        "event / by polling()",
        "probe> 3probe",
        "> 6 if waiting",
        "promote",
        r#"answer /chat 7("by websocket")"#,
    ];
    assert_eq!(pair.seen(), expected);
    assert_eq!(pair.sent_texts(ConnectionRole::Probe), ["3probe"]);
}
