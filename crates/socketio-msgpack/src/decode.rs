//! MessagePack to packets.

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{AckId, Args};
use roomcast_msgpack::{Extensions, JsonLimits, JsonWriter, ReadError, Reader, Value};
use roomcast_socketio::{Body, DecodeError, Packet, PacketLimits, is_reserved};

/// Decodes a packet.
///
/// Time and memory are linear in the message, regardless of the lengths that it declares.
pub(crate) fn packet(message: &Bytes, limits: &PacketLimits) -> Result<Packet, DecodeError> {
    read(message, limits).map_err(|refused| refused.0)
}

fn read(message: &Bytes, limits: &PacketLimits) -> Result<Packet, Refused> {
    let mut reader = Reader::new(message);
    let Head { kind, namespace, id, data } = Head::read(&mut reader, limits)?;
    if !reader.is_at_end() {
        return Err(Refused(DecodeError::Payload));
    }
    let mut data = data.ok_or(DecodeError::Payload);
    let body = match kind {
        0 => Body::Connect {
            auth: data.map_or_else(|_| Ok(ByteString::new()), |mut data| auth(&mut data, limits))?,
        },
        1 if data.is_err() => Body::Disconnect,
        2 => {
            let (name, args) = event(data.as_mut().map_err(|error| error.clone())?, limits)?;
            Body::Event { name, args, ack: id }
        }
        3 => {
            let args = list(data.as_mut().map_err(|error| error.clone())?, limits)?;
            Body::Ack { id: id.ok_or(DecodeError::AckId)?, args }
        }
        4 => Body::ConnectError,
        1 => return Err(Refused(DecodeError::Payload)),
        _ => return Err(Refused(DecodeError::Type)),
    };
    Ok(Packet { namespace, body })
}

/// Error of a packet; errors of the MessagePack reader convert to it.
struct Refused(DecodeError);

impl From<DecodeError> for Refused {
    fn from(error: DecodeError) -> Self {
        Self(error)
    }
}

impl From<ReadError> for Refused {
    fn from(error: ReadError) -> Self {
        Self(match error {
            ReadError::TooLarge { limit } => DecodeError::TooLarge { limit },
            ReadError::TooManyAttachments { limit } => DecodeError::TooManyAttachments { limit },
            _ => DecodeError::Payload,
        })
    }
}

/// Packet fields other than the data; unknown keys are ignored.
struct Head<'m> {
    kind: u64,
    namespace: ByteString,
    id: Option<AckId>,
    /// Reader at the data, if any.
    data: Option<Reader<'m>>,
}

impl<'m> Head<'m> {
    fn read(reader: &mut Reader<'m>, limits: &PacketLimits) -> Result<Self, Refused> {
        let len = reader.map()?;
        let (mut kind, mut namespace, mut id, mut data) = (None, None, None, None);
        for _ in 0..len {
            let Value::Text(key) = reader.value()? else { return Err(Refused(DecodeError::Payload)) };
            let at = reader.clone();
            match (key, reader.value()?) {
                (b"type", Value::Unsigned(number)) => kind = Some(number),
                (b"type", _) => return Err(Refused(DecodeError::Type)),
                (b"nsp", Value::Text(name)) => {
                    let name = String::from_utf8_lossy(name);
                    if name.len() > limits.namespace_bytes {
                        return Err(Refused(DecodeError::NamespaceTooLong { limit: limits.namespace_bytes }));
                    }
                    namespace = Some(name.into_owned().into());
                }
                (b"nsp", _) => return Err(Refused(DecodeError::Payload)),
                (b"id", Value::Unsigned(number)) => id = Some(AckId(number)),
                (b"id", Value::Nil | Value::Undefined) => id = None,
                (b"id", _) => return Err(Refused(DecodeError::AckId)),
                // Both dialects' encoding of absent data.
                (b"data", Value::Nil | Value::Undefined) => data = None,
                (b"data", value) => {
                    data = Some(at);
                    reader.skip(&value)?;
                }
                (_, value) => reader.skip(&value)?,
            }
        }
        let kind = kind.ok_or(DecodeError::Type)?;
        Ok(Self { kind, namespace: namespace.ok_or(DecodeError::Payload)?, id, data })
    }
}

/// Decodes the data of a CONNECT: an object.
fn auth(data: &mut Reader<'_>, limits: &PacketLimits) -> Result<ByteString, Refused> {
    let mut json = json(limits);
    match data.value()? {
        map @ Value::Map(_) => json.value(data, map)?,
        _ => return Err(Refused(DecodeError::Payload)),
    }
    Ok(json.finish()?.0)
}

/// Decodes the data of an event: its name and arguments.
fn event(data: &mut Reader<'_>, limits: &PacketLimits) -> Result<(ByteString, Args), Refused> {
    let len @ 1.. = data.array()? else { return Err(Refused(DecodeError::Payload)) };
    let name: ByteString = match data.value()? {
        Value::Text(name) => String::from_utf8_lossy(name).into_owned().into(),
        Value::Unsigned(number) => number.to_string().into(),
        Value::Signed(number) => number.to_string().into(),
        _ => return Err(Refused(DecodeError::Payload)),
    };
    if is_reserved(&name) {
        return Err(Refused(DecodeError::Reserved));
    }
    Ok((name, args(data, len - 1, limits)?))
}

/// Decodes the data of an acknowledgement.
fn list(data: &mut Reader<'_>, limits: &PacketLimits) -> Result<Args, Refused> {
    let len = data.array()?;
    args(data, len, limits)
}

fn args(data: &mut Reader<'_>, len: u32, limits: &PacketLimits) -> Result<Args, Refused> {
    let mut json = json(limits);
    json.values(data, len)?;
    let (text, attachments) = json.finish()?;
    let args = Args::from_validated(text, attachments);
    // A client's own object may look like a placeholder.
    args.check_placeholders().map_err(DecodeError::Placeholders)?;
    Ok(args)
}

fn json(limits: &PacketLimits) -> JsonWriter {
    JsonWriter::new(JsonLimits {
        bytes: limits.packet_bytes,
        attachments: limits.attachments,
        extensions: Extensions::Pairs,
    })
}
