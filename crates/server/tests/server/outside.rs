//! Sockets that are fetched, moved and disconnected by room or id.

use std::collections::BTreeMap;
use std::time::Duration;

use roomcast_server::emit::AckError;
use roomcast_server::rooms::{RemoteSocket, Room};
use roomcast_server::socket::{DataError, SocketId};
use roomcast_server::{ConnectError, Io, Socket, Value};
use serde_json::json;

use crate::support::client::{ACK_KINDS, ALL, Client, Heard, Kind, SOCKET_IO};
use crate::support::recorder::{Recorder, arrivals};
use crate::support::serve::{Running, serve, until};

const AGES: Duration = Duration::from_secs(60);

fn open() -> (Io, Running, Recorder<Socket>) {
    let io = Io::new();
    let ear = arrivals(&io);
    let server = serve(&io);
    (io, server, ear)
}

fn ids(mut sockets: Vec<RemoteSocket>) -> Vec<SocketId> {
    sockets.sort_by(|one, other| one.id().cmp(other.id()));
    sockets.iter().map(|socket| socket.id().clone()).collect()
}

#[test]
fn fetches_sockets_with_full_details() {
    let (io, server, sockets) = open();
    for kind in ALL {
        let mut client = Client::open(kind, &server.dial);
        client.send_connect(json!({ "token": "secret", "n": [1, 2] }));
        client.expect_connected();
        let socket = sockets.next();
        socket.join(["red", "blue"]);
        socket.set_data(&json!({ "name": "ada" })).expect("JSON");
        let found = server.block_on(io.within("red").fetch_sockets()).expect("this node answers");
        let [found] = &found[..] else { panic!("not one but {found:?}") };
        assert_eq!(found.id(), socket.id());
        let mut rooms = found.rooms().to_vec();
        assert_eq!(rooms.remove(0), Room::from(socket.id()));
        rooms.sort();
        assert_eq!(rooms, ["blue", "red"].map(Room::from));
        assert_eq!(found.data::<Value>().expect("JSON"), Some(json!({ "name": "ada" })));
        assert_eq!(found.here().expect("a local socket").id(), socket.id());

        let handshake = found.handshake().expect("a handshake");
        assert_eq!(
            (handshake.address.as_str(), handshake.secure, handshake.xdomain),
            ("127.0.0.1", false, false)
        );
        assert_eq!(handshake.url, socket.handshake().uri());
        assert_eq!(handshake.header("host"), socket.handshake().header("host"));
        assert!(handshake.time.ends_with("GMT+0000 (Coordinated Universal Time)"));
        assert!(handshake.issued > 1_700_000_000_000);
        if SOCKET_IO.contains(&kind) {
            assert_eq!(handshake.query_value("EIO"), Some("4"));
            assert_eq!(handshake.auth, json!({ "token": "secret", "n": [1, 2] }));
            #[derive(serde::Deserialize)]
            struct Auth {
                token: String,
                n: [u8; 2],
            }
            let auth: Auth = socket.auth().expect("the client's auth");
            assert_eq!((auth.token.as_str(), auth.n), ("secret", [1, 2]));
        } else {
            assert_eq!((handshake.auth, socket.auth::<Value>().expect("JSON")), (json!({}), json!({})));
        }
        client.close();
        until(|| io.client_count() == 0);
        assert_eq!(ids(server.block_on(io.fetch_sockets()).expect("this node answers")), []);
    }
}

#[test]
fn fetched_sockets_show_latest_data() {
    let (io, server, sockets) = open();
    let _client = Client::connect(Kind::WebSocket, &server.dial);
    let socket = sockets.next();
    let seen = || server.block_on(io.fetch_sockets()).expect("this node answers").remove(0);
    assert_eq!(socket.data::<Value>().expect("nothing"), None);
    assert_eq!(seen().data::<Value>().expect("nothing"), None);
    socket.set_data(&("text", 5)).expect("JSON");
    assert_eq!(socket.data().expect("the stored data"), Some(("text".to_owned(), 5)));
    assert!(matches!(socket.data::<u8>(), Err(DataError::Mismatch(_))));
    // A socket fetched earlier shows the current data.
    let looked_up = seen();
    socket.set_data("other").expect("JSON");
    assert_eq!(looked_up.data::<String>().expect("a string").as_deref(), Some("other"));
    let unserializable = BTreeMap::from([(vec![1], 2)]);
    assert!(matches!(socket.set_data(&unserializable), Err(DataError::Unserializable(_))));
    assert_eq!(socket.data::<String>().expect("a string").as_deref(), Some("other"));

    assert_eq!(socket.extension::<u8>(), None);
    assert_eq!((socket.set_extension(1_u8), socket.set_extension(2_u8)), (None, Some(1)));
    assert_eq!((socket.extension::<u8>(), socket.extension::<u16>()), (Some(2), None));
    assert_eq!((socket.remove_extension::<u8>(), socket.extension::<u8>()), (Some(2), None));
}

