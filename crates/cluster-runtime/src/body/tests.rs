use proptest::prelude::*;
use roomcast_cluster::DecodeError;
use roomcast_cluster::wire::FieldWriter;
use roomcast_core::{
    Args, ByteString, Delivery, Event, Membership, Overflow, Room, SocketId, SocketInfo, Target,
};

use super::fields::VERSION;
use super::*;

fn arguments() -> impl Strategy<Value = Args> {
    let binary = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..4);
    let json = (".{0,10}", any::<i32>(), binary).prop_map(|(text, number, parts)| {
        let mut list = format!("{},{number}", serde_json::to_string(&text).unwrap());
        for index in 0..parts.len() {
            list.push_str(&format!(r#",{{"_placeholder":true,"num":{index}}}"#));
        }
        Args::from_json(list.into(), parts.into_iter().map(Bytes::from).collect()).unwrap()
    });
    prop_oneof![Just(Args::empty()), ".{0,10}".prop_map(|text| Args::from_text(text.into())), json]
}

fn targets() -> impl Strategy<Value = Target> {
    let deliveries =
        prop_oneof![Just(Delivery::Reliable), Just(Delivery::Volatile), Just(Delivery::Protocol)];
    let overflows = prop_oneof![
        Just(Overflow::Inherit),
        Just(Overflow::Close),
        Just(Overflow::DropNewest),
        Just(Overflow::DropOldest),
        Just(Overflow::KeepLatest)
    ];
    (rooms(), rooms(), deliveries, overflows).prop_map(|(rooms, except, delivery, overflow)| Target {
        rooms,
        except,
        delivery,
        overflow,
        ..Target::default()
    })
}

fn rooms() -> impl Strategy<Value = Vec<Room>> {
    prop::collection::vec("[a-cé]{0,4}".prop_map(Room::from), 0..4)
}

fn events() -> impl Strategy<Value = Event> {
    let texts = (".{0,9}", prop::option::of(".{0,9}"), prop::option::of(".{0,9}"));
    (texts, arguments(), any::<bool>()).prop_map(|((name, key, offset), args, compress)| {
        let mut event = Event::new(Namespace::from("/n"), name, args);
        (event.key, event.offset) = (key.map(Into::into), offset.map(ByteString::from));
        event.compress = compress;
        event
    })
}

/// All parts of an event that a body has.
fn parts(event: &Event, target: &Target) -> impl PartialEq + std::fmt::Debug {
    let Event { name, args, key, offset, compress, .. } = event.clone();
    let is_text = args.as_text().is_some();
    (name, args, is_text, key, offset, compress, target.delivery, target.overflow)
}

/// Appends the fields of a later version.
fn later(body: &Bytes) -> Bytes {
    let mut out = FieldWriter::with_capacity(0);
    out.raw(body);
    out.number(60, 7);
    out.bytes(61, b"new");
    out.into_bytes()
}

proptest! {
    #[test]
    fn events_decode_back(event in events(), target in targets(), is_later: bool) {
        let body = encode_event(&target, &event);
        let body = if is_later { later(&body) } else { body };
        let found = decode_event(body, &event.namespace).unwrap();
        let found_target = found.target(target.rooms.clone(), target.except.clone());
        prop_assert_eq!(parts(&found.event, &found_target), parts(&event, &target));
        prop_assert_eq!(found.event.namespace, event.namespace);
    }

    #[test]
    fn queries_decode_back(event in events(), target in targets(), is_later: bool) {
        for has_event in [false, true] {
            let namespace = &event.namespace;
            let body = if has_event {
                encode_event_query(namespace, &target, &event)
            } else {
                encode_query(namespace, &target)
            };
            let query = decode_query(if is_later { later(&body) } else { body }).unwrap();
            prop_assert_eq!(&query.namespace, namespace);
            prop_assert_eq!((&query.target.rooms, &query.target.except), (&target.rooms, &target.except));
            prop_assert_eq!(query.event.is_some(), has_event);
            if let Some(found) = query.event {
                prop_assert_eq!(parts(&found.event, &query.target), parts(&event, &target));
            }
        }
    }

    #[test]
    fn commands_decode_back(rooms in rooms(), is_leave: bool, close: bool, number: u32, is_later: bool) {
        let change = if is_leave { Membership::Leave(rooms) } else { Membership::Join(rooms) };
        let newer = |body| if is_later { later(&body) } else { body };
        prop_assert_eq!(decode_change(newer(encode_change(&change))).unwrap(), change);
        prop_assert_eq!(decode_close(newer(encode_close(close))).unwrap(), close);
        prop_assert_eq!(decode_count(newer(encode_count(number as usize))).unwrap(), number as usize);
    }

    #[test]
    fn acknowledgements_decode_back(args in arguments(), id in prop::option::of("[a-z]{1,9}"), number: u32) {
        let socket = id.map(SocketId::from);
        let parts = [
            AckPart::Recipients(number as usize),
            AckPart::Answered { socket: socket.clone(), args },
            AckPart::Unanswered { socket },
        ];
        for part in parts {
            prop_assert_eq!(AckPart::decode(part.encode()).unwrap(), part.clone());
            prop_assert_eq!(AckPart::decode(later(&part.encode())).unwrap(), part);
        }
    }

    #[test]
    fn sockets_decode_back(sockets in prop::collection::vec(("[a-z]{0,9}", rooms()), 0..5), is_later: bool) {
        let mut part = SocketPart::new();
        for (id, rooms) in &sockets {
            let info = SocketInfo { key: None, id: id.as_str().into(), rooms: rooms.clone(), control: None };
            let encoded = SocketPart::socket(&info).unwrap();
            part.push(&if is_later { later(&encoded) } else { encoded });
        }
        let found = decode_sockets(part.finish()).unwrap();
        let found: Vec<_> = found.into_iter().map(|found| (found.id.to_string(), found.rooms)).collect();
        prop_assert_eq!(found, sockets);
    }

    #[test]
    fn arbitrary_bytes_are_rejected_calmly(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = check_body(&Bytes::copy_from_slice(&bytes));
        if let Some(version) = bytes.first_mut() {
            *version = VERSION;
        }
        let _ = check_body(&bytes.into());
    }
}

#[test]
fn other_version_is_rejected() {
    let mut body = encode_close(true).to_vec();
    body[0] = 2;
    assert_eq!(decode_close(body.into()), Err(BodyError::Fields(DecodeError::Version(2))));
}

#[test]
fn large_attachments_are_not_copied() {
    let attachment = Bytes::from(vec![7; 1 << 20]);
    let args = Args::from_json(r#"{"_placeholder":true,"num":0}"#.into(), vec![attachment]).unwrap();
    let body = encode_event(&Target::default(), &Event::new(Namespace::main(), "image", args));
    let found = decode_event(body.clone(), &Namespace::main()).unwrap();
    let range = body.as_ptr_range();
    assert!(range.contains(&found.event.args.attachments()[0].as_ptr()));

    // A small one must not keep a large message of the engine in memory.
    let args =
        Args::from_json(r#"{"_placeholder":true,"num":0}"#.into(), vec![Bytes::from_static(b"x")]).unwrap();
    let body = encode_event(&Target::default(), &Event::new(Namespace::main(), "image", args));
    let found = decode_event(body.clone(), &Namespace::main()).unwrap();
    assert!(!body.as_ptr_range().contains(&found.event.args.attachments()[0].as_ptr()));
}

#[test]
fn long_lists_are_rejected() {
    let mut body = FieldWriter::with_capacity(1 << 20);
    body.raw(&[VERSION]);
    (0..=1 << 18).for_each(|_| body.bytes(11, b""));
    assert!(matches!(decode_query(body.into_bytes()), Err(BodyError::TooManyItems)));
}

#[test]
fn invalid_arguments_are_rejected() {
    for json in ["{", "1,", "1 2", r#"{"_placeholder":true,"num":3}"#] {
        let mut body = FieldWriter::with_capacity(0);
        body.raw(&[VERSION]);
        body.bytes(1, b"name");
        body.bytes(2, json.as_bytes());
        body.bytes(4, b"attachment");
        let found = decode_event(body.into_bytes(), &Namespace::main());
        assert!(matches!(found, Err(BodyError::Args(_))), "{json}: {found:?}");
    }
}
