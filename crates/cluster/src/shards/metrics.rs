//! Counters and gauges of each server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Counters and gauges of all servers of a [`ShardedBackplane`](super::ShardedBackplane).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardsMetrics {
    /// Servers that the node is connected to, in order of addition; at most 32.
    pub servers: Vec<ServerMetrics>,
    /// Gauge: a change of the servers is under way, so that some channels have two.
    pub is_changing: bool,
    /// Gauge: other nodes that publish by servers which this node was not configured with.
    pub strangers: usize,
    /// Changes of the servers to publish to.
    pub changes: u64,
    /// Copies of messages to all servers that had arrived by another one.
    pub copies: u64,
    /// Publications that were dropped before they were passed to a server, servers that were removed included.
    pub dropped: u64,
}

/// Counters and gauges of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerMetrics {
    /// Name.
    pub name: String,
    /// Gauge: messages of other nodes arrive.
    pub is_up: bool,
    /// Messages passed to the server.
    pub published: u64,
    /// Messages received.
    pub received: u64,
    /// Gauge: messages that wait for the server.
    pub queue_len: usize,
    /// Gauge: their bytes.
    pub queue_bytes: usize,
    /// Publications that were dropped while the server was lost.
    pub dropped: u64,
    /// Times that all subscriptions were lost.
    pub losses: u64,
}

#[derive(Debug)]
pub(super) struct ServerCounters {
    pub(super) name: Arc<str>,
    pub(super) is_up: AtomicBool,
    published: AtomicU64,
    received: AtomicU64,
    queue_len: AtomicUsize,
    queue_bytes: AtomicUsize,
    pub(super) dropped: AtomicU64,
    losses: AtomicU64,
}

impl ServerCounters {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            is_up: AtomicBool::new(false),
            published: AtomicU64::new(0),
            received: AtomicU64::new(0),
            queue_len: AtomicUsize::new(0),
            queue_bytes: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            losses: AtomicU64::new(0),
        }
    }

    pub(super) fn snapshot(&self) -> ServerMetrics {
        ServerMetrics {
            name: self.name.to_string(),
            is_up: self.is_up.load(Relaxed),
            published: self.published.load(Relaxed),
            received: self.received.load(Relaxed),
            queue_len: self.queue_len.load(Relaxed),
            queue_bytes: self.queue_bytes.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            losses: self.losses.load(Relaxed),
        }
    }

    pub(super) fn queue_bytes(&self) -> usize {
        self.queue_bytes.load(Relaxed)
    }

    pub(super) fn queue(&self, len: usize) {
        set(&self.queue_len, |count| count + 1);
        set(&self.queue_bytes, |bytes| bytes + len + MESSAGE_COST);
    }

    pub(super) fn unqueue(&self, len: usize) {
        set(&self.queue_len, |count| count - 1);
        set(&self.queue_bytes, |bytes| bytes - len - MESSAGE_COST);
    }

    pub(super) fn add_published(&self) {
        add(&self.published, 1);
    }

    pub(super) fn add_received(&self) {
        add(&self.received, 1);
    }

    pub(super) fn add_dropped(&self, publications: u64) {
        add(&self.dropped, publications);
    }

    pub(super) fn add_loss(&self) {
        add(&self.losses, 1);
    }
}

/// Adds to a counter that one task writes, without an atomic read-modify-write.
pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed) + count, Relaxed);
}

fn set(gauge: &AtomicUsize, change: impl FnOnce(usize) -> usize) {
    gauge.store(change(gauge.load(Relaxed)), Relaxed);
}

/// Memory of a queued message without its bytes.
const MESSAGE_COST: usize = 128;
