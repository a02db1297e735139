//! Several servers as one: emits, rooms, queries and disconnects reach the clients of all of them.
//!
//! With the feature `redis`, `redis` connects servers of Roomcast by a Redis server, and `redis_classic` and
//! `redis_streams` join a cluster of Socket.IO servers on Node. An engine of your own implements
//! `roomcast_cluster::Backplane`, and is passed to `roomcast_cluster_runtime::ClusterConnection::start`.
//!
//! A server starts without its engine as well: it serves its own clients, and joins the cluster when the engine
//! responds. `docs/scaling.md` describes load balancing, sizing, and the guarantees in each failure.

#[cfg(feature = "redis")]
use std::hash::{BuildHasher, Hasher, RandomState};
#[cfg(feature = "redis")]
use std::sync::Arc;

#[cfg(feature = "redis")]
pub use roomcast_backplane_redis::{
    ConfigError as RedisConfigError, RedisBackplane, RedisClusterMetrics, RedisClusterPubSub, RedisConfig,
    RedisMetrics, RedisPubSub, RedisSessionStore, RedisShards, RedisStream, RedisStreamMetrics,
};
#[cfg(feature = "redis")]
pub use roomcast_cluster::{
    Backplane, BackplaneCommand, BackplaneEvent, Channel, ClusterConfig, NodeId, ServersError, ShardsMetrics,
};
#[cfg(feature = "redis")]
use roomcast_cluster_node::PubSub;
#[cfg(feature = "redis")]
pub use roomcast_cluster_node::{NodeCluster, NodeClusterConfig, SubscriptionMode};
#[cfg(feature = "redis")]
pub use roomcast_cluster_runtime::{ClusterConnection, ConnectionConfig};
#[cfg(feature = "redis")]
use roomcast_server::Config;
pub use roomcast_server::cluster::{Cluster, ClusterMetric, ClusterStatus, ClusterValue};
#[cfg(feature = "redis")]
pub use roomcast_server::recovery::StoreConfig;
#[cfg(feature = "redis")]
use roomcast_server::recovery::{SessionQueue, StoredSessions};

/// Connects a server to the other servers on the Redis of a URL, with default settings.
///
/// `redis://` is unencrypted, `rediss://` uses TLS, and `redis+unix://` is a local socket. See [`redis_with`] for all
/// settings.
///
/// ```no_run
/// use roomcast::{Io, cluster};
///
/// # fn build() -> Result<(), cluster::RedisError> {
/// let io = Io::builder().cluster(cluster::redis("redis://127.0.0.1:6379")?).build();
/// # Ok(()) }
/// ```
///
/// # Errors
/// Returns an error if the URL is invalid, or if the thread of the connection cannot be started. Redis need not be
/// available.
#[cfg(feature = "redis")]
pub fn redis(url: &str) -> Result<ClusterConnection, RedisError> {
    redis_with(RedisConfig::from_url(url)?, ConnectionConfig::new())
}

/// Connects a server to the other servers on a Redis.
///
/// The connection runs as a task of the current tokio runtime. Outside of a runtime it gets a separate thread, as for
/// servers that [`run`](crate::server::Bound::run) on their own threads.
///
/// ```no_run
/// use roomcast::cluster::{self, ConnectionConfig, RedisConfig};
/// use roomcast::Io;
///
/// # fn build() -> Result<(), cluster::RedisError> {
/// let redis = RedisConfig::from_url("rediss://chat@redis.example")?
///     .password_file("/run/secrets/redis")?
///     .prefix("chat");
/// let connection = ConnectionConfig::new().node(|node| node.queue_bytes = 64 << 20);
/// let io = Io::builder().cluster(cluster::redis_with(redis, connection)?).build();
/// # Ok(()) }
/// ```
///
/// # Errors
/// Returns an error if the thread of the connection cannot be started.
#[cfg(feature = "redis")]
pub fn redis_with(redis: RedisConfig, connection: ConnectionConfig) -> Result<ClusterConnection, RedisError> {
    refuse_cluster(&redis)?;
    let engine = RedisBackplane::new(redis);
    let metrics = engine.metrics_reader();
    let connection = connection.engine_metrics(move || metrics().to_cluster_metrics());
    if tokio::runtime::Handle::try_current().is_ok() {
        return Ok(ClusterConnection::start(connection, engine));
    }
    ClusterConnection::start_thread(connection, engine).map_err(RedisError::Thread)
}

