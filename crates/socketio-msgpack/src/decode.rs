//! MessagePack to JSON text with separate binary parts, in one pass.

use std::io::Write;

use bytes::Bytes;
use bytestring::ByteString;
use rmp::Marker;
use roomcast_core::{AckId, Args};
use roomcast_socketio::{Body, DecodeError, Packet, PacketLimits, is_reserved};

use crate::date;

/// Decodes a packet.
///
/// Time and memory are linear in the message, regardless of the lengths that it declares.
pub(crate) fn packet(message: &Bytes, limits: &PacketLimits) -> Result<Packet, DecodeError> {
    let mut cursor = Cursor { message, at: 0 };
    let Head { kind, namespace, id, data } = Head::read(&mut cursor, limits)?;
    if cursor.at != message.len() {
        return Err(DecodeError::Payload);
    }
    let mut data = data.map(|at| Cursor { message, at });
    let body = match kind {
        0 => Body::Connect {
            auth: data.map_or_else(|| Ok(ByteString::new()), |mut data| auth(&mut data, limits))?,
        },
        1 if data.is_none() => Body::Disconnect,
        2 => {
            let (name, args) = event(data.as_mut().ok_or(DecodeError::Payload)?, limits)?;
            Body::Event { name, args, ack: id }
        }
        3 => {
            let data = data.as_mut().ok_or(DecodeError::Payload)?;
            let args = list(data, limits)?;
            Body::Ack { id: id.ok_or(DecodeError::AckId)?, args }
        }
        4 => Body::ConnectError,
        1 => return Err(DecodeError::Payload),
        _ => return Err(DecodeError::Type),
    };
    Ok(Packet { namespace, body })
}

/// Packet fields other than the data; unknown keys are ignored.
struct Head {
    kind: u64,
    namespace: ByteString,
    id: Option<AckId>,
    /// Position of the data, if any.
    data: Option<usize>,
}

impl Head {
    fn read(cursor: &mut Cursor<'_>, limits: &PacketLimits) -> Result<Self, DecodeError> {
        let Value::Map(len) = cursor.value()? else { return Err(DecodeError::Payload) };
        let (mut kind, mut namespace, mut id, mut data) = (None, None, None, None);
        for _ in 0..len {
            let Value::Text(key) = cursor.value()? else { return Err(DecodeError::Payload) };
            let at = cursor.at;
            match (key, cursor.value()?) {
                (b"type", Value::Unsigned(number)) => kind = Some(number),
                (b"type", _) => return Err(DecodeError::Type),
                (b"nsp", Value::Text(name)) => {
                    let name = String::from_utf8_lossy(name);
                    if name.len() > limits.namespace_bytes {
                        return Err(DecodeError::NamespaceTooLong { limit: limits.namespace_bytes });
                    }
                    namespace = Some(name.into_owned().into());
                }
                (b"nsp", _) => return Err(DecodeError::Payload),
                (b"id", Value::Unsigned(number)) => id = Some(AckId(number)),
                (b"id", Value::Nil | Value::Undefined) => id = None,
                (b"id", _) => return Err(DecodeError::AckId),
                // Both dialects' encoding of absent data.
                (b"data", Value::Nil | Value::Undefined) => data = None,
                (b"data", value) => {
                    data = Some(at);
                    cursor.skip(&value)?;
                }
                (_, value) => cursor.skip(&value)?,
            }
        }
        let kind = kind.ok_or(DecodeError::Type)?;
        Ok(Self { kind, namespace: namespace.ok_or(DecodeError::Payload)?, id, data })
    }
}

/// Decodes the data of a CONNECT: an object.
fn auth(data: &mut Cursor<'_>, limits: &PacketLimits) -> Result<ByteString, DecodeError> {
    let mut json = Json::new(limits);
    match data.value()? {
        map @ Value::Map(_) => json.push(data, map, 0)?,
        _ => return Err(DecodeError::Payload),
    }
    text(json.text)
}

