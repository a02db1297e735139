//! Connection of a server to a cluster of Node servers.

use std::io;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use roomcast_cluster_task::{EngineMetrics, spawn_thread};
use roomcast_core::{Cluster, ClusterHost, ClusterMetric, ClusterNamespace, ClusterStatus, Namespace};
use roomcast_node_adapter::{ClassicWriter, PubSub, ShardedWriter, StreamLog, StreamsWriter};

use crate::config::NodeClusterConfig;
use crate::driver::Driver;
use crate::input::{Input, Writer};
use crate::metrics;
use crate::namespace::OpenNamespace;
use crate::shared::Shared;

/// Connection of a server to Node servers that use `@socket.io/redis-adapter`, and to other Roomcast servers like it.
///
/// See the [crate documentation](crate) for its guarantees. Its task ends after [`leave`](Cluster::leave), or when
/// the cluster is dropped; see [`NodeClusterConfig::leave_timeout`].
///
/// ```no_run
/// use roomcast_backplane_redis::{RedisConfig, RedisPubSub};
/// use roomcast_cluster_node::{NodeCluster, NodeClusterConfig};
///
/// # fn start() -> Result<(), Box<dyn std::error::Error>> {
/// let redis = RedisPubSub::new(RedisConfig::from_url("redis://127.0.0.1:6379")?);
/// let cluster = NodeCluster::start(NodeClusterConfig::new(), redis); // for `Io::builder().cluster(..)`
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct NodeCluster {
    shared: Arc<Shared>,
    engine_metrics: EngineMetrics,
}

impl NodeCluster {
    /// Starts the task that connects this server over an engine.
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without time.
    pub fn start(config: NodeClusterConfig, engine: impl PubSub + 'static) -> Self {
        let (cluster, task) = Self::new(config, engine);
        tokio::spawn(task());
        cluster
    }

    /// Starts the task that connects this server over an engine and a stream, with the streams adapter.
    ///
    /// The name of the stream is that of `log`.
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without time.
    pub fn start_streams(
        config: NodeClusterConfig,
        engine: impl PubSub + 'static,
        log: impl StreamLog + 'static,
    ) -> Self {
        let (cluster, task) = Self::with_streams(config, engine, log);
        tokio::spawn(task());
        cluster
    }

    /// Starts the task of [`start_streams`](Self::start_streams) on a separate thread.
    ///
    /// # Errors
    /// Returns an error if the thread or its runtime cannot be started.
    pub fn start_streams_thread(
        config: NodeClusterConfig,
        engine: impl PubSub + 'static,
        log: impl StreamLog + 'static,
    ) -> io::Result<Self> {
        let (cluster, task) = Self::with_streams(config, engine, log);
        spawn_thread(task)?;
        Ok(cluster)
    }

    /// Starts the task on a separate thread, for servers that start their runtimes later.
    ///
    /// Handlers of events for servers run on that thread. It ends with the task.
    ///
    /// # Errors
    /// Returns an error if the thread or its runtime cannot be started.
    pub fn start_thread(config: NodeClusterConfig, engine: impl PubSub + 'static) -> io::Result<Self> {
        let (cluster, task) = Self::new(config, engine);
        spawn_thread(task)?;
        Ok(cluster)
    }

    /// Creates a cluster, and a function that creates its task in the runtime where it is called.
    fn new<E: PubSub + 'static>(
        config: NodeClusterConfig,
        engine: E,
    ) -> (Self, impl FnOnce() -> Driver + Send + use<E>) {
        let config = NodeClusterConfig { streams: None, ..config };
        let shared = Shared::new(&config);
        let cluster = Self { shared: shared.clone(), engine_metrics: config.engine_metrics.clone() };
        (cluster, move || Driver::new(shared, config, Box::new(engine), None))
    }

    fn with_streams<E: PubSub + 'static, L: StreamLog + 'static>(
        config: NodeClusterConfig,
        engine: E,
        log: L,
    ) -> (Self, impl FnOnce() -> Driver + Send + use<E, L>) {
        let config = NodeClusterConfig { sharded: None, ..config }.streams(|_| {});
        let shared = Shared::new(&config);
        let cluster = Self { shared: shared.clone(), engine_metrics: config.engine_metrics.clone() };
        (cluster, move || Driver::new(shared, config, Box::new(engine), Some(Box::new(log))))
    }
}

#[async_trait]
impl Cluster for NodeCluster {
    fn open(&self, namespace: &Namespace, host: Weak<dyn ClusterHost>) -> Box<dyn ClusterNamespace> {
        let Shared { classic, sharded, streams, uid, .. } = &*self.shared;
        let namespace = namespace.clone();
        let writer = match (streams, sharded) {
            (Some(streams), _) => Writer::Streams(Arc::new(StreamsWriter::new(streams, namespace, uid))),
            (None, Some(sharded)) => Writer::Sharded(Arc::new(ShardedWriter::new(sharded, namespace, uid))),
            (None, None) => Writer::Classic(Arc::new(ClassicWriter::new(&classic.prefix, namespace, uid))),
        };
        let key = self.shared.next_number();
        self.shared.inlet.push_unbounded(Input::Open { key, writer: writer.clone(), host });
        Box::new(OpenNamespace::new(key, writer, self.shared.clone()))
    }

    fn status(&self) -> ClusterStatus {
        self.shared.status.get()
    }

    fn metrics(&self) -> Vec<ClusterMetric> {
        let mut metrics = metrics::collect(&self.shared);
        metrics.extend(self.engine_metrics.collect());
        metrics
    }

    async fn leave(&self) {
        self.shared.inlet.leave(Input::Leave);
        self.shared.status.left().await;
    }
}

impl Drop for NodeCluster {
    fn drop(&mut self) {
        self.shared.inlet.leave(Input::Leave);
        self.shared.inlet.push_unbounded(Input::Abandon);
    }
}
