//! Fields of envelopes and bodies: numbers and byte strings, each behind its field number.

use bytes::{Buf as _, BufMut as _, Bytes};

use super::error::DecodeError;

/// Writer of fields to a buffer.
#[derive(Debug, Default)]
pub struct FieldWriter(Vec<u8>);

impl FieldWriter {
    /// Creates a writer whose buffer holds as many bytes before it grows.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Writes a number.
    pub fn number(&mut self, field: u64, number: u64) {
        self.varint(field << 1);
        self.varint(number);
    }

    /// Writes a byte string.
    pub fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.bytes_header(field, bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// Begins a byte string, whose content is written by the caller.
    pub fn bytes_header(&mut self, field: u64, len: usize) {
        self.varint(field << 1 | 1);
        self.varint(len as u64);
    }

    /// Writes bytes that are no field.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Writes a number that is no field.
    pub fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.put_u8(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.put_u8(number as u8);
    }

    /// Returns the number of bytes.
    #[allow(clippy::len_without_is_empty, reason = "a length to plan with")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the bytes.
    pub fn into_bytes(self) -> Bytes {
        self.0.into()
    }
}

/// Value of a field.
#[derive(Debug, Clone)]
#[allow(clippy::exhaustive_enums, reason = "the format has two types")]
pub enum Value {
    /// Number.
    Number(u64),
    /// Byte string.
    Bytes(Bytes),
}

impl Value {
    /// Returns the number.
    ///
    /// # Errors
    /// If it is a byte string.
    pub fn number(&self) -> Result<u64, DecodeError> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Bytes(_) => Err(DecodeError::WrongType),
        }
    }

    /// Returns the byte string.
    ///
    /// # Errors
    /// If it is a number.
    pub fn bytes(self) -> Result<Bytes, DecodeError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) => Err(DecodeError::WrongType),
        }
    }
}

/// Reader of fields; allocates nothing.
#[derive(Debug, Clone)]
pub struct FieldReader(Bytes);

impl FieldReader {
    /// Creates a reader.
    pub fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Returns the next field; `None` at the end.
    ///
    /// # Errors
    /// If the bytes end within a field, or a number exceeds its range.
    pub fn next_field(&mut self) -> Result<Option<(u64, Value)>, DecodeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = if key & 1 == 0 {
            Value::Number(self.varint()?)
        } else {
            let len = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)?;
            if len > self.0.len() {
                return Err(DecodeError::Truncated);
            }
            Value::Bytes(self.0.split_to(len))
        };
        Ok(Some((key >> 1, value)))
    }

    /// Returns whether all fields were read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads eight bytes, least significant first.
    ///
    /// # Errors
    /// If the bytes end.
    pub fn fixed(&mut self) -> Result<u64, DecodeError> {
        self.0.try_get_u64_le().map_err(|_| DecodeError::Truncated)
    }

    /// Reads a number that is no field.
    ///
    /// # Errors
    /// If the bytes end, or the number exceeds its range.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        // Nearly all numbers have one byte.
        match self.0.first() {
            Some(&byte) if byte < 0x80 => {
                self.0.advance(1);
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.0.try_get_u8().map_err(|_| DecodeError::Truncated)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Overflow);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(DecodeError::Overflow)
    }
}
