//! Nodes on one broker.

use std::sync::{Arc, Weak};
use std::time::Duration;

use roomcast_cluster_node::{NodeCluster, NodeClusterConfig};
use roomcast_core::{
    Args, ByteString, Cluster as _, ClusterHost, ClusterNamespace, ClusterStatus, ClusterValue, Event, Heard,
    IntoArgs as _, Namespace, Room, Target,
};

use crate::broker::Broker;
use crate::host::Host;
use crate::stream_log::MemoryStream;

/// Node with its main namespace.
pub(crate) struct Server {
    pub(crate) cluster: NodeCluster,
    pub(crate) namespace: Arc<dyn ClusterNamespace>,
    pub(crate) host: Arc<Host>,
}

impl Server {
    pub(crate) fn start(broker: &Broker, host: Arc<Host>) -> Self {
        Self::start_with(broker, host, NodeClusterConfig::new())
    }

    pub(crate) fn start_with(broker: &Broker, host: Arc<Host>, config: NodeClusterConfig) -> Self {
        let cluster = NodeCluster::start(config, broker.connect());
        let namespace = open(&cluster, "/", &host);
        Self { cluster, namespace, host }
    }

    /// Starts a node with the streams adapter.
    pub(crate) fn start_streams(broker: &Broker, stream: &MemoryStream, host: Arc<Host>) -> Self {
        let config = NodeClusterConfig::new();
        Self::start_streams_with(broker, stream, host, config)
    }

    pub(crate) fn start_streams_with(
        broker: &Broker,
        stream: &MemoryStream,
        host: Arc<Host>,
        config: NodeClusterConfig,
    ) -> Self {
        let cluster = NodeCluster::start_streams(config, broker.connect(), stream.connect());
        let namespace = open(&cluster, "/", &host);
        Self { cluster, namespace, host }
    }

    /// Starts nodes with the streams adapter, as [`connected`](Self::connected) does.
    pub(crate) async fn connected_by_stream(
        broker: &Broker,
        stream: &MemoryStream,
        count: usize,
    ) -> Vec<Self> {
        let ids: Vec<_> = (0..count).map(|index| format!("s{index}")).collect();
        let host = |id: &String| Host::with_sockets(&[(id, &["all"])]);
        let servers: Vec<_> = ids.iter().map(|id| Self::start_streams(broker, stream, host(id))).collect();
        for server in &servers {
            server.join().await;
        }
        settle().await;
        servers
    }

    /// Starts nodes with one socket each, `s0`, `s1` and so on, in the room `all`.
    pub(crate) async fn connected(broker: &Broker, count: usize) -> Vec<Self> {
        let ids: Vec<_> = (0..count).map(|index| format!("s{index}")).collect();
        let servers: Vec<_> =
            ids.iter().map(|id| Self::start(broker, Host::with_sockets(&[(id, &["all"])]))).collect();
        for server in &servers {
            server.join().await;
        }
        servers
    }

    pub(crate) async fn join(&self) {
        assert_eq!(self.namespace.heard(None).await, Heard::Confirmed);
    }

    pub(crate) fn metric(&self, name: &str) -> u64 {
        let metrics = self.cluster.metrics();
        let found = metrics.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("no {name}"));
        match found.value {
            ClusterValue::Counter(value) | ClusterValue::Gauge(value) => value as u64,
            ref other => panic!("{name} is {other:?}"),
        }
    }

    pub(crate) fn status(&self) -> ClusterStatus {
        self.cluster.status()
    }
}

pub(crate) fn open(cluster: &NodeCluster, name: &str, host: &Arc<Host>) -> Arc<dyn ClusterNamespace> {
    let weak = Arc::downgrade(host);
    let weak: Weak<dyn ClusterHost> = weak;
    cluster.open(&Namespace::new(name), weak).into()
}

/// Lets the tasks of the nodes run until they wait.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
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

pub(crate) const SOON: Duration = Duration::from_millis(500);
