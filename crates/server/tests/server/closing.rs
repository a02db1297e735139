//! How clients, sockets and servers close.

use std::time::Duration;

use roomcast_server::emit::Receipt;
use roomcast_server::server::Drain;
use roomcast_server::socket::CloseReason;
use roomcast_server::{Ack, Config, EmitError, Io, Socket};
use serde_json::json;

use crate::support::client::{ACK_KINDS, ALL, Client, ClientMessage, Heard, Kind, SOCKET_IO};
use crate::support::recorder::{Gate, Recorder, ear};
use crate::support::serve::{On, Running, serve, serve_on, until};

/// State seen by the `disconnecting` and `disconnect` handlers.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    handler: &'static str,
    reason: CloseReason,
    rooms: Vec<String>,
    members: usize,
    joined: bool,
}

/// Starts a server whose sockets join a room and that records connects and disconnects.
fn open() -> (Io, Running, Recorder<Socket>, Recorder<Seen>) {
    let (sockets, socket_ear) = ear();
    let (seen, seen_ear) = ear();
    let io = Io::new();
    io.on_connect(move |socket: Socket| {
        assert!(socket.join("room"));
        let _ = sockets.send(socket);
        async {}
    });
    let tell = move |handler: &'static str| {
        let seen = seen.clone();
        move |socket: Socket, reason: CloseReason| {
            let mut rooms: Vec<_> = socket.rooms().iter().map(ToString::to_string).collect();
            rooms
                .iter_mut()
                .filter(|room| **room == *socket.id().as_str())
                .for_each(|room| *room = "own".into());
            let members = socket.io().count("room");
            let joined = socket.join("late");
            let _ = seen.send(Seen { handler, reason, rooms, members, joined });
            async {}
        }
    };
    io.main().on_disconnecting(tell("disconnecting"));
    io.on_disconnect(tell("disconnect"));
    io.on("echo", async |ack: Ack, text: String| ack.send(text).map(drop));
    let server = serve(&io);
    (io, server, socket_ear, seen_ear)
}

#[track_caller]
fn saw(seen: &Recorder<Seen>, reason: CloseReason) {
    let rooms = vec!["own".to_owned(), "room".to_owned()];
    // A socket disconnected by the server has already left its rooms, but still lists them.
    let is_in = reason != CloseReason::ServerNamespaceDisconnect;
    let members = usize::from(is_in);
    let before = Seen { handler: "disconnecting", reason, rooms, members, joined: is_in };
    let after = Seen { handler: "disconnect", reason, rooms: vec![], members: 0, joined: false };
    assert_eq!(seen.take(2), [before, after]);
}

#[test]
fn keeps_rooms_until_disconnect_handler() {
    let (io, server, _sockets, seen) = open();
    for kind in ALL {
        Client::connect(kind, &server.dial).close();
        saw(&seen, CloseReason::TransportClose);
    }
    for kind in [Kind::WebSocket, Kind::Upgraded, Kind::Json, Kind::Plain] {
        // Drops the connection without a close, as a crashed client does.
        drop(Client::connect(kind, &server.dial));
        let Seen { reason, .. } = seen.next();
        assert!(matches!(reason, CloseReason::TransportClose | CloseReason::TransportError), "{reason:?}");
        seen.next();
    }
    until(|| io.client_count() == 0);
    assert_eq!((io.count("room"), io.count("late"), io.metrics().protocol_errors()), (0, 0, 0));
}

#[test]
fn client_rejoins_namespace_after_leaving() {
    let (io, server, sockets, seen) = open();
    for kind in SOCKET_IO {
        let mut client = Client::connect(kind, &server.dial);
        let first = sockets.next();
        client.leave("/");
        saw(&seen, CloseReason::ClientNamespaceDisconnect);
        assert_eq!((first.is_connected(), first.rooms(), first.join("room")), (false, vec![], false));
        assert!(matches!(client.join("/", json!(null)), Heard::Joined { .. }));
        let second = sockets.next();
        assert_ne!(first.id(), second.id());
        // The client is connected, but emits to its first socket reach no recipient.
        assert!(matches!(first.emit("late", ()), Err(EmitError::Disconnected)));
        assert!(matches!(first.volatile().emit("late", ()), Err(EmitError::Disconnected)));
        assert_eq!(first.io().to(first.id()).emit("late", ()).expect("a valid name"), Receipt::default());
        first.disconnect();
        client.sync();
        assert_eq!(client.ask("echo", json!(["x"])), json!(["x"]));
        assert!(second.is_connected());
        client.close();
        saw(&seen, CloseReason::TransportClose);
    }
    assert_eq!(io.count("late"), 0);
}

