//! Nodes that are frozen, dead or leaving, and engines that do not respond.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use roomcast_core::ClusterStatus;
use roomcast_server::emit::{ConfirmError, PublishRefusal, Published, Unconfirmed};
use roomcast_server::namespace::ServerSideError;
use roomcast_server::server::Drain;
use roomcast_server::{Io, Server, Socket};
use roomcast_testkit::cluster::Fault;
use serde_json::json;

use super::AGES;
use crate::support::client::{Client, Kind};
use crate::support::cluster::{Node, Nodes, know_each_other};
use crate::support::recorder::ear;
use crate::support::serve::until;

const SHORT: Duration = Duration::from_millis(100);

/// Time for which a message is delayed to a node that does not respond.
const FROZEN: Duration = Duration::from_secs(3600);

/// Returns the status and the body of a page of the admin endpoint.
fn page(node: &Node, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(node.server.admin.expect("an admin endpoint")).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a response");
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), body.to_owned())
}

fn with_admin(io: Io) -> Server {
    Server::new(io).admin("127.0.0.1:0".parse().expect("an address"))
}

#[expect(clippy::disallowed_methods, reason = "tests of limits measure the time")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn frozen_node_is_named_after_timeout() {
    let nodes = Nodes::new();
    let [here, third, other] = nodes.connected();
    let (_near, _) = here.connect(Kind::WebSocket);
    let (_far, _) = third.connect(Kind::WebSocket);
    nodes.inject(&Fault::Slow { node: other.number(), delay: FROZEN });
    let timeout = Duration::from_secs(1);
    let error =
        here.server.block_on(here.io.timeout(timeout).fetch_sockets()).expect_err("a node is missing");
    assert_eq!((error.missing, error.partial.len(), error.nodes), (Some(1), 2, vec![other.name()]));
    let error = here.server.block_on(here.io.timeout(timeout).count_all()).expect_err("a node is missing");
    assert_eq!(error.partial.iter().sum::<usize>(), 2);
    let answers =
        here.server.block_on(here.io.timeout(timeout).emit_with_ack("hello", ())).expect("a valid name");
    assert_eq!((answers.missing.len(), answers.missing_elsewhere, answers.missing_nodes), (1, 1, Some(2)));
}

#[test]
fn full_queue_refuses_publication_only() {
    let nodes = Nodes::with(|config| config.queue_bytes = 64 << 10);
    let [here, there] = nodes.connected();
    let (mut near, _) = here.connect(Kind::WebSocket);
    let (mut far, _) = there.connect(Kind::WebSocket);
    here.server.block_on(here.io.emit_confirmed("confirmed", 1)).expect("a working engine");
    // An engine that goes down loses the messages that it has not delivered yet.
    far.expect("confirmed", json!([1]));
    nodes.inject(&Fault::Down { on: true, forgets: false });
    let late = here.server.block_on(here.io.timeout(SHORT).emit_confirmed("late", 2));
    assert!(matches!(late, Err(ConfirmError::Unconfirmed(Unconfirmed::TimedOut))), "{late:?}");
    let filler = "x".repeat(1000);
    until(|| {
        let receipt = here.io.to("elsewhere").emit("filler", &filler).expect("a valid name");
        receipt.published == Published::Refused(PublishRefusal::QueueFull)
    });
    let large = "x".repeat(2000);
    let receipt = here.io.emit("news", &large).expect("a valid name");
    assert_eq!((receipt.queued, receipt.published), (1, Published::Refused(PublishRefusal::QueueFull)));
    let refused = here.server.block_on(here.io.emit_confirmed("refused", &large));
    assert!(matches!(refused, Err(ConfirmError::Unconfirmed(Unconfirmed::Refused(_)))), "{refused:?}");
    nodes.inject(&Fault::Down { on: false, forgets: false });
    until(|| here.metric("cluster_queue_bytes") == 0);
    here.server.block_on(here.io.emit_confirmed("end", 3)).expect("a working engine");
    for event in ["confirmed", "late", "news", "refused", "end"] {
        assert_eq!(near.event().0, event);
    }
    // Other nodes receive all that was accepted.
    for event in ["late", "end"] {
        assert_eq!(far.event().0, event);
    }
}

#[test]
fn first_client_waits_for_subscription() {
    let nodes = Nodes::new();
    nodes.inject_into_next(|node| Fault::Deaf { node, on: true });
    let node = nodes.start_server(|builder| builder, |_| {}, with_admin);
    assert_eq!(page(&node, "/ready"), (503, "joining cluster\n".to_owned()));
    let begun = now();
    let (_degraded, socket) = node.connect(Kind::WebSocket);
    // A cluster that does not respond delays it by the limit only, and the next ones not at all.
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(5), "{waited:?}");
    until(|| node.io.cluster_status() == Some(ClusterStatus::Degraded));
    assert_eq!(page(&node, "/ready"), (200, "ready\ncluster degraded\n".to_owned()));
    assert!(!node.server.block_on(socket.join_confirmed("red")), "no subscription is confirmed");
    assert!(node.metric("cluster_joins_degraded") > 0 && node.metric("cluster_channels_degraded") > 0);
    nodes.inject(&Fault::Deaf { node: node.number(), on: false });
    until(|| node.io.cluster_status() == Some(ClusterStatus::Connected));
    assert_eq!(page(&node, "/ready"), (200, "ready\ncluster connected\n".to_owned()));
    node.join(&socket, &["red", "blue"]);
    assert_eq!(node.metric("cluster_channels_degraded"), 0);
}

