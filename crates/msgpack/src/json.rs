//! MessagePack to JSON text with separate binary parts, in one pass.

use std::io::Write;

use bytes::Bytes;
use bytestring::ByteString;

use crate::date;
use crate::read::{ReadError, Reader, Value};

/// Limits of the JSON text that a message expands to.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::exhaustive_structs, reason = "decoders build it")]
pub struct JsonLimits {
    /// Maximum bytes of the text and the attachments together.
    pub bytes: usize,
    /// Maximum number of attachments.
    pub attachments: usize,
    /// Treatment of extensions that are neither a date, nor `undefined`, nor an `ArrayBuffer`.
    pub extensions: Extensions,
}

/// Treatment of unknown extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extensions {
    /// Each becomes a list of its type and its bytes, as in notepack.
    Pairs,
    /// The message is refused.
    Refused,
}

/// JSON text with binary attachments, built from the values of a message.
///
/// Attachments share the memory of the message; the text has Socket.IO's placeholders for them. The result may contain
/// an object of the sender that looks like a placeholder, so `Args::check_placeholders` is required before it is used
/// as arguments.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use roomcast_msgpack::{Extensions, JsonLimits, JsonWriter, Reader};
///
/// let message = Bytes::from_static(b"\x92\x01\xc4\x01b");
/// let mut reader = Reader::new(&message);
/// let len = reader.array()?;
/// let limits = JsonLimits { bytes: 1000, attachments: 10, extensions: Extensions::Refused };
/// let mut json = JsonWriter::new(limits);
/// json.values(&mut reader, len)?;
/// let (text, attachments) = json.finish()?;
/// assert_eq!(text, r#"1,{"_placeholder":true,"num":0}"#);
/// assert_eq!(attachments, ["b"]);
/// # Ok::<(), roomcast_msgpack::ReadError>(())
/// ```
#[derive(Debug)]
pub struct JsonWriter {
    text: Vec<u8>,
    attachments: Vec<Bytes>,
    attached: usize,
    limits: JsonLimits,
}

/// Maximum nesting of arrays and objects in an argument: the limit of serde_json.
const MAX_DEPTH: usize = 127;

/// Bytes of a text that are checked together.
const BLOCK: usize = 64;

impl JsonWriter {
    /// Creates an empty text.
    #[must_use]
    pub fn new(limits: JsonLimits) -> Self {
        Self { text: Vec::new(), attachments: Vec::new(), attached: 0, limits }
    }

    /// Creates an empty text with memory for a number of bytes, up to the limit.
    #[must_use]
    pub fn with_capacity(bytes: usize, limits: JsonLimits) -> Self {
        Self { text: Vec::with_capacity(bytes.min(limits.bytes)), ..Self::new(limits) }
    }

    /// Appends the next values of a message, separated by commas.
    ///
    /// # Errors
    /// Returns an error if they are malformed, nested too deeply, or exceed a limit.
    pub fn values(&mut self, reader: &mut Reader<'_>, len: u32) -> Result<(), ReadError> {
        self.push_all(reader, len, 0)
    }

    /// Appends a value whose header has been read.
    ///
    /// # Errors
    /// Returns an error if it is malformed, nested too deeply, or exceeds a limit.
    pub fn value(&mut self, reader: &mut Reader<'_>, value: Value<'_>) -> Result<(), ReadError> {
        self.push(reader, value, 0)
    }

    /// Returns the text and the attachments.
    ///
    /// # Errors
    /// Returns an error if the text is not UTF-8, which this writer never produces.
    pub fn finish(self) -> Result<(ByteString, Vec<Bytes>), ReadError> {
        let text = ByteString::try_from(self.text).map_err(|_| ReadError::Malformed)?;
        Ok((text, self.attachments))
    }

    fn push(&mut self, reader: &mut Reader<'_>, value: Value<'_>, depth: usize) -> Result<(), ReadError> {
        match value {
            Value::Nil | Value::Undefined => self.text.extend_from_slice(b"null"),
            Value::Bool(value) => self.text.extend_from_slice(if value { b"true" } else { b"false" }),
            Value::Unsigned(number) => self.number(number),
            Value::Signed(number) => self.number(number),
            Value::Float(number) => self.json(&number),
            Value::Text(text) => self.string(text),
            Value::Binary(part) => self.attach(reader, part)?,
            Value::Date(milliseconds) => match date::iso(milliseconds) {
                Some(date) => self.json(&date),
                None => self.text.extend_from_slice(b"null"),
            },
            Value::Extension(..) if self.limits.extensions == Extensions::Refused => {
                return Err(ReadError::Extension);
            }
            Value::Extension(kind, part) => {
                self.text.push(b'[');
                self.number(kind);
                self.text.push(b',');
                self.attach(reader, part)?;
                self.text.push(b']');
            }
            Value::Array(_) | Value::Map(_) if depth >= MAX_DEPTH => return Err(ReadError::TooDeep),
            Value::Array(len) => {
                self.text.push(b'[');
                self.push_all(reader, len, depth + 1)?;
                self.text.push(b']');
            }
            Value::Map(len) => {
                self.text.push(b'{');
                self.push_entries(reader, len, depth + 1)?;
                self.text.push(b'}');
            }
        }
        self.check()
    }

    fn push_all(&mut self, reader: &mut Reader<'_>, len: u32, depth: usize) -> Result<(), ReadError> {
        for index in 0..len {
            if index > 0 {
                self.text.push(b',');
            }
            let value = reader.value()?;
            self.push(reader, value, depth)?;
        }
        Ok(())
    }

    fn push_entries(&mut self, reader: &mut Reader<'_>, len: u32, depth: usize) -> Result<(), ReadError> {
        let mut is_first = true;
        for _ in 0..len {
            let Value::Text(key) = reader.value()? else { return Err(ReadError::Malformed) };
            let value = reader.value()?;
            if let Value::Undefined = value {
                continue;
            }
            if !is_first {
                self.text.push(b',');
            }
            is_first = false;
            self.string(key);
            self.text.push(b':');
            self.push(reader, value, depth)?;
        }
        Ok(())
    }

    fn attach(&mut self, reader: &Reader<'_>, part: &[u8]) -> Result<(), ReadError> {
        let limit = self.limits.attachments;
        if self.attachments.len() >= limit {
            return Err(ReadError::TooManyAttachments { limit });
        }
        // Writes to a `Vec` cannot fail.
        let _ = write!(self.text, r#"{{"_placeholder":true,"num":{}}}"#, self.attachments.len());
        self.attached += part.len();
        self.attachments.push(reader.share(part));
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

    fn string(&mut self, text: &[u8]) {
        // Nearly all texts are ASCII without escapes. Whole blocks without an early exit allow the compiler to
        // vectorize.
        let is_plain = |byte: &u8| (0x20..0x80).contains(byte) & (*byte != b'"') & (*byte != b'\\');
        let mut blocks = text.chunks(BLOCK);
        if blocks.all(|block| block.iter().fold(true, |all, byte| all & is_plain(byte))) {
            self.text.push(b'"');
            self.text.extend_from_slice(text);
            self.text.push(b'"');
        } else {
            self.json(&*String::from_utf8_lossy(text));
        }
    }

    fn check(&self) -> Result<(), ReadError> {
        let limit = self.limits.bytes;
        // A few message bytes may expand to several text bytes.
        if self.text.len().saturating_add(self.attached) > limit {
            Err(ReadError::TooLarge { limit })
        } else {
            Ok(())
        }
    }
}
