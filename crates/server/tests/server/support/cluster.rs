//! Servers of one cluster in one process, on a message engine in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use roomcast_cluster::{Channel, ClusterConfig, NodeId};
use roomcast_cluster_runtime::{ClusterConnection, ConnectionConfig};
use roomcast_core::{
    Cluster, ClusterHost, ClusterMetric, ClusterNamespace, ClusterStatus, ClusterValue, Namespace, Room,
    SocketId,
};
use roomcast_server::config::IoBuilder;
use roomcast_server::{Io, Server, Socket};
use roomcast_testkit::cluster::{Fault, Harness as _, MemoryEngine};
use tokio::runtime::{Builder, Runtime};

use super::client::{Client, Kind};
use super::recorder::{Recorder, arrivals};
use super::serve::{On, Running, serve_server, until};

/// Cluster on an engine in memory; each node has its own threads.
#[derive(Debug)]
pub struct Nodes {
    engine: MemoryEngine,
    config: ClusterConfig,
    started: AtomicUsize,
    /// Runs the time of the engine.
    _time: Runtime,
}

/// Server of a cluster.
#[derive(Debug)]
pub struct Node {
    pub io: Io,
    pub server: Running,
    /// Sockets that connect to the main namespace.
    pub sockets: Recorder<Socket>,
    pub cluster: Connection,
    number: usize,
    engine: MemoryEngine,
    /// Runs the connection to the cluster.
    process: Option<Runtime>,
}

/// Connection to the cluster that counts the namespaces which its server opens.
#[derive(Debug, Clone)]
pub struct Connection {
    inner: Arc<ClusterConnection>,
    opened: Arc<Mutex<BTreeMap<Namespace, usize>>>,
}

impl Nodes {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// Creates a cluster whose nodes have other settings.
    pub fn with(configure: impl FnOnce(&mut ClusterConfig)) -> Self {
        let mut config = ClusterConfig::default();
        config.unsubscribe_delay = Duration::from_millis(50);
        configure(&mut config);
        let (engine, time) = (MemoryEngine::new(7), worker());
        let running = engine.clone();
        time.spawn(async move { running.run().await });
        Self { engine, config, started: AtomicUsize::new(0), _time: time }
    }

    /// Starts a node.
    pub fn start(&self) -> Node {
        self.start_with(|builder| builder)
    }

    /// Starts a node with other settings of its server.
    pub fn start_with(&self, build: impl FnOnce(IoBuilder) -> IoBuilder) -> Node {
        self.start_server(build, |_| {}, Server::new)
    }

    /// Starts a node; `prepare` is called before the server accepts clients.
    pub fn start_server(
        &self,
        build: impl FnOnce(IoBuilder) -> IoBuilder,
        prepare: impl FnOnce(&Io),
        serve: impl FnOnce(Io) -> Server,
    ) -> Node {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let process = worker();
        let engine = self.engine.clone().connect(number);
        let settings = self.config.clone();
        let config = ConnectionConfig::new().id(id(number)).node(|config| *config = settings);
        let inner = {
            let _entered = process.enter();
            Arc::new(ClusterConnection::start(config, engine))
        };
        let cluster = Connection { inner, opened: Arc::default() };
        let io = build(Io::builder()).cluster(cluster.clone()).build();
        let sockets = arrivals(&io);
        prepare(&io);
        let server = serve_server(&io, On::Workers(2), serve(io.clone()));
        Node { io, server, sockets, cluster, number, engine: self.engine.clone(), process: Some(process) }
    }

    /// Starts nodes that know each other.
    pub fn connected<const N: usize>(&self) -> [Node; N] {
        let nodes = std::array::from_fn(|_| self.start());
        know_each_other(&nodes.each_ref());
        nodes
    }

    /// Changes a fault of the next node, before it connects.
    pub fn inject_into_next(&self, fault: impl FnOnce(usize) -> Fault) {
        let number = self.started.load(Ordering::Relaxed);
        // A later connection of the same number inherits its faults.
        drop(self.engine.clone().connect(number));
        self.inject(&fault(number));
    }

