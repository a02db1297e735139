//! Messages as Node writes them, round trips, and invalid input.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use roomcast_core::{Args, Event, IntoArgs, Membership, Namespace, Overflow, Room, SocketId};
use roomcast_node_adapter::{
    CodecLimits, DecodeError, EncodeError, Flags, Recipients, Request, Response, SocketDescription,
    broadcast_prefix, decode_broadcast, decode_request, decode_response, encode_broadcast, encode_request,
    encode_response,
};
use serde_json::Value;

const UID: &str = "uid-_9";

fn rooms(names: &[&str]) -> Vec<Room> {
    names.iter().map(|name| Room::new(*name)).collect()
}

fn to(names: &[&str], except: &[&str]) -> Recipients {
    Recipients { rooms: rooms(names), except: rooms(except) }
}

fn event(name: &str, args: impl IntoArgs) -> Event {
    Event::new(Namespace::main(), name, args.into_args().expect("serializable"))
}

fn text(payload: &Bytes) -> &str {
    std::str::from_utf8(payload).expect("JSON")
}

#[test]
fn broadcast_has_bytes_of_node() {
    let bytes = encode_broadcast(UID, &to(&["r"], &[]), &Flags::default(), &event("x", 1)).expect("encodes");
    let expected = b"\x93\xa6uid-_9\x83\xa4type\x02\xa4data\x92\xa1x\x01\xa3nsp\xa1/\x83\xa5rooms\x91\xa1r\xa6except\x90\xa5flags\x80";
    assert_eq!(&bytes[..], expected);
    let prefix = broadcast_prefix(UID);
    assert!(bytes.starts_with(&prefix));
    // Neither a longer nor a shorter id begins alike.
    for other in ["uid-_", "uid-_99", "uid-_8"] {
        let others = encode_broadcast(other, &to(&[], &[]), &Flags::default(), &event("x", 1));
        assert!(!others.expect("encodes").starts_with(&prefix), "{other}");
    }
}

