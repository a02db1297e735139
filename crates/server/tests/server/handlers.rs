//! Parameters of handlers, and handling of their failures.

use std::panic::resume_unwind;

use roomcast_server::extract::EventName;
use roomcast_server::{Ack, Args, Bytes, EmitError, Io, Socket, Value};
use serde_json::json;

use crate::support::client::{ACK_KINDS, ALL, Client, ClientMessage, Heard, Kind, bytes};
use crate::support::logs;
use crate::support::recorder::{Gate, arrivals, ear};
use crate::support::serve::{serve, until};

/// Panics without printing to the terminal.
fn panic_quietly() -> ! {
    resume_unwind(Box::new("boom"))
}

/// Registers handlers that fail in every possible way, and handlers that succeed.
fn failing() -> Io {
    let io = Io::new();
    io.on("fail:panic in call", || -> std::future::Ready<()> { panic_quietly() })
        .on("fail:panic at once", async || -> () { panic_quietly() })
        .on("fail:panic later", async || -> () {
            tokio::task::yield_now().await;
            panic_quietly()
        })
        .on("fail:error at once", async || Err::<(), _>("no luck"))
        .on("fail:error later", async || {
            tokio::task::yield_now().await;
            Err::<(), _>(std::io::Error::other("no luck"))
        })
        .on("fail:mismatch", async |_: Socket, _number: u32| {})
        .on("fail:missing", async |_first: String, _second: String| {})
        .on("fail:panic of a function", |_: Socket| -> () { panic_quietly() })
        .on("fail:error of a function", |_: &Socket| Err::<(), _>("no luck"))
        .on("fail:mismatch of a function", |_: &Socket, _number: u32| {})
        .on("echo", async |ack: Ack, args: Args| ack.send(args).map(drop))
        .on("echo at once", |ack: Ack, args: Args| ack.send(args).map(drop))
        .on("echo by reference", |socket: &Socket, ack: Ack, args: Args| {
            assert!(socket.is_connected());
            ack.send(args).map(drop)
        });
    io
}

#[test]
fn logs_and_counts_each_failed_event() {
    logs::listen();
    let wrong = [
        ("fail:panic in call", "handler panicked", "ERROR"),
        ("fail:panic at once", "handler panicked", "ERROR"),
        ("fail:panic later", "handler panicked", "ERROR"),
        ("fail:error at once", "handler failed", "WARN"),
        ("fail:error later", "handler failed", "WARN"),
        ("fail:mismatch", "arguments do not fit handler", "WARN"),
        ("fail:missing", "arguments do not fit handler", "WARN"),
        ("fail:panic of a function", "handler panicked", "ERROR"),
        ("fail:error of a function", "handler failed", "WARN"),
        ("fail:mismatch of a function", "arguments do not fit handler", "WARN"),
    ];
    let io = failing();
    let server = serve(&io);
    let mut clients: Vec<_> = ACK_KINDS.iter().map(|kind| Client::connect(*kind, &server.dial)).collect();
    for (round, client) in (1..).zip(&mut clients) {
        for (event, message, level) in wrong {
            // Sent in one write, so that the following events arrive while this one fails.
            let ask =
                |name, ack| ClientMessage { namespace: "/", ack: Some(ack), name, args: json!(["one"]) };
            client.emit_all(vec![
                ask("echo", 100),
                ask(event, 101),
                ask("echo at once", 102),
                ask("echo by reference", 103),
            ]);
            for ack in [100, 102, 103] {
                let answer = Heard::Answer { namespace: "/".into(), ack, args: json!(["one"]) };
                assert_eq!(client.hear(), answer, "{event}");
            }
            until(|| !logs::about(event).is_empty());
            let line = logs::about(event).pop().expect("a line");
            assert_eq!((line.message.as_str(), line.level.as_str()), (message, level));
        }
        client.emit("fail:unknown", json!([]));
        assert_eq!(client.ask("echo", json!([])), json!([]));
        let metrics = io.metrics();
        assert_eq!(metrics.handlers_panicked(), 4 * round as u64);
        assert_eq!(metrics.handlers_failed(), 3 * round as u64);
        assert_eq!(metrics.events_mismatched(), 3 * round as u64);
        assert_eq!(metrics.events_unhandled(), round as u64);
    }
    assert_eq!((io.client_count(), io.metrics().sessions_closed()), (4, 0));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "tests read a clock")]
