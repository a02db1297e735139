//! Decodes packet text in one pass; the results are slices of it.

use bytestring::ByteString;
use roomcast_core::{AckId, Args, replace_lone_surrogates};
use serde::de::IgnoredAny;

use super::{Body, DecodeError, Packet, PacketLimits, is_reserved};

/// Decodes packet text, the text from `at` on; also returns the number of attachments that must follow.
pub(super) fn decode(
    text: &ByteString,
    at: usize,
    limits: &PacketLimits,
) -> Result<(Packet, usize), DecodeError> {
    let mut cursor = Cursor { text, at };
    let kind = Kind::read(&mut cursor)?;
    let attachments = if kind.is_binary() { cursor.attachment_count(limits)? } else { 0 };
    let namespace = cursor.namespace(limits)?;
    let id = cursor.number().map_err(|Overflow| DecodeError::AckId)?.map(AckId);
    let payload = cursor.rest();
    let body = match kind {
        Kind::Connect => {
            let auth = text.slice_ref(optional_object(payload)?);
            Body::Connect { auth: replace_lone_surrogates(auth) }
        }
        Kind::Disconnect if payload.is_empty() => Body::Disconnect,
        Kind::Disconnect => return Err(DecodeError::Payload),
        Kind::Event | Kind::BinaryEvent => {
            let (name, args) = event(text, payload)?;
            Body::Event { name, args, ack: id }
        }
        Kind::Ack | Kind::BinaryAck => {
            let args = list(text, elements(payload)?)?;
            Body::Ack { id: id.ok_or(DecodeError::AckId)?, args }
        }
        Kind::ConnectError => Body::ConnectError,
    };
    Ok((Packet { namespace, body }, attachments))
}

#[derive(Clone, Copy)]
enum Kind {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
    BinaryEvent,
    BinaryAck,
}

impl Kind {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let kind = match cursor.peek() {
            Some(b'0') => Self::Connect,
            Some(b'1') => Self::Disconnect,
            Some(b'2') => Self::Event,
            Some(b'3') => Self::Ack,
            Some(b'4') => Self::ConnectError,
            Some(b'5') => Self::BinaryEvent,
            Some(b'6') => Self::BinaryAck,
            _ => return Err(DecodeError::Type),
        };
        cursor.at += 1;
        Ok(kind)
    }

    fn is_binary(self) -> bool {
        matches!(self, Self::BinaryEvent | Self::BinaryAck)
    }
}

/// Cursor in a text, always at a character boundary: only ASCII is skipped bytewise.
struct Cursor<'t> {
    text: &'t ByteString,
    at: usize,
}

struct Overflow;

impl<'t> Cursor<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Reads decimal digits, if any.
    fn number(&mut self) -> Result<Option<u64>, Overflow> {
        let mut number = None;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            let shifted = number.unwrap_or(0_u64).checked_mul(10).ok_or(Overflow)?;
            number = Some(shifted.checked_add(u64::from(digit - b'0')).ok_or(Overflow)?);
            self.at += 1;
        }
        Ok(number)
    }

    fn attachment_count(&mut self, limits: &PacketLimits) -> Result<usize, DecodeError> {
        let too_many = DecodeError::TooManyAttachments { limit: limits.attachments };
        let count = match self.number() {
            Ok(Some(0) | None) => return Err(DecodeError::AttachmentCount),
            Ok(Some(count)) => usize::try_from(count).ok().filter(|count| *count <= limits.attachments),
            Err(Overflow) => None,
        };
        let count = count.ok_or(too_many)?;
        if self.peek() != Some(b'-') {
            return Err(DecodeError::AttachmentCount);
        }
        self.at += 1;
        Ok(count)
    }

    fn namespace(&mut self, limits: &PacketLimits) -> Result<ByteString, DecodeError> {
        if self.peek() != Some(b'/') {
            return Ok(ByteString::from_static("/"));
        }
        let rest = self.rest();
        let (name, comma) = rest.split_once(',').map_or((rest, 0), |(name, _)| (name, 1));
        if name.len() > limits.namespace_bytes {
            return Err(DecodeError::NamespaceTooLong { limit: limits.namespace_bytes });
        }
        self.at += name.len() + comma;
        Ok(self.text.slice_ref(name))
    }
}

/// Checks the payload of a CONNECT: absent or an object.
fn optional_object(payload: &str) -> Result<&str, DecodeError> {
    if payload.is_empty() {
        return Ok(payload);
    }
    let json = trim(payload);
    if !json.starts_with('{') || serde_json::from_str::<IgnoredAny>(json).is_err() {
        return Err(DecodeError::Payload);
    }
    Ok(json)
}

/// Extracts the name and the arguments from the payload of an event.
fn event(text: &ByteString, payload: &str) -> Result<(ByteString, Args), DecodeError> {
    let elements = elements(payload)?;
    let (name, rest) = if elements.starts_with('"') { string(elements)? } else { number(elements)? };
    let name = match name {
        Name::AsWritten(name) => text.slice_ref(name),
        Name::Unescaped(name) => name.into(),
    };
    if is_reserved(&name) {
        return Err(DecodeError::Reserved);
    }
    let args = match rest.strip_prefix(',') {
        // A comma must be followed by a value.
        Some(args) if !trim(args).is_empty() => list(text, args)?,
        None if rest.is_empty() => Args::empty(),
        _ => return Err(DecodeError::Payload),
    };
    Ok((name, args))
}

enum Name<'t> {
    AsWritten(&'t str),
    Unescaped(String),
}

/// Splits a text after its leading JSON string.
fn string(text: &str) -> Result<(Name<'_>, &str), DecodeError> {
    let mut escaped = false;
    let mut at = 1;
    let end = loop {
        match text.as_bytes().get(at) {
            Some(b'"') => break at,
            Some(b'\\') => {
                escaped = true;
                at += 2;
            }
            Some(0x20..) => at += 1,
            // Unterminated, or with a control character, which JSON allows only escaped.
            Some(_) | None => return Err(DecodeError::Payload),
        }
    };
    let quoted = text.get(..=end).ok_or(DecodeError::Payload)?;
    let name = if escaped {
        let quoted = replace_lone_surrogates(quoted.into());
        Name::Unescaped(serde_json::from_str(&quoted).map_err(|_| DecodeError::Payload)?)
    } else {
        Name::AsWritten(&quoted[1..end])
    };
    Ok((name, trim(text.get(end + 1..).unwrap_or_default())))
}

/// Splits a text after its leading integer.
///
/// Other numbers are rejected, though Node accepts them: their text is not unique.
fn number(text: &str) -> Result<(Name<'_>, &str), DecodeError> {
    let (number, rest) = text.split_at(text.find(',').unwrap_or(text.len()));
    let number = trim(number);
    serde_json::from_str::<i64>(number).map_err(|_| DecodeError::Payload)?;
    Ok((Name::AsWritten(number), rest))
}

/// Returns the text between the brackets of an array.
fn elements(payload: &str) -> Result<&str, DecodeError> {
    let inside = trim(payload).strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    Ok(trim(inside.ok_or(DecodeError::Payload)?))
}

fn list(text: &ByteString, elements: &str) -> Result<Args, DecodeError> {
    Args::from_json(text.slice_ref(elements), Vec::new()).map_err(|_| DecodeError::Payload)
}

/// Trims JSON white space from both ends; Unicode has more.
#[inline]
fn trim(text: &str) -> &str {
    // Fast path: clients write no white space.
    match text.as_bytes() {
        [first, .., last] if *first > b' ' && *last > b' ' => text,
        _ => text.trim_matches([' ', '\t', '\n', '\r']),
    }
}
