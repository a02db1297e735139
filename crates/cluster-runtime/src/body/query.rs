//! Commands to members, queries for them, and their answers.

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_cluster::DecodeError;
use roomcast_cluster::wire::FieldWriter;
use roomcast_core::{Event, Membership, Namespace, Room, SocketId, SocketInfo, Target};

use super::error::BodyError;
use super::event::{EventBody, event, event_len, write_event};
use super::fields::{
    CLOSE, DATA, EXCEPT, FLAGS, Fields, HANDSHAKE, ITEM, LEAVE, MAX_FIELD, MAX_ITEMS, NAMESPACE, NUMBER,
    ROOM, SOCKET, begin,
};

/// Decoded request; the event is present if the body has a name.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) namespace: Namespace,
    pub(crate) target: Target,
    pub(crate) event: Option<EventBody>,
}

/// Socket in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) id: SocketId,
    pub(crate) rooms: Vec<Room>,
    /// JSON text; empty if the member has no control.
    pub(crate) handshake: ByteString,
    pub(crate) data: ByteString,
}

/// Encodes a change of rooms.
pub(crate) fn encode_change(change: &Membership) -> Bytes {
    let (rooms, flags) = match change {
        Membership::Join(rooms) => (rooms, 0),
        Membership::Leave(rooms) => (rooms, LEAVE),
    };
    let mut out = begin(rooms_len(rooms) + MAX_FIELD);
    if flags != 0 {
        out.number(FLAGS, flags);
    }
    write_rooms(&mut out, ROOM, rooms);
    out.into_bytes()
}

pub(crate) fn decode_change(body: Bytes) -> Result<Membership, BodyError> {
    let fields = Fields::decode(body)?;
    let is_leave = fields.flags & LEAVE != 0;
    Ok(if is_leave { Membership::Leave(fields.rooms) } else { Membership::Join(fields.rooms) })
}

/// Encodes a disconnect.
pub(crate) fn encode_close(close: bool) -> Bytes {
    let mut out = begin(2);
    if close {
        out.number(FLAGS, CLOSE);
    }
    out.into_bytes()
}

pub(crate) fn decode_close(body: Bytes) -> Result<bool, BodyError> {
    Ok(Fields::decode(body)?.flags & CLOSE != 0)
}

/// Encodes a request for sockets or their number.
pub(crate) fn encode_query(namespace: &Namespace, target: &Target) -> Bytes {
    let mut out = begin(target_len(namespace, target));
    write_target(&mut out, namespace, target);
    out.into_bytes()
}

/// Encodes a request that carries an event.
pub(crate) fn encode_event_query(namespace: &Namespace, target: &Target, event: &Event) -> Bytes {
    let mut out = begin(target_len(namespace, target) + event_len(event));
    write_target(&mut out, namespace, target);
    write_event(&mut out, target, event);
    out.into_bytes()
}

pub(crate) fn decode_query(body: Bytes) -> Result<Query, BodyError> {
    let mut fields = Fields::decode(body)?;
    let namespace = fields.namespace()?;
    let (rooms, except) = (std::mem::take(&mut fields.rooms), std::mem::take(&mut fields.except));
    if fields.name.is_none() {
        return Ok(Query { namespace, target: Target { rooms, except, ..Target::default() }, event: None });
    }
    let event = event(fields, &namespace)?;
    Ok(Query { target: event.target(rooms, except), namespace, event: Some(event) })
}

/// Encodes a number.
pub(crate) fn encode_count(number: usize) -> Bytes {
    let mut out = begin(MAX_FIELD);
    out.number(NUMBER, number as u64);
    out.into_bytes()
}

pub(crate) fn decode_count(body: Bytes) -> Result<usize, BodyError> {
    let number = Fields::decode(body)?.number.ok_or(DecodeError::Missing("number"))?;
    usize::try_from(number).map_err(|_| DecodeError::Overflow.into())
}

/// Encoder of one part of a list of sockets.
#[derive(Debug)]
pub(crate) struct SocketPart(FieldWriter);

impl SocketPart {
    /// Bytes of a part with one socket, besides the socket.
    pub(crate) const OVERHEAD: usize = 1 + MAX_FIELD;

    pub(crate) fn new() -> Self {
        Self(begin(1024))
    }

    /// Appends an encoded socket.
    pub(crate) fn push(&mut self, socket: &[u8]) {
        self.0.bytes(ITEM, socket);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn finish(self) -> Bytes {
        self.0.into_bytes()
    }

    /// Encodes a socket for [`push`](Self::push); `None` if it has too many rooms.
    pub(crate) fn socket(socket: &SocketInfo) -> Option<Bytes> {
        if socket.rooms.len() >= MAX_ITEMS {
            return None;
        }
        let (handshake, data) = socket
            .control
            .as_ref()
            .map_or_else(Default::default, |control| (control.handshake(), control.data()));
        let texts = socket.id.as_str().len() + handshake.len() + data.len() + 3 * MAX_FIELD;
        let mut out = FieldWriter::with_capacity(texts + rooms_len(&socket.rooms));
        out.bytes(SOCKET, socket.id.as_str().as_bytes());
        write_rooms(&mut out, ROOM, &socket.rooms);
        if !handshake.is_empty() {
            out.bytes(HANDSHAKE, handshake.as_bytes());
        }
        if !data.is_empty() {
            out.bytes(DATA, data.as_bytes());
        }
        Some(out.into_bytes())
    }
}

pub(crate) fn decode_sockets(body: Bytes) -> Result<Vec<Found>, BodyError> {
    let sockets = Fields::decode(body)?.items;
    let mut items = sockets.len();
    let decode = |socket| {
        let fields = Fields::decode_nested(socket, &mut items)?;
        Ok(Found {
            id: fields.socket().ok_or(DecodeError::Missing("socket"))?,
            rooms: fields.rooms,
            handshake: fields.handshake.unwrap_or_default(),
            data: fields.data.unwrap_or_default(),
        })
    };
    sockets.into_iter().map(decode).collect()
}

fn write_target(out: &mut FieldWriter, namespace: &Namespace, target: &Target) {
    out.bytes(NAMESPACE, namespace.as_str().as_bytes());
    write_rooms(out, ROOM, &target.rooms);
    write_rooms(out, EXCEPT, &target.except);
}

fn target_len(namespace: &Namespace, target: &Target) -> usize {
    namespace.as_str().len() + MAX_FIELD + rooms_len(&target.rooms) + rooms_len(&target.except)
}

fn write_rooms(out: &mut FieldWriter, field: u64, rooms: &[Room]) {
    rooms.iter().for_each(|room| out.bytes(field, room.as_str().as_bytes()));
}

/// Returns the bytes of a list of rooms, at most.
pub(crate) fn rooms_len(rooms: &[Room]) -> usize {
    rooms.iter().map(|room| room.as_str().len() + MAX_FIELD).sum()
}
