//! Answers to requests.

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{Args, Room, SocketId, push_quoted};
use roomcast_msgpack::{JsonValues, Writer};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::options::{JsonRooms, JsonText};
use super::sockets::{self, SocketDescription, push_texts};
use super::value::push_value;
use super::{
    CodecLimits, DecodeError, EncodeError, MAX_DEPTH, check_depth, check_references, checked, json_error,
    json_of,
};

/// Answer of one node, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the protocol has no others")]
pub enum Response {
    /// Ids of sockets.
    Ids(Vec<SocketId>),
    /// Descriptions of sockets. The answer to a request for ids decodes to descriptions without content.
    Sockets(Vec<SocketDescription>),
    /// Names of rooms.
    Rooms(Vec<Room>),
    /// The socket was found and the operation performed.
    Done,
    /// Acknowledgement of an event for servers: at most one argument.
    ServerSide(Args),
    /// Number of sockets that received a request for an acknowledgement.
    ClientCount(u64),
    /// Acknowledgement of one socket: at most one argument.
    Ack(Args),
}

/// Message on a response channel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "drivers take it apart")]
pub struct ResponseMessage {
    /// Request that it answers.
    pub id: ByteString,
    /// Answer.
    pub response: Response,
}

/// Encodes an answer to the request `id`. Of acknowledgements the first argument is sent, as on Node.
///
/// # Errors
/// Returns an error if arguments are nested too deeply for Node.
pub fn encode_response(id: &str, response: &Response) -> Result<Bytes, EncodeError> {
    if let Response::Ack(args) = response {
        return encode_ack(id, args);
    }
    let mut json = String::with_capacity(64);
    json.push('{');
    match response {
        Response::ServerSide(_) => json.push_str(r#""type":6,"#),
        Response::ClientCount(_) => json.push_str(r#""type":8,"#),
        _ => {}
    }
    json.push_str(r#""requestId":"#);
    push_quoted(&mut json, id);
    match response {
        Response::Ids(ids) => {
            json.push(',');
            push_texts(&mut json, "sockets", ids.iter().map(SocketId::as_str));
        }
        Response::Sockets(sockets) => {
            json.push_str(r#","sockets":["#);
            for (index, socket) in sockets.iter().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                socket.push(&mut json);
            }
            json.push(']');
        }
        Response::Rooms(rooms) => {
            json.push(',');
            push_texts(&mut json, "rooms", rooms.iter().map(Room::as_str));
        }
        Response::ServerSide(args) => {
            if let Some(arg) = args.iter().next() {
                json.push_str(r#","data":"#);
                push_value(&mut json, arg, args.attachments())?;
            }
        }
        Response::ClientCount(count) => {
            json.push_str(r#","clientCount":"#);
            json.push_str(&count.to_string());
        }
        Response::Done | Response::Ack(_) => {}
    }
    json.push('}');
    Ok(json.into())
}

fn encode_ack(id: &str, args: &Args) -> Result<Bytes, EncodeError> {
    let first = args.iter().next();
    let mut writer = Writer::with_capacity(48 + args.byte_len());
    writer.map(2 + u32::from(first.is_some()));
    writer.text("type");
    writer.uint(9);
    writer.text("requestId");
    writer.text(id);
    if let Some(first) = first {
        let value = JsonValues::new(first, args.attachments());
        if value.depth() > MAX_DEPTH {
            return Err(EncodeError::TooDeep);
        }
        writer.text("packet");
        writer.values(&value);
    }
    Ok(writer.finish().into())
}

/// Answer in JSON.
#[derive(Deserialize)]
struct JsonResponse<'t> {
    #[serde(rename = "type")]
    kind: Option<u64>,
    #[serde(rename = "requestId")]
    id: JsonText,
    #[serde(borrow)]
    sockets: Option<Vec<&'t RawValue>>,
    rooms: Option<JsonRooms>,
    #[serde(borrow, default, deserialize_with = "super::present")]
    data: Option<&'t RawValue>,
    #[serde(rename = "clientCount")]
    count: Option<u64>,
    #[serde(borrow, default, deserialize_with = "super::present")]
    packet: Option<&'t RawValue>,
}

/// Decodes a message of a response channel; `None` for a type that is unknown.
///
/// # Errors
/// Returns an error if the message is malformed or exceeds a limit.
pub fn decode_response(
    payload: &Bytes,
    limits: &CodecLimits,
) -> Result<Option<ResponseMessage>, DecodeError> {
    let (text, attachments) = json_of(payload, limits)?;
    let read: JsonResponse<'_> = serde_json::from_str(&text).map_err(|error| json_error(&error))?;
    let one = |value: Option<&RawValue>| match value {
        Some(value) => {
            check_depth(value.get())?;
            checked(text.slice_ref(value.get()), attachments.clone())
        }
        None => Ok(Args::empty()),
    };
    let response = match read {
        JsonResponse { kind: Some(6), data, .. } => Response::ServerSide(one(data)?),
        JsonResponse { kind: Some(8), count, .. } => {
            Response::ClientCount(count.ok_or(DecodeError::Field("clientCount"))?)
        }
        JsonResponse { kind: Some(9), packet, .. } => Response::Ack(one(packet)?),
        JsonResponse { kind: Some(_), .. } => return Ok(None),
        JsonResponse { sockets: Some(found), .. } => {
            check_references(&text, &attachments)?;
            let found = found.into_iter().map(|socket| sockets::read(socket, &text, &attachments, limits));
            Response::Sockets(found.collect::<Result<_, _>>()?)
        }
        JsonResponse { rooms: Some(rooms), .. } => Response::Rooms(rooms.take(limits, false)?),
        JsonResponse { .. } => Response::Done,
    };
    let id = read.id.0;
    if id.is_empty() {
        return Err(DecodeError::Field("requestId"));
    }
    Ok(Some(ResponseMessage { id, response }))
}
