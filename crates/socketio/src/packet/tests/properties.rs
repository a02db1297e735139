use proptest::prelude::*;

use super::*;

/// JSON with binary values.
#[derive(Debug, Clone)]
enum Tree {
    Leaf(Value),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Tree {
    fn write(&self, text: &mut String, attachments: &mut Vec<Bytes>) {
        match self {
            Self::Leaf(value) => text.push_str(&value.to_string()),
            Self::Bytes(bytes) => {
                text.push_str(&hole(attachments.len()));
                attachments.push(bytes.clone().into());
            }
            Self::List(items) => {
                text.push('[');
                write_all(items, text, attachments);
                text.push(']');
            }
            Self::Object(entries) => {
                text.push('{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { "," });
                    text.push_str(&Value::from(key.as_str()).to_string());
                    text.push(':');
                    value.write(text, attachments);
                }
                text.push('}');
            }
        }
    }
}

fn write_all(trees: &[Tree], text: &mut String, attachments: &mut Vec<Bytes>) {
    for (index, tree) in trees.iter().enumerate() {
        text.push_str(if index == 0 { "" } else { "," });
        tree.write(text, attachments);
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Leaf(Value::Null)),
        any::<bool>().prop_map(|value| Tree::Leaf(value.into())),
        any::<i64>().prop_map(|value| Tree::Leaf(value.into())),
        any::<f64>().prop_map(|value| Tree::Leaf(value.into())),
        ".{0,12}".prop_map(|value| Tree::Leaf(value.into())),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(Tree::Bytes),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::List),
            prop::collection::vec((".{0,6}", inner), 0..4).prop_map(Tree::Object),
        ]
    })
}

fn any_args() -> impl Strategy<Value = Args> {
    prop::collection::vec(tree(), 0..4).prop_map(|trees| {
        let (mut text, mut attachments) = (String::new(), vec![]);
        write_all(&trees, &mut text, &mut attachments);
        Args::from_json(text.into(), attachments).unwrap()
    })
}

fn any_namespace() -> impl Strategy<Value = Namespace> {
    prop_oneof![Just(Namespace::main()), "/[^,]{0,12}".prop_map(Namespace::new)]
}

/// Decodes a frame as a client would, with this decoder.
fn decode_frame(frame: &Frame) -> Packet {
    let limits = PacketLimits { attachments: usize::MAX, ..PacketLimits::default() };
    let mut decoder = DefaultDecoder::new(limits);
    let mut packet = None;
    for message in frame.messages() {
        assert_eq!(packet, None);
        let message = match message {
            Message::Text(text) => text.slice_ref(text.strip_prefix('4').unwrap()).into(),
            binary => binary.clone(),
        };
        packet = decoder.decode(message).unwrap();
    }
    packet.unwrap()
}

proptest! {
    #[test]
    fn events_round_trip_unchanged(namespace in any_namespace(), name in ".{0,12}", args in any_args(), id in any::<Option<u64>>()) {
        prop_assume!(!is_reserved(&name));
        let mut event = Event::new(namespace.clone(), name.clone(), args.clone());
        event.ack = id.map(|id| AckRequest { id: AckId(id), answers: Arc::new(Nobody) });
        let packet = decode_frame(&DefaultCodec.encode(&event).unwrap());
        let body = Body::Event { name: name.into(), args, ack: id.map(AckId) };
        prop_assert_eq!(packet, Packet { namespace: namespace.as_str().into(), body });
    }

    #[test]
    fn offset_is_the_last_argument(args in any_args(), offset in ".{0,12}") {
        let mut event = Event::new(Namespace::main(), "x", args.clone());
        event.offset = Some(offset.clone().into());
        let Body::Event { args: decoded, .. } = decode_frame(&DefaultCodec.encode(&event).unwrap()).body else { panic!() };
        prop_assert_eq!(decoded, args.with_last(&Value::from(offset).to_string()).unwrap());
    }

    #[test]
    fn answers_round_trip_unchanged(namespace in any_namespace(), id in any::<u64>(), args in any_args()) {
        let packet = decode_frame(&DefaultCodec.encode_answer(&namespace, AckId(id), &args).unwrap());
        let body = Body::Ack { id: AckId(id), args };
        prop_assert_eq!(packet, Packet { namespace: namespace.as_str().into(), body });
    }

    #[test]
    fn assigns_attachments_in_any_order(args in any_args(), seed in any::<u64>()) {
        // The peer numbers its attachments in any order.
        let count = args.attachments().len();
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|num| seed.rotate_left(*num as u32).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut list = args.json().to_owned();
        for (num, theirs) in order.iter().enumerate() {
            list = list.replace(&hole(num), &hole(format!("#{theirs}")));
        }
        let list = list.replace('#', "");
        prop_assume!(Args::from_json(list.clone().into(), vec![]).is_ok() && !args.json().contains('#'));
        let mut attachments = vec![Bytes::new(); count];
        for (num, attachment) in args.attachments().iter().enumerate() {
            attachments[order[num]] = attachment.clone();
        }
        let shuffled = Args::from_json(list.into(), attachments).unwrap();
        let answer = DefaultCodec.encode_answer(&Namespace::main(), AckId(1), &shuffled).unwrap();
        prop_assert_eq!(decode_frame(&answer).body, Body::Ack { id: AckId(1), args });
    }

    #[test]
    fn any_messages_decode_or_are_refused(messages in prop::collection::vec(any_message(), 0..8)) {
        let mut decoder = decoder();
        for message in messages {
            let Ok(packet) = decoder.decode(message) else { break };
            prop_assert_eq!(packet.is_none(), decoder.is_waiting());
        }
    }
}

fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        ".*".prop_map(Message::from),
        r#"[0-6]([0-9]{0,2}-)?(/[a-z]{0,3},?)?[0-9]{0,3}.{0,20}"#.prop_map(Message::from),
        r#"[2356]([12]-)?[0-9]?[\[\]{}",:0-9a-z\\ _né]{0,24}"#.prop_map(Message::from),
        prop::sample::select(vec![
            r#"51-["x",{"_placeholder":true,"num":0}]"#,
            r#"52-["x",{"_placeholder":true,"num":1}]"#,
            r#"2["x",1]"#,
            r#"61-1[]"#,
        ])
        .prop_map(Message::from),
        prop::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| Message::from(Bytes::from(bytes))),
    ]
}
