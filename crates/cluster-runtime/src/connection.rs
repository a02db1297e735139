//! Connection of a server to its cluster.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use roomcast_cluster::{Backplane, Node, NodeId, first_incarnation};
use roomcast_cluster_task::clock::{self, random};
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
}

impl ClusterConnection {
    /// Starts the task that connects this server over an engine.
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without time.
    pub fn start(config: ConnectionConfig, engine: impl Backplane + 'static) -> Self {
        let id = config.id.unwrap_or_else(|| NodeId::new(random()));
        let shared = Shared::new(&config.node, id);
        let (driver, node) = (shared.clone(), config.node.clone());
        let incarnation = first_incarnation(clock::since_1970(), random());
        let node = Node::new(Arc::new(Driver::node_config(node)), id, incarnation, clock::now());
        tokio::spawn(Driver::new(driver, config, node, Box::new(engine)));
        Self { shared }
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
        *self.shared.status.borrow()
    }

    fn metrics(&self) -> Vec<ClusterMetric> {
        metrics::collect(&self.shared)
    }

    async fn leave(&self) {
        let mut status = self.shared.status.subscribe();
        self.shared.inlet.leave(Input::Leave);
        // `shared` holds the sender, so there is no error.
        let _ = status.wait_for(|status| *status == ClusterStatus::Left).await;
    }
}

impl Drop for ClusterConnection {
    fn drop(&mut self) {
        self.shared.inlet.leave(Input::Leave);
        self.shared.inlet.push_unbounded(Input::Abandon);
    }
}
