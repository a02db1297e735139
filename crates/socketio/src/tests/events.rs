use super::*;

#[test]
fn delivers_events_and_answers() {
    let mut pair = Pair::joined();
    pair.receive("42[\"message\",1,\"2\",{\"3\":[true]}]");
    pair.receive("42456[\"ask\"]");
    pair.receive("437[\"answer\",null]");
    pair.receive("42[1,2]");
    assert_eq!(
        pair.seen(),
        ["/ message(1,\"2\",{\"3\":[true]})", "/ ask() ack 456", "/ answer 7(\"answer\",null)", "/ 1(2)",],
    );
}

#[test]
fn delivers_attachments_with_their_packet() {
    let mut pair = Pair::joined();
    pair.receive(r#"452-["x",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#);
    pair.receive(binary("A"));
    assert_eq!(pair.seen(), [""; 0]);
    pair.receive("3");
    pair.receive(binary("B"));
    assert_eq!(pair.seen(), [r#"/ x({"_placeholder":true,"num":0},{"_placeholder":true,"num":1})+A+B"#]);
    pair.receive(r#"461-9[{"_placeholder":true,"num":0}]"#);
    pair.receive(binary("C"));
    assert_eq!(pair.seen(), [r#"/ answer 9({"_placeholder":true,"num":0})+C"#]);
    pair.assert_alive();
}

#[test]
fn refuses_packets_between_attachments() {
    for between in ["42[\"x\"]", "40/custom,", "41", "4nonsense"] {
        let mut pair = Pair::joined();
        pair.receive(r#"451-["x",{"_placeholder":true,"num":0}]"#);
        pair.receive(between);
        assert_eq!(pair.seen(), ["close: forced close"], "{between}");
    }
}

#[test]
fn closes_client_on_unannounced_binary() {
    let mut pair = Pair::joined();
    pair.receive(binary("x"));
    assert_eq!(pair.seen(), ["close: forced close"]);
    let mut pair = Pair::open();
    pair.receive(binary(""));
    assert_eq!(pair.seen(), ["close: forced close"]);
}

#[test]
fn closes_session_for_missing_attachments() {
    let mut pair = Pair::joined();
    pair.receive(r#"452-["x",{"_placeholder":true,"num":0}]"#);
    pair.advance_alive(Duration::from_secs(40));
    pair.receive(binary("A"));
    pair.advance_alive(Duration::from_secs(20) - MS);
    assert_eq!(pair.seen(), [""; 0]);
    pair.advance(MS);
    assert_eq!(pair.seen(), ["close: forced close"]);

    let mut pair = Pair::joined();
    pair.receive("451-[\"x\"]");
    pair.advance_alive(Duration::from_secs(59));
    pair.receive(binary("A"));
    pair.receive("451-[\"y\"]");
    pair.advance_alive(Duration::from_secs(59));
    pair.receive(binary("A"));
    pair.advance_alive(Duration::from_secs(100));
    assert_eq!(pair.seen(), ["/ x()+A", "/ y()+A"], "each packet has its own deadline");
}

#[test]
fn releases_early_events_after_accept() {
    let mut pair = Pair::open();
    pair.receive("40");
    pair.receive("40/custom,");
    assert_eq!(pair.seen(), ["connect /", "connect /custom"]);
    pair.receive("42[\"one\",1]");
    pair.receive("42/custom,5[\"other\"]");
    pair.receive("451-[\"two\",{\"_placeholder\":true,\"num\":0}]");
    pair.receive(binary("A"));
    pair.receive("431[\"nobody asked\"]");
    pair.receive("42[\"three\"]");
    assert_eq!(pair.seen(), [""; 0]);
    pair.accept("/");
    assert_eq!(
        pair.seen(),
        [r#"> 40{"sid":"socket"}"#, "/ one(1)", r#"/ two({"_placeholder":true,"num":0})+A"#, "/ three()",],
    );
    pair.accept("/custom");
    assert_eq!(pair.seen(), [r#"> 40/custom,{"sid":"socket"}"#, "/custom other() ack 5"]);
    pair.assert_alive();
}

#[test]
fn drops_early_events_after_refusal() {
    let mut pair = Pair::joined();
    pair.receive("40/custom");
    pair.receive("42/custom,[\"one\"]");
    pair.receive("41/custom");
    pair.refuse("/custom");
    assert_eq!(pair.seen(), ["connect /custom", r#"> 44/custom,{"message":"Invalid namespace"}"#]);
    pair.assert_alive();
}

#[test]
fn client_may_leave_before_accept() {
    let mut pair = Pair::joined();
    pair.receive("40/custom");
    pair.receive("42/custom,[\"one\"]");
    pair.receive("41/custom");
    pair.seen.clear();
    pair.accept("/custom");
    assert_eq!(
        pair.seen(),
        [r#"> 40/custom,{"sid":"socket"}"#, "/custom one()", "leave /custom: client namespace disconnect",],
    );
    for packet in ["40/custom", "41/custom", "40/custom,{}", "42/custom,[\"again\"]"] {
        pair.receive(packet);
    }
    pair.seen.clear();
    pair.accept("/custom");
    let left = "leave /custom: client namespace disconnect";
    assert_eq!(pair.seen(), [r#"> 40/custom,{"sid":"socket"}"#, left, "connect /custom {}"], "and rejoins");
    pair.accept("/custom");
    assert_eq!(pair.seen(), [r#"> 40/custom,{"sid":"socket"}"#, "/custom again()"]);
    pair.receive("41/custom");
    pair.seen.clear();
    for packet in ["40/custom", "41/custom", "42/custom,[\"it has left\"]", "40/custom"] {
        pair.receive(packet);
    }
    pair.accept("/custom");
    assert_eq!(
        pair.seen(),
        ["connect /custom", r#"> 40/custom,{"sid":"socket"}"#, left, "close: forced close"],
    );
}

#[test]
fn bounds_events_queued_before_accept() {
    let mut pair = Pair::open_with(SocketIoConfig { pending_limit: 10_000, ..config() });
    pair.receive("40");
    let event = |size: usize| format!("42[\"x\",\"{}\"]", "y".repeat(size));
    pair.receive(event(100_000));
    assert_eq!(pair.seen(), ["connect /"], "one packet may exceed the limit");
    pair.receive("42[\"x\"]");
    assert_eq!(pair.seen(), ["close: overloaded"]);

    let mut pair = Pair::open_with(SocketIoConfig { pending_limit: 10_000, ..config() });
    pair.receive("40");
    for _ in 0..100 {
        pair.receive("42[\"\"]");
    }
    assert_eq!(pair.seen(), ["connect /", "close: overloaded"], "small packets cost more than their bytes");

    // Exactly the size of the request, and no byte more.
    let mut pair = Pair::open_with(SocketIoConfig { pending_limit: 256 + "/".len(), ..config() });
    pair.receive("40");
    pair.receive("42[\"x\"]");
    assert_eq!(pair.seen(), ["connect /"], "a packet within the limit is kept");
    pair.receive("42[\"x\"]");
    assert_eq!(pair.seen(), ["close: overloaded"]);

    let mut pair = Pair::open_with(SocketIoConfig { pending_limit: 10_000, ..config() });
    for number in 0..100 {
        pair.receive(format!("40/{number},{{\"auth\":\"{}\"}}", "y".repeat(1000)));
    }
    let seen = pair.seen();
    assert_eq!((seen.len(), seen[8].as_str()), (9, "close: overloaded"), "connect requests also count");

    let mut pair = Pair::open_with(SocketIoConfig { pending_limit: 10_000, ..config() });
    for _ in 0..10 {
        pair.receive("40");
        (0..20).for_each(|_| pair.receive("42[\"x\"]"));
        pair.accept("/");
        pair.receive("41");
        assert_eq!(pair.seen().len(), 23, "released packets no longer count");
    }
}
