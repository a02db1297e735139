//! Connection of a server to the other nodes of its cluster.

mod host;
mod log;
mod presence;
mod published;
mod request_times;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytestring::ByteString;

pub use self::host::ClusterHost;
pub use self::log::{EventLog, EventLogError, LogQuery, MissedEvents};
pub use self::presence::{ClusterPresence, PresenceMember, PresenceUpdate, RemoteChange, RemoteKey};
pub use self::published::{PublishRefusal, Published};
pub use self::request_times::RequestTimes;
use crate::{Args, Event, Membership, Namespace, Room, SocketId, SocketInfo, Target};

/// Connection of a server to the other nodes of its cluster; [`Router`](crate::Router) knows only the local node.
///
/// The server [opens](Self::open) each namespace that it serves, exactly once, before any member is attached, and
/// [closes](ClusterNamespace::close) it if it is removed. A parent of dynamic namespaces is not opened. At shutdown, it
/// calls [`leave`](Self::leave) after the last session has ended.
#[async_trait]
pub trait Cluster: Send + Sync + fmt::Debug + 'static {
    /// Opens a namespace.
    ///
    /// `host` is called for everything that comes from other nodes, until the namespace is closed or the host is
    /// dropped. Must not block.
    fn open(&self, namespace: &Namespace, host: Weak<dyn ClusterHost>) -> Box<dyn ClusterNamespace>;

    /// Returns the characters with which the ids of this node's sockets begin, so that others can find their node.
    ///
    /// At most 8 characters of base64url, always the same. Default: none.
    fn id_tag(&self) -> &str {
        ""
    }

    /// Returns the state of the connection.
    fn status(&self) -> ClusterStatus;

    /// Returns metrics for the server's exposition, the same names each time. Default: none.
    fn metrics(&self) -> Vec<ClusterMetric> {
        Vec::new()
    }

    /// Publishes the rest of its queue, says goodbye to the other nodes, and disconnects.
    ///
    /// Later publications are [refused](PublishRefusal::Left). The caller limits the time.
    ///
    /// # Cancel safety
    /// The node leaves nevertheless; only the wait ends.
    async fn leave(&self);
}

