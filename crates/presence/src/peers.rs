//! Other nodes, and the questions to them.

use std::collections::BTreeMap;
use std::time::Instant;

use roomcast_cluster::{Incarnation, NodeId, NodeRef};

use crate::action::{AskId, RoomName};
use crate::body::Keyed;
use crate::config::PresenceConfig;

/// Other nodes that are alive.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    peers: BTreeMap<NodeId, Peer>,
}

/// Other node.
#[derive(Debug)]
pub(crate) struct Peer {
    incarnation: Incarnation,
    /// Rooms to ask for, each once, by a number that grows.
    pub(crate) queue: BTreeMap<u64, RoomName>,
    pub(crate) sent: Option<SentAsk>,
    /// Time before which no question is sent.
    retry_at: Option<Instant>,
    failures: u32,
}

/// Question that was sent.
#[derive(Debug)]
pub(crate) struct SentAsk {
    pub(crate) id: AskId,
    /// Rooms, until they are answered.
    pub(crate) rooms: Vec<Option<RoomName>>,
    /// Number of the next part of the answer; `None` after one was lost.
    pub(crate) next_part: Option<u64>,
    /// Incomplete members of a room, by its position, in one version.
    pub(crate) partial: Option<(usize, u64, Vec<Keyed>)>,
}

impl Peers {
    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.peers.keys().copied()
    }

    pub(crate) fn insert(&mut self, node: NodeRef) {
        let peer = Peer {
            incarnation: node.incarnation,
            queue: BTreeMap::new(),
            sent: None,
            retry_at: None,
            failures: 0,
        };
        self.peers.insert(node.id, peer);
    }

    /// Removes a node in this incarnation; returns whether it was there.
    pub(crate) fn remove(&mut self, node: NodeRef) -> bool {
        self.contains(node) && self.peers.remove(&node.id).is_some()
    }

    pub(crate) fn contains(&self, node: NodeRef) -> bool {
        self.peers.get(&node.id).is_some_and(|peer| peer.incarnation == node.incarnation)
    }

    /// Returns the present incarnation of a node.
    pub(crate) fn get(&self, id: NodeId) -> Option<NodeRef> {
        self.peers.get(&id).map(|peer| NodeRef { id, incarnation: peer.incarnation })
    }

    pub(crate) fn has(&self, id: NodeId) -> bool {
        self.peers.contains_key(&id)
    }

    pub(crate) fn get_mut(&mut self, id: NodeId) -> Option<&mut Peer> {
        self.peers.get_mut(&id)
    }

    /// Returns the node to which a question was sent.
    pub(crate) fn asked(&mut self, id: AskId) -> Option<(NodeId, &mut Peer)> {
        let is_asked = |peer: &Peer| peer.sent.as_ref().is_some_and(|sent| sent.id == id);
        self.peers.iter_mut().find(|(_, peer)| is_asked(peer)).map(|(id, peer)| (*id, peer))
    }

    /// Returns a node to which a question can be sent now.
    pub(crate) fn next_to_ask(&self, now: Instant) -> Option<NodeRef> {
        let is_due = |peer: &Peer| peer.ask_at().is_some_and(|at| at.is_none_or(|at| at <= now));
        let (id, peer) = self.peers.iter().find(|(_, peer)| is_due(peer))?;
        Some(NodeRef { id: *id, incarnation: peer.incarnation })
    }

    pub(crate) fn has_ask(&self, now: Instant) -> bool {
        self.next_to_ask(now).is_some()
    }

    /// Returns the time at which a question can be sent again.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.peers.values().filter_map(|peer| peer.ask_at().flatten()).min()
    }
}

impl Peer {
    /// Returns whether there is something to ask, and the time before which it has to wait.
    fn ask_at(&self) -> Option<Option<Instant>> {
        (self.sent.is_none() && !self.queue.is_empty()).then_some(self.retry_at)
    }

    /// Removes the room that has waited longest from the queue.
    pub(crate) fn pop(&mut self) -> Option<RoomName> {
        self.queue.pop_first().map(|(_, name)| name)
    }

    /// Records the end of a question.
    pub(crate) fn settle(&mut self, is_complete: bool, now: Instant, config: &PresenceConfig) {
        if is_complete {
            (self.retry_at, self.failures) = (None, 0);
            return;
        }
        self.retry_at = Some(now + config.retry_interval * 2_u32.pow(self.failures.min(MAX_DOUBLINGS)));
        self.failures += 1;
    }
}

/// Number of times that the pause before a question is repeated doubles.
const MAX_DOUBLINGS: u32 = 4;
