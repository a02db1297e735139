//! Broadcasts to clients of all kinds, on several nodes.

use roomcast_server::emit::{Overflow, Published};
use roomcast_server::{Args, Bytes, Io, Socket};
use serde_json::json;

use super::{names_until_end, until_end};
use crate::support::client::{ALL, Client, Kind, bytes};
use crate::support::cluster::{Node, Nodes, know_each_other};
use crate::support::recorder::ear;

/// Rooms of the clients of a node, one list for each kind.
const ROOMS: [&[&str]; 5] = [&["red"], &["red", "blue"], &["blue"], &["red", "muted"], &["blue"]];

/// Connects a client of each kind, in its rooms.
fn crowd(node: &Node) -> Vec<(Client, &'static [&'static str])> {
    let connect = |(kind, rooms): (Kind, &'static [&'static str])| {
        let (client, socket) = node.connect(kind);
        node.join(&socket, rooms);
        (client, rooms)
    };
    ALL.into_iter().zip(ROOMS).map(connect).collect()
}

/// Emits `end` to the whole namespace and to both rooms.
fn end(io: &Io) {
    io.emit("end", ()).expect("a valid name");
    for room in ["red", "blue"] {
        io.to(room).emit("end", ()).expect("a valid name");
    }
}

/// Returns how many of these a client receives.
fn ends(rooms: &[&str]) -> usize {
    1 + rooms.iter().filter(|room| **room != "muted").count()
}

#[test]
fn broadcasts_reach_matching_clients_once() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    let crowds = [crowd(&here), crowd(&there)];
    let receipt = here.io.emit("all", 1).expect("a valid name");
    assert_eq!((receipt.queued, receipt.published), (5, Published::Accepted));
    let receipt = here.io.local().emit("local", 2).expect("a valid name");
    assert_eq!((receipt.queued, receipt.published), (5, Published::NotNeeded));
    here.io.to("red").emit("red", 3).expect("a valid name");
    here.io.to(["red", "blue"]).emit("both", 4).expect("a valid name");
    here.io.to("red").to("blue").except("muted").emit("not muted", 5).expect("a valid name");
    here.io.except("red").emit("not red", 6).expect("a valid name");
    here.io.to("red").except("red").emit("nobody", 7).expect("a valid name");
    here.io.to("green").emit("empty room", 8).expect("a valid name");
    end(&here.io);
    for (at, (mut client, rooms)) in crowds.into_iter().flatten().enumerate() {
        let is_in = |room| rooms.contains(&room);
        let expected = [
            ("all", 1, true),
            ("both", 4, true),
            ("local", 2, at < 5),
            ("not muted", 5, !is_in("muted")),
            ("not red", 6, !is_in("red")),
            ("red", 3, is_in("red")),
        ];
        let expected = expected.into_iter().filter(|(.., is_due)| *is_due);
        let expected: Vec<_> = expected.map(|(name, number, _)| (name.to_owned(), json!([number]))).collect();
        assert_eq!(until_end(&mut client, ends(rooms)), expected, "{:?} in {rooms:?}", client.kind);
    }
}

#[test]
fn handlers_exclude_only_their_sender() {
    let nodes = Nodes::new();
    let build = |io: &Io| {
        io.on("message", async |socket: Socket, args: Args| {
            assert!(socket.broadcast().emit("to others", &args).is_ok());
            assert!(socket.to("red").emit("to red", &args).is_ok());
            assert!(socket.to(["red", "blue"]).except("muted").emit("to some", &args).is_ok());
            end(&socket.io());
        });
    };
    let start = || nodes.start_server(|builder| builder, build, roomcast_server::Server::new);
    let (here, there) = (start(), start());
    know_each_other(&[&here, &there]);
    let mut clients: Vec<_> = [crowd(&here), crowd(&there)].into_iter().flatten().collect();
    for sender in 0..clients.len() {
        let text = format!("from {sender}");
        clients[sender].0.emit("message", json!([text]));
        for (at, (client, rooms)) in clients.iter_mut().enumerate() {
            let is_in = |room| rooms.contains(&room);
            let expected = [("to others", true), ("to red", is_in("red")), ("to some", !is_in("muted"))];
            let expected = expected.into_iter().filter(|(_, is_due)| *is_due && at != sender);
            let expected: Vec<_> = expected.map(|(name, _)| (name.to_owned(), json!([text]))).collect();
            assert_eq!(until_end(client, ends(rooms)), expected, "{:?} of sender {sender}", client.kind);
        }
    }
}