/// Other nodes that serve a namespace.
///
/// The methods that publish never block and deliver nothing locally, except for [ordered events](#ordered-events).
/// Publications are sent to the nodes that have members in the target's rooms; the target's [scope](Target::scope) and
/// [`skip`](Target::skip) are ignored, since the server has evaluated them. Publications of one task to one room arrive
/// in order.
///
/// # Ordered events
///
/// A cluster may [order](Self::orders_events) events by a log that all nodes share. The server then does not deliver an
/// event itself if it is [reliable](crate::Delivery::Reliable), is not [local](crate::Scope), and requests no
/// acknowledgement. It calls [`broadcast`](Self::broadcast), also if the node [is alone](Self::is_alone). If that
/// returns [`Published::Accepted`], the cluster delivers the event on this node too, exactly once, through
/// [`ClusterHost::deliver`]: in the order of the log, with its offset. An event that cannot be written for now, such as
/// during an outage, may be delivered with a [provisional](EventLog::is_provisional) offset, or without one, and then
/// not again when it is written. An event that is refused is delivered by the server, without an offset. All other
/// events are delivered by the server and published as in other clusters; `broadcast` recognises them by their
/// [`Target::delivery`].
///
/// All nodes then deliver ordered events in the same order. The members of this node receive an event after a round
/// trip to the log, after events that were emitted later and are not ordered.
#[async_trait]
pub trait ClusterNamespace: Send + Sync + fmt::Debug + 'static {
    /// Returns whether no other node is known, so that publishing can be omitted. Cheap.
    fn is_alone(&self) -> bool;

    /// Publishes an event to the members of rooms on other nodes.
    fn broadcast(&self, target: &Target, event: &Event) -> Published;

    /// Returns whether the cluster delivers [ordered events](Self#ordered-events) on this node. Always the same, cheap.
    ///
    /// Default: no, the server delivers all events of this node.
    fn orders_events(&self) -> bool {
        false
    }

    /// Returns the log by which events are ordered; always the same. Default: none.
    ///
    /// With a log, clients can recover on any node.
    fn event_log(&self) -> Option<Arc<dyn EventLog>> {
        None
    }

    /// Publishes a change to the rooms of all matching sockets on other nodes.
    fn update(&self, target: &Target, change: &Membership) -> Published;

    /// Disconnects all matching sockets on other nodes; with `close`, also closes their clients' connections.
    fn disconnect(&self, target: &Target, close: bool) -> Published;

    /// Emits to the servers of all other nodes, not to their clients.
    fn server_side_emit(&self, name: &ByteString, args: &Args) -> Published;

    /// Returns what later [confirms](Confirming::confirm) the publications that begin after this call.
    ///
    /// A publication may be refused before its caller gets to ask, so the caller begins before it publishes.
    fn confirming(&self) -> Box<dyn Confirming>;

    /// Waits until events of other nodes to a room, or to the whole namespace, arrive here.
    ///
    /// The room must have a member on this node. Limited by the time that the implementation allows for a subscription.
    async fn heard(&self, room: Option<&Room>) -> Heard;

    /// Notes that a room got its first member on this node.
    ///
    /// Not called for the room that a socket has by its id alone, if ids begin with the [tag](Cluster::id_tag).
    fn room_created(&self, room: &Room);

    /// Notes that a room lost its last member on this node.
    fn room_deleted(&self, room: &Room);

    /// Returns the sockets of other nodes that match the target.
    ///
    /// # Errors
    /// Returns an error if some nodes did not answer in time. It holds the answers of the others.
    async fn fetch(
        &self,
        target: &Target,
        timeout: Duration,
    ) -> Result<Vec<SocketInfo>, QueryError<SocketInfo>>;

    /// Returns the number of sockets of other nodes that match the target, one number for each node.
    ///
    /// # Errors
    /// Returns an error if some nodes did not answer in time. It holds the answers of the others.
    async fn count(&self, target: &Target, timeout: Duration) -> Result<Vec<usize>, QueryError<usize>>;

    /// Emits to the servers of all other nodes, and returns their answers in order of arrival.
    ///
    /// # Errors
    /// Returns an error if some nodes did not answer in time. It holds the answers of the others.
    async fn server_side_emit_with_ack(
        &self,
        name: &ByteString,
        args: &Args,
        timeout: Duration,
    ) -> Result<Vec<Args>, QueryError<Args>>;

    /// Emits an event to the members of rooms on other nodes, and passes their acknowledgements to `answers`.
    ///
    /// Completes when all have answered or disconnected, or when the time is over. The event's own
    /// [request](Event::ack) is ignored.
    ///
    /// # Errors
    /// Returns an error if some nodes did not report their recipients in time. `answers` has the answers of the others.
    async fn broadcast_with_ack(
        &self,
        target: &Target,
        event: &Event,
        timeout: Duration,
        answers: &dyn RemoteAnswers,
    ) -> Result<(), QueryError<()>>;

    /// Returns the replication of members between nodes; `None` if the cluster has none.
    ///
    /// Presence then shows the members of this node only. A cluster with Node servers has none, since these do not
    /// announce joins. Always the same. Default: none.
    fn presence(&self) -> Option<&dyn ClusterPresence> {
        None
    }

    /// Ends the namespace on this node; called once, when no member is attached.
    fn close(&self);
}

/// Receiver of acknowledgements from other nodes.
///
/// Must not block.
pub trait RemoteAnswers: Send + Sync {
    /// Adds a number of recipients on another node.
    fn requested(&self, recipients: usize);

    /// Records the answer of a recipient; `None` if the other node did not name it.
    fn answered(&self, socket: Option<SocketId>, args: Args);

    /// Records that a recipient will not answer: it disconnected, or does not support acknowledgements.
    fn unanswered(&self, socket: Option<SocketId>);
}

/// State of a server's connection to its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClusterStatus {
    /// The engine has not confirmed the first subscriptions yet.
    Joining,
    /// The engine works, as far as is known.
    Connected,
    /// The engine does not respond. Local delivery continues; publications are queued, and dropped at a limit.
    Degraded,
    /// The node has left the cluster.
    Left,
}

impl ClusterStatus {
    /// Returns a short name in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Connected => "connected",
            Self::Degraded => "degraded",
            Self::Left => "left",
        }
    }
}

