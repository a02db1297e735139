//! Messages of a run, and what members must have received at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Instant;

use bytes::Bytes;
use roomcast_cluster::{Channel, NodeId};
use roomcast_core::{Namespace, Room};

/// Broken promise of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Publication of a run.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) from: NodeId,
    /// Process that published it.
    pub(super) process: u64,
    pub(super) channels: Vec<Channel>,
    pub(super) rooms: Vec<Room>,
    pub(super) except: Vec<Room>,
    pub(super) at: Instant,
    pub(super) len: usize,
    /// The node was not alone, as far as it knew.
    pub(super) is_sent: bool,
    pub(super) expected: Vec<Expected>,
}

/// Member that must receive a publication, unless its loss is reported to the member's node.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) process: u64,
    pub(super) member: u64,
    /// The member's rooms have not changed while it has this version.
    pub(super) version: u64,
}

/// Report to a host that messages may be missing.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) at: Instant,
    pub(super) channel: Option<Channel>,
    pub(super) from: Option<NodeId>,
}

impl Report {
    /// Returns whether it covers a publication.
    pub(super) fn covers(&self, message: &Published) -> bool {
        self.at >= message.at
            && self.channel.as_ref().is_none_or(|channel| message.channels.contains(channel))
            && self.from.is_none_or(|from| from == message.from)
    }
}

/// Socket of the model.
#[derive(Debug)]
pub(super) struct SimMember {
    /// Room named by its id, which carries the tag of its node.
    pub(super) own: Room,
    pub(super) rooms: BTreeSet<Room>,
    pub(super) version: u64,
    pub(super) seen: BTreeSet<u64>,
    /// Last publication by node and room of the member, or namespace.
    pub(super) last: BTreeMap<(NodeId, Option<Room>), u64>,
}

impl SimMember {
    pub(super) fn is_in(&self, room: &Room) -> bool {
        self.own == *room || self.rooms.contains(room)
    }

    /// Records a publication; returns an earlier one that should have followed it.
    ///
    /// The publications of a node are in order for each room that they name, and that the member's node had confirmed
    /// to be joined when they were published.
    pub(super) fn receive(
        &mut self,
        id: u64,
        message: &Published,
        confirmed: &BTreeMap<Channel, Instant>,
    ) -> Option<u64> {
        let is_ordered = |room: &&Room| {
            let at = confirmed.get(&Channel::of(&namespace(), Some(room)));
            self.is_in(room) && at.is_some_and(|at| *at <= message.at)
        };
        let rooms: Vec<_> = match &message.rooms[..] {
            [] => vec![None],
            rooms => rooms.iter().filter(is_ordered).cloned().map(Some).collect(),
        };
        let last = |room| self.last.insert((message.from, room), id);
        rooms.into_iter().filter_map(last).find(|last| *last > id)
    }

    pub(super) fn matches(&self, rooms: &[Room], except: &[Room]) -> bool {
        (rooms.is_empty() || rooms.iter().any(|room| self.is_in(room)))
            && !except.iter().any(|room| self.is_in(room))
    }
}

/// Returns a body of this length that names its publication.
pub(super) fn body(id: u64, len: usize) -> Bytes {
    let mut body = id.to_le_bytes().to_vec();
    body.extend((8..len.max(8)).map(|index| fill(id, index)));
    body.into()
}

/// Returns the publication that a body names, if all bytes are right.
pub(super) fn read_body(body: &[u8], messages: &[Published]) -> Result<u64, Violation> {
    let id = body.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let message = id.and_then(|id| messages.get(usize::try_from(id).ok()?));
    let is_right = |id: u64| body.iter().enumerate().skip(8).all(|(index, byte)| *byte == fill(id, index));
    match (id, message) {
        (Some(id), Some(message)) if message.len.max(8) == body.len() && is_right(id) => Ok(id),
        _ => Err(Violation(format!("body of {} bytes is damaged", body.len()))),
    }
}

/// Returns the namespace of all publications.
pub(super) fn namespace() -> Namespace {
    Namespace::main()
}

fn fill(id: u64, index: usize) -> u8 {
    (id.wrapping_mul(31).wrapping_add(index as u64)) as u8
}
