use super::*;

const MS: Duration = Duration::from_millis(1);

#[test]
fn sends_first_ping_after_one_interval() {
    let mut pair = Pair::open(WEBSOCKET);
    pair.advance(INTERVAL - MS);
    assert_eq!(pair.seen(), [""; 0]);
    pair.advance(MS);
    assert_eq!(pair.seen(), ["> 2"]);
}

#[test]
fn restarts_interval_with_each_pong() {
    let mut pair = Pair::open(POLLING);
    for _ in 0..3 {
        pair.advance(INTERVAL);
        assert_eq!(pair.seen(), ["> 2"]);
        pair.advance(TIMEOUT - MS);
        pair.receive("3");
        assert_eq!(pair.seen(), ["answered"]);
        pair.receive("3");
        assert_eq!(pair.seen(), [""; 0], "an unsolicited pong is ignored");
        pair.advance(INTERVAL - MS);
        assert_eq!(pair.seen(), [""; 0]);
        pair.advance(MS);
        assert_eq!(pair.seen(), ["> 2"]);
        pair.receive("3");
        assert_eq!(pair.seen(), ["answered"]);
    }
}

#[test]
fn closes_session_without_pong() {
    for (transport, end) in
        [(WEBSOCKET, &["close: ping timeout"][..]), (POLLING, &["> 1", "close: ping timeout"])]
    {
        let mut pair = Pair::open(transport);
        pair.advance(INTERVAL + TIMEOUT - MS);
        assert_eq!(pair.seen(), ["> 2"]);
        pair.advance(MS);
        assert_eq!(pair.seen(), end);
        assert_eq!(pair.session.poll_timeout(), None);
    }
}

#[test]
fn late_timer_keeps_pong_deadline() {
    let mut pair = Pair::open(WEBSOCKET);
    let opened = pair.now;
    pair.stall(INTERVAL + 50 * MS);
    pair.session.handle_timeout(pair.now);
    assert_eq!(pair.session.poll_timeout(), Some(opened + INTERVAL + TIMEOUT));
}

#[test]
fn stalled_process_keeps_its_clients() {
    let mut pair = Pair::open(WEBSOCKET);
    pair.stall(Duration::from_secs(3600));
    pair.advance(TIMEOUT - MS);
    assert_eq!(pair.seen(), ["> 2"]);
    pair.receive("3");
    pair.advance(INTERVAL);
    assert_eq!(pair.seen(), ["answered", "> 2"]);
}

#[test]
fn any_traffic_extends_pong_deadline() {
    let mut pair = Pair::open(WEBSOCKET);
    pair.advance(INTERVAL);
    pair.advance(TIMEOUT - MS);
    for other in ["4x", "6", "5"] {
        pair.session.handle_activity(ConnectionRole::Primary, pair.now);
        pair.receive(other);
    }
    pair.seen.clear();
    pair.advance(TIMEOUT - MS);
    assert_eq!(pair.seen(), [""; 0]);
    pair.advance(MS);
    assert_eq!(pair.seen(), ["close: ping timeout"]);
}

#[test]
fn delayed_ping_starts_deadline_when_sent() {
    let mut pair = Pair::open(WEBSOCKET);
    pair.advance(INTERVAL);
    pair.advance(TIMEOUT - MS);
    pair.session.handle_heartbeat_sent(pair.now);
    pair.seen.clear();
    pair.advance(TIMEOUT - MS);
    assert_eq!(pair.seen(), [""; 0]);
    pair.advance(MS);
    assert_eq!(pair.seen(), ["close: ping timeout"]);
}

#[test]
fn messages_before_ping_change_nothing() {
    let mut pair = Pair::open(WEBSOCKET);
    pair.advance(INTERVAL - MS);
    pair.receive("4x");
    pair.session.handle_activity(ConnectionRole::Primary, pair.now);
    pair.seen.clear();
    pair.advance(MS);
    assert_eq!(pair.seen(), ["> 2"]);
}

#[test]
fn closes_client_that_sends_ping() {
    for (transport, end) in
        [(WEBSOCKET, &["close: transport error"][..]), (POLLING, &["> 1", "close: transport error"])]
    {
        for ping in ["2", "2probe", "2x"] {
            let mut pair = Pair::open(transport);
            pair.receive(ping);
            assert_eq!(pair.seen(), end, "{ping}");
        }
    }
}

#[test]
fn times_beyond_clock_never_fire() {
    let mut config = config();
    config.ping_interval = Duration::MAX;
    let mut pair = Pair::new(config);
    pair.connection_opened(ConnectionRole::Primary, WEBSOCKET);
    assert_eq!(pair.session.poll_timeout(), None);
}

#[test]
fn ignores_early_timeout() {
    let mut pair = Pair::open(WEBSOCKET);
    let due = pair.session.poll_timeout();
    pair.stall(INTERVAL - MS);
    pair.session.handle_timeout(pair.now);
    pair.drain();
    assert_eq!((pair.seen(), pair.session.poll_timeout()), (vec![], due));
}
