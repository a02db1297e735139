//! Events for members and for servers.

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_cluster::DecodeError;
use roomcast_cluster::wire::FieldWriter;
use roomcast_core::{Args, Delivery, Event, Namespace, Overflow, Room, Scope, Target};

use super::error::BodyError;
use super::fields::{
    FLAGS, Fields, KEY, MAX_FIELD, NAME, OFFSET, UNCOMPRESSED, args_len, begin, write_args, write_policies,
};

/// Decoded event, and how it is delivered.
#[derive(Debug)]
pub(crate) struct EventBody {
    pub(crate) event: Event,
    delivery: Delivery,
    overflow: Overflow,
}

impl EventBody {
    /// Returns the target on this node.
    pub(crate) fn target(&self, rooms: Vec<Room>, except: Vec<Room>) -> Target {
        let (delivery, overflow) = (self.delivery, self.overflow);
        Target { rooms, except, skip: None, delivery, overflow, scope: Scope::Node }
    }
}

/// Encodes an event for members.
pub(crate) fn encode_event(target: &Target, event: &Event) -> Bytes {
    let mut out = begin(event_len(event));
    write_event(&mut out, target, event);
    out.into_bytes()
}

/// Encodes an event for servers.
pub(crate) fn encode_server_event(name: &ByteString, args: &Args) -> Bytes {
    let mut out = begin(name.len() + MAX_FIELD + args_len(args));
    out.bytes(NAME, name.as_bytes());
    write_args(&mut out, args);
    out.into_bytes()
}

pub(super) fn write_event(out: &mut FieldWriter, target: &Target, event: &Event) {
    out.bytes(NAME, event.name.as_bytes());
    write_args(out, &event.args);
    if !event.compress {
        out.number(FLAGS, UNCOMPRESSED);
    }
    if let Some(key) = &event.key {
        out.bytes(KEY, key.as_bytes());
    }
    if let Some(offset) = &event.offset {
        out.bytes(OFFSET, offset.as_bytes());
    }
    write_policies(out, target);
}

/// Returns the bytes of an event in a body, at most.
pub(super) fn event_len(event: &Event) -> usize {
    let key = event.key.as_ref().map_or(0, |key| key.len() + MAX_FIELD);
    let offset = event.offset.as_ref().map_or(0, |offset| offset.len() + MAX_FIELD);
    event.name.len() + MAX_FIELD + args_len(&event.args) + key + offset + POLICIES
}

/// Decodes an event for members or servers.
pub(crate) fn decode_event(body: Bytes, namespace: &Namespace) -> Result<EventBody, BodyError> {
    event(Fields::decode(body)?, namespace)
}

pub(super) fn event(mut fields: Fields, namespace: &Namespace) -> Result<EventBody, BodyError> {
    let event = Event {
        namespace: namespace.clone(),
        name: fields.name.take().ok_or(DecodeError::Missing("name"))?,
        args: fields.args()?,
        ack: None,
        offset: fields.offset.take(),
        key: fields.key.take().map(|key| (*key).into()),
        compress: fields.flags & UNCOMPRESSED == 0,
    };
    Ok(EventBody { event, delivery: fields.delivery(), overflow: fields.overflow() })
}

/// Bytes of flags and policies, at most.
const POLICIES: usize = 6;
