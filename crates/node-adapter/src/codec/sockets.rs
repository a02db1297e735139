//! Descriptions of sockets, in answers to a fetch.

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{Room, SocketId, SocketInfo, push_quoted};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::options::{JsonRooms, push_rooms};
use super::value::push_value;
use super::{CodecLimits, DecodeError};

/// Socket of another node, as it describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "drivers build handles from it")]
pub struct SocketDescription {
    /// Public id.
    pub id: SocketId,
    /// Rooms of the socket, its own first.
    pub rooms: Vec<Room>,
    /// Handshake of its session as a JSON object.
    pub handshake: ByteString,
    /// The application's data as JSON text. Binary is in the form that Node's `Buffer` has in JSON.
    pub data: ByteString,
}

impl From<&SocketInfo> for SocketDescription {
    fn from(socket: &SocketInfo) -> Self {
        let control = socket.control.as_ref();
        Self {
            id: socket.id.clone(),
            rooms: socket.rooms.clone(),
            handshake: control.map(|control| control.handshake()).unwrap_or_default(),
            data: control.map(|control| control.data()).unwrap_or_default(),
        }
    }
}

impl SocketDescription {
    /// Appends the description as a JSON object.
    pub(super) fn push(&self, json: &mut String) {
        json.push_str(r#"{"id":"#);
        push_quoted(json, self.id.as_str());
        json.push_str(r#","handshake":"#);
        push_object(json, &self.handshake);
        json.push(',');
        push_own_rooms(json, self);
        json.push_str(r#","data":"#);
        push_object(json, &self.data);
        json.push('}');
    }
}

/// Appends the rooms once each: Node reads them as a set, where `7` would be another member than `"7"`.
fn push_own_rooms(json: &mut String, socket: &SocketDescription) {
    json.push_str(r#""rooms":["#);
    for (index, room) in socket.rooms.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        push_quoted(json, room.as_str());
    }
    json.push(']');
}

/// Appends JSON text, or `{}` if it is none, which would make the whole answer unreadable.
fn push_object(json: &mut String, text: &str) {
    let is_valid = serde_json::from_str::<&RawValue>(text).is_ok();
    json.push_str(if is_valid { text } else { "{}" });
}

/// Appends `"sockets":["id"]` or another list of texts.
pub(super) fn push_texts<'t>(json: &mut String, key: &str, texts: impl Iterator<Item = &'t str>) {
    json.push('"');
    json.push_str(key);
    json.push_str("\":[");
    for (index, text) in texts.enumerate() {
        if index > 0 {
            json.push(',');
        }
        push_quoted(json, text);
    }
    json.push(']');
}

/// Appends `"rooms":[…]` for a request.
pub(super) fn push_room_list(json: &mut String, rooms: &[Room]) {
    push_rooms(json, "rooms", rooms);
}

/// Description in JSON.
#[derive(Deserialize)]
struct JsonSocket<'t> {
    id: String,
    #[serde(borrow)]
    handshake: Option<&'t RawValue>,
    #[serde(default)]
    rooms: JsonRooms,
    #[serde(borrow, default, deserialize_with = "super::present")]
    data: Option<&'t RawValue>,
}

/// Reads a socket, described or named by its id; attachments take the form of Node's `Buffer` in JSON.
pub(super) fn read(
    socket: &RawValue,
    text: &ByteString,
    attachments: &[Bytes],
    limits: &CodecLimits,
) -> Result<SocketDescription, DecodeError> {
    if socket.get().starts_with('"') {
        let id: String = serde_json::from_str(socket.get()).map_err(|error| super::json_error(&error))?;
        return Ok(SocketDescription {
            rooms: Vec::new(),
            id: id.into(),
            handshake: ByteString::new(),
            data: ByteString::new(),
        });
    }
    let read: JsonSocket<'_> =
        serde_json::from_str(socket.get()).map_err(|error| super::json_error(&error))?;
    let part = |part: Option<&RawValue>| match part {
        Some(part) if attachments.is_empty() => Ok(text.slice_ref(part.get())),
        Some(part) => {
            let mut json = String::new();
            push_value(&mut json, part.get(), attachments).map_err(|_| DecodeError::Field("nesting"))?;
            // The text form of bytes is several times as long.
            if json.len() > limits.message_bytes {
                return Err(DecodeError::Limit { what: "bytes", limit: limits.message_bytes });
            }
            Ok(json.into())
        }
        None => Ok(ByteString::from_static("{}")),
    };
    Ok(SocketDescription {
        id: read.id.into(),
        rooms: read.rooms.take(limits, false)?,
        handshake: part(read.handshake)?,
        data: part(read.data)?,
    })
}
