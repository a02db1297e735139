//! Broadcasts without acknowledgements, and the packet that all broadcasts hold.

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{Args, ArgsReader, Event, Namespace, Room};
use roomcast_msgpack::{JsonValues, ReadError, Reader, Value, Writer};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::options::{read_opts, write_opts};
use super::recent::{Recent, RecentNames};
use super::{
    CodecLimits, DecodeError, EncodeError, Flags, MAX_DEPTH, Recipients, check_depth, check_len, checked,
    json_writer,
};

/// Broadcast of another node.
#[derive(Debug, Clone)]
#[allow(clippy::exhaustive_structs, reason = "drivers take it apart")]
pub struct BroadcastMessage {
    /// Node that sent it; `emitter` for an emitter.
    pub sender: ByteString,
    /// Recipients.
    pub recipients: Recipients,
    /// Delivery options.
    pub flags: Flags,
    /// Event.
    pub event: Event,
}

/// Encodes a broadcast of the node `uid`.
///
/// # Errors
/// Returns an error if the event could harm a Node server or its clients.
pub fn encode_broadcast(
    uid: &str,
    recipients: &Recipients,
    flags: &Flags,
    event: &Event,
) -> Result<Bytes, EncodeError> {
    Ok(broadcast_bytes(uid, (&recipients.rooms, &recipients.except), flags, event)?.into())
}

/// Encodes a broadcast of the node `uid` to the members of `rooms` that are not members of `except`.
pub(crate) fn broadcast_bytes(
    uid: &str,
    (rooms, except): (&[Room], &[Room]),
    flags: &Flags,
    event: &Event,
) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer::with_capacity(OVERHEAD + event.name.len() + event.args.byte_len());
    write_sender(&mut writer, uid);
    write_packet(&mut writer, event)?;
    write_opts(&mut writer, rooms, except, flags);
    Ok(writer.finish())
}

/// Returns the first bytes of each broadcast of the node `uid`.
#[must_use]
pub fn broadcast_prefix(uid: &str) -> Bytes {
    let mut writer = Writer::with_capacity(uid.len() + 2);
    write_sender(&mut writer, uid);
    writer.finish().into()
}

fn write_sender(writer: &mut Writer, uid: &str) {
    writer.array(3);
    writer.text(uid);
}

/// Usual bytes of a broadcast besides its event.
const OVERHEAD: usize = 96;

/// Decodes a message of a broadcast channel.
///
/// Returns `None` for a message of the node `own_uid` itself, and for one of another namespace.
///
/// # Errors
/// Returns an error if the message is malformed or exceeds a limit. Node fails on some of these messages.
pub fn decode_broadcast(
    payload: &Bytes,
    namespace: &Namespace,
    own_uid: &str,
    limits: &CodecLimits,
) -> Result<Option<BroadcastMessage>, DecodeError> {
    let read = read_broadcast(payload, namespace, own_uid, limits, &mut RecentNames::default())?;
    Ok(read.map(|BroadcastParts { sender, recipients, flags, event }| BroadcastMessage {
        sender: sender.into_owned().into(),
        recipients,
        flags,
        event,
    }))
}

/// Broadcast of another node, with the sender as a part of the message.
pub(crate) struct BroadcastParts<'m> {
    sender: Cow<'m, str>,
    pub(crate) recipients: Recipients,
    pub(crate) flags: Flags,
    pub(crate) event: Event,
}

/// Implements [`decode_broadcast`], with names that the messages of the namespace share.
pub(crate) fn read_broadcast<'m>(
    payload: &'m Bytes,
    namespace: &Namespace,
    own_uid: &str,
    limits: &CodecLimits,
    names: &mut RecentNames,
) -> Result<Option<BroadcastParts<'m>>, DecodeError> {
    check_len(payload, limits)?;
    let mut reader = Reader::new(payload);
    // Other versions may append elements.
    let elements @ 3.. = reader.array()? else { return Err(DecodeError::Field("list of three")) };
    let sender = reader.text()?;
    if sender == own_uid {
        return Ok(None);
    }
    let packet = PacketHead::read(&mut reader)?;
    if packet.namespace.as_deref().unwrap_or("/") != namespace.as_str() {
        return Ok(None);
    }
    let (recipients, flags) = read_opts(&mut reader, limits, &mut names.rooms)?;
    for _ in 3..elements {
        let value = reader.value()?;
        reader.skip(&value)?;
    }
    if !reader.is_at_end() {
        return Err(ReadError::Malformed.into());
    }
    let event = packet.event(namespace, limits, &mut names.events)?;
    Ok(Some(BroadcastParts { sender, recipients, flags, event }))
}

/// Writes `{type: 2, data: [name, ...args], nsp}`.
pub(super) fn write_packet(writer: &mut Writer, event: &Event) -> Result<(), EncodeError> {
    check_name(&event.name)?;
    let args = JsonValues::new(event.args.json(), event.args.attachments());
    if args.depth() > MAX_DEPTH {
        return Err(EncodeError::TooDeep);
    }
    writer.map(3);
    writer.text("type");
    writer.uint(2);
    writer.text("data");
    writer.array(1 + args.len());
    writer.text(&event.name);
    writer.values(&args);
    writer.text("nsp");
    writer.text(event.namespace.as_str());
    Ok(())
}