#[test]
fn disconnects_socket_from_namespace() {
    let (_io, server, sockets, seen) = open();
    for kind in ALL {
        let mut client = Client::connect(kind, &server.dial);
        let socket = sockets.next();
        socket.emit("last words", ()).expect("a valid name");
        socket.disconnect();
        saw(&seen, CloseReason::ServerNamespaceDisconnect);
        client.expect("last words", json!([]));
        if SOCKET_IO.contains(&kind) {
            // The connection stays open, and the client may rejoin.
            assert_eq!(client.hear(), Heard::Left { namespace: "/".into() });
            assert!(matches!(client.join("/", json!(null)), Heard::Joined { .. }));
            sockets.next().disconnect_client();
            saw(&seen, CloseReason::ServerNamespaceDisconnect);
        } else {
            assert_eq!(client.end().code, Some(1000), "{kind:?}");
        }
    }
}

#[test]
fn disconnect_client_flushes_pending_events() {
    let (io, server, sockets, seen) = open();
    for kind in ALL {
        let mut client = Client::connect(kind, &server.dial);
        let socket = sockets.next();
        socket.emit("last words", ()).expect("a valid name");
        socket.disconnect_client();
        saw(&seen, CloseReason::ServerNamespaceDisconnect);
        assert!(matches!(socket.emit("late", ()), Err(EmitError::Disconnected)));
        client.expect("last words", json!([]));
        if SOCKET_IO.contains(&kind) {
            assert_eq!(client.hear(), Heard::Left { namespace: "/".into() }, "{kind:?}");
        }
        client.end();
        until(|| io.client_count() == 0);
    }
}

#[test]
fn closes_connections_without_disconnect_packets() {
    let (io, server, sockets, seen) = open();
    let mut clients: Vec<_> = ALL.iter().map(|kind| Client::connect(*kind, &server.dial)).collect();
    sockets.take(clients.len());
    io.emit("last words", ()).expect("a valid name");
    for client in &mut clients {
        client.expect("last words", json!([]));
        if client.kind == Kind::Polling {
            client.engine().start_get();
            client.sync();
        }
    }
    io.close();
    for client in &mut clients {
        // A `Left` would keep a Socket.IO client from reconnecting.
        let ended = client.end();
        if client.kind != Kind::Polling {
            assert_eq!((ended.code, ended.reason.as_str()), (Some(1001), "server shutting down"));
        }
    }
    assert!(seen.take(2 * clients.len()).iter().all(|seen| seen.reason == CloseReason::ServerShutdown));
    until(|| io.client_count() == 0);
    // Clients may reconnect.
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    assert_eq!(client.ask("echo", json!(["x"])), json!(["x"]));
}

#[test]
fn runs_handlers_to_completion_after_disconnect() {
    for on in [On::CurrentThread, On::Workers(2)] {
        let (told, ear) = ear();
        let gate = Gate::closed();
        let io = Io::new();
        let waiting = |name: &'static str| {
            let (gate, told) = (gate.clone(), told.clone());
            move |socket: Socket, ack: Ack| {
                let (gate, told) = (gate.clone(), told.clone());
                async move {
                    let _ = told.send((name, true, false));
                    gate.pass().await;
                    tokio::task::yield_now().await;
                    let _ = told.send((name, socket.is_connected(), matches!(ack.send("late"), Ok(true))));
                    Ok::<_, EmitError>(())
                }
            }
        };
        io.on("message", waiting("message")).on_disconnect(waiting("disconnect"));
        let server = serve_on(&io, on);
        for (ends, kind) in
            [(true, Kind::Polling), (false, Kind::Polling), (true, Kind::Json), (false, Kind::WebSocket)]
        {
            let mut client = Client::connect(kind, &server.dial);
            client.say(ClientMessage { namespace: "/", ack: Some(1), name: "message", args: json!([]) });
            assert_eq!(ear.next().0, "message");
            if ends {
                client.close();
            } else {
                io.close();
            }
            assert_eq!(ear.next().0, "disconnect");
            gate.let_one_pass();
            gate.let_one_pass();
            let mut ended = ear.take(2);
            ended.sort();
            assert_eq!(ended, [("disconnect", false, false), ("message", false, false)], "{on:?} {kind:?}");
        }
    }
}

#[test]
fn runs_handlers_while_close_is_undelivered() {
    let (told, ear) = ear();
    let gate = Gate::closed();
    let io = Io::new();
    let door = gate.clone();
    io.on("message", move |socket: Socket| {
        let (gate, told) = (door.clone(), told.clone());
        async move {
            socket.disconnect_client();
            gate.pass().await;
            let _ = told.send(());
        }
    });
    let server = serve(&io);
    // No poll is waiting, so the session lingers to deliver its close.
    let mut client = Client::connect(Kind::Polling, &server.dial);
    client.emit("message", json!([]));
    client.sync();
    until(|| io.count("anybody") == 0 && io.emit("gone", ()).expect("a valid name") == Receipt::default());
    gate.open();
    ear.next();
    assert_eq!(io.client_count(), 1);
    assert_eq!(client.hear(), Heard::Left { namespace: "/".into() });
    client.end();
}