/// Decodes the data of an event: its name and arguments.
fn event(data: &mut Cursor<'_>, limits: &PacketLimits) -> Result<(ByteString, Args), DecodeError> {
    let len @ 1.. = data.array()? else { return Err(DecodeError::Payload) };
    let name: ByteString = match data.value()? {
        Value::Text(name) => String::from_utf8_lossy(name).into_owned().into(),
        Value::Unsigned(number) => number.to_string().into(),
        Value::Signed(number) => number.to_string().into(),
        _ => return Err(DecodeError::Payload),
    };
    if is_reserved(&name) {
        return Err(DecodeError::Reserved);
    }
    Ok((name, args(data, len - 1, limits)?))
}

/// Decodes the data of an acknowledgement.
fn list(data: &mut Cursor<'_>, limits: &PacketLimits) -> Result<Args, DecodeError> {
    let len = data.array()?;
    args(data, len, limits)
}

fn args(data: &mut Cursor<'_>, len: u32, limits: &PacketLimits) -> Result<Args, DecodeError> {
    let mut json = Json::new(limits);
    json.push_all(data, len, 0)?;
    let args = Args::from_validated(text(json.text)?, json.attachments);
    // A client's own object may look like a placeholder.
    args.check_placeholders().map_err(DecodeError::Placeholders)?;
    Ok(args)
}

/// JSON writer.
struct Json<'l> {
    text: Vec<u8>,
    attachments: Vec<Bytes>,
    attached: usize,
    limits: &'l PacketLimits,
}

/// Maximum nesting of arrays and objects in an argument: the limit of serde_json.
const MAX_DEPTH: usize = 127;

impl<'l> Json<'l> {
    fn new(limits: &'l PacketLimits) -> Self {
        Self { text: Vec::new(), attachments: Vec::new(), attached: 0, limits }
    }

    fn push(&mut self, cursor: &mut Cursor<'_>, value: Value<'_>, depth: usize) -> Result<(), DecodeError> {
        match value {
            Value::Nil | Value::Undefined => self.text.extend_from_slice(b"null"),
            Value::Bool(value) => self.text.extend_from_slice(if value { b"true" } else { b"false" }),
            Value::Unsigned(number) => self.number(number),
            Value::Signed(number) => self.number(number),
            Value::Float(number) => self.json(&number),
            Value::Text(text) => self.json(&*String::from_utf8_lossy(text)),
            Value::Binary(part) => self.attach(cursor, part)?,
            Value::Date(milliseconds) => match date::iso(milliseconds) {
                Some(date) => self.json(&date),
                None => self.text.extend_from_slice(b"null"),
            },
            Value::Extension(kind, part) => {
                self.text.push(b'[');
                self.number(kind);
                self.text.push(b',');
                self.attach(cursor, part)?;
                self.text.push(b']');
            }
            Value::Array(_) | Value::Map(_) if depth >= MAX_DEPTH => return Err(DecodeError::Payload),
            Value::Array(len) => {
                self.text.push(b'[');
                self.push_all(cursor, len, depth + 1)?;
                self.text.push(b']');
            }
            Value::Map(len) => {
                self.text.push(b'{');
                self.push_entries(cursor, len, depth + 1)?;
                self.text.push(b'}');
            }
        }
        self.check()
    }

    fn push_all(&mut self, cursor: &mut Cursor<'_>, len: u32, depth: usize) -> Result<(), DecodeError> {
        for index in 0..len {
            if index > 0 {
                self.text.push(b',');
            }
            let value = cursor.value()?;
            self.push(cursor, value, depth)?;
        }
        Ok(())
    }

    fn push_entries(&mut self, cursor: &mut Cursor<'_>, len: u32, depth: usize) -> Result<(), DecodeError> {
        let mut is_first = true;
        for _ in 0..len {
            let Value::Text(key) = cursor.value()? else { return Err(DecodeError::Payload) };
            let value = cursor.value()?;
            if let Value::Undefined = value {
                continue;
            }
            if !is_first {
                self.text.push(b',');
            }
            is_first = false;
            self.json(&*String::from_utf8_lossy(key));
            self.text.push(b':');
            self.push(cursor, value, depth)?;
        }
        Ok(())
    }

