//! Several namespaces on one connection.

use roomcast_server::emit::Receipt;
use roomcast_server::metrics::Limit;
use roomcast_server::namespace::NamespaceHandle;
use roomcast_server::transport::Endpoint;
use roomcast_server::{Ack, Config, Io, Socket};
use serde_json::json;

use crate::support::client::{ALL, Client, ClientMessage, Heard, Kind, SOCKET_IO};
use crate::support::engine::Engine;
use crate::support::serve::{serve, until};

/// Joins sockets to `room` and answers their events with the name of the namespace.
fn answering(namespace: &NamespaceHandle) {
    namespace.on_connect(async |socket: Socket| assert!(socket.join("room")));
    namespace.on("who", async |socket: Socket, ack: Ack, number: u32| {
        ack.send((socket.namespace().name().as_str(), number)).map(drop)
    });
    namespace.on("message", async |socket: Socket, text: String| {
        socket.within("room").emit("said", (socket.namespace().name().as_str(), text)).map(drop)
    });
}

fn queued(queued: usize) -> Receipt {
    Receipt { queued, ..Receipt::default() }
}

fn joined(heard: Heard) -> (String, String) {
    match heard {
        Heard::Joined { namespace, id } => (namespace, id),
        other => panic!("not joined but {other:?}"),
    }
}

#[test]
fn isolates_namespaces_on_one_connection() {
    let io = Io::new();
    let names = ["/", "/chat", "/admin/v1"];
    names.iter().for_each(|name| answering(&io.of(*name)));
    let server = serve(&io);
    for kind in SOCKET_IO {
        let mut client = Client::open(kind, &server.dial);
        let ids = names.map(|name| {
            let (namespace, id) = joined(client.join(name, json!(null)));
            assert_eq!(namespace, name);
            id
        });
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[2] != ids[0]);
        assert_eq!((io.client_count(), io.count("room"), io.of("/chat").count("room")), (1, 1, 1));

        // Requests to all namespaces in one write are answered by each, in order.
        let who = |(at, number): (usize, u32)| ClientMessage {
            namespace: names[at],
            ack: Some(u64::from(number)),
            name: "who",
            args: json!([number]),
        };
        client.emit_all((0..9).map(|number| who((number as usize % 3, number))).collect());
        for number in 0..9 {
            let namespace = names[number as usize % 3].to_owned();
            let args = json!([namespace, number]);
            assert_eq!(client.hear(), Heard::Answer { namespace, ack: number, args });
        }
        // Rooms of equal names in different namespaces are separate.
        assert_eq!(io.of("/chat").to("room").emit("news", 1).expect("a valid name"), queued(1));
        let news = |namespace: &str, number: u32| Heard::Event {
            namespace: namespace.into(),
            name: "news".into(),
            args: json!([number]),
            ack: None,
        };
        assert_eq!(client.hear(), news("/chat", 1));

        client.leave("/chat");
        client.sync();
        assert_eq!(io.of("/chat").emit("news", 2).expect("a valid name"), queued(0));
        assert_eq!(io.of("/admin/v1").emit("news", 3).expect("a valid name"), queued(1));
        assert_eq!(client.hear(), news("/admin/v1", 3));
        client.close();
        until(|| io.client_count() == 0);
        assert!(names.iter().all(|name| io.of(*name).count("room") == 0));
    }
}

#[test]
fn rejects_unknown_namespace_until_registered() {
    let io = Io::new();
    let server = serve(&io);
    let mut clients = Vec::new();
    for kind in SOCKET_IO {
        let mut client = Client::connect(kind, &server.dial);
        let error = json!({ "message": "Invalid namespace" });
        let refused = Heard::Refused { namespace: "/later".into(), error };
        assert_eq!(client.join("/later", json!(null)), refused);
        assert_eq!(client.join("/later", json!({ "a": 1 })), refused);
        clients.push(client);
    }
    answering(&io.of("/later"));
    for client in &mut clients {
        assert_eq!(joined(client.join("/later", json!(null))).0, "/later");
    }
    assert_eq!(
        (io.of("/later").count("room"), io.main().emit("x", ()).expect("a valid name")),
        (3, queued(3))
    );
}

#[test]
fn delivers_between_all_client_kinds() {
    let endpoints = [
        Endpoint::socket_io(),
        Endpoint::plain("/ws").in_namespace("/hall"),
        Endpoint::plain("/json").json().in_namespace("/hall"),
        Endpoint::engine_io("/hall"),
    ];
    let io =
        endpoints.into_iter().fold(Io::builder(), |builder, endpoint| builder.endpoint(endpoint)).build();
    answering(&io.of("/hall"));
    let server = serve(&io);
    let mut clients = Vec::new();
    for kind in ALL {
        let mut client = Client::open(kind, &server.dial);
        client.send_connect_to("/hall", json!(null));
        client.expect_connected();
        clients.push(client);
    }
    let mut engine = Engine::polling(&server.dial, "/engine.io/");
    until(|| io.of("/hall").count("room") == 6);
    clients[2].say(ClientMessage { namespace: "/hall", ack: None, name: "message", args: json!(["hello"]) });
    for client in &mut clients {
        client.expect("said", json!(["/hall", "hello"]));
    }
    // Plain Engine.IO clients only support `message`.
    let receipt = io.of("/hall").emit("message", "to all").expect("a valid name");
    assert_eq!(receipt, queued(6));
    assert_eq!(engine.receive(), Ok("to all".into()));
    engine.send("from below".into());
    for client in &mut clients {
        client.expect("message", json!(["to all"]));
        client.expect("said", json!(["/hall", "from below"]));
    }
    assert_eq!(io.emit("nobody", ()).expect("a valid name"), queued(0));
}

#[test]
fn limits_namespaces_per_client() {
    let io = Io::builder().config(Config::new().limits(|limits| limits.max_namespaces(2))).build();
    for name in ["/a", "/b"] {
        answering(&io.of(name));
    }
    let server = serve(&io);
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    joined(client.join("/a", json!(null)));
    let error = json!({ "message": "Too many namespaces" });
    assert_eq!(client.join("/b", json!(null)), Heard::Refused { namespace: "/b".into(), error });
    assert_eq!(io.metrics().limits_exceeded(Limit::JoinedNamespaces), 1);
    client.leave("/a");
    joined(client.join("/b", json!(null)));
}
