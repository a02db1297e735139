//! Counters of an engine's connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use roomcast_core::ClusterMetric;

/// Counters of an engine since it was created.
///
/// Each publication is counted once: `accepted` is the sum of `confirmed`, `refused`, `unconfirmed` and `queued`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisMetrics {
    /// Gauge: whether both connections are established.
    pub connected: bool,
    /// Publications accepted from the node.
    pub accepted: u64,
    /// Publications that Redis has acknowledged.
    pub confirmed: u64,
    /// Publications that Redis has refused, such as by its access rules.
    pub refused: u64,
    /// Publications that were sent, wholly or in part, when the connection was lost. Redis may have delivered some.
    pub unconfirmed: u64,
    /// Gauge: publications that wait to be sent, or for their acknowledgement.
    pub queued: u64,
    /// Messages received.
    pub received: u64,
    /// Messages dropped because they exceed [`max_message`](crate::RedisConfig::max_message).
    pub oversized: u64,
    /// Subscribe commands that Redis has refused.
    pub subscriptions_refused: u64,
    /// Times that an established connection was lost.
    pub disconnects: u64,
    /// Connections established.
    pub connects: u64,
    /// Failed attempts to connect.
    pub connect_failures: u64,
}

impl RedisMetrics {
    /// Adds the counters and gauges of another connection, except whether it is established.
    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.confirmed += other.confirmed;
        self.refused += other.refused;
        self.unconfirmed += other.unconfirmed;
        self.queued += other.queued;
        self.received += other.received;
        self.oversized += other.oversized;
        self.subscriptions_refused += other.subscriptions_refused;
        self.disconnects += other.disconnects;
        self.connects += other.connects;
        self.connect_failures += other.connect_failures;
    }

    /// Returns the counters and gauges for the metrics of a server.
    #[must_use]
    pub fn to_cluster_metrics(&self) -> Vec<ClusterMetric> {
        let gauges = [
            (
                "redis_connected",
                "1 while both connections to Redis are established.",
                u64::from(self.connected),
            ),
            (
                "redis_queued",
                "Publications that wait to be sent, or for Redis to acknowledge them.",
                self.queued,
            ),
        ];
        let counters = [
            ("redis_accepted", "Publications passed to the connection.", self.accepted),
            ("redis_confirmed", "Publications that Redis has acknowledged.", self.confirmed),
            (
                "redis_refused",
                "Publications that Redis has refused, such as by its access rules.",
                self.refused,
            ),
            (
                "redis_unconfirmed",
                "Publications that were sent when a connection was lost; some may have been delivered.",
                self.unconfirmed,
            ),
            ("redis_received", "Messages received.", self.received),
            ("redis_oversized", "Messages dropped as larger than the limit.", self.oversized),
            (
                "redis_subscriptions_refused",
                "Subscribe commands that Redis has refused.",
                self.subscriptions_refused,
            ),
            ("redis_disconnects", "Established connections that were lost.", self.disconnects),
            ("redis_connects", "Connections established.", self.connects),
            ("redis_connect_failures", "Failed attempts to connect.", self.connect_failures),
        ];
        let gauges =
            gauges.into_iter().map(|(name, help, value)| ClusterMetric::gauge(name, help, value as f64));
        let counters =
            counters.into_iter().map(|(name, help, value)| ClusterMetric::counter(name, help, value as f64));
        gauges.chain(counters).collect()
    }
}

/// Shared counters; a reader need not see a consistent snapshot while the engine runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters(Arc<Inner>);

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub(crate) publisher_up: AtomicBool,
    pub(crate) subscriber_up: AtomicBool,
    pub(crate) accepted: AtomicU64,
    pub(crate) confirmed: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) unconfirmed: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) oversized: AtomicU64,
    pub(crate) subscriptions_refused: AtomicU64,
    pub(crate) disconnects: AtomicU64,
    pub(crate) connects: AtomicU64,
    pub(crate) connect_failures: AtomicU64,
}

impl std::ops::Deref for Counters {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// Adds to a counter that one task writes, without an atomic read-modify-write.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn snapshot(&self) -> RedisMetrics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (confirmed, refused) = (get(&self.confirmed), get(&self.refused));
        let unconfirmed = get(&self.unconfirmed);
        let accepted = get(&self.accepted);
        RedisMetrics {
            connected: self.publisher_up.load(Ordering::Relaxed)
                && self.subscriber_up.load(Ordering::Relaxed),
            accepted,
            confirmed,
            refused,
            unconfirmed,
            queued: accepted.saturating_sub(confirmed + refused + unconfirmed),
            received: get(&self.received),
            oversized: get(&self.oversized),
            subscriptions_refused: get(&self.subscriptions_refused),
            disconnects: get(&self.disconnects),
            connects: get(&self.connects),
            connect_failures: get(&self.connect_failures),
        }
    }
}