#[test]
fn keeps_data_set_by_middleware() {
    let io = Io::new();
    io.main().middleware(async |socket: Socket| {
        let token: Value = socket.auth().map_err(|error| ConnectError::new(error.to_string()))?;
        // Joins take effect once connected; until then the socket is not found.
        let found = socket.io().fetch_sockets().await.map(|found| found.len()).unwrap_or(usize::MAX);
        assert_eq!((found, socket.join("room")), (0, true));
        assert_eq!(socket.io().count("room"), 0);
        socket.set_data(&token["name"]).map_err(|error| ConnectError::new(error.to_string()))
    });
    let server = serve(&io);
    for kind in SOCKET_IO {
        let mut client = Client::open(kind, &server.dial);
        client.send_connect(json!({ "name": "ada" }));
        client.expect_connected();
        client.sync();
        let found = server.block_on(io.to(&client.id).fetch_sockets()).expect("this node answers");
        assert_eq!(found[0].data::<String>().expect("a string").as_deref(), Some("ada"));
        client.close();
        until(|| io.client_count() == 0);
    }
}

#[test]
fn moves_targeted_sockets_between_rooms() {
    let (io, server, sockets) = open();
    let clients: Vec<_> = ALL.iter().map(|kind| Client::connect(*kind, &server.dial)).collect();
    let sockets = sockets.take(clients.len());
    sockets[0].join("red");
    sockets[1].join("red");
    assert_eq!(io.to("red").sockets_join(["game", "chat"]), 2);
    assert_eq!(sockets[2].broadcast().except("red").sockets_join("chat"), 2);
    assert_eq!((io.count("game"), io.count("chat")), (2, 4));
    assert_eq!(io.main().within("game").except(sockets[0].id()).sockets_leave(["game", "red"]), 1);
    assert_eq!((io.count("game"), io.count("red")), (1, 1));
    assert_eq!(io.sockets_leave("chat"), 4);
    assert_eq!(io.main().sockets_join("all"), 5);
    assert_eq!((io.count("chat"), io.count("all")), (0, 5));

    let here = |id: &SocketId| io.socket(id).map(|socket| socket.id().clone());
    sockets[0].join(sockets[1].id());
    assert_eq!(here(sockets[1].id()).as_ref(), Some(sockets[1].id()));
    assert_eq!((here(&SocketId::from("nobody")), io.sockets().len()), (None, 5));
    sockets[0].leave(sockets[1].id());
    let one = server.block_on(io.to(sockets[3].id()).fetch_sockets()).expect("this node answers").remove(0);
    one.join(["vip", "late"]);
    one.leave("late");
    assert_eq!(sockets[3].rooms().len(), 3);
    assert_eq!((io.count("vip"), io.count("late"), one.rooms().len()), (1, 0, 2));
}

#[test]
fn disconnects_targeted_sockets_or_clients() {
    let (io, server, sockets) = open();
    io.of("/other");
    for kind in SOCKET_IO {
        let connect = |()| {
            let mut client = Client::connect(kind, &server.dial);
            assert!(matches!(client.join("/other", json!(null)), Heard::Joined { .. }));
            (client, sockets.next())
        };
        let [(mut leaver, leaving), (mut closed, closing), (mut last, _)] = [(); 3].map(connect);
        leaving.join("out");
        assert_eq!(io.within("out").disconnect(), 1);
        assert_eq!(leaver.hear(), Heard::Left { namespace: "/".into() });
        until(|| !leaving.is_connected());
        // Only this namespace has been left.
        assert_eq!((io.client_count(), io.of("/other").target().sockets_join("here")), (3, 3));

        let found = server.block_on(io.to(closing.id()).fetch_sockets()).expect("this node answers");
        found[0].disconnect_client();
        hear_the_end(&mut closed);
        until(|| io.of("/other").target().sockets_join("there") == 2);
        assert_eq!(io.of("/other").disconnect_client(), 2);
        hear_the_end(&mut leaver);
        hear_the_end(&mut last);
        until(|| io.client_count() == 0);
        // The sockets have already left, so none is disconnected.
        found[0].disconnect();
        assert_eq!(io.disconnect_client(), 0);
    }
}

