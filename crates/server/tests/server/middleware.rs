//! Connect and event middleware.

use std::sync::{Arc, Mutex};

use roomcast_server::extract::{ArgsError, EventName};
use roomcast_server::handler::{EventError, EventRewrite};
use roomcast_server::rooms::Room;
use roomcast_server::socket::SocketId;
use roomcast_server::transport::Endpoint;
use roomcast_server::{Ack, Args, Auth, Config, ConnectError, Io, Socket, Value};
use serde::Deserialize;
use serde_json::json;

use crate::support::client::{ACK_KINDS, ALL, Client, ClientMessage, Heard, Kind, SOCKET_IO};
use crate::support::recorder::{Gate, Log, Recorder, ear};
use crate::support::serve::{serve, until};
use crate::support::ws::Ended;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Ticket {
    name: String,
    seat: Option<u32>,
}

fn refused(namespace: &str, error: Value) -> Heard {
    Heard::Refused { namespace: namespace.into(), error }
}

#[test]
fn passes_auth_to_middleware_and_handler() {
    let (told, ear) = ear();
    let io = Io::new();
    io.main().middleware(async |Auth(ticket): Auth<Ticket>| {
        if ticket.name == "nobody" {
            return Err(ConnectError::new("not \"you\"").with_data(&json!({ "seat": ticket.seat })));
        }
        Ok(())
    });
    io.on_connect(move |Auth(ticket): Auth<Ticket>| {
        let _ = told.send(ticket);
        async {}
    });
    let server = serve(&io);
    for kind in SOCKET_IO {
        let mut client = Client::open(kind, &server.dial);
        let error = json!({ "message": "not \"you\"", "data": { "seat": 3 } });
        assert_eq!(client.join("/", json!({ "name": "nobody", "seat": 3 })), refused("/", error));
        // Mismatched auth is rejected as well, and the client may retry.
        let Heard::Refused { error, .. } = client.join("/", json!(null)) else {
            panic!("the client was accepted")
        };
        assert_eq!(error, json!({ "message": "invalid auth" }), "no types or fields are revealed");
        assert!(matches!(client.join("/", json!({ "name": "ann" })), Heard::Joined { .. }));
        assert_eq!(ear.next(), Ticket { name: "ann".into(), seat: None });
    }
    assert_eq!((ear.all(), io.count("anywhere")), (vec![], 0));
}

#[test]
fn middleware_sees_mismatched_auth() {
    let io = Io::new();
    io.main()
        .middleware(
            async |Auth(raw): Auth<Value>| {
                if raw["name"] == 7 { Err(ConnectError::new("a name is a text")) } else { Ok(()) }
            },
        )
        .middleware(async |ticket: Result<Auth<Ticket>, ArgsError>| match ticket {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        });
    let server = serve(&io);
    for kind in SOCKET_IO {
        let mut client = Client::open(kind, &server.dial);
        let error = json!({ "message": "a name is a text" });
        assert_eq!(client.join("/", json!({ "name": 7 })), refused("/", error));
        let Heard::Refused { error, .. } = client.join("/", json!({ "seat": 1 })) else {
            panic!("the client was accepted")
        };
        assert!(error["message"].as_str().is_some_and(|text| text.contains("missing field")), "{error}");
        assert!(matches!(client.join("/", json!({ "name": "ann" })), Heard::Joined { .. }));
    }
    assert_eq!(io.metrics().connects_refused(), 2 * SOCKET_IO.len() as u64);
}

#[test]
fn defaults_auth_to_empty_object() {
    let (told, ear) = ear();
    let io = Io::new();
    io.on_connect(move |Auth(shown): Auth<Value>| {
        let _ = told.send(shown);
        async {}
    });
    let server = serve(&io);
    for kind in ALL {
        let _client = Client::connect(kind, &server.dial);
        assert_eq!(ear.next(), json!({}));
    }
}

