//! Bodies of publications, questions and answers.
//!
//! # Format
//!
//! A byte with the version, now 1, then fields in the format of envelopes. Changes, rooms and members are nested fields.
//! Readers skip fields that they do not know, so fields may be added without a new version.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_cluster::DecodeError;
use roomcast_cluster::wire::{FieldReader, FieldWriter, Value};
use roomcast_core::{Namespace, PresenceMember, Room, SocketId};

use crate::action::RoomName;

/// Member and its key on its node.
pub(crate) type Keyed = (u64, Arc<PresenceMember>);

/// Change of a room on its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    /// A member has joined, or has new data.
    Put(Keyed),
    /// A member has left, with its last data if that is new.
    Remove(u64, Option<ByteString>),
}

/// Changes of a room from one version to the next; without any, the announcement of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delta {
    /// Version before the changes; 0 if the room was empty.
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) ops: Vec<Op>,
}

/// State of one room in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// Position of the room in the question.
    pub(crate) index: usize,
    pub(crate) state: ItemState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ItemState {
    /// The version in the question is the present one.
    Same,
    /// The room is empty since a version of the node.
    Empty(u64),
    /// Members in this version; more follow in the next part of the answer unless it is complete.
    Members { version: u64, members: Vec<Keyed>, is_complete: bool },
}

/// Part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Position of the part in the answer.
    pub(crate) number: u64,
    pub(crate) items: Vec<Item>,
}

/// Encoder of changes.
#[derive(Debug)]
pub(crate) struct DeltaWriter(FieldWriter);

impl DeltaWriter {
    pub(crate) fn new() -> Self {
        Self(begin(64))
    }

