//! Encoding and decoding of the client side of each protocol.

use std::collections::VecDeque;

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{Args, Message};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::event::{TestEvent, readable};
use super::outcome::{Disconnected, Heard, TestKind};

/// Client side of a protocol.
#[derive(Debug, Clone)]
pub(super) struct Protocol {
    kind: TestKind,
    namespace: String,
}

/// Meaning of a server message.
pub(super) enum Meaning {
    Heard(Heard),
    /// Must be answered at once.
    Answer(&'static str),
    NoMessage,
}

impl Protocol {
    pub(super) fn new(kind: TestKind, namespace: String) -> Self {
        Self { kind, namespace }
    }

    pub(super) fn subprotocol(&self) -> Option<&'static str> {
        (self.kind == TestKind::Json).then_some(roomcast_server::transport::JSON_SUBPROTOCOL)
    }

    /// Encodes the connect request, if the protocol has one.
    pub(super) fn connect(&self, auth: Option<&Value>) -> Vec<Message> {
        let auth = auth.map(Value::to_string).unwrap_or_default();
        self.socket_io(format!("40{}{auth}", self.prefix()))
    }

    pub(super) fn disconnect(&self) -> Vec<Message> {
        self.socket_io(format!("41{}", self.prefix()))
    }

    fn socket_io(&self, packet: String) -> Vec<Message> {
        if self.kind == TestKind::SocketIo { vec![packet.into()] } else { Vec::new() }
    }

    #[track_caller]
    pub(super) fn event(&self, name: &str, args: &Args, ack: Option<u64>) -> Vec<Message> {
        let list = [&Value::from(name).to_string(), args.json()];
        let list = list.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(",");
        match self.kind {
            TestKind::SocketIo => self.packet('2', '5', ack, &list, args),
            TestKind::Json => self.array(ack.map(|ack| ("ack", ack)), &list, args),
            TestKind::Plain => {
                assert!(
                    name == "message" && ack.is_none(),
                    "plain clients support only the event `message`, without acknowledgement"
                );
                match (args.attachments(), args.get::<String>(0)) {
                    ([bytes], _) => vec![bytes.clone().into()],
                    (_, Ok(text)) => vec![text.into()],
                    _ => panic!("plain clients send one text or binary argument, not ({})", readable(args)),
                }
            }
        }
    }

    #[track_caller]
    pub(super) fn answer(&self, ack: u64, args: &Args) -> Vec<Message> {
        match self.kind {
            TestKind::SocketIo => self.packet('3', '6', Some(ack), args.json(), args),
            TestKind::Json => self.array(Some(("re", ack)), args.json(), args),
            TestKind::Plain => panic!("plain clients support no acknowledgements"),
        }
    }

    fn packet(&self, text: char, binary: char, ack: Option<u64>, list: &str, args: &Args) -> Vec<Message> {
        let count = args.attachments().len();
        let kind = if count == 0 { text.to_string() } else { format!("{binary}{count}-") };
        let ack = ack.map(|ack| ack.to_string()).unwrap_or_default();
        with(format!("4{kind}{}{ack}[{list}]", self.prefix()), args)
    }

    fn array(&self, header: Option<(&str, u64)>, list: &str, args: &Args) -> Vec<Message> {
        let mut head = json!({});
        if let Some((key, id)) = header {
            head[key] = id.into();
        }
        if !args.attachments().is_empty() {
            head["binary"] = args.attachments().len().into();
        }
        let text = match (head == json!({}), list.is_empty()) {
            (true, _) => format!("[{list}]"),
            (false, true) => format!("[{head}]"),
            (false, false) => format!("[{head},{list}]"),
        };
        with(text, args)
    }

    fn prefix(&self) -> String {
        if self.namespace == "/" { String::new() } else { format!("{},", self.namespace) }
    }

    /// Takes a message with its binary parts once all have arrived.
    pub(super) fn decode(&self, messages: &mut VecDeque<Message>) -> Meaning {
        match self.kind {
            TestKind::SocketIo => self.decode_packet(messages),
            TestKind::Json => decode_array(messages),
            TestKind::Plain => messages.pop_front().map_or(Meaning::NoMessage, decode_bare),
        }
    }

