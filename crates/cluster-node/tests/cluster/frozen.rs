//! Nodes that are counted by Redis and do not answer.

use std::time::Duration;

use bytes::Bytes;
use roomcast_core::Cluster as _;
use tokio::time::Instant;

use crate::broker::{Broker, HEARTBEATS};
use crate::rig::{SOON, Server, settle, to};

const REQUESTS: &str = "socket.io-request#/#";
const FROZEN: [&str; 2] = [REQUESTS, "socket.io-response#/#FROZEN#"];

/// Counts sockets; returns the numbers of nodes that answered and, if known, that did not.
async fn count(server: &Server) -> (usize, Option<usize>) {
    match server.namespace.count(&to("all"), SOON).await {
        Ok(counts) => (counts.len(), Some(0)),
        Err(error) => (error.partial.len(), error.missing),
    }
}

#[tokio::test(start_paused = true)]
async fn frozen_node_is_out_within_five_seconds() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    broker.subscribe_frozen(&FROZEN);
    broker.publish(HEARTBEATS, Bytes::from_static(b"+FROZEN"));
    let frozen = Instant::now();
    assert_eq!(count(&servers[0]).await, (1, Some(1)));
    while count(&servers[0]).await != (1, Some(0)) {
        assert!(frozen.elapsed() < Duration::from_secs(5), "{:?}", frozen.elapsed());
    }
    assert!(frozen.elapsed() > Duration::from_secs(3), "{:?}", frozen.elapsed());
    assert_eq!(servers[0].metric("cluster_nodes_silent"), 1);
    // Queries do not wait any more.
    let begin = Instant::now();
    assert_eq!(count(&servers[1]).await, (1, Some(0)));
    assert!(begin.elapsed() < SOON / 2);
    // It returns: the next query waits for it.
    broker.publish(HEARTBEATS, Bytes::from_static(b"+FROZEN"));
    settle().await;
    assert_eq!(servers[0].metric("cluster_nodes_silent"), 0);
    assert_eq!(count(&servers[0]).await, (1, Some(1)));
    // Its connection ends in order.
    broker.publish(HEARTBEATS, Bytes::from_static(b"-FROZEN"));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(servers[0].metric("cluster_nodes_silent"), 0);
}

#[tokio::test(start_paused = true)]
async fn ended_node_is_not_subtracted() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 3).await;
    // Its heartbeats are missing, and Redis has closed its connection.
    broker.publish(HEARTBEATS, Bytes::from_static(b"+FROZEN"));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(servers[0].metric("cluster_nodes_silent"), 1);
    assert_eq!(count(&servers[0]).await, (2, Some(0)));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(count(&servers[0]).await, (2, Some(0)));
    settle().await;
    assert_eq!(servers[0].metric("cluster_nodes_silent"), 0, "it is forgotten");
}

#[tokio::test(start_paused = true)]
async fn frozen_node_server_is_waited_for() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    broker.subscribe_frozen(&[REQUESTS]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(count(&servers[0]).await, (1, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn outage_makes_no_node_silent() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 3).await;
    for time in [2, 10] {
        broker.stop();
        tokio::time::sleep(Duration::from_secs(time)).await;
        broker.start();
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(servers[0].metric("cluster_nodes_silent"), 0);
        }
        broker.freeze();
        tokio::time::sleep(Duration::from_secs(time)).await;
        broker.thaw();
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(servers[0].metric("cluster_nodes_silent"), 0);
        }
        assert_eq!(count(&servers[0]).await, (2, Some(0)));
    }
    let [one, rest @ ..] = &servers[..] else { unreachable!() };
    // A node that leaves says goodbye.
    rest[0].cluster.leave().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(one.metric("cluster_nodes_silent"), 0);
    assert_eq!(count(one).await, (1, Some(0)));
}
