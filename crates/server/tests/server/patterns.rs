//! Broadcasts to all, to all but the sender, and to rooms, with clients of every protocol.

use roomcast_server::emit::Receipt;
use roomcast_server::{Bytes, Io, Socket};
use serde_json::json;

use crate::support::client::{ALL, Client, Kind, bytes};
use crate::support::recorder::{Recorder, ear};
use crate::support::serve::{Running, serve, until};

/// Welcomes new clients, announces them to the others, and relays messages.
fn chat() -> (Io, Recorder<Receipt>) {
    let (receipts, ear) = ear();
    let io = Io::new();
    io.on_connect(async |socket: Socket| {
        socket.emit("welcome", label(&socket))?;
        socket.broadcast().emit("notice", ("joined", label(&socket))).map(drop)
    });
    io.on("message", move |socket: Socket, text: String| {
        let receipts = receipts.clone();
        async move {
            let receipt = match text.split_once(' ') {
                Some(("join", room)) => {
                    assert!(socket.join(room));
                    socket.emit("said", &text)
                }
                Some(("leave", room)) => {
                    assert!(socket.leave(room));
                    socket.emit("said", &text)
                }
                Some(("others", _)) => socket.broadcast().emit("said", &text),
                Some(("room", _)) => socket.within("room").emit("said", &text),
                Some(("room-mates", _)) => socket.to("room").emit("said", &text),
                _ => socket.io().emit("said", &text),
            };
            let _ = receipts.send(receipt?);
            Ok::<_, roomcast_server::EmitError>(())
        }
    });
    io.on_disconnect(async |socket: Socket| {
        socket.broadcast().emit("notice", ("left", label(&socket))).map(drop)
    });
    (io, ear)
}

fn label(socket: &Socket) -> String {
    format!("{} over {}", socket.kind(), socket.transport())
}

fn label_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Polling => "socket.io over polling",
        Kind::WebSocket | Kind::Upgraded => "socket.io over websocket",
        Kind::Json => "roomcast.json over websocket",
        Kind::Plain => "plain over websocket",
    }
}

/// Connects one client of each kind; each has received the notices of the later ones.
fn one_of_each(server: &Running) -> Vec<Client> {
    let mut clients: Vec<Client> = Vec::new();
    for kind in ALL {
        let mut client = Client::connect(kind, &server.dial);
        client.expect("welcome", json!([label_of(kind)]));
        for earlier in &mut clients {
            earlier.expect("notice", json!(["joined", label_of(kind)]));
        }
        clients.push(client);
    }
    clients
}

fn queued(queued: usize) -> Receipt {
    Receipt { queued, ..Receipt::default() }
}

#[test]
fn broadcasts_with_and_without_sender() {
    let (io, receipts) = chat();
    let server = serve(&io);
    let mut clients = one_of_each(&server);
    for sender in 0..clients.len() {
        clients[sender].emit("message", json!(["all hello"]));
        clients.iter_mut().for_each(|client| client.expect("said", json!(["all hello"])));
        assert_eq!(receipts.next(), queued(5));

        clients[sender].emit("message", json!(["others hello"]));
        let others = clients.iter_mut().enumerate().filter(|(at, _)| *at != sender);
        others.for_each(|(_, client)| client.expect("said", json!(["others hello"])));
        assert_eq!(receipts.next(), queued(4));
    }
    // The sender has not received its last message.
    io.emit("end", ()).expect("a valid name");
    clients.iter_mut().for_each(|client| client.expect("end", json!([])));
}

