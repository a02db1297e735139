//! `rust_socketio`, on each of its transports, with `conformance_server` and in a room of the demo.

use roomcast_e2e_rust::{Plain, Server, Socket, transports};
use rust_socketio::Payload;
use serde_json::{Value, json};

#[test]
fn joins_with_auth() {
    for transport in transports() {
        let server = Server::conformance(&[]);
        let mut client = Socket::connect(&server, transport.clone(), "/");
        assert_eq!(client.next("auth"), [json!({ "token": "123" })]);
        let mut custom = Socket::connect(&server, transport, "/custom");
        assert_eq!(custom.next("auth"), [json!({ "token": "123" })]);
    }
}

#[test]
fn delivers_events_in_order() {
    for transport in transports() {
        let server = Server::conformance(&[]);
        let mut client = Socket::connect(&server, transport, "/");
        client.next("auth");
        for number in 0..100 {
            client.emit(
                "message",
                vec![json!(number), json!("déjà てすと 👩‍🚀"), json!({ "deep": [[true, null, 1.5]] })],
            );
        }
        for number in 0..100 {
            let expected = [json!(number), json!("déjà てすと 👩‍🚀"), json!({ "deep": [[true, null, 1.5]] })];
            assert_eq!(client.next("message-back"), expected);
        }
    }
}

#[test]
fn receives_client_acks() {
    for transport in transports() {
        let server = Server::conformance(&[]);
        let client = Socket::connect(&server, transport, "/");
        for number in 0..10 {
            // The client puts all arguments of an ack into one array.
            let answer = client.ask("message-with-ack", Payload::from(vec![json!(number), json!("x")]));
            assert_eq!(answer, Payload::Text(vec![json!([number, "x"])]));
        }
    }
}

/// The client cannot answer acks; the server must continue after the timeout.
#[test]
fn survives_unanswered_acks() {
    for transport in transports() {
        let server = Server::conformance(&[]);
        let mut client = Socket::connect(&server, transport, "/");
        client.next("auth");
        client.emit("emit-with-ack", vec![json!("question")]);
        assert_eq!(client.next("emit-with-ack"), [json!("question")]);
        client.emit("message", vec![json!("on")]);
        assert_eq!(client.next("message-back"), [json!("on")]);
    }
}

/// Only events, since the client sends binary events with acks as acks. Without the byte 0x1e, at which the client
/// splits every message, even on a WebSocket.
#[test]
fn exchanges_binary_events() {
    let bytes: Vec<u8> = (0..=255).filter(|byte| *byte != 0x1e).cycle().take(10_000).collect();
    for transport in transports() {
        let server = Server::conformance(&[]);
        let mut client = Socket::connect(&server, transport, "/");
        client.next("auth");
        client.emit("message", bytes.clone());
        assert_eq!(client.next_payload("message-back"), Payload::from(bytes.clone()));
    }
}

#[test]
fn shares_room_with_plain_clients() {
    let server = Server::demo();
    let mut sockets: Vec<_> =
        transports().into_iter().map(|transport| Socket::connect(&server, transport, "/")).collect();
    let mut plain = Plain::open(&server);
    let mut outsider = Plain::open(&server);
    let ids: Vec<_> = sockets.iter_mut().map(|socket| id(&socket.next("hello"))).collect();
    let [plain_id, outsider_id] = [&mut plain, &mut outsider].map(|client| id(&client.next("hello")));
    for socket in &sockets {
        socket.ask("join", Payload::from(json!("red")));
    }
    plain.send("/join red");
    for socket in &mut sockets {
        socket.until("joined", |joined| id(joined) == plain_id);
    }
    plain.next("welcome");

    let from =
        |args: &[Value]| (args[0]["from"].as_str().expect("an id").to_owned(), args[0]["text"].clone());
    for (at, sender) in ids.iter().enumerate() {
        for pattern in ["everyone", "others", "room", "room-others"] {
            let text = json!(format!("{pattern} by {at}"));
            let args = if pattern.starts_with("room") {
                vec![json!("red"), text.clone()]
            } else {
                vec![text.clone()]
            };
            sockets[at].ask(pattern, Payload::from(args));
            let expected = (sender.clone(), text);
            for (other, socket) in sockets.iter_mut().enumerate() {
                if other != at || !pattern.ends_with("others") {
                    assert_eq!(from(&socket.next(pattern)), expected);
                }
            }
            assert_eq!(from(&plain.next(pattern)), expected);
            if !pattern.starts_with("room") {
                assert_eq!(from(&outsider.next(pattern)), expected);
            }
        }
    }
    for (pattern, line) in [("everyone", "hello"), ("others", "/others hello"), ("room", "/room red hello")] {
        plain.send(line);
        for socket in &mut sockets {
            assert_eq!(from(&socket.next(pattern)), (plain_id.clone(), json!("hello")));
        }
        if pattern != "others" {
            assert_eq!(from(&plain.next(pattern)), (plain_id.clone(), json!("hello")));
        }
        if pattern != "room" {
            assert_eq!(from(&outsider.next(pattern)), (plain_id.clone(), json!("hello")));
        }
    }
    // No event arrived before the last message, so no client received unexpected events.
    outsider.send("the end");
    for socket in &mut sockets {
        assert_eq!(from(&socket.next("everyone")), (outsider_id.clone(), json!("the end")));
    }
    assert_eq!(from(&plain.next("everyone")), (outsider_id.clone(), json!("the end")));
    assert_eq!(from(&outsider.next("everyone")), (outsider_id, json!("the end")));
}

fn id(args: &[Value]) -> String {
    args[0]["id"].as_str().expect("an id").to_owned()
}
