//! Acks sent by return values and by error handlers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use roomcast_server::emit::Receipt;
use roomcast_server::extract::ArgsError;
use roomcast_server::handler::{Answer, EventError, EventErrorCause, cloned, serial};
use roomcast_server::typed::{Event, NoAnswer};
use roomcast_server::{Ack, Auth, Bytes, EmitError, Io, Socket, Value, json};
use serde::{Deserialize, Serialize};

use crate::support::client::{ACK_KINDS, Client, ClientMessage, Heard, Kind, SOCKET_IO, bytes};
use crate::support::recorder::ear;
use crate::support::serve::serve;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
}

fn ada() -> User {
    User { name: "ada".into() }
}

#[test]
fn sends_returned_value_as_ack() {
    let io = Io::new();
    io.on("bool", async || true)
        .on("number", |a: i64, b: i64| a + b)
        .on("float", async |number: f64| number / 2.0)
        .on("text", async |name: String| format!("hello {name}"))
        .on("static", |_: &Socket| "hello")
        .on("bytes", async || Bytes::from_static(b"\x01\x02"))
        .on("value", async || json!({ "a": [1] }))
        .on("list", async || vec![ada(), ada()])
        .on("map", async || BTreeMap::from([("a", Some(1)), ("b", None)]))
        .on("option", async |name: Option<String>| name)
        .on("pair", async || (1, "two"))
        .on("array", || [1, 2, 3])
        .on("id", |socket: &Socket| socket.id().clone())
        .on("wrapped", async || Answer(ada()))
        .on("ok", async || Ok::<_, EmitError>(ada()))
        .on("result", |fails: bool| if fails { Err("no".to_owned()) } else { Ok("yes".to_owned()) })
        .on("later", async || {
            tokio::task::yield_now().await;
            7
        })
        .on("serial", serial(async |number: u32| number + 1));
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        let id = client.id.clone();
        for (event, args, answer) in [
            ("bool", json!([]), json!(true)),
            ("number", json!([2, 3]), json!(5)),
            ("float", json!([3]), json!(1.5)),
            ("text", json!(["ada"]), json!("hello ada")),
            ("static", json!([]), json!("hello")),
            ("bytes", json!([]), bytes(b"\x01\x02")),
            ("value", json!([]), json!({ "a": [1] })),
            ("list", json!([]), json!([{ "name": "ada" }, { "name": "ada" }])),
            ("map", json!([]), json!({ "a": 1, "b": null })),
            ("option", json!([]), json!(null)),
            ("option", json!(["x"]), json!("x")),
            ("pair", json!([]), json!([1, "two"])),
            ("array", json!([]), json!([1, 2, 3])),
            ("id", json!([]), json!(id)),
            ("wrapped", json!([]), json!({ "name": "ada" })),
            ("ok", json!([]), json!({ "name": "ada" })),
            ("result", json!([false]), json!("yes")),
            ("later", json!([]), json!(7)),
            ("serial", json!([1]), json!(2)),
        ] {
            assert_eq!(client.ask(event, args), json!([answer]), "{kind:?} {event}");
        }
        // Events without an ack id get no ack.
        client.emit("number", json!([2, 3]));
        client.emit("ok", json!([]));
        assert_eq!(client.ask("bool", json!([])), json!([true]));
    }
    assert_eq!(io.metrics().handlers_failed(), 0);
}

#[test]
fn clones_capturing_closures_for_each_event() {
    let counted = Arc::new(AtomicUsize::new(0));
    let io = Io::new();
    let count = counted.clone();
    io.on("count", cloned(async move |by: usize| count.fetch_add(by, Ordering::Relaxed) + by));
    let greeting = String::from("hello");
    io.on(
        "greet",
        cloned(async move |socket: Socket, name: Result<String, ArgsError>, ack: Ack| {
            tokio::task::yield_now().await;
            let name = name.unwrap_or_else(|_| socket.id().to_string());
            ack.send(format!("{greeting} {name}"))
        }),
    );
    assert_eq!(io.listeners("count").len(), 1);
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        let before = counted.load(Ordering::Relaxed);
        assert_eq!(client.ask("count", json!([2])), json!([before + 2]));
        assert_eq!(client.ask("greet", json!(["ada"])), json!(["hello ada"]));
        assert_eq!(client.ask("greet", json!([1])), json!([format!("hello {}", client.id)]));
    }
}

