//! State of an open namespace.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytestring::ByteString;
use roomcast_cluster_task::reply::ReplySender;
use roomcast_core::{ClusterHost, Heard};
use roomcast_node_adapter::RequestNumber;
use tokio::sync::oneshot;

use super::adapter::{Adapter, Names};
use super::rooms::RoomChannels;
use crate::input::AnswerPart;

/// Open namespace, or one whose subscriptions are ending.
pub(super) struct Entry {
    pub(super) node: Adapter,
    pub(super) names: Names,
    /// `None` once the namespace is closed; requests of other nodes are answered until they are not heard any more.
    pub(super) host: Option<Weak<dyn ClusterHost>>,
    pub(super) subscription: Subscription,
    /// Time since which the subscription is not in effect.
    pub(super) since: Instant,
    /// Whether events may have been lost since the last subscription.
    pub(super) has_missed: bool,
    /// Joins that wait for the subscription, with the channel of their room.
    pub(super) joins: Vec<(Option<ByteString>, oneshot::Sender<Heard>)>,
    pub(super) rooms: RoomChannels,
    pub(super) requests: HashMap<RequestNumber, PendingRequest>,
    /// Pending requests by the number that their future knows.
    pub(super) numbers: HashMap<u64, RequestNumber>,
    /// Bytes of own events that were not read back from the stream.
    pub(super) unconfirmed_bytes: usize,
    /// Registered deadline of a request.
    pub(super) deadline: Option<Instant>,
}

/// Request of this node.
pub(super) struct PendingRequest {
    pub(super) reply: ReplySender<AnswerPart>,
    /// Bytes that it holds until it is published.
    pub(super) bytes: usize,
    pub(super) begun: Instant,
    /// Silent nodes among the subscribers.
    pub(super) silent: u64,
}

/// Subscription of a namespace, from the request to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subscription {
    /// To be requested.
    Wanted,
    /// Requested by the command with this number.
    Requested(u64),
    /// The server refused it; it is requested again.
    Refused,
    Active,
    /// To be ended.
    Ending,
    /// Its end was requested by the command with this number.
    EndRequested(u64),
}

impl Entry {
    pub(super) fn new(node: Adapter, host: Weak<dyn ClusterHost>, now: Instant) -> Self {
        Self {
            names: node.names(),
            node,
            host: Some(host),
            subscription: Subscription::Wanted,
            since: now,
            has_missed: false,
            joins: Vec::new(),
            rooms: RoomChannels::default(),
            requests: HashMap::new(),
            numbers: HashMap::new(),
            unconfirmed_bytes: 0,
            deadline: None,
        }
    }

    /// Returns the host, unless the namespace is closed or its host was dropped.
    pub(super) fn host(&self) -> Option<Arc<dyn ClusterHost>> {
        self.host.as_ref()?.upgrade()
    }

    /// Returns whether the namespace is closed.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.subscription, Subscription::Ending | Subscription::EndRequested(_))
    }

    /// Completes the waiting joins. A join to a room with a channel then waits for the channel if the outcome is good.
    pub(super) fn complete_joins(&mut self, outcome: Heard) {
        for (channel, join) in self.joins.drain(..) {
            match channel {
                Some(channel) if outcome == Heard::Confirmed => self.rooms.join(&channel, join),
                _ => _ = join.send(outcome),
            }
        }
    }
}
