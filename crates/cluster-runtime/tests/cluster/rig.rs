//! Nodes on one engine in memory.

use std::sync::Arc;
use std::time::Duration;

use roomcast_cluster::{ClusterConfig, NodeId};
use roomcast_cluster_runtime::{ClusterConnection, ConnectionConfig};
use roomcast_core::{
    Args, ByteString, Cluster as _, ClusterHost, ClusterNamespace, ClusterStatus, ClusterValue, Event, Heard,
    IntoArgs as _, Namespace, Room, Target,
};
use roomcast_testkit::cluster::{Fault, Harness as _, MemoryBackplane, MemoryEngine};

use crate::host::Host;

/// Engine whose time is that of the runtime.
pub(crate) struct Rig {
    pub(crate) engine: MemoryEngine,
}

/// Node with its main namespace.
pub(crate) struct Server {
    pub(crate) connection: ClusterConnection,
    pub(crate) namespace: Arc<dyn ClusterNamespace>,
    pub(crate) host: Arc<Host>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let engine = MemoryEngine::new(7);
        let running = engine.clone();
        tokio::spawn(async move { running.run().await });
        Self { engine }
    }

    /// Starts nodes, and waits until they know each other.
    pub(crate) async fn connected(nodes: usize) -> (Self, Vec<Server>) {
        let mut rig = Self::new();
        let servers: Vec<_> = (0..nodes).map(|node| rig.start(node, Host::with_sockets(&[]))).collect();
        settle(&servers).await;
        (rig, servers)
    }

    pub(crate) fn start(&mut self, node: usize, host: Arc<Host>) -> Server {
        self.start_with(node, host, |_| {})
    }

    pub(crate) fn start_with(
        &mut self,
        node: usize,
        host: Arc<Host>,
        configure: impl FnOnce(&mut ClusterConfig),
    ) -> Server {
        let engine = self.connect(node);
        Server::start(ConnectionConfig::new().id(id(node)).node(configure), engine, host)
    }

    pub(crate) fn connect(&mut self, node: usize) -> MemoryBackplane {
        self.engine.connect(node)
    }

    pub(crate) fn inject(&mut self, fault: Fault) {
        assert!(self.engine.inject(&fault));
    }
}

impl Server {
    pub(crate) fn start(
        config: ConnectionConfig,
        engine: impl roomcast_cluster::Backplane + 'static,
        host: Arc<Host>,
    ) -> Self {
        let connection = ClusterConnection::start(config, engine);
        let weak = Arc::downgrade(&host);
        let weak: std::sync::Weak<dyn ClusterHost> = weak;
        let namespace = connection.open(&Namespace::main(), weak).into();
        Self { connection, namespace, host }
    }

    /// Joins a room, and waits for its subscription.
    pub(crate) async fn join(&self, room: &str) {
        let room = Room::from(room);
        self.namespace.room_created(&room);
        assert_eq!(self.namespace.heard(Some(&room)).await, Heard::Confirmed);
    }

    /// Returns a counter or gauge.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        match self.value(name) {
            ClusterValue::Counter(value) | ClusterValue::Gauge(value) => value as u64,
            other => panic!("{name} is {other:?}"),
        }
    }

    pub(crate) fn value(&self, name: &str) -> ClusterValue {
        let metrics = self.connection.metrics();
        let found = metrics.into_iter().find(|metric| metric.name == name);
        found.unwrap_or_else(|| panic!("no {name}")).value
    }

    pub(crate) fn status(&self) -> ClusterStatus {
        self.connection.status()
    }
}

/// Waits until the nodes know each other, and clears the records.
pub(crate) async fn settle(servers: &[Server]) {
    tokio::time::sleep(Duration::from_secs(2)).await;
    for server in servers {
        assert_eq!(server.metric("cluster_nodes") as usize, servers.len() - 1);
        assert_eq!(server.status(), ClusterStatus::Connected);
        server.host.take_missed();
        server.host.take_log();
    }
}

pub(crate) fn id(node: usize) -> NodeId {
    NodeId::new(node as u64 + 1)
}

pub(crate) fn name(node: usize) -> String {
    id(node).to_string()
}

pub(crate) fn to(room: &str) -> Target {
    let rooms = if room.is_empty() { Vec::new() } else { vec![Room::from(room)] };
    Target { rooms, ..Target::default() }
}

pub(crate) fn event(number: usize) -> Event {
    Event::new(Namespace::main(), "event", args(number))
}

pub(crate) fn args(number: usize) -> Args {
    (number as u64,).into_args().unwrap()
}

pub(crate) fn text(text: &str) -> ByteString {
    text.into()
}

pub(crate) const SOON: Duration = Duration::from_millis(20);