#[test]
fn receipt_and_unit_send_no_ack() {
    let io = Io::new();
    io.on("receipt", async |socket: Socket| socket.emit("told", ()))
        .on("receipt at once", |socket: &Socket| socket.io().emit("told", ()))
        .on("bare", |socket: &Socket| socket.emit("told", ()).unwrap_or_default())
        .on("nothing", async |socket: Socket| socket.emit("told", ()).map(drop))
        .on_event(async |socket: Socket, _: Tell| socket.emit("told", ()))
        .on("by hand", async |ack: Ack| ack.send("by hand"))
        .on("both", async |ack: Ack| {
            ack.send("by hand")?;
            Ok::<_, EmitError>("not sent")
        })
        .on_connect(async |socket: Socket, _: Auth<Value>| socket.emit("hello", ()));
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        client.expect("hello", json!([]));
        for name in ["receipt", "receipt at once", "bare", "nothing", "tell"] {
            client.say(ClientMessage { namespace: "/", ack: Some(500), name, args: json!([]) });
            client.expect("told", json!([]));
        }
        assert_eq!(client.ask("by hand", json!([])), json!(["by hand"]));
        assert_eq!(client.ask("both", json!([])), json!(["by hand"]));
        client.sync();
        assert_eq!(client.ask("by hand", json!([])), json!(["by hand"]), "no ack in between");
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Tell;

impl Event for Tell {
    const NAME: &'static str = "tell";
    type Answer = NoAnswer;
}

#[derive(Debug, Serialize, Deserialize)]
struct Add {
    a: i32,
    b: i32,
}

impl Event for Add {
    const NAME: &'static str = "add";
    type Answer = i32;
}

#[test]
fn passes_extraction_errors_to_handler() {
    let io = Io::new();
    io.on("double", async |number: Result<i64, ArgsError>, ack: Ack| match number {
        Ok(number) => ack.send(number * 2),
        Err(error) => ack.send(("error", error.to_string())),
    })
    .on("both", |first: Result<u8, ArgsError>, second: String, third: Result<Option<bool>, ArgsError>| {
        json!([first.ok(), second, third.is_ok()])
    })
    .on("borrowed", |_: &Socket, user: Result<User, ArgsError>| {
        user.map_or_else(|_| "nobody".into(), |user| user.name)
    })
    .on_event(async |_: Socket, add: Result<Add, ArgsError>| match add {
        Ok(add) => add.a + add.b,
        Err(_) => -1,
    });
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        assert_eq!(client.ask("double", json!([4])), json!([8]));
        let answer = client.ask("double", json!(["x"]));
        assert!(answer[1].as_str().is_some_and(|text| text.contains("expected i64")), "{answer}");
        let answer = client.ask("double", json!([]));
        assert!(answer[1].as_str().is_some_and(|text| text.contains("missing")), "{answer}");
        // A failed parameter does not shift the following arguments.
        assert_eq!(client.ask("both", json!(["x", "y", 3])), json!([[null, "y", false]]));
        assert_eq!(client.ask("both", json!([1, "y"])), json!([[1, "y", true]]));
        assert_eq!(client.ask("borrowed", json!([7])), json!(["nobody"]));
        assert_eq!(client.ask("borrowed", json!([{ "name": "ada" }])), json!(["ada"]));
        assert_eq!(client.ask("add", json!([{ "a": 1, "b": 2 }])), json!([3]));
        assert_eq!(client.ask("add", json!([{ "a": 1 }])), json!([-1]));
    }
    assert_eq!(io.metrics().events_mismatched(), 0, "the handlers took the errors");
}

