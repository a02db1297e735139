//! Fields of all bodies.

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_cluster::DecodeError;
use roomcast_cluster::wire::{FieldReader, FieldWriter, Value};
use roomcast_core::{Args, Delivery, Namespace, Overflow, Room, SocketId, Target};

use super::error::BodyError;

/// Decoded fields of a body of any kind.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) name: Option<ByteString>,
    json: Option<ByteString>,
    text: Option<ByteString>,
    attachments: Vec<Bytes>,
    pub(super) flags: u64,
    pub(super) key: Option<ByteString>,
    pub(super) offset: Option<ByteString>,
    delivery: u64,
    overflow: u64,
    namespace: Option<ByteString>,
    pub(super) rooms: Vec<Room>,
    pub(super) except: Vec<Room>,
    pub(super) number: Option<u64>,
    pub(super) socket: Option<ByteString>,
    pub(super) handshake: Option<ByteString>,
    pub(super) data: Option<ByteString>,
    pub(super) items: Vec<Bytes>,
}

impl Fields {
    /// Decodes a body.
    pub(super) fn decode(body: Bytes) -> Result<Self, BodyError> {
        let version = *body.first().ok_or(DecodeError::Truncated)?;
        if version != VERSION {
            return Err(DecodeError::Version(version).into());
        }
        // Slices of a small body must not keep the message of the engine, a batch of others, in memory.
        let body = if body.len() < SHARED_MIN { Bytes::copy_from_slice(&body) } else { body };
        Self::decode_nested(body.slice(1..), &mut 0)
    }

    /// Decodes the fields of an item within a body; `items` is the number of items in the whole body so far.
    pub(super) fn decode_nested(fields: Bytes, items: &mut usize) -> Result<Self, BodyError> {
        let mut decoded = Self::default();
        let mut reader = FieldReader::new(fields);
        while let Some((field, value)) = reader.next_field()? {
            if matches!(field, ATTACHMENT | ROOM | EXCEPT | ITEM) {
                *items += 1;
                if *items > MAX_ITEMS {
                    return Err(BodyError::TooManyItems);
                }
            }
            match field {
                NAME => decoded.name = Some(text(value)?),
                JSON => decoded.json = Some(text(value)?),
                TEXT => decoded.text = Some(text(value)?),
                ATTACHMENT => decoded.attachments.push(value.bytes()?),
                FLAGS => decoded.flags = value.number()?,
                KEY => decoded.key = Some(text(value)?),
                OFFSET => decoded.offset = Some(text(value)?),
                DELIVERY => decoded.delivery = value.number()?,
                OVERFLOW => decoded.overflow = value.number()?,
                NAMESPACE => decoded.namespace = Some(text(value)?),
                ROOM => decoded.rooms.push(Room::from(&*text(value)?)),
                EXCEPT => decoded.except.push(Room::from(&*text(value)?)),
                NUMBER => decoded.number = Some(value.number()?),
                SOCKET => decoded.socket = Some(text(value)?),
                HANDSHAKE => decoded.handshake = Some(text(value)?),
                DATA => decoded.data = Some(text(value)?),
                ITEM => decoded.items.push(value.bytes()?),
                // Added by a later version.
                _ => {}
            }
        }
        Ok(decoded)
    }

    /// Returns the arguments, after a check of their text.
    pub(super) fn args(&mut self) -> Result<Args, BodyError> {
        let attachments = std::mem::take(&mut self.attachments);
        if let Some(text) = self.text.take() {
            return Ok(Args::from_text(text));
        }
        let args = Args::from_json(self.json.take().unwrap_or_default(), attachments)?;
        args.check_placeholders()?;
        Ok(args)
    }

    pub(super) fn namespace(&self) -> Result<Namespace, BodyError> {
        let name = self.namespace.as_ref().ok_or(DecodeError::Missing("namespace"))?;
        Ok(Namespace::from(&**name))
    }

    pub(super) fn socket(&self) -> Option<SocketId> {
        self.socket.as_ref().map(|id| SocketId::from(&**id))
    }

