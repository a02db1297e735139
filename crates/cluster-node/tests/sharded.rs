//! Clusters with the sharded adapter on a real Redis, with its outages.
//!
//! ```sh
//! cargo test --package roomcast-cluster-node --test sharded -- --ignored
//! ```

#![allow(clippy::disallowed_methods, reason = "real servers have the time of the machine")]

#[path = "../../cluster-runtime/tests/cluster/host.rs"]
#[allow(dead_code, reason = "each cluster uses a part")]
mod host;
#[allow(dead_code, reason = "each test file uses a part")]
mod node;
#[path = "../../backplane-redis/tests/server/mod.rs"]
#[allow(dead_code, reason = "each test file uses a part")]
mod server;

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use node::{LIMIT, Node, nodes, until};
use roomcast_backplane_redis::RedisPubSub;
use roomcast_cluster_node::{NodeCluster, NodeClusterConfig};
use roomcast_core::{
    Cluster as _, ClusterStatus, Event, Heard, IntoArgs as _, Namespace, Published, Room, Target,
};
use server::Redis;

fn start(redis: &Redis) -> NodeCluster {
    let config = NodeClusterConfig::new().queue_bytes(QUEUE_BYTES).sharded(|_| {});
    NodeCluster::start(config, RedisPubSub::sharded(node::config(redis)))
}

/// Starts two nodes with a member of the room `all`, which has a channel.
async fn pair(redis: &Redis) -> [Node; 2] {
    let nodes: [Node; 2] = nodes(|| start(redis)).await;
    for node in &nodes {
        let room = Room::from("all");
        node.namespace.room_created(&room);
        assert_eq!(node.namespace.heard(Some(&room)).await, Heard::Confirmed);
    }
    nodes
}

/// Returns whether two connections are subscribed to the channels of the namespace and of the room.
fn are_whole(redis: &Redis) -> bool {
    let reply = redis.try_command(&["PUBSUB", "SHARDNUMSUB", "socket.io#/#", ROOM]);
    reply.is_some_and(|reply| reply.matches(":2\r\n").count() == 2)
}

/// Waits until all subscriptions are renewed, within a second.
async fn assert_renewed(redis: &Redis, what: &str) {
    let time = until(what, || are_whole(redis)).await;
    println!("{what}: subscribed after {time:?}");
    assert!(time < Duration::from_secs(1), "{what}: {time:?}");
}

fn have_status(nodes: &[Node; 2], status: ClusterStatus) -> bool {
    nodes.iter().all(|node| node.cluster.status() == status)
}

/// Checks that the loss of subscriptions was reported to the namespace of each node, and no room was left out.
fn assert_told(nodes: &[Node; 2]) {
    for node in nodes {
        let missed = node.host.take_missed();
        assert!(missed.contains(&None), "{missed:?}");
    }
}

