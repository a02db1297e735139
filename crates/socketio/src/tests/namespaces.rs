use super::*;

#[test]
fn joins_client_after_accept() {
    let mut pair = Pair::open();
    pair.receive("40");
    assert_eq!(pair.seen(), ["connect /"]);
    pair.accept("/");
    assert_eq!(pair.seen(), [r#"> 40{"sid":"socket"}"#]);
    pair.accept("/");
    pair.accept("/never asked for");
    assert_eq!(pair.seen(), [""; 0]);
    pair.assert_alive();
}

#[test]
fn passes_auth_payload_to_application() {
    let mut pair = Pair::open();
    pair.receive(r#"40{"token":"123"}"#);
    assert_eq!(pair.seen(), [r#"connect / {"token":"123"}"#]);
    pair.receive(r#"40/custom,{"a":[1,null,"é"]}"#);
    assert_eq!(pair.seen(), [r#"connect /custom {"a":[1,null,"é"]}"#]);
}

#[test]
fn names_other_namespaces_in_packets() {
    for connect in ["40/custom", "40/custom,"] {
        let mut pair = Pair::open();
        pair.receive(connect);
        assert_eq!(pair.seen(), ["connect /custom"]);
        pair.accept("/custom");
        assert_eq!(pair.seen(), [r#"> 40/custom,{"sid":"socket"}"#]);
        pair.receive("42/custom,7[\"hello\",1]");
        assert_eq!(pair.seen(), ["/custom hello(1) ack 7"]);
    }
    let mut pair = Pair::open();
    pair.receive("40/,");
    pair.accept("/");
    assert_eq!(pair.seen(), ["connect /", r#"> 40{"sid":"socket"}"#], "the main namespace may be named");
}

#[test]
fn sends_recovery_secret_on_accept() {
    let mut pair = Pair::open();
    pair.receive("40");
    pair.seen.clear();
    let (namespace, socket) = (Namespace::main(), SocketId::new("socket"));
    pair.command(Command::Accept { namespace, socket, recovery: Some("private".into()) });
    assert_eq!(pair.seen(), [r#"> 40{"sid":"socket","pid":"private"}"#]);
}

#[test]
fn refusal_keeps_connection_open() {
    let mut pair = Pair::open();
    pair.receive("40/random");
    pair.refuse("/random");
    assert_eq!(pair.seen(), ["connect /random", r#"> 44/random,{"message":"Invalid namespace"}"#]);
    pair.refuse("/random");
    pair.refuse("/");
    assert_eq!(pair.seen(), [""; 0]);
    pair.receive("40/random");
    assert_eq!(pair.seen(), ["connect /random"], "the client may retry");
    pair.join("/");
    pair.refuse("/");
    assert_eq!(pair.seen(), [""; 0], "a member cannot be refused");
    pair.assert_alive();
}

#[test]
fn closes_connection_without_namespace() {
    let mut pair = Pair::open();
    pair.advance_alive(Duration::from_secs(45) - MS);
    assert_eq!(pair.seen(), [""; 0]);
    pair.advance(MS);
    assert_eq!(pair.seen(), ["close: forced close"]);

    let mut pair = Pair::open();
    pair.receive("40/random");
    pair.refuse("/random");
    pair.receive("40");
    pair.seen.clear();
    pair.advance_alive(Duration::from_secs(45));
    assert_eq!(pair.seen(), ["close: forced close"], "refused and pending connects do not count");

    let mut pair = Pair::open();
    pair.advance_alive(Duration::from_secs(45) - MS);
    pair.join("/custom");
    pair.advance_alive(Duration::from_secs(200));
    assert_eq!(pair.seen(), [""; 0]);
    pair.receive("41/custom");
    pair.advance_alive(Duration::from_secs(200));
    assert_eq!(pair.seen(), ["leave /custom: client namespace disconnect"], "one join is enough");
}

#[test]
fn server_suspends_and_restarts_connect_limit() {
    let limit = Duration::from_secs(5);
    let mut pair = Pair::open();
    pair.receive("40");
    pair.command(Command::LimitConnect(None));
    pair.seen.clear();
    pair.advance_alive(Duration::from_secs(100));
    assert_eq!(pair.seen(), [""; 0], "it is suspended");
    pair.command(Command::LimitConnect(Some(limit)));
    pair.advance_alive(limit - MS);
    assert_eq!(pair.seen(), [""; 0]);
    pair.advance(MS);
    assert_eq!(pair.seen(), ["close: forced close"]);

    let mut pair = Pair::open();
    pair.join("/");
    pair.receive("41");
    pair.receive("40/other");
    pair.command(Command::LimitConnect(None));
    pair.command(Command::LimitConnect(Some(limit)));
    pair.seen.clear();
    pair.advance_alive(limit + limit);
    assert_eq!(pair.seen(), [""; 0], "a client that has joined once has no limit");

    let mut pair = Pair::open();
    pair.join("/");
    pair.receive("40/other");
    pair.receive("40/other");
    pair.accept("/other");
    pair.command(Command::LimitConnect(None));
    pair.seen.clear();
    pair.advance(100 * MS);
    assert_eq!(pair.seen(), ["close: forced close"], "a violation closes the client nevertheless");
}

#[test]
fn joining_twice_closes_the_client() {
    for (namespace, connect) in [("/", "40"), ("/custom", "40/custom,")] {
        let mut pair = Pair::open();
        pair.join(namespace);
        pair.receive(connect);
        assert_eq!(pair.seen(), ["close: forced close"]);
    }
}

#[test]
fn closes_client_after_repeated_connect() {
    let mut pair = Pair::open();
    pair.receive("40");
    pair.receive("40");
    assert_eq!(pair.seen(), ["connect /"]);
    pair.accept("/");
    assert_eq!(pair.seen(), [r#"> 40{"sid":"socket"}"#], "the application's first messages are still sent");
    pair.advance(100 * MS);
    assert_eq!(pair.seen(), ["close: forced close"]);

    let mut pair = Pair::open();
    pair.receive("40");
    pair.receive("40");
    pair.receive("40/other");
    pair.accept("/");
    pair.accept("/other");
    pair.seen.clear();
    pair.advance(100 * MS);
    assert_eq!(pair.seen(), ["close: forced close"], "also after another namespace admits the client");

    let mut pair = Pair::open();
    pair.receive("40");
    pair.receive("40");
    pair.refuse("/");
    pair.seen.clear();
    pair.advance(Duration::from_secs(1));
    assert_eq!(pair.seen(), [""; 0], "one refusal answers both");
}

#[test]
fn refuses_packets_for_unjoined_namespace() {
    for packet in [
        "42[\"early\"]",
        "431[]",
        "41",
        "44{}",
        "42/custom,[\"x\"]",
        "43/custom,1[]",
        "41/custom,",
        "44/custom,{}",
        "44",
    ] {
        let mut pair = Pair::open();
        pair.receive(packet);
        assert_eq!(pair.seen(), ["close: forced close"], "{packet}");
    }
    for packet in ["42/custom,[\"x\"]", "43/custom,1[]", "41/custom,", "44{}", "44/custom,\"no\""] {
        let mut pair = Pair::joined();
        pair.receive(packet);
        assert_eq!(pair.seen(), ["close: forced close"], "{packet}");
    }
    let mut pair = Pair::open();
    pair.receive("40");
    pair.receive("44{}");
    assert_eq!(pair.seen(), ["connect /", "close: forced close"]);
}

#[test]
fn leaving_keeps_other_namespaces() {
    let mut pair = Pair::joined();
    pair.join("/custom");
    pair.receive("41/custom");
    assert_eq!(pair.seen(), ["leave /custom: client namespace disconnect"]);
    pair.receive("40/custom");
    assert_eq!(pair.seen(), ["connect /custom"], "the client may join again");
    pair.accept("/custom");
    pair.seen.clear();
    pair.receive("41/custom,");
    pair.receive("41/custom,");
    assert_eq!(pair.seen(), ["leave /custom: client namespace disconnect", "close: forced close"]);
}

#[test]
fn application_disconnects_one_namespace() {
    let mut pair = Pair::joined();
    pair.join("/custom");
    pair.take_out("/custom");
    assert_eq!(pair.seen(), ["> 41/custom,"]);
    pair.take_out("/custom");
    pair.take_out("/other");
    assert_eq!(pair.seen(), [""; 0]);
    // All packets that may have been in transit at the disconnect.
    for late in ["42/custom,[\"x\"]", "42/custom,1[\"x\"]", "43/custom,1[]", "41/custom,"] {
        pair.receive(late);
        assert_eq!(pair.seen(), [""; 0], "{late}");
    }
    pair.receive("42/custom,[\"it has left\"]");
    assert_eq!(pair.seen(), ["close: forced close"]);

    let mut pair = Pair::joined();
    pair.take_out("/");
    assert_eq!(pair.seen(), ["> 41"]);
    pair.receive("40{}");
    assert_eq!(pair.seen(), ["connect / {}"], "the client may join again");
    pair.take_out("/");
    assert_eq!(pair.seen(), ["> 41"], "even before the client is admitted");
    pair.accept("/");
    assert_eq!(pair.seen(), [""; 0]);
}

#[test]
fn limits_namespaces_per_client() {
    let mut pair = Pair::open_with(SocketIoConfig { max_namespaces: 3, ..config() });
    for namespace in ["/", "/a", "/b"] {
        pair.join(namespace);
    }
    pair.receive("40/c");
    assert_eq!(pair.seen(), [r#"> 44/c,{"message":"Too many namespaces"}"#, "refused /c"]);
    pair.receive("41/a");
    pair.receive("40/c");
    assert_eq!(pair.seen(), ["leave /a: client namespace disconnect", "connect /c"]);
    pair.take_out("/b");
    pair.receive("40/d");
    assert_eq!(pair.seen(), ["> 41/b,", "connect /d"], "namespaces it was removed from do not count");
    pair.receive("40/e");
    assert_eq!(pair.seen(), [r#"> 44/e,{"message":"Too many namespaces"}"#, "refused /e"]);
    pair.assert_alive();
}

#[test]
fn keeps_query_in_namespace_name() {
    let mut pair = Pair::joined();
    pair.receive("40/custom?x=1,");
    pair.refuse("/custom?x=1");
    assert_eq!(pair.seen(), ["connect /custom?x=1", r#"> 44/custom?x=1,{"message":"Invalid namespace"}"#]);
    pair.assert_alive();
}

#[test]
fn idle_session_stays_small() {
    let size = size_of::<SocketIoSession>();
    assert!(size <= 176, "a SocketIoSession takes {size} bytes");
}