    /// Returns the delivery guarantee; unknown ones of later versions are reliable.
    pub(super) fn delivery(&self) -> Delivery {
        match self.delivery {
            1 => Delivery::Volatile,
            2 => Delivery::Protocol,
            _ => Delivery::Reliable,
        }
    }

    /// Returns the overflow policy; unknown ones of later versions are inherited.
    pub(super) fn overflow(&self) -> Overflow {
        match self.overflow {
            1 => Overflow::Close,
            2 => Overflow::DropNewest,
            3 => Overflow::DropOldest,
            4 => Overflow::KeepLatest,
            _ => Overflow::Inherit,
        }
    }
}

fn text(value: Value) -> Result<ByteString, BodyError> {
    ByteString::try_from(value.bytes()?).map_err(|_| DecodeError::NotText.into())
}

/// Begins a body.
pub(super) fn begin(capacity: usize) -> FieldWriter {
    let mut out = FieldWriter::with_capacity(capacity + 1);
    out.raw(&[VERSION]);
    out
}

pub(super) fn write_args(out: &mut FieldWriter, args: &Args) {
    if let Some(text) = args.as_text() {
        out.bytes(TEXT, text.as_bytes());
    } else if !args.is_empty() {
        out.bytes(JSON, args.json().as_bytes());
    }
    args.attachments().iter().for_each(|attachment| out.bytes(ATTACHMENT, attachment));
}

/// Returns the bytes that arguments take in a body, at most.
pub(super) fn args_len(args: &Args) -> usize {
    args.byte_len() + (args.attachments().len() + 1) * MAX_FIELD
}

pub(super) fn write_policies(out: &mut FieldWriter, target: &Target) {
    let delivery = match target.delivery {
        Delivery::Reliable => 0,
        Delivery::Volatile => 1,
        Delivery::Protocol => 2,
    };
    let overflow = match target.overflow {
        Overflow::Inherit => 0,
        Overflow::Close => 1,
        Overflow::DropNewest => 2,
        Overflow::DropOldest => 3,
        Overflow::KeepLatest => 4,
    };
    for (field, number) in [(DELIVERY, delivery), (OVERFLOW, overflow)] {
        if number > 0 {
            out.number(field, number);
        }
    }
}

/// Version of the format.
pub(super) const VERSION: u8 = 1;

/// Bytes of a field's number and length, at most.
pub(super) const MAX_FIELD: usize = 12;
/// Length from which decoded parts share the memory of the message, which is at most 256 KiB by default.
const SHARED_MIN: usize = 16 << 10;
/// Maximum number of rooms, attachments and sockets in a body together.
pub(super) const MAX_ITEMS: usize = 1 << 18;

/// Flag: transports should not compress the event.
pub(super) const UNCOMPRESSED: u64 = 1;
/// Flag: rooms are left, not joined.
pub(super) const LEAVE: u64 = 2;
/// Flag: the clients' connections are closed.
pub(super) const CLOSE: u64 = 4;
/// Flag: the socket will not answer.
pub(super) const UNANSWERED: u64 = 8;

// Fields. A number is never reused for another meaning or type.
pub(super) const NAME: u64 = 1;
const JSON: u64 = 2;
const TEXT: u64 = 3;
const ATTACHMENT: u64 = 4;
pub(super) const FLAGS: u64 = 5;
pub(super) const KEY: u64 = 6;
pub(super) const OFFSET: u64 = 7;
const DELIVERY: u64 = 8;
const OVERFLOW: u64 = 9;
pub(super) const NAMESPACE: u64 = 10;
pub(super) const ROOM: u64 = 11;
pub(super) const EXCEPT: u64 = 12;
pub(super) const NUMBER: u64 = 13;
pub(super) const SOCKET: u64 = 14;
pub(super) const HANDSHAKE: u64 = 15;
pub(super) const DATA: u64 = 16;
pub(super) const ITEM: u64 = 17;
