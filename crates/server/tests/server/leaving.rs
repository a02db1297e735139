//! Server-side disconnects, and handlers that still run for sockets that have left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use roomcast_server::emit::Receipt;
use roomcast_server::rooms::Room;
use roomcast_server::socket::{CloseReason, SocketId};
use roomcast_server::{Config, EmitError, Io, Socket};
use serde_json::json;

use crate::support::client::{ACK_KINDS, ALL, Client, ClientMessage, Heard, Kind, SOCKET_IO};
use crate::support::recorder::{Gate, Recorder, arrivals, ear};
use crate::support::serve::{serve, until};

fn reasons(io: &Io) -> Recorder<CloseReason> {
    let (told, reasons) = ear();
    io.on_disconnect(move |reason: CloseReason| _ = told.send(reason));
    reasons
}

/// State that a handler sees after disconnecting its socket.
#[derive(Debug, PartialEq)]
struct Seen {
    count: usize,
    rooms: Vec<Room>,
    /// Whether an emit to the socket itself failed.
    refused: bool,
    room: Receipt,
    connected: bool,
    joins: bool,
}

fn see(socket: &Socket) -> Seen {
    Seen {
        count: socket.namespace().count("red"),
        refused: matches!(socket.emit("late", ()), Err(EmitError::Disconnected)),
        room: socket.namespace().to("red").emit("late", ()).expect("a valid name"),
        connected: socket.is_connected(),
        joins: socket.join("blue"),
        rooms: socket.rooms(),
    }
}

#[test]
fn disconnect_takes_effect_before_it_returns() {
    let io = Io::new();
    let (told, seen) = ear();
    io.on_connect(|socket: &Socket| _ = socket.join("red"));
    io.on("go", move |socket: &Socket, how: String| {
        match how.as_str() {
            "one" => socket.disconnect(),
            "client" => socket.disconnect_client(),
            "all" => assert_eq!(socket.namespace().disconnect(), 1),
            _ => assert_eq!(socket.namespace().to("red").disconnect_client(), 1),
        }
        let _ = told.send(see(socket));
    });
    let reasons = reasons(&io);
    let server = serve(&io);
    for kind in ACK_KINDS {
        for how in ["one", "client", "all", "all clients"] {
            let mut client = Client::connect(kind, &server.dial);
            client.emit("go", json!([how]));
            let room = Receipt::default();
            let expected =
                Seen { count: 0, rooms: vec![], refused: true, room, connected: false, joins: false };
            assert_eq!(seen.next(), expected, "{kind:?} {how}");
            assert_eq!(reasons.next(), CloseReason::ServerNamespaceDisconnect, "{kind:?} {how}");
            if SOCKET_IO.contains(&kind) {
                assert_eq!(client.hear(), Heard::Left { namespace: "/".into() }, "{kind:?} {how}");
            } else {
                client.end();
            }
        }
    }
}

#[test]
fn disconnecting_client_empties_all_namespaces() {
    let io = Io::new();
    let chat = io.of("/chat");
    let (told, counts) = ear();
    let counted = chat.clone();
    io.on("go", move |socket: &Socket| {
        socket.disconnect_client();
        let _ = told.send((counted.sockets().len(), counted.emit("late", ()).expect("a valid name").queued));
    });
    let server = serve(&io);
    for kind in SOCKET_IO {
        let mut client = Client::connect(kind, &server.dial);
        client.join("/chat", json!(null));
        client.emit("go", json!([]));
        assert_eq!(counts.next(), (0, 0), "{kind:?}");
        let mut left = [client.hear(), client.hear()].map(|heard| match heard {
            Heard::Left { namespace } => namespace,
            other => panic!("{kind:?}: {other:?}"),
        });
        left.sort();
        assert_eq!(left, ["/", "/chat"]);
    }
}

#[test]
fn disconnecting_handlers_see_previous_rooms() {
    let io = Io::new();
    let (told, rooms) = ear();
    io.on_disconnecting(move |socket: &Socket| {
        let mut rooms: Vec<_> = socket.rooms().iter().skip(1).map(|room| room.to_string()).collect();
        rooms.sort();
        let _ = told.send(rooms);
    });
    let sockets = arrivals(&io);
    let server = serve(&io);
    let ends: [fn(&Socket, Client); 3] =
        [|socket, _| socket.disconnect(), |socket, _| socket.disconnect_client(), |_, client| drop(client)];
    for end in ends {
        let client = Client::connect(Kind::WebSocket, &server.dial);
        let socket = sockets.next();
        socket.join(["red", "blue"]);
        end(&socket, client);
        assert_eq!(rooms.next(), ["blue", "red"]);
        until(|| io.client_count() == 0);
        assert_eq!(socket.rooms(), []);
    }
}

#[test]
fn join_hooks_may_use_new_socket() {
    let io = Io::new();
    let (told, seen) = ear();
    let all = io.clone();
    io.on_join_room(move |room, id| {
        if room.as_str() == id.as_str() {
            let socket = all.socket(id).expect("a connected socket");
            let reached = socket.broadcast().emit("newcomer", id.as_str()).expect("a valid name").queued;
            let _ = told.send((socket.is_connected(), socket.join("hall"), reached));
            socket.emit("welcome", ()).expect("a valid name");
        }
    });
    let server = serve(&io);
    for kind in ALL {
        let mut client = Client::connect(kind, &server.dial);
        assert_eq!(seen.next(), (true, true, 0), "{kind:?}");
        assert_eq!(io.count("hall"), 1);
        client.expect("welcome", json!([]));
        client.close();
        until(|| io.client_count() == 0);
    }
}

