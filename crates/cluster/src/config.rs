//! Settings of a node.

use std::time::Duration;

use crate::mutation::Mutation;

/// Settings of a node; all nodes of a cluster should have the same.
///
/// ```
/// use std::time::Duration;
///
/// use roomcast_cluster::ClusterConfig;
///
/// let mut config = ClusterConfig::default();
/// config.heartbeat_interval = Duration::from_secs(2);
/// config.node_timeout = Duration::from_secs(10);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClusterConfig {
    /// Time between heartbeats of a node. Default: 1 s.
    ///
    /// Each heartbeat is a message to all nodes. A lost message without a successor is noticed after up to three
    /// intervals.
    pub heartbeat_interval: Duration,
    /// Silence after which a node is declared dead. Default: 5 s.
    ///
    /// At least three heartbeat intervals, or a healthy node may be declared dead. A node that declares another dead
    /// makes it rejoin as a new incarnation if it was alive.
    pub node_timeout: Duration,
    /// Time that a join waits for the confirmation of its subscription. Default: 1 s.
    pub join_timeout: Duration,
    /// Time after which an unconfirmed subscription is requested again. Default: 1 s.
    pub subscribe_retry: Duration,
    /// Time for which joins and leaves are collected into one command. Default: 5 ms.
    pub subscribe_delay: Duration,
    /// Time for which a room without members stays subscribed, since many rooms are joined again soon. Default: 5 s.
    pub unsubscribe_delay: Duration,
    /// Time for which publications, requests and answers wait, after an outage of the engine, for nodes that were
    /// alive before it and have not returned. Default: 500 ms.
    ///
    /// An engine such as Redis pub/sub keeps nothing for a node that has not subscribed again.
    pub resume_delay: Duration,
    /// Maximum number of channels in one command. Default: 1,000.
    pub subscribe_batch: usize,
    /// Maximum bytes of publications, requests and answers that wait for the engine. Default: 16 MiB.
    pub queue_bytes: usize,
    /// Outcome of a publication that exceeds [`queue_bytes`](Self::queue_bytes). Default: drop the oldest.
    pub queue_overflow: QueueOverflow,
    /// Maximum bytes of one message on the engine. Default: 256 KiB; at least 1 KiB.
    ///
    /// Larger publications are split. Engines have limits: NATS accepts 1 MiB by default.
    pub max_payload: usize,
    /// Maximum bytes of one publication, request or answer; larger ones are rejected. Default: 16 MiB.
    pub max_publication: usize,
    /// Maximum number of publications in one message on the engine. Default: 256.
    pub batch_count: usize,
    /// Maximum bytes of publications of all nodes that are incomplete, or wait for their copies. Default: 64 MiB.
    pub reassembly_bytes: usize,
    /// Time for which a publication to several rooms waits for its copies on other channels. Default: 1 s.
    ///
    /// It keeps the order of each room, and delays the later publications of its node to its rooms. It lasts that long
    /// only if a copy was lost, or preceded the subscription to its channel. If a copy is later than this, it and what
    /// precedes it on its channel are reported as lost.
    pub order_timeout: Duration,
    /// Maximum number of pending requests of this node. Default: 10,000.
    pub max_requests: usize,
    /// Defect for tests of the fault suite.
    #[cfg(feature = "mutations")]
    #[doc(hidden)]
    pub mutation: Option<Mutation>,
}

/// Outcome of a publication that exceeds the queue towards the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum QueueOverflow {
    /// Drop the oldest publications of the channel that has waited longest.
    #[default]
    DropOldest,
    /// Drop the new publication.
    DropNewest,
    /// Reject the new publication with an error.
    Reject,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(1),
            node_timeout: Duration::from_secs(5),
            join_timeout: Duration::from_secs(1),
            subscribe_retry: Duration::from_secs(1),
            subscribe_delay: Duration::from_millis(5),
            unsubscribe_delay: Duration::from_secs(5),
            resume_delay: Duration::from_millis(500),
            subscribe_batch: 1000,
            queue_bytes: 16 << 20,
            queue_overflow: QueueOverflow::default(),
            max_payload: 256 << 10,
            max_publication: 16 << 20,
            batch_count: 256,
            reassembly_bytes: 64 << 20,
            order_timeout: Duration::from_secs(1),
            max_requests: 10_000,
            #[cfg(feature = "mutations")]
            mutation: None,
        }
    }
}

impl ClusterConfig {
    /// Returns whether the state machine has this defect; `false` outside the crate's tests.
    #[inline]
    #[allow(clippy::unused_self, reason = "used with the feature")]
    pub(crate) fn has(&self, mutation: Mutation) -> bool {
        #[cfg(feature = "mutations")]
        return self.mutation == Some(mutation);
        #[cfg(not(feature = "mutations"))]
        {
            let _ = mutation;
            false
        }
    }
}
