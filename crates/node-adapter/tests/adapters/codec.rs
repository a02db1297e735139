//! Cluster messages as Node writes them, round trips, and invalid input.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use roomcast_core::{Args, Event, IntoArgs, Membership, Namespace, Overflow, Room, SocketId};
use roomcast_node_adapter::{
    ClusterBody, ClusterEncoding, CodecLimits, DecodeError, EncodeError, EntryId, Flags, Recipients,
    Response, SocketDescription, StoredSession, StreamEntry, decode_cluster_message, decode_session,
    encode_cluster_message, encode_entry, encode_session, push_number,
};
use serde_json::Value;

use crate::{event, rooms, to};

const UID: &str = "0123456789abcdef";

fn encode(id: &str, body: &ClusterBody) -> Result<Bytes, EncodeError> {
    encode_cluster_message(UID, &Namespace::main(), id, body, ClusterEncoding::JsonUnlessBinary)
}

fn text(id: &str, body: &ClusterBody) -> String {
    String::from_utf8(encode(id, body).expect("encodes").to_vec()).expect("JSON")
}

fn decode(payload: &[u8]) -> Result<Option<(String, ClusterBody)>, DecodeError> {
    let (payload, limits) = (Bytes::copy_from_slice(payload), CodecLimits::default());
    let message = decode_cluster_message(&payload, &Namespace::main(), "own", &limits)?;
    Ok(message.map(|message| (message.id.to_string(), message.body)))
}

fn decoded(payload: &[u8]) -> ClusterBody {
    decode(payload).expect("valid").expect("known").1
}

fn one(value: impl IntoArgs) -> Args {
    value.into_args().expect("serializable")
}

fn socket(rooms: Vec<Room>, data: &str) -> SocketDescription {
    SocketDescription {
        id: SocketId::new("s"),
        rooms,
        handshake: r#"{"issued":1}"#.into(),
        data: data.into(),
    }
}

