//! Messages of Node's adapters, in both directions.

mod cluster;
mod event;
mod options;
mod recent;
mod request;
mod response;
mod session;
mod sockets;
mod stream;
mod value;

pub use self::cluster::{
    ClusterBody, ClusterEncoding, ClusterMessage, decode_cluster_message, encode_cluster_message,
};
pub(crate) use self::cluster::{Received, receive};
pub use self::event::{BroadcastMessage, broadcast_prefix, decode_broadcast, encode_broadcast};
pub(crate) use self::event::{broadcast_bytes, read_broadcast};
pub use self::options::{Flags, Recipients};
pub(crate) use self::recent::RecentNames;
pub use self::request::{Request, RequestMessage, decode_request, encode_request};
pub use self::response::{Response, ResponseMessage, decode_response, encode_response};
pub use self::session::{StoredSession, decode_session, encode_session, session_key};
pub use self::sockets::SocketDescription;
pub use self::stream::{EntryFields, EntryId, StreamEntry, encode_entry, push_number};

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{Args, replace_lone_surrogates};
use roomcast_msgpack::{Extensions, JsonLimits, JsonValues, JsonWriter, ReadError, Reader};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Limits of received messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodecLimits {
    /// Maximum bytes of one message, and of the text and binary parts that it expands to. Default: 64 MiB.
    pub message_bytes: usize,
    /// Maximum number of binary parts in one message. Default: 10,000.
    pub attachments: usize,
    /// Maximum number of names in each list of rooms. Default: 100,000.
    pub rooms: usize,
}

impl Default for CodecLimits {
    fn default() -> Self {
        Self { message_bytes: 64 << 20, attachments: 10_000, rooms: 100_000 }
    }
}

/// Reason why a message was dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It is not MessagePack, or exceeds a limit.
    #[error("message is not readable")]
    MessagePack(#[from] ReadError),
    /// It is not JSON, or lacks a field.
    #[error("message is not valid: {0}")]
    Json(String),
    /// It is MessagePack or JSON of another structure.
    #[error("message has no valid {0}")]
    Field(&'static str),
    /// It exceeds a limit.
    #[error("message exceeds the limit of {limit} {what}")]
    Limit {
        /// Limited quantity.
        what: &'static str,
        /// Limit.
        limit: usize,
    },
}

/// Reason why a message was not composed, because Node has no form for it or could fail on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Node's servers or clients reserve the event name, and fail on receiving it.
    #[error("event name is reserved on Node")]
    Reserved,
    /// The adapter has no message for this kind of answer.
    #[error("the adapter has no such message")]
    Unsupported,
    /// Arrays and objects are nested deeper than Node is known to read.
    #[error("arguments are nested too deeply")]
    TooDeep,
}

/// Deepest nesting of arguments that is sent: the limit of received arguments. Node's parsers are recursive.
const MAX_DEPTH: usize = 127;

/// Returns the JSON text of a message: text as it is, MessagePack converted.
fn json_of(payload: &Bytes, limits: &CodecLimits) -> Result<(ByteString, Vec<Bytes>), DecodeError> {
    check_len(payload, limits)?;
    if payload.first() == Some(&b'{') {
        let text = ByteString::try_from(payload.clone()).map_err(|_| DecodeError::Field("UTF-8"))?;
        return Ok((replace_lone_surrogates(text), Vec::new()));
    }
    let mut reader = Reader::new(payload);
    let mut json = json_writer(payload.len(), limits);
    json.values(&mut reader, 1)?;
    if !reader.is_at_end() {
        return Err(ReadError::Malformed.into());
    }
    Ok(json.finish()?)
}

fn check_len(payload: &Bytes, limits: &CodecLimits) -> Result<(), DecodeError> {
    let limit = limits.message_bytes;
    if payload.len() > limit { Err(DecodeError::Limit { what: "bytes", limit }) } else { Ok(()) }
}

/// Creates a writer with memory for this many bytes.
fn json_writer(bytes: usize, limits: &CodecLimits) -> JsonWriter {
    let limits = JsonLimits {
        bytes: limits.message_bytes,
        attachments: limits.attachments,
        extensions: Extensions::Refused,
    };
    JsonWriter::with_capacity(bytes, limits)
}

/// Returns arguments of a decoder's own JSON text, if their placeholders refer to its attachments.
fn checked(list: ByteString, attachments: Vec<Bytes>) -> Result<Args, DecodeError> {
    let args = Args::from_validated(list, attachments);
    args.check_placeholders().map_err(|_| DecodeError::Field("attachments"))?;
    Ok(args)
}

/// Checks that the placeholders of a whole message refer to no more bytes than it has.
fn check_references(text: &ByteString, attachments: &[Bytes]) -> Result<(), DecodeError> {
    if attachments.is_empty() {
        return Ok(());
    }
    checked(text.clone(), attachments.to_vec()).map(drop)
}

/// Checks the nesting of JSON text; text from MessagePack was checked when it was read.
fn check_depth(json: &str) -> Result<(), DecodeError> {
    if JsonValues::new(json, &[]).depth() > MAX_DEPTH { Err(DecodeError::Field("nesting")) } else { Ok(()) }
}

fn json_error(error: &serde_json::Error) -> DecodeError {
    // The message of serde may quote the input.
    DecodeError::Json(format!("{:?} error at column {}", error.classify(), error.column()))
}

/// Reads a value that is present, `null` too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}
