//! Handlers that wait: concurrent or serial.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use roomcast_server::handler::serial;
use roomcast_server::http::Handshake;
use roomcast_server::namespace::{Namespace, NamespaceHandle};
use roomcast_server::{Ack, Config, Io, Socket, Value};
use serde_json::json;

use crate::support::client::{ACK_KINDS, ALL, Client, ClientMessage, Heard, Kind};
use crate::support::recorder::{Gate, Log, Recorder, ear};
use crate::support::serve::{Running, serve, until};

/// Registers handlers that record their start and end and, unless the text is `quick`, wait for the test in between.
fn waiting(namespace: &NamespaceHandle) -> (Gate, Recorder<String>) {
    let gate = Gate::closed();
    let (told, ear) = ear();
    let handlers_gate = gate.clone();
    namespace.on("message", move |text: String| {
        let (gate, told) = (handlers_gate.clone(), told.clone());
        async move {
            let _ = told.send(format!("start {text}"));
            if text != "quick" {
                gate.pass().await;
            }
            let _ = told.send(format!("end {text}"));
        }
    });
    namespace.on("panic", async || -> () {
        tokio::task::yield_now().await;
        std::panic::resume_unwind(Box::new("boom"))
    });
    (gate, ear)
}

fn message(text: &str) -> ClientMessage<'_> {
    ClientMessage { namespace: "/", ack: None, name: "message", args: json!([text]) }
}

#[test]
fn handlers_run_concurrently_by_default() {
    let io = Io::new();
    let (gate, ear) = waiting(&io.main());
    let server = serve(&io);
    for kind in ALL {
        let mut client = Client::connect(kind, &server.dial);
        client.emit_all(vec![message("1"), message("2"), message("3")]);
        assert_eq!(ear.take(3), ["start 1", "start 2", "start 3"]);
        (0..3).for_each(|_| gate.let_one_pass());
        let mut ends = ear.take(3);
        ends.sort();
        assert_eq!(ends, ["end 1", "end 2", "end 3"]);
    }
}

#[test]
fn serial_runs_events_one_by_one() {
    let io = Io::new();
    let (gate, ear) = waiting(io.main().serial(true));
    let server = serve(&io);
    for kind in ALL {
        let mut client = Client::connect(kind, &server.dial);
        let mut other = Client::connect(kind, &server.dial);

        client.emit_all(vec![message("1"), message("2"), message("3")]);
        assert_eq!(ear.next(), "start 1");
        client.sync();
        // Another socket is not delayed.
        other.say(message("quick"));
        assert_eq!(ear.take(2), ["start quick", "end quick"]);
        assert_eq!(ear.all(), [""; 0]);
        gate.let_one_pass();
        assert_eq!(ear.take(2), ["end 1", "start 2"]);
        gate.let_one_pass();
        assert_eq!(ear.take(2), ["end 2", "start 3"]);
        gate.let_one_pass();
        assert_eq!(ear.next(), "end 3");
        client.sync();
        assert_eq!(ear.all(), [""; 0]);
    }
}

#[test]
fn keeps_order_after_leaving_serial() {
    let io = Io::new();
    let (gate, ear) = waiting(io.main().serial(true));
    let server = serve(&io);
    for kind in ALL {
        io.main().serial(true);
        let mut client = Client::connect(kind, &server.dial);
        client.emit_all(vec![message("1"), message("2"), message("3")]);
        client.sync();
        io.main().serial(false);
        client.say(message("4"));
        client.sync();
        assert_eq!(ear.all(), ["start 1"]);
        gate.let_one_pass();
        assert_eq!(ear.take(4), ["end 1", "start 2", "start 3", "start 4"]);
        (0..3).for_each(|_| gate.let_one_pass());
        ear.take(3);
    }
}

#[test]
fn serial_continues_after_panic() {
    let io = Io::new();
    let (gate, ear) = waiting(io.main().serial(true));
    gate.open();
    let server = serve(&io);
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    let panic = || ClientMessage { namespace: "/", ack: None, name: "panic", args: json!([]) };
    client.emit_all(vec![panic(), message("1"), panic(), message("2")]);
    assert_eq!(ear.take(4), ["start 1", "end 1", "start 2", "end 2"]);
    assert_eq!(io.metrics().handlers_panicked(), 2);
}

/// Sends an ack request from a handler while other events arrive.
fn asking(io: &Io) -> Log<String> {
    let log = Log::default();
    let (asker, noter) = (log.clone(), log.clone());
    io.on("ask me", move |socket: Socket, ack: Ack| {
        let log = asker.clone();
        async move {
            let answer = socket.emit_with_ack("question", "why?").await?;
            log.write(format!("answered {}", answer.get::<String>(0)?));
            ack.send(answer)?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        }
    });
    io.on("note", move |ack: Ack, text: Value| {
        noter.write(format!("note {text}"));
        async move { ack.send(()).map(drop) }
    });
    log
}

fn server_with_pings(io: impl FnOnce(&Io)) -> (Io, Running) {
    let config = Config::new().timeouts(|timeouts| timeouts.ping_interval(Duration::from_millis(20)));
    let server = Io::builder().config(config).build();
    io(&server);
    let running = serve(&server);
    (server, running)
}

