//! Frames: the parts of an envelope.

use std::time::Duration;

use bytes::Bytes;
use roomcast_core::{Namespace, Room};

use super::error::DecodeError;
use super::wire::{FieldReader, FieldWriter};
use crate::action::Publication;
use crate::{Channel, Incarnation};

/// Part of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Publish {
        publication: Publication,
        /// Number of the publication, if it is sent on several channels.
        copy: Option<u64>,
        /// Number of the node's last publication on several channels before this one; 0 if it is sent on several.
        after: u64,
    },
    Request {
        request: u64,
        kind: u32,
        timeout: Duration,
        body: Bytes,
    },
    Answer {
        request: u64,
        /// Incarnation of the node that asked.
        asker: Incarnation,
        /// Number of parts that the node sends in total.
        expected: Option<u32>,
        part: Option<Bytes>,
    },
    /// Part of a frame that exceeds the limit of a message.
    Part {
        index: u64,
        count: u64,
        len: u64,
        body: Bytes,
    },
    Heartbeat {
        /// The sender asks for a heartbeat in return.
        hello: bool,
        tails: Vec<Tail>,
        omission: Option<Omission>,
    },
    Goodbye {
        tails: Vec<Tail>,
        omission: Option<Omission>,
    },
    /// The receiver's incarnation is dead for the sender.
    Fence {
        /// Incarnation of the receiver.
        stale: Incarnation,
        /// Last incarnation that the sender knows.
        known: Incarnation,
    },
    /// Frame of a later version.
    Unknown,
}

/// Position of a frame in its stream: the frames of one incarnation on one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// Number, from 1; grows by one, but may jump at the start of a run.
    pub(crate) seq: u64,
    /// Number of earlier frames in the run, which begins when the publisher has forgotten an idle stream.
    pub(crate) run: u64,
    /// Time since the previous frame of the run, at most that; meaningless for the first.
    pub(crate) idle: Duration,
}

/// End of an idle stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Digest of the channel.
    pub(crate) digest: u64,
    pub(crate) seq: u64,
    pub(crate) run: u64,
    /// Time since the last frame, at most that.
    pub(crate) age: Duration,
}

/// End of a time in which the node published nothing, or as an incarnation that others may have declared dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Omission {
    /// Number of the next heartbeat after it.
    pub(crate) number: u64,
    /// Time since its end, at most that.
    pub(crate) age: Duration,
}

/// Encodes a frame without its position.
pub(crate) fn encode(frame: &Frame, channel: &Channel) -> Bytes {
    let mut out = FieldWriter::with_capacity(64);
    match frame {
        Frame::Publish { publication, copy, after } => {
            out.number(KIND, PUBLISH);
            // The channel names the namespace and the room.
            if !matches!(channel, Channel::Namespace(_) | Channel::Room(..)) {
                out.bytes(NAMESPACE, publication.namespace.as_str().as_bytes());
            }
            let named =
                matches!((channel, &publication.rooms[..]), (Channel::Room(_, own), [room]) if own == room);
            if !named {
                publication.rooms.iter().for_each(|room| out.bytes(ROOM, room.as_str().as_bytes()));
            }
            publication.except.iter().for_each(|room| out.bytes(EXCEPT, room.as_str().as_bytes()));
            if let Some(copy) = copy {
                out.number(COPY, *copy);
            } else if *after > 0 {
                out.number(AFTER, *after);
            }
            out.number(CONTENT, publication.kind.into());
            out.bytes(BODY, &publication.body);
        }
        Frame::Request { request, kind, timeout, body } => {
            out.number(KIND, REQUEST);
            out.number(REQUEST_ID, *request);
            out.number(CONTENT, (*kind).into());
            out.number(TIMEOUT, millis(*timeout));
            out.bytes(BODY, body);
        }
        Frame::Answer { request, asker, expected, part } => {
            out.number(KIND, ANSWER);
            out.number(REQUEST_ID, *request);
            out.number(RECEIVER, *asker);
            if let Some(expected) = expected {
                out.number(EXPECTED, (*expected).into());
            }
            if let Some(part) = part {
                out.bytes(BODY, part);
            }
        }
        Frame::Part { index, count, len, body } => {
            out.number(KIND, PART);
            out.number(INDEX, *index);
            out.number(COUNT, *count);
            out.number(LEN, *len);
            out.bytes(BODY, body);
        }
        Frame::Heartbeat { hello, tails, omission } => {
            out.number(KIND, HEARTBEAT);
            if *hello {
                out.number(HELLO, 1);
            }
            write_tails(&mut out, tails);
            write_omission(&mut out, *omission);
        }
        Frame::Goodbye { tails, omission } => {
            out.number(KIND, GOODBYE);
            write_tails(&mut out, tails);
            write_omission(&mut out, *omission);
        }
        Frame::Fence { stale, known } => {
            out.number(KIND, FENCE);
            out.number(RECEIVER, *stale);
            out.number(KNOWN, *known);
        }
        Frame::Unknown => {}
    }
    out.into_bytes()
}