/// Checks that an event and a query reach the other node.
async fn assert_works(nodes: &[Node; 2]) {
    until("the status recovers", || have_status(nodes, ClusterStatus::Connected)).await;
    let before = nodes[1].delivered();
    assert_eq!(nodes[0].publish(1), Published::Accepted);
    until("the event is delivered", || nodes[1].delivered() == before + 1).await;
    let counts = nodes[0].namespace.count(&Target::default(), LIMIT).await;
    assert_eq!(counts.expect("both nodes"), [1]);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn restart_is_told_and_survived() {
    let mut redis = Redis::start("");
    let nodes = pair(&redis).await;
    for round in 0..3 {
        redis.kill();
        until("the outage is noticed", || have_status(&nodes, ClusterStatus::Degraded)).await;
        assert_told(&nodes);
        let before = nodes[1].delivered();
        for number in 0..100 {
            assert_eq!(nodes[0].publish(number), Published::Accepted);
        }
        redis.restart();
        assert_renewed(&redis, &format!("restart {round}")).await;
        until("the queue is delivered", || nodes[1].delivered() == before + 100).await;
        assert_works(&nodes).await;
        // The end of the time in which messages may be missing.
        assert_told(&nodes);
    }
    assert_eq!((nodes[0].metric("cluster_refused"), nodes[0].metric("cluster_unconfirmed")), (0, 0));
    assert!(nodes.iter().all(|node| node.metric("cluster_disconnects") >= 3));
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn long_outage_is_bounded_and_counted() {
    let mut redis = Redis::start("");
    let nodes = pair(&redis).await;
    redis.kill();
    until("the outage is noticed", || nodes[0].cluster.status() == ClusterStatus::Degraded).await;
    let accepted = nodes[0].overfill(QUEUE_BYTES);
    redis.restart();
    assert_renewed(&redis, "long outage").await;
    until("the queue is delivered", || nodes[1].delivered() == accepted).await;
    assert_works(&nodes).await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn frozen_server_is_noticed_and_losses_counted() {
    let redis = Redis::start("");
    let nodes = pair(&redis).await;
    redis.freeze();
    let sent = |range: std::ops::Range<usize>| {
        range.filter(|number| nodes[0].publish(*number) == Published::Accepted).count()
    };
    let mut accepted = sent(0..50);
    let begin = Instant::now();
    let asked = nodes[0].namespace.fetch(&Target::default(), Duration::from_millis(500)).await;
    assert_eq!(asked.expect_err("no answer").missing, None);
    assert!(begin.elapsed() < Duration::from_secs(2));
    until("the outage is noticed", || have_status(&nodes, ClusterStatus::Degraded)).await;
    assert_told(&nodes);
    accepted += sent(50..100);
    assert_eq!(accepted, 100);
    redis.thaw();
    assert_renewed(&redis, "thaw").await;
    until("the status recovers", || have_status(&nodes, ClusterStatus::Connected)).await;
    let lost = nodes[0].metric("cluster_unconfirmed") as usize;
    assert_eq!(lost, 50, "those that were sent without a reply");
    until("the rest is delivered", || nodes[1].delivered() >= accepted - lost).await;
    until("the former connections are not counted", || are_whole(&redis)).await;
    assert_works(&nodes).await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn cut_connections_are_renewed() {
    let redis = Redis::start("");
    let nodes = pair(&redis).await;
    for round in 1..=5 {
        redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        let is_noticed = || nodes.iter().all(|node| node.metric("cluster_disconnects") == round);
        until("the cut is noticed", is_noticed).await;
        assert_renewed(&redis, "cut").await;
        assert_works(&nodes).await;
        assert_told(&nodes);
    }
    nodes[1].cluster.leave().await;
    let reply = redis.command(&["PUBSUB", "SHARDNUMSUB", ROOM]);
    assert!(reply.ends_with(":1\r\n"), "{reply}");
}

/// Publishes events of 20 KB to a room until Redis has ended the other subscribers; returns the accepted and the
/// unconfirmed ones.
///
/// It has a thread of its own, so that the nodes of the test do not read.
fn overrun(redis: &Redis) -> (usize, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        // It has no channel for the room.
        let node = Node::open(start(redis), "burst").await;
        let event = Event::new(Namespace::main(), "burst", ("x".repeat(20_000),).into_args().expect("JSON"));
        let target = Target { rooms: vec![Room::from("all")], ..Target::default() };
        let mut accepted = 0;
        let begin = Instant::now();
        while subscriber_count(redis) > 1 {
            assert!(begin.elapsed() < LIMIT, "Redis does not end the connections");
            for _ in 0..20 {
                accepted += usize::from(node.namespace.broadcast(&target, &event) == Published::Accepted);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(node.namespace.confirming().confirm(LIMIT).await, Ok(()));
        node.cluster.leave().await;
        (accepted, node.metric("cluster_unconfirmed"))
    })
}

fn subscriber_count(redis: &Redis) -> usize {
    redis.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).matches("id=").count()
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn overrun_of_output_buffer_is_told() {
    let redis = Arc::new(Redis::start("client-output-buffer-limit pubsub 1mb 0 0"));
    let nodes = pair(&redis).await;
    assert_eq!(subscriber_count(&redis), 2);
    let (done, wait) = mpsc::channel();
    let server = redis.clone();
    let burst = std::thread::spawn(move || done.send(overrun(&server)));
    // The nodes do not read meanwhile: Redis ends both connections, and keeps that of the publisher.
    let (accepted, unconfirmed) = wait.recv().expect("a burst");
    let returned = Instant::now();
    burst.join().expect("a thread").expect("a receiver");
    until("the overrun is noticed", || nodes.iter().all(|node| node.metric("cluster_disconnects") == 1))
        .await;
    until("overrun", || are_whole(&redis)).await;
    assert!(returned.elapsed() < Duration::from_secs(1), "{:?}", returned.elapsed());
    assert_works(&nodes).await;
    assert_told(&nodes);
    assert_eq!(unconfirmed, 0, "the publisher lost no reply");
    let delivered = nodes.iter().map(Node::delivered).max().expect("nodes");
    println!("{delivered} of {accepted} events were delivered");
    assert!(delivered < accepted, "{delivered} of {accepted}: the rest is the loss that was told");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn redis_without_memory_delivers() {
    let redis = Redis::start("");
    let nodes = pair(&redis).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(redis.command(&["SET", "key", "value"]).starts_with("-OOM"));
    assert_works(&nodes).await;
    // New subscriptions as well.
    redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    until("the cut is noticed", || nodes.iter().all(|node| node.metric("cluster_disconnects") == 1)).await;
    assert_renewed(&redis, "cut without memory").await;
    assert_works(&nodes).await;
    assert_eq!((nodes[0].metric("cluster_refused"), nodes[0].metric("cluster_unconfirmed")), (0, 0));
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn refused_publications_are_counted() {
    let redis = Redis::start("");
    let nodes = pair(&redis).await;
    redis.command(&["ACL", "SETUSER", "default", "-spublish"]);
    for number in 0..20 {
        assert_eq!(nodes[0].publish(number), Published::Accepted);
    }
    until("they are counted", || nodes[0].metric("cluster_unconfirmed") == 20).await;
    assert_eq!(nodes[1].delivered(), 0);
    redis.command(&["ACL", "SETUSER", "default", "+spublish"]);
    assert_works(&nodes).await;
}

const ROOM: &str = "socket.io#/#all#";
const QUEUE_BYTES: usize = 1 << 20;