#[test]
fn requests_have_text_of_node() {
    let encoded = |id: &str, request: Request| encode_request(UID, id, &request).expect("encodes");
    let recipients = || to(&["a"], &["b"]);
    for (request, id, expected) in [
        (Request::Sockets(rooms(&["a"])), "q", r#"{"uid":"uid-_9","requestId":"q","type":0,"rooms":["a"]}"#),
        (Request::AllRooms, "q", r#"{"uid":"uid-_9","requestId":"q","type":1}"#),
        (
            Request::Update(recipients(), Membership::Join(rooms(&["c", "7"]))),
            "",
            r#"{"uid":"uid-_9","type":2,"opts":{"rooms":["a"],"except":["b"]},"rooms":["c","7"]}"#,
        ),
        (
            Request::Update(recipients(), Membership::Leave(rooms(&["7"]))),
            "",
            r#"{"uid":"uid-_9","type":3,"opts":{"rooms":["a"],"except":["b"]},"rooms":["7",7]}"#,
        ),
        (
            Request::Disconnect(to(&["7"], &["-8"]), true),
            "",
            r#"{"uid":"uid-_9","type":4,"opts":{"rooms":["7",7],"except":["-8",-8]},"close":true}"#,
        ),
        (
            Request::Fetch(to(&[], &[])),
            "q",
            r#"{"uid":"uid-_9","requestId":"q","type":5,"opts":{"rooms":[],"except":[]}}"#,
        ),
        (
            Request::ServerSideEmit("e".into(), (1, "two").into_args().expect("serializable")),
            "",
            r#"{"uid":"uid-_9","type":6,"data":["e",1,"two"]}"#,
        ),
    ] {
        assert_eq!(text(&encoded(id, request)), expected);
    }
}

#[test]
fn binary_for_servers_is_buffer_in_json() {
    let args = (Bytes::from_static(b"\x01\x02"), 3).into_args().expect("serializable");
    let request = Request::ServerSideEmit("e".into(), args.clone());
    let bytes = encode_request(UID, "", &request).expect("encodes");
    let expected = r#"{"uid":"uid-_9","type":6,"data":["e",{"data":[1,2],"type":"Buffer"},3]}"#;
    let parsed = |json: &str| serde_json::from_str::<Value>(json).expect("JSON");
    assert_eq!(parsed(text(&bytes)), parsed(expected));
}

#[test]
fn refuses_events_that_harm_node() {
    let flags = Flags::default();
    for name in ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"] {
        let refused = encode_broadcast(UID, &to(&[], &[]), &flags, &event(name, ()));
        assert_eq!(refused, Err(EncodeError::Reserved), "{name}");
    }
    for name in ["connect", "connection", "new_namespace", "error"] {
        let refused = encode_request(UID, "", &Request::ServerSideEmit(name.into(), Args::empty()));
        assert_eq!(refused, Err(EncodeError::Reserved), "{name}");
    }
    let deep = |depth: usize| {
        let json = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        Args::from_json(json.into(), Vec::new()).expect("JSON")
    };
    assert!(encode_broadcast(UID, &to(&[], &[]), &flags, &event("e", ()).with(deep(127))).is_ok());
    for refused in [
        encode_broadcast(UID, &to(&[], &[]), &flags, &event("e", ()).with(deep(128))),
        encode_request(UID, "", &Request::ServerSideEmit("e".into(), deep(128))),
        encode_response("q", &Response::Ack(deep(128))),
        encode_response("q", &Response::ServerSide(deep(128))),
    ] {
        assert_eq!(refused, Err(EncodeError::TooDeep));
    }
}

trait With {
    fn with(self, args: Args) -> Self;
}

impl With for Event {
    fn with(mut self, args: Args) -> Self {
        self.args = args;
        self
    }
}

#[test]
fn reads_numeric_rooms_as_text() {
    // Rooms 7, "7" and 1.5, except -3.
    let bytes = b"\x93\xa1u\x83\xa4type\x02\xa4data\x91\xa1x\xa3nsp\xa1/\x82\xa5rooms\x93\x07\xa17\xcb\x3f\xf8\0\0\0\0\0\0\xa6except\x91\xfd";
    let limits = CodecLimits::default();
    let message = decode_broadcast(&Bytes::from_static(bytes), &Namespace::main(), UID, &limits);
    let message = message.expect("valid").expect("of this namespace");
    assert_eq!(message.recipients, to(&["7", "1.5"], &["-3"]));
    let json = r#"{"requestId":"q","type":0,"rooms":[7,"7",1.5]}"#;
    let message = decode_request(&Bytes::from_static(json.as_bytes()), &Namespace::main(), &limits);
    let request = message.expect("valid").expect("known").request;
    let Request::Sockets(read) = request else { panic!("{request:?}") };
    assert_eq!(read, rooms(&["7", "1.5"]));
}

#[test]
fn ignores_own_and_foreign_broadcasts() {
    let limits = CodecLimits::default();
    let bytes = encode_broadcast(UID, &to(&[], &[]), &Flags::default(), &event("x", 1)).expect("encodes");
    let decode = |namespace: &str, own: &str| {
        decode_broadcast(&bytes, &namespace.into(), own, &limits).expect("valid")
    };
    assert!(decode("/", UID).is_none());
    assert!(decode("/other", "other1").is_none());
    assert!(decode("/", "other1").is_some());
    // Old emitters send no namespace in the main one, and later versions may append elements.
    let bare = b"\x94\xa1u\x82\xa4type\x02\xa4data\x91\xa1x\x82\xa5rooms\x90\xa6except\x90\x81\xa1a\x01";
    assert!(
        decode_broadcast(&Bytes::from_static(bare), &Namespace::main(), UID, &limits)
            .expect("valid")
            .is_some()
    );
    let elsewhere = decode_broadcast(&Bytes::from_static(bare), &Namespace::new("/n"), UID, &limits);
    assert!(elsewhere.expect("valid").is_none());
}

#[test]
fn room_of_other_type_never_means_everyone() {
    let limits = CodecLimits::default();
    let null = b"\x93\xa1u\x83\xa4type\x02\xa4data\x91\xa1x\xa3nsp\xa1/\x82\xa5rooms\x91\xc0\xa6except\x90";
    let refused = decode_broadcast(&Bytes::from_static(null), &Namespace::main(), UID, &limits);
    assert!(matches!(refused, Err(DecodeError::Field("rooms"))), "{refused:?}");
    for json in [
        r#"{"requestId":"q","type":0,"rooms":[null]}"#,
        r#"{"type":4,"opts":{"rooms":[{"a":[1]}],"except":[]},"close":true}"#,
        r#"{"type":4,"opts":{"except":[]},"close":true}"#,
    ] {
        let refused = decode_request(&Bytes::from_static(json.as_bytes()), &Namespace::main(), &limits);
        assert!(refused.is_err(), "{json}");
    }
    // An exclusion of such a room has no effect.
    let json = r#"{"type":4,"opts":{"rooms":["a"],"except":[null,true,[]]}}"#;
    let message = decode_request(&Bytes::from_static(json.as_bytes()), &Namespace::main(), &limits);
    let request = message.expect("valid").expect("known").request;
    assert!(
        matches!(&request, Request::Disconnect(found, false) if *found == to(&["a"], &[])),
        "{request:?}"
    );
}

#[test]
fn distinguishes_null_from_no_acknowledgement() {
    let limits = CodecLimits::default();
    let args = |args: Args| {
        let bytes = encode_response("q", &Response::Ack(args)).expect("encodes");
        match decode_response(&bytes, &limits).expect("valid").expect("known").response {
            Response::Ack(args) => args.json().to_owned(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(args(Args::empty()), "");
    assert_eq!(args(Args::from_json("null".into(), vec![]).expect("JSON")), "null");
    assert_eq!(args((1, 2).into_args().expect("serializable")), "1", "one value is sent");
}

#[test]
fn bounds_lists_of_rooms() {
    let mut limits = CodecLimits::default();
    limits.rooms = 2;
    let decode = |names: &[&str]| {
        let bytes =
            encode_broadcast(UID, &to(names, &[]), &Flags::default(), &event("x", 1)).expect("encodes");
        decode_broadcast(&bytes, &Namespace::main(), "other1", &limits).map(|message| message.is_some())
    };
    assert_eq!(decode(&["1", "2"]), Ok(true));
    assert_eq!(decode(&["1", "2", "3"]), Err(DecodeError::Limit { what: "rooms", limit: 2 }));
    limits.message_bytes = 10;
    let refused = decode_response(&Bytes::from_static(b"{\"requestId\":\"q\"}"), &limits);
    assert_eq!(refused, Err(DecodeError::Limit { what: "bytes", limit: 10 }));
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 30, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(".{0,8}", inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn args() -> impl Strategy<Value = Args> {
    let binary = prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    (prop::collection::vec(json_value(), 0..4), prop::collection::vec(binary, 0..3)).prop_map(
        |(values, binary)| {
            let mut list: Vec<String> = values.iter().map(Value::to_string).collect();
            list.extend(
                (0..binary.len()).map(|num| format!(r#"{{"b":{{"_placeholder":true,"num":{num}}}}}"#)),
            );
            Args::from_json(list.join(",").into(), binary).expect("JSON")
        },
    )
}

fn room_names() -> impl Strategy<Value = Vec<Room>> {
    let name = prop_oneof![".{0,12}", "-?[0-9]{1,18}", "[A-Za-z0-9_-]{20}", "[a#]{0,4}"];
    prop::collection::btree_set(name, 0..6).prop_map(|names| names.into_iter().map(Room::from).collect())
}

fn recipients() -> impl Strategy<Value = Recipients> {
    (room_names(), room_names()).prop_map(|(rooms, except)| Recipients { rooms, except })
}

fn flags() -> impl Strategy<Value = Flags> {
    let overflow = prop_oneof![
        Just(Overflow::Inherit),
        Just(Overflow::Close),
        Just(Overflow::DropNewest),
        Just(Overflow::DropOldest),
        Just(Overflow::KeepLatest)
    ];
    let timeout = prop::option::of(1..100_000_u64);
    let key = prop::option::of(".{0,9}");
    (any::<bool>(), prop::option::of(any::<bool>()), timeout, any::<bool>(), key, overflow).prop_map(
        |(volatile, compress, timeout, expect_single_response, key, overflow)| Flags {
            volatile,
            compress,
            timeout: timeout.map(Duration::from_millis),
            expect_single_response,
            key: key.map(Into::into),
            overflow,
        },
    )
}

fn parsed(args: &Args) -> Value {
    serde_json::from_str(&format!("[{}]", args.json())).expect("JSON")
}

proptest! {
    #[test]
    fn broadcasts_survive_round_trip(recipients in recipients(), flags in flags(), args in args(), name in "[a-z]{1,9}x") {
        let limits = CodecLimits::default();
        let sent = Event::new(Namespace::new("/n"), name, args);
        let bytes = encode_broadcast(UID, &recipients, &flags, &sent).expect("encodes");
        let message = decode_broadcast(&bytes, &Namespace::new("/n"), "other1", &limits);
        let message = message.expect("valid").expect("of this namespace");
        prop_assert_eq!(&*message.sender, UID);
        prop_assert_eq!(&message.recipients, &recipients);
        prop_assert_eq!(&message.flags, &flags);
        prop_assert_eq!(&message.event.name, &sent.name);
        prop_assert_eq!(parsed(&message.event.args), parsed(&sent.args));
        prop_assert_eq!(message.event.args.attachments(), sent.args.attachments());
        for end in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
            let cut = decode_broadcast(&bytes.slice(..end), &Namespace::new("/n"), "other1", &limits);
            prop_assert!(cut.is_err(), "{} of {}", end, bytes.len());
        }

        let request = Request::Broadcast(recipients.clone(), flags.clone(), sent.clone());
        let bytes = encode_request(UID, "q1", &request).expect("encodes");
        let message = decode_request(&bytes, &Namespace::new("/n"), &limits).expect("valid").expect("known");
        prop_assert_eq!((&*message.sender, &*message.id), (UID, "q1"));
        let Request::Broadcast(to, how, read) = message.request else { panic!("not a broadcast") };
        prop_assert_eq!((to, how), (recipients, flags));
        prop_assert_eq!(parsed(&read.args), parsed(&sent.args));
        prop_assert_eq!(read.args.attachments(), sent.args.attachments());
        prop_assert!(decode_request(&bytes, &Namespace::new("/m"), &limits).expect("valid").is_none());
    }

    #[test]
    fn requests_survive_round_trip(recipients in recipients(), changed in room_names(), close in any::<bool>(), args in args()) {
        // Binary arrives in another form.
        let args = Args::from_json(args.json().replace("\"_placeholder\":true", "\"p\":true").into(), vec![]).expect("JSON");
        for (id, request) in [
            ("q", Request::Sockets(recipients.rooms.clone())),
            ("q", Request::AllRooms),
            ("", Request::Update(recipients.clone(), Membership::Join(changed.clone()))),
            ("", Request::Update(recipients.clone(), Membership::Leave(changed.clone()))),
            ("", Request::Disconnect(recipients.clone(), close)),
            ("q", Request::UpdateOne(SocketId::new("s"), Membership::Join(rooms(&["7"])))),
            ("q", Request::UpdateOne(SocketId::new("s"), Membership::Leave(rooms(&["a"])))),
            ("q", Request::DisconnectOne(SocketId::new("s"), close)),
            ("q", Request::Fetch(recipients.clone())),
            ("q", Request::ServerSideEmit("e".into(), args.clone())),
            ("", Request::ServerSideEmit("e".into(), args.clone())),
        ] {
            let bytes = encode_request(UID, id, &request).expect("encodes");
            let message = decode_request(&bytes, &Namespace::main(), &CodecLimits::default());
            let message = message.expect("valid").expect("known");
            prop_assert_eq!((&*message.sender, &*message.id), (UID, id));
            prop_assert_eq!(format!("{:?}", message.request), format!("{request:?}"));
        }
    }

    #[test]
    fn responses_survive_round_trip(names in room_names(), value in json_value(), binary in prop::collection::vec(any::<u8>(), 0..99)) {
        let json = value.to_string();
        let one = Args::from_json(json.clone().into(), vec![]).expect("JSON");
        let with_binary = Args::from_json(
            format!(r#"[{json},{{"_placeholder":true,"num":0}}]"#).into(), vec![Bytes::from(binary)],
        ).expect("JSON");
        let socket = SocketDescription {
            id: SocketId::new("s"),
            rooms: names.clone(),
            handshake: r#"{"issued":1}"#.into(),
            data: json.into(),
        };
        for response in [
            Response::Sockets(vec![]),
            Response::Sockets(vec![socket.clone(), socket]),
            Response::Rooms(names),
            Response::Done,
            Response::ServerSide(one.clone()),
            Response::ServerSide(Args::empty()),
            Response::ClientCount(0),
            Response::ClientCount(7),
            Response::Ack(one),
            Response::Ack(with_binary),
        ] {
            let bytes = encode_response("q", &response).expect("encodes");
            let message = decode_response(&bytes, &CodecLimits::default()).expect("valid").expect("known");
            prop_assert_eq!(&*message.id, "q");
            match (message.response, response) {
                (Response::Ack(read), Response::Ack(sent)) => {
                    prop_assert_eq!(parsed(&read), parsed(&sent));
                    prop_assert_eq!(read.attachments(), sent.attachments());
                }
                (read, sent) => prop_assert_eq!(read, sent),
            }
        }
        let ids = encode_response("q", &Response::Ids(vec![SocketId::new("s")])).expect("encodes");
        prop_assert_eq!(&ids[..], br#"{"requestId":"q","sockets":["s"]}"#);
    }

    #[test]
    fn random_input_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..400_usize, flip in any::<u8>()) {
        let limits = CodecLimits::default();
        let seeds = [
            encode_broadcast(UID, &to(&["a", "7"], &["b"]), &Flags::default(), &event("x", (1, "two"))),
            encode_request(UID, "q", &Request::Broadcast(to(&["a"], &[]), Flags::default(), event("x", 1))),
            encode_request(UID, "q", &Request::Fetch(to(&["a"], &[]))),
            encode_response("q", &Response::Ack(1.into_args().expect("serializable"))),
        ];
        let mutated = seeds.into_iter().map(|seed| {
            let mut seed = seed.expect("encodes").to_vec();
            let at = cut % seed.len();
            seed[at] ^= flip;
            seed
        });
        for payload in mutated.chain([bytes]).map(Bytes::from) {
            let _ = decode_broadcast(&payload, &Namespace::main(), UID, &limits);
            let _ = decode_request(&payload, &Namespace::main(), &limits);
            let _ = decode_response(&payload, &limits);
        }
    }
}
