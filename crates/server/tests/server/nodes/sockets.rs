//! Sockets of other nodes: look-ups, rooms, and disconnects.

use roomcast_server::Value;
use roomcast_server::rooms::Room;
use serde_json::json;

use super::AGES;
use crate::support::client::{ACK_KINDS, ALL, Client, Heard, Kind};
use crate::support::cluster::Nodes;
use crate::support::recorder::ear;
use crate::support::serve::until;

#[test]
fn manages_sockets_of_another_node() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    let (_near, near) = here.connect(Kind::WebSocket);
    let (mut client, socket) = there.connect(Kind::Json);
    socket.set_data(&json!({ "name": "ada" })).expect("JSON");
    there.join(&socket, &["red"]);
    let block_on = |emit: roomcast_server::emit::Emit| {
        here.server.block_on(emit.fetch_sockets()).expect("both nodes answer")
    };
    let found = block_on(here.io.to("red")).remove(0);
    assert_eq!((found.id(), found.here().is_none()), (socket.id(), true));
    assert_eq!(found.rooms(), [Room::from(socket.id()), Room::from("red")]);
    assert_eq!(found.data::<Value>().expect("JSON"), Some(json!({ "name": "ada" })));
    assert_eq!(found.handshake().expect("a handshake").url, "/ws");
    assert_eq!(block_on(here.io.main().target()).len(), 2);
    let local = block_on(here.io.local());
    assert_eq!((local.len(), local[0].id()), (1, near.id()));

    found.join("blue");
    until(|| there.rooms("/").contains(&Room::from("blue")));
    here.io.to("blue").sockets_leave("red");
    until(|| there.io.count("red") == 0);
    assert_eq!(there.io.count("blue"), 1);
    found.leave("blue");
    until(|| there.io.count("blue") == 0);
    found.emit("news", 1).expect("a valid name");
    client.expect("news", json!([1]));
    let asked = {
        let found = found.clone();
        here.server.spawn(async move { found.timeout(AGES).emit_with_ack("question", ()).await })
    };
    let question = client.question("question");
    client.answer(question, json!(["yes"]));
    assert_eq!(asked.join().expect("an answer").get::<String>(0).expect("a string"), "yes");
    found.disconnect_client();
    until(|| there.io.client_count() == 0);
    assert_eq!(here.io.client_count(), 1);
    assert!(block_on(here.io.to(socket.id())).is_empty());
}

#[test]
fn lookups_name_kind_and_data() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    let mut clients = Vec::new();
    for (number, kind) in ALL.into_iter().enumerate() {
        let (client, socket) = there.connect(kind);
        socket.set_data(&json!(number)).expect("JSON");
        socket.join(format!("room-{number}"));
        clients.push((client, socket));
    }
    let found = here.server.block_on(here.io.fetch_sockets()).expect("both nodes answer");
    assert_eq!(found.len(), ALL.len());
    for (number, (client, socket)) in clients.iter().enumerate() {
        let found = found.iter().find(|found| found.id() == socket.id()).expect("a socket");
        assert_eq!(found.data::<usize>().expect("a number"), Some(number));
        assert!(found.is_in(format!("room-{number}")));
        assert!(there.is_home_of(found.id()) && !here.is_home_of(found.id()));
        let path = if ACK_KINDS[..3].contains(&client.kind) { "/socket.io/" } else { "/ws" };
        assert!(found.handshake().expect("a handshake").url.starts_with(path));
    }
    // Data is that of the time of the look-up.
    clients[0].1.set_data(&json!("new")).expect("JSON");
    let again = here.server.block_on(here.io.to("room-0").fetch_sockets()).expect("both nodes answer");
    assert_eq!(again[0].data::<Value>().expect("JSON"), Some(json!("new")));
}

#[test]
fn changes_of_rooms_reach_other_nodes() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    let sockets: Vec<_> = [&here, &there].map(|node| node.connect(Kind::WebSocket)).into();
    assert_eq!(here.io.sockets_join(["red", "blue"]), 1);
    until(|| [&here, &there].iter().all(|node| node.io.count("red") == 1 && node.io.count("blue") == 1));
    until(|| there.rooms("/") == ["blue", "red"].map(Room::from));
    assert_eq!(here.io.to("red").sockets_leave("blue"), 1);
    until(|| there.io.count("blue") == 0);
    // A socket's own target leaves out the socket.
    assert_eq!(sockets[0].1.broadcast().sockets_join("green"), 0);
    until(|| there.io.count("green") == 1);
    assert_eq!(here.io.count("green"), 0);
    assert_eq!(here.io.local().sockets_leave("red"), 1);
    here.io.to(sockets[1].1.id()).sockets_join("end");
    until(|| there.io.count("end") == 1);
    assert_eq!((here.io.count("red"), there.io.count("red")), (0, 1));
}

#[test]
fn disconnects_reach_every_kind() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    for kind in ALL {
        let (mut client, socket) = there.connect(kind);
        let (_bystander, other) = there.connect(kind);
        let (_near, near) = here.connect(kind);
        there.join(&socket, &["red"]);
        let (told, ear) = ear();
        socket.on_disconnect(
            move |_: roomcast_server::Socket, reason: roomcast_server::socket::CloseReason| {
                let _ = told.send(reason);
                async {}
            },
        );
        assert_eq!(here.io.to("red").disconnect_client(), 0);
        while !matches!(client.hear(), Heard::Ended(_)) {}
        ear.next();
        assert!(other.is_connected() && near.is_connected(), "{kind:?}");
    }
}

#[test]
fn namespace_disconnect_keeps_connection() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    for node in [&here, &there] {
        node.io.of("/chat");
    }
    until(|| there.hears("/chat"));
    let (mut client, socket) = there.connect(Kind::WebSocket);
    assert!(matches!(client.join("/chat", json!(null)), Heard::Joined { .. }));
    here.io.of("/chat").disconnect();
    assert_eq!(client.hear(), Heard::Left { namespace: "/chat".into() });
    here.io.to(socket.id()).emit("still here", ()).expect("a valid name");
    client.expect("still here", json!([]));
}

#[test]
fn cluster_knows_rooms_with_members() {
    let nodes = Nodes::new();
    let node = nodes.start();
    let (client, socket) = node.connect(Kind::WebSocket);
    assert!(node.is_home_of(socket.id()), "{}", socket.id());
    // The room of its id needs no subscription.
    node.join(&socket, &["red", "blue"]);
    assert_eq!(node.rooms("/"), ["blue", "red"].map(Room::from));
    socket.leave("blue");
    until(|| node.rooms("/") == [Room::from("red")]);
    drop(client);
    until(|| node.rooms("/").is_empty());
    // Ids of the application do not name their node.
    let node = nodes.start_with(|builder| builder.generate_socket_id(|_, _| "guest"));
    let _client = Client::connect(Kind::WebSocket, &node.server.dial);
    node.sockets.next();
    until(|| node.rooms("/") == [Room::from("guest")]);
}

#[test]
fn ids_of_application_reach_their_socket() {
    let nodes = Nodes::new();
    let here = nodes.start();
    let there = nodes.start_with(|builder| builder.generate_socket_id(|_, _| "guest"));
    crate::support::cluster::know_each_other(&[&here, &there]);
    let (mut client, socket) = there.connect(Kind::Json);
    there.join(&socket, &["guest"]);
    here.io.to("guest").emit("news", 1).expect("a valid name");
    client.expect("news", json!([1]));
}