    pub(crate) fn push(&mut self, op: &Op) {
        match op {
            Op::Put(member) => self.0.bytes(PUT, &encode_member(member)),
            Op::Remove(key, data) => {
                let mut out = FieldWriter::default();
                out.number(KEY, *key);
                if let Some(data) = data {
                    out.bytes(DATA, data.as_bytes());
                }
                self.0.bytes(REMOVE, &out.into_bytes());
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn finish(mut self, from: u64, to: u64) -> Bytes {
        self.0.number(FROM, from);
        self.0.number(TO, to);
        self.0.into_bytes()
    }
}

pub(crate) fn decode_delta(body: Bytes) -> Result<Delta, DecodeError> {
    let mut reader = open(body)?;
    let (mut from, mut to, mut ops) = (None, None, Vec::new());
    while let Some((field, value)) = reader.next_field()? {
        match field {
            FROM => from = Some(value.number()?),
            TO => to = Some(value.number()?),
            PUT => ops.push(Op::Put(decode_member(value)?)),
            REMOVE => {
                let fields = Member::decode(value)?;
                ops.push(Op::Remove(fields.key.ok_or(DecodeError::Missing("key"))?, fields.data));
            }
            // Added by a later version.
            _ => {}
        }
    }
    let (from, to) = (from.ok_or(DecodeError::Missing("from"))?, to.ok_or(DecodeError::Missing("to"))?);
    if to == 0 || from > to {
        return Err(DecodeError::Overflow);
    }
    Ok(Delta { from, to, ops })
}

/// Encoder of a question.
#[derive(Debug)]
pub(crate) struct AskWriter(FieldWriter);

impl AskWriter {
    pub(crate) fn new() -> Self {
        Self(begin(256))
    }

    /// Appends a room, with the version that is known of it.
    pub(crate) fn push(&mut self, name: &RoomName, version: u64) {
        let mut out = FieldWriter::default();
        if !name.namespace.is_main() {
            out.bytes(NAMESPACE, name.namespace.as_str().as_bytes());
        }
        out.bytes(ROOM, name.room.as_str().as_bytes());
        if version > 0 {
            out.number(TO, version);
        }
        self.0.bytes(ITEM, &out.into_bytes());
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn finish(self) -> Bytes {
        self.0.into_bytes()
    }
}

pub(crate) fn decode_ask(body: Bytes) -> Result<Vec<(RoomName, u64)>, DecodeError> {
    let mut reader = open(body)?;
    let mut rooms = Vec::new();
    while let Some((field, value)) = reader.next_field()? {
        if field == ITEM {
            let mut fields = FieldReader::new(value.bytes()?);
            let (mut namespace, mut room, mut version) = (Namespace::main(), None, 0);
            while let Some((field, value)) = fields.next_field()? {
                match field {
                    NAMESPACE => namespace = Namespace::from(&*text(value)?),
                    ROOM => room = Some(Room::from(&*text(value)?)),
                    TO => version = value.number()?,
                    _ => {}
                }
            }
            let room = room.ok_or(DecodeError::Missing("room"))?;
            rooms.push((RoomName { namespace, room }, version));
        }
    }
    Ok(rooms)
}

/// Encoder of a part of an answer.
#[derive(Debug)]
pub(crate) struct PartWriter(FieldWriter);

impl PartWriter {
    pub(crate) fn new(number: u64) -> Self {
        let mut out = begin(256);
        out.number(PART, number);
        Self(out)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Appends a room that has the version in the question, or is empty.
    pub(crate) fn push(&mut self, index: usize, empty_since: Option<u64>) {
        let mut out = FieldWriter::default();
        out.number(INDEX, index as u64);
        match empty_since {
            Some(version) => out.number(EMPTY, version),
            None => out.number(SAME, 1),
        }
        self.0.bytes(ITEM, &out.into_bytes());
    }

    /// Appends members of a room until a number of bytes is reached; returns how many.
    pub(crate) fn push_members(
        &mut self,
        index: usize,
        version: u64,
        members: &[Keyed],
        max: usize,
    ) -> usize {
        let mut out = FieldWriter::default();
        out.number(INDEX, index as u64);
        out.number(TO, version);
        let mut count = 0;
        for member in members {
            out.bytes(PUT, &encode_member(member));
            count += 1;
            if self.len() + out.len() >= max {
                break;
            }
        }
        if count < members.len() {
            out.number(MORE, 1);
        }
        self.0.bytes(ITEM, &out.into_bytes());
        count
    }

    pub(crate) fn finish(self) -> Bytes {
        self.0.into_bytes()
    }
}

pub(crate) fn decode_part(body: Bytes) -> Result<Part, DecodeError> {
    let mut reader = open(body)?;
    let (mut number, mut items) = (None, Vec::new());
    while let Some((field, value)) = reader.next_field()? {
        match field {
            PART => number = Some(value.number()?),
            ITEM => items.push(decode_item(value)?),
            _ => {}
        }
    }
    Ok(Part { number: number.ok_or(DecodeError::Missing("part"))?, items })
}

fn decode_item(value: Value) -> Result<Item, DecodeError> {
    let mut reader = FieldReader::new(value.bytes()?);
    let (mut index, mut version, mut empty, mut is_same, mut has_more) = (None, None, None, false, false);
    let mut members = Vec::new();
    while let Some((field, value)) = reader.next_field()? {
        match field {
            INDEX => index = Some(usize::try_from(value.number()?).map_err(|_| DecodeError::Overflow)?),
            TO => version = Some(value.number()?),
            EMPTY => empty = Some(value.number()?),
            SAME => is_same = value.number()? != 0,
            MORE => has_more = value.number()? != 0,
            PUT => members.push(decode_member(value)?),
            _ => {}
        }
    }
    let state = match (empty, version) {
        _ if is_same => ItemState::Same,
        (Some(since), _) => ItemState::Empty(since),
        (None, Some(version)) => ItemState::Members { version, members, is_complete: !has_more },
        (None, None) => return Err(DecodeError::Missing("version")),
    };
    Ok(Item { index: index.ok_or(DecodeError::Missing("index"))?, state })
}

fn encode_member((key, member): &Keyed) -> Bytes {
    let data = member.data.as_ref().map_or(0, |data| data.len());
    let mut out = FieldWriter::with_capacity(member.id.as_str().len() + data + 24);
    out.number(KEY, *key);
    out.bytes(ID, member.id.as_str().as_bytes());
    if let Some(data) = &member.data {
        out.bytes(DATA, data.as_bytes());
    }
    out.into_bytes()
}

fn decode_member(value: Value) -> Result<Keyed, DecodeError> {
    let Member { key, id, data } = Member::decode(value)?;
    let id = SocketId::from(&*id.ok_or(DecodeError::Missing("id"))?);
    Ok((key.ok_or(DecodeError::Missing("key"))?, Arc::new(PresenceMember { id, data })))
}

#[derive(Default)]
struct Member {
    key: Option<u64>,
    id: Option<ByteString>,
    data: Option<ByteString>,
}

impl Member {
    fn decode(value: Value) -> Result<Self, DecodeError> {
        let mut reader = FieldReader::new(value.bytes()?);
        let mut member = Self::default();
        while let Some((field, value)) = reader.next_field()? {
            match field {
                KEY => member.key = Some(value.number()?),
                ID => member.id = Some(text(value)?),
                // A copy, since a slice would keep the message of the engine in memory.
                DATA => member.data = Some(ByteString::from(&*text(value)?)),
                _ => {}
            }
        }
        Ok(member)
    }
}

fn text(value: Value) -> Result<ByteString, DecodeError> {
    ByteString::try_from(value.bytes()?).map_err(|_| DecodeError::NotText)
}

fn begin(capacity: usize) -> FieldWriter {
    let mut out = FieldWriter::with_capacity(capacity);
    out.raw(&[VERSION]);
    out
}

fn open(body: Bytes) -> Result<FieldReader, DecodeError> {
    match body.first() {
        None => Err(DecodeError::Truncated),
        Some(&VERSION) => Ok(FieldReader::new(body.slice(1..))),
        Some(&version) => Err(DecodeError::Version(version)),
    }
}

/// Decodes a body in all interpretations; returns the number of successes.
///
/// For fuzzing: no input panics, and memory is bounded by a multiple of the input's length.
#[must_use]
pub fn check_body(body: &Bytes) -> usize {
    let results = [
        decode_delta(body.clone()).is_ok(),
        decode_ask(body.clone()).is_ok(),
        decode_part(body.clone()).is_ok(),
    ];
    results.into_iter().filter(|is_ok| *is_ok).count()
}

/// Version of the format.
const VERSION: u8 = 1;

// Fields. A number is never reused for another meaning or type.
const FROM: u64 = 1;
const TO: u64 = 2;
const PUT: u64 = 3;
const REMOVE: u64 = 4;
const KEY: u64 = 5;
const ID: u64 = 6;
const DATA: u64 = 7;
const ITEM: u64 = 8;
const NAMESPACE: u64 = 9;
const ROOM: u64 = 10;
const PART: u64 = 11;
const INDEX: u64 = 12;
const SAME: u64 = 13;
const EMPTY: u64 = 14;
const MORE: u64 = 15;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members() -> impl Strategy<Value = Vec<Keyed>> {
        let member = (any::<u64>(), ".{0,9}", prop::option::of(".{0,9}"));
        let keyed = member.prop_map(|(key, id, data)| {
            (key, Arc::new(PresenceMember { id: SocketId::from(id), data: data.map(ByteString::from) }))
        });
        prop::collection::vec(keyed, 0..8)
    }

    proptest! {
        #[test]
        fn deltas_decode_back(members in members(), from in 0..9_u64, more in 1..9_u64) {
            let (from, to) = (from, from + more);
            let op = |(index, (key, member)): (usize, Keyed)| match index % 3 {
                0 => Op::Remove(key, member.data.clone()),
                _ => Op::Put((key, member)),
            };
            let ops: Vec<_> = members.into_iter().enumerate().map(op).collect();
            let mut out = DeltaWriter::new();
            ops.iter().for_each(|op| out.push(op));
            prop_assert_eq!(decode_delta(out.finish(from, to)).unwrap(), Delta { from, to, ops });
        }

        #[test]
        fn asks_decode_back(names in prop::collection::vec(("(/[a-z]{0,3})", ".{0,9}", any::<u64>()), 0..9)) {
            let name = |namespace: &str, room: &str| RoomName { namespace: namespace.into(), room: room.into() };
            let rooms: Vec<_> = names.iter().map(|(space, room, version)| (name(space, room), *version)).collect();
            let mut out = AskWriter::new();
            rooms.iter().for_each(|(name, version)| out.push(name, *version));
            prop_assert_eq!(decode_ask(out.finish()).unwrap(), rooms);
        }

        #[test]
        fn parts_decode_back(members in members(), max in 1..400_usize) {
            let mut out = PartWriter::new(7);
            out.push(1, None);
            out.push(2, Some(5));
            let count = out.push_members(3, 9, &members, max);
            let part = decode_part(out.finish()).unwrap();
            let is_complete = count == members.len();
            prop_assert!(is_complete || count > 0);
            let all = ItemState::Members { version: 9, members: members[..count].to_vec(), is_complete };
            let states = [ItemState::Same, ItemState::Empty(5), all];
            let items = (1..).zip(states).map(|(index, state)| Item { index, state }).collect();
            prop_assert_eq!(part, Part { number: 7, items });
        }

        #[test]
        fn arbitrary_bytes_are_rejected_calmly(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = check_body(&Bytes::copy_from_slice(&bytes));
            if let Some(version) = bytes.first_mut() {
                *version = VERSION;
            }
            let _ = check_body(&bytes.into());
        }
    }
}