/// Writes the position of a frame, which precedes the encoded frame.
pub(crate) fn write_position(out: &mut FieldWriter, position: Position) {
    out.number(SEQ, position.seq);
    if position.run > 0 {
        out.number(RUN, position.run);
        out.number(IDLE, millis(position.idle));
    }
}

/// Decodes a frame and its position, if it has one.
pub(crate) fn decode(bytes: Bytes, channel: &Channel) -> Result<(Option<Position>, Frame), DecodeError> {
    let mut fields = Fields::default();
    let mut reader = FieldReader::new(bytes);
    while let Some((field, value)) = reader.next_field()? {
        match field {
            KIND => fields.kind = value.number()?,
            SEQ => fields.seq = Some(value.number()?),
            RUN => fields.run = value.number()?,
            IDLE => fields.idle = value.number()?,
            NAMESPACE => fields.namespace = Some(Namespace::from(text(&value.bytes()?)?)),
            ROOM => push_room(&mut fields.rooms, &value.bytes()?)?,
            EXCEPT => push_room(&mut fields.except, &value.bytes()?)?,
            CONTENT => fields.content = u32::try_from(value.number()?).map_err(|_| DecodeError::Overflow)?,
            BODY => fields.body = Some(value.bytes()?),
            COPY => fields.copy = Some(value.number()?),
            AFTER => fields.after = value.number()?,
            REQUEST_ID => fields.request = Some(value.number()?),
            TIMEOUT => fields.timeout = value.number()?,
            EXPECTED => {
                fields.expected = Some(u32::try_from(value.number()?).map_err(|_| DecodeError::Overflow)?);
            }
            HELLO => fields.hello = value.number()? != 0,
            TAILS => fields.tails = Some(value.bytes()?),
            RECEIVER => fields.receiver = Some(value.number()?),
            KNOWN => fields.known = Some(value.number()?),
            INDEX => fields.index = value.number()?,
            COUNT => fields.count = value.number()?,
            LEN => fields.len = value.number()?,
            OMISSION => fields.omission = Some(value.number()?),
            OMISSION_AGE => fields.omission_age = value.number()?,
            // Added by a later version.
            _ => {}
        }
    }
    fields.finish(channel)
}

/// Fields of any frame, before its kind is known.
#[derive(Default)]
struct Fields {
    kind: u64,
    seq: Option<u64>,
    run: u64,
    idle: u64,
    namespace: Option<Namespace>,
    rooms: Vec<Room>,
    except: Vec<Room>,
    content: u32,
    body: Option<Bytes>,
    copy: Option<u64>,
    after: u64,
    request: Option<u64>,
    timeout: u64,
    expected: Option<u32>,
    hello: bool,
    tails: Option<Bytes>,
    receiver: Option<u64>,
    known: Option<u64>,
    index: u64,
    count: u64,
    len: u64,
    omission: Option<u64>,
    omission_age: u64,
}

impl Fields {
    fn finish(self, channel: &Channel) -> Result<(Option<Position>, Frame), DecodeError> {
        let position = match self.seq {
            Some(seq) if self.run >= seq || seq > MAX_SEQ => return Err(DecodeError::Overflow),
            Some(seq) => Some(Position { seq, run: self.run, idle: duration(self.idle) }),
            None => None,
        };
        let body = || self.body.clone().ok_or(DecodeError::Missing("body"));
        let request = || self.request.ok_or(DecodeError::Missing("request"));
        let age = duration(self.omission_age);
        let omission = self.omission.map(|number| Omission { number, age });
        let receiver = || self.receiver.ok_or(DecodeError::Missing("receiver"));
        let frame = match self.kind {
            PUBLISH => {
                let body = body()?;
                let namespace = match channel {
                    Channel::Namespace(namespace) | Channel::Room(namespace, _) => namespace.clone(),
                    _ => self.namespace.ok_or(DecodeError::Missing("namespace"))?,
                };
                let rooms = match channel {
                    Channel::Room(_, room) if self.rooms.is_empty() => vec![room.clone()],
                    _ => self.rooms,
                };
                let publication =
                    Publication { namespace, rooms, except: self.except, kind: self.content, body };
                let after = if self.copy.is_some() { 0 } else { self.after };
                Frame::Publish { publication, copy: self.copy, after }
            }
            REQUEST => Frame::Request {
                request: request()?,
                kind: self.content,
                timeout: duration(self.timeout),
                body: body()?,
            },
            ANSWER => Frame::Answer {
                request: request()?,
                asker: receiver()?,
                expected: self.expected,
                part: self.body.clone(),
            },
            PART => Frame::Part { index: self.index, count: self.count, len: self.len, body: body()? },
            HEARTBEAT => Frame::Heartbeat { hello: self.hello, tails: read_tails(self.tails)?, omission },
            GOODBYE => Frame::Goodbye { tails: read_tails(self.tails)?, omission },
            FENCE => {
                Frame::Fence { stale: receiver()?, known: self.known.ok_or(DecodeError::Missing("known"))? }
            }
            _ => Frame::Unknown,
        };
        Ok((position, frame))
    }
}

