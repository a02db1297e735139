//! Reader of MessagePack.

use std::borrow::Cow;

use bytes::Bytes;
use rmp::Marker;

/// Reason why a message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It is not MessagePack, ends early, or has another structure than expected.
    #[error("malformed MessagePack")]
    Malformed,
    /// Arrays and objects are nested deeper than the 127 levels that serde_json reads.
    #[error("values are nested too deeply")]
    TooDeep,
    /// It has an unknown extension.
    #[error("unknown extension type")]
    Extension,
    /// Text and attachments exceed the limit.
    #[error("text and attachments exceed the limit of {limit} bytes")]
    TooLarge {
        /// Limit in bytes.
        limit: usize,
    },
    /// There are too many attachments.
    #[error("more than {limit} attachments")]
    TooManyAttachments {
        /// Limit.
        limit: usize,
    },
}

/// A value, or the header of a container.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(clippy::exhaustive_enums, reason = "decoders match every kind")]
pub enum Value<'m> {
    /// Nil.
    Nil,
    /// JavaScript's `undefined` as encoded by notepack 2.
    Undefined,
    /// Boolean.
    Bool(bool),
    /// Integer that is not negative.
    Unsigned(u64),
    /// Negative integer.
    Signed(i64),
    /// Floating-point number.
    Float(f64),
    /// String, which may not be UTF-8.
    Text(&'m [u8]),
    /// Bytes.
    Binary(&'m [u8]),
    /// Milliseconds since 1970.
    Date(i64),
    /// Other extension: its type and its bytes.
    Extension(i8, &'m [u8]),
    /// Array of this many values, which follow.
    Array(u32),
    /// Map of this many keys and values, which follow.
    Map(u32),
}

/// Reader of one message, value by value.
///
/// Time and memory are linear in the message, regardless of the lengths that it declares.
#[derive(Debug, Clone)]
pub struct Reader<'m> {
    message: &'m Bytes,
    at: usize,
}

impl<'m> Reader<'m> {
    /// Creates a reader at the start of a message.
    #[must_use]
    pub fn new(message: &'m Bytes) -> Self {
        Self { message, at: 0 }
    }

    /// Returns whether the message has been read to its end.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.at == self.message.len()
    }

    /// Returns the number of bytes that have not been read.
    #[must_use]
    pub fn left(&self) -> usize {
        self.message.len().saturating_sub(self.at)
    }

    /// Reads a value, or the header of a container.
    ///
    /// # Errors
    /// Returns an error if the message ends early.
    pub fn value(&mut self) -> Result<Value<'m>, ReadError> {
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
            Marker::Reserved => return Err(ReadError::Malformed),
        })
    }

    /// Reads the header of an array and returns its length.
    ///
    /// # Errors
    /// Returns an error if there is another value.
    pub fn array(&mut self) -> Result<u32, ReadError> {
        match self.value()? {
            Value::Array(len) => Ok(len),
            _ => Err(ReadError::Malformed),
        }
    }

    /// Reads the header of a map and returns its length.
    ///
    /// # Errors
    /// Returns an error if there is another value.
    pub fn map(&mut self) -> Result<u32, ReadError> {
        match self.value()? {
            Value::Map(len) => Ok(len),
            _ => Err(ReadError::Malformed),
        }
    }

    /// Reads a string; U+FFFD replaces bytes that are not UTF-8.
    ///
    /// # Errors
    /// Returns an error if there is another value.
    pub fn text(&mut self) -> Result<Cow<'m, str>, ReadError> {
        match self.value()? {
            // Faster than the lossy conversion, which is rarely needed.
            Value::Text(text) => {
                Ok(str::from_utf8(text).map_or_else(|_| String::from_utf8_lossy(text), Cow::from))
            }
            _ => Err(ReadError::Malformed),
        }
    }

    /// Returns the part of the message that holds these bytes, which must be from one of its values.
    #[must_use]
    pub fn share(&self, bytes: &[u8]) -> Bytes {
        self.message.slice_ref(bytes)
    }

    /// Skips the contents of a value at any nesting.
    ///
    /// # Errors
    /// Returns an error if the message ends early.
    pub fn skip(&mut self, value: &Value<'_>) -> Result<(), ReadError> {
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

    fn sized(&mut self, marker: u8, len: u32) -> Result<Value<'m>, ReadError> {
        Ok(match Marker::from_u8(marker) {
            Marker::Str8 | Marker::Str16 | Marker::Str32 => Value::Text(self.bytes(len)?),
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => Value::Binary(self.bytes(len)?),
            _ => self.extension(len, false)?,
        })
    }

    fn extension(&mut self, len: u32, is_fixed: bool) -> Result<Value<'m>, ReadError> {
        let kind = i8::from_be_bytes(self.take()?);
        let part = self.bytes(len)?;
        let known = match (kind, part) {
            (0, [_]) if is_fixed => Some(Value::Undefined),
            (0, part) if is_fixed => fixed(part).map(|number| Value::Date(i64::from_be_bytes(number))),
            (0, part) => Some(Value::Binary(part)),
            (TIMESTAMP, part) => timestamp(part).map(Value::Date),
            _ => None,
        };
        Ok(known.unwrap_or(Value::Extension(kind, part)))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let bytes = self.message.get(self.at..).and_then(|rest| rest.first_chunk());
        self.at += N;
        bytes.copied().ok_or(ReadError::Malformed)
    }

    fn bytes(&mut self, len: u32) -> Result<&'m [u8], ReadError> {
        let len = usize::try_from(len).map_err(|_| ReadError::Malformed)?;
        let end = self.at.checked_add(len).ok_or(ReadError::Malformed)?;
        let bytes = self.message.get(self.at..end).ok_or(ReadError::Malformed)?;
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
