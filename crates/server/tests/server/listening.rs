//! Dispatch of client events to namespace and socket handlers, catch-alls, middleware and error handlers.

use std::sync::Arc;

use roomcast_server::extract::EventName;
use roomcast_server::handler::{EventError, EventErrorCause};
use roomcast_server::socket::{CloseReason, SocketId};
use roomcast_server::{Ack, Args, Io, Socket, Value};
use serde_json::json;

use crate::support::client::{ACK_KINDS, ALL, Client, Kind};
use crate::support::logs;
use crate::support::recorder::{Gate, Log, ear};
use crate::support::serve::{serve, until};

/// Returns a handler that records each call with its arguments.
fn noting(
    log: &Log<String>,
    who: &'static str,
) -> impl Fn(EventName, Args) -> std::future::Ready<()> + use<> {
    let log = log.clone();
    move |EventName(name), args| {
        log.write(format!("{who} {name} {}", args.json()));
        std::future::ready(())
    }
}

#[test]
fn calls_handlers_in_registration_order() {
    let log = Log::default();
    let io = Io::new();
    io.on("say", noting(&log, "first")).on("say", noting(&log, "second"));
    let own = log.clone();
    io.on_connect(move |socket: Socket| {
        socket.on("say", noting(&own, "own")).on("whisper", noting(&own, "own"));
        async {}
    });
    io.on("say", noting(&log, "third")).on("sync", async |ack: Ack| ack.send(()).map(drop));
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        client.emit("say", json!([1, "a"]));
        client.emit("whisper", json!([]));
        client.ask("sync", json!([]));
    }
    let each =
        ["first say 1,\"a\"", "second say 1,\"a\"", "third say 1,\"a\"", "own say 1,\"a\"", "own whisper "];
    assert_eq!(log.read(), each.repeat(ACK_KINDS.len()));
    assert_eq!(io.metrics().events_unhandled(), 0);
}

#[test]
fn sends_only_first_ack() {
    let (told, ear) = ear();
    let io = Io::new();
    for answer in ["first", "second"] {
        let told = told.clone();
        io.on("ask", move |ack: Ack| {
            let told = told.clone();
            async move {
                if answer == "first" {
                    tokio::task::yield_now().await;
                }
                let _ = told.send((answer, ack.is_wanted(), ack.send(answer).expect("a string")));
            }
        });
    }
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        assert_eq!(client.ask("ask", json!([])), json!(["second"]));
        assert_eq!(ear.take(2), [("second", true, true), ("first", true, false)]);
        client.emit("ask", json!([]));
        assert_eq!(ear.take(2), [("second", false, false), ("first", false, false)]);
    }
}

#[test]
fn once_fires_per_namespace_and_socket() {
    let log = Log::default();
    let io = Io::new();
    io.once("greet", noting(&log, "anybody")).on("sync", async |ack: Ack| ack.send(()).map(drop));
    let own = log.clone();
    io.on_connect(move |socket: Socket| {
        socket.once("greet", noting(&own, "own"));
        async {}
    });
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        client.emit("greet", json!([1]));
        client.emit("greet", json!([2]));
        client.ask("sync", json!([]));
    }
    assert_eq!(log.read(), ["anybody greet 1", "own greet 1", "own greet 1", "own greet 1", "own greet 1"]);
    assert_eq!(io.metrics().events_unhandled(), 4);
}

#[test]
fn removes_one_or_all_listeners() {
    let log = Log::default();
    let io = Io::new();
    io.on("a", noting(&log, "1")).on("a", noting(&log, "2")).on("b", noting(&log, "3"));
    io.on("sync", async |ack: Ack| ack.send(()).map(drop)).on_any(noting(&log, "any"));
    let server = serve(&io);
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    let mut heard = || {
        let before = log.read().len();
        client.emit("a", json!([]));
        client.emit("b", json!([]));
        client.ask("sync", json!([]));
        log.read().split_off(before)
    };
    assert_eq!(heard(), ["any a ", "1 a ", "2 a ", "any b ", "3 b ", "any sync "]);
    let first = io.listeners("a")[0];
    assert!(io.remove_listener(first) && !io.remove_listener(first));
    assert_eq!(io.listeners("a").len(), 1);
    assert!(io.remove_listener(io.listeners_any()[0]));
    assert_eq!(heard(), ["2 a ", "3 b "]);
    io.off("a");
    assert_eq!(heard(), ["3 b "]);
    io.off_all().on("sync", async |ack: Ack| ack.send(()).map(drop));
    assert_eq!(heard(), [""; 0]);
}

