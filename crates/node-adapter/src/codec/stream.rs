//! Entries of the stream of Node's Redis Streams adapter.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::Namespace;

use super::cluster::{Data, content, packed};
use super::value::push_value;
use super::{ClusterBody, ClusterMessage, CodecLimits, DecodeError, EncodeError, check_len, json_of};

/// Id of a stream entry, which is also the offset of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryId {
    milliseconds: u64,
    sequence: u64,
}

impl EntryId {
    /// Id before all entries.
    pub const ZERO: Self = Self { milliseconds: 0, sequence: 0 };

    /// Creates an id from its two numbers.
    #[must_use]
    pub const fn new(milliseconds: u64, sequence: u64) -> Self {
        Self { milliseconds, sequence }
    }

    /// Returns the time of the server's clock, in milliseconds since 1970, at which the entry was stored.
    #[must_use]
    pub const fn milliseconds(self) -> u64 {
        self.milliseconds
    }

    /// Returns the smallest id after this one; the last of all ids returns itself.
    #[must_use]
    pub const fn next(self) -> Self {
        match (self.sequence.checked_add(1), self.milliseconds.checked_add(1)) {
            (Some(sequence), _) => Self { sequence, ..self },
            (None, Some(milliseconds)) => Self { milliseconds, sequence: 0 },
            (None, None) => self,
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.milliseconds, self.sequence)
    }
}

impl FromStr for EntryId {
    type Err = DecodeError;

    /// Reads the full form with both numbers, the only one that Node accepts from clients.
    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let number = |digits: &str| {
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|_| is_number)
        };
        let numbers = text.split_once('-').and_then(|(first, second)| number(first).zip(number(second)));
        let (milliseconds, sequence) = numbers.ok_or(DecodeError::Field("entry id"))?;
        Ok(Self { milliseconds, sequence })
    }
}

/// Entry of the stream: the fields that the adapter knows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "drivers build it")]
pub struct StreamEntry {
    /// Id.
    pub id: EntryId,
    /// Node that wrote it, the field `uid`.
    pub sender: ByteString,
    /// Namespace, the field `nsp`.
    pub namespace: ByteString,
    /// Type of the message, the field `type`.
    pub kind: ByteString,
    /// JSON text, or MessagePack in base64, the field `data`; empty if it is absent.
    pub data: ByteString,
    /// Number by which nodes of Roomcast recognize own and repeated entries, a field that Node ignores.
    ///
    /// It increases with each entry of the sender; an entry that was stored twice has the same number.
    pub number: Option<u64>,
}

/// Name of Roomcast's own field.
const NUMBER: &str = "roomcast";

/// Adds the number of an entry to its fields; see [`StreamEntry::number`].
pub fn push_number(fields: &mut EntryFields, number: u64) {
    fields.push((NUMBER, number.to_string().into()));
}

impl StreamEntry {
    /// Reads an entry from its fields, names and values.
    ///
    /// Returns `None` if it names no namespace: Node ignores such entries, so a stream may have entries of others.
    ///
    /// # Errors
    /// Returns an error if a field of the adapter is not UTF-8, or if there is no type.
    pub fn from_fields(
        id: EntryId,
        fields: impl IntoIterator<Item = (Bytes, Bytes)>,
    ) -> Result<Option<Self>, DecodeError> {
        let empty = ByteString::new;
        let (mut sender, mut namespace, mut kind) = (empty(), empty(), empty());
        let (mut data, mut number) = (empty(), None);
        let text = |value: Bytes| ByteString::try_from(value).map_err(|_| DecodeError::Field("UTF-8"));
        for (name, value) in fields {
            match &name[..] {
                b"uid" => sender = text(value)?,
                b"nsp" => namespace = text(value)?,
                b"type" => kind = text(value)?,
                b"data" => data = text(value)?,
                name if name == NUMBER.as_bytes() => {
                    number = std::str::from_utf8(&value).ok().and_then(|number| number.parse().ok());
                }
                _ => {}
            }
        }
        if namespace.is_empty() {
            return Ok(None);
        }
        if kind.is_empty() {
            return Err(DecodeError::Field("type"));
        }
        Ok(Some(Self { id, sender, namespace, kind, data, number }))
    }

    /// Returns whether it is a broadcast, the only kind that is replayed to returning clients.
    #[must_use]
    pub fn is_broadcast(&self) -> bool {
        self.kind == "3"
    }

    /// Decodes the message; `None` if it is of another namespace or of an unknown type.
    ///
    /// # Errors
    /// Returns an error if the message is malformed or exceeds a limit.
    pub fn message(
        &self,
        namespace: &Namespace,
        limits: &CodecLimits,
    ) -> Result<Option<ClusterMessage>, DecodeError> {
        if self.namespace != namespace.as_str() {
            return Ok(None);
        }
        let kind = self.kind.parse().map_err(|_| DecodeError::Field("type"))?;
        check_len(self.data.as_bytes(), limits)?;
        let (data, attachments) = if self.data.is_empty() {
            (None, Vec::new())
        } else {
            let payload = if self.data.starts_with('{') {
                self.data.as_bytes().clone()
            } else {
                from_base64(&self.data)?
            };
            let (text, attachments) = json_of(&payload, limits)?;
            (Some(text), attachments)
        };
        let content = content(kind, data.as_ref(), &attachments, namespace, limits)?;
        Ok(content.map(|(id, body)| ClusterMessage { sender: self.sender.clone(), id, body }))
    }
}

/// Names and values of the fields of an entry, in Node's order.
pub type EntryFields = Vec<(&'static str, ByteString)>;

/// Encodes a message of the node `uid` without an id as the fields of an entry, without a number.
///
/// With `plaintext_only`, Node's option `onlyPlaintext`,
/// binary has the form of Node's `Buffer` in JSON.
///
/// # Errors
/// Returns an error if the message could harm a Node server or its clients, or if the adapter has no such message.
pub fn encode_entry(
    uid: &str,
    namespace: &Namespace,
    body: &ClusterBody,
    plaintext_only: bool,
) -> Result<EntryFields, EncodeError> {
    let Data { kind, json, attachments } = Data::compose("", body)?;
    let data = if attachments.is_empty() {
        json
    } else if plaintext_only {
        let mut text = String::with_capacity(json.len());
        push_value(&mut text, &json, attachments)?;
        text
    } else {
        STANDARD.encode(packed(&json, attachments)?)
    };
    Ok(vec![
        ("uid", uid.into()),
        ("nsp", namespace.as_str().into()),
        ("type", kind.to_string().into()),
        ("data", data.into()),
    ])
}

/// Decodes base64 with or without padding, like Node's `Buffer`.
pub(super) fn from_base64(text: &str) -> Result<Bytes, DecodeError> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    LENIENT.decode(text).map(Bytes::from).map_err(|_| DecodeError::Field("base64"))
}

/// Encodes bytes in base64 with padding.
pub(super) fn to_base64(bytes: &[u8]) -> ByteString {
    STANDARD.encode(bytes).into()
}
