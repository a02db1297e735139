//! Outputs of a node for its host, and the inputs that are more than a number.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast_core::{Namespace, Room};

use crate::{Channel, Incarnation, NodeId, NodeRef};

/// Publication to the members of rooms on all other nodes, or to their servers.
///
/// The node itself delivers nothing locally; its host does that, before or after.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "hosts build it and take it apart")]
pub struct Publication {
    /// Namespace.
    pub namespace: Namespace,
    /// Rooms whose members are included; empty for all members of the namespace.
    pub rooms: Vec<Room>,
    /// Rooms whose members are excluded.
    pub except: Vec<Room>,
    /// Number that tells the host what the body is, such as an event or a change of rooms.
    pub kind: u32,
    /// Content, opaque to the node.
    pub body: Bytes,
}

impl Publication {
    /// Maximum number of rooms, and of excluded rooms.
    pub const MAX_ROOMS: usize = 4096;
}

/// Request to all other nodes or to one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "hosts build it")]
pub struct ClusterRequest {
    /// Node to ask; `None` for all.
    pub to: Option<NodeId>,
    /// Number that tells the host what the body is, such as a count or a broadcast with acknowledgements.
    pub kind: u32,
    /// Content, opaque to the node.
    pub body: Bytes,
    /// Time after which the request ends with the answers that have arrived.
    pub timeout: Duration,
}

/// Number of a request of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(crate) u64);

/// Number of a pending join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JoinTicket(pub(crate) u64);

/// Request of another node, to which the host may send answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    pub(crate) node: NodeRef,
    pub(crate) request: u64,
    pub(crate) deadline: Instant,
}

impl Asker {
    /// Returns the node that sent the request.
    #[must_use]
    pub fn node(&self) -> NodeRef {
        self.node
    }

    /// Returns the time after which an answer is pointless.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// Output of a node for its host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterAction {
    /// Deliver a publication of another node to local members, or to the local server.
    Deliver {
        /// Publishing node.
        from: NodeRef,
        /// Publication. Its rooms in which a later one was delivered are added to the excluded ones.
        publication: Publication,
    },
    /// Messages of other nodes were lost, or may have been.
    ///
    /// Members of the channel's room may have missed events; a client that recovers later has to be treated as if it
    /// had missed them.
    Gap {
        /// Affected channel; `None` for all.
        channel: Option<Channel>,
        /// Publishing node; `None` for any.
        from: Option<NodeRef>,
        /// Number of lost messages, parts of large ones counted each; `None` if it is unknown, even whether any was
        /// lost.
        lost: Option<u64>,
    },
    /// A join has completed.
    Heard {
        /// Number of the join.
        ticket: JoinTicket,
        /// Outcome.
        outcome: JoinResult,
    },
    /// Another node asks for answers.
    Request {
        /// Reference for the answers.
        asker: Asker,
        /// Number from [`ClusterRequest::kind`].
        kind: u32,
        /// Content.
        body: Bytes,
    },
    /// A node sent a part of its answer.
    Answer {
        /// Request.
        request: RequestId,
        /// Answering node.
        node: NodeRef,
        /// Content.
        part: Bytes,
    },
    /// A request has ended; no answer follows.
    Done {
        /// Request.
        request: RequestId,
        /// Nodes whose answers are missing or incomplete.
        missing: Vec<MissingAnswer>,
        /// Time since the request was sent.
        elapsed: Duration,
    },
    /// Another node is in the cluster.
    ///
    /// Messages that it published before this may not have arrived; a [`Gap`](Self::Gap) reports them.
    NodeJoined {
        /// Node.
        node: NodeRef,
    },
    /// Another node is no longer in the cluster.
    ///
    /// Messages that have not arrived are lost, unless it said goodbye: they may still arrive, or a [`Gap`](Self::Gap)
    /// reports them.
    NodeLeft {
        /// Node.
        node: NodeRef,
        /// Reason.
        reason: LeaveReason,
    },
    /// This node was declared dead by others, or had been out of contact for so long that it must have been. It has
    /// rejoined as a new incarnation, and its requests have ended.
    Rejoined {
        /// New incarnation.
        incarnation: Incarnation,
    },
    /// The goodbye and everything before it has been passed to the engine.
    Left,
}

/// Outcome of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinResult {
    /// The subscription is in effect.
    Confirmed,
    /// The subscription was not confirmed in time. The node keeps trying.
    Degraded,
    /// The room was left, or was never joined.
    Left,
}

/// Node that did not answer a request completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a pair")]
pub struct MissingAnswer {
    /// Node.
    pub node: NodeRef,
    /// Reason.
    pub reason: MissingReason,
}

/// Reason for a missing answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissingReason {
    /// The deadline passed.
    TimedOut,
    /// The node died, left, or was not in the cluster.
    NotInCluster,
    /// This node has rejoined as a new incarnation, or is leaving.
    Interrupted,
}

/// Reason why a node is no longer in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaveReason {
    /// It was silent for longer than the timeout.
    TimedOut,
    /// It has a newer incarnation.
    Replaced,
    /// It said goodbye, and named its last messages. They may still be delivered; a gap reports lost ones.
    Goodbye,
}

/// Error of a publication, request or answer that was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// It is larger than [`ClusterConfig::max_publication`](crate::ClusterConfig::max_publication).
    #[error("publication of {len} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// Length in bytes.
        len: usize,
        /// Limit in bytes.
        limit: usize,
    },
    /// It names too many rooms.
    #[error("publication names {rooms} rooms, which exceeds the limit of {limit}")]
    TooManyRooms {
        /// Number of rooms, or of excluded ones.
        rooms: usize,
        /// Limit.
        limit: usize,
    },
    /// The queue towards the engine is full.
    #[error("queue towards the cluster's message engine is full")]
    QueueFull,
    /// Too many requests are pending.
    #[error("too many pending requests to the cluster")]
    TooManyRequests,
    /// The request that is answered has ended.
    #[error("request has passed its deadline")]
    Late,
    /// The node has said goodbye.
    #[error("node has left the cluster")]
    Left,
}

/// Queue of a node's actions for its host, in order.
pub(crate) type ActionQueue = VecDeque<ClusterAction>;
