//! Limits on the work in progress for one client.

use roomcast_server::metrics::Limit;
use roomcast_server::socket::CloseReason;
use roomcast_server::{Ack, Config, Io, Socket};
use serde_json::{Value, json};

use crate::support::client::{ACK_KINDS, ALL, Client, ClientMessage, Heard, Kind, SOCKET_IO};
use crate::support::recorder::{Gate, Recorder, arrivals, ear};
use crate::support::serve::{serve, until};

/// Registers handlers that record their start and wait for the test.
fn waiting(config: Config) -> (Io, Gate, Recorder<String>) {
    let gate = Gate::closed();
    let (told, ear) = ear();
    let io = Io::builder().config(config).build();
    for namespace in ["/", "/other"] {
        let (door, told) = (gate.clone(), told.clone());
        io.of(namespace).on("message", move |text: String| {
            let (gate, told) = (door.clone(), told.clone());
            async move {
                let _ = told.send(text);
                gate.pass().await;
            }
        });
    }
    (io, gate, ear)
}

fn said<'a>(namespace: &'a str, text: impl Into<Value>) -> ClientMessage<'a> {
    ClientMessage { namespace, ack: None, name: "message", args: json!([text.into()]) }
}

#[test]
fn limits_running_handlers_and_keeps_order() {
    let (io, gate, ear) = waiting(Config::new().limits(|limits| limits.max_handlers(2)));
    let server = serve(&io);
    for kind in ALL {
        let mut client = Client::connect(kind, &server.dial);
        client.emit_all(["1", "2", "3", "4", "5"].map(|text| said("/", text)).into());
        client.sync();
        assert_eq!(ear.all(), ["1", "2"], "{kind:?}");
        for next in ["3", "4", "5"] {
            gate.let_one_pass();
            assert_eq!(ear.next(), next);
            client.sync();
            assert_eq!(ear.all(), [""; 0], "{kind:?}");
        }
        gate.let_one_pass();
        gate.let_one_pass();
    }
}

#[test]
fn reads_acks_while_events_wait() {
    let (io, gate, ear) = waiting(Config::new().limits(|limits| limits.max_handlers(1)));
    io.on("ask me", async |socket: Socket, ack: Ack| {
        let answer = socket.emit_with_ack("question", ()).await?;
        ack.send(answer)?;
        Ok::<_, roomcast_server::emit::AckError>(())
    });
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        let ask = ClientMessage { namespace: "/", ack: Some(7), name: "ask me", args: json!([]) };
        client.emit_all(vec![ask, said("/", "behind it")]);
        let question = client.question("question");
        client.sync();
        assert_eq!(ear.all(), [""; 0]);
        client.answer(question, json!(["x"]));
        assert_eq!(client.hear(), Heard::Answer { namespace: "/".into(), ack: 7, args: json!(["x"]) });
        assert_eq!(ear.next(), "behind it");
        gate.let_one_pass();
    }
}

#[test]
fn pauses_reading_while_handlers_lag() {
    let (io, gate, ear) =
        waiting(Config::new().limits(|limits| limits.max_handlers(1).max_event_bytes(10_000)));
    io.on("echo", async |ack: Ack| ack.send(()).map(drop));
    let server = serve(&io);
    let mut other = Client::connect(Kind::WebSocket, &server.dial);
    for kind in [Kind::WebSocket, Kind::Json, Kind::Plain] {
        let mut client = Client::connect(kind, &server.dial);
        let texts: Vec<_> = (0..40).map(|number| format!("{number}{}", "x".repeat(1000))).collect();
        client.emit_all(texts.iter().map(|text| said("/", text.as_str())).collect());
        assert_eq!(ear.next(), texts[0]);
        assert_eq!(other.ask("echo", json!([])), json!([]));
        assert_eq!(ear.all(), [""; 0], "one runs at a time");
        texts.iter().for_each(|_| gate.let_one_pass());
        assert_eq!(ear.take(39), texts[1..], "{kind:?}");
        client.sync();
    }
    assert_eq!(io.metrics().overloaded(), 0);
}

