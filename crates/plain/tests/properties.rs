//! Properties: messages round-trip unchanged, and arbitrary input is harmless.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use roomcast_core::{
    AckId, AckRequest, Action, AnswerSink, Args, ArgsWriter, ByteString, Bytes, CloseReason, Codec, Command,
    ConnectionRole, Event, Inbound, Message, Namespace, Session, SocketId, TransportName,
};
use roomcast_plain::{JsonCodec, Mode, PlainCodec, PlainConfig, PlainSession};
use serde_json::{Value, json};

proptest! {
    /// Server messages match the grammar that the server itself reads.
    #[test]
    fn events_round_trip_unchanged(name in name(), args in args(), ack in proptest::option::of(id())) {
        let mut event = Event::new(Namespace::main(), name.clone(), args.clone());
        event.ack = ack.map(|id| AckRequest { id: AckId(id), answers: Arc::new(Nobody) });
        let frame = JsonCodec::shared().encode(&event).unwrap();
        let inbound = only_event(&mut admitted(Mode::Json), frame.messages());
        prop_assert_eq!(&*inbound.name, &*name);
        prop_assert_eq!(inbound.args, args);
        prop_assert_eq!(inbound.ack, ack.map(AckId));
    }

    #[test]
    fn answers_round_trip_unchanged(id in id(), args in args()) {
        let frame = JsonCodec::shared().encode_answer(&Namespace::main(), AckId(id), &args).unwrap();
        let mut session = admitted(Mode::Json);
        feed(&mut session, frame.messages());
        let Some(Action::Answer { id: answered, args: got, .. }) = session.poll_action() else { panic!() };
        prop_assert_eq!((answered, got), (AckId(id), args));
    }

    /// Interoperates with a client written from the grammar alone, using only a JSON library.
    #[test]
    fn interoperates_with_foreign_client(
        name in name(),
        args in vec(argument(), 0..5),
        ack in proptest::option::of(id()),
        offset in proptest::option::of(".{0,20}"),
    ) {
        let mut event = Event::new(Namespace::main(), name.clone(), write(&args));
        event.ack = ack.map(|id| AckRequest { id: AckId(id), answers: Arc::new(Nobody) });
        event.offset = offset.clone().map(ByteString::from);
        let frame = JsonCodec::shared().encode(&event).unwrap();
        let received = foreign::read(frame.messages());
        prop_assert_eq!(&received.header["ack"], &json!(ack));
        prop_assert_eq!(&received.header["offset"], &json!(offset));
        prop_assert_eq!(received.elements, [vec![Argument::Json(json!(name))], args.clone()].concat());

        let sent = foreign::write(ack.map(|id| ("ack", id)), Some(&name), &args);
        let inbound = only_event(&mut admitted(Mode::Json), &sent);
        prop_assert_eq!(&*inbound.name, &*name);
        prop_assert_eq!(inbound.ack, ack.map(AckId));
        prop_assert_eq!(read(&inbound.args), args);
    }

    /// Messages between two clients in plain mode are unchanged.
    #[test]
    fn bare_messages_pass_through(message in message()) {
        let inbound = only_event(&mut admitted(Mode::Plain), std::slice::from_ref(&message));
        let event = Event::new(Namespace::main(), inbound.name, inbound.args);
        let frame = PlainCodec::shared().encode(&event).unwrap();
        prop_assert_eq!(frame.messages(), [message]);
    }

    #[test]
    fn plain_mode_sends_events_as_arrays(name in name(), values in vec(json_value(), 0..5)) {
        let args: Vec<_> = values.iter().cloned().map(Argument::Json).collect();
        let event = Event::new(Namespace::main(), name.clone(), write(&args));
        let frame = PlainCodec::shared().encode(&event).unwrap();
        let [Message::Text(ref text)] = *frame.messages() else { panic!("expected one text") };
        if name == "message" && let [Value::String(bare)] = &values[..] {
            prop_assert_eq!(text, bare.as_str());
        } else {
            let all = [vec![json!(name)], values].concat();
            prop_assert_eq!(serde_json::from_str::<Value>(text).unwrap(), Value::from(all));
        }
    }

    /// For any input in any order: no panic, at most one end, and no action after it.
    #[test]
    fn random_input_never_panics(json in any::<bool>(), steps in vec(step(), 0..60)) {
        let config = PlainConfig::new().pending_limit(500).max_event_bytes(300);
        let mode = if json { Mode::Json } else { Mode::Plain };
        let mut session = PlainSession::new(mode, Arc::new(config), Namespace::main());
        let mut now = start();
        let mut over = false;
        for step in steps {
            match step {
                Step::Open => session.handle_connection_opened(ConnectionRole::Primary, WEBSOCKET, now),
                Step::Accept => session.handle_command(accept(), now),
                Step::Receive(message) => session.handle_message(ConnectionRole::Primary, message, now),
                Step::Pass(seconds) => {
                    now += Duration::from_secs(seconds);
                    session.handle_timeout(now);
                }
                Step::Close => session.handle_command(Command::Close(CloseReason::ForcedServerClose), now),
            }
            while let Some(action) = session.poll_action() {
                prop_assert!(!over, "{action:?} after the end");
                match action {
                    Action::Close(_) => over = true,
                    Action::Event(inbound) => {
                        prop_assert!(Args::from_json(inbound.args.list().clone(), vec![]).is_ok());
                        prop_assert!(inbound.args.check_placeholders().is_ok());
                        // Every received message can be sent again.
                        let event = Event::new(Namespace::main(), inbound.name, inbound.args);
                        prop_assert!(JsonCodec::shared().encode(&event).is_ok());
                    }
                    _ => {}
                }
            }
            prop_assert!(!over || session.poll_timeout().is_none());
        }
    }
}