/// Outcome of a wait for a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Heard {
    /// Events of other nodes arrive.
    Confirmed,
    /// The engine did not confirm the subscription in time. It is tried again, but events may be lost until then.
    Degraded,
    /// The room has no member on this node any more.
    Left,
}

/// Metric of a cluster connection, for the server's metrics.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "clusters build it")]
pub struct ClusterMetric {
    /// Name in the style of OpenMetrics, without the server's prefix and without `_total`.
    pub name: &'static str,
    /// Description in one sentence.
    pub help: &'static str,
    /// Value.
    pub value: ClusterValue,
}

impl ClusterMetric {
    /// Returns a number that only grows.
    #[must_use]
    pub fn counter(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, help, value: ClusterValue::Counter(value) }
    }

    /// Returns a number that also decreases.
    #[must_use]
    pub fn gauge(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, help, value: ClusterValue::Gauge(value) }
    }

    /// Returns numbers that only grow, by the values of a label. The values should be few.
    #[must_use]
    pub fn counters(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: Vec<(String, f64)>,
    ) -> Self {
        Self { name, help, value: ClusterValue::Counters { label, values } }
    }

    /// Returns numbers that also decrease, by the values of a label. The values should be few.
    #[must_use]
    pub fn gauges(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: Vec<(String, f64)>,
    ) -> Self {
        Self { name, help, value: ClusterValue::Gauges { label, values } }
    }
}

/// Value of a [`ClusterMetric`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ClusterValue {
    /// Number that only grows.
    Counter(f64),
    /// Number that also decreases.
    Gauge(f64),
    /// Numbers that only grow, such as one for each server of an engine.
    Counters {
        /// Name of the label.
        label: &'static str,
        /// Numbers by value of the label.
        values: Vec<(String, f64)>,
    },
    /// Numbers that also decrease.
    Gauges {
        /// Name of the label.
        label: &'static str,
        /// Numbers by value of the label.
        values: Vec<(String, f64)>,
    },
    /// Distribution.
    Histogram {
        /// Sum of all observed values.
        sum: f64,
        /// Upper bounds in ascending order, with the observations above the previous bound. The last is [`f64::MAX`].
        buckets: Vec<(f64, u64)>,
    },
}

/// Error of a query that some nodes did not answer in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} did not answer in time{}", Number(*.missing), Names(.nodes))]
#[allow(clippy::exhaustive_structs, reason = "clusters build it, servers take it apart")]
pub struct QueryError<T> {
    /// Number of nodes that did not answer; `None` if it is not known how many nodes there are.
    pub missing: Option<usize>,
    /// Their names, where known.
    pub nodes: Vec<String>,
    /// Answers of the other nodes.
    pub partial: Vec<T>,
}

struct Number(Option<usize>);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => write!(f, "{number} nodes"),
            None => f.write_str("an unknown number of nodes"),
        }
    }
}

struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0.join(", ")) }
    }
}

impl<T> QueryError<T> {
    /// Converts the answers.
    pub fn map<U>(self, map: impl FnMut(T) -> U) -> QueryError<U> {
        let Self { missing, nodes, partial } = self;
        QueryError { missing, nodes, partial: partial.into_iter().map(map).collect() }
    }
}

/// Confirmation of publications by the engine, which began before them; see [`ClusterNamespace::confirming`].
#[async_trait]
pub trait Confirming: Send + fmt::Debug {
    /// Waits until the engine has accepted all that was published before this call; at most for the timeout.
    ///
    /// # Errors
    /// Returns an error if the engine refused or dropped something that was published since the confirmation began, or
    /// if the time ran out. That may concern a publication of another task at the same time.
    ///
    /// # Cancel safety
    /// The publications are sent nevertheless; only the wait ends.
    async fn confirm(self: Box<Self>, timeout: Duration) -> Result<(), Unconfirmed>;
}

/// Error of publications that the engine did not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unconfirmed {
    /// The publication was refused or dropped.
    #[error("publication was refused: {0}")]
    Refused(#[from] PublishRefusal),
    /// The engine refused it, such as for lack of memory or permissions. Other nodes do not receive it.
    #[error("the cluster's message engine refused the publication: {reason}")]
    RefusedByEngine {
        /// Reason in the words of the engine.
        reason: ByteString,
    },
    /// The engine did not accept it in time. It may still be delivered.
    #[error("the cluster's message engine did not accept the publication in time")]
    TimedOut,
}