fn summarises_log_of_repeated_failures() {
    logs::listen();
    const FLOOD: u64 = 2000;
    let io = Io::new();
    io.on("flood:panic", || -> () { panic_quietly() });
    io.on("flood:error", || Err::<(), _>("no luck"));
    io.on("flood:mismatch", |_: u32| {});
    io.on("done", |ack: Ack| ack.send(()).map(drop));
    let server = serve(&io);
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    let begun = std::time::Instant::now();
    for event in ["flood:panic", "flood:error", "flood:mismatch"] {
        let one = || ClientMessage { namespace: "/", ack: None, name: event, args: json!(["x"]) };
        client.emit_all((0..FLOOD).map(|_| one()).collect());
        assert_eq!(client.ask("done", json!([])), json!([]));
        let lines = logs::about(event);
        let most = begun.elapsed().as_secs() + 2;
        assert!((1..=most).contains(&(lines.len() as u64)), "{} lines of {event}", lines.len());
        assert_eq!(lines[0].times, 1, "the first is logged immediately");
        assert!(lines.iter().map(|line| line.times).sum::<u64>() <= FLOOD);
    }
    let metrics = io.metrics();
    let counted = [metrics.handlers_panicked(), metrics.handlers_failed(), metrics.events_mismatched()];
    assert_eq!(counted, [FLOOD; 3]);
}

#[test]
fn ignores_failures_caused_by_disconnect() {
    logs::listen();
    let io = Io::new();
    let (gate, sockets) = (Gate::closed(), arrivals(&io));
    let (told, seen) = ear();
    io.on_disconnect(move |_: &Socket| _ = told.send(()));
    let (passes, other_passes) = (gate.clone(), gate.clone());
    io.on("left:answers", move |ack: Ack| {
        let passes = passes.clone();
        async move {
            passes.pass().await;
            ack.send(()).map(drop)
        }
    });
    io.on("left:fails", move |socket: Socket| {
        let passes = other_passes.clone();
        async move {
            passes.pass().await;
            let emitted = socket.emit("late", ());
            assert!(matches!(emitted, Err(EmitError::Disconnected)), "{emitted:?}");
            Err::<(), _>("another reason")
        }
    });
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        sockets.next();
        let ask = ClientMessage { namespace: "/", ack: Some(1), name: "left:answers", args: json!([]) };
        let fail = ClientMessage { namespace: "/", ack: None, name: "left:fails", args: json!([]) };
        client.emit_all(vec![ask, fail]);
        client.sync();
        if kind == Kind::Polling {
            client.engine().send_packets(vec!["1".into()]);
        } else {
            drop(client);
        }
        seen.next();
        (0..2).for_each(|_| gate.let_one_pass());
    }
    // Only failures that the client did not cause are counted and logged.
    until(|| !logs::about("left:fails").is_empty());
    until(|| io.metrics().handlers_failed() == ACK_KINDS.len() as u64);
    // A connected client whose emit to another fails is counted.
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    let gone = sockets.next();
    io.on("left:other", move |_: &Socket| gone.emit("late", ()).map(drop));
    drop(client);
    seen.next();
    client = Client::connect(Kind::WebSocket, &server.dial);
    client.emit_all(vec![ClientMessage { namespace: "/", ack: None, name: "left:other", args: json!([]) }]);
    until(|| !logs::about("left:other").is_empty());
    assert_eq!(io.metrics().handlers_failed(), ACK_KINDS.len() as u64 + 1);
    assert_eq!(logs::about("left:answers"), []);
}

