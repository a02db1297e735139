//! Answers to the questions of other nodes.

use bytes::Bytes;
use roomcast_cluster::DecodeError;

use crate::action::RoomName;
use crate::body::{Keyed, PartWriter, decode_ask};
use crate::replica::PresenceReplica;

/// Answer to a question of another node, encoded part by part.
///
/// Memory: the question, and the list of members of one room.
#[derive(Debug)]
pub struct PresenceAnswer {
    rooms: std::iter::Enumerate<std::vec::IntoIter<(RoomName, u64)>>,
    /// Room whose members are not all sent: position, version, and members with the number of sent ones.
    rest: Option<(usize, u64, Vec<Keyed>, usize)>,
    parts: u32,
}

/// Part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "hosts take it apart")]
pub struct AnswerPart {
    /// Total number of parts, with the last one.
    pub expected: Option<u32>,
    /// Content.
    pub body: Bytes,
}

impl PresenceAnswer {
    /// Decodes a question.
    ///
    /// # Errors
    /// Returns an error if it is not of a known version, or damaged.
    pub fn new(question: Bytes) -> Result<Self, DecodeError> {
        Ok(Self { rooms: decode_ask(question)?.into_iter().enumerate(), rest: None, parts: 0 })
    }

    /// Encodes the next part; not called after the last one.
    pub fn next_part(&mut self, replica: &PresenceReplica) -> AnswerPart {
        let max = replica.config().max_bytes;
        let mut out = PartWriter::new(self.parts.into());
        self.parts += 1;
        let mut is_first = true;
        while std::mem::take(&mut is_first) || out.len() < max {
            if let Some((index, version, members, sent)) = &mut self.rest {
                *sent += out.push_members(*index, *version, &members[*sent..], max);
                if *sent == members.len() {
                    self.rest = None;
                }
                continue;
            }
            let Some((index, (name, known))) = self.rooms.next() else { break };
            match replica.published(&name) {
                None => out.push(index, Some(replica.clock())),
                Some(room) if room.version() == known => out.push(index, None),
                Some(room) => self.rest = Some((index, room.version(), room.published(), 0)),
            }
        }
        let is_last = self.rest.is_none() && self.rooms.len() == 0;
        AnswerPart { expected: is_last.then_some(self.parts), body: out.finish() }
    }
}
