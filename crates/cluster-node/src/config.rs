//! Settings of a cluster of Node servers.

use std::time::Duration;

use roomcast_cluster_task::EngineMetrics;
use roomcast_core::ClusterMetric;
use roomcast_node_adapter::{ClassicConfig, ShardedConfig, StreamsConfig};

/// Settings of a [`NodeCluster`](crate::NodeCluster).
///
/// ```
/// use std::time::Duration;
///
/// use roomcast_cluster_node::NodeClusterConfig;
///
/// let config = NodeClusterConfig::new()
///     .prefix("chat")
///     .queue_bytes(64 << 20)
///     .handler_timeout(Duration::from_secs(10));
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct NodeClusterConfig {
    pub(crate) classic: ClassicConfig,
    pub(crate) sharded: Option<ShardedConfig>,
    pub(crate) streams: Option<StreamsConfig>,
    pub(crate) queue_bytes: usize,
    pub(crate) max_publication: usize,
    pub(crate) answer_bytes: usize,
    pub(crate) join_timeout: Duration,
    pub(crate) resume_delay: Duration,
    pub(crate) max_handlers: usize,
    pub(crate) handler_timeout: Duration,
    pub(crate) leave_timeout: Duration,
    pub(crate) engine_metrics: EngineMetrics,
}

impl Default for NodeClusterConfig {
    fn default() -> Self {
        Self {
            classic: ClassicConfig::default(),
            sharded: None,
            streams: None,
            queue_bytes: 16 << 20,
            max_publication: 16 << 20,
            answer_bytes: 64 << 20,
            join_timeout: Duration::from_secs(1),
            resume_delay: Duration::from_millis(450),
            max_handlers: 1000,
            handler_timeout: Duration::from_secs(60),
            leave_timeout: Duration::from_secs(5),
            engine_metrics: EngineMetrics::default(),
        }
    }
}

impl NodeClusterConfig {
    /// Returns the default settings, which are also the defaults of Node's adapter where it has them.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the first part of each channel's name, the option `key` of Node's classic adapter and emitter, and
    /// `channelPrefix` of the sharded and of the streams adapter. Default: `socket.io`.
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.classic.prefix = prefix.into();
        if let Some(sharded) = &mut self.sharded {
            sharded.prefix = prefix.into();
        }
        if let Some(streams) = &mut self.streams {
            streams.prefix = prefix.into();
        }
        self
    }

    /// Selects the sharded adapter, and changes its settings. Default: [`ShardedConfig::default`] with the
    /// [prefix](Self::prefix).
    ///
    /// Such a cluster is started by [`NodeCluster::start`](crate::NodeCluster::start), with an engine whose channels
    /// are sharded. **All nodes must have the same [mode](ShardedConfig::mode)**; others are noticed and warned about,
    /// as far as possible.
    pub fn sharded(mut self, change: impl FnOnce(&mut ShardedConfig)) -> Self {
        let prefix = self.classic.prefix.clone();
        change(self.sharded.get_or_insert_with(|| {
            let mut sharded = ShardedConfig::default();
            sharded.prefix = prefix;
            sharded
        }));
        self
    }

    /// Selects the streams adapter, and changes its settings. Default: [`StreamsConfig::default`] with the
    /// [prefix](Self::prefix).
    ///
    /// Such a cluster is started by [`NodeCluster::start_streams`](crate::NodeCluster::start_streams).
    pub fn streams(mut self, change: impl FnOnce(&mut StreamsConfig)) -> Self {
        let prefix = self.classic.prefix.clone();
        change(self.streams.get_or_insert_with(|| {
            let mut streams = StreamsConfig::default();
            streams.prefix = prefix;
            streams
        }));
        self
    }

    /// Changes the settings of the protocol. Default: [`ClassicConfig::default`].
    pub fn classic(mut self, change: impl FnOnce(&mut ClassicConfig)) -> Self {
        change(&mut self.classic);
        self
    }

    /// Returns the name of the stream, if the streams adapter is selected.
    #[must_use]
    pub fn stream_name(&self) -> Option<&str> {
        self.streams.as_ref().map(|streams| &*streams.stream)
    }

    /// Returns whether the engine of the streams adapter has to have sharded channels.
    #[must_use]
    pub fn has_sharded_requests(&self) -> bool {
        self.streams.as_ref().is_some_and(|streams| streams.sharded_requests)
    }

    /// Sets the maximum bytes of publications, requests and answers that wait for the engine. Default: 16 MiB.
    ///
    /// Above it, publications are refused, and answers to other nodes are dropped; both are counted. The engine's
    /// buffer is in addition.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Sets the maximum bytes of one message; larger ones are refused or, as answers, dropped. Default: 16 MiB.
    ///
    /// Redis disconnects subscribers, and with them Node servers, whose pending messages exceed
    /// `client-output-buffer-limit pubsub`, 32 MiB by default.
    pub fn max_publication(mut self, bytes: usize) -> Self {
        self.max_publication = bytes;
        self
    }

    /// Sets the maximum bytes of answers from other nodes that were not read yet. Default: 64 MiB.
    pub fn answer_bytes(mut self, bytes: usize) -> Self {
        self.answer_bytes = bytes;
        self
    }

    /// Sets the time that a join waits for the subscription of its namespace. Default: 1 s.
    pub fn join_timeout(mut self, timeout: Duration) -> Self {
        self.join_timeout = timeout;
        self
    }

    /// Sets the time for which publications and requests wait after an outage of the engine. Default: 450 ms.
    ///
    /// Redis keeps no message for a subscriber that has not returned yet, so the first node to reconnect would publish
    /// to none, and count none. Roomcast servers reconnect within 500 ms; Node servers take up to 2 s after a long
    /// outage, and miss earlier publications.
    pub fn resume_delay(mut self, delay: Duration) -> Self {
        self.resume_delay = delay;
        self
    }

    /// Sets the maximum number of handlers of events for servers that run at the same time. Default: 1,000.
    ///
    /// Further events are dropped and counted as `cluster_handlers_refused`.
    pub fn max_handlers(mut self, handlers: usize) -> Self {
        self.max_handlers = handlers;
        self
    }

    /// Sets the time after which a handler of an event for servers is dropped. Default: 60 s.
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.handler_timeout = timeout;
        self
    }

    /// Sets the time for which a dropped cluster tries to publish the rest of its queue. Default: 5 s.
    pub fn leave_timeout(mut self, timeout: Duration) -> Self {
        self.leave_timeout = timeout;
        self
    }

    /// Adds counters and gauges of the engine to the metrics. Default: none.
    ///
    /// The function is called for each exposition, on any thread; it returns the same names each time.
    pub fn engine_metrics(
        mut self,
        metrics: impl Fn() -> Vec<ClusterMetric> + Send + Sync + 'static,
    ) -> Self {
        self.engine_metrics = EngineMetrics::new(metrics);
        self
    }
}
