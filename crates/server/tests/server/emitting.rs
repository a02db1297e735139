//! Recipients of the broadcast operators on every handle.

use std::time::Duration;

use roomcast_server::emit::{AckError, Emit, Overflow, Receipt};
use roomcast_server::{Ack, Args, Bytes, EmitError, Io, Socket, Value};
use serde_json::json;

use crate::support::client::{ACK_KINDS, Client, ClientMessage, Heard, Kind, bytes};
use crate::support::engine::Engine;
use crate::support::recorder::arrivals;
use crate::support::serve::serve;
use crate::support::ws::Message;

/// Timeout that expires only if something is wrong.
const AGES: Duration = Duration::from_secs(60);

#[test]
fn operators_select_same_recipients_everywhere() {
    let io = Io::new();
    let sockets = arrivals(&io);
    let server = serve(&io);
    // The sender, then clients in `red`, in `blue`, in both, and in neither. All connections accept volatile events at
    // any time.
    let kinds = [Kind::WebSocket, Kind::Upgraded, Kind::Json, Kind::Plain, Kind::WebSocket];
    let mut clients = kinds.map(|kind| Client::connect(kind, &server.dial));
    let sockets = sockets.take(clients.len());
    let [sender, red, blue, both, _other] = &sockets[..] else { panic!("five sockets") };
    for (socket, rooms) in
        [(sender, vec!["red"]), (red, vec!["red"]), (blue, vec!["blue"]), (both, vec!["red", "blue"])]
    {
        assert!(socket.join(rooms));
    }
    let (all, namespace) = (&[0, 1, 2, 3, 4][..], io.main());
    let cases: Vec<(Emit, &[usize])> = vec![
        (io.to("red"), &[0, 1, 3]),
        (io.within(["red", "blue"]), &[0, 1, 2, 3]),
        (io.except("red"), &[2, 4]),
        (io.local(), all),
        (io.volatile(), all),
        (io.compress(false), all),
        (io.timeout(AGES), all),
        (io.overflow(Overflow::DropNewest), all),
        (io.latest("key"), all),
        (namespace.to("blue").to("red"), &[0, 1, 2, 3]),
        (namespace.within("blue").except("red"), &[2]),
        (namespace.except(["red", "blue"]).local().compress(true), &[4]),
        (namespace.volatile().to("blue"), &[2, 3]),
        // Operators of a socket exclude the sender, no matter how the chain continues.
        (sender.broadcast(), &[1, 2, 3, 4]),
        (sender.to("red"), &[1, 3]),
        (sender.to("red").within("blue"), &[1, 2, 3]),
        (sender.within("red"), &[0, 1, 3]),
        (sender.except("blue"), &[1, 4]),
        (sender.local().to(["red", "blue"]).except(both.id()), &[1, 2]),
        (sender.volatile().to("red"), &[1, 3]),
        (sender.compress(false).broadcast(), &[1, 2, 3, 4]),
        (sender.timeout(AGES).except("red"), &[2, 4]),
        (sender.overflow(Overflow::DropOldest).within("red"), &[0, 1, 3]),
        (sender.latest("key").local(), &[1, 2, 3, 4]),
        // A room named by a socket id addresses that socket.
        (io.to(blue.id()).to(both.id()), &[2, 3]),
        (io.to("nobody"), &[]),
    ];
    for (number, (emit, reached)) in cases.iter().enumerate() {
        let receipt = emit.emit("news", number).expect("a valid name");
        assert_eq!(receipt, Receipt { queued: reached.len(), ..Receipt::default() }, "{number}");
        for &at in *reached {
            clients[at].expect("news", json!([number]));
        }
    }
    // No client received an event for others.
    io.send("end").expect("a valid name");
    clients.iter_mut().for_each(|client| client.expect("message", json!(["end"])));
}

#[test]
fn handlers_can_use_all_operators() {
    let io = Io::new();
    io.on("say", async |socket: Socket, io: Io, text: String| {
        io.except(socket.id()).emit("said", &text)?;
        socket.namespace().to(socket.id()).emit("said", &text)?;
        socket.broadcast().send(&text)?;
        socket.send(&text)?;
        Ok::<_, EmitError>(())
    });
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut speaker = Client::connect(kind, &server.dial);
        let mut listener = Client::connect(Kind::WebSocket, &server.dial);
        speaker.emit("say", json!(["hello"]));
        for client in [&mut speaker, &mut listener] {
            client.expect("said", json!(["hello"]));
            client.expect("message", json!(["hello"]));
        }
    }
}

