use super::*;

const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
const MS: Duration = Duration::from_millis(1);
const NOOP_DELAY: Duration = Duration::from_millis(20);

#[test]
fn promotes_probe_that_completes_upgrade() {
    let mut pair = Pair::open(POLLING);
    assert!(pair.session.can_upgrade());
    pair.connection_opened(ConnectionRole::Probe, WEBSOCKET);
    assert_eq!(pair.seen(), [""; 0]);
    assert!(!pair.session.can_upgrade(), "one probe at a time");
    pair.receive_on(ConnectionRole::Probe, "2probe");
    assert_eq!(pair.seen(), ["probe> 3probe"]);
    pair.receive("4still by polling");
    assert_eq!(pair.seen(), ["event \"still by polling\""]);
    pair.receive_on(ConnectionRole::Probe, "5");
    assert_eq!(pair.seen(), ["> 6 if waiting", "promote"]);
    pair.receive("4by websocket");
    assert_eq!(pair.seen(), ["event \"by websocket\""]);
    assert!(!pair.session.can_upgrade(), "a session upgrades once");
}

#[test]
fn answers_polls_until_client_moves() {
    let mut pair = Pair::answered_probe();
    pair.advance(NOOP_DELAY);
    assert_eq!(pair.seen(), ["> 6 if waiting"]);
    for _ in 0..3 {
        pair.advance(99 * MS);
        assert_eq!(pair.seen(), [""; 0]);
        pair.advance(MS);
        assert_eq!(pair.seen(), ["> 6 if waiting"]);
    }
    pair.receive_on(ConnectionRole::Probe, "5");
    assert_eq!(pair.seen(), ["> 6 if waiting", "promote"]);
    pair.advance(UPGRADE_TIMEOUT);
    assert_eq!(pair.seen(), [""; 0], "noop and upgrade timers are disarmed");
}

#[test]
fn ends_polls_soon_during_probe() {
    let mut pair = probing();
    pair.writable();
    assert_eq!(pair.seen(), [""; 0], "the client polls until its probe is answered");
    pair.receive_on(ConnectionRole::Probe, "2probe");
    assert_eq!(pair.seen(), ["probe> 3probe"]);
    pair.advance(NOOP_DELAY - MS);
    // A pending request delays nothing.
    pair.writable();
    assert_eq!(pair.seen(), [""; 0], "the noop waits for a regular response");
    pair.advance(MS);
    assert_eq!(pair.seen(), ["> 6 if waiting"]);
    pair.advance(MS);
    pair.writable();
    pair.advance(NOOP_DELAY);
    assert_eq!(pair.seen(), ["> 6 if waiting"], "a later request is answered too");
    pair.receive_on(ConnectionRole::Probe, "5");
    assert_eq!(pair.seen(), ["> 6 if waiting", "promote"]);
    pair.writable();
    assert_eq!(pair.seen(), [""; 0]);
}

#[test]
fn answers_repeated_probe_ping() {
    let mut pair = Pair::answered_probe();
    pair.receive_on(ConnectionRole::Probe, "2probe");
    assert_eq!(pair.seen(), ["probe> 3probe"]);
    pair.receive_on(ConnectionRole::Probe, "5");
    assert_eq!(pair.seen(), ["> 6 if waiting", "promote"]);
}

#[test]
fn other_packets_close_only_the_probe() {
    for other in ["", "2", "2x", "2probe ", "3", "3probe", "4hello", "1", "6", "abc", "éabcd"] {
        for mut pair in [probing(), Pair::answered_probe()] {
            pair.receive_on(ConnectionRole::Probe, other);
            assert_eq!(pair.seen(), ["close probe"], "{other:?}");
            assert_lives_on(pair);
        }
    }
    let mut pair = probing();
    pair.receive_on(ConnectionRole::Probe, "5");
    assert_eq!(pair.seen(), ["close probe"], "the probe ping is missing");
    let mut pair = Pair::answered_probe();
    pair.receive_on(ConnectionRole::Probe, binary(b"5"));
    assert_eq!(pair.seen(), ["close probe"]);
    assert_lives_on(pair);
}

#[test]
fn closes_probe_on_timeout() {
    let mut pair = probing();
    pair.advance(UPGRADE_TIMEOUT - MS);
    assert_eq!(pair.seen(), [""; 0]);
    pair.advance(MS);
    assert_eq!(pair.seen(), ["close probe"]);
    assert_lives_on(pair);

    let mut pair = Pair::answered_probe();
    pair.advance(UPGRADE_TIMEOUT);
    let seen = pair.seen();
    assert_eq!(seen.last().map(String::as_str), Some("close probe"));
    assert!(seen[..seen.len() - 1].iter().all(|seen| seen == "> 6 if waiting"), "{seen:?}");
    assert_lives_on(pair);
}

#[test]
fn lost_probe_keeps_the_session() {
    for mut pair in [probing(), Pair::answered_probe()] {
        pair.connection_closed(ConnectionRole::Probe, CloseReason::TransportError);
        assert_eq!(pair.seen(), [""; 0]);
        pair.advance(UPGRADE_TIMEOUT);
        assert_eq!(pair.seen(), [""; 0]);
        assert_lives_on(pair);
    }
}

