//! Registrations that are rejected because they could only fail later.

use std::panic::{AssertUnwindSafe, catch_unwind};

use roomcast_server::emit::Receipt;
use roomcast_server::extract::{ArgsError, EventName};
use roomcast_server::handler::{EventError, cloned, serial};
use roomcast_server::namespace::ParentNamespace;
use roomcast_server::socket::CloseReason;
use roomcast_server::typed::{Event, EventSet, NoAnswer};
use roomcast_server::{Ack, Args, Auth, EmitError, Io, Socket, Value};
use serde::Deserialize;
use serde_json::json;

use crate::support::client::{Client, Kind};
use crate::support::recorder::ear;
use crate::support::serve::serve;

/// Returns the panic message of the registration.
#[track_caller]
fn refusal(register: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(register)).expect_err("a rejection");
    *panic.downcast::<String>().expect("a string")
}

/// Names that no client sends, each with the method to use instead.
const RESERVED: [(&str, &str); 7] = [
    ("connect", "`on_connect`"),
    ("connection", "`on_connect`"),
    ("disconnect", "`on_disconnect`"),
    ("disconnecting", "`on_disconnecting`"),
    ("connect_error", "`middleware`"),
    ("newListener", "`listeners`"),
    ("removeListener", "`listeners`"),
];

#[test]
fn suggests_method_for_reserved_names() {
    let io = Io::new();
    let parent: ParentNamespace = io.of_matching(|_| true);
    for (name, method) in RESERVED {
        let refusals = [
            refusal(|| _ = io.on(name, async || {})),
            refusal(|| _ = io.once(name, async || {})),
            refusal(|| _ = io.of("/other").on(name, async |_: Socket| {})),
            refusal(|| _ = io.of("/other").once(name, |_: &Socket| ())),
            refusal(|| _ = parent.on(name, async |_: String| {})),
        ];
        for (at, text) in refusals.iter().enumerate() {
            let call = if at % 2 == 1 { "once" } else { "on" };
            assert!(text.starts_with(&format!("`{call}({name:?}, ..)`")) && text.contains(method), "{text}");
        }
        assert!(io.listeners(name).is_empty());
    }
    io.on("connected", async || {})
        .on("Connect", async || {})
        .on("error", async || {})
        .on("message", async || {});
}

#[test]
fn rejects_reserved_names_on_sockets() {
    let (told, heard) = ear();
    let io = Io::new();
    io.on_connect(move |socket: &Socket| {
        for (name, _) in RESERVED {
            let _ = told.send(refusal(|| _ = socket.on(name, async || {})));
            let _ = told.send(refusal(|| _ = socket.once(name, async || {})));
        }
    });
    let server = serve(&io);
    let _client = Client::connect(Kind::WebSocket, &server.dial);
    for ((name, method), _) in RESERVED.iter().flat_map(|named| [(named, 0), (named, 1)]) {
        let text = heard.next();
        assert!(text.contains(name) && text.contains(method), "{text}");
    }
}

#[derive(Debug, Deserialize)]
struct Left;

impl Event for Left {
    const NAME: &'static str = "disconnect";
    type Answer = NoAnswer;
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "only names are read")]
enum All {
    Hello(String),
    Connection,
}

impl EventSet for All {}

#[test]
fn rejects_reserved_names_in_schemas() {
    let io = Io::new();
    let text = refusal(|| _ = io.on_event(async |_: Socket, _: Left| {}));
    assert!(text.contains("\"disconnect\"") && text.contains("`on_disconnect`"), "{text}");
    let text = refusal(|| _ = io.of("/x").on_event(async |_: Socket, _: All| {}));
    assert!(text.contains("\"connection\"") && text.contains("`on_connect`"), "{text}");
    for name in ["connect", "connection", "new_namespace"] {
        let text = refusal(|| _ = io.on_server_side(name, async |_: Args| {}));
        assert!(text.contains("reserved"), "{text}");
    }
}

#[test]
fn rejects_parameters_after_args() {
    let io = Io::new();
    for text in [
        refusal(|| _ = io.on("say", async |_: Args, _: String| {})),
        refusal(|| _ = io.once("say", |_: &Socket, _: Args, _: Option<u8>| ())),
        refusal(|| _ = io.on("say", async |_: String, _: Args, _: Args| {})),
        refusal(|| _ = io.on_any(async |_: EventName, _: Args, _: Ack, _: Value| {})),
        refusal(|| _ = io.on_other(async |_: Args, _: Result<u8, ArgsError>| {})),
        refusal(|| _ = io.event_middleware(async |_: Args, _: String| {})),
        refusal(|| _ = io.on("say", serial(async |_: Args, _: String| {}))),
        refusal(|| _ = io.on("say", cloned(async |_: Args, _: String| {}))),
    ] {
        assert!(text.contains("put `Args` last"), "{text}");
    }
    let text = refusal(|| _ = io.on("say", async |_: Socket, _: Args, _: String| {}));
    assert_eq!(
        text,
        "`on(\"say\", ..)`: parameter 3 of the handler, `alloc::string::String`, takes an argument, but `Args` before it \
         takes all remaining ones; put `Args` last"
    );
    io.on("say", async |_: String, _: Args, _: Ack, _: Socket| {});
}

