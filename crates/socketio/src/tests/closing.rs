use super::*;

#[test]
fn closes_client_on_invalid_packet() {
    for invalid in [
        "4",
        "4abc",
        "47[]",
        "42{}",
        "42[]",
        "42abc[\"x\"]",
        "42[\"connect\"]",
        "40[]",
        "41{}",
        "450-[\"x\"]",
        "4é",
    ] {
        let mut pair = Pair::joined();
        pair.receive(invalid);
        assert_eq!(pair.seen(), ["close: forced close"], "{invalid}");
        pair.receive("42[\"x\"]");
        pair.accept("/");
        pair.advance(Duration::from_secs(100));
        assert_eq!(pair.seen(), [""; 0]);
    }
}

#[test]
fn reports_invalid_engine_packets_as_errors() {
    for invalid in ["", "abc", "7", "é"] {
        let mut pair = Pair::joined();
        pair.receive(invalid);
        assert_eq!(pair.seen(), ["close: parse error"], "{invalid}");
    }
    let mut pair = Pair::joined();
    pair.receive("2");
    assert_eq!(pair.seen(), ["close: transport error"]);
    let mut pair = Pair::joined();
    pair.receive("1");
    assert_eq!(pair.seen(), ["close: transport close"]);
}

#[test]
fn violation_sends_close_packet_over_polling() {
    let mut pair = Pair::new(config());
    pair.connection_opened(ConnectionRole::Primary, POLLING);
    pair.seen.clear();
    pair.receive("42[\"x\"]");
    assert_eq!(pair.seen(), ["> 1", "close: forced close"]);
}

#[test]
fn force_close_disconnects_each_namespace() {
    let mut pair = Pair::joined();
    pair.join("/a");
    pair.join("/b");
    pair.join("/c");
    pair.receive("41/b");
    pair.take_out("/c");
    pair.receive("40/pending");
    pair.seen.clear();
    pair.command(Command::Close(CloseReason::ForcedServerClose));
    assert_eq!(pair.seen(), ["> 41", "> 41/a,", "close: forced server close"]);
    pair.command(Command::Close(CloseReason::ForcedServerClose));
    assert_eq!(pair.seen(), [""; 0]);
}

#[test]
fn recoverable_close_sends_no_packets() {
    for reason in [CloseReason::ServerShutdown, CloseReason::SlowConsumer, CloseReason::Overloaded] {
        let mut pair = Pair::joined();
        pair.command(Command::Close(reason));
        assert_eq!(pair.seen(), [format!("close: {reason}")]);
        assert_eq!(pair.session.poll_timeout(), None);
    }
}

#[test]
fn lost_connection_ends_all_namespaces() {
    let mut pair = Pair::joined();
    pair.join("/custom");
    pair.connection_closed(ConnectionRole::Primary, CloseReason::TransportClose);
    assert_eq!(pair.seen(), ["close: transport close"]);
    assert_eq!(pair.session.poll_timeout(), None);
}

#[test]
fn closes_session_before_opening() {
    let mut pair = Pair::new(config());
    pair.receive("40");
    pair.accept("/");
    assert_eq!((pair.seen(), pair.session.poll_timeout()), (vec![], None));
    pair.command(Command::Close(CloseReason::ServerShutdown));
    assert_eq!(pair.seen(), ["close: server shutting down"]);
}

#[test]
fn upgrade_keeps_namespaces() {
    let mut pair = Pair::new(config());
    pair.connection_opened(ConnectionRole::Primary, POLLING);
    pair.join("/");
    assert!(pair.session.can_upgrade());
    pair.connection_opened(ConnectionRole::Probe, WEBSOCKET);
    pair.receive_on(ConnectionRole::Probe, "2probe");
    assert_eq!(pair.seen(), ["probe> 3probe"]);
    pair.receive_on(ConnectionRole::Probe, "42[\"too early\"]");
    assert_eq!(pair.seen(), ["close probe"]);
    pair.receive("42[\"by polling\"]");
    pair.connection_opened(ConnectionRole::Probe, WEBSOCKET);
    pair.receive_on(ConnectionRole::Probe, "2probe");
    pair.receive_on(ConnectionRole::Probe, "5");
    assert_eq!(pair.seen(), ["/ by polling()", "probe> 3probe", "> 6 if waiting", "promote"]);
    assert!(!pair.session.can_upgrade());
    pair.assert_alive();
}

#[test]
fn keeps_engine_heartbeat_running() {
    let mut pair = Pair::joined();
    pair.advance(Duration::from_secs(25));
    assert_eq!(pair.seen(), ["> 2"]);
    pair.receive("42[\"no pong\"]");
    pair.seen.clear();
    pair.advance(Duration::from_secs(20));
    assert_eq!(pair.seen(), ["close: ping timeout"]);
}