#[test]
fn fails_ack_after_leaving_namespace() {
    let (told, ear) = ear();
    let gate = Gate::closed();
    let io = Io::new();
    let door = gate.clone();
    io.of("/room").on("slow", move |ack: Ack| {
        let (gate, told) = (door.clone(), told.clone());
        async move {
            gate.pass().await;
            let _ = told.send(ack.send("too late"));
        }
    });
    io.on("echo", async |ack: Ack| ack.send(()).map(drop));
    let server = serve(&io);
    for kind in SOCKET_IO {
        let mut client = Client::connect(kind, &server.dial);
        assert!(matches!(client.join("/room", json!(null)), Heard::Joined { .. }));
        client.say(ClientMessage { namespace: "/room", ack: Some(1), name: "slow", args: json!([]) });
        client.leave("/room");
        client.sync();
        gate.let_one_pass();
        let outcome = ear.next();
        assert!(matches!(outcome, Err(EmitError::Disconnected)), "{outcome:?}");
        assert_eq!(client.ask("echo", json!([])), json!([]));
    }
}

#[test]
fn removes_sessions_when_runtime_ends() {
    for on in [On::CurrentThread, On::Workers(2)] {
        let io = Io::new();
        let server = serve_on(&io, on);
        let mut clients: Vec<_> = ACK_KINDS.iter().map(|kind| Client::connect(*kind, &server.dial)).collect();
        clients.push(Client::connect(Kind::Plain, &server.dial));
        assert_eq!((io.client_count(), io.emit("hello", ()).expect("a valid name").queued), (5, 5));
        server.end_at_once();
        until(|| io.client_count() == 0);
        assert_eq!(io.emit("anybody", ()).expect("a valid name"), Receipt::default());
        for client in &mut clients {
            if client.kind != Kind::Polling {
                // `hello` may or may not have been sent.
                while !matches!(client.hear(), Heard::Ended(_)) {}
            }
        }
    }
}

#[test]
fn drops_events_after_server_disconnect() {
    for close in [false, true] {
        let io = Io::new();
        io.on("message", move |socket: Socket| {
            if close {
                socket.disconnect_client()
            } else {
                socket.disconnect()
            }
            assert!(!socket.is_connected());
            async {}
        });
        let (told, next) = ear();
        io.on("next", move || {
            let _ = told.send(());
            async {}
        });
        let server = serve(&io);
        for kind in ACK_KINDS {
            let mut client = Client::connect(kind, &server.dial);
            let said = |name| ClientMessage { namespace: "/", ack: None, name, args: json!([]) };
            client.emit_all(vec![said("message"), said("next"), said("next")]);
            if matches!(client.hear(), Heard::Left { .. }) && !close {
                client.sync();
            }
            assert_eq!(next.all(), [], "{kind:?}, {close}");
        }
    }
}

#[test]
fn accepts_maximum_timeouts() {
    let ages = Config::new().timeouts(|timeouts| {
        timeouts
            .close_timeout(Duration::MAX)
            .connect_timeout(Duration::MAX)
            .upgrade_timeout(Duration::MAX)
            .attachment_timeout(Duration::MAX)
            // The longest timeout that clients support.
            .ping_interval(Duration::from_millis((1 << 31) - 2))
            .ping_timeout(Duration::from_millis(1))
    });
    let io = Io::builder().config(ages).build();
    let (told, ends) = ear();
    io.on_disconnect(move |reason: CloseReason| {
        let _ = told.send(reason);
        async {}
    });
    io.on("message", async |socket: Socket| socket.disconnect_client());
    let server = serve(&io);
    for kind in ALL {
        Client::connect(kind, &server.dial).close();
        assert_eq!(ends.next(), CloseReason::TransportClose, "{kind:?}");
        let mut client = Client::connect(kind, &server.dial);
        client.emit("message", json!(["bye"]));
        while !matches!(client.hear(), Heard::Ended(_)) {}
        assert_eq!(ends.next(), CloseReason::ServerNamespaceDisconnect, "{kind:?}");
    }
}

#[test]
fn absent_poller_does_not_delay_drain() {
    let io = Io::builder()
        .config(Config::new().timeouts(|timeouts| timeouts.close_timeout(Duration::from_millis(200))))
        .build();
    let (sockets, arrived) = ear();
    io.on_connect(move |socket: Socket| {
        let _ = sockets.send(socket);
        async {}
    });
    let server = serve(&io);
    let _absent = Client::connect(Kind::Polling, &server.dial);
    arrived.next().disconnect_client();
    let drain = Drain::default().timeout(Duration::from_secs(60));
    // Otherwise the session lingers for thirty seconds in case its client polls again.
    let drained =
        server.block_on(async { tokio::time::timeout(Duration::from_secs(10), io.drain(drain)).await });
    assert_eq!(drained.expect("a drain does not wait for it").left, 0);
}
