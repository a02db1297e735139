//! Nodes of a cluster on a real Redis.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use roomcast_backplane_redis::RedisConfig;
use roomcast_cluster_node::NodeCluster;
use roomcast_core::{
    Cluster as _, ClusterHost, ClusterNamespace, ClusterValue, Event, Heard, IntoArgs as _, Namespace,
    PublishRefusal, Published, Room, Target,
};

use crate::host::Host;
use crate::server::Redis;

pub(crate) struct Node {
    pub(crate) cluster: NodeCluster,
    pub(crate) namespace: Arc<dyn ClusterNamespace>,
    pub(crate) host: Arc<Host>,
}

impl Node {
    /// Opens the main namespace for one socket in the room `all`.
    pub(crate) async fn open(cluster: NodeCluster, socket: &str) -> Self {
        let host = Host::with_sockets(&[(socket, &["all"])]);
        let weak = Arc::downgrade(&host);
        let weak: Weak<dyn ClusterHost> = weak;
        let namespace: Arc<dyn ClusterNamespace> = cluster.open(&Namespace::main(), weak).into();
        assert_eq!(namespace.heard(None).await, Heard::Confirmed);
        Self { cluster, namespace, host }
    }

    pub(crate) fn metric(&self, name: &str) -> u64 {
        let metrics = self.cluster.metrics();
        match metrics.iter().find(|metric| metric.name == name).expect("a metric").value {
            ClusterValue::Counter(value) | ClusterValue::Gauge(value) => value as u64,
            ref other => panic!("{name} is {other:?}"),
        }
    }

    pub(crate) fn delivered(&self) -> usize {
        self.host.delivered.load(Ordering::Relaxed)
    }

    pub(crate) fn publish(&self, number: usize) -> Published {
        let event = Event::new(Namespace::main(), "event", (number as u64,).into_args().expect("JSON"));
        let all = Target { rooms: vec![Room::from("all")], ..Target::default() };
        self.namespace.broadcast(&all, &event)
    }

    /// Publishes more than the queue holds while the engine is away; returns the number of accepted events.
    ///
    /// The others have to be refused and counted, and the queue has to stay within its limit.
    pub(crate) fn overfill(&self, queue_bytes: usize) -> usize {
        let (mut accepted, mut refused) = (0, 0);
        for number in 0..20_000 {
            match self.publish(number) {
                Published::Accepted => accepted += 1,
                Published::Refused(PublishRefusal::QueueFull) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(accepted > 1000 && refused > 1000, "{accepted} {refused}");
        assert_eq!(self.metric("cluster_refused"), refused);
        assert!(self.metric("cluster_queue_bytes") <= queue_bytes as u64);
        accepted
    }
}

/// Opens nodes on clusters that a function starts.
pub(crate) async fn nodes<const N: usize>(mut start: impl FnMut() -> NodeCluster) -> [Node; N] {
    let mut nodes = Vec::new();
    for index in 0..N {
        nodes.push(Node::open(start(), &format!("s{index}")).await);
    }
    nodes.try_into().ok().expect("as many")
}

pub(crate) fn config(redis: &Redis) -> RedisConfig {
    RedisConfig::from_url(&redis.url()).expect("a URL").ping_interval(PING)
}

/// Waits until a condition holds; returns the time that it took.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LIMIT, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    begin.elapsed()
}

pub(crate) const PING: Duration = Duration::from_millis(250);
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