#[test]
fn failed_middleware_rejects_and_stops_chain() {
    let log = Log::default();
    let io = Io::new();
    let later = log.clone();
    io.main()
        .middleware(async |socket: Socket| {
            let kind = socket.handshake().query_value("outcome");
            match kind.as_deref() {
                Some("error") => Err("no"),
                Some("panic") => std::panic::resume_unwind(Box::new("a secret")),
                Some("late-panic") => {
                    tokio::task::yield_now().await;
                    std::panic::resume_unwind(Box::new("a secret"))
                }
                _ => Ok(()),
            }
        })
        .middleware(move |socket: Socket| {
            later.write(socket.handshake().query_value("outcome"));
            async {}
        });
    let server = serve(&io);
    for (outcome, message) in [("error", "no"), ("panic", "internal error"), ("late-panic", "internal error")]
    {
        let mut engine = crate::support::engine::Engine::websocket_with(
            &server.dial,
            "/socket.io/",
            &format!("&outcome={outcome}"),
        );
        engine.send("0".into());
        let error = format!(r#"4{{"message":"{message}"}}"#);
        assert_eq!(engine.receive(), Ok(error.into()));
    }
    assert_eq!(log.read(), []);
    assert_eq!((io.metrics().connects_refused(), io.metrics().handlers_panicked()), (1, 2));
    assert_eq!(io.metrics().handlers_failed(), 0, "a rejection is no failure");
    assert_eq!(io.emit("anybody", ()).expect("a valid name").queued, 0);
}

#[test]
fn closes_rejected_plain_clients_with_reason() {
    let io = Io::new();
    io.main().middleware(async || Err::<(), _>(ConnectError::new("full").with_data(&7)));
    let server = serve(&io);

    let mut client = Client::open(Kind::Json, &server.dial);
    assert_eq!(client.hear(), refused("/", json!({ "message": "full", "data": 7 })));
    assert_eq!(client.end(), Ended { code: Some(4403), reason: "full".into() });

    let mut client = Client::open(Kind::Plain, &server.dial);
    assert_eq!(client.end(), Ended { code: Some(4403), reason: "full".into() });
    until(|| io.client_count() == 0);
    assert_eq!(io.metrics().protocol_errors(), 0, "a rejection is no protocol error");
}

#[test]
fn queues_events_until_connected_in_order() {
    let gate = Gate::closed();
    let log = Log::default();
    let io = Io::new();
    let (door, connected, events) = (gate.clone(), log.clone(), log.clone());
    io.main().middleware(async || {});
    io.main().middleware(move || {
        let door = door.clone();
        async move { door.pass().await }
    });
    io.on_connect(move |socket: Socket| {
        connected.write("connected".to_owned());
        async move { socket.emit("welcome", ()).map(drop) }
    });
    io.on("message", move |socket: Socket, text: String| {
        events.write(text.clone());
        async move { socket.emit("said", text).map(drop) }
    });
    let server = serve(&io);
    let mut clients: Vec<_> = ALL.iter().map(|kind| Client::open(*kind, &server.dial)).collect();
    for client in &mut clients {
        client.send_connect(json!(null));
        client.emit("message", json!(["1"]));
        let said = |text| ClientMessage { namespace: "/", ack: None, name: "message", args: json!([text]) };
        client.emit_all(vec![said("2"), said("3")]);
        client.sync();
    }
    assert_eq!(log.read(), [""; 0]);
    // No client is connected yet, so this event has no recipient.
    assert_eq!(io.emit("too early", ()).expect("a valid name").queued, 0);
    for admitted in 1..=clients.len() {
        gate.let_one_pass();
        until(|| log.read().len() == 4 * admitted);
        assert_eq!(log.read()[4 * (admitted - 1)..], ["connected", "1", "2", "3"]);
    }
    for client in &mut clients {
        client.expect_connected();
        client.expect("welcome", json!([]));
        ["1", "2", "3"].iter().for_each(|text| client.expect("said", json!([text])));
    }
}

#[test]
fn pauses_reading_before_connect_completes() {
    let (io, log, gate) = (Io::new(), Log::default(), Gate::closed());
    let (door, events) = (gate.clone(), log.clone());
    io.main().middleware(move || {
        let door = door.clone();
        async move { door.pass().await }
    });
    io.on("message", move |text: String| {
        events.write(text[..1].to_owned());
        async {}
    });
    let server = serve(&io);
    for (round, kind) in (1..).zip([Kind::WebSocket, Kind::Json, Kind::Plain]) {
        let mut client = Client::open(kind, &server.dial);
        client.send_connect(json!(null));
        let text = "x".repeat(64 * 1024);
        for number in 0..9 {
            client.emit("message", json!([format!("{number}{text}")]));
        }
        gate.let_one_pass();
        until(|| log.read().len() == 9 * round);
        assert_eq!(log.read()[9 * (round - 1)..].concat(), "012345678", "{kind:?}");
    }
    assert_eq!(io.metrics().overloaded(), 0);
}

/// Starts a server whose connect middleware waits for the test, and records its calls, connects and disconnects.
fn with_door() -> (Io, Gate, Recorder<&'static str>) {
    let (told, ear) = ear();
    let gate = Gate::closed();
    let io = Io::new();
    let (door, asked) = (gate.clone(), told.clone());
    io.main().middleware(move |socket: Socket| {
        let (door, told) = (door.clone(), asked.clone());
        async move {
            let _ = told.send("asked");
            // A pending socket cannot be disconnected.
            socket.disconnect();
            door.pass().await;
            let _ = told.send("answered");
        }
    });
    let tell = |what: &'static str| {
        let told = told.clone();
        move || {
            let _ = told.send(what);
            async {}
        }
    };
    io.on_connect(tell("in")).on_disconnect(tell("out"));
    (io, gate, ear)
}