    fn attach(&mut self, cursor: &Cursor<'_>, part: &[u8]) -> Result<(), DecodeError> {
        let limit = self.limits.attachments;
        if self.attachments.len() >= limit {
            return Err(DecodeError::TooManyAttachments { limit });
        }
        // Writes to a `Vec` cannot fail.
        let _ = write!(self.text, r#"{{"_placeholder":true,"num":{}}}"#, self.attachments.len());
        self.attached += part.len();
        self.attachments.push(cursor.message.slice_ref(part));
        Ok(())
    }

    fn number(&mut self, number: impl std::fmt::Display) {
        let _ = write!(self.text, "{number}");
    }

    /// Writes a text or a number like serde_json: NaN and infinities become `null`.
    fn json<T: serde::Serialize + ?Sized>(&mut self, value: &T) {
        // Neither can fail.
        let _ = serde_json::to_writer(&mut self.text, value);
    }

    fn check(&self) -> Result<(), DecodeError> {
        let limit = self.limits.packet_bytes;
        // A few message bytes may expand to several text bytes.
        if self.text.len().saturating_add(self.attached) > limit {
            Err(DecodeError::TooLarge { limit })
        } else {
            Ok(())
        }
    }
}

/// A value, or the header of a container.
enum Value<'m> {
    Nil,
    /// JavaScript's `undefined` as encoded by notepack 2.
    Undefined,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'m [u8]),
    Binary(&'m [u8]),
    /// Milliseconds since 1970.
    Date(i64),
    Extension(i8, &'m [u8]),
    Array(u32),
    Map(u32),
}

/// Cursor in a message.
struct Cursor<'m> {
    message: &'m Bytes,
    at: usize,
}

impl<'m> Cursor<'m> {
    fn value(&mut self) -> Result<Value<'m>, DecodeError> {
        let [marker] = self.take()?;
        Ok(match Marker::from_u8(marker) {
            Marker::Null => Value::Nil,
            Marker::True => Value::Bool(true),
            Marker::False => Value::Bool(false),
            Marker::FixPos(number) => Value::Unsigned(number.into()),
            Marker::U8 => Value::Unsigned(u8::from_be_bytes(self.take()?).into()),
            Marker::U16 => Value::Unsigned(u16::from_be_bytes(self.take()?).into()),
            Marker::U32 => Value::Unsigned(u32::from_be_bytes(self.take()?).into()),
            Marker::U64 => Value::Unsigned(u64::from_be_bytes(self.take()?)),
            Marker::FixNeg(number) => Value::Signed(number.into()),
            Marker::I8 => signed(i8::from_be_bytes(self.take()?).into()),
            Marker::I16 => signed(i16::from_be_bytes(self.take()?).into()),
            Marker::I32 => signed(i32::from_be_bytes(self.take()?).into()),
            Marker::I64 => signed(i64::from_be_bytes(self.take()?)),
            Marker::F32 => Value::Float(f32::from_be_bytes(self.take()?).into()),
            Marker::F64 => Value::Float(f64::from_be_bytes(self.take()?)),
            Marker::FixStr(len) => Value::Text(self.bytes(len.into())?),
            Marker::Str8 | Marker::Bin8 | Marker::Ext8 => {
                let len = u8::from_be_bytes(self.take()?);
                self.sized(marker, len.into())?
            }
            Marker::Str16 | Marker::Bin16 | Marker::Ext16 => {
                let len = u16::from_be_bytes(self.take()?);
                self.sized(marker, len.into())?
            }
            Marker::Str32 | Marker::Bin32 | Marker::Ext32 => {
                let len = u32::from_be_bytes(self.take()?);
                self.sized(marker, len)?
            }
            Marker::FixExt1 => self.extension(1, true)?,
            Marker::FixExt2 => self.extension(2, true)?,
            Marker::FixExt4 => self.extension(4, true)?,
            Marker::FixExt8 => self.extension(8, true)?,
            Marker::FixExt16 => self.extension(16, true)?,
            Marker::FixArray(len) => Value::Array(len.into()),
            Marker::Array16 => Value::Array(u16::from_be_bytes(self.take()?).into()),
            Marker::Array32 => Value::Array(u32::from_be_bytes(self.take()?)),
            Marker::FixMap(len) => Value::Map(len.into()),
            Marker::Map16 => Value::Map(u16::from_be_bytes(self.take()?).into()),
            Marker::Map32 => Value::Map(u32::from_be_bytes(self.take()?)),
            Marker::Reserved => return Err(DecodeError::Payload),
        })
    }