#[test]
fn room_emit_reaches_only_members() {
    let (io, receipts) = chat();
    let server = serve(&io);
    let mut clients = one_of_each(&server);
    // Polling, upgraded and plain clients are members; WebSocket and JSON clients are not.
    let members = [0, 2, 4];
    for member in members {
        clients[member].emit("message", json!(["join room"]));
        clients[member].expect("said", json!(["join room"]));
        assert_eq!(receipts.next(), queued(1));
    }
    assert_eq!(io.count("room"), 3);
    for sender in 0..clients.len() {
        let is_member = members.contains(&sender);
        clients[sender].emit("message", json!(["room hello"]));
        members.iter().for_each(|&at| clients[at].expect("said", json!(["room hello"])));
        assert_eq!(receipts.next(), queued(3));

        clients[sender].emit("message", json!(["room-mates hello"]));
        let mates = members.iter().filter(|&&at| at != sender);
        mates.for_each(|&at| clients[at].expect("said", json!(["room-mates hello"])));
        assert_eq!(receipts.next(), queued(if is_member { 2 } else { 3 }));
    }
    clients[2].emit("message", json!(["leave room"]));
    clients[2].expect("said", json!(["leave room"]));
    assert_eq!((receipts.next(), io.count("room")), (queued(1), 2));
    assert_eq!(io.to("room").emit("said", "bye").expect("a valid name"), queued(2));
    [0, 4].iter().for_each(|&at| clients[at].expect("said", json!(["bye"])));
    // Clients outside the room received nothing.
    io.emit("end", ()).expect("a valid name");
    clients.iter_mut().for_each(|client| client.expect("end", json!([])));
}

#[test]
fn announces_and_removes_departed_clients() {
    let (io, _receipts) = chat();
    let server = serve(&io);
    let mut clients = one_of_each(&server);
    while let Some(client) = clients.pop() {
        let kind = client.kind;
        client.close();
        clients.iter_mut().for_each(|client| client.expect("notice", json!(["left", label_of(kind)])));
    }
    until(|| io.client_count() == 0);
    assert_eq!(io.emit("anybody", ()).expect("a valid name"), Receipt::default());
    // Counted when the session is out of the table.
    until(|| io.metrics().sessions_closed() == 5);
    assert_eq!(io.metrics().sessions_opened(), 5);
    assert_eq!((io.metrics().upgrades(), io.metrics().protocol_errors()), (1, 0));
}

#[test]
fn skips_and_counts_unsupported_plain_events() {
    let (io, _receipts) = chat();
    let server = serve(&io);
    let mut clients = one_of_each(&server);
    let picture = Bytes::from_static(b"\x89PNG");
    let receipt = io.emit("picture", ("avatar", picture.clone())).expect("a valid name");
    assert_eq!(receipt, Receipt { queued: 4, unsupported: 1, ..Receipt::default() });
    // Binary under the name `message` is supported by plain clients.
    assert_eq!(io.emit("message", picture).expect("a valid name"), queued(5));
    assert_eq!(io.emit("message", "[\"text\"").expect("a valid name"), queued(5));
    for client in &mut clients {
        if client.kind != Kind::Plain {
            client.expect("picture", json!(["avatar", bytes(b"\x89PNG")]));
        }
        client.expect("message", json!([bytes(b"\x89PNG")]));
        client.expect("message", json!(["[\"text\""]));
    }
}

#[test]
fn delivers_once_across_rooms_and_exceptions() {
    let (io, receipts) = chat();
    let server = serve(&io);
    let mut clients = one_of_each(&server);
    for (at, rooms) in [(0, &["red"][..]), (1, &["red", "blue"]), (3, &["blue"]), (4, &["blue", "muted"])] {
        for room in rooms {
            let text = format!("join {room}");
            clients[at].emit("message", json!([&text]));
            clients[at].expect("said", json!([text]));
            receipts.next();
        }
    }
    let to_both = io.to("red").to(["blue"]).except("muted");
    assert_eq!(to_both.emit("colour", 1).expect("a valid name"), queued(3));
    let but_one = io.except(clients[0].id.as_str()).except(vec!["blue", "muted"]);
    assert_eq!(but_one.emit("colour", 2).expect("a valid name"), queued(1));
    assert_eq!(io.to(clients[3].id.as_str()).emit("colour", 3).expect("a valid name"), queued(1));
    for (at, colours) in [(0, &[1][..]), (1, &[1]), (2, &[2]), (3, &[1, 3]), (4, &[])] {
        colours.iter().for_each(|colour| clients[at].expect("colour", json!([colour])));
    }
    io.emit("end", ()).expect("a valid name");
    clients.iter_mut().for_each(|client| client.expect("end", json!([])));
}

#[test]
fn sends_nothing_before_welcome() {
    let io = Io::new();
    let server = serve(&io);
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| {
            for kind in [Kind::WebSocket, Kind::Json].repeat(200) {
                let mut client = Client::open(kind, &server.dial);
                client.send_connect(json!(null));
                client.expect_connected();
            }
        });
        while !clients.is_finished() {
            io.emit("noise", ()).expect("a valid name");
        }
    });
}