#[test]
fn confirmed_join_hears_other_nodes() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    let (mut client, socket) = there.connect(Kind::Json);
    for number in 0..100 {
        let room = format!("room-{number}");
        there.join(&socket, &[&room]);
        here.io.to(&*room).emit("news", number).expect("a valid name");
        client.expect("news", json!([number]));
        socket.leave(&*room);
    }
}

#[test]
fn rooms_keep_order_across_nodes() {
    const EVENTS: u32 = 500;
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    let (mut client, socket) = there.connect(Kind::WebSocket);
    there.join(&socket, &["red", "blue"]);
    for number in 0..EVENTS {
        match number % 3 {
            0 => here.io.to("red").emit("news", number),
            1 => here.io.to(["red", "blue"]).emit("news", number),
            _ => here.io.to("red").except("green").emit("news", number),
        }
        .expect("a valid name");
    }
    for number in 0..EVENTS {
        client.expect("news", json!([number]));
    }
}

#[test]
fn attachments_reach_other_nodes() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    here.io.on("upload", async |socket: Socket, args: Args| {
        assert!(socket.broadcast().emit("image", &args).is_ok());
    });
    // The largest exceeds one message of the engine, and is split.
    let images = [Vec::new(), vec![7; 10], (0..700_000).map(|number| number as u8).collect()];
    for kind in [Kind::Polling, Kind::WebSocket, Kind::Upgraded, Kind::Json] {
        let (mut sender, _) = here.connect(kind);
        let (mut client, _) = there.connect(kind);
        for image in &images {
            let args = || (image.len(), Bytes::from(image.clone()), "text", Bytes::from_static(b"\0\xff"));
            let expected = json!([image.len(), bytes(image), "text", bytes(b"\0\xff")]);
            here.io.emit("image", args()).expect("a valid name");
            client.expect("image", expected.clone());
            sender.expect("image", expected.clone());
            sender.emit("upload", expected.clone());
            client.expect("image", expected);
        }
    }
    // Plain clients receive a lone attachment as a binary message.
    let (mut client, _) = there.connect(Kind::Plain);
    here.io.send(Bytes::from_static(b"\0\xff")).expect("bytes");
    client.expect("message", json!([bytes(b"\0\xff")]));
}

#[test]
fn volatile_events_are_dropped_by_receiver() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    // A polling client without a pending request cannot receive.
    let (mut polling, _) = there.connect(Kind::Polling);
    let (mut socket, _) = there.connect(Kind::WebSocket);
    here.io.volatile().emit("volatile", 1).expect("a valid name");
    here.io.emit("end", ()).expect("a valid name");
    assert_eq!(names_until_end(&mut socket, 1), ["volatile"]);
    assert_eq!(names_until_end(&mut polling, 1), [""; 0]);
}

#[test]
fn room_policies_apply_to_remote_events() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    let (mut client, socket) = there.connect(Kind::WebSocket);
    let (told, ear) = ear();
    socket.on_any_outgoing(move |outgoing| _ = told.send(outgoing.event.to_string()));
    there.io.main().set_room_overflow("red", Overflow::DropNewest);
    there.join(&socket, &["red"]);
    here.io.to("red").emit("news", 1).expect("a valid name");
    client.expect("news", json!([1]));
    assert_eq!(ear.next(), "news");
}

#[test]
fn every_node_may_broadcast() {
    let nodes = Nodes::new();
    let all: [Node; 4] = nodes.connected();
    let mut clients: Vec<_> = all.iter().map(|node| node.connect(Kind::Json)).collect();
    for (node, (_, socket)) in all.iter().zip(&clients) {
        node.join(socket, &["red"]);
    }
    for (number, node) in all.iter().enumerate() {
        node.io.emit("all", number).expect("a valid name");
        node.io.to("red").emit("red", number).expect("a valid name");
        node.io.emit("end", ()).expect("a valid name");
        node.io.to("red").emit("end", ()).expect("a valid name");
    }
    for (client, _) in &mut clients {
        let expected = ["all", "red"].into_iter().flat_map(|name| (0..4).map(move |at| (name, at)));
        let expected: Vec<_> = expected.map(|(name, at)| (name.to_owned(), json!([at]))).collect();
        assert_eq!(until_end(client, 8), expected);
    }
    assert!(all.iter().all(|node| node.metric("cluster_gaps") == 0));
}