    /// Reads the length of an array at the cursor.
    fn array(&mut self) -> Result<u32, DecodeError> {
        match self.value()? {
            Value::Array(len) => Ok(len),
            _ => Err(DecodeError::Payload),
        }
    }

    /// Skips the contents of a value at any nesting.
    fn skip(&mut self, value: &Value<'_>) -> Result<(), DecodeError> {
        let inside = |value: &Value<'_>| match value {
            Value::Array(len) => u64::from(*len),
            Value::Map(len) => 2 * u64::from(*len),
            _ => 0,
        };
        let mut left = inside(value);
        while left > 0 {
            // Each takes at least one byte, so this cannot overflow before the message ends.
            left = (left - 1).saturating_add(inside(&self.value()?));
        }
        Ok(())
    }

    fn sized(&mut self, marker: u8, len: u32) -> Result<Value<'m>, DecodeError> {
        Ok(match Marker::from_u8(marker) {
            Marker::Str8 | Marker::Str16 | Marker::Str32 => Value::Text(self.bytes(len)?),
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => Value::Binary(self.bytes(len)?),
            _ => self.extension(len, false)?,
        })
    }

    fn extension(&mut self, len: u32, is_fixed: bool) -> Result<Value<'m>, DecodeError> {
        let kind = i8::from_be_bytes(self.take()?);
        let part = self.bytes(len)?;
        Ok(match (kind, part) {
            (0, [_]) if is_fixed => Value::Undefined,
            (0, part) if is_fixed && let Some(number) = fixed(part) => {
                Value::Date(i64::from_be_bytes(number))
            }
            (0, part) if !is_fixed => Value::Binary(part),
            (TIMESTAMP, part) if let Some(milliseconds) = timestamp(part) => Value::Date(milliseconds),
            _ => Value::Extension(kind, part),
        })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.message.get(self.at..).and_then(|rest| rest.first_chunk());
        self.at += N;
        bytes.copied().ok_or(DecodeError::Payload)
    }

    fn bytes(&mut self, len: u32) -> Result<&'m [u8], DecodeError> {
        let len = usize::try_from(len).map_err(|_| DecodeError::Payload)?;
        let end = self.at.checked_add(len).ok_or(DecodeError::Payload)?;
        let bytes = self.message.get(self.at..end).ok_or(DecodeError::Payload)?;
        self.at = end;
        Ok(bytes)
    }
}

/// Timestamp extension of the MessagePack specification.
const TIMESTAMP: i8 = -1;

/// Normalizes numbers: non-negative ones are unsigned.
fn signed(number: i64) -> Value<'static> {
    u64::try_from(number).map_or(Value::Signed(number), Value::Unsigned)
}

fn fixed<const N: usize>(part: &[u8]) -> Option<[u8; N]> {
    part.try_into().ok()
}

/// Decodes a timestamp in any of its three forms to milliseconds since 1970.
fn timestamp(part: &[u8]) -> Option<i64> {
    let (seconds, nanoseconds) = match part.len() {
        4 => (i64::from(u32::from_be_bytes(fixed(part)?)), 0),
        8 => {
            let both = u64::from_be_bytes(fixed(part)?);
            (i64::try_from(both & 0x3_ffff_ffff).ok()?, both >> 34)
        }
        12 => {
            let (nanoseconds, seconds) = part.split_at(4);
            let nanoseconds = u32::from_be_bytes(fixed(nanoseconds)?);
            (i64::from_be_bytes(fixed(seconds)?), nanoseconds.into())
        }
        _ => return None,
    };
    let milliseconds = i64::try_from(nanoseconds / 1_000_000).ok()?;
    // Saturates: any value outside the date range is equivalent.
    Some(seconds.saturating_mul(1000).saturating_add(milliseconds))
}

/// Converts JSON written by this module to text.
fn text(json: Vec<u8>) -> Result<ByteString, DecodeError> {
    ByteString::try_from(json).map_err(|_| DecodeError::Payload)
}