#[test]
fn emits_nested_binary_to_one_socket() {
    #[derive(serde::Serialize)]
    struct Picture {
        name: &'static str,
        layers: Vec<Bytes>,
    }
    let io = Io::new();
    let sockets = arrivals(&io);
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        let socket = sockets.next();
        let picture =
            Picture { name: "sea", layers: vec![Bytes::from_static(b"\0"), Bytes::from_static(b"\xff")] };
        let expected =
            json!([1, { "name": "sea", "layers": [bytes(b"\0"), bytes(b"\xff")] }, bytes(b"z"), null]);
        let args = || (1, &picture, Bytes::from_static(b"z"), None::<u8>);
        socket.emit("picture", args()).expect("a valid name");
        socket.compress(false).emit("picture", args()).expect("a valid name");
        socket
            .overflow(Overflow::DropOldest)
            .latest("picture")
            .emit("picture", args())
            .expect("a valid name");
        for _ in 0..3 {
            client.expect("picture", expected.clone());
        }
    }
}

#[test]
fn reports_dropped_volatile_ack_request() {
    let io = Io::new();
    let sockets = arrivals(&io);
    let server = serve(&io);
    let mut client = Client::connect(Kind::Polling, &server.dial);
    let socket = sockets.next();
    // No poll is waiting, so a volatile event is dropped.
    let outcome = server.block_on(socket.volatile().timeout(AGES).emit_with_ack("question", ()));
    assert!(matches!(outcome, Err(AckError::Dropped)), "{outcome:?}");
    let asked = {
        let socket = socket.clone();
        server.spawn(async move { socket.timeout(AGES).emit_with_ack("question", (1, "two")).await })
    };
    let question = client.question("question");
    client.answer(question, json!([3, "four"]));
    let answer: Args = asked.join().expect("an answer");
    assert_eq!(answer.parse::<(u8, String)>().expect("the client's arguments"), (3, "four".to_owned()));
}

#[test]
fn rejects_more_attachments_than_clients_accept() {
    let io = Io::new();
    let sockets = arrivals(&io);
    io.on("ask", async |count: usize, ack: Ack| {
        let error = ack.send(vec![Bytes::from_static(b"x"); count]).map_err(|error| error.to_string());
        error.map(drop)
    });
    let server = serve(&io);
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    let socket = sockets.take(1).remove(0);
    let many = |count: usize| vec![Bytes::from_static(b"x"); count];
    for error in [
        io.emit("many", many(11)).expect_err("too many"),
        socket.emit("many", many(11)).expect_err("too many"),
        socket.volatile().emit("many", many(11)).expect_err("too many"),
    ] {
        let EmitError::TooManyAttachments { count: 11, limit: 10 } = error else { panic!("{error}") };
    }
    // On the second emit the event name is cached.
    assert!(socket.emit("many", many(10)).is_ok_and(|receipt| receipt.queued == 1));
    assert!(socket.emit("many", many(11)).is_err());
    let ask = ClientMessage { namespace: "/", ack: Some(7), name: "ask", args: json!([11]) };
    client.emit_all(vec![ask]);
    assert!(matches!(client.hear(), Heard::Event { name, .. } if name == "many"));
    assert_eq!(
        client.ask("ask", json!([2])).as_array().map(Vec::len),
        Some(1),
        "the client is still connected"
    );
    assert_eq!(io.metrics().handlers_failed(), 1, "the oversized ack fails in the handler");
}

#[test]
fn rejects_values_nested_too_deep() {
    let io = Io::new();
    let sockets = arrivals(&io);
    let server = serve(&io);
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    let socket = sockets.take(1).remove(0);
    let deep = || (0..20_000).fold(json!(null), |inner, _| Value::Array(vec![inner]));
    assert!(matches!(socket.emit("deep", deep()), Err(EmitError::Args(_))));
    assert!(matches!(io.emit("deep", deep()), Err(EmitError::Args(_))));
    socket.emit("flat", ()).expect("it goes on");
    assert!(matches!(client.hear(), Heard::Event { name, .. } if name == "flat"));
}

#[test]
fn delivers_lone_surrogates_as_replacement() {
    let io = Io::new();
    io.on("echo", async |text: String, ack: Ack| ack.send(text).map(drop));
    io.on("a\u{fffd}", async |ack: Ack| ack.send("named").map(drop));
    let server = serve(&io);
    let mut engine = Engine::websocket(&server.dial, "/socket.io/");
    engine.send(r#"0{"token":"\udc00"}"#.into());
    let Ok(Message::Text(welcome)) = engine.receive() else { panic!("no welcome") };
    assert!(welcome.starts_with("0{"), "{welcome}");
    engine.send(r#"21["echo","a\ud83d"]"#.into());
    assert_eq!(engine.receive(), Ok(Message::Text("31[\"a\u{fffd}\"]".into())));
    engine.send(r#"22["a\ud83d"]"#.into());
    assert_eq!(engine.receive(), Ok(r#"32["named"]"#.to_owned().into()));
}
