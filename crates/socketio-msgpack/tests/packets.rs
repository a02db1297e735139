//! Packets from clients, packets to clients, and invalid packets.

use bytes::Bytes;
use proptest::prelude::*;
use roomcast_core::{
    AckId, AckRequest, AnswerSink, Args, Codec, Event, IntoArgs, Message, Namespace, SocketId,
};
use roomcast_socketio::{Body, DecodeError, Packet, PacketLimits, Parser};
use roomcast_socketio_msgpack::MsgpackCodec;
use serde_json::{Value, json};

fn decode(packet: &[u8]) -> Result<Packet, DecodeError> {
    decode_within(packet, PacketLimits::default())
}

fn decode_within(packet: &[u8], limits: PacketLimits) -> Result<Packet, DecodeError> {
    let mut decoder = MsgpackCodec::default().decoder(&limits);
    let packet = decoder.decode(Message::Binary(Bytes::copy_from_slice(packet)))?;
    assert!(!decoder.is_waiting());
    Ok(packet.expect("a packet is one message"))
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

fn connect(auth: &'static str) -> Body {
    Body::Connect { auth: auth.into() }
}

fn in_main(body: Body) -> Result<Packet, DecodeError> {
    Ok(Packet { namespace: "/".into(), body })
}

/// Encodings of the same packet by notepack.io 2.2.0 and 3.0.1.
#[test]
fn reads_both_notepack_versions() {
    let rest = "1ffd1ff38cb3ff8000000000000cf0000010000000000d3ffffff0000000000a2c3a9c0c3c4020102";
    let behind = "03a76f7074696f6e7381a8636f6d7072657373c3a2696407a36e7370a22f6e";
    let dialects = [
        ("d40000d7000000018bcfe5687b82a161d40000a1629901ff", "c70100"),
        ("c0d7ff1d5353006553f10081a1629901ff", "c401"),
    ];
    for (front, binary) in dialects {
        let rest = rest.strip_prefix("1ff").expect("known prefix");
        let packet = decode(&hex(&format!("85a47479706502a46461746196a26576{front}{rest}{binary}{behind}")));
        let Packet { namespace, body } = packet.expect("valid packet");
        let Body::Event { name, args, ack } = body else { panic!("expected an event") };
        assert_eq!((&*namespace, &*name, ack), ("/n", "ev", Some(AckId(7))));
        let expected = concat!(
            r#"null,"2023-11-14T22:13:20.123Z",{"b":[1,-1,-200,1.5,1099511627776,-1099511627776,"é",null,true]},"#,
            r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#
        );
        assert_eq!(args.json(), expected);
        assert_eq!(args.attachments(), [&[1_u8, 2][..], &[3]]);
    }
}

#[test]
fn reads_packets_of_every_type() {
    let options = "a76f7074696f6e7381a8636f6d7072657373c3a36e7370a12f";
    assert_eq!(decode(&hex(&format!("84a47479706500a464617461d40000{options}"))), in_main(connect("")));
    assert_eq!(decode(&hex(&format!("83a47479706500{options}"))), in_main(connect("")));
    assert_eq!(decode(b"\x83\xa4type\x00\xa4data\xc0\xa3nsp\xa1/"), in_main(connect("")));
    let auth = decode(&hex("83a47479706500a46461746181a5746f6b656ea178a36e7370a12f"));
    assert_eq!(auth, in_main(connect(r#"{"token":"x"}"#)));
    assert_eq!(decode(&hex(&format!("83a47479706501{options}"))), in_main(Body::Disconnect));
    let answer = decode(&hex(&format!("85a47479706503a2696403a46461746191a161{options}")));
    let args = "a".into_args().expect("a string is serializable");
    assert_eq!(answer, in_main(Body::Ack { id: AckId(3), args }));
    assert_eq!(decode(b"\x83\xa4type\x04\xa4data\xa1x\xa3nsp\xa1/"), in_main(Body::ConnectError));
    // The data may come before the type, and event names may be numbers.
    let number = decode(b"\x83\xa4data\x91\xff\xa4type\x02\xa3nsp\xa1/");
    assert_eq!(number, in_main(Body::Event { name: "-1".into(), args: Args::empty(), ack: None }));
}

fn event(args: &[u8]) -> Vec<u8> {
    [&b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1e"[..], args].concat()
}

fn argument(args: &[u8]) -> Result<String, DecodeError> {
    let Body::Event { args, .. } = decode(&event(args))?.body else { panic!("expected an event") };
    Ok(args.json().to_owned())
}

#[test]
fn converts_values_like_javascript() {
    let read = |bytes: &[u8]| argument(bytes).expect("valid argument");
    assert_eq!(read(b"\xcb\x7f\xf8\0\0\0\0\0\0"), "null");
    assert_eq!(read(b"\xca\x7f\x80\0\0"), "null");
    assert_eq!(read(b"\xca\x3f\x80\0\0"), "1.0");
    assert_eq!(read(b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615");
    assert_eq!(read(b"\xd3\x80\0\0\0\0\0\0\0"), "-9223372036854775808");
    assert_eq!(read(b"\xa3a\xffb"), "\"a\u{fffd}b\"");
    assert_eq!(read(b"\xa3\"\\\n"), r#""\"\\\n""#);
    assert_eq!(read(b"\x93\xd4\x00\x00\x82\xa1a\xd4\x00\x00\xa1b\xd4\x00\x07\xc0"), "[null,{},null]");
    assert_eq!(read(b"\xd6\xff\0\0\0\x01"), "\"1970-01-01T00:00:01.000Z\"");
    assert_eq!(
        read(b"\xc7\x0c\xff\x3b\x9a\xc9\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        "\"1969-12-31T23:59:59.999Z\""
    );
    assert_eq!(read(b"\xd7\0\x7f\xff\xff\xff\xff\xff\xff\xff"), "null");
    assert_eq!(read(b"\xd4\x05\x01"), r#"[5,{"_placeholder":true,"num":0}]"#);
    assert_eq!(read(b"\xd5\0\x01\x02"), r#"[0,{"_placeholder":true,"num":0}]"#);
    assert_eq!(read(b"\xc8\0\x01\xfe\x01"), r#"[-2,{"_placeholder":true,"num":0}]"#);
    assert_eq!(read(b"\xc8\0\x01\x00\x01"), r#"{"_placeholder":true,"num":0}"#);
}

#[test]
fn refuses_invalid_packets() {
    let refused = |packet: &[u8]| decode(packet).expect_err("invalid packet");
    for packet in [
        &b""[..],
        b"\x80",
        b"\x90",
        b"\xc1",
        b"\x82\xa4type\x02\xa3nsp\xa1/",
        b"\x82\xa4type\x05\xa3nsp\xa1/",
        b"\x82\xa4type\xff\xa3nsp\xa1/",
        b"\x82\xa4type\xa10\xa3nsp\xa1/",
        b"\x82\xa3nsp\xa1/\xa4data\x80",
        b"\x81\xa4type\x00",
        b"\x82\xa4type\x00\xa3nsp\x01",
        b"\x82\x01\x02\xa3nsp\xa1/",
        b"\x82\xa4type\x00\xa3nsp\xa1/\x00",
        b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data\x90",
        b"\x83\xa4type\x01\xa3nsp\xa1/\xa4data\x80",
        b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x90",
        b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xc0",
        b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x91\x90",
        b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\xa1e",
        b"\x83\xa4type\x03\xa3nsp\xa1/\xa4data\x90",
        b"\x84\xa4type\x03\xa3nsp\xa1/\xa4data\x90\xa2id\xff",
        b"\x84\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xa1e\xa2id\xa11",
    ] {
        refused(packet);
    }
    assert_eq!(refused(b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xa7connect"), DecodeError::Reserved);
    assert_eq!(argument(b"\x81\x01\x02"), Err(DecodeError::Payload), "a key that is not text");
    let text = MsgpackCodec::default().decoder(&PacketLimits::default()).decode(Message::from("2[\"e\"]"));
    assert_eq!(text, Err(DecodeError::Payload));
}

#[test]
fn bounds_declared_lengths_and_nesting() {
    for claim in [
        &b"\xdd\xff\xff\xff\xff"[..],
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x00",
    ] {
        assert_eq!(argument(claim), Err(DecodeError::Payload));
        // Also under ignored keys.
        let ignored = [&b"\x83\xa4type\x01\xa3nsp\xa1/\xa1x"[..], claim].concat();
        assert_eq!(decode(&ignored), Err(DecodeError::Payload));
    }
    let nested = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
    for (depth, allowed) in [(1, true), (127, true), (128, false), (500_000, false)] {
        let outcome = argument(&nested(depth));
        assert_eq!(outcome.is_ok(), allowed, "{depth}");
        let reads = |json: String| serde_json::from_str::<Value>(&json).is_ok();
        assert!(outcome.is_err() || outcome.is_ok_and(reads));
    }
    let ignored = [&b"\x83\xa4type\x01\xa3nsp\xa1/\xa1x"[..], &nested(500_000)].concat();
    assert_eq!(decode(&ignored), in_main(Body::Disconnect));
}

#[test]
fn limits_text_attachments_and_namespace() {
    let limits = PacketLimits::new().packet_bytes(100).attachments(2).namespace_bytes(4);
    let within = |args: &[u8]| decode_within(&event(args), limits).map(drop);
    // A message byte expands to at most six text bytes.
    assert_eq!(within(&[&b"\xaf"[..], &[1; 15]].concat()), Ok(()));
    assert_eq!(within(&[&b"\xb1"[..], &[1; 17]].concat()), Err(DecodeError::TooLarge { limit: 100 }));
    assert_eq!(
        within(&[&b"\xdc\0\x20"[..], &[0xc0; 32]].concat()),
        Err(DecodeError::TooLarge { limit: 100 })
    );
    // Its placeholder in the text is 29 bytes long.
    assert_eq!(within(&[&b"\xc4\x47"[..], &[0; 71]].concat()), Ok(()));
    assert_eq!(within(&[&b"\xc4\x48"[..], &[0; 72]].concat()), Err(DecodeError::TooLarge { limit: 100 }));
    let three = b"\x93\xc4\0\xc4\0\xc4\0";
    assert_eq!(within(three), Err(DecodeError::TooManyAttachments { limit: 2 }));
    let long = decode_within(b"\x82\xa4type\x00\xa3nsp\xa5/long", limits);
    assert_eq!(long, Err(DecodeError::NamespaceTooLong { limit: 4 }));
}

#[test]
fn refuses_placeholder_without_attachment() {
    let looks = b"\x82\xac_placeholder\xc3\xa3num\x07";
    assert!(argument(looks).is_ok(), "ordinary data without binary");
    let beside = [&b"\x92\xc4\x01x"[..], looks].concat();
    assert!(matches!(argument(&beside), Err(DecodeError::Placeholders(_))));
}

#[test]
fn encodes_every_server_packet() {
    let codec = MsgpackCodec::default();
    let bytes = |frame: roomcast_core::Frame| frame.messages()[0].as_bytes().to_vec();
    let (id, custom) = (SocketId::new("s"), Namespace::new("/c"));
    assert_eq!(
        bytes(codec.encode_connect(&Namespace::main(), &id, None)),
        b"\x83\xa4type\x00\xa4data\x81\xa3sid\xa1s\xa3nsp\xa1/"
    );
    assert_eq!(
        bytes(codec.encode_connect(&custom, &id, Some("p"))),
        b"\x83\xa4type\x00\xa4data\x82\xa3sid\xa1s\xa3pid\xa1p\xa3nsp\xa2/c"
    );
    assert_eq!(
        bytes(codec.encode_connect_error(&custom, r#"{"message":"no","data":{"code":3}}"#)),
        b"\x83\xa4type\x04\xa4data\x82\xa7message\xa2no\xa4data\x81\xa4code\x03\xa3nsp\xa2/c"
    );
    assert_eq!(bytes(codec.encode_disconnect(&custom)), b"\x82\xa4type\x01\xa3nsp\xa2/c");
    let mut event = Event::new(custom.clone(), "e", 1.into_args().expect("a number is serializable"));
    event.offset = Some("o".into());
    assert_eq!(
        bytes(codec.encode(&event).expect("not a reserved name")),
        b"\x83\xa4type\x02\xa4data\x93\xa1e\x01\xa1o\xa3nsp\xa2/c"
    );
    assert!(codec.encode(&Event::new(custom.clone(), "disconnect", Args::empty())).is_err());
    let args = (Bytes::from_static(b"b"), -1, 1.5).into_args().expect("the arguments are serializable");
    assert_eq!(
        bytes(codec.encode_answer(&custom, AckId(300), &args).expect("always")),
        b"\x84\xa4type\x03\xa4data\x93\xc4\x01b\xff\xcb\x3f\xf8\0\0\0\0\0\0\xa3nsp\xa2/c\xa2id\xcd\x01\x2c"
    );
}

#[test]
fn encodes_escapes_and_reordered_placeholders() {
    let list = concat!(
        r#" "\u00e9\ud83d\ude00\n\/\"\\" , { "n\u0075m" : 1 , "x" : [ {} , [ ] ] , "_placeholder" : true } , "#,
        r#"{"_placeholder":true,"num":0} , "\ud800x\udbff\udfff" , {"_placeholder":false,"num":0}"#
    );
    let args = Args::from_json(list.into(), vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
    let event = Event::new(Namespace::main(), "e", args.expect("valid JSON"));
    let frame = MsgpackCodec::default().encode(&event).expect("not a reserved name");
    let Body::Event { args, .. } = decode(frame.messages()[0].as_bytes()).expect("valid packet").body else {
        panic!("expected an event")
    };
    let expected = concat!(
        "\"é😀\\n/\\\"\\\\\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1},\"\u{fffd}x\u{10ffff}\",",
        "{\"_placeholder\":false,\"num\":0}"
    );
    assert_eq!(args.json(), expected);
    assert_eq!(args.attachments(), [&b"b"[..], b"a"]);
}

struct Nobody;

impl AnswerSink for Nobody {
    fn requested(&self, _: &SocketId) {}
    fn answered(&self, _: &SocketId, _: Args) {}
    fn unanswered(&self, _: &SocketId) {}
}

/// Generates JSON values, some long enough for each length encoding.
fn value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![any::<i64>().prop_map(Value::from), any::<u64>().prop_map(Value::from)];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        (-1e9..1e9_f64).prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        Just(Value::from("x".repeat(300))),
    ];
    leaf.prop_recursive(4, 60, 20, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            proptest::collection::btree_map(".{0,8}", inner, 0..20)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn args_of(values: &[Value], binary: &[Bytes]) -> Args {
    let mut list: Vec<String> = values.iter().map(Value::to_string).collect();
    for num in 0..binary.len() {
        let placeholder = json!({ "deep": [{ "_placeholder": true, "num": num }] });
        list.insert(num.min(list.len()), placeholder.to_string());
    }
    Args::from_json(list.join(",").into(), binary.to_vec()).expect("valid JSON")
}

proptest! {
    #[test]
    fn sent_packets_decode_unchanged(
        values in proptest::collection::vec(value(), 0..6),
        binary in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..4),
        name in "[a-z]{1,40}x",
        ack in proptest::option::of(any::<u64>()),
    ) {
        let binary: Vec<Bytes> = binary.into_iter().map(Bytes::from).collect();
        let args = args_of(&values, &binary);
        let mut event = Event::new(Namespace::new("/n"), name.as_str(), args.clone());
        event.ack = ack.map(|id| AckRequest { id: AckId(id), answers: std::sync::Arc::new(Nobody) });
        let frame = MsgpackCodec::default().encode(&event).expect("not a reserved name");
        prop_assert_eq!(frame.messages().len(), 1);
        let encoded = frame.messages()[0].as_bytes();
        let packet = decode(encoded).expect("encoded packets are valid");
        let Body::Event { name: read, args: read_args, ack: read_ack } = packet.body else { panic!("not an event") };
        prop_assert_eq!(&*read, &name);
        prop_assert_eq!(read_ack, ack.map(AckId));
        let parsed = |args: &Args| serde_json::from_str::<Value>(&format!("[{}]", args.json())).expect("JSON");
        prop_assert_eq!(parsed(&read_args), parsed(&args));
        prop_assert_eq!(read_args.attachments(), args.attachments());
        // Every truncation is detected.
        for end in (0..encoded.len()).step_by(encoded.len() / 50 + 1) {
            prop_assert!(decode(&encoded[..end]).is_err());
        }
    }

    #[test]
    fn random_input_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        if let Ok(packet) = decode(&event(&bytes)) {
            let Body::Event { args, .. } = packet.body else { panic!("expected an event") };
            let checked = Args::from_json(args.list().clone(), args.attachments().to_vec());
            prop_assert_eq!(checked.as_ref(), Ok(&args));
            prop_assert_eq!(args.check_placeholders(), Ok(()));
        }
    }
}