#[test]
fn join_hooks_may_disconnect_new_socket() {
    let io = Io::new();
    let (told, seen) = ear();
    let all = io.clone();
    io.on_join_room(move |_, id: &SocketId| {
        let socket = all.socket(id).expect("a connected socket");
        socket.disconnect();
        let _ = told.send((all.count(id), socket.is_connected()));
    });
    let (connects, connected) = ear();
    io.on_connect(move || _ = connects.send(()));
    let reasons = reasons(&io);
    let server = serve(&io);
    for kind in SOCKET_IO {
        let mut client = Client::connect(kind, &server.dial);
        assert_eq!(seen.next(), (0, false), "{kind:?}");
        assert_eq!(client.hear(), Heard::Left { namespace: "/".into() });
        // A socket with a `connect` event also gets a `disconnect` event.
        connected.next();
        assert_eq!(reasons.next(), CloseReason::ServerNamespaceDisconnect);
        assert_eq!(io.sockets().len(), 0);
    }
}

/// A client that has read its welcome misses no broadcast, even if another thread writes while it connects.
#[test]
#[expect(clippy::disallowed_methods, reason = "the hook blocks so that other threads run first")]
fn sends_welcome_after_attaching_socket() {
    let io = Io::new();
    let large = "x".repeat(100_000);
    let (is_in, all) = (Arc::new(AtomicBool::new(false)), io.clone());
    let (entered, text) = (is_in.clone(), large.clone());
    io.on_join_room(move |_, _: &SocketId| {
        // Large enough that the emitting thread writes it, and with it everything queued before it.
        let _ = all.emit("early", &text);
        let _ = all.emit("early", &text);
        std::thread::sleep(Duration::from_millis(50));
        entered.store(true, Ordering::SeqCst);
    });
    let server = serve(&io);
    for kind in [Kind::Polling, Kind::WebSocket, Kind::Upgraded, Kind::Json] {
        is_in.store(false, Ordering::SeqCst);
        let mut client = Client::connect(kind, &server.dial);
        assert!(is_in.load(Ordering::SeqCst), "{kind:?}");
        (0..2).for_each(|_| client.expect("early", json!([large])));
        client.close();
        until(|| io.client_count() == 0);
    }
}

fn message(number: u32) -> ClientMessage<'static> {
    ClientMessage { namespace: "/", ack: None, name: "message", args: json!([number.to_string()]) }
}

#[test]
fn waiting_events_outlive_their_client() {
    for serial in [true, false] {
        let max_handlers = if serial { 64 } else { 1 };
        let io =
            Io::builder().config(Config::new().limits(|limits| limits.max_handlers(max_handlers))).build();
        io.main().serial(serial);
        let gate = Gate::closed();
        let (told, heard) = ear();
        let passes = gate.clone();
        let running: &AtomicUsize = Box::leak(Box::default());
        io.on("message", move |text: String| {
            let (told, passes) = (told.clone(), passes.clone());
            async move {
                assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "handlers overlap");
                passes.pass().await;
                running.fetch_sub(1, Ordering::SeqCst);
                let _ = told.send(text);
            }
        });
        let reasons = reasons(&io);
        let server = serve(&io);
        for kind in ALL {
            for leaves in [true, false] {
                if leaves && !SOCKET_IO.contains(&kind) {
                    continue;
                }
                let mut client = Client::connect(kind, &server.dial);
                client.emit_all((0..4).map(message).collect());
                client.sync();
                if leaves {
                    client.leave("/");
                } else if kind == Kind::Polling {
                    client.engine().send_packets(vec!["1".into()]);
                } else {
                    drop(client);
                }
                reasons.next();
                assert_eq!(heard.all(), [""; 0]);
                (0..4).for_each(|_| gate.let_one_pass());
                assert_eq!(heard.take(4), ["0", "1", "2", "3"], "{kind:?}");
            }
        }
        assert_eq!(io.metrics().handlers_panicked(), 0);
    }
}

#[test]
fn waiting_events_keep_socket_handlers() {
    let io = Io::new();
    io.main().serial(true);
    let gate = Gate::closed();
    let (told, heard) = ear();
    let passes = gate.clone();
    io.on_connect(move |socket: &Socket| {
        let (told, passes) = (told.clone(), passes.clone());
        socket.on("message", move |socket: Socket, text: String| {
            let (told, passes) = (told.clone(), passes.clone());
            async move {
                passes.pass().await;
                // Handlers may look up listeners by name.
                let _ = told.send((text, socket.listeners("message").len()));
            }
        });
    });
    let reasons = reasons(&io);
    let server = serve(&io);
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    client.emit_all((0..3).map(message).collect());
    client.sync();
    drop(client);
    reasons.next();
    gate.open();
    assert_eq!(heard.take(3), [0, 1, 2].map(|number: u32| (number.to_string(), 1)));
}

#[test]
fn disconnect_drops_waiting_events() {
    let io = Io::new();
    io.main().serial(true);
    let gate = Gate::closed();
    let (told, heard) = ear();
    let passes = gate.clone();
    io.on("message", move |text: String| {
        let (told, passes) = (told.clone(), passes.clone());
        async move {
            passes.pass().await;
            let _ = told.send(text);
        }
    });
    let sockets = arrivals(&io);
    let reasons = reasons(&io);
    let server = serve(&io);
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    client.emit_all((0..3).map(message).collect());
    client.sync();
    sockets.next().disconnect();
    assert_eq!(reasons.next(), CloseReason::ServerNamespaceDisconnect);
    gate.open();
    assert_eq!(heard.next(), "0");
    client.sync();
    assert_eq!(heard.all(), [""; 0]);
}
