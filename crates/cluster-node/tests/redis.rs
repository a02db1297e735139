//! Clusters on a real Redis, with its faults.
//!
//! ```sh
//! cargo test --package roomcast-cluster-node --test redis -- --ignored
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

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use host::Host;
use node::{LIMIT, Node, nodes, until};
use roomcast_backplane_redis::{RedisConfig, RedisPubSub};
use roomcast_cluster_node::{NodeCluster, NodeClusterConfig};
use roomcast_core::{Cluster as _, ClusterHost, ClusterStatus, Heard, Namespace, Published, Target};
use server::Redis;

async fn pair(redis: &Redis) -> [Node; 2] {
    nodes(|| {
        let config = NodeClusterConfig::new().queue_bytes(QUEUE_BYTES);
        NodeCluster::start(config, RedisPubSub::new(node::config(redis)))
    })
    .await
}

fn subscribers(redis: &Redis) -> String {
    let reply = redis.command(&["PUBSUB", "NUMSUB", "socket.io-request#/#"]);
    reply.trim_end().rsplit(':').next().expect("a number").to_owned()
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn restart_is_survived_within_a_second() {
    let mut redis = Redis::start("");
    let nodes = pair(&redis).await;
    for round in 0..3 {
        redis.kill();
        until("the outage is noticed", || {
            nodes.iter().all(|node| node.cluster.status() == ClusterStatus::Degraded)
        })
        .await;
        let before = nodes[1].delivered();
        for number in 0..100 {
            assert_eq!(nodes[0].publish(number), Published::Accepted);
        }
        redis.restart();
        let whole = until("the queue is delivered", || nodes[1].delivered() == before + 100).await;
        println!("round {round}: whole after {whole:?}");
        assert!(whole < Duration::from_secs(2), "{whole:?}");
        assert_eq!(subscribers(&redis), "2");
        let counts = nodes[0].namespace.count(&Target::default(), LIMIT).await;
        assert_eq!(counts.expect("both nodes"), [1]);
        assert!(nodes.iter().all(|node| node.cluster.status() == ClusterStatus::Connected));
    }
    assert_eq!((nodes[0].metric("cluster_refused"), nodes[0].metric("cluster_unconfirmed")), (0, 0));
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
    until("the queue is delivered", || nodes[1].delivered() == accepted).await;
    assert_eq!(nodes[0].publish(0), Published::Accepted);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn frozen_server_is_noticed_and_losses_counted() {
    let redis = Redis::start("");
    let nodes = pair(&redis).await;
    redis.freeze();
    let mut accepted = 0;
    for number in 0..50 {
        accepted += usize::from(nodes[0].publish(number) == Published::Accepted);
    }
    let begin = Instant::now();
    let asked = nodes[0].namespace.fetch(&Target::default(), Duration::from_millis(500)).await;
    assert_eq!(asked.expect_err("no answer").missing, None);
    assert!(begin.elapsed() < Duration::from_secs(2));
    until("the outage is noticed", || nodes[0].cluster.status() == ClusterStatus::Degraded).await;
    for number in 50..100 {
        accepted += usize::from(nodes[0].publish(number) == Published::Accepted);
    }
    assert_eq!(accepted, 100);
    redis.thaw();
    until("the status recovers", || {
        nodes.iter().all(|node| node.cluster.status() == ClusterStatus::Connected)
    })
    .await;
    let lost = nodes[0].metric("cluster_unconfirmed") as usize;
    until("the rest is delivered", || nodes[1].delivered() >= accepted - lost).await;
    assert_eq!(lost, 50, "those that were sent without a reply");
    until("the former connections are not counted", || subscribers(&redis) == "2").await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn own_broadcasts_are_dropped_and_counted() {
    let redis = Redis::start("");
    let nodes = pair(&redis).await;
    for number in 0..100 {
        assert_eq!(nodes[0].publish(number), Published::Accepted);
    }
    until("all are delivered", || nodes[1].delivered() == 100).await;
    until("the own ones came back", || nodes[0].metric("cluster_ignored") == 100).await;
    assert!(nodes[0].metric("cluster_messages_in") >= 100);
    assert!(nodes[0].metric("cluster_bytes_in") >= nodes[0].metric("cluster_bytes_out"));
    assert_eq!((nodes[0].delivered(), nodes[1].metric("cluster_ignored")), (0, 0));
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn killed_subscriber_subscribes_once() {
    let redis = Redis::start("");
    let nodes = pair(&redis).await;
    for round in 0..5 {
        redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        until("both subscribe", || subscribers(&redis) == "2").await;
        until("the status recovers", || nodes[0].cluster.status() == ClusterStatus::Connected).await;
        nodes[0].publish(round);
        until("it is delivered", || nodes[1].delivered() > round).await;
    }
    nodes[1].cluster.leave().await;
    assert_eq!(subscribers(&redis), "1");
    let counts = nodes[0].namespace.count(&Target::default(), LIMIT).await;
    assert!(counts.expect("no other node").is_empty());
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn user_needs_the_documented_permissions() {
    let redis = Redis::start(concat!(
        "user default off\n",
        "user roomcast on >secret resetchannels &socket.io* &socket.io#/#* -@all +publish +subscribe +unsubscribe ",
        "+psubscribe +punsubscribe +pubsub|numsub +ping +client|id +client|kill +auth"
    ));
    let url = redis.url().replace("redis://", "redis://roomcast:secret@");
    let engine = RedisConfig::from_url(&url).expect("a URL");
    let host = Host::with_sockets(&[]);
    let weak = Arc::downgrade(&host);
    let weak: Weak<dyn ClusterHost> = weak;
    let cluster = NodeCluster::start(NodeClusterConfig::new(), RedisPubSub::new(engine));
    let namespace = cluster.open(&Namespace::main(), weak);
    assert_eq!(namespace.heard(None).await, Heard::Confirmed);
    assert!(namespace.count(&Target::default(), LIMIT).await.expect("no other node").is_empty());
    assert_eq!(namespace.confirming().confirm(LIMIT).await, Ok(()));
}

const QUEUE_BYTES: usize = 1 << 20;