#[test]
fn drops_pending_connect_of_gone_client() {
    let (io, gate, ear) = with_door();
    let server = serve(&io);
    for kind in ALL {
        let mut client = Client::open(kind, &server.dial);
        client.send_connect(json!(null));
        assert_eq!(ear.next(), "asked");
        client.close();
        until(|| io.client_count() == 0);
    }
    // The middleware was dropped with its client.
    gate.open();
    assert_eq!(io.emit("anybody", ()).expect("a valid name").queued, 0);
    assert_eq!(ear.all(), [""; 0]);
}

#[test]
fn leaving_during_connect_allows_rejoin() {
    let (io, gate, ear) = with_door();
    io.on("in?", async |ack: Ack| ack.send("yes").map(drop));
    let server = serve(&io);
    for kind in SOCKET_IO {
        let mut client = Client::open(kind, &server.dial);
        client.send_connect(json!(null));
        client.leave("/");
        client.send_connect(json!(null));
        client.sync();
        assert_eq!(ear.all(), ["asked"]);
        gate.let_one_pass();
        client.expect_connected();
        assert_eq!(ear.take(4), ["answered", "in", "out", "asked"]);
        assert_eq!(io.emit("anybody", ()).expect("a valid name").queued, 0);
        gate.let_one_pass();
        client.expect_connected();
        assert_eq!(ear.take(2), ["answered", "in"]);
        assert_eq!(client.ask("in?", json!([])), json!(["yes"]));
        client.close();
        assert_eq!(ear.next(), "out");
    }
}

#[test]
fn keeps_rooms_joined_by_middleware() {
    let (told, ear) = ear();
    let (hooked, hook) = crate::support::recorder::ear();
    let io = Io::new();
    io.on_join_room(move |room: &Room, _: &SocketId| {
        let _ = hooked.send(room.as_str().to_owned());
    });
    io.main().middleware(move |socket: Socket| {
        let joined = socket.join(["room", "left", "room"]);
        let left = (socket.leave("left"), socket.leave("left"));
        let _ = told.send((joined, left, socket.rooms(), socket.is_connected(), socket.io().count("room")));
        async {}
    });
    io.on("in", async |socket: Socket, ack: Ack| {
        let rooms = socket.rooms();
        ack.send((rooms.len(), rooms.contains(&Room::from("room")))).map(drop)
    });
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        assert_eq!(ear.next(), (true, (true, false), vec![Room::from("room")], false, 0));
        assert_eq!(client.ask("in", json!([])), json!([2, true]));
        assert_eq!(io.count("room"), 1);
        assert!(hook.all().iter().any(|room| room == "room"));
        client.close();
        until(|| io.count("room") == 0);
    }
    assert!(!hook.all().iter().any(|room| room == "left"));
}

#[test]
fn rejected_client_joins_no_room() {
    let (told, ear) = ear();
    let (hooked, hook) = crate::support::recorder::ear();
    let gate = Gate::closed();
    let io = Io::builder().config(Config::new().limits(|limits| limits.max_rooms(2))).build();
    io.on_join_room(move |room: &Room, _: &SocketId| {
        let _ = hooked.send(room.as_str().to_owned());
    });
    let door = gate.clone();
    io.main()
        .middleware(move |socket: Socket| {
            let joined = (socket.join(["one", "two"]), socket.join("three"));
            let _ = told.send((joined, socket));
            async {}
        })
        .middleware(async |Auth(shown): Auth<Value>| if shown["refuse"] == true { Err("no") } else { Ok(()) })
        .middleware(move |_: Socket| {
            let door = door.clone();
            async move { door.pass().await }
        });
    let server = serve(&io);
    for kind in SOCKET_IO {
        for leaves in [false, true] {
            let mut client = Client::open(kind, &server.dial);
            client.send_connect(json!({ "refuse": !leaves }));
            let (joined, socket) = ear.next();
            assert_eq!(joined, (true, false), "joins up to the limit");
            if leaves {
                client.close();
            }
            until(|| socket.rooms().is_empty());
            assert!(!socket.join("one"));
            assert_eq!((socket.rooms().len(), io.count("one")), (0, 0));
        }
    }
    assert_eq!(hook.all(), [""; 0], "no client connected");
}