#[test]
fn catch_alls_run_before_handlers() {
    let log = Log::default();
    let io = Io::new();
    io.on("known", noting(&log, "handler")).on_other(noting(&log, "other"));
    io.on_any(noting(&log, "any")).prepend_any(noting(&log, "before"));
    let own = log.clone();
    io.on_connect(move |socket: Socket| {
        socket.on_any(noting(&own, "own any")).prepend_any(noting(&own, "own before"));
        socket.event_middleware(noting(&own, "middleware"));
        async {}
    });
    let server = serve(&io);
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    client.emit("known", json!([1]));
    client.emit("unknown", json!([2]));
    client.sync();
    let heard = |name: &str, last: &str| {
        ["before", "any", "own before", "own any", "middleware", last].map(|who| format!("{who} {name}"))
    };
    assert_eq!(log.read(), [heard("known 1", "handler"), heard("unknown 2", "other")].concat());
    // Removing the namespace's catch-alls keeps the socket's.
    assert_eq!(io.listeners_any().len(), 2);
    io.off_any();
    client.emit("known", json!([3]));
    client.sync();
    let later: Vec<_> = log.read().split_off(12);
    assert_eq!(later, ["own before known 3", "own any known 3", "middleware known 3", "handler known 3"]);
}

#[test]
fn rejecting_middleware_drops_and_reports_event() {
    let (told, errors) = ear();
    let log = Log::default();
    let io = Io::new();
    io.on("say", noting(&log, "handler")).on("sync", async |ack: Ack| ack.send(()).map(drop));
    for who in ["namespace", "socket"] {
        let told = told.clone();
        let tell = move |socket: Socket, error: EventError| {
            let _ = told.send((who, socket.id().clone(), error));
            async {}
        };
        if who == "namespace" {
            io.on_error(tell);
        } else {
            io.on_connect(move |socket: Socket| {
                socket.on_error(tell.clone());
                socket.event_middleware(async |args: Args, ack: Ack| {
                    match args.get::<String>(0).as_deref() {
                        Ok("at once") => Err("not you".to_owned()),
                        Ok("later") => {
                            tokio::task::yield_now().await;
                            let _ = ack.send("told by the middleware");
                            Err("not you either".to_owned())
                        }
                        _ => Ok(()),
                    }
                });
                async {}
            });
        }
    }
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        client.emit("say", json!(["at once"]));
        assert_eq!(client.ask("say", json!(["later"])), json!(["told by the middleware"]));
        client.emit("say", json!(["fine"]));
        client.ask("sync", json!([]));
        for message in ["not you", "not you either"] {
            for who in ["namespace", "socket"] {
                let (heard, id, error) = errors.next();
                assert_eq!(heard, who);
                if kind != Kind::Json {
                    assert_eq!(id, SocketId::from(&client.id));
                }
                assert_eq!(error.event, "say");
                let EventErrorCause::Refused(refused) = error.cause else { panic!("{error:?}") };
                assert_eq!(refused.message, message);
            }
        }
    }
    assert_eq!(log.read(), ["handler say \"fine\""; ACK_KINDS.len()]);
    assert_eq!(io.metrics().handlers_failed(), 0);
}

#[test]
fn keeps_order_behind_slow_middleware() {
    let gate = Gate::closed();
    let log = Log::default();
    let io = Io::new();
    io.on("message", noting(&log, "handler"));
    let waits = gate.clone();
    io.event_middleware(move |args: Args| {
        let (gate, slow) = (waits.clone(), args.json().contains("slow"));
        async move {
            if slow {
                gate.pass().await;
            }
        }
    });
    let server = serve(&io);
    for kind in ALL {
        let before = log.read().len();
        let mut client = Client::connect(kind, &server.dial);
        for text in ["1", "slow 2", "3", "slow 4", "5"] {
            client.emit("message", json!([text]));
        }
        client.sync();
        assert_eq!(log.read().len(), before + 1);
        gate.let_one_pass();
        until(|| log.read().len() == before + 3);
        client.sync();
        assert_eq!(log.read().len(), before + 3);
        gate.let_one_pass();
        until(|| log.read().len() == before + 5);
        let texts = ["1", "slow 2", "3", "slow 4", "5"].map(|text| format!("handler message \"{text}\""));
        assert_eq!(log.read().split_off(before), texts);
    }
}

#[test]
fn drops_waiting_event_of_gone_client() {
    let (gate, log) = (Gate::closed(), Log::default());
    let (left, gone) = ear();
    let io = Io::new();
    io.on("message", noting(&log, "handler"));
    io.on_disconnect(move || {
        let _ = left.send(());
        async {}
    });
    let waits = gate.clone();
    let (passed, passes) = ear();
    io.event_middleware(move || {
        let (gate, passed) = (waits.clone(), passed.clone());
        async move {
            gate.pass().await;
            let _ = passed.send(());
        }
    });
    let server = serve(&io);
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    client.emit("message", json!(["lost"]));
    client.sync();
    client.close();
    gone.next();
    gate.let_one_pass();
    passes.next();
    // The next client shows that the server is still running and that no event arrived late.
    gate.open();
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    client.emit("message", json!(["heard"]));
    until(|| !log.read().is_empty());
    assert_eq!(log.read(), ["handler message \"heard\""]);
}