#[test]
fn rejects_unavailable_parameters() {
    let io = Io::new();
    let main = io.main();
    for (text, method, reason) in [
        (refusal(|| _ = io.on_connect(async |_: Socket, _: String| {})), "on_connect", "`Auth<T>`"),
        (refusal(|| _ = main.on_connect(async |_: Option<u8>| {})), "on_connect", "`Auth<T>`"),
        (refusal(|| _ = io.on_connect(async |_: Args| {})), "on_connect", "`Auth<T>`"),
        (refusal(|| _ = io.on_connect(async |_: Ack| {})), "on_connect", "no client waits"),
        (refusal(|| _ = main.middleware(async |_: Value| {})), "middleware", "`Auth<T>`"),
        (refusal(|| _ = io.middleware(async |_: CloseReason| {})), "middleware", "`on_disconnect`"),
        (refusal(|| _ = io.on_disconnect(async |_: Socket, _: String| {})), "on_disconnect", "`CloseReason`"),
        (refusal(|| _ = io.on_disconnecting(|_: String| ())), "on_disconnecting", "`CloseReason`"),
        (refusal(|| _ = io.middleware(async |_: Ack| {})), "middleware", "no client waits"),
        (refusal(|| _ = io.on_error(async |_: EventError, _: String| {})), "on_error", "`EventError`"),
        (refusal(|| _ = io.on_error(async |_: CloseReason| {})), "on_error", "`on_disconnect`"),
        (refusal(|| _ = io.on("say", async |_: EventError| {})), "on(\"say\"", "`on_error`"),
        (refusal(|| _ = io.on("say", async |_: CloseReason| {})), "on(\"say\"", "`on_disconnect`"),
        (refusal(|| _ = io.prepend_any(async |_: CloseReason| {})), "on_any", "`on_disconnect`"),
    ] {
        assert!(text.starts_with(&format!("`{method}")) && text.contains(reason), "{text}");
    }
    io.on_connect(async |_: Socket, _: Io, _: Auth<Value>, _: EventName| {});
    io.on_disconnect(async |_: Socket, _: CloseReason| {}).on_error(async |_: EventError, _: Ack, _: Io| {});
}

#[test]
fn rejects_middleware_returning_value() {
    let io = Io::new();
    for text in [
        refusal(|| _ = io.middleware(async |_: Socket| false)),
        refusal(|| _ = io.middleware(|_: &Socket| Some("no"))),
        refusal(|| _ = io.middleware(async || Ok::<_, String>(false))),
        refusal(|| _ = io.of("/x").event_middleware(async || false)),
        refusal(|| _ = io.event_middleware(|| json!({ "error": "no" }))),
    ] {
        assert!(text.contains("`Result<(), E>`"), "{text}");
    }
    io.middleware(async || {})
        .event_middleware(async |socket: Socket| -> Result<Receipt, EmitError> { socket.emit("seen", ()) });
}

#[test]
fn panics_name_registering_line() {
    use std::sync::Mutex;

    static LINES: Mutex<Vec<(String, u32)>> = Mutex::new(Vec::new());
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let at = panic.location().expect("a place");
        if at.file().ends_with("registering.rs") || at.file().contains("crates/server/src") {
            LINES.lock().expect("no panic").push((at.file().to_owned(), at.line()));
        }
        before(panic);
    }));
    let io = Io::new();
    let line = line!() + 1;
    let _ = catch_unwind(AssertUnwindSafe(|| _ = io.on("connect", async || {})));
    let _ = catch_unwind(AssertUnwindSafe(|| _ = io.on_connect(async |_: String| {})));
    let _ = catch_unwind(AssertUnwindSafe(|| _ = io.of("/x").middleware(async || true)));
    let _ = catch_unwind(AssertUnwindSafe(|| _ = io.on_event(async |_: Socket, _: Left| {})));
    let lines = LINES.lock().expect("no panic").clone();
    for expected in line..line + 4 {
        let is_named = |(file, at): &(String, u32)| file.ends_with("registering.rs") && *at == expected;
        assert!(lines.iter().any(is_named), "line {expected} is missing in {lines:?}");
    }
}