#[test]
fn messages_have_text_of_node() {
    let flags = Flags {
        volatile: true,
        compress: Some(false),
        timeout: Some(Duration::from_secs(5)),
        ..Flags::default()
    };
    let emitted = event("e", (1, "two"));
    for (id, body, expected) in [
        (
            "",
            ClusterBody::Broadcast(to(&["a"], &["7"]), flags, emitted.clone()),
            r#"3,"data":{"packet":{"type":2,"data":["e",1,"two"]},"opts":{"rooms":["a"],"except":["7",7],"flags":{"volatile":true,"compress":false,"timeout":5000}}}"#,
        ),
        (
            "q",
            ClusterBody::Broadcast(to(&[], &[]), Flags::default(), event("e", ())),
            r#"3,"data":{"requestId":"q","packet":{"type":2,"data":["e"]},"opts":{"rooms":[],"except":[],"flags":{}}}"#,
        ),
        (
            "",
            ClusterBody::Update(to(&["a"], &[]), Membership::Join(rooms(&["7"]))),
            r#"4,"data":{"opts":{"rooms":["a"],"except":[],"flags":{}},"rooms":["7"]}"#,
        ),
        (
            "",
            ClusterBody::Update(to(&["a"], &[]), Membership::Leave(rooms(&["7"]))),
            r#"5,"data":{"opts":{"rooms":["a"],"except":[],"flags":{}},"rooms":["7",7]}"#,
        ),
        (
            "",
            ClusterBody::Disconnect(to(&[], &["b"]), true),
            r#"6,"data":{"opts":{"rooms":[],"except":["b"],"flags":{}},"close":true}"#,
        ),
        (
            "q",
            ClusterBody::Fetch(to(&[], &[])),
            r#"7,"data":{"requestId":"q","opts":{"rooms":[],"except":[],"flags":{}}}"#,
        ),
        (
            "q",
            ClusterBody::Response(Response::Sockets(vec![socket(rooms(&["s", "7"]), "{\"n\":1}")])),
            r#"8,"data":{"requestId":"q","sockets":[{"id":"s","handshake":{"issued":1},"rooms":["s","7"],"data":{"n":1}}]}"#,
        ),
        ("", ClusterBody::ServerSideEmit("e".into(), one((1, 2))), r#"9,"data":{"packet":["e",1,2]}"#),
        (
            "q",
            ClusterBody::ServerSideEmit("e".into(), Args::empty()),
            r#"9,"data":{"requestId":"q","packet":["e"]}"#,
        ),
        (
            "q",
            ClusterBody::Response(Response::ServerSide(one((1, 2)))),
            r#"10,"data":{"requestId":"q","packet":1}"#,
        ),
        (
            "q",
            ClusterBody::Response(Response::ClientCount(0)),
            r#"11,"data":{"requestId":"q","clientCount":0}"#,
        ),
        ("q", ClusterBody::Response(Response::Ack(one("x"))), r#"12,"data":{"requestId":"q","packet":"x"}"#),
        // Without an argument the value is undefined on Node.
        ("q", ClusterBody::Response(Response::Ack(Args::empty())), r#"12,"data":{"requestId":"q"}"#),
    ] {
        assert_eq!(text(id, &body), format!(r#"{{"uid":"{UID}","nsp":"/","type":{expected}}}"#));
    }
}

#[test]
fn binary_selects_messagepack() {
    let body = ClusterBody::ServerSideEmit("e".into(), one(Bytes::from_static(b"\x01\x02")));
    let expected = b"\x84\xa3uid\xb00123456789abcdef\xa3nsp\xa1/\xa4type\x09\xa4data\x81\xa6packet\x92\xa1e\xc4\x02\x01\x02";
    assert_eq!(&encode("", &body).expect("encodes")[..], expected);
    let ClusterBody::ServerSideEmit(_, args) = decoded(expected) else { panic!("event for servers") };
    assert_eq!(args.attachments(), [Bytes::from_static(b"\x01\x02")]);
    let body = ClusterBody::Response(Response::ClientCount(7));
    let packed = encode_cluster_message(UID, &Namespace::main(), "q", &body, ClusterEncoding::MessagePack);
    assert_eq!(packed.expect("encodes")[0], 0x84, "pub/sub beside a stream is always MessagePack");
}

#[test]
fn reads_what_node_may_write() {
    // Other order, unknown fields, flags absent, a packet with its own namespace as from emitters.
    let json = br#"{"data":{"opts":{"except":[],"rooms":[7,"a"]},"packet":{"nsp":"/x","data":[5,null],"type":5,"id":9}},"extra":[1],"type":3,"nsp":"/","uid":"u"}"#;
    let ClusterBody::Broadcast(recipients, flags, event) = decoded(json) else { panic!("broadcast") };
    assert_eq!((recipients, flags), (to(&["7", "a"], &[]), Flags::default()));
    assert_eq!((&*event.name, event.args.json(), event.namespace.as_str()), ("5", "null", "/"));
    // Data of a socket with bytes, which becomes JSON.
    let bytes = b"\x84\xa3uid\xa1u\xa3nsp\xa1/\xa4type\x08\xa4data\x82\xa9requestId\xa1q\xa7sockets\x91\x84\xa2id\xa1s\xa9handshake\x80\xa5rooms\x91\xa1s\xa4data\x81\xa1b\xc4\x02\x01\x02";
    let ClusterBody::Response(Response::Sockets(sockets)) = decoded(bytes) else { panic!("sockets") };
    assert_eq!(sockets[0].data, r#"{"b":{"type":"Buffer","data":[1,2]}}"#);
}

#[test]
fn ignores_own_and_foreign_messages() {
    for (json, known) in [
        (r#"{"uid":"own","nsp":"/","type":3,"data":5}"#, false),
        (r#"{"uid":"u","nsp":"/x","type":3,"data":5}"#, false),
        (r#"{"uid":"u","type":6,"data":{"opts":{"rooms":[],"except":[]},"close":true}}"#, false),
        (r#"{"uid":"u","nsp":"/","type":1}"#, false),
        (r#"{"uid":"u","nsp":"/","type":13}"#, false),
        (r#"{"uid":"u","nsp":"/","type":6,"data":{"opts":{"rooms":[],"except":[]},"close":true}}"#, true),
    ] {
        assert_eq!(decode(json.as_bytes()).expect("valid").is_some(), known, "{json}");
    }
}

#[test]
fn incomplete_messages_are_refused() {
    for data in [
        r#"3,"data":{"opts":{"rooms":[],"except":[]}}"#,
        r#"3,"data":{"packet":{"type":2,"data":["e"]}}"#,
        r#"3,"data":{"packet":{"type":2,"data":["e"]},"opts":{"except":[]}}"#,
        r#"3,"data":{"packet":{"type":2,"data":[]},"opts":{"rooms":[],"except":[]}}"#,
        r#"3,"data":{"packet":{"type":0,"data":["e"]},"opts":{"rooms":[],"except":[]}}"#,
        // Not all members, because the room is no room.
        r#"6,"data":{"opts":{"rooms":[null],"except":[]},"close":true}"#,
        r#"6,"data":{"close":true}"#,
        r#"7,"data":{"opts":{"rooms":[],"except":[]}}"#,
        r#"8,"data":{"requestId":"q"}"#,
        r#"9,"data":{"packet":[]}"#,
        r#"9,"data":{"packet":"e"}"#,
        r#"11,"data":{"requestId":"q"}"#,
        r#"12,"data":{"packet":1}"#,
        r#"4"#,
        r#"4,"data":null"#,
        r#"4,"data":[]"#,
    ] {
        let json = format!(r#"{{"uid":"u","nsp":"/","type":{data}}}"#);
        assert!(decode(json.as_bytes()).is_err(), "{json}");
    }
}

#[test]
fn refuses_what_harms_node() {
    let deep = |depth: usize| {
        Args::from_json(format!("{}{}", "[".repeat(depth), "]".repeat(depth)).into(), vec![]).expect("JSON")
    };
    let emit = |args: Args| ClusterBody::ServerSideEmit("e".into(), args);
    assert!(encode("", &emit(deep(127))).is_ok());
    assert_eq!(encode("", &emit(deep(128))), Err(EncodeError::TooDeep));
    // MessagePack is read with its envelope: three levels for an event for servers.
    let packed =
        |args| encode_cluster_message(UID, &Namespace::main(), "", &emit(args), ClusterEncoding::MessagePack);
    assert!(decode(&packed(deep(124)).expect("encodes")).expect("readable").is_some());
    assert_eq!(packed(deep(125)), Err(EncodeError::TooDeep));
    for name in ["connect", "connection", "new_namespace", "error"] {
        assert_eq!(
            encode("", &ClusterBody::ServerSideEmit(name.into(), Args::empty())),
            Err(EncodeError::Reserved)
        );
    }
    for name in ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"] {
        let body = ClusterBody::Broadcast(to(&[], &[]), Flags::default(), event(name, ()));
        assert_eq!(encode("", &body), Err(EncodeError::Reserved), "{name}");
    }
    for response in [Response::Done, Response::Rooms(vec![]), Response::Ids(vec![])] {
        assert_eq!(encode("q", &ClusterBody::Response(response)), Err(EncodeError::Unsupported));
    }
}

#[test]
fn entries_have_fields_of_node() {
    let body = ClusterBody::Disconnect(to(&["a"], &[]), false);
    let mut fields = encode_entry(UID, &Namespace::new("/n"), &body, false).expect("encodes");
    push_number(&mut fields, 7);
    let shown: Vec<_> = fields.iter().map(|(name, value)| (*name, &**value)).collect();
    let data = r#"{"opts":{"rooms":["a"],"except":[],"flags":{}},"close":false}"#;
    assert_eq!(shown, [("uid", UID), ("nsp", "/n"), ("type", "6"), ("data", data), ("roomcast", "7")]);
    let body =
        ClusterBody::Broadcast(to(&[], &[]), Flags::default(), event("e", Bytes::from_static(b"\0\xff")));
    let data =
        |plaintext| encode_entry(UID, &Namespace::main(), &body, plaintext).expect("encodes")[3].1.clone();
    assert!(data(false).starts_with("gqZwYWNrZXS"), "base64 of a map with the key `packet`");
    let plain = r#"{"packet":{"type":2,"data":["e",{"type":"Buffer","data":[0,255]}]},"opts":{"rooms":[],"except":[],"flags":{}}}"#;
    let parsed = |json: &str| serde_json::from_str::<Value>(json).expect("JSON");
    assert_eq!(parsed(&data(true)), parsed(plain));
}

#[test]
fn sessions_have_form_of_node() {
    // Written by @msgpack/msgpack: {sid: "s", pid: "p", rooms: ["s", 7], data: {b: <01 02>}}.
    let stored = "hKNzaWShc6NwaWShcKVyb29tc5Khcwea";
    let bytes = b"\x84\xa3sid\xa1s\xa3pid\xa1p\xa5rooms\x92\xa1s\x07\xa4data\x81\xa1b\xc4\x02\x01\x02";
    assert!(decode_session(stored, &CodecLimits::default()).is_err(), "cut off");
    let stored = "hKNzaWShc6NwaWShcKVyb29tc5KhcwekZGF0YYGhYsQCAQI=";
    let session = decode_session(stored, &CodecLimits::default()).expect("valid");
    assert_eq!((session.id.as_str(), &*session.secret, &session.rooms), ("s", "p", &rooms(&["s", "7"])));
    assert_eq!(session.data.json(), r#"{"b":{"_placeholder":true,"num":0}}"#);
    assert_eq!(session.data.attachments(), [Bytes::from_static(b"\x01\x02")]);
    // We name the room 7 in both forms, so the list has one element more.
    let again = encode_session(&session).expect("encodes");
    assert_eq!(decode_session(&again, &CodecLimits::default()), Ok(session));
    assert_eq!(again.len(), (bytes.len() + 2).div_ceil(3) * 4);
}

#[test]
fn limits_are_enforced() {
    let mut limits = CodecLimits::default();
    limits.rooms = 2;
    limits.attachments = 1;
    let decode = |body: &ClusterBody, limits: &CodecLimits| {
        let payload = encode("q", body).expect("encodes");
        decode_cluster_message(&payload, &Namespace::main(), "own", limits).map(|message| message.is_some())
    };
    assert_eq!(decode(&ClusterBody::Fetch(to(&["a", "b"], &[])), &limits), Ok(true));
    let refused = Err(DecodeError::Limit { what: "rooms", limit: 2 });
    assert_eq!(decode(&ClusterBody::Fetch(to(&["a", "b", "c"], &[])), &limits), refused);
    assert_eq!(decode(&ClusterBody::Fetch(to(&[], &["a", "b", "c"])), &limits), refused);
    let part = || Bytes::from_static(b"x");
    assert_eq!(decode(&ClusterBody::ServerSideEmit("e".into(), one(part())), &limits), Ok(true));
    assert!(decode(&ClusterBody::ServerSideEmit("e".into(), one((part(), part()))), &limits).is_err());
    limits.message_bytes = 40;
    assert_eq!(
        decode(&ClusterBody::Fetch(to(&[], &[])), &limits),
        Err(DecodeError::Limit { what: "bytes", limit: 40 })
    );
    assert_eq!(
        decode_session(&"A".repeat(41), &limits),
        Err(DecodeError::Limit { what: "bytes", limit: 40 })
    );
    let entry = StreamEntry {
        id: EntryId::ZERO,
        sender: "u".into(),
        namespace: "/".into(),
        kind: "3".into(),
        data: "A".repeat(41).into(),
        number: None,
    };
    assert_eq!(
        entry.message(&Namespace::main(), &limits).map(|_| ()),
        Err(DecodeError::Limit { what: "bytes", limit: 40 })
    );
}

#[test]
fn repeated_placeholders_are_refused() {
    // The data of each socket names the same bytes, which have a longer form in JSON.
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    let one = format!(r#"{{"id":"s","rooms":[],"data":{placeholder}}}"#);
    let json =
        format!(r#"{{"uid":"u","nsp":"/","type":8,"data":{{"requestId":"q","sockets":[{one},{one}]}}}}"#);
    let parts = [Bytes::from_static(b"0123456789")];
    let values = roomcast_msgpack::JsonValues::new(&json, &parts);
    let mut honest = Vec::new();
    values.write(&mut honest);
    assert!(decode(&honest).is_ok(), "two parts");
    // Text that looks like a placeholder, in a message with one part.
    let forged = json.replacen("\"_placeholder\"", "\"x\"", 1);
    let mut bytes = Vec::new();
    roomcast_msgpack::JsonValues::new(&forged, &parts).write(&mut bytes);
    let forged = bytes.iter().position(|byte| *byte == b'x').expect("key");
    bytes.splice(forged - 1..=forged, *b"\xac_placeholder");
    assert!(decode(&bytes).is_err());
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".{0,8}", inner, 0..6).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn args() -> impl Strategy<Value = Args> {
    let binary = prop::collection::vec(any::<u8>(), 0..99).prop_map(Bytes::from);
    (prop::collection::vec(json_value(), 0..4), prop::collection::vec(binary, 0..3)).prop_map(
        |(values, binary)| {
            let placeholders =
                (0..binary.len()).map(|num| format!(r#"{{"b":{{"_placeholder":true,"num":{num}}}}}"#));
            // Binary first, so that also an acknowledgement has it.
            let list: Vec<String> = placeholders.chain(values.iter().map(Value::to_string)).collect();
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

/// The message with its arguments as values, since MessagePack does not keep their text.
fn shown(body: &ClusterBody) -> String {
    let args = |args: &Args| {
        let values = serde_json::from_str::<Value>(&format!("[{}]", args.json())).expect("JSON");
        format!("{values:?} {:?}", args.attachments())
    };
    match body {
        ClusterBody::Broadcast(recipients, flags, event) => {
            format!("{recipients:?} {flags:?} {} {} {}", event.namespace, event.name, args(&event.args))
        }
        ClusterBody::ServerSideEmit(name, values) => format!("{name} {}", args(values)),
        ClusterBody::Response(Response::Ack(values) | Response::ServerSide(values)) => args(values),
        other => format!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn messages_survive_round_trip(recipients in recipients(), flags in flags(), changed in room_names(), args in args(), close in any::<bool>()) {
        let main = Namespace::main();
        let limits = CodecLimits::default();
        let first = args.iter().next().map_or_else(Args::empty, |first| {
            let part = args.attachments().iter().take(1).cloned().collect();
            Args::from_json(first.to_owned().into(), part).expect("JSON")
        });
        let emitted = Event::new(main.clone(), "e", args.clone());
        let described = socket(changed.clone(), "{\"n\":[1]}");
        for (id, body) in [
            ("", ClusterBody::Broadcast(recipients.clone(), flags.clone(), emitted.clone())),
            ("q", ClusterBody::Broadcast(recipients.clone(), flags.clone(), emitted)),
            ("", ClusterBody::Update(recipients.clone(), Membership::Join(changed.clone()))),
            ("", ClusterBody::Update(recipients.clone(), Membership::Leave(changed.clone()))),
            ("", ClusterBody::Disconnect(recipients.clone(), close)),
            ("q", ClusterBody::Fetch(recipients.clone())),
            ("", ClusterBody::ServerSideEmit("e".into(), args.clone())),
            ("q", ClusterBody::ServerSideEmit("e".into(), args.clone())),
            ("q", ClusterBody::Response(Response::Sockets(vec![described.clone(), described]))),
            ("q", ClusterBody::Response(Response::ServerSide(first.clone()))),
            ("q", ClusterBody::Response(Response::ClientCount(7))),
            ("q", ClusterBody::Response(Response::Ack(first.clone()))),
        ] {
            for encoding in [ClusterEncoding::JsonUnlessBinary, ClusterEncoding::MessagePack] {
                let payload = encode_cluster_message(UID, &main, id, &body, encoding).expect("encodes");
                let message = decode_cluster_message(&payload, &main, "own", &limits).expect("valid").expect("known");
                prop_assert_eq!((&*message.sender, &*message.id), (UID, id));
                prop_assert_eq!(shown(&message.body), shown(&body));
                for end in (0..payload.len()).step_by(payload.len() / 20 + 1) {
                    prop_assert!(decode_cluster_message(&payload.slice(..end), &main, "own", &limits).is_err());
                }
            }
            if id.is_empty() {
                let mut fields = encode_entry(UID, &main, &body, false).expect("encodes");
                push_number(&mut fields, 5);
                let fields = fields.into_iter().map(|(name, value)| (Bytes::from_static(name.as_bytes()), value.into_bytes()));
                let entry = StreamEntry::from_fields(EntryId::new(1, 2), fields).expect("valid").expect("of the adapter");
                prop_assert_eq!((&*entry.sender, entry.number), (UID, Some(5)));
                let message = entry.message(&main, &limits).expect("valid").expect("known");
                prop_assert_eq!(shown(&message.body), shown(&body));
            }
        }
        let session = StoredSession { id: SocketId::new("s"), secret: "p".into(), rooms: changed, data: first };
        let stored = encode_session(&session).expect("encodes");
        let read = decode_session(&stored, &limits).expect("valid");
        prop_assert_eq!(&read.rooms, &session.rooms);
        prop_assert_eq!(read.data.attachments(), session.data.attachments());
    }

    #[test]
    fn random_input_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..400_usize, flip in any::<u8>()) {
        let limits = CodecLimits::default();
        let main = Namespace::main();
        let binary = one(Bytes::from_static(b"\x01\x02"));
        let bodies = [
            ClusterBody::Broadcast(to(&["a", "7"], &["b"]), Flags::default(), event("x", (1, "two"))),
            ClusterBody::ServerSideEmit("e".into(), binary.clone()),
            ClusterBody::Response(Response::Sockets(vec![socket(rooms(&["a"]), "{}")])),
            ClusterBody::Response(Response::Ack(binary)),
        ];
        let mutated = bodies.iter().map(|body| {
            let mut seed = encode("q", body).expect("encodes").to_vec();
            let at = cut % seed.len();
            seed[at] ^= flip;
            seed
        });
        for payload in mutated.chain([bytes]).map(Bytes::from) {
            let _ = decode_cluster_message(&payload, &main, "own", &limits);
            let text = String::from_utf8_lossy(&payload).into_owned();
            let _ = decode_session(&text, &limits);
            let _ = text.parse::<EntryId>();
            for kind in ["3", "8", "12", &text] {
                let data = text.clone().into();
                let entry = StreamEntry { id: EntryId::ZERO, sender: "u".into(), namespace: "/".into(), kind: kind.into(), data, number: None };
                let _ = entry.message(&main, &limits);
            }
            let field = |name: &'static [u8]| (Bytes::from_static(name), payload.clone());
            let _ = StreamEntry::from_fields(EntryId::ZERO, [field(b"nsp"), field(b"type"), field(b"roomcast")]);
        }
    }
}