#[test]
fn keeps_client_when_connect_handler_panics() {
    let io = Io::new();
    io.on_connect(async || -> () { panic_quietly() });
    io.on("message", async |socket: Socket, text: String| socket.emit("said", text).map(drop));
    let server = serve(&io);
    for kind in ALL {
        let mut client = Client::connect(kind, &server.dial);
        client.emit("message", json!(["still here"]));
        client.expect("said", json!(["still here"]));
    }
    assert_eq!(io.metrics().handlers_panicked(), 5);
}

#[derive(serde::Deserialize, serde::Serialize)]
struct Upload {
    name: String,
    parts: Vec<Bytes>,
}

/// Registers handlers that send back their arguments.
fn taking() -> Io {
    let io = Io::new();
    io.on("nothing", async |ack: Ack| ack.send(()).map(drop))
        .on("mixed", async |ack: Ack, number: u32, io: Io, text: String, socket: Socket| {
            let known = io.count(socket.id()) == 1;
            ack.send((number, text, known)).map(drop)
        })
        .on("optional", async |text: String, number: Option<u32>, ack: Ack| {
            ack.send((text, number)).map(drop)
        })
        .on("rest", async |first: Value, ack: Ack, rest: Args| {
            let rest: Vec<Value> = rest.parse()?;
            ack.send((first, rest.len())).map(drop)
        })
        .on("echo rest", async |_first: Value, rest: Args, ack: Ack| ack.send(rest).map(drop))
        .on("bytes", async |data: Bytes, ack: Ack| {
            let reversed: Bytes = data.iter().rev().copied().collect();
            ack.send(reversed).map(drop)
        })
        .on("struct", async |mut upload: Upload, ack: Ack| {
            upload.parts.reverse();
            upload.name.push('!');
            ack.send(&upload).map(drop)
        })
        .on("eight", async |a: u8, b: u8, c: u8, d: u8, ack: Ack, e: u8, f: u8, g: u8| {
            ack.send([a, b, c, d, e, f, g]).map(drop)
        });
    io
}

#[test]
fn converts_arguments_to_parameter_types() {
    let io = taking();
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        assert_eq!(client.ask("nothing", json!(["ignored"])), json!([]));
        assert_eq!(client.ask("mixed", json!([7, "x", "ignored"])), json!([7, "x", true]));
        assert_eq!(client.ask("optional", json!(["x", 7])), json!(["x", 7]));
        assert_eq!(client.ask("optional", json!(["x"])), json!(["x", null]));
        assert_eq!(client.ask("optional", json!(["x", null])), json!(["x", null]));
        assert_eq!(client.ask("rest", json!([{ "a": 1 }, 2, "3"])), json!([{ "a": 1 }, 2]));
        assert_eq!(client.ask("rest", json!([])), json!([null, 0]));
        let nested = json!(["skipped", { "x": [bytes(b"\x01\x02"), 3] }, bytes(b"")]);
        let rest = json!([{ "x": [bytes(b"\x01\x02"), 3] }, bytes(b"")]);
        assert_eq!(client.ask("echo rest", nested), rest);
        assert_eq!(client.ask("bytes", json!([bytes(b"\x01\x02\xff")])), json!([bytes(b"\xff\x02\x01")]));
        let upload = json!([{ "name": "a", "parts": [bytes(b"\x01"), bytes(b"\x02\x03")] }]);
        let answer = json!([{ "name": "a!", "parts": [bytes(b"\x02\x03"), bytes(b"\x01")] }]);
        assert_eq!(client.ask("struct", upload), answer);
        assert_eq!(client.ask("eight", json!([1, 2, 3, 4, 5, 6, 7])), json!([[1, 2, 3, 4, 5, 6, 7]]));
    }
    assert_eq!(io.metrics().events_mismatched(), 0);
}