#[test]
fn event_middleware_rewrites_name_and_arguments() {
    let io = Io::new();
    io.event_middleware(async |EventName(name): EventName, event: EventRewrite| {
        if &*name == "old" {
            event.set_name("new").set_args((&1, &"two"))?;
        }
        Ok::<_, ArgsError>(())
    });
    io.event_middleware(async |EventName(name): EventName, args: Args, event: EventRewrite| {
        tokio::task::yield_now().await;
        if &*name == "new" {
            event.set_args((&args.json().to_string(), &"three"))?;
        }
        Ok::<_, ArgsError>(())
    });
    for name in ["old", "new", "other"] {
        io.on(name, move |ack: Ack, args: Args| {
            let _ = ack.send((&name, &args.json().to_string()));
            async {}
        });
    }
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        assert_eq!(client.ask("other", json!([7])), json!(["other", "7"]));
        let rewritten = format!("{},\"three\"", json!("1,\"two\""));
        assert_eq!(client.ask("old", json!([0])), json!(["new", rewritten]));
    }
}

#[test]
fn late_rewrite_changes_nothing() {
    let kept: Arc<Mutex<Option<EventRewrite>>> = Arc::default();
    let (told, ear) = ear();
    let io = Io::new();
    io.event_middleware(move |event: EventRewrite| {
        let before = kept.lock().expect("not poisoned").replace(event);
        before.into_iter().for_each(|late| _ = late.set_name("late"));
        async {}
    });
    io.on("echo", async |ack: Ack| ack.send("echo").map(drop));
    io.on("handler", async |_: EventRewrite| {});
    io.on_error(move |error: EventError| {
        let _ = told.send(error.to_string());
        async {}
    });
    let server = serve(&io);
    let mut client = Client::connect(Kind::Polling, &server.dial);
    for _ in 0..3 {
        assert_eq!(client.ask("echo", json!([])), json!(["echo"]));
    }
    client.emit("handler", json!([]));
    let error = ear.next();
    assert!(error.contains("event_middleware"), "{error}");
}

#[test]
fn runs_middleware_per_namespace() {
    let io = Io::builder()
        .config(Config::new())
        .endpoint(Endpoint::socket_io())
        .endpoint(Endpoint::plain("/ws").in_namespace("/closed"))
        .build();
    io.of("/closed").middleware(async || Err::<(), _>("closed"));
    let server = serve(&io);
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    assert_eq!(client.join("/closed", json!(null)), refused("/closed", json!({ "message": "closed" })));
    assert!(matches!(client.join("/", json!(null)), Heard::Ended(_)), "joined already");
    let mut client = Client::open(Kind::Plain, &server.dial);
    client.end();
}

/// Signals when it is dropped.
struct Dropped(std::sync::mpsc::SyncSender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[test]
fn cancels_middleware_on_disconnect_or_timeout() {
    let (told, heard) = std::sync::mpsc::sync_channel(16);
    let endless = move || {
        // Signals once at its start and once on drop.
        let _ = told.send(());
        let guard = Dropped(told.clone());
        async move {
            std::future::pending::<()>().await;
            drop(guard);
        }
    };
    let asks = endless.clone();
    let serving = |timeout| {
        let io = Io::builder()
            .config(Config::new().timeouts(|timeouts| timeouts.connect_timeout(timeout)))
            .build();
        io.middleware(endless.clone());
        let asks = asks.clone();
        io.of_when(move |_| {
            let asked = asks();
            async move {
                asked.await;
                true
            }
        });
        let server = serve(&io);
        (io, server)
    };
    let patience = std::time::Duration::from_secs(20);
    // The client disconnects.
    let (io, server) = serving(std::time::Duration::from_secs(600));
    for kind in ALL {
        let mut client = Client::open(kind, &server.dial);
        client.send_connect(json!(null));
        if SOCKET_IO.contains(&kind) {
            client.send_connect_to("/on-demand", json!(null));
        }
        let middlewares = if SOCKET_IO.contains(&kind) { 2 } else { 1 };
        (0..middlewares).for_each(|_| heard.recv_timeout(patience).expect("begun"));
        assert!(heard.try_recv().is_err(), "the middleware is pending");
        drop(client);
        if kind == Kind::Polling {
            io.close();
        }
        (0..middlewares).for_each(|_| heard.recv_timeout(patience).expect("dropped"));
        until(|| io.client_count() == 0);
    }
    // The connect timeout expires.
    let (_io, server) = serving(std::time::Duration::from_millis(300));
    let mut client = Client::open(Kind::Json, &server.dial);
    assert_eq!(client.hear(), refused("/", json!({ "message": "Connect timeout" })));
    (0..2).for_each(|_| heard.recv_timeout(patience).expect("begun, and dropped"));
    assert_eq!(client.end(), Ended { code: Some(4403), reason: "Connect timeout".into() });
}
