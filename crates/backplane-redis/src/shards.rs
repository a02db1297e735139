//! Native mode on several independent servers.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roomcast_cluster::{Server, ServersError, ShardedBackplane, Shards, ShardsMetrics};
use roomcast_core::ClusterMetric;

use crate::metrics::Counters;
use crate::{RedisBackplane, RedisConfig, RedisMetrics};

/// Handle of a [`ShardedBackplane`] on Redis servers, to change them and to read the counters. Clones are the same
/// handle.
///
/// [`RedisConfig::server_name`] identifies a server, so all nodes have to write addresses alike.
///
/// ```no_run
/// use roomcast_backplane_redis::{RedisConfig, RedisShards};
///
/// # fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let server = |host: &str| RedisConfig::from_url(&format!("redis://{host}:6379"));
/// let (engine, shards) = RedisShards::connect(vec![server("one")?, server("two")?])?;
/// // Later, on each node, in any order: rooms move to the third server without a loss.
/// shards.set(vec![server("one")?, server("two")?, server("three")?])?;
/// # drop(engine);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisShards {
    shards: Shards<RedisBackplane>,
    counters: Arc<Mutex<ServerCounters>>,
}

/// Counters of the connections by the names of their servers.
type ServerCounters = Vec<(String, Counters)>;

impl RedisShards {
    /// Creates an engine of these servers, which connects when it is polled, and its handle.
    ///
    /// # Errors
    /// Returns an error if there is no server or more than 16, or if two have the same name.
    pub fn connect(
        servers: Vec<RedisConfig>,
    ) -> Result<(ShardedBackplane<RedisBackplane>, Self), ServersError> {
        let counters = Arc::default();
        let (engine, shards) = ShardedBackplane::new(connections(servers, &counters))?;
        Ok((engine, Self { shards, counters }))
    }

    /// Changes the servers. Servers that are known by their name keep their connection and its settings.
    ///
    /// Each node of the cluster needs the same call; see [`ShardedBackplane`].
    ///
    /// # Errors
    /// Returns an error as [`connect`](Self::connect) does.
    pub fn set(&self, servers: Vec<RedisConfig>) -> Result<(), ServersError> {
        self.shards.set(connections(servers, &self.counters))
    }

    /// Returns the counters of the division among servers.
    #[must_use]
    pub fn shards(&self) -> ShardsMetrics {
        self.shards.metrics()
    }

    /// Returns the counters of each server's connections, by its name.
    #[must_use]
    pub fn servers(&self) -> Vec<(String, RedisMetrics)> {
        lock(&self.counters).iter().map(|(name, counters)| (name.clone(), counters.snapshot())).collect()
    }

    /// Returns the counters and gauges for the metrics of a server: sums over all connections, and some by Redis
    /// server, with its name as the label `server`.
    #[must_use]
    pub fn to_cluster_metrics(&self) -> Vec<ClusterMetric> {
        let shards = self.shards();
        let is_present = |name: &str| shards.servers.iter().any(|server| server.name == name);
        let mut total = RedisMetrics { connected: true, ..RedisMetrics::default() };
        for (name, metrics) in self.servers() {
            // Counters of removed servers stay in the sums.
            let connected = total.connected && (metrics.connected || !is_present(&name));
            total.add(&metrics);
            total.connected = connected;
        }
        let mut all = total.to_cluster_metrics();
        let by_server = |value: fn(&roomcast_cluster::ServerMetrics) -> f64| {
            shards.servers.iter().map(|server| (server.name.clone(), value(server))).collect()
        };
        all.extend([
            ClusterMetric::gauges(
                "redis_server_up",
                "1 while messages of other servers arrive by this Redis server.",
                "server",
                by_server(|server| f64::from(u8::from(server.is_up))),
            ),
            ClusterMetric::gauges(
                "redis_server_queue_bytes",
                "Bytes that wait for this Redis server.",
                "server",
                by_server(|server| server.queue_bytes as f64),
            ),
            ClusterMetric::counters(
                "redis_server_published",
                "Messages passed to this Redis server.",
                "server",
                by_server(|server| server.published as f64),
            ),
            ClusterMetric::counters(
                "redis_server_received",
                "Messages received from this Redis server.",
                "server",
                by_server(|server| server.received as f64),
            ),
            ClusterMetric::counters(
                "redis_server_dropped",
                "Publications dropped while this Redis server was lost.",
                "server",
                by_server(|server| server.dropped as f64),
            ),
            ClusterMetric::counters(
                "redis_server_losses",
                "Times that all subscriptions on this Redis server were lost.",
                "server",
                by_server(|server| server.losses as f64),
            ),
            ClusterMetric::gauge(
                "redis_servers_changing",
                "1 while rooms move between Redis servers.",
                f64::from(u8::from(shards.is_changing)),
            ),
            ClusterMetric::gauge(
                "redis_strangers",
                "Other servers that publish by a Redis server which this one does not know.",
                shards.strangers as f64,
            ),
            ClusterMetric::counter(
                "redis_shards_dropped",
                "Publications dropped before they were passed to a Redis server.",
                shards.dropped as f64,
            ),
        ]);
        all
    }
}

impl fmt::Debug for RedisShards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisShards").field(&self.shards).finish()
    }
}

fn connections(
    servers: Vec<RedisConfig>,
    counters: &Arc<Mutex<ServerCounters>>,
) -> Vec<Server<RedisBackplane>> {
    let connection = |config: RedisConfig| {
        let (name, is_retired) = (config.server_name(), config.is_retired);
        let (known, counters) = (name.clone(), counters.clone());
        let server = Server::new(name, move || {
            let mut counters = lock(&counters);
            let known = match counters.iter().find(|(name, _)| *name == known) {
                // It was removed before, and is added again.
                Some((_, known)) => known.clone(),
                None => {
                    let new = Counters::default();
                    counters.push((known, new.clone()));
                    new
                }
            };
            RedisBackplane::with_counters(config, known)
        });
        if is_retired { server.retired() } else { server }
    };
    servers.into_iter().map(connection).collect()
}

fn lock(counters: &Mutex<ServerCounters>) -> MutexGuard<'_, ServerCounters> {
    counters.lock().unwrap_or_else(PoisonError::into_inner)
}
