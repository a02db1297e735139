use super::*;

const MS: Duration = Duration::from_millis(1);

#[test]
fn the_first_ping_comes_after_one_interval() {
    let mut pair = Pair::open(WEBSOCKET);
    pair.advance(INTERVAL - MS);
    assert_eq!(pair.seen(), [""; 0]);
    pair.advance(MS);
    assert_eq!(pair.seen(), ["> 2"]);
}

#[test]
fn the_interval_begins_anew_with_each_pong() {
    let mut pair = Pair::open(POLLING);
    for _ in 0..3 {
        pair.advance(INTERVAL);
        assert_eq!(pair.seen(), ["> 2"]);
        pair.advance(TIMEOUT - MS);
        pair.receive("3");
        assert_eq!(pair.seen(), ["answered"]);
        pair.receive("3");
        assert_eq!(pair.seen(), [""; 0], "nobody has asked");
        pair.advance(INTERVAL - MS);
        assert_eq!(pair.seen(), [""; 0]);
        pair.advance(MS);
        assert_eq!(pair.seen(), ["> 2"]);
        pair.receive("3");
        assert_eq!(pair.seen(), ["answered"]);
    }
}

#[test]
fn without_a_pong_the_session_ends_no_later_than_interval_and_timeout() {
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
fn a_ping_that_is_sent_late_does_not_move_the_deadline() {
    let mut pair = Pair::open(WEBSOCKET);
    let opened = pair.now;
    pair.stall(INTERVAL + 50 * MS);
    pair.session.handle_timeout(pair.now);
    assert_eq!(pair.session.poll_timeout(), Some(opened + INTERVAL + TIMEOUT));
}

#[test]
fn a_stopped_process_does_not_cost_its_clients() {
    let mut pair = Pair::open(WEBSOCKET);
    pair.stall(Duration::from_secs(3600));
    pair.advance(TIMEOUT - MS);
    assert_eq!(pair.seen(), ["> 2"]);
    pair.receive("3");
    pair.advance(INTERVAL);
    assert_eq!(pair.seen(), ["answered", "> 2"]);
}

#[test]
fn any_traffic_puts_off_the_pong_deadline() {
    let mut pair = Pair::open(WEBSOCKET);
    pair.advance(INTERVAL);
    pair.advance(TIMEOUT - MS);
    for other in ["4x", "6", "5"] {
        pair.session.handle_activity(Lane::Primary, pair.now);
        pair.receive(other);
    }
    pair.seen.clear();
    pair.advance(TIMEOUT - MS);
    assert_eq!(pair.seen(), [""; 0]);
    pair.advance(MS);
    assert_eq!(pair.seen(), ["close: ping timeout"]);
}

#[test]
fn a_ping_that_leaves_late_starts_the_deadline() {
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
fn messages_before_the_ping_change_nothing() {
    let mut pair = Pair::open(WEBSOCKET);
    pair.advance(INTERVAL - MS);
    pair.receive("4x");
    pair.session.handle_activity(Lane::Primary, pair.now);
    pair.seen.clear();
    pair.advance(MS);
    assert_eq!(pair.seen(), ["> 2"]);
}

#[test]
fn a_client_must_not_send_pings() {
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
fn times_beyond_the_clock_mean_never() {
    let mut config = config();
    config.ping_interval = Duration::MAX;
    let mut pair = Pair::new(config);
    pair.lane_opened(Lane::Primary, WEBSOCKET);
    assert_eq!(pair.session.poll_timeout(), None);
}

#[test]
fn a_timeout_that_comes_early_does_nothing() {
    let mut pair = Pair::open(WEBSOCKET);
    let due = pair.session.poll_timeout();
    pair.stall(INTERVAL - MS);
    pair.session.handle_timeout(pair.now);
    pair.drain();
    assert_eq!((pair.seen(), pair.session.poll_timeout()), (vec![], due));
}