/// Connects a server to the other servers on several independent Redis servers, among which the rooms are divided.
///
/// The handle adds and removes Redis servers at run time. The connection runs as that of [`redis_with`].
///
/// ```no_run
/// use roomcast::cluster::{self, ConnectionConfig, RedisConfig};
/// use roomcast::Io;
///
/// # fn build() -> Result<(), cluster::RedisError> {
/// let hosts = ["redis://one.example", "redis://two.example"];
/// let servers = hosts.into_iter().map(RedisConfig::from_url).collect::<Result<Vec<_>, _>>()?;
/// let (connection, shards) = cluster::redis_servers(servers, ConnectionConfig::new())?;
/// let io = Io::builder().cluster(connection).build();
/// # drop(shards);
/// # Ok(()) }
/// ```
///
/// # Errors
/// Returns an error if the servers cannot be used together, or if the thread of the connection cannot be started.
#[cfg(feature = "redis")]
pub fn redis_servers(
    servers: Vec<RedisConfig>,
    connection: ConnectionConfig,
) -> Result<(ClusterConnection, RedisShards), RedisError> {
    let (engine, shards) = RedisShards::connect(servers)?;
    let metrics = shards.clone();
    let connection = connection.engine_metrics(move || metrics.to_cluster_metrics());
    if tokio::runtime::Handle::try_current().is_ok() {
        return Ok((ClusterConnection::start(connection, engine), shards));
    }
    let connection = ClusterConnection::start_thread(connection, engine).map_err(RedisError::Thread)?;
    Ok((connection, shards))
}

/// Joins the cluster of the Node servers on the Redis of a URL, with default settings.
///
/// The Node servers use `@socket.io/redis-adapter` 8 (`createAdapter`); `@socket.io/redis-emitter` 5 works as well.
/// Such a cluster does not detect lost messages. Use [`redis`] for clusters without Node servers.
///
/// ```no_run
/// use roomcast::{Io, cluster};
///
/// # fn build() -> Result<(), cluster::RedisError> {
/// let io = Io::builder().cluster(cluster::redis_classic("redis://127.0.0.1:6379")?).build();
/// # Ok(()) }
/// ```
///
/// # Errors
/// Returns an error if the URL is invalid, or if the thread of the connection cannot be started. Redis need not be
/// available.
#[cfg(feature = "redis")]
pub fn redis_classic(url: &str) -> Result<NodeCluster, RedisError> {
    redis_classic_with(RedisConfig::from_url(url)?, NodeClusterConfig::new())
}

/// Joins the cluster of the Node servers on a Redis.
///
/// The first part of the channels' names is [`NodeClusterConfig::prefix`], the option `key` of Node's adapter; that of
/// `redis` has no effect. The connection runs as a task of the current tokio runtime, or outside of one on a separate
/// thread.
///
/// # Errors
/// Returns an error if the thread of the connection cannot be started.
#[cfg(feature = "redis")]
pub fn redis_classic_with(redis: RedisConfig, cluster: NodeClusterConfig) -> Result<NodeCluster, RedisError> {
    refuse_cluster(&redis)?;
    let engine = RedisPubSub::new(redis);
    let metrics = engine.metrics_reader();
    start(cluster.engine_metrics(move || metrics().to_cluster_metrics()), engine)
}

/// Joins the cluster of the servers on a stream on the Redis of a URL, with default settings.
///
/// The other servers are of Roomcast, or on Node with `@socket.io/redis-streams-adapter` 0.3. Events are stored in the
/// stream, and all servers deliver them in its order. The stream keeps about 10,000 entries, which is short for a
/// recovery of clients: [`redis_streams_with`] takes all settings.
///
/// ```no_run
/// use roomcast::{Io, cluster};
///
/// # fn build() -> Result<(), cluster::RedisError> {
/// let io = Io::builder().cluster(cluster::redis_streams("redis://127.0.0.1:6379")?).build();
/// # Ok(()) }
/// ```
///
/// # Errors
/// Returns an error if the URL is invalid, or if the thread of the connection cannot be started. Redis need not be
/// available.
#[cfg(feature = "redis")]
pub fn redis_streams(url: &str) -> Result<NodeCluster, RedisError> {
    redis_streams_with(RedisConfig::from_url(url)?, NodeClusterConfig::new())
}