const WEBSOCKET: TransportName = TransportName("websocket");

/// An argument of an application: JSON, or binary as a whole.
#[derive(Debug, Clone, PartialEq)]
enum Argument {
    Json(Value),
    Binary(Bytes),
}

#[derive(Debug, Clone)]
enum Step {
    Open,
    Accept,
    Receive(Message),
    Pass(u64),
    Close,
}

struct Nobody;

impl AnswerSink for Nobody {
    fn requested(&self, _: &SocketId) {}
    fn answered(&self, _: &SocketId, _: Args) {}
    fn unanswered(&self, _: &SocketId) {}
}

fn name() -> impl Strategy<Value = String> {
    let names = prop_oneof![3 => ".{0,12}", 1 => Just("message".to_owned()), 1 => "[\"\\\\\n\\[{a]{1,4}"];
    names.prop_filter("reserved", |name| {
        !["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]
            .contains(&name.as_str())
    })
}

fn id() -> impl Strategy<Value = u64> {
    prop_oneof![0..5_u64, Just((1 << 53) - 1), 0..(1_u64 << 53)]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Multiples of one half, which any JSON library reads back exactly.
        any::<i32>().prop_map(|halves| Value::from(f64::from(halves) / 2.0)),
        ".{0,10}".prop_map(Value::from),
        "[\"\\\\\n\t\\[{},\\]]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(".{0,5}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn argument() -> impl Strategy<Value = Argument> {
    prop_oneof![
        4 => json_value().prop_map(Argument::Json),
        1 => vec(any::<u8>(), 0..20).prop_map(|bytes| Argument::Binary(bytes.into())),
    ]
}

fn args() -> impl Strategy<Value = Args> {
    vec(argument(), 0..6).prop_map(|args| write(&args))
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        ".{0,40}".prop_map(Message::from),
        "[\0-\x20\"\\\\ü\u{2028}]{0,20}".prop_map(Message::from),
        vec(any::<u8>(), 0..40).prop_map(|bytes| Bytes::from(bytes).into()),
    ]
}

/// Generates messages that match the grammar, nearly match it, or do not.
fn hostile() -> impl Strategy<Value = Message> {
    const NEARLY: &str = concat!(
        r#"\[(\{("(ack|re|binary|sid)":(0|1|2|-1|null|"x"|1\.5|99999999999999999999)){0,1}\},?)?"#,
        r#"("a"|"connect"|7)?"#,
        r#"(,(1|"a"|\[\]|\{\}|\{"_placeholder":true,"num":[0-2]\}|"\\ud800"|\[\[)){0,3}\]"#,
    );
    prop_oneof![
        2 => message(),
        2 => "[\\[\\]{}\",:0-9a\\\\ ]{0,40}".prop_map(Message::from),
        6 => NEARLY.prop_map(Message::from),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Open),
        2 => Just(Step::Accept),
        20 => hostile().prop_map(Step::Receive),
        2 => (0..40_u64).prop_map(Step::Pass),
        1 => Just(Step::Close),
    ]
}