/// Checks the name of an event for clients: clients on Node reject packets with some names, and disconnect.
pub(super) fn check_name(name: &str) -> Result<(), EncodeError> {
    const RESERVED: [&str; 6] =
        ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

    if RESERVED.contains(&name) { Err(EncodeError::Reserved) } else { Ok(()) }
}

/// Packet in MessagePack, without its arguments.
struct PacketHead<'m> {
    kind: Option<u64>,
    namespace: Option<Cow<'m, str>>,
    /// Reader at the data.
    data: Option<Reader<'m>>,
}

impl<'m> PacketHead<'m> {
    fn read(reader: &mut Reader<'m>) -> Result<Self, DecodeError> {
        let mut head = Self { kind: None, namespace: None, data: None };
        for _ in 0..reader.map()? {
            let Value::Text(key) = reader.value()? else { return Err(DecodeError::Field("packet")) };
            let at = reader.clone();
            let value = reader.value()?;
            reader.skip(&value)?;
            match (key, value) {
                (b"type", Value::Unsigned(kind)) => head.kind = Some(kind),
                (b"nsp", Value::Text(name)) => {
                    head.namespace = Some(String::from_utf8_lossy(name));
                }
                (b"nsp", Value::Undefined) => head.namespace = None,
                (b"nsp", _) => return Err(DecodeError::Field("nsp")),
                (b"data", _) => head.data = Some(at),
                _ => {}
            }
        }
        Ok(head)
    }

    fn event(
        self,
        namespace: &Namespace,
        limits: &CodecLimits,
        names: &mut Recent<ByteString>,
    ) -> Result<Event, DecodeError> {
        check_kind(self.kind)?;
        let mut data = self.data.ok_or(DecodeError::Field("data"))?;
        let len @ 1.. = data.array()? else { return Err(DecodeError::Field("event")) };
        let name: ByteString = match data.value()? {
            Value::Text(name) => names.get(name),
            Value::Unsigned(number) => number.to_string().into(),
            Value::Signed(number) => number.to_string().into(),
            _ => return Err(DecodeError::Field("event name")),
        };
        let mut json = json_writer(args_capacity(&data, len - 1), limits);
        json.values(&mut data, len - 1)?;
        let (text, attachments) = json.finish()?;
        Ok(Event::new(namespace.clone(), name, checked(text, attachments)?))
    }
}

/// Returns the bytes that the text of arguments takes, approximately; exact for one text without escapes.
fn args_capacity(data: &Reader<'_>, args: u32) -> usize {
    match data.clone().value() {
        Ok(Value::Text(text)) if args == 1 => text.len() + 2,
        // The text takes about as much as the rest of the message.
        _ => data.left(),
    }
}

/// Checks the type of a packet: an event, which is 2 with binary too, and 5 from some versions.
fn check_kind(kind: Option<u64>) -> Result<(), DecodeError> {
    match kind {
        Some(2 | 5) => Ok(()),
        _ => Err(DecodeError::Field("packet type")),
    }
}

/// Packet in JSON.
#[derive(Deserialize)]
pub(super) struct JsonPacket<'t> {
    #[serde(rename = "type")]
    kind: u64,
    #[serde(borrow)]
    data: &'t RawValue,
    nsp: Option<String>,
}

impl JsonPacket<'_> {
    /// Returns the event, or `None` if the packet is of another namespace; `text` is the text of the whole message.
    pub(super) fn event(
        &self,
        text: &ByteString,
        attachments: &[Bytes],
        namespace: &Namespace,
    ) -> Result<Option<Event>, DecodeError> {
        if self.nsp.as_deref().unwrap_or("/") != namespace.as_str() {
            return Ok(None);
        }
        self.event_in(text, attachments, namespace).map(Some)
    }

    /// Returns the event in this namespace; the namespace of the packet is ignored.
    pub(super) fn event_in(
        &self,
        text: &ByteString,
        attachments: &[Bytes],
        namespace: &Namespace,
    ) -> Result<Event, DecodeError> {
        check_kind(Some(self.kind))?;
        let (name, args) = json_event(self.data, text, attachments)?;
        Ok(Event::new(namespace.clone(), name, args))
    }
}

/// Splits `[name, ...args]`, a part of `text`.
pub(super) fn json_event(
    data: &RawValue,
    text: &ByteString,
    attachments: &[Bytes],
) -> Result<(ByteString, Args), DecodeError> {
    let list = data.get().strip_prefix('[').and_then(|list| list.strip_suffix(']'));
    let list = list.ok_or(DecodeError::Field("event"))?;
    check_depth(list)?;
    let all = checked(text.slice_ref(list), attachments.to_vec())?;
    let mut reader = ArgsReader::new(&all);
    let name = match reader.next::<serde_json::Value>() {
        Ok(serde_json::Value::String(name)) => name.into(),
        Ok(serde_json::Value::Number(number)) => number.to_string().into(),
        _ => return Err(DecodeError::Field("event name")),
    };
    Ok((name, reader.take_rest()))
}