#[test]
fn counts_sockets_and_checks_rooms() {
    let (io, server, sockets) = open();
    let other = io.of("/other");
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    let socket = sockets.next();
    assert!(matches!(client.join("/other", json!(null)), Heard::Joined { .. }));
    let _plain = Client::connect(Kind::Plain, &server.dial);
    sockets.next();
    assert_eq!((io.client_count(), io.main().client_count(), other.client_count()), (2, 2, 1));
    socket.join(["red", "blue"]);
    socket.leave("blue");
    assert_eq!((socket.is_in("red"), socket.is_in("blue"), socket.is_in(socket.id())), (true, false, true));
    let found = server.block_on(io.to("red").fetch_sockets()).expect("this node answers");
    assert_eq!((found[0].is_in("red"), found[0].is_in("blue")), (true, false));
    socket.disconnect();
    assert!(!socket.is_in("red"));
    assert_eq!((io.client_count(), io.main().client_count(), other.client_count()), (2, 1, 1));
}

/// Expects a disconnect from each namespace, then the end of the connection.
fn hear_the_end(client: &mut Client) {
    loop {
        match client.hear() {
            Heard::Left { .. } => {}
            Heard::Ended(_) => return,
            other => panic!("not ended but {other:?}"),
        }
    }
}

#[test]
fn emits_to_fetched_socket_with_ack() {
    let (io, server, sockets) = open();
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        let mut bystander = Client::connect(Kind::WebSocket, &server.dial);
        let id = sockets.take(2).into_iter().find(|socket| socket.id().as_str() == client.id);
        let id = id.expect("one of two").id().clone();
        let remote = server.block_on(io.to(&id).fetch_sockets()).expect("this node answers").remove(0);
        assert_eq!(remote.emit("news", 1).expect("a valid name").queued, 1);
        client.expect("news", json!([1]));
        let asked = {
            let remote = remote.clone();
            server.spawn(async move { remote.timeout(AGES).emit_with_ack("question", "?").await })
        };
        let question = client.question("question");
        client.answer(question, json!(["yes", 2]));
        let answer = asked.join().expect("one answer, as from a socket");
        assert_eq!(answer.parse::<(String, u8)>().expect("the client's arguments"), ("yes".to_owned(), 2));
        let outcome =
            server.block_on(remote.timeout(Duration::from_millis(30)).emit_with_ack("question", ()));
        assert!(matches!(outcome, Err(AckError::Timeout)), "{outcome:?}");
        client.question("question");
        client.close();
        until(|| io.client_count() == 1);
        // A request to a disconnected socket fails at once.
        let outcome = server.block_on(remote.timeout(AGES).emit_with_ack("question", ()));
        assert!(matches!(outcome, Err(AckError::Disconnected)), "{outcome:?}");
        io.emit("end", ()).expect("a valid name");
        bystander.expect("end", json!([]));
        bystander.close();
        until(|| io.client_count() == 0);
    }
    let mut plain = Client::connect(Kind::Plain, &server.dial);
    let id = sockets.next().id().clone();
    let remote = server.block_on(io.to(&id).fetch_sockets()).expect("this node answers").remove(0);
    let outcome = server.block_on(remote.emit_with_ack("question", ()));
    assert!(matches!(outcome, Err(AckError::Unsupported)), "{outcome:?}");
    plain.sync();
}

#[test]
fn keeps_empty_data() {
    let (io, server, sockets) = open();
    let _client = Client::connect(Kind::WebSocket, &server.dial);
    let socket = sockets.next();
    let found = server.block_on(io.fetch_sockets()).expect("this node answers").remove(0);
    assert_eq!((socket.data::<Value>().expect("JSON"), found.data::<Value>().expect("JSON")), (None, None));
    for data in [json!({}), json!(null), json!("")] {
        socket.set_data(&data).expect("JSON");
        assert_eq!(socket.data::<Value>().expect("JSON"), Some(data.clone()));
        assert_eq!(found.data::<Value>().expect("JSON"), Some(data));
    }
}

#[test]
fn distinguishes_socket_from_room_guests() {
    let (io, server, sockets) = open();
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    let mut guest = Client::connect(Kind::WebSocket, &server.dial);
    let [socket, other] = sockets.take(2).try_into().expect("two");
    // A room named by the id of the first socket.
    other.join(socket.id());
    let found = server.block_on(io.to(socket.id()).fetch_sockets()).expect("this node answers");
    let found = found.into_iter().find(|found| found.id() == socket.id()).expect("a local socket");
    assert_eq!(found.target().broadcast().emit("others", ()).expect("a valid name").queued, 1);
    guest.expect("others", json!([]));
    assert_eq!(found.emit("alone", ()).expect("a valid name").queued, 1);
    client.expect("alone", json!([]));
    found.join("red");
    assert_eq!(io.count("red"), 1);
    found.leave("red");
    assert_eq!(io.count("red"), 0);
    found.disconnect();
    assert_eq!(client.hear(), Heard::Left { namespace: "/".into() });
    assert!(other.is_connected());
    guest.sync();
}