/// Joins the cluster of the servers on a stream of a Redis.
///
/// [`NodeClusterConfig::streams`] has the name of the stream and its length, which all servers and emitters should
/// share: the smallest length applies. With `sharded_requests`, queries use the sharded channels of Redis 7; all servers
/// need the same setting. The connection runs as a task of the current tokio runtime, or outside of one on a separate
/// thread.
///
/// ```no_run
/// use roomcast::cluster::{self, NodeClusterConfig, RedisConfig};
/// use roomcast::Io;
///
/// # fn build() -> Result<(), cluster::RedisError> {
/// let redis = RedisConfig::from_url("redis://127.0.0.1:6379")?;
/// let cluster = NodeClusterConfig::new().streams(|streams| streams.max_len = 1_000_000);
/// let io = Io::builder().cluster(cluster::redis_streams_with(redis, cluster)?).build();
/// # Ok(()) }
/// ```
///
/// # Errors
/// Returns an error if the thread of the connection cannot be started.
#[cfg(feature = "redis")]
pub fn redis_streams_with(redis: RedisConfig, cluster: NodeClusterConfig) -> Result<NodeCluster, RedisError> {
    refuse_cluster(&redis)?;
    let cluster = cluster.streams(|_| {});
    let log = RedisStream::new(redis.clone(), cluster.stream_name().unwrap_or_default());
    let is_sharded = cluster.has_sharded_requests();
    let engine = if is_sharded { RedisPubSub::sharded(redis) } else { RedisPubSub::new(redis) };
    let (metrics, log_metrics) = (engine.metrics_reader(), log.metrics_reader());
    let cluster = cluster.engine_metrics(move || {
        let mut all = metrics().to_cluster_metrics();
        all.extend(log_metrics().to_cluster_metrics());
        all
    });
    if tokio::runtime::Handle::try_current().is_ok() {
        return Ok(NodeCluster::start_streams(cluster, engine, log));
    }
    NodeCluster::start_streams_thread(cluster, engine, log).map_err(RedisError::Thread)
}

/// Joins the cluster of the Node servers with the sharded adapter on the Redis of a URL, with default settings.
///
/// The Node servers use `@socket.io/redis-adapter` 8.3 (`createShardedAdapter`) with the subscription mode `dynamic`,
/// on Redis 7 or later. A server receives the events of its own rooms only.
///
/// ```no_run
/// use roomcast::{Io, cluster};
///
/// # fn build() -> Result<(), cluster::RedisError> {
/// let io = Io::builder().cluster(cluster::redis_sharded("redis://127.0.0.1:6379")?).build();
/// # Ok(()) }
/// ```
///
/// # Errors
/// Returns an error if the URL is invalid, or if the thread of the connection cannot be started. Redis need not be
/// available.
#[cfg(feature = "redis")]
pub fn redis_sharded(url: &str) -> Result<NodeCluster, RedisError> {
    redis_sharded_with(RedisConfig::from_url(url)?, NodeClusterConfig::new())
}