#[test]
fn lost_engine_degrades_status_only() {
    let nodes = Nodes::new();
    let [here, there] = [(); 2].map(|()| nodes.start_server(|builder| builder, |_| {}, with_admin));
    know_each_other(&[&here, &there]);
    let (mut near, _) = here.connect(Kind::WebSocket);
    let (mut far, socket) = there.connect(Kind::WebSocket);
    there.join(&socket, &["red"]);
    assert!(page(&here, "/metrics").1.contains("\nroomcast_cluster_nodes 1"));
    for forgets in [false, true] {
        nodes.inject(&Fault::Down { on: true, forgets });
        until(|| {
            [&here, &there].iter().all(|node| node.io.cluster_status() == Some(ClusterStatus::Degraded))
        });
        assert_eq!(page(&here, "/ready"), (200, "ready\ncluster degraded\n".to_owned()));
        // Local clients are served, and new ones are accepted.
        here.io.emit("local", ()).expect("a valid name");
        near.expect("local", json!([]));
        let (_client, _) = here.connect(Kind::Json);
        until(|| here.metric("cluster_queue_messages") > 0);
        assert!(!page(&here, "/metrics").1.contains("\nroomcast_cluster_queue_messages 0"));
        nodes.inject(&Fault::Down { on: false, forgets });
        until(|| {
            [&here, &there].iter().all(|node| node.io.cluster_status() == Some(ClusterStatus::Connected))
        });
        know_each_other(&[&here, &there]);
        assert_eq!(page(&here, "/ready"), (200, "ready\ncluster connected\n".to_owned()));
        until(|| here.metric("cluster_queue_bytes") == 0);
        there.join(&socket, &["red"]);
        // Queued events may precede it.
        here.io.to("red").emit("back", ()).expect("a valid name");
        while far.event().0 != "back" {}
    }
}

#[test]
fn node_leaves_after_last_session() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    let (_client, socket) = there.connect(Kind::WebSocket);
    let (mut near, _) = here.connect(Kind::WebSocket);
    let (told, ear) = ear();
    socket.on_disconnect(move |socket: Socket| {
        let status = socket.io().cluster_status();
        let _ = told.send((status, socket.io().emit("goodbye", ()).map(|receipt| receipt.published)));
        async {}
    });
    there.server.block_on(there.io.drain(Drain::default()));
    let (status, published) = ear.next();
    assert_eq!(status, Some(ClusterStatus::Connected), "it left before its last session had ended");
    assert_eq!(published.expect("a valid name"), Published::Accepted);
    assert_eq!(there.io.cluster_status(), Some(ClusterStatus::Left));
    // Its last publication precedes the goodbye.
    near.expect("goodbye", json!([]));
    until(|| here.metric("cluster_nodes") == 0);
    assert_eq!(here.metric("cluster_nodes_lost"), 0);
}

#[test]
fn drained_node_is_not_awaited() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    let (told, ear) = ear();
    there.io.on_server_side("hangs", move |()| {
        let _ = told.send(());
        std::future::pending::<()>()
    });
    let io = here.io.clone();
    let asked = here.server.spawn(async move { io.server_side_emit_with_ack("hangs", ()).await });
    ear.next();
    let begun = now();
    there.server.block_on(there.io.drain(Drain::default()));
    let outcome = asked.join();
    let Err(ServerSideError::Unanswered(error)) = outcome else { panic!("{outcome:?}") };
    assert_eq!((error.missing, error.nodes), (Some(1), vec![there.name()]));
    // The timeout is 5 s.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    until(|| here.metric("cluster_nodes") == 0);
    assert_eq!(here.server.block_on(here.io.timeout(AGES).count_all()).expect("none is asked"), 0);
}

#[test]
fn dead_node_is_named_until_its_timeout() {
    let nodes = Nodes::with(|config| {
        config.heartbeat_interval = Duration::from_millis(500);
        config.node_timeout = Duration::from_secs(3);
    });
    let [here, other, mut dead] = nodes.connected();
    let (_near, _) = here.connect(Kind::WebSocket);
    let (_far, _) = other.connect(Kind::WebSocket);
    let (_lost, _) = dead.connect(Kind::WebSocket);
    assert_eq!(here.server.block_on(here.io.count_all()).expect("all answer"), 3);
    dead.die();
    let begun = now();
    let error = here.server.block_on(here.io.timeout(AGES).fetch_sockets()).expect_err("a node is dead");
    assert_eq!((error.missing, error.partial.len(), error.nodes), (Some(1), 2, vec![dead.name()]));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    until(|| here.metric("cluster_nodes_lost") == 1);
    assert_eq!(here.server.block_on(here.io.timeout(AGES).count_all()).expect("all answer"), 2);
    // Its server has no cluster any more, and still serves its clients.
    assert_eq!(dead.io.cluster_status(), Some(ClusterStatus::Left));
    assert_eq!(dead.io.emit("local", ()).expect("a valid name").queued, 1);
}

#[test]
fn new_node_hears_and_is_heard() {
    let nodes = Nodes::new();
    let here = nodes.start();
    let (mut near, socket) = here.connect(Kind::WebSocket);
    here.join(&socket, &["red"]);
    // Alone for longer than the first heartbeat interval, it has ceased to publish.
    until(|| here.io.emit("alone", ()).expect("a valid name").published == Published::NotNeeded);
    let there = nodes.start();
    know_each_other(&[&here, &there]);
    let mut far = Client::connect(Kind::Json, &there.server.dial);
    assert_eq!(here.io.emit("news", 1).expect("a valid name").published, Published::Accepted);
    far.expect("news", json!([1]));
    there.io.to("red").emit("red", 2).expect("a valid name");
    while near.event().0 != "red" {}
}
