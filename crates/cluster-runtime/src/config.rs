//! Settings of a connection.

use std::time::Duration;

use roomcast_cluster::{ClusterConfig, NodeId};
use roomcast_cluster_task::EngineMetrics;
use roomcast_core::ClusterMetric;
use roomcast_presence::PresenceConfig;

/// Settings of a [`ClusterConnection`](crate::ClusterConnection).
///
/// ```
/// use std::time::Duration;
///
/// use roomcast_cluster_runtime::ConnectionConfig;
///
/// let config = ConnectionConfig::new()
///     .node(|node| node.queue_bytes = 64 << 20)
///     .handler_timeout(Duration::from_secs(10));
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct ConnectionConfig {
    pub(crate) node: ClusterConfig,
    pub(crate) presence: PresenceConfig,
    pub(crate) id: Option<NodeId>,
    pub(crate) max_handlers: usize,
    pub(crate) handler_timeout: Duration,
    pub(crate) leave_timeout: Duration,
    pub(crate) engine_metrics: EngineMetrics,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            node: ClusterConfig::default(),
            presence: PresenceConfig::default(),
            id: None,
            max_handlers: 1000,
            handler_timeout: Duration::from_secs(60),
            leave_timeout: Duration::from_secs(5),
            engine_metrics: EngineMetrics::default(),
        }
    }
}

impl ConnectionConfig {
    /// Returns the default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the settings of the node: intervals, timeouts and limits. Default: [`ClusterConfig::default`].
    ///
    /// [`queue_bytes`](ClusterConfig::queue_bytes) bounds the bytes towards the engine, including the connection's own
    /// queue. At the bound publications are refused; [`queue_overflow`](ClusterConfig::queue_overflow) is ignored.
    pub fn node(mut self, change: impl FnOnce(&mut ClusterConfig)) -> Self {
        change(&mut self.node);
        self
    }

    /// Changes the settings of presence across nodes. Default: [`PresenceConfig::default`].
    pub fn presence(mut self, change: impl FnOnce(&mut PresenceConfig)) -> Self {
        change(&mut self.presence);
        self
    }

    /// Sets the id of the node. Default: drawn at random.
    ///
    /// Two live processes must not share one.
    pub fn id(mut self, id: NodeId) -> Self {
        self.id = Some(id);
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
    ///
    /// If the event requests an acknowledgement, the time is at most that until its deadline.
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.handler_timeout = timeout;
        self
    }

    /// Sets the time for which a dropped connection tries to say goodbye. Default: 5 s.
    pub fn leave_timeout(mut self, timeout: Duration) -> Self {
        self.leave_timeout = timeout;
        self
    }

    /// Adds counters and gauges of the engine to the metrics of the connection. Default: none.
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