#[test]
fn reads_up_to_cap_awaiting_ack() {
    let config =
        Config::new().limits(|limits| limits.max_event_bytes(10_000).outbox_max(200_000).max_payload(20_000));
    let (told, reasons) = ear();
    let io = Io::builder().config(config.limits(|limits| limits.max_handlers(1))).build();
    io.on_disconnect(move |reason: CloseReason| {
        let _ = told.send(reason);
        async {}
    });
    io.on("message", async |socket: Socket, _: String| {
        let _ = socket.emit_with_ack("question", ()).await;
    });
    let server = serve(&io);
    for (closed, kind) in (1..).zip([Kind::WebSocket, Kind::Json]) {
        let mut client = Client::connect(kind, &server.dial);
        let text = "x".repeat(1000);
        client.emit_all((0..90).map(|_| said("/", text.as_str())).collect());
        let question = client.question("question");
        client.sync();
        client.answer(question, json!([]));
        client.question("question");
        assert_eq!(reasons.all(), [], "{kind:?}");
        client.emit_all((0..60).map(|_| said("/", text.as_str())).collect());
        assert_eq!(reasons.next(), CloseReason::Overloaded);
        let ended = client.end();
        assert_eq!((ended.code, ended.reason.as_str()), (Some(1008), "overloaded"), "{kind:?}");
        assert_eq!(io.metrics().overloaded(), closed);
    }
}

#[test]
fn releases_bytes_of_dropped_events() {
    let (io, gate, ear) =
        waiting(Config::new().limits(|limits| limits.max_handlers(1).max_event_bytes(10_000)));
    let server = serve(&io);
    for kind in SOCKET_IO {
        let mut client = Client::connect(kind, &server.dial);
        assert!(matches!(client.join("/other", json!(null)), Heard::Joined { .. }));
        let kilobyte = "x".repeat(1000);
        client.emit_all((0..9).map(|_| said("/other", kilobyte.as_str())).collect());
        client.sync();
        io.of("/other").disconnect();
        assert_eq!(client.hear(), Heard::Left { namespace: "/other".into() });
        let mut names: Vec<_> = (0..8).map(|number| number.to_string()).collect();
        client.emit_all(names.iter().map(|name| said("/", format!("{name}{kilobyte}"))).collect());
        client.sync();
        assert_eq!(ear.take(1), [kilobyte.as_str()]);
        // The running handler outlives its namespace and still counts.
        assert_eq!(ear.all(), [""; 0]);
        (0..9).for_each(|_| gate.let_one_pass());
        names.iter_mut().for_each(|name| name.push_str(&kilobyte));
        assert_eq!(ear.take(8), names);
    }
    assert_eq!(io.metrics().overloaded(), 0);
}

#[test]
fn middleware_frees_handler_slot_when_done() {
    let (io, gate, ear) = waiting(Config::new().limits(|limits| limits.max_handlers(1)));
    let door = Gate::closed();
    let handle = door.clone();
    io.of("/slow").middleware(move || {
        let door = handle.clone();
        async move { door.pass().await }
    });
    gate.open();
    let server = serve(&io);
    for kind in SOCKET_IO {
        let mut client = Client::connect(kind, &server.dial);
        client.send_connect_to("/slow", json!(null));
        client.say(said("/", "waits"));
        client.sync();
        assert_eq!(ear.all(), [""; 0]);
        door.let_one_pass();
        assert!(matches!(client.hear(), Heard::Joined { .. }));
        assert_eq!(ear.next(), "waits");
        client.close();
        until(|| io.client_count() == 0);
    }
}

