//! Decoder of cluster messages.

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{Args, Membership, Namespace};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::event::{JsonPacket, json_event};
use super::super::options::{JsonOpts, JsonRooms, JsonText};
use super::super::{
    CodecLimits, DecodeError, Flags, Recipients, Response, check_depth, check_references, checked,
    json_error, json_of, sockets,
};
use super::{
    ACK, BROADCAST, CLIENT_COUNT, ClusterBody, ClusterMessage, DISCONNECT, FETCH, FETCH_RESPONSE, JOIN,
    LEAVE, SERVER_SIDE_EMIT, SERVER_SIDE_EMIT_RESPONSE,
};

/// Decodes a message, in either encoding.
///
/// Returns `None` for a message of the node `own_uid` itself, of another namespace, or of an unknown type, such as the
/// heartbeats of other adapters. Versions of the sharded adapter before 8.3 do not name the namespace; Node 8.3 ignores
/// their messages too.
///
/// # Errors
/// Returns an error if the message is malformed or exceeds a limit.
pub fn decode_cluster_message(
    payload: &Bytes,
    namespace: &Namespace,
    own_uid: &str,
    limits: &CodecLimits,
) -> Result<Option<ClusterMessage>, DecodeError> {
    match receive(payload, namespace, own_uid, limits)? {
        Received::Message(message) => Ok(Some(message)),
        Received::Own | Received::Other => Ok(None),
    }
}

/// Result of decoding.
#[allow(clippy::large_enum_variant, reason = "taken apart at once")]
pub(crate) enum Received {
    Message(ClusterMessage),
    /// Message of the node itself.
    Own,
    /// Message of another namespace or of an unknown type.
    Other,
}

pub(crate) fn receive(
    payload: &Bytes,
    namespace: &Namespace,
    own_uid: &str,
    limits: &CodecLimits,
) -> Result<Received, DecodeError> {
    let (text, attachments) = json_of(payload, limits)?;
    let envelope: Envelope<'_> = serde_json::from_str(&text).map_err(|error| json_error(&error))?;
    if envelope.sender.0 == own_uid {
        return Ok(Received::Own);
    }
    if envelope.namespace.as_deref() != Some(namespace.as_str()) {
        return Ok(Received::Other);
    }
    let data = envelope.data.map(|data| text.slice_ref(data.get()));
    let content = content(envelope.kind, data.as_ref(), &attachments, namespace, limits)?;
    Ok(match content {
        Some((id, body)) => Received::Message(ClusterMessage { sender: envelope.sender.0, id, body }),
        None => Received::Other,
    })
}

#[derive(Deserialize)]
struct Envelope<'t> {
    #[serde(rename = "uid", default)]
    sender: JsonText,
    #[serde(rename = "nsp")]
    namespace: Option<String>,
    #[serde(rename = "type")]
    kind: u64,
    #[serde(borrow)]
    data: Option<&'t RawValue>,
}

/// The field `data` of a message.
#[derive(Deserialize)]
struct Data<'t> {
    #[serde(rename = "requestId", default)]
    id: JsonText,
    #[serde(borrow, default, deserialize_with = "super::super::present")]
    packet: Option<&'t RawValue>,
    opts: Option<JsonOpts>,
    rooms: Option<JsonRooms>,
    #[serde(default)]
    close: serde_json::Value,
    #[serde(borrow)]
    sockets: Option<Vec<&'t RawValue>>,
    #[serde(rename = "clientCount")]
    count: Option<u64>,
}

/// Decodes the id and the content of a message from its field `data`; `None` if the type is unknown.
pub(crate) fn content(
    kind: u64,
    data: Option<&ByteString>,
    attachments: &[Bytes],
    namespace: &Namespace,
    limits: &CodecLimits,
) -> Result<Option<(ByteString, ClusterBody)>, DecodeError> {
    if !(BROADCAST..=ACK).contains(&kind) {
        return Ok(None);
    }
    let text = data.ok_or(DecodeError::Field("data"))?;
    let Data { id, packet, opts, rooms, close, sockets, count } =
        serde_json::from_str(text).map_err(|error| json_error(&error))?;
    let opts = || -> Result<(Recipients, Flags), DecodeError> {
        opts.ok_or(DecodeError::Field("opts"))?.take(limits)
    };
    let rooms = || rooms.map_or_else(|| Ok(Vec::new()), |rooms| rooms.take(limits, false));
    let value = || match packet {
        Some(value) => {
            check_depth(value.get())?;
            checked(text.slice_ref(value.get()), attachments.to_vec())
        }
        None => Ok(Args::empty()),
    };
    let body = match kind {
        BROADCAST => {
            let packet = packet.ok_or(DecodeError::Field("packet"))?;
            let packet: JsonPacket<'_> =
                serde_json::from_str(packet.get()).map_err(|error| json_error(&error))?;
            let (recipients, flags) = opts()?;
            ClusterBody::Broadcast(recipients, flags, packet.event_in(text, attachments, namespace)?)
        }
        JOIN => ClusterBody::Update(opts()?.0, Membership::Join(rooms()?)),
        LEAVE => ClusterBody::Update(opts()?.0, Membership::Leave(rooms()?)),
        DISCONNECT => ClusterBody::Disconnect(opts()?.0, close == true),
        FETCH => ClusterBody::Fetch(opts()?.0),
        FETCH_RESPONSE => {
            check_references(text, attachments)?;
            let found = sockets.ok_or(DecodeError::Field("sockets"))?;
            let found = found.into_iter().map(|socket| sockets::read(socket, text, attachments, limits));
            ClusterBody::Response(Response::Sockets(found.collect::<Result<_, _>>()?))
        }
        SERVER_SIDE_EMIT => {
            let (name, args) = json_event(packet.ok_or(DecodeError::Field("packet"))?, text, attachments)?;
            ClusterBody::ServerSideEmit(name, args)
        }
        SERVER_SIDE_EMIT_RESPONSE => ClusterBody::Response(Response::ServerSide(value()?)),
        CLIENT_COUNT => {
            ClusterBody::Response(Response::ClientCount(count.ok_or(DecodeError::Field("clientCount"))?))
        }
        ACK => ClusterBody::Response(Response::Ack(value()?)),
        _ => return Ok(None),
    };
    if id.0.is_empty() && matches!(body, ClusterBody::Fetch(_) | ClusterBody::Response(_)) {
        return Err(DecodeError::Field("requestId"));
    }
    Ok(Some((id.0, body)))
}
