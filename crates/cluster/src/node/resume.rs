//! Delay of the queue after an outage of the engine, until the other nodes have returned.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::NodeId;

/// Nodes that are awaited before the queue is sent.
///
/// An engine without memory delivers nothing to a node that has not subscribed again. A node's heartbeat follows its
/// subscriptions, so the first one after an outage shows that its publications arrive.
#[derive(Debug, Default)]
pub(super) struct Resume {
    nodes: BTreeSet<NodeId>,
    /// Time at which the wait ends, once the engine has returned.
    until: Option<Instant>,
}

impl Resume {
    /// Begins a wait for the nodes that were alive when the subscriptions were lost.
    pub(super) fn begin(&mut self, alive: impl Iterator<Item = NodeId>) {
        self.nodes.extend(alive);
        self.until = None;
    }

    /// Limits the wait, as the engine accepts commands.
    pub(super) fn limit(&mut self, until: Instant) {
        if self.is_pending() {
            self.until.get_or_insert(until);
        }
    }

    /// Notes that a node has returned or left.
    pub(super) fn remove(&mut self, node: NodeId) {
        if self.nodes.remove(&node) && self.nodes.is_empty() {
            self.end();
        }
    }

    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// Returns whether nodes are awaited.
    pub(super) fn is_pending(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// Returns whether nodes are awaited although the engine has returned.
    pub(super) fn is_limited(&self) -> bool {
        self.until.is_some()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().copied()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            self.end();
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.until
    }
}