#[test]
fn pauses_rejoins_behind_slow_handlers() {
    let gate = Gate::closed();
    let (told, reasons) = ear();
    let io = Io::builder().config(Config::new().limits(|limits| limits.max_handlers(4))).build();
    let door = gate.clone();
    io.on_connect(move || {
        let door = door.clone();
        async move { door.pass().await }
    });
    io.on_disconnect(move |reason: CloseReason| {
        let _ = told.send(reason);
        async {}
    });
    let server = serve(&io);
    let come_and_go = |client: &mut Client| {
        client.send_connect(json!(null));
        client.leave("/");
    };
    let mut client = Client::open(Kind::WebSocket, &server.dial);
    (0..20).for_each(|_| come_and_go(&mut client));
    assert_eq!(reasons.take(7), [CloseReason::ClientNamespaceDisconnect; 7]);
    (0..8).for_each(|_| client.expect_connected());
    assert_eq!(reasons.all(), [], "further rejoins wait");
    (0..20).for_each(|_| gate.let_one_pass());
    (0..12).for_each(|_| client.expect_connected());
    assert_eq!((io.metrics().overloaded(), reasons.take(13).len()), (0, 13));
    // No limit applies while the handlers keep up.
    gate.open();
    let mut client = Client::open(Kind::WebSocket, &server.dial);
    (0..100).for_each(|_| come_and_go(&mut client));
    (0..100).for_each(|_| client.expect_connected());
}

#[test]
fn limits_rooms_per_socket() {
    for kind in ALL {
        let io = Io::builder().config(Config::new().limits(|limits| limits.max_rooms(3))).build();
        let sockets = arrivals(&io);
        let server = serve(&io);
        let mut client = Client::connect(kind, &server.dial);
        let socket = sockets.next();
        assert!(socket.join(["a", "b"]), "{kind:?}");
        assert!(!socket.join(["c", "d", "e"]), "{kind:?}");
        assert_eq!(io.metrics().limits_exceeded(Limit::Rooms), 1);
        // Rooms that the socket is already in do not count again.
        assert!(socket.join(["a", "b", "c"]) && socket.join(socket.id()), "{kind:?}");
        assert_eq!(io.sockets_join("d"), 0);
        let found = server.block_on(io.fetch_sockets()).expect("one node");
        found.iter().for_each(|remote| remote.join("e"));
        assert_eq!(io.metrics().limits_exceeded(Limit::Rooms), 3);
        assert_eq!(socket.rooms().len(), 4);
        assert_eq!(
            ["d", "e"].map(|room| io.to(room).emit("nobody", ()).expect("a valid name").queued),
            [0, 0]
        );
        // The client stays connected, and a freed slot can be used again.
        assert!(socket.leave("a") && socket.join("d"), "{kind:?}");
        io.to("d").emit("news", ()).expect("a valid name");
        client.expect("news", json!([]));
    }
}

#[test]
fn rejects_long_names_and_auth() {
    let io = Io::builder()
        .config(Config::new().limits(|limits| limits.max_name_bytes(100).max_auth_bytes(1000)))
        .build();
    let (fits, long) = ("r".repeat(100), "r".repeat(101));
    io.of_matching(|_| true);
    io.on("join", async |socket: Socket, room: String, ack: Ack| {
        let joined = socket.join(room.as_str());
        let found = socket.io().within(socket.id()).sockets_join(room.as_str());
        ack.send((joined, found, socket.rooms().len())).map(drop)
    });
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        assert_eq!(client.ask("join", json!([long])), json!([false, 0, 1]));
        assert_eq!(client.ask("join", json!([fits])).as_array().expect("a list")[0], json!(true));
        client.emit(&fits, json!([]));
        assert_eq!(client.ask("join", json!([long])).as_array().expect("a list")[2], json!(2));
        client.emit(&long, json!([]));
        client.end();
    }
    let count = ACK_KINDS.len() as u64;
    until(|| io.metrics().limits_exceeded(Limit::NameSize) == 3 * count);
    until(|| io.metrics().protocol_errors() == count);
    for kind in SOCKET_IO {
        let mut client = Client::open(kind, &server.dial);
        let refused = |namespace: &str, message: &str| Heard::Refused {
            namespace: namespace.into(),
            error: json!({ "message": message }),
        };
        let large = json!({ "token": "t".repeat(1000) });
        assert_eq!(client.join("/", large), refused("/", "Auth too large"));
        let fits = format!("/{}", "n".repeat(99));
        assert!(matches!(client.join(&fits, json!(null)), Heard::Joined { .. }));
        client.send_connect_to(&format!("/{}", "n".repeat(100)), json!(null));
        client.end();
    }
    assert_eq!(io.metrics().limits_exceeded(Limit::AuthSize), SOCKET_IO.len() as u64);
}
