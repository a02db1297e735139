//! Requests to all nodes of a namespace.

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{Args, Event, Membership, Namespace, Room, SocketId, push_quoted};
use roomcast_msgpack::Writer;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::event::{JsonPacket, json_event, write_packet};
use super::options::{JsonOpts, JsonRoom, JsonRooms, JsonText, push_opts, write_opts};
use super::sockets::push_room_list;
use super::{CodecLimits, DecodeError, EncodeError, Flags, Recipients, json_error, json_of};

/// Request, or message on the request channel that wants no answer.
#[derive(Debug, Clone)]
#[allow(clippy::exhaustive_enums, reason = "the protocol has no others")]
pub enum Request {
    /// Ids of the members of any of these rooms, or of all sockets.
    Sockets(Vec<Room>),
    /// Names of all rooms.
    AllRooms,
    /// Change of the rooms of matching sockets.
    Update(Recipients, Membership),
    /// Disconnect of matching sockets, with `true` of their clients.
    Disconnect(Recipients, bool),
    /// Change of the rooms of one socket, by adapters before version 6.1; wants an answer.
    UpdateOne(SocketId, Membership),
    /// Disconnect of one socket, by adapters before version 6.1; wants an answer.
    DisconnectOne(SocketId, bool),
    /// Descriptions of matching sockets.
    Fetch(Recipients),
    /// Event for servers; wants an answer if the message has a request id.
    ServerSideEmit(ByteString, Args),
    /// Event with acknowledgements.
    Broadcast(Recipients, Flags, Event),
}

/// Message on the request channel.
#[derive(Debug, Clone)]
#[allow(clippy::exhaustive_structs, reason = "drivers take it apart")]
pub struct RequestMessage {
    /// Node that sent it; empty for an emitter.
    pub sender: ByteString,
    /// Id for the answers; empty if none is wanted.
    pub id: ByteString,
    /// Request.
    pub request: Request,
}

