//! Sessions of disconnected clients, as Node's Redis Streams adapter stores them.

use std::fmt;

use bytestring::ByteString;
use roomcast_core::{Args, Room, SocketId, push_quoted};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::cluster::packed;
use super::options::{JsonRooms, push_rooms};
use super::stream::{from_base64, to_base64};
use super::value::push_value;
use super::{CodecLimits, DecodeError, EncodeError, check_depth, checked, json_error, json_of};

/// Session of a client, stored for its return to any node.
#[derive(Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "drivers build it and take it apart")]
pub struct StoredSession {
    /// Public id of the socket.
    pub id: SocketId,
    /// Secret by which the client claims the session, Node's `pid`.
    pub secret: ByteString,
    /// Rooms, its own included.
    pub rooms: Vec<Room>,
    /// The application's data: one value, or none.
    pub data: Args,
}

impl StoredSession {
    /// Returns the application's data as JSON text, with binary in the form of Node's `Buffer`; empty if there is none.
    ///
    /// # Errors
    /// Returns an error if it is nested too deeply.
    pub fn data_json(&self) -> Result<ByteString, EncodeError> {
        let Some(data) = self.data.iter().next() else { return Ok(ByteString::new()) };
        let mut json = String::with_capacity(data.len());
        push_value(&mut json, data, self.data.attachments())?;
        Ok(json.into())
    }
}

impl fmt::Debug for StoredSession {
    // The secret authenticates the client, and the data may be secret too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredSession").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Returns the key of a stored session; `prefix` is Node's option `sessionKeyPrefix`, by default `sio:session:`.
#[must_use]
pub fn session_key(prefix: &str, secret: &str) -> ByteString {
    format!("{prefix}{secret}").into()
}

/// Encodes a session: MessagePack of `{sid, pid, rooms, data}` in base64.
///
/// A room such as `7` is stored as text and as number, so that the client returns to either on Node.
///
/// # Errors
/// Returns an error if the data is nested too deeply for Node.
pub fn encode_session(session: &StoredSession) -> Result<ByteString, EncodeError> {
    let mut json = String::with_capacity(128);
    json.push_str(r#"{"sid":"#);
    push_quoted(&mut json, session.id.as_str());
    json.push_str(r#","pid":"#);
    push_quoted(&mut json, &session.secret);
    json.push(',');
    push_rooms(&mut json, "rooms", &session.rooms);
    json.push_str(r#","data":"#);
    json.push_str(session.data.iter().next().unwrap_or("{}"));
    json.push('}');
    Ok(to_base64(&packed(&json, session.data.attachments())?))
}

#[derive(Deserialize)]
struct JsonSession<'t> {
    sid: String,
    pid: String,
    rooms: JsonRooms,
    #[serde(borrow, default, deserialize_with = "super::present")]
    data: Option<&'t RawValue>,
}

/// Decodes a stored session.
///
/// # Errors
/// Returns an error if it is malformed or exceeds a limit.
pub fn decode_session(stored: &str, limits: &CodecLimits) -> Result<StoredSession, DecodeError> {
    if stored.len() > limits.message_bytes {
        return Err(DecodeError::Limit { what: "bytes", limit: limits.message_bytes });
    }
    let (text, attachments) = json_of(&from_base64(stored)?, limits)?;
    let read: JsonSession<'_> = serde_json::from_str(&text).map_err(|error| json_error(&error))?;
    let data = match read.data {
        Some(data) => {
            check_depth(data.get())?;
            checked(text.slice_ref(data.get()), attachments)?
        }
        None => Args::empty(),
    };
    let rooms = read.rooms.take(limits, false)?;
    Ok(StoredSession { id: read.sid.into(), secret: read.pid.into(), rooms, data })
}
