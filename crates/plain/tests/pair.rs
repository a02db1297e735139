//! A plain WebSocket session and its client over minutes of virtual time.

use std::sync::Arc;
use std::time::Duration;

use roomcast_core::{Bytes, ConnectionRole, Namespace, TransportName};
use roomcast_plain::{Mode, PlainSession};
use roomcast_testkit::Pair;

const WEBSOCKET: TransportName = TransportName("websocket");
const INTERVAL: Duration = Duration::from_secs(25);
const TIMEOUT: Duration = Duration::from_secs(20);
const ATTACHMENT_TIMEOUT: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

fn joined(mode: Mode) -> Pair<PlainSession> {
    let mut pair = Pair::new(PlainSession::new(mode, Arc::default(), Namespace::new("/chat"))).accepting();
    pair.open(WEBSOCKET);
    assert_eq!(pair.seen()[0], "connect /chat");
    pair
}

#[test]
fn closes_silent_client_after_timeout() {
    for mode in [Mode::Plain, Mode::Json] {
        let mut pair = joined(mode);
        pair.advance(100 * INTERVAL);
        assert_eq!(pair.seen(), vec!["ping"; 100], "its transport answers pings");

        pair.client.stops_answering();
        pair.advance(INTERVAL + TIMEOUT - MS);
        assert_eq!((pair.seen(), pair.closed()), (vec!["ping".to_owned()], None));
        pair.advance(MS);
        assert_eq!(pair.seen(), ["close: ping timeout"]);
    }
}

#[test]
fn missing_announced_binary_ends_session() {
    let mut pair = joined(Mode::Json);
    assert_eq!(pair.sent_texts(ConnectionRole::Primary), [r#"[{"sid":"socket-1"}]"#]);
    let event = r#"[{"binary":1,"ack":7},"up",{"_placeholder":true,"num":0}]"#;
    pair.receive(event);
    pair.advance(ATTACHMENT_TIMEOUT - MS);
    pair.seen();
    pair.receive(Bytes::from_static(b"just in time"));
    let expected = r#"event /chat up({"_placeholder":true,"num":0}) + b"just in time" ack 7"#;
    assert_eq!(pair.seen(), [expected]);

    pair.receive(event);
    pair.advance(ATTACHMENT_TIMEOUT);
    let seen = pair.seen();
    assert!(seen[seen.len() - 2].contains("in time"), "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("close: parse error"));
}