    fn decode_packet(&self, messages: &mut VecDeque<Message>) -> Meaning {
        let Some(Message::Text(packet)) = messages.front().cloned() else {
            panic!("binary message without a packet")
        };
        let Some(packet) = packet.strip_prefix('4') else {
            messages.pop_front();
            return if &*packet == "2" { Meaning::Answer("3") } else { Meaning::NoMessage };
        };
        let (kind, rest) = packet.split_at(1);
        let (count, rest) = match kind {
            "5" | "6" => rest.split_once('-').expect("number of attachments"),
            _ => ("0", rest),
        };
        let count = count.parse().expect("number of attachments");
        let Some(parts) = take(messages, count) else { return Meaning::NoMessage };
        let rest = match rest.strip_prefix(&self.namespace) {
            Some(rest) if self.namespace != "/" => rest.strip_prefix(',').unwrap_or(rest),
            _ => rest,
        };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (ack, json) = rest.split_at(digits);
        let ack = ack.parse().ok();
        Meaning::Heard(match kind {
            "0" => {
                let welcome: Value = serde_json::from_str(json).expect("connect confirmation is JSON");
                Heard::Joined(welcome["sid"].as_str().expect("confirmation has a socket id").to_owned())
            }
            "1" => Heard::Ended(Disconnected { code: None, reason: "io server disconnect".to_owned() }),
            "2" | "5" => {
                let (name, args) = named(json, parts);
                Heard::Event(TestEvent { name, args, ack })
            }
            "3" | "6" => Heard::Answer(ack.expect("ack number"), list(&elements(json), parts)),
            "4" => Heard::Refused(serde_json::from_str(json).expect("connect error is JSON")),
            other => panic!("unknown packet type {other}"),
        })
    }
}

fn decode_array(messages: &mut VecDeque<Message>) -> Meaning {
    let Some(Message::Text(text)) = messages.front().cloned() else {
        panic!("binary message without a packet")
    };
    let mut all = elements(&text);
    let header = match all.first() {
        Some(first) if first.get().starts_with('{') => {
            serde_json::from_str(all.remove(0).get()).expect("argument is JSON")
        }
        _ => json!({}),
    };
    let count = header["binary"].as_u64().unwrap_or(0);
    let Some(parts) = take(messages, usize::try_from(count).expect("count fits")) else {
        return Meaning::NoMessage;
    };
    if let Some(id) = header["sid"].as_str() {
        return Meaning::Heard(Heard::Joined(id.to_owned()));
    }
    if header["error"].is_object() {
        return Meaning::Heard(Heard::Refused(header["error"].clone()));
    }
    if let Some(ack) = header["re"].as_u64() {
        return Meaning::Heard(Heard::Answer(ack, list(&all, parts)));
    }
    if all.is_empty() {
        return Meaning::NoMessage;
    }
    let name = serde_json::from_str(all.remove(0).get()).expect("event name is a string");
    Meaning::Heard(Heard::Event(TestEvent { name, args: list(&all, parts), ack: header["ack"].as_u64() }))
}

/// Parses an event in brackets, or a bare message.
fn decode_bare(message: Message) -> Meaning {
    let event = match message {
        Message::Text(text) => match serde_json::from_str::<Vec<Value>>(&text) {
            Ok(all) if all.first().is_some_and(Value::is_string) => {
                let (name, args) = named(&text, Vec::new());
                TestEvent { name, args, ack: None }
            }
            _ => {
                let json = Value::from(&*text).to_string();
                TestEvent {
                    name: "message".into(),
                    args: Args::from_validated(json.into(), Vec::new()),
                    ack: None,
                }
            }
        },
        Message::Binary(bytes) => {
            let placeholder = ByteString::from_static(r#"{"_placeholder":true,"num":0}"#);
            let args = Args::from_validated(placeholder, vec![bytes]);
            TestEvent { name: "message".into(), args, ack: None }
        }
    };
    Meaning::Heard(Heard::Event(event))
}

fn with(text: String, args: &Args) -> Vec<Message> {
    let parts = args.attachments().iter().cloned().map(Message::Binary);
    std::iter::once(Message::from(text)).chain(parts).collect()
}

/// Takes a text and the given number of binary messages after it, once all have arrived.
fn take(messages: &mut VecDeque<Message>, count: usize) -> Option<Vec<Bytes>> {
    if messages.len() <= count {
        return None;
    }
    messages.pop_front();
    let parts = messages.drain(..count).map(|part| Bytes::copy_from_slice(part.as_bytes()));
    Some(parts.collect())
}

fn elements(json: &str) -> Vec<Box<RawValue>> {
    serde_json::from_str(json)
        .unwrap_or_else(|error| panic!("server sent invalid JSON array: {error}: {json}"))
}

fn named(json: &str, parts: Vec<Bytes>) -> (String, Args) {
    let mut all = elements(json);
    assert!(!all.is_empty(), "event without a name");
    let name = serde_json::from_str(all.remove(0).get()).expect("event name is a string");
    (name, list(&all, parts))
}

fn list(elements: &[Box<RawValue>], parts: Vec<Bytes>) -> Args {
    let list: Vec<_> = elements.iter().map(|element| element.get()).collect();
    Args::from_validated(list.join(",").into(), parts)
}
