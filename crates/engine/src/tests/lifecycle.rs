use super::*;

const OPEN: &str = r#"> 0{"sid":"s3cret","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;

#[test]
fn open_packet_has_five_keys() {
    let mut pair = Pair::new(config());
    assert!(!pair.session.can_upgrade());
    pair.connection_opened(ConnectionRole::Primary, POLLING);
    assert_eq!(pair.seen(), [OPEN, "connect /"]);
    assert!(pair.session.can_upgrade());
    pair.connection_opened(ConnectionRole::Primary, POLLING);
    assert_eq!(pair.seen(), [""; 0], "a session opens once");
}

#[test]
fn open_packet_shows_configured_values() {
    let mut config = config();
    config.ping_interval = Duration::from_millis(300);
    config.ping_timeout = Duration::from_millis(200);
    config.max_payload = 100;
    config.upgrades.push(TransportName("web\"transport"));
    let mut pair = Pair::new(config);
    pair.connection_opened(ConnectionRole::Primary, POLLING);
    assert_eq!(
        pair.seen()[0],
        r#"> 0{"sid":"s3cret","upgrades":["websocket","web\"transport"],"pingInterval":300,"pingTimeout":200,"maxPayload":100}"#,
    );
}

#[test]
fn omits_upgrades_without_upgrade_transports() {
    let told = OPEN.replace(r#"["websocket"]"#, "[]");

    let mut pair = Pair::new(config());
    pair.connection_opened(ConnectionRole::Primary, WEBSOCKET);
    assert_eq!(pair.seen()[0], told, "already on the upgrade target");
    assert!(!pair.session.can_upgrade());

    let mut forbidden = config();
    forbidden.upgrades.clear();
    let mut pair = Pair::new(forbidden);
    pair.connection_opened(ConnectionRole::Primary, POLLING);
    assert_eq!(pair.seen()[0], told, "upgrades are disabled");
    assert!(!pair.session.can_upgrade());
    pair.receive("abc");
    assert_eq!(pair.seen(), ["> 1", "close: parse error"], "the transport is still polled");
}

#[test]
fn sends_initial_message_with_open() {
    for (initial, sent) in [("hi".into(), "4hi"), (binary(b"\x01"), "\x01")] {
        let mut config = config();
        config.initial_message = Some(initial);
        let mut pair = Pair::new(config);
        pair.connection_opened(ConnectionRole::Primary, POLLING);
        assert_eq!(pair.seen()[0], format!("{OPEN}\u{1e}{sent}"));
    }
}

#[test]
fn reads_version_from_query() {
    assert_eq!(Version::from_query("4"), Some(Version::V4));
    for other in ["", "3", "5", "04", "4 ", "44"] {
        assert_eq!(Version::from_query(other), None, "{other:?}");
    }
}

#[test]
fn messages_are_events_with_one_argument() {
    let mut pair = Pair::open(WEBSOCKET);
    pair.receive("4say \"hé\"");
    pair.receive("4");
    pair.receive_on(ConnectionRole::Primary, binary(b"\x04\xff"));
    pair.receive_on(ConnectionRole::Primary, binary(b""));
    assert_eq!(
        pair.seen(),
        [
            r#"event "say \"hé\"""#,
            r#"event """#,
            r#"event {"_placeholder":true,"num":0} [b"\x04\xff"]"#,
            r#"event {"_placeholder":true,"num":0} [b""]"#,
        ],
    );
}

#[test]
fn queues_messages_until_accepted() {
    let mut pair = Pair::new(config());
    pair.connection_opened(ConnectionRole::Primary, WEBSOCKET);
    pair.seen.clear();
    pair.receive("4one");
    pair.receive("4two");
    assert_eq!(pair.seen(), [""; 0]);
    pair.accept();
    assert_eq!(pair.seen(), ["event \"one\"", "event \"two\""]);
    pair.receive("4three");
    pair.accept();
    assert_eq!(pair.seen(), ["event \"three\""], "the second decision is ignored");
}

#[test]
fn bounds_messages_queued_before_accept() {
    let mut config = config();
    config.pending_limit = 300;
    // Each buffered message costs 64 bytes of overhead.
    for (first, more, why) in [
        (1000, 0, "one message is kept at any length"),
        (300 - 2 * 64, 2, "the message that exceeds the limit is kept"),
    ] {
        let mut pair = Pair::new(config.clone());
        pair.connection_opened(ConnectionRole::Primary, WEBSOCKET);
        pair.seen.clear();
        pair.receive_on(ConnectionRole::Primary, format!("4{}", "x".repeat(first)));
        (0..more).for_each(|_| pair.receive("4"));
        assert_eq!(pair.seen(), [""; 0], "{why}");
        assert!(pair.session.is_congested(), "a driver stops reading here");
        pair.receive("4");
        assert_eq!(pair.seen(), ["close: overloaded"]);
    }
}

#[test]
fn closes_refused_and_disconnected_clients() {
    let refuse = Command::Refuse { namespace: Namespace::main(), error: "{}".into() };
    let mut pair = Pair::new(config());
    pair.connection_opened(ConnectionRole::Primary, POLLING);
    pair.seen.clear();
    pair.receive("4one");
    pair.command(refuse);
    assert_eq!(pair.seen(), ["> 1", "close: forced server close"]);
    pair.accept();
    assert_eq!(pair.seen(), [""; 0]);

    let mut pair = Pair::open(WEBSOCKET);
    pair.command(Command::Disconnect { namespace: Namespace::new("/other") });
    assert_eq!(pair.seen(), [""; 0]);
    pair.command(Command::Disconnect { namespace: Namespace::main() });
    assert_eq!(pair.seen(), ["close: server namespace disconnect"]);
}

#[test]
fn close_packet_ends_session_and_poll() {
    let mut pair = Pair::open(POLLING);
    pair.receive("1");
    assert_eq!(pair.seen(), ["> 6 if waiting", "close: transport close"]);
    pair.receive("4later packets of the payload");
    assert_eq!(pair.seen(), [""; 0]);

    let mut pair = Pair::open(WEBSOCKET);
    pair.receive("1");
    assert_eq!(pair.seen(), ["close: transport close"]);
}

#[test]
fn sends_close_packet_only_over_polling() {
    let mut pair = Pair::open(POLLING);
    pair.command(Command::Close(CloseReason::ServerShutdown));
    assert_eq!(pair.seen(), ["> 1", "close: server shutting down"]);
    pair.command(Command::Close(CloseReason::ForcedServerClose));
    pair.connection_closed(ConnectionRole::Primary, CloseReason::TransportClose);
    pair.advance(INTERVAL + TIMEOUT);
    assert_eq!(pair.seen(), [""; 0], "a session ends once");
    assert_eq!(pair.session.poll_timeout(), None);

    let mut pair = Pair::open(WEBSOCKET);
    pair.command(Command::Close(CloseReason::ServerShutdown));
    assert_eq!(pair.seen(), ["close: server shutting down"]);

    let mut pair = Pair::upgraded();
    pair.command(Command::Close(CloseReason::ServerShutdown));
    assert_eq!(pair.seen(), ["close: server shutting down"]);
}

#[test]
fn reports_invalid_packets_as_parse_errors() {
    for malformed in ["", "abc", "7", "\u{1f600}", "éabcd", "-4"] {
        let mut pair = Pair::open(WEBSOCKET);
        pair.receive(malformed);
        assert_eq!(pair.seen(), ["close: parse error"], "{malformed:?}");
    }
    let mut pair = Pair::open(POLLING);
    pair.receive("abc");
    assert_eq!(pair.seen(), ["> 1", "close: parse error"]);
}

#[test]
fn ignores_packets_out_of_place() {
    let mut pair = Pair::open(WEBSOCKET);
    for stray in ["0", "0{\"sid\":\"__proto__\"}", "3", "3probe", "5", "6", "6x"] {
        pair.receive(stray);
        assert_eq!(pair.seen(), [""; 0], "{stray:?}");
    }
    pair.receive("4alive");
    assert_eq!(pair.seen(), ["event \"alive\""]);
}

#[test]
fn ends_session_with_primary_connection() {
    for reason in [CloseReason::TransportClose, CloseReason::TransportError, CloseReason::MessageTooBig] {
        let mut pair = Pair::open(POLLING);
        pair.connection_closed(ConnectionRole::Primary, reason);
        let told = "> 1 if waiting".to_owned();
        assert_eq!(pair.seen(), [told, format!("close: {reason}")], "another request may be pending");
        let mut pair = Pair::open(WEBSOCKET);
        pair.connection_closed(ConnectionRole::Primary, reason);
        assert_eq!(pair.seen(), [format!("close: {reason}")]);
    }
}

#[test]
fn idle_session_stays_small() {
    let size = size_of::<EngineSession>();
    assert!(size <= 168, "an EngineSession takes {size} bytes");
}
