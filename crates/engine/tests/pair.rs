//! An Engine.IO session and its client over minutes of virtual time.

mod support;

use std::time::Duration;

use roomcast_core::{CloseReason, ConnectionRole};
use roomcast_testkit::Pair;

use support::{POLLING, WEBSOCKET, session};

const INTERVAL: Duration = Duration::from_secs(25);
const TIMEOUT: Duration = Duration::from_secs(20);
const MS: Duration = Duration::from_millis(1);

#[test]
fn closes_client_without_pong() {
    let mut pair = Pair::new(session()).accepting();
    pair.client.answers("2", "3");
    pair.open(WEBSOCKET);
    assert!(pair.seen()[0].starts_with("> 0{"));
    pair.advance(100 * INTERVAL);
    assert_eq!(pair.sent_texts(ConnectionRole::Primary).len(), 1 + 100);
    pair.seen();

    pair.client.stops_answering();
    pair.advance(INTERVAL + TIMEOUT - MS);
    assert_eq!((pair.seen(), pair.closed()), (vec!["> 2".to_owned()], None));
    pair.advance(MS);
    assert_eq!(pair.seen(), ["close: ping timeout"]);
    assert_eq!(pair.elapsed(), 101 * INTERVAL + TIMEOUT);
}

#[test]
fn moves_session_after_answered_probe() {
    let mut pair = Pair::new(session()).accepting();
    pair.client.answers("2", "3");
    pair.client.answers("3probe", "5");
    pair.open(POLLING);
    pair.advance(INTERVAL);
    pair.seen();
    pair.open_probe(WEBSOCKET);
    pair.receive_on(ConnectionRole::Probe, "2probe");
    assert_eq!(pair.seen(), ["probe> 3probe", "> 6 if waiting", "promote"]);
    pair.receive("4moved");
    assert_eq!(pair.seen(), [r#"event / message("moved")"#]);
    pair.advance(10 * INTERVAL);
    assert_eq!(pair.seen(), ["> 2"; 10], "the heartbeat continues without upgrade packets");
}

#[test]
fn keeps_client_that_misses_upgrade() {
    let mut pair = Pair::new(session()).accepting();
    pair.open(POLLING);
    pair.seen();
    pair.open_probe(WEBSOCKET);
    pair.advance(Duration::from_secs(10) - MS);
    assert_eq!(pair.seen(), [""; 0]);
    pair.advance(MS);
    assert_eq!(pair.seen(), ["close probe"]);
    pair.receive("4still here");
    assert_eq!(pair.seen(), [r#"event / message("still here")"#]);
    pair.lose(ConnectionRole::Primary, CloseReason::TransportClose);
    assert_eq!(pair.closed(), Some(CloseReason::TransportClose));
}
