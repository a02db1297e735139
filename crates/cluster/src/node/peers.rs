//! Other nodes of the cluster, as far as this one has heard them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::outputs::Outputs;
use super::queue::{ROUNDS, at_least};
use super::streams::may_follow;
use crate::envelope::Omission;
use crate::mutation::Mutation;
use crate::{ClusterAction, ClusterConfig, Incarnation, LeaveReason, NodeId, NodeRef};

/// Other nodes, alive and dead.
#[derive(Debug)]
pub(super) struct Peers {
    config: Arc<ClusterConfig>,
    peers: BTreeMap<NodeId, Peer>,
    /// Time before which no node can time out.
    check_at: Option<Instant>,
}

#[derive(Debug)]
struct Peer {
    incarnation: Incarnation,
    state: State,
    heard: Instant,
    /// Number of the last heartbeat that arrived, or whose absence was reported.
    heartbeat: u64,
    /// Number of the last omission that was considered.
    omission: u64,
    fenced_at: Option<Instant>,
    copies: Copies,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Alive,
    /// It said goodbye. Its earlier publications are accepted until this time.
    Leaving {
        until: Instant,
    },
    /// Kept to reject what arrives late.
    Dead {
        said_goodbye: bool,
    },
}

/// Publications on several channels of which a copy has arrived.
#[derive(Debug, Default)]
struct Copies {
    arrived: BTreeSet<u64>,
    /// Numbers up to this are forgotten.
    floor: u64,
}

/// Whether messages of a node are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Accepted,
    /// The incarnation is dead; `notify` is its last known one if the node has to be notified.
    Stale {
        notify: Option<Incarnation>,
    },
}

/// Whether a copy of a publication is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copy {
    First,
    Further,
    /// Too old to tell.
    Unknown,
}

impl Peers {
    pub(super) fn new(config: Arc<ClusterConfig>) -> Self {
        Self { config, peers: BTreeMap::new(), check_at: None }
    }

    /// Returns the nodes that are alive, by id.
    pub(super) fn alive(&self) -> impl Iterator<Item = NodeRef> {
        let alive = self.peers.iter().filter(|(_, peer)| peer.state == State::Alive);
        alive.map(|(id, peer)| NodeRef { id: *id, incarnation: peer.incarnation })
    }