/// Encodes a request of the node `uid`; `id` is empty if no answer is wanted.
///
/// # Errors
/// Returns an error if the request could harm a Node server or its clients.
pub fn encode_request(uid: &str, id: &str, request: &Request) -> Result<Bytes, EncodeError> {
    if let Request::Broadcast(recipients, flags, event) = request {
        return encode_broadcast(uid, id, recipients, flags, event);
    }
    let mut json = String::with_capacity(128);
    json.push_str(r#"{"uid":"#);
    push_quoted(&mut json, uid);
    if !id.is_empty() {
        json.push_str(r#","requestId":"#);
        push_quoted(&mut json, id);
    }
    json.push_str(r#","type":"#);
    match request {
        Request::Sockets(rooms) => {
            json.push_str("0,");
            push_room_list(&mut json, rooms);
        }
        Request::AllRooms => json.push('1'),
        Request::Update(recipients, change) => {
            let (kind, rooms) = match change {
                Membership::Join(rooms) => ("2,", rooms),
                Membership::Leave(rooms) => ("3,", rooms),
            };
            json.push_str(kind);
            push_opts(&mut json, recipients);
            json.push(',');
            push_changed_rooms(&mut json, change, rooms);
        }
        Request::Disconnect(recipients, close) => {
            json.push_str("4,");
            push_opts(&mut json, recipients);
            json.push_str(if *close { r#","close":true"# } else { r#","close":false"# });
        }
        Request::UpdateOne(socket, change) => {
            let (kind, rooms) = match change {
                Membership::Join(rooms) => ("2,", rooms),
                Membership::Leave(rooms) => ("3,", rooms),
            };
            json.push_str(kind);
            push_socket(&mut json, socket);
            json.push_str(r#","room":"#);
            push_quoted(&mut json, rooms.first().map_or("", Room::as_str));
        }
        Request::DisconnectOne(socket, close) => {
            json.push_str("4,");
            push_socket(&mut json, socket);
            json.push_str(if *close { r#","close":true"# } else { r#","close":false"# });
        }
        Request::Fetch(recipients) => {
            json.push_str("5,");
            push_opts(&mut json, recipients);
        }
        Request::ServerSideEmit(name, args) => {
            json.push_str(r#"6,"data":["#);
            push_event(&mut json, name, args)?;
            json.push(']');
        }
        Request::Broadcast(..) => {}
    }
    json.push('}');
    Ok(json.into())
}

/// Appends the rooms to join or leave. A socket joins a room by its text only, and leaves it by either.
pub(super) fn push_changed_rooms(json: &mut String, change: &Membership, rooms: &[Room]) {
    match change {
        Membership::Join(_) => super::sockets::push_texts(json, "rooms", rooms.iter().map(Room::as_str)),
        Membership::Leave(_) => push_room_list(json, rooms),
    }
}

fn push_socket(json: &mut String, socket: &SocketId) {
    json.push_str(r#""sid":"#);
    push_quoted(json, socket.as_str());
}

/// Checks the name of an event for servers.
pub(super) fn check_server_side_name(name: &str) -> Result<(), EncodeError> {
    // Node's own events of a namespace; `error` without a listener ends the process.
    const RESERVED: [&str; 4] = ["connect", "connection", "new_namespace", "error"];

    if RESERVED.contains(&name) { Err(EncodeError::Reserved) } else { Ok(()) }
}

/// Appends the name and arguments of an event for servers.
fn push_event(json: &mut String, name: &str, args: &Args) -> Result<(), EncodeError> {
    check_server_side_name(name)?;
    push_quoted(json, name);
    for arg in args {
        json.push(',');
        super::value::push_value(json, arg, args.attachments())?;
    }
    Ok(())
}

fn encode_broadcast(
    uid: &str,
    id: &str,
    recipients: &Recipients,
    flags: &Flags,
    event: &Event,
) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::with_capacity(160 + event.name.len() + event.args.byte_len());
    writer.map(5);
    writer.text("uid");
    writer.text(uid);
    writer.text("requestId");
    writer.text(id);
    writer.text("type");
    writer.uint(7);
    writer.text("packet");
    write_packet(&mut writer, event)?;
    writer.text("opts");
    write_opts(&mut writer, &recipients.rooms, &recipients.except, flags);
    Ok(writer.finish().into())
}

/// Request in JSON.
#[derive(Deserialize)]
struct JsonRequest<'t> {
    #[serde(rename = "type")]
    kind: u64,
    #[serde(default)]
    uid: JsonText,
    #[serde(rename = "requestId", default)]
    id: JsonText,
    opts: Option<JsonOpts>,
    rooms: Option<JsonRooms>,
    #[serde(default)]
    close: serde_json::Value,
    sid: Option<String>,
    room: Option<JsonRoom>,
    #[serde(borrow)]
    data: Option<&'t RawValue>,
    #[serde(borrow)]
    packet: Option<JsonPacket<'t>>,
}

/// Decodes a message of the request channel.
///
/// Returns `None` for a type that is unknown, and for a broadcast of another namespace.
///
/// # Errors
/// Returns an error if the message is malformed or exceeds a limit.
pub fn decode_request(
    payload: &Bytes,
    namespace: &Namespace,
    limits: &CodecLimits,
) -> Result<Option<RequestMessage>, DecodeError> {
    let (text, attachments) = json_of(payload, limits)?;
    let read: JsonRequest<'_> = serde_json::from_str(&text).map_err(|error| json_error(&error))?;
    let JsonRequest { kind, uid, id, opts, rooms, close, sid, room, data, packet } = read;
    let opts = opts.map(|opts| opts.take(limits)).transpose()?;
    let rooms = |strict| rooms.map_or_else(|| Ok(Vec::new()), |rooms| rooms.take(limits, strict));
    let close = close == true;
    let request = match (kind, opts) {
        (0, _) => Request::Sockets(rooms(true)?),
        (1, _) => Request::AllRooms,
        (2, Some((recipients, _))) => Request::Update(recipients, Membership::Join(rooms(false)?)),
        (3, Some((recipients, _))) => Request::Update(recipients, Membership::Leave(rooms(false)?)),
        (4, Some((recipients, _))) => Request::Disconnect(recipients, close),
        (2..=4, None) => {
            let socket = SocketId::new(sid.ok_or(DecodeError::Field("sid"))?);
            let room = || {
                let name = room.and_then(|room| room.0).ok_or(DecodeError::Field("room"))?;
                Ok::<_, DecodeError>(vec![Room::from(name)])
            };
            match kind {
                2 => Request::UpdateOne(socket, Membership::Join(room()?)),
                3 => Request::UpdateOne(socket, Membership::Leave(room()?)),
                _ => Request::DisconnectOne(socket, close),
            }
        }
        (5, Some((recipients, _))) => Request::Fetch(recipients),
        (6, _) => {
            let data = data.ok_or(DecodeError::Field("data"))?;
            let (name, args) = json_event(data, &text, &attachments)?;
            Request::ServerSideEmit(name, args)
        }
        (7, Some((recipients, flags))) => {
            let packet = packet.ok_or(DecodeError::Field("packet"))?;
            let Some(event) = packet.event(&text, &attachments, namespace)? else { return Ok(None) };
            Request::Broadcast(recipients, flags, event)
        }
        (5 | 7, None) => return Err(DecodeError::Field("opts")),
        _ => return Ok(None),
    };
    Ok(Some(RequestMessage { sender: uid.0, id: id.0, request }))
}