#[test]
fn plain_clients_send_text_or_bytes() {
    let io = Io::new();
    io.on("message", async |socket: Socket, args: Args| {
        if args.attachments().is_empty() {
            let text: String = args.get(0)?;
            socket.emit("message", text.to_uppercase())
        } else {
            let data: Bytes = args.get(0)?;
            socket.emit("message", data.slice(1..))
        }
        .map(drop)
    });
    let server = serve(&io);
    let mut client = Client::connect(Kind::Plain, &server.dial);
    client.emit("message", json!([r#"["join","red"]"#]));
    client.expect("JOIN", json!(["RED"]));
    client.emit("message", json!([""]));
    client.expect("message", json!([""]));
    client.emit("message", json!([bytes(b"\x00\xfe\xff")]));
    client.expect("message", json!([bytes(b"\xfe\xff")]));
}

#[test]
fn sends_ack_only_when_requested() {
    let (told, ear) = ear();
    let io = Io::new();
    io.on("message", move |ack: Ack| {
        let told = told.clone();
        async move {
            let _ = told.send((ack.is_wanted(), ack.send("answer")?));
            Ok::<_, EmitError>(())
        }
    });
    let server = serve(&io);
    for kind in ALL {
        let mut client = Client::connect(kind, &server.dial);
        client.emit("message", json!(["x"]));
        assert_eq!(ear.next(), (false, false), "{kind:?}");
        if kind != Kind::Plain {
            assert_eq!(client.ask("message", json!([])), json!(["answer"]));
            assert_eq!(ear.next(), (true, true), "{kind:?}");
        }
        io.emit("end", ()).expect("a valid name");
        client.expect("end", json!([]));
        client.close();
        until(|| io.client_count() == 0);
    }
}

#[test]
fn passes_unhandled_events_to_on_other() {
    let io = Io::new();
    io.on("known", async |ack: Ack| ack.send("first").map(drop));
    io.main().on_other(async |EventName(name): EventName, args: Args, ack: Ack| {
        ack.send((&*name, args.len())).map(drop)
    });
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        assert_eq!(client.ask("known", json!([1])), json!(["first"]));
        assert_eq!(client.ask("unknown", json!([1, 2])), json!(["unknown", 2]));
        assert_eq!(client.ask("\"ü\\", json!([])), json!(["\"ü\\", 0]));
    }
    // A handler registered later takes precedence.
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    io.on("unknown", async |ack: Ack| ack.send("known now").map(drop));
    assert_eq!(client.ask("unknown", json!([])), json!(["known now"]));
    assert_eq!(io.metrics().events_unhandled(), 0);
}

#[test]
fn exposes_arguments_as_received() {
    let io = Io::new();
    io.on("raw", async |socket: Socket, args: Args, ack: Ack| {
        // Spaces, order and digits are as sent; no argument was parsed.
        let attachments = args.attachments().iter().map(|bytes| bytes.len()).collect::<Vec<_>>();
        let list: Vec<&str> = args.iter().collect();
        socket.emit("as it came", (args.json(), list, attachments))?;
        ack.send(args).map(drop)
    });
    let server = serve(&io);
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    client.engine().send(r#"2["raw", { "b" : 1.50, "a":1e3 } ,"\u0041", 12345678901234567890123 ]"#.into());
    let raw = r#"{ "b" : 1.50, "a":1e3 } ,"\u0041", 12345678901234567890123"#;
    let list = [r#"{ "b" : 1.50, "a":1e3 }"#, r#""\u0041""#, "12345678901234567890123"];
    client.expect("as it came", json!([raw, list, []]));
    let sent = json!([bytes(&[1, 2, 3]), "x"]);
    assert_eq!(
        {
            client.emit("raw", sent);
            client.event().1[2].clone()
        },
        json!([3])
    );
}