#[test]
fn accepts_end_of_closed_probe() {
    let mut pair = probing();
    pair.receive_on(ConnectionRole::Probe, "4");
    pair.receive_on(ConnectionRole::Probe, "2probe");
    pair.connection_closed(ConnectionRole::Probe, CloseReason::TransportClose);
    assert_eq!(pair.seen(), ["close probe"]);
    assert_lives_on(pair);
}

#[test]
fn losing_primary_ends_upgrading_session() {
    for mut pair in [probing(), Pair::answered_probe()] {
        pair.connection_closed(ConnectionRole::Primary, CloseReason::TransportError);
        assert_eq!(pair.seen(), ["> 1 if waiting", "close: transport error"]);
        pair.receive_on(ConnectionRole::Probe, "2probe");
        pair.receive_on(ConnectionRole::Probe, "5");
        assert_eq!(pair.seen(), [""; 0]);
    }
}

#[test]
fn closes_probe_where_none_is_allowed() {
    for mut pair in [Pair::open(WEBSOCKET), Pair::upgraded()] {
        pair.connection_opened(ConnectionRole::Probe, WEBSOCKET);
        assert_eq!(pair.seen(), ["close probe"]);
        pair.receive("4unharmed");
        assert_eq!(pair.seen(), ["event \"unharmed\""]);
    }
    let mut pair = Pair::open(POLLING);
    pair.connection_opened(ConnectionRole::Probe, POLLING);
    assert_eq!(pair.seen(), ["close probe"], "no session upgrades to polling");
    assert_lives_on(pair);
}

/// Polled transports and upgradable transports are independent settings.
#[test]
fn polling_and_upgrading_are_independent() {
    let websocket = Capabilities { begins: true, upgrades_from: false, upgrades_to: true, polled: false };
    for (upgrades_from, polled) in [(false, true), (true, false)] {
        let first = Capabilities { begins: true, upgrades_from, upgrades_to: false, polled };
        let config = EngineConfig::default().transports([(POLLING, first), (WEBSOCKET, websocket)]);
        let mut pair = Pair::new(config);
        pair.connection_opened(ConnectionRole::Primary, POLLING);
        let opened = pair.seen().join(" ");
        assert_eq!(opened.contains(r#""upgrades":["websocket"]"#), upgrades_from, "{opened}");
        pair.accept();
        pair.seen.clear();
        assert_eq!(pair.session.can_upgrade(), upgrades_from);
        pair.connection_opened(ConnectionRole::Probe, WEBSOCKET);
        let refused: &[&str] = if upgrades_from { &[] } else { &["close probe"] };
        assert_eq!(pair.seen(), refused);
        pair.command(Command::Close(CloseReason::ServerShutdown));
        assert_eq!(pair.seen().iter().any(|seen| seen.starts_with("> 1")), polled, "{:?}", pair.seen);
    }
}

#[test]
fn cve_2026_102599_keeps_heartbeat_revision() {
    for heartbeat in ["2", "2x", "2probe"] {
        let mut pair = Pair::upgraded();
        pair.receive("3");
        assert_eq!(pair.seen(), [""; 0]);
        pair.receive(heartbeat);
        assert_eq!(pair.seen(), ["close: transport error"], "{heartbeat}");
    }
}

#[test]
fn upgrade_keeps_the_ping_schedule() {
    let mut pair = Pair::open(POLLING);
    pair.advance(INTERVAL - 2 * MS);
    upgrade(&mut pair);
    pair.advance(MS);
    assert_eq!(pair.seen(), [""; 0]);
    pair.advance(MS);
    assert_eq!(pair.seen(), ["> 2"]);
    pair.receive("3");
    pair.advance(INTERVAL);
    assert_eq!(pair.seen(), ["answered", "> 2"]);
}

#[test]
fn accepts_pong_on_new_connection() {
    let mut pair = Pair::open(POLLING);
    pair.advance(INTERVAL + TIMEOUT - MS);
    upgrade(&mut pair);
    pair.seen.clear();
    pair.advance(TIMEOUT - MS);
    pair.receive("3");
    assert_eq!(pair.seen(), ["answered"]);
}

#[test]
fn closes_session_without_upgrade_pong() {
    let mut pair = Pair::open(POLLING);
    pair.advance(INTERVAL);
    upgrade(&mut pair);
    pair.seen.clear();
    pair.advance(TIMEOUT);
    assert_eq!(pair.seen(), ["close: ping timeout"]);
}

fn upgrade(pair: &mut Pair) {
    pair.connection_opened(ConnectionRole::Probe, WEBSOCKET);
    pair.receive_on(ConnectionRole::Probe, "2probe");
    pair.receive_on(ConnectionRole::Probe, "5");
    assert!(pair.seen.ends_with(&["promote".to_owned()]));
    pair.seen.clear();
}

fn probing() -> Pair {
    let mut pair = Pair::open(POLLING);
    pair.connection_opened(ConnectionRole::Probe, WEBSOCKET);
    pair
}

/// Asserts that the session is on polling and can be probed again.
fn assert_lives_on(mut pair: Pair) {
    pair.receive("4alive");
    assert_eq!(pair.seen(), ["event \"alive\""]);
    assert!(pair.session.can_upgrade());
    upgrade(&mut pair);
    pair.receive("4moved");
    assert_eq!(pair.seen(), ["event \"moved\""]);
}