    /// Returns the time since the last message of a node.
    pub(super) fn silence(&self, node: NodeId, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.peers.get(&node)?.heard))
    }

    /// Records a message of a node, and decides whether it is accepted.
    ///
    /// `heard_since` is the time of this node's first subscription. Appends the incarnations that this ends to `ended`.
    pub(super) fn admit(
        &mut self,
        from: NodeRef,
        heartbeat: u64,
        heard_since: Option<Instant>,
        now: Instant,
        ended: &mut Vec<NodeRef>,
        out: &mut Outputs,
    ) -> Admission {
        let Some(peer) = self.peers.get_mut(&from.id) else {
            self.insert(from, heartbeat, heard_since, now, out);
            return Admission::Accepted;
        };
        if from.incarnation > peer.incarnation {
            let old = NodeRef { id: from.id, incarnation: peer.incarnation };
            match peer.state {
                State::Alive => {
                    out.act(ClusterAction::NodeLeft { node: old, reason: LeaveReason::Replaced });
                }
                // Its later publications were dropped.
                State::Dead { said_goodbye: false } => out.gap(None, Some(old), None),
                State::Leaving { .. } | State::Dead { said_goodbye: true } => {}
            }
            ended.push(old);
            self.insert(from, heartbeat, heard_since, now, out);
            return Admission::Accepted;
        }
        let is_stale = from.incarnation < peer.incarnation || matches!(peer.state, State::Dead { .. });
        if is_stale && self.config.has(Mutation::AcceptStale) {
            return Admission::Accepted;
        }
        if is_stale {
            let pause = self.config.heartbeat_interval / 2;
            let is_due = peer.fenced_at.is_none_or(|at| now.saturating_duration_since(at) >= pause);
            if is_due {
                peer.fenced_at = Some(now);
            }
            return Admission::Stale { notify: is_due.then_some(peer.incarnation) };
        }
        peer.heard = peer.heard.max(now);
        if heartbeat > peer.heartbeat.saturating_add(ROUNDS) {
            // The ends of streams may have been listed in the heartbeats that are missing.
            peer.heartbeat = heartbeat;
            if !self.config.has(Mutation::IgnoreMissedHeartbeats) {
                out.gap(None, Some(from), None);
            }
        }
        Admission::Accepted
    }

    /// Records a heartbeat of an accepted node.
    pub(super) fn heartbeat(&mut self, from: NodeRef, number: u64) {
        if let Some(peer) = self.peers.get_mut(&from.id) {
            peer.heartbeat = peer.heartbeat.max(number);
        }
    }

    /// Reports an omission of an accepted node, unless it ended before this node's first subscription.
    pub(super) fn omission(
        &mut self,
        from: NodeRef,
        omission: Omission,
        heard_since: Option<Instant>,
        now: Instant,
        out: &mut Outputs,
    ) {
        let Some(peer) = self.peers.get_mut(&from.id) else { return };
        let is_known = omission.number <= peer.omission;
        peer.omission = peer.omission.max(omission.number);
        let may_miss = heard_since.is_some_and(|since| may_follow(now, omission.age, since));
        if may_miss && !is_known && !self.config.has(Mutation::IgnoreOmissions) {
            out.gap(None, Some(from), None);
        }
    }

    /// Records a goodbye; returns whether the node was alive.
    pub(super) fn goodbye(&mut self, from: NodeRef, now: Instant, out: &mut Outputs) -> bool {
        let Some(peer) = self.peers.get_mut(&from.id) else { return false };
        if peer.state != State::Alive || self.config.has(Mutation::IgnoreGoodbye) {
            return false;
        }
        peer.state = State::Leaving { until: now + self.config.node_timeout };
        self.check_at = Some(now);
        out.act(ClusterAction::NodeLeft { node: from, reason: LeaveReason::Goodbye });
        true
    }

    /// Records a copy of a publication that is sent on several channels.
    pub(super) fn copy(&mut self, from: NodeRef, number: u64) -> Copy {
        let Some(peer) = self.peers.get_mut(&from.id) else { return Copy::First };
        let copies = &mut peer.copies;
        if copies.arrived.contains(&number) {
            return Copy::Further;
        }
        if number <= copies.floor {
            return Copy::Unknown;
        }
        copies.arrived.insert(number);
        if copies.arrived.len() > MAX_COPIES_KEPT
            && let Some(oldest) = copies.arrived.pop_first()
        {
            copies.floor = copies.floor.max(oldest);
        }
        Copy::First
    }

    /// Excludes a time in which this node was not running from the silence of the others.
    pub(super) fn excuse(&mut self, pause: Duration) {
        for peer in self.peers.values_mut() {
            peer.heard += pause;
        }
    }

    /// Declares silent nodes dead; returns them.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outputs) -> Vec<NodeRef> {
        let mut ended = Vec::new();
        if self.check_at.is_none_or(|at| at > now) || self.config.has(Mutation::NeverDeclareDead) {
            return ended;
        }
        let timeout = self.config.node_timeout;
        let mut next = None;
        for (id, peer) in &mut self.peers {
            let until = match peer.state {
                State::Alive => peer.heard + timeout,
                State::Leaving { until } => until,
                State::Dead { .. } => continue,
            };
            if until > now {
                next = Some(next.map_or(until, |next: Instant| next.min(until)));
                continue;
            }
            let node = NodeRef { id: *id, incarnation: peer.incarnation };
            if peer.state == State::Alive {
                out.metrics.nodes_lost += 1;
                out.act(ClusterAction::NodeLeft { node, reason: LeaveReason::TimedOut });
            }
            peer.state = State::Dead { said_goodbye: peer.state != State::Alive };
            peer.copies = Copies::default();
            ended.push(node);
        }
        self.check_at = next;
        self.forget_oldest();
        ended
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.check_at.filter(|_| !self.config.has(Mutation::NeverDeclareDead))
    }

    fn insert(
        &mut self,
        node: NodeRef,
        heartbeat: u64,
        heard_since: Option<Instant>,
        now: Instant,
        out: &mut Outputs,
    ) {
        // The ends of its streams are listed in several heartbeats, so the first ones may be missed.
        let is_new = heartbeat <= ROUNDS;
        // A stream has to be idle before its end is listed: no stream since the first subscription was.
        let interval = at_least(self.config.heartbeat_interval);
        let is_early = heard_since.is_none_or(|since| now.saturating_duration_since(since) < interval);
        let peer = Peer {
            incarnation: node.incarnation,
            state: State::Alive,
            heard: now,
            heartbeat: if is_new && !is_early { 0 } else { heartbeat },
            omission: 0,
            fenced_at: None,
            copies: Copies::default(),
        };
        self.peers.insert(node.id, peer);
        let until = now + self.config.node_timeout;
        self.check_at = Some(self.check_at.map_or(until, |at| at.min(until)));
        out.act(ClusterAction::NodeJoined { node });
        if !is_new && !is_early && !self.config.has(Mutation::IgnoreMissedHeartbeats) {
            out.gap(None, Some(node), None);
        }
    }

    fn forget_oldest(&mut self) {
        let dead = |(_, peer): &(&NodeId, &Peer)| matches!(peer.state, State::Dead { .. });
        while self.peers.iter().filter(dead).count() > MAX_DEAD {
            let oldest = self.peers.iter().filter(dead).min_by_key(|(_, peer)| peer.heard);
            let Some(oldest) = oldest.map(|(id, _)| *id) else { return };
            self.peers.remove(&oldest);
        }
    }
}

/// Dead nodes that are remembered, to reject their late messages.
const MAX_DEAD: usize = 1024;
/// Publications on several channels that are remembered for each node.
const MAX_COPIES_KEPT: usize = 1024;
