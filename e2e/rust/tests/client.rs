//! `rust_socketio`, on each of its transports, with `conformance_server` and in a room of the demo.

use roomcast_e2e_rust::{Plain, Server, Socket, transports};
use rust_socketio::Payload;
use serde_json::{Value, json};

#[test]
fn it_is_let_in_with_what_it_said_of_itself() {
    for transport in transports() {
        let server = Server::conformance(&[]);
        let mut client = Socket::connect(&server, transport.clone(), "/");
        assert_eq!(client.next("auth"), [json!({ "token": "123" })]);
        let mut custom = Socket::connect(&server, transport, "/custom");
        assert_eq!(custom.next("auth"), [json!({ "token": "123" })]);
    }
}

#[test]
fn events_go_both_ways_whole_and_in_order() {
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
fn it_asks_and_is_answered() {
    for transport in transports() {
        let server = Server::conformance(&[]);
        let client = Socket::connect(&server, transport, "/");
        for number in 0..10 {
            // It puts all arguments of an answer into one array.
            let answer = client.ask("message-with-ack", Payload::from(vec![json!(number), json!("x")]));
            assert_eq!(answer, Payload::Text(vec![json!([number, "x"])]));
        }
    }
}

/// It has no means to answer, so that is all it can do: a server that waits for it in vain goes on.
#[test]
fn it_is_asked() {
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

/// As events, for a question with bytes it sends as if it were an answer. And without the byte 0x1e: it cuts whatever
/// comes there, even on a WebSocket
#[test]
fn binary_goes_both_ways() {
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
fn in_one_room_with_plain_clients_everybody_gets_what_is_theirs() {
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
    // Nothing lies before the last word, so nobody got what was not theirs.
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
