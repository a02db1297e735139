//! Connection of a server to its cluster.

use std::io;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use roomcast_cluster::{Backplane, Node, NodeId, first_incarnation};
use roomcast_cluster_task::clock::{self, random};
use roomcast_cluster_task::{EngineMetrics, spawn_thread};
use roomcast_core::{Cluster, ClusterHost, ClusterMetric, ClusterNamespace, ClusterStatus, Namespace};

use crate::config::ConnectionConfig;
use crate::driver::Driver;
use crate::input::Input;
use crate::metrics;
use crate::namespace::OpenNamespace;
use crate::shared::Shared;

/// Connection of a server to the other nodes of its cluster.
///
/// Its task says goodbye and ends after [`leave`](Cluster::leave), or when the connection is dropped; see
/// [`ConnectionConfig::leave_timeout`].
#[derive(Debug)]
pub struct ClusterConnection {
    shared: Arc<Shared>,
    engine_metrics: EngineMetrics,
}

impl ClusterConnection {
    /// Starts the task that connects this server over an engine.
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without time.
    pub fn start(config: ConnectionConfig, engine: impl Backplane + 'static) -> Self {
        let (connection, task) = Self::new(config, engine);
        tokio::spawn(task());
        connection
    }

    /// Starts the task on a separate thread, for servers that start their runtimes later.
    ///
    /// Handlers of events for servers run on that thread. It ends with the task.
    ///
    /// # Errors
    /// Returns an error if the thread or its runtime cannot be started.
    pub fn start_thread(config: ConnectionConfig, engine: impl Backplane + 'static) -> io::Result<Self> {
        let (connection, task) = Self::new(config, engine);
        spawn_thread(task)?;
        Ok(connection)
    }

    /// Creates a connection, and a function that creates its task in the runtime where it is called.
    fn new(
        config: ConnectionConfig,
        engine: impl Backplane + 'static,
    ) -> (Self, impl FnOnce() -> Driver + Send) {
        let id = config.id.unwrap_or_else(|| NodeId::new(random()));
        let shared = Shared::new(&config.node, id);
        let connection = Self { shared: shared.clone(), engine_metrics: config.engine_metrics.clone() };
        let task = move || {
            let incarnation = first_incarnation(clock::since_1970(), random());
            let node = Arc::new(Driver::node_config(config.node.clone()));
            let node = Node::new(node, id, incarnation, clock::now());
            Driver::new(shared, config, node, Box::new(engine))
        };
        (connection, task)
    }

    /// Returns the id of the node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.shared.id
    }
}

#[async_trait]
impl Cluster for ClusterConnection {
    fn open(&self, namespace: &Namespace, host: Weak<dyn ClusterHost>) -> Box<dyn ClusterNamespace> {
        self.shared.inlet.push_unbounded(Input::Open { namespace: namespace.clone(), host });
        Box::new(OpenNamespace::new(namespace.clone(), self.shared.clone()))
    }

    fn id_tag(&self) -> &str {
        &self.shared.tag
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

impl Drop for ClusterConnection {
    fn drop(&mut self) {
        self.shared.inlet.leave(Input::Leave);
        self.shared.inlet.push_unbounded(Input::Abandon);
    }
}
