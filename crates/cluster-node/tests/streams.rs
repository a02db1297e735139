//! Clusters with the streams adapter on a real Redis, with its faults.
//!
//! ```sh
//! cargo test --package roomcast-cluster-node --test streams -- --ignored
//! ROOMCAST_BURST=200000 cargo test --package roomcast-cluster-node --test streams burst -- --ignored --nocapture
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

use std::time::{Duration, Instant};

use node::{LIMIT, Node, PING, nodes, until};
use roomcast_backplane_redis::{RedisPubSub, RedisStream};
use roomcast_cluster_node::{NodeCluster, NodeClusterConfig};
use roomcast_core::{Cluster as _, ClusterStatus, LogQuery, PublishRefusal, Published, Unconfirmed};
use server::Redis;

async fn cluster<const N: usize>(redis: &Redis) -> [Node; N] {
    nodes(|| {
        let config = NodeClusterConfig::new().queue_bytes(QUEUE_BYTES).streams(|streams| {
            streams.max_len = MAX_LEN;
        });
        let engine = node::config(redis);
        let stream = RedisStream::new(engine.clone(), "socket.io");
        NodeCluster::start_streams(config, RedisPubSub::new(engine), stream)
    })
    .await
}

/// Returns the numbers of the delivered events, and how many had no offset, or a provisional one.
fn take(node: &Node) -> (Vec<usize>, usize) {
    let log = node.host.take_log();
    let numbers = log.iter().map(|line| line.split(' ').nth(2).expect("args").parse().expect("a number"));
    (
        numbers.collect(),
        log.iter().filter(|line| line.split_once('@').is_none_or(|(_, offset)| offset.contains('/'))).count(),
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn burst_reaches_all_nodes_in_order() {
    let count = std::env::var("ROOMCAST_BURST").map_or(20_000, |text| text.parse().expect("a number"));
    let redis = Redis::start("");
    let nodes = cluster::<3>(&redis).await;
    let begin = Instant::now();
    let (mut accepted, mut refused) = (Vec::new(), 0);
    for number in 0..count {
        match nodes[number % 2].publish(number) {
            Published::Accepted => accepted.push(number),
            Published::Refused(PublishRefusal::QueueFull) => {
                refused += 1;
                // The caller decides whether to wait; without that, further ones are refused too.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            other => panic!("{other:?}"),
        }
    }
    let emitted = begin.elapsed();
    until("all events", || nodes.iter().all(|node| node.delivered() == accepted.len())).await;
    println!(
        "{count} events from two of three nodes: {} accepted in {emitted:?}, on all nodes after {:?}, {refused} refused",
        accepted.len(),
        begin.elapsed()
    );
    assert_eq!(accepted.len() + refused, count);
    let counted: u64 = nodes.iter().map(|node| node.metric("cluster_refused")).sum();
    assert_eq!(counted, refused as u64, "refusals are counted");
    let (first, without_offset) = take(&nodes[0]);
    assert_eq!(without_offset, 0);
    for node in &nodes[1..] {
        assert!(take(node) == (first.clone(), 0), "the same order on all nodes");
    }
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert!(sorted == accepted, "each once");
    for sender in 0..2 {
        let own: Vec<_> = first.iter().filter(|number| *number % 2 == sender).collect();
        assert!(own.is_sorted(), "in the order of each sender");
    }
    for node in &nodes {
        assert!(node.host.take_missed().is_empty());
        assert_eq!(node.metric("cluster_stream_gaps"), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn restart_loses_no_event() {
    let mut redis = Redis::start("appendonly yes\nappendfsync always");
    let nodes = cluster::<2>(&redis).await;
    let mut number = 0;
    let mut publish = |count: usize| {
        for _ in 0..count {
            assert_eq!(nodes[0].publish(number), Published::Accepted);
            number += 1;
        }
        number
    };
    for _ in 0..3 {
        publish(200);
        redis.kill();
        publish(100);
        until("the outage is noticed", || {
            nodes.iter().all(|node| node.cluster.status() == ClusterStatus::Degraded)
        })
        .await;
        let total = publish(100);
        until("local delivery", || nodes[0].delivered() == total).await;
        redis.restart();
        let whole = until("delivery of the rest", || nodes[1].delivered() == total).await;
        assert!(whole < Duration::from_secs(2), "{whole:?}");
        until("the connection", || {
            nodes.iter().all(|node| node.cluster.status() == ClusterStatus::Connected)
        })
        .await;
    }
    let total = publish(1);
    until("the last event", || nodes.iter().all(|node| node.delivered() == total)).await;
    let expected: Vec<_> = (0..total).collect();
    let (here, without_offset) = take(&nodes[0]);
    assert_eq!((here, take(&nodes[1])), (expected.clone(), (expected, 0)));
    assert!(without_offset >= 300, "{without_offset} during outages");
    assert_eq!(nodes.iter().map(|node| node.host.take_missed().len()).sum::<usize>(), 0);
    let (found, repeated) = ("cluster_stream_found", "cluster_stream_repeated");
    println!("found {}, repeated {}", nodes[0].metric(found), nodes[0].metric(repeated));
    assert_eq!(nodes[0].metric("cluster_unconfirmed"), 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn restart_without_persistence_is_told() {
    let mut redis = Redis::start("");
    let nodes = cluster::<2>(&redis).await;
    let log = nodes[0].namespace.event_log().expect("a log");
    for number in 0..100 {
        nodes[0].publish(number);
    }
    until("all events", || nodes.iter().all(|node| node.delivered() == 100)).await;
    let offset = log.latest().await.expect("an offset");
    redis.kill();
    redis.restart();
    until("the loss", || nodes.iter().all(|node| node.metric("cluster_stream_gaps") > 0)).await;
    assert!(nodes.iter().all(|node| node.host.take_missed() == [None]));
    nodes[0].publish(100);
    until("the next event", || nodes.iter().all(|node| node.delivered() == 101)).await;
    let query = LogQuery { after: &offset, rooms: &[], max_bytes: 1000 };
    assert!(log.missed(&query).await.is_err(), "the offset is gone");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn frozen_redis_delays_and_doubles_nothing() {
    let redis = Redis::start("");
    let nodes = cluster::<2>(&redis).await;
    redis.freeze();
    for number in 0..50 {
        assert_eq!(nodes[0].publish(number), Published::Accepted);
    }
    // Noticed by the missing answers.
    let delayed = until("local delivery", || nodes[0].delivered() == 50).await;
    assert!(delayed < 4 * PING + Duration::from_secs(1), "{delayed:?}");
    redis.thaw();
    until("delivery of the rest", || nodes[1].delivered() == 50).await;
    // Node 1 may read the events before node 0 has the answers that end its local delivery.
    until("the connection", || nodes[0].cluster.status() == ClusterStatus::Connected).await;
    nodes[0].publish(50);
    until("the next event", || nodes.iter().all(|node| node.delivered() == 51)).await;
    let expected: Vec<_> = (0..51).collect();
    assert_eq!((take(&nodes[0]), take(&nodes[1])), ((expected.clone(), 50), (expected, 0)));
    println!("repeated {}", nodes[0].metric("cluster_stream_repeated"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn full_redis_is_reported_to_sender() {
    let redis = Redis::start("");
    let nodes = cluster::<2>(&redis).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = async |number| {
        let confirming = nodes[0].namespace.confirming();
        assert_eq!(nodes[0].publish(number), Published::Accepted);
        match confirming.confirm(LIMIT).await {
            Err(Unconfirmed::RefusedByEngine { reason }) => reason,
            other => panic!("{other:?}"),
        }
    };
    let reason = refused(1).await;
    assert!(reason.starts_with("OOM "), "{reason}");
    until("local delivery", || nodes[0].delivered() == 1).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    redis.command(&["ACL", "SETUSER", "default", "-xadd"]);
    let reason = refused(0).await;
    assert!(reason.starts_with("NOPERM "), "{reason}");
    redis.command(&["ACL", "SETUSER", "default", "+xadd"]);
    nodes[0].publish(2);
    assert_eq!(nodes[0].namespace.confirming().confirm(LIMIT).await, Ok(()));
    until("delivery", || nodes[1].delivered() == 1).await;
    assert_eq!((take(&nodes[0]), take(&nodes[1])), ((vec![1, 0, 2], 2), (vec![2], 0)));
}

const QUEUE_BYTES: usize = 16 << 20;
const MAX_LEN: u64 = 1_000_000;