#[test]
fn reads_while_handler_awaits_ack() {
    for serial in [false, true] {
        let mut log = Log::default();
        let (_io, server) = server_with_pings(|io| {
            io.main().serial(serial);
            log = asking(io);
        });
        for kind in ACK_KINDS {
            let mut client = Client::connect(kind, &server.dial);
            client.say(ClientMessage { namespace: "/", ack: Some(100), name: "ask me", args: json!([]) });
            let question = client.question("question");
            if !serial {
                assert_eq!(client.ask("note", json!([1])), json!([]));
            } else {
                client.emit("note", json!([1]));
            }
            if kind != Kind::Json {
                // Every ping after the first shows that the previous pong was read.
                let pings = client.engine().pings;
                client.engine().wait_for_ping(pings + 3);
            }
            client.answer(question, json!(["because"]));
            let answer = Heard::Answer { namespace: "/".into(), ack: 100, args: json!(["because"]) };
            assert_eq!(client.hear(), answer);
            assert_eq!(client.ask("note", json!([2])), json!([]));
        }
        let one = if serial {
            ["answered because", "note 1", "note 2"]
        } else {
            ["note 1", "answered because", "note 2"]
        };
        assert_eq!(log.read(), one.repeat(ACK_KINDS.len()));
    }
}

#[test]
fn serial_handler_blocks_only_itself() {
    let (gate, log) = (Gate::closed(), Log::default());
    let io = Io::new();
    let (waits, slow) = (gate.clone(), log.clone());
    io.on(
        "slow",
        serial(move |text: String| {
            let (gate, log) = (waits.clone(), slow.clone());
            async move {
                log.write(format!("start {text}"));
                gate.pass().await;
                log.write(format!("end {text}"));
                if text == "2" {
                    std::panic::resume_unwind(Box::new("boom"));
                }
            }
        }),
    );
    let quick = log.clone();
    io.on("quick", move |text: String| {
        quick.write(format!("quick {text}"));
        async {}
    });
    io.on("sync", async |ack: Ack| ack.send(()).map(drop));
    let server = serve(&io);
    for kind in ACK_KINDS {
        let before = log.read().len();
        let since = || log.read().split_off(before);
        let mut client = Client::connect(kind, &server.dial);
        for (name, text) in [("slow", "1"), ("slow", "2"), ("quick", "a"), ("slow", "3"), ("quick", "b")] {
            client.emit(name, json!([text]));
        }
        client.ask("sync", json!([]));
        assert_eq!(since(), ["start 1", "quick a", "quick b"]);
        // Another socket has its own queue.
        let mut other = Client::connect(kind, &server.dial);
        other.emit("slow", json!(["4"]));
        other.ask("sync", json!([]));
        assert_eq!(since().last().map(String::as_str), Some("start 4"));
        for _ in 0..4 {
            gate.let_one_pass();
        }
        until(|| since().len() == 10);
        let of_one: Vec<_> = since().into_iter().filter(|line| !line.contains('4')).skip(3).collect();
        assert_eq!(of_one, ["end 1", "start 2", "end 2", "start 3", "end 3"]);
    }
    assert_eq!(io.metrics().handlers_panicked(), ACK_KINDS.len() as u64);
}

#[test]
fn serial_applies_to_one_socket() {
    let io = Io::new();
    let (gate, ear) = waiting(&io.main());
    let serial = Arc::new(AtomicBool::new(true));
    let is_serial = serial.clone();
    io.on_connect(move |socket: Socket| {
        socket.serial(is_serial.load(Ordering::Relaxed));
        async {}
    });
    let server = serve(&io);
    for kind in ALL {
        serial.store(true, Ordering::Relaxed);
        let mut client = Client::connect(kind, &server.dial);
        client.emit_all(vec![message("1"), message("2")]);
        client.sync();
        assert_eq!(ear.all(), ["start 1"]);
        serial.store(false, Ordering::Relaxed);
        let mut other = Client::connect(kind, &server.dial);
        other.emit_all(vec![message("3"), message("4")]);
        assert_eq!(ear.take(2), ["start 3", "start 4"]);
        // The first handler has waited longest at the gate.
        gate.let_one_pass();
        assert_eq!(ear.take(2), ["end 1", "start 2"]);
        (0..3).for_each(|_| gate.let_one_pass());
        ear.take(3);
    }
}

#[test]
fn new_socket_skips_old_serial_queue() {
    let io = Io::builder().generate_socket_id(|_: &Handshake, _: &Namespace| "ada").build();
    let (gate, ear) = waiting(io.main().serial(true));
    let server = serve(&io);
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    client.say(message("1"));
    assert_eq!(ear.next(), "start 1");
    client.leave("/");
    assert!(matches!(client.join("/", json!(null)), Heard::Joined { .. }));
    client.emit_all(vec![message("2"), message("3")]);
    assert_eq!(ear.next(), "start 2");
    // The handler of the old socket ends; the new socket's handler still waits.
    gate.let_one_pass();
    assert_eq!(ear.next(), "end 1");
    client.sync();
    assert_eq!(ear.all(), [""; 0]);
    gate.let_one_pass();
    assert_eq!(ear.take(2), ["end 2", "start 3"]);
    gate.let_one_pass();
    assert_eq!(ear.next(), "end 3");
}