fn push_room(rooms: &mut Vec<Room>, bytes: &[u8]) -> Result<(), DecodeError> {
    if rooms.len() == MAX_ROOMS {
        return Err(DecodeError::TooManyRooms);
    }
    rooms.push(Room::from(text(bytes)?));
    Ok(())
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    str::from_utf8(bytes).map_err(|_| DecodeError::NotText)
}

fn write_tails(out: &mut FieldWriter, tails: &[Tail]) {
    if tails.is_empty() {
        return;
    }
    let mut list = FieldWriter::with_capacity(tails.len() * 16);
    for tail in tails {
        list.raw(&tail.digest.to_le_bytes());
        list.varint(tail.seq);
        list.varint(tail.run);
        list.varint(millis(tail.age));
    }
    out.bytes(TAILS, &list.into_bytes());
}

fn write_omission(out: &mut FieldWriter, omission: Option<Omission>) {
    if let Some(Omission { number, age }) = omission {
        out.number(OMISSION, number);
        out.number(OMISSION_AGE, millis(age));
    }
}

fn read_tails(bytes: Option<Bytes>) -> Result<Vec<Tail>, DecodeError> {
    let Some(bytes) = bytes else { return Ok(Vec::new()) };
    // A tail has 11 bytes at least, so the list is at most three times as large as the message.
    let mut tails = Vec::with_capacity(bytes.len() / MIN_TAIL);
    let mut reader = FieldReader::new(bytes);
    while !reader.is_empty() {
        let digest = reader.fixed()?;
        let (seq, run, age) = (reader.varint()?, reader.varint()?, reader.varint()?);
        if run >= seq || seq > MAX_SEQ {
            return Err(DecodeError::Overflow);
        }
        tails.push(Tail { digest, seq, run, age: duration(age) });
    }
    Ok(tails)
}

/// Rounds down, so that the receiver rather expects a message too many.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Limits a duration to a range in which sums with an `Instant` do not overflow.
fn duration(millis: u64) -> Duration {
    Duration::from_millis(millis.min(MAX_MILLIS))
}

/// Maximum number of rooms in a publication, and of excluded ones.
pub(crate) const MAX_ROOMS: usize = Publication::MAX_ROOMS;
/// Maximum number of a frame; no node reaches it, and sums of it do not overflow.
pub(super) const MAX_SEQ: u64 = u64::MAX / 2;
/// A year.
const MAX_MILLIS: u64 = 365 * 24 * 3600 * 1000;
const MIN_TAIL: usize = 11;

// Fields. A number is never reused for another meaning or type.
const KIND: u64 = 1;
const SEQ: u64 = 2;
const RUN: u64 = 3;
const IDLE: u64 = 4;
const NAMESPACE: u64 = 5;
const ROOM: u64 = 6;
const EXCEPT: u64 = 7;
const CONTENT: u64 = 8;
const BODY: u64 = 9;
const COPY: u64 = 10;
const REQUEST_ID: u64 = 11;
const TIMEOUT: u64 = 12;
const EXPECTED: u64 = 13;
const HELLO: u64 = 14;
const TAILS: u64 = 15;
const RECEIVER: u64 = 16;
const KNOWN: u64 = 17;
const INDEX: u64 = 18;
const COUNT: u64 = 19;
const LEN: u64 = 20;
const AFTER: u64 = 21;
const OMISSION: u64 = 22;
const OMISSION_AGE: u64 = 23;

// Kinds of frames.
const PUBLISH: u64 = 1;
const REQUEST: u64 = 2;
const ANSWER: u64 = 3;
const PART: u64 = 4;
const HEARTBEAT: u64 = 5;
const GOODBYE: u64 = 6;
const FENCE: u64 = 7;
