//! Counters of the engine and of each of its masters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roomcast_core::{ClusterMetric, ClusterValue};

use crate::RedisMetrics;
use crate::config::Address;
use crate::metrics::Counters;

/// Counters of a [`RedisClusterPubSub`](crate::RedisClusterPubSub) since it was created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisClusterMetrics {
    /// Sums over all masters, former ones included.
    ///
    /// `connected` is whether each slot has a master, and each master both connections.
    pub total: RedisMetrics,
    /// Subscriptions that ended although the channel was wanted, and were renewed or are to be renewed.
    pub subscriptions_lost: u64,
    /// Present masters, by their addresses.
    pub shards: Vec<RedisShardMetrics>,
}

/// Counters of one master.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisShardMetrics {
    /// Address, as `host:port`.
    pub address: String,
    /// Publications that it has acknowledged.
    pub published: u64,
    /// Messages received.
    pub received: u64,
    /// Gauge: subscriptions in effect.
    pub subscriptions: u64,
    /// Established connections that were lost.
    pub disconnects: u64,
}

impl RedisClusterMetrics {
    /// Returns the counters and gauges for the metrics of a server; the counters of a master have the label `shard`.
    ///
    /// Only present masters are labels, and of these the first 64.
    #[must_use]
    pub fn to_cluster_metrics(&self) -> Vec<ClusterMetric> {
        let values = |value: fn(&RedisShardMetrics) -> u64| {
            let shards = self.shards.iter().take(MAX_LABELS);
            shards.map(|shard| (shard.address.clone(), value(shard) as f64)).collect::<Vec<_>>()
        };
        let family = |name, help, value| ClusterMetric { name, help, value };
        let label = "shard";
        let mut metrics = self.total.to_cluster_metrics();
        metrics.extend([
            ClusterMetric::counter(
                "redis_subscriptions_lost",
                "Subscriptions that ended unasked, as with their connection, and are renewed.",
                self.subscriptions_lost as f64,
            ),
            family(
                "redis_shard_published",
                "Publications that a master has acknowledged.",
                ClusterValue::Counters { label, values: values(|shard| shard.published) },
            ),
            family(
                "redis_shard_received",
                "Messages received from a master.",
                ClusterValue::Counters { label, values: values(|shard| shard.received) },
            ),
            family(
                "redis_shard_subscriptions",
                "Subscriptions in effect at a master.",
                ClusterValue::Gauges { label, values: values(|shard| shard.subscriptions) },
            ),
            family(
                "redis_shard_disconnects",
                "Established connections to a master that were lost.",
                ClusterValue::Counters { label, values: values(|shard| shard.disconnects) },
            ),
        ]);
        metrics
    }
}

/// Counters of one master, written by the engine.
#[derive(Debug, Clone, Default)]
pub(super) struct ShardCounters {
    pub(super) connections: Counters,
    pub(super) published: Arc<AtomicU64>,
    pub(super) subscriptions: Arc<AtomicU64>,
}

/// Counters that another task can read.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedCounters {
    pub(super) total: Counters,
    pub(super) lost: Arc<AtomicU64>,
    shards: Arc<Mutex<Shards>>,
}

#[derive(Debug, Default)]
struct Shards {
    present: Vec<(Address, ShardCounters)>,
    /// Sums of the former masters.
    former: RedisMetrics,
}

impl SharedCounters {
    fn shards(&self) -> MutexGuard<'_, Shards> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_shard(&self, address: &Address) -> ShardCounters {
        let counters = ShardCounters::default();
        self.shards().present.push((address.clone(), counters.clone()));
        counters
    }

    pub(super) fn remove_shard(&self, address: &Address) {
        let mut shards = self.shards();
        let Shards { present, former } = &mut *shards;
        present.retain(|(other, counters)| {
            if other == address {
                add_connections(former, &counters.connections.snapshot());
            }
            other != address
        });
    }

    pub(super) fn snapshot(&self) -> RedisClusterMetrics {
        let mut total = self.total.snapshot();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shards = self.shards();
        add_connections(&mut total, &shards.former);
        let present = shards.present.iter().map(|(address, counters)| {
            let connections = counters.connections.snapshot();
            add_connections(&mut total, &connections);
            RedisShardMetrics {
                address: address.to_string(),
                published: load(&counters.published),
                received: connections.received,
                subscriptions: load(&counters.subscriptions),
                disconnects: connections.disconnects,
            }
        });
        let mut present: Vec<_> = present.collect();
        present.sort_by(|one, other| one.address.cmp(&other.address));
        RedisClusterMetrics { total, subscriptions_lost: load(&self.lost), shards: present }
    }
}

/// Adds the counters that belong to connections.
fn add_connections(sum: &mut RedisMetrics, other: &RedisMetrics) {
    sum.received += other.received;
    sum.oversized += other.oversized;
    sum.subscriptions_refused += other.subscriptions_refused;
    sum.disconnects += other.disconnects;
    sum.connects += other.connects;
    sum.connect_failures += other.connect_failures;
}

/// Masters that are labels, at most.
const MAX_LABELS: usize = 64;