#[test]
fn acks_failed_events_from_on_error() {
    let io = Io::new();
    io.on("mismatch", async |_: u32| {})
        .on("taken", async |_ack: Ack, _: u32| {})
        .on("fails", async || Err::<(), _>("no luck"))
        .on("fails later", async |_ack: Ack| {
            tokio::task::yield_now().await;
            Err::<(), _>("no luck")
        })
        .on("panics", async || -> () { std::panic::resume_unwind(Box::new("boom")) })
        .on("value fails", |_: &Socket| Err::<u8, _>("no luck"))
        .on("answered", async |ack: Ack| {
            ack.send("before")?;
            Err::<(), Box<dyn std::error::Error + Send + Sync>>("no luck".into())
        })
        .on("fine", async || "fine")
        .on("refused", async || "never")
        .on_event(async |_: Socket, add: Add| Ok::<_, String>(add.a + add.b));
    io.event_middleware(
        async |name: roomcast_server::extract::EventName| {
            if name.0 == "refused" { Err("not for you") } else { Ok(()) }
        },
    );
    io.on_error(async |error: EventError, ack: Ack| {
        tokio::task::yield_now().await;
        let kind = match error.cause {
            EventErrorCause::Mismatch(_) => "mismatch",
            EventErrorCause::Refused(_) => "refused",
            EventErrorCause::Failed(_) => "failed",
            _ => "panicked",
        };
        ack.send(json!({ "error": kind }))
    });
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        for (event, answer) in [
            ("mismatch", json!({ "error": "mismatch" })),
            ("taken", json!({ "error": "mismatch" })),
            ("fails", json!({ "error": "failed" })),
            ("fails later", json!({ "error": "failed" })),
            ("panics", json!({ "error": "panicked" })),
            ("value fails", json!({ "error": "failed" })),
            ("answered", json!("before")),
            ("fine", json!("fine")),
            ("refused", json!({ "error": "refused" })),
            ("add", json!({ "error": "mismatch" })),
        ] {
            assert_eq!(client.ask(event, json!(["x"])), json!([answer]), "{kind:?} {event}");
        }
        // Events without an ack id get no ack from `on_error`.
        client.emit("fails", json!([]));
        assert_eq!(client.ask("fine", json!([])), json!(["fine"]));
    }
}

#[test]
fn socket_on_error_return_sends_ack() {
    let (told, asked) = ear();
    let io = Io::new();
    io.on("fails", async || Err::<(), _>("no luck"));
    io.on_connect(move |socket: &Socket| {
        let told = told.clone();
        socket.on_error(move |error: EventError, ack: Ack| {
            let _ = told.send(ack.is_wanted());
            drop(error);
        });
        socket.on_error(|error: EventError| error.to_string());
    });
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        assert_eq!(client.ask("fails", json!([])), json!(["event `fails`: handler failed: no luck"]));
        assert!(asked.next());
        client.emit("fails", json!([]));
        assert!(!asked.next());
    }
}

#[test]
fn extracts_auth_in_event_handlers() {
    let io = Io::new();
    io.on("who", async |Auth(user): Auth<User>| user.name)
        .on("wrong", async |auth: Result<Auth<Vec<u8>>, ArgsError>| auth.is_err());
    let server = serve(&io);
    for kind in SOCKET_IO {
        let mut client = Client::open(kind, &server.dial);
        assert!(matches!(client.join("/", json!({ "name": "ada" })), Heard::Joined { .. }));
        assert_eq!(client.ask("who", json!([])), json!(["ada"]));
        assert_eq!(client.ask("wrong", json!([])), json!([true]));
    }
}

#[test]
fn sends_no_ack_for_result_receipt() {
    fn handler(socket: &Socket) -> Result<Receipt, Box<dyn std::error::Error>> {
        Ok(socket.emit("told", ())?)
    }
    let io = Io::new();
    io.on("tell", handler).on("done", || "done");
    let server = serve(&io);
    let mut client = Client::connect(Kind::Json, &server.dial);
    client.say(ClientMessage { namespace: "/", ack: Some(9), name: "tell", args: json!([]) });
    client.expect("told", json!([]));
    assert_eq!(client.ask("done", json!([])), json!(["done"]));
}