fn write(args: &[Argument]) -> Args {
    let mut writer = ArgsWriter::new();
    for argument in args {
        match argument {
            Argument::Json(value) => writer.push(value).unwrap(),
            Argument::Binary(bytes) => writer.push_bytes(bytes.clone()),
        }
    }
    writer.finish()
}

fn read(args: &Args) -> Vec<Argument> {
    args.iter()
        .map(|json| foreign::resolve(serde_json::from_str(json).unwrap(), args.attachments()))
        .collect()
}

fn accept() -> Command {
    Command::Accept { namespace: Namespace::main(), socket: SocketId::new("s"), recovery: None }
}

fn admitted(mode: Mode) -> PlainSession {
    let mut session = PlainSession::new(mode, Arc::default(), Namespace::main());
    session.handle_connection_opened(ConnectionRole::Primary, WEBSOCKET, start());
    session.handle_command(accept(), start());
    while session.poll_action().is_some() {}
    session
}

fn feed(session: &mut PlainSession, messages: &[Message]) {
    for message in messages {
        session.handle_message(ConnectionRole::Primary, message.clone(), start());
    }
}

fn only_event(session: &mut PlainSession, messages: &[Message]) -> Inbound {
    feed(session, messages);
    let Some(Action::Event(inbound)) = session.poll_action() else {
        panic!("expected an event: {messages:?}")
    };
    assert!(session.poll_action().is_none());
    inbound
}

#[expect(clippy::disallowed_methods, reason = "virtual time needs a start")]
fn start() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// Independent implementation of the client side of the grammar.
mod foreign {
    use super::*;

    pub(super) struct Received {
        pub(super) header: Value,
        pub(super) elements: Vec<Argument>,
    }

    pub(super) fn read(messages: &[Message]) -> Received {
        let (Message::Text(text), binary) = messages.split_first().unwrap() else {
            panic!("expected text first")
        };
        let binary: Vec<Bytes> = binary
            .iter()
            .map(|message| match message {
                Message::Binary(bytes) => bytes.clone(),
                Message::Text(text) => panic!("{text:?} between binary messages"),
            })
            .collect();
        let mut elements: Vec<Value> = serde_json::from_str(text).unwrap();
        let header = if elements[0].is_object() { elements.remove(0) } else { json!({}) };
        assert_eq!(header["binary"].as_u64().unwrap_or(0) as usize, binary.len());
        Received { header, elements: elements.into_iter().map(|value| resolve(value, &binary)).collect() }
    }

    pub(super) fn write(id: Option<(&str, u64)>, name: Option<&str>, args: &[Argument]) -> Vec<Message> {
        let mut header = serde_json::Map::new();
        header.extend(id.map(|(key, id)| (key.to_owned(), json!(id))));
        let mut binary = vec![];
        let values: Vec<Value> = args
            .iter()
            .map(|argument| match argument {
                Argument::Json(value) => value.clone(),
                Argument::Binary(bytes) => {
                    binary.push(Message::Binary(bytes.clone()));
                    json!({"num": binary.len() - 1, "_placeholder": true})
                }
            })
            .collect();
        if !binary.is_empty() {
            header.insert("binary".into(), json!(binary.len()));
        }
        let mut frame = vec![];
        if !header.is_empty() {
            frame.push(Value::Object(header));
        }
        frame.extend(name.map(Value::from));
        frame.extend(values);
        [vec![Message::from(Value::from(frame).to_string())], binary].concat()
    }

    pub(super) fn resolve(value: Value, binary: &[Bytes]) -> Argument {
        match value["num"].as_u64() {
            Some(num) if value["_placeholder"] == true => Argument::Binary(binary[num as usize].clone()),
            _ => Argument::Json(value),
        }
    }
}
