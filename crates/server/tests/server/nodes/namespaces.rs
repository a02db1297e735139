//! Namespaces that exist on some nodes only.

use std::sync::atomic::{AtomicBool, Ordering};

use roomcast_server::Config;
use roomcast_server::emit::Published;
use serde_json::json;

use super::AGES;
use crate::support::client::{Client, Heard, Kind, SOCKET_IO};
use crate::support::cluster::{Nodes, know_each_other};
use crate::support::serve::until;

fn joined(client: &mut Client, namespace: &str) {
    let heard = client.join(namespace, json!(null));
    assert!(matches!(&heard, Heard::Joined { namespace: joined, .. } if joined == namespace), "{heard:?}");
}

/// Expects an event of a namespace next.
#[track_caller]
fn expect(client: &mut Client, namespace: &str, name: &str) {
    match client.hear() {
        Heard::Event { namespace: of, name: event, .. } => {
            assert_eq!((&*of, &*event), (namespace, name), "{:?}", client.kind);
        }
        other => panic!("expected {name}, received {other:?}"),
    }
}

#[test]
fn dynamic_namespace_of_one_node_is_reached() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    let parent = there.io.of_pattern("^/room-[0-9]$").expect("a pattern");
    parent.on_connect(async |socket: roomcast_server::Socket| {
        assert!(socket.join_confirmed("red").await);
        assert!(socket.emit("ready", ()).is_ok());
    });
    let mut clients: Vec<_> =
        SOCKET_IO.iter().map(|kind| Client::connect(*kind, &there.server.dial)).collect();
    for client in &mut clients {
        for name in ["/room-1", "/room-2"] {
            joined(client, name);
            expect(client, name, "ready");
        }
    }
    // No client of this node is in it, and no pattern of this node matches.
    let room = here.io.of("/room-1");
    assert_eq!(room.emit("all", 1).expect("a valid name").published, Published::Accepted);
    for client in &mut clients {
        expect(client, "/room-1", "all");
    }
    room.to("red").emit("red", 2).expect("a valid name");
    for client in &mut clients {
        expect(client, "/room-1", "red");
    }
    assert_eq!(here.server.block_on(room.count_all()).expect("both nodes answer"), 3);
    assert_eq!(here.server.block_on(room.to("red").fetch_sockets()).expect("both nodes answer").len(), 3);
    let asked = here.server.spawn({
        let room = room.clone();
        async move { room.timeout(AGES).emit_with_ack("question", ()).await.expect("a valid name") }
    });
    for client in &mut clients {
        let Heard::Event { namespace, ack: Some(ack), .. } = client.hear() else { panic!("no question") };
        client.engine().send(format!("3{namespace},{ack}[1]").as_str().into());
    }
    assert!(asked.join().is_complete());
    room.disconnect();
    for client in &mut clients {
        assert_eq!(client.hear(), Heard::Left { namespace: "/room-1".into() });
    }
    // The parent reaches its children on all nodes on which they exist.
    parent.emit("rest", 3).expect("a valid name");
    for client in &mut clients {
        expect(client, "/room-2", "rest");
    }
}

#[test]
fn parent_reaches_children_of_other_nodes() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    let [parent, _other] =
        [&here, &there].map(|node| node.io.of_pattern("^/room-[0-9]$").expect("a pattern"));
    let mut clients = [&here, &there].map(|node| Client::connect(Kind::WebSocket, &node.server.dial));
    clients.iter_mut().for_each(|client| joined(client, "/room-1"));
    parent.emit("all", 1).expect("a valid name");
    clients.iter_mut().for_each(|client| expect(client, "/room-1", "all"));
    assert_eq!(here.server.block_on(parent.count_all()).expect("both nodes answer"), 2);
}

#[test]
fn used_namespaces_are_opened_once() {
    let nodes = Nodes::new();
    let config = Config::new().cleanup_empty_child_namespaces(true);
    let node = nodes.start_with(|builder| builder.config(config));
    let parent = node.io.of_pattern("^/room-[0-9]$").expect("a pattern");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..20).for_each(|number| _ = node.io.of(format!("/fixed-{number}"))));
        }
    });
    assert_eq!(node.open_count("/"), 1);
    assert!((0..20).all(|number| node.open_count(&format!("/fixed-{number}")) == 1));
    assert_eq!(node.open_count(parent.name().as_str()), 0, "a parent has no members");
    let mut client = Client::connect(Kind::WebSocket, &node.server.dial);
    joined(&mut client, "/room-1");
    assert_eq!(node.open_count("/room-1"), 1);
    assert!(node.hears("/room-1"));
    drop(client);
    until(|| !node.hears("/room-1"));
    assert!(node.hears("/") && node.hears("/fixed-0"));
}

#[test]
fn closed_namespace_is_not_awaited() {
    let nodes = Nodes::new();
    let config = Config::new().cleanup_empty_child_namespaces(true);
    let here = nodes.start();
    let there = nodes.start_with(|builder| builder.config(config));
    know_each_other(&[&here, &there]);
    there.io.of_pattern("^/room-[0-9]$").expect("a pattern");
    let room = here.io.of("/room-1");
    for _ in 0..3 {
        let (mut client, _) = there.connect(Kind::WebSocket);
        joined(&mut client, "/room-1");
        room.emit("news", 1).expect("a valid name");
        expect(&mut client, "/room-1", "news");
        client.leave("/room-1");
        until(|| !there.hears("/room-1"));
        assert_eq!(here.server.block_on(room.timeout(AGES).count_all()).expect("both answer"), 0);
        assert!(here.server.block_on(room.server_side_emit_with_ack("any", ())).is_ok());
    }
}

#[test]
fn reopened_namespace_hears_other_nodes() {
    let nodes = Nodes::new();
    let config = Config::new().cleanup_empty_child_namespaces(true);
    let here = nodes.start();
    let there = nodes.start_with(|builder| builder.config(config));
    know_each_other(&[&here, &there]);
    there.io.of_pattern("^/room-[0-9]$").expect("a pattern");
    let is_over = AtomicBool::new(false);
    // Clients come and go, so that the namespace is closed by one thread and opened by another.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = Client::connect(Kind::WebSocket, &there.server.dial);
                while !is_over.load(Ordering::Relaxed) {
                    client.send_connect_to("/room-1", json!(null));
                    while !matches!(client.hear(), Heard::Joined { .. }) {}
                    client.leave("/room-1");
                    client.sync();
                }
            });
        }
        let _end = SetOnDrop(&is_over);
        let mut client = Client::connect(Kind::WebSocket, &there.server.dial);
        for number in 0..200 {
            client.send_connect_to("/room-1", json!(null));
            while !matches!(client.hear(), Heard::Joined { .. }) {}
            let news = format!("news {number}");
            here.io.of("/room-1").emit(&news, 1).expect("a valid name");
            // A client that leaves and returns during a broadcast may receive it once more, as a new socket.
            while !matches!(client.hear(), Heard::Event { name, .. } if name == news) {}
            client.leave("/room-1");
            client.sync();
        }
    });
}

/// Ends the threads of a test, also if it fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