    /// Changes a fault of the engine.
    pub fn inject(&self, fault: &Fault) {
        assert!(self.engine.clone().inject(fault));
    }
}

/// Waits until the nodes are connected, and know as many others as these.
pub fn know_each_other(nodes: &[&Node]) {
    for node in nodes {
        until(|| node.metric("cluster_nodes") == nodes.len() - 1);
        until(|| node.io.cluster_status() == Some(ClusterStatus::Connected));
    }
}

impl Node {
    /// Returns the name by which errors name this node.
    pub fn name(&self) -> String {
        id(self.number).to_string()
    }

    /// Returns the number that faults name this node with.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Connects a client, and returns its socket in the main namespace.
    pub fn connect(&self, kind: Kind) -> (Client, Socket) {
        let client = Client::connect(kind, &self.server.dial);
        (client, self.sockets.next())
    }

    /// Adds a socket of this node to rooms, and waits until events of other nodes to them arrive.
    #[track_caller]
    pub fn join(&self, socket: &Socket, rooms: &[&str]) {
        for room in rooms {
            assert!(self.server.block_on(socket.join_confirmed(*room)), "{room} is not confirmed");
        }
    }

    /// Returns a counter or gauge of the connection.
    pub fn metric(&self, name: &str) -> usize {
        let metrics = self.cluster.metrics();
        let metric = metrics.iter().find(|metric| metric.name == name);
        match metric.unwrap_or_else(|| panic!("no metric {name}")).value {
            ClusterValue::Counter(value) | ClusterValue::Gauge(value) => value as usize,
            ref other => panic!("{name} is {other:?}"),
        }
    }

    /// Returns the rooms of a namespace to which the node is subscribed, sorted.
    pub fn rooms(&self, namespace: &str) -> Vec<Room> {
        let rooms = self.channels().into_iter().filter_map(|channel| match channel {
            Channel::Room(name, room) if name.as_str() == namespace => Some(room),
            _ => None,
        });
        rooms.collect()
    }

    /// Returns whether the node is subscribed to a namespace.
    pub fn hears(&self, namespace: &str) -> bool {
        self.channels().contains(&Channel::Namespace(Namespace::from(namespace)))
    }

    /// Returns how often the server has opened a namespace.
    pub fn open_count(&self, namespace: &str) -> usize {
        let opened = self.cluster.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.get(&Namespace::from(namespace)).copied().unwrap_or_default()
    }

    /// Returns whether a socket id names this node.
    pub fn is_home_of(&self, socket: &SocketId) -> bool {
        NodeId::of_room(socket.as_str()) == Some(id(self.number))
    }

    /// Ends the connection to the cluster without a goodbye, as the death of the process does. The server stays.
    pub fn die(&mut self) {
        let process = self.process.take().expect("a node that is alive");
        process.shutdown_timeout(Duration::from_secs(5));
    }

    fn channels(&self) -> Vec<Channel> {
        self.engine.subscriptions(self.number).expect("a started node").into_iter().collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.shutdown_background();
        }
    }
}

#[async_trait]
impl Cluster for Connection {
    fn open(&self, namespace: &Namespace, host: Weak<dyn ClusterHost>) -> Box<dyn ClusterNamespace> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        *opened.entry(namespace.clone()).or_default() += 1;
        drop(opened);
        self.inner.open(namespace, host)
    }

    fn id_tag(&self) -> &str {
        self.inner.id_tag()
    }

    fn status(&self) -> ClusterStatus {
        self.inner.status()
    }

    fn metrics(&self) -> Vec<ClusterMetric> {
        self.inner.metrics()
    }

    async fn leave(&self) {
        self.inner.leave().await;
    }
}

fn id(number: usize) -> NodeId {
    NodeId::new(number as u64 + 1)
}

fn worker() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}