/// Joins the cluster of the Node servers with the sharded adapter on a Redis.
///
/// Several servers in the URL, or [`RedisConfig::cluster`], mean a Redis Cluster. [`NodeClusterConfig::sharded`] has
/// the subscription mode, which **must be the same on all servers**. The connection runs as a task of the current tokio
/// runtime, or outside of one on a separate thread.
///
/// ```no_run
/// use roomcast::cluster::{self, NodeClusterConfig, RedisConfig, SubscriptionMode};
/// use roomcast::Io;
///
/// # fn build() -> Result<(), cluster::RedisError> {
/// let redis = RedisConfig::from_url("redis://127.0.0.1:6379")?;
/// let cluster = NodeClusterConfig::new().sharded(|sharded| sharded.mode = SubscriptionMode::Static);
/// let io = Io::builder().cluster(cluster::redis_sharded_with(redis, cluster)?).build();
/// # Ok(()) }
/// ```
///
/// # Errors
/// Returns an error if the thread of the connection cannot be started.
#[cfg(feature = "redis")]
pub fn redis_sharded_with(redis: RedisConfig, cluster: NodeClusterConfig) -> Result<NodeCluster, RedisError> {
    let cluster = cluster.sharded(|_| {});
    if redis.is_cluster() {
        let engine = RedisClusterPubSub::new(redis);
        let metrics = engine.metrics_reader();
        return start(cluster.engine_metrics(move || metrics().to_cluster_metrics()), engine);
    }
    let engine = RedisPubSub::sharded(redis);
    let metrics = engine.metrics_reader();
    start(cluster.engine_metrics(move || metrics().to_cluster_metrics()), engine)
}

/// Starts a node on the current runtime, or outside of one on a separate thread.
#[cfg(feature = "redis")]
fn start(cluster: NodeClusterConfig, engine: impl PubSub + 'static) -> Result<NodeCluster, RedisError> {
    if tokio::runtime::Handle::try_current().is_ok() {
        return Ok(NodeCluster::start(cluster, engine));
    }
    NodeCluster::start_thread(cluster, engine).map_err(RedisError::Thread)
}

/// Stores the sessions of a server in Redis as they change, for their recovery on other servers.
///
/// The servers have to share a log of events ([`EventLog`](roomcast_server::cluster::EventLog)), such as a Redis
/// stream; with other clusters, a client recovers on the server that it was connected to only. Turn recovery on as
/// well. The sessions are written by a task of the current tokio runtime, or outside of one on a separate thread.
///
/// ```no_run
/// use roomcast::cluster::{self, RedisConfig, RedisSessionStore};
/// use roomcast::{Config, Io};
///
/// # fn build() -> Result<(), cluster::RedisError> {
/// let store = RedisSessionStore::new(RedisConfig::from_url("redis://127.0.0.1:6379")?);
/// let config = cluster::redis_sessions(Config::new().recovery(|recovery| recovery), store, Default::default())?;
/// let io = Io::builder().config(config).build();
/// # Ok(()) }
/// ```
///
/// # Errors
/// Returns an error if the thread cannot be started. Redis need not be available.
#[cfg(feature = "redis")]
pub fn redis_sessions(
    config: Config,
    store: RedisSessionStore,
    settings: StoreConfig,
) -> Result<Config, RedisError> {
    // Unique among all runs of all servers: the keys of each state are random.
    let [one, other] = [(); 2].map(|()| RandomState::new().build_hasher().finish());
    let node = roomcast_server::recovery::NodeId(format!("{one:016x}{other:016x}").into());
    let queue = Arc::new(SessionQueue::new(node, Arc::new(store), settings));
    let writing = roomcast_runtime::store_sessions(queue.clone());
    let config = config.session_fence(queue.fence().clone());
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(writing)),
        Err(_) => roomcast_cluster_task::spawn_thread(move || writing).map_err(RedisError::Thread)?,
    }
    Ok(config.recovery_factory(move |name, inner| StoredSessions::new(name.clone(), inner, queue.clone())))
}

/// Returns an error for a Redis Cluster, whose servers have not all the channels that a pattern or a server needs.
#[cfg(feature = "redis")]
fn refuse_cluster(redis: &RedisConfig) -> Result<(), RedisError> {
    if redis.is_cluster() { Err(RedisConfigError::Cluster.into()) } else { Ok(()) }
}

/// Error of starting a connection. Redis that does not respond is not an error.
#[cfg(feature = "redis")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisError {
    /// The settings are invalid.
    #[error(transparent)]
    Config(#[from] RedisConfigError),
    /// The servers cannot be used together.
    #[error(transparent)]
    Servers(#[from] ServersError),
    /// The thread of the connection cannot be started.
    #[error("cannot start the thread of the cluster connection")]
    Thread(#[source] std::io::Error),
}