#[test]
fn errors_name_event_and_mismatch() {
    logs::listen();
    let (told, errors) = ear();
    let io = Io::new();
    io.on("wrong:number", async |_number: u32| {});
    io.on("wrong:missing", async |_first: String, _second: String| {});
    io.on("wrong:fail", async || Err::<(), _>("no luck"));
    io.on("wrong:panic", async || -> () { std::panic::resume_unwind(Box::new("boom")) });
    io.on_error(async || -> () { std::panic::resume_unwind(Box::new("boom")) });
    io.on_error(move |error: EventError| {
        let told = told.clone();
        async move {
            tokio::task::yield_now().await;
            let _ = told.send(error);
        }
    });
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        for (name, args, expected) in [
            (
                "wrong:number",
                json!(["x"]),
                "argument 1 does not fit the type it is read as: invalid type: string \"x\", expected u32",
            ),
            ("wrong:missing", json!(["x"]), "argument 2 is missing"),
            ("wrong:fail", json!([]), "handler failed: no luck"),
            ("wrong:panic", json!([]), "handler panicked"),
        ] {
            client.emit(name, args);
            let error = errors.next();
            assert_eq!(error.event, name);
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.to_string().starts_with(&format!("event `{name}`: ")), "{error}");
        }
    }
    let count = ACK_KINDS.len();
    assert!(logs::about("wrong:number").iter().any(|line| line.message.contains("do not fit")));
    assert_eq!(io.metrics().events_mismatched(), 2 * count as u64);
}

#[test]
fn calls_disconnecting_then_disconnect_handlers() {
    let (told, heard) = ear();
    let io = Io::new();
    io.on_connect(move |socket: Socket| {
        socket.join("red");
        let (before, after) = (told.clone(), told.clone());
        socket.on_disconnecting(move |socket: Socket, reason: CloseReason| {
            let _ = before.send(("disconnecting", socket.rooms().len(), reason.to_string()));
            async {}
        });
        socket.on_disconnect(move |socket: Socket, reason: CloseReason| {
            let _ = after.send(("disconnect", socket.rooms().len(), reason.to_string()));
            async {}
        });
        async {}
    });
    io.on("message", async |socket: Socket, text: String| match text.as_str() {
        "out" => socket.disconnect(),
        _ => socket.disconnect_client(),
    });
    let server = serve(&io);
    let hears = |reason: &str| {
        assert_eq!(heard.next(), ("disconnecting", 2, reason.to_owned()));
        assert_eq!(heard.next(), ("disconnect", 0, reason.to_owned()));
    };
    for kind in ALL {
        let mut client = Client::connect(kind, &server.dial);
        client.emit("message", json!(["out"]));
        hears("server namespace disconnect");
    }
    for kind in ALL {
        let mut client = Client::connect(kind, &server.dial);
        client.emit("message", json!(["off"]));
        hears("server namespace disconnect");
    }
    for kind in [Kind::WebSocket, Kind::Polling, Kind::Upgraded] {
        let mut client = Client::connect(kind, &server.dial);
        client.leave("/");
        hears("client namespace disconnect");
    }
    for kind in ALL {
        Client::connect(kind, &server.dial).close();
        hears("transport close");
    }
    let _open = Client::connect(Kind::WebSocket, &server.dial);
    io.close();
    hears("server shutting down");
}

#[test]
fn releases_handlers_of_closed_socket() {
    let held = Arc::new(());
    let io = Io::new();
    let holds = held.clone();
    let (told, ear) = ear();
    let add = move |socket: &Socket| {
        let (own, held) = (socket.clone(), holds.clone());
        // The handler holds the socket that holds it.
        socket.on("message", move |_: Value| {
            let _ = (&own, &held);
            async {}
        });
    };
    let adds = add.clone();
    io.middleware(move |socket: Socket| {
        adds(&socket);
        let _ = told.send(socket.clone());
        async move { if socket.handshake().query_value("no").is_some() { Err("no") } else { Ok(()) } }
    });
    let server = serve(&io);
    let before = Arc::strong_count(&held);
    for kind in ALL {
        let client = Client::connect(kind, &server.dial);
        let socket = ear.next();
        assert_eq!(Arc::strong_count(&held), before + 1);
        client.close();
        until(|| Arc::strong_count(&held) == before);
        // A handler registered on a closed socket is dropped.
        add(&socket);
        assert_eq!(Arc::strong_count(&held), before);
    }
}
