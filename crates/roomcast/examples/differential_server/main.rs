//! Application for the differential test against Node: `differential_server --port N`.
//!
//! Clients send commands, so that a script can use any part of the server API. Hooks report their calls in the
//! namespace `/watch`. `e2e/reference/differential.js` is the same application on Node.

mod options;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Parser;
use roomcast::emit::{Emit, Receipt, SocketEmit};
use roomcast::extract::{ArgsError, EventName};
use roomcast::handler::{EventError, EventErrorCause, EventRewrite};
use roomcast::http::{Handshake, RefusedRequest};
use roomcast::namespace::{NamespaceHandle, NamespaceRequest, ParentNamespace};
use roomcast::socket::CloseReason;
use roomcast::transport::Endpoint;
use roomcast::{Ack, Args, Auth, ConnectError, EmitError, Io, Server, Socket};
use roomcast_socketio_msgpack::MsgpackCodec;
use serde::Deserialize;
use serde_json::{Value, json};

use self::options::Options;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let told: Arc<OnceLock<Io>> = Arc::default();
    let mut builder = Io::builder()
        .config(options.config())
        .endpoint(Endpoint::socket_io())
        .endpoint(Endpoint::socket_io().at("/packed/").parser(MsgpackCodec::shared()))
        .endpoint(Endpoint::engine_io("/engine"))
        .allow_request(async |request: Handshake| match request.query_value("deny") {
            Some(text) => Err(text),
            None => Ok(()),
        });
    if options.client_files {
        builder = builder.serve_client(CLIENT_FILES)?;
    }
    if options.tell_refusals {
        let told = told.clone();
        builder = builder.connection_error(move |refused| {
            if let Some(io) = told.get() {
                note_refusal(io, refused);
            }
        });
    }
    let io = builder.build();
    let _ = told.set(io.clone());
    io.on_server_side("from another server", {
        let io = io.clone();
        move |(): ()| {
            let _ = io.of("/watch").emit("note", ("", "heard from another server"));
            async {}
        }
    });
    io.of("/engine").on("message", async |socket: Socket, args: Args| socket.emit("message", args).map(drop));
    io.of("/watch").on("clients", async |io: Io, ack: Ack| ack.send(io.client_count()).map(drop));
    io.on_new_namespace(|namespace: NamespaceHandle| {
        if ["/dynamic-", "/asked-"].iter().any(|prefix| namespace.name().as_str().starts_with(prefix)) {
            application(&namespace);
        }
    });
    let parent = io.of_pattern(r"^/dynamic-\d+$")?;
    let _ = PARENT.set(parent);
    io.of_when(async |request: NamespaceRequest| {
        let shown = request.auth::<Value>().unwrap_or_default();
        request.name().as_str().starts_with("/asked-") && shown["token"] == "secret"
    });
    for name in ["/", "/other", "/guarded", "/greeting"] {
        application(&io.of(name));
    }
    io.of("/greeting")
        .on_connect(async |socket: Socket, Auth(auth): Auth<Value>| socket.emit("auth", auth).map(drop));
    io.of("/guarded").middleware(guard).middleware(async |socket: Socket| note(&socket, "second middleware"));
    let bound = Server::new(io).bind(("127.0.0.1", options.port))?;
    println!("listening on http://{}", bound.address());
    match bound.run(options.threads)? {}
}

/// Client files of the npm package `socket.io`, which the Node server also serves.
const CLIENT_FILES: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../e2e/node_modules/socket.io/client-dist");

/// Parent of the dynamic namespaces.
static PARENT: OnceLock<ParentNamespace> = OnceLock::new();

/// Registers the handlers of a namespace.
fn application(namespace: &NamespaceHandle) {
    namespace
        .on_connect(async |socket: Socket| note(&socket, "connection"))
        .on_disconnecting(async |socket: Socket, reason: CloseReason| {
            note(&socket, &format!("disconnecting: {reason}; rooms {}", rooms(&socket)));
        })
        .on_disconnect(async |socket: Socket, reason: CloseReason| {
            note(&socket, &format!("disconnect: {reason}; rooms {}", rooms(&socket)));
        })
        .on("sync", async |ack: Ack| ack.send(()).map(drop))
        .on("echo", echo)
        .on("1", echo)
        .on("wait", async |ack: Ack, milliseconds: u64| {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            ack.send(milliseconds).map(drop)
        })
        .on("unanswered", async |_: Ack| ())
        .on("twice", async |socket: Socket| socket.emit("first handler", ()).map(drop))
        .on("twice", async |socket: Socket| socket.emit("second handler", ()).map(drop))
        .on_connect(async |socket: Socket| {
            socket.once("once", echo);
            socket.event_middleware(async |EventName(name): EventName, args: Args, event: EventRewrite| {
                if name == "rewritten" {
                    let separator = if args.is_empty() { "" } else { "," };
                    let all = format!("\"by a middleware\"{separator}{}", args.json());
                    event.set_name("echo").set_args(Args::from_json(all.into(), Vec::new())?)?;
                }
                Ok::<_, ArgsError>(())
            });
            socket.event_middleware(async |socket: Socket, EventName(name): EventName| {
                if name == "forbidden" {
                    note(&socket, "middleware refuses an event");
                    return Err("forbidden by a middleware");
                }
                Ok(())
            });
            socket.on("forbidden", echo);
            socket.on_error(async |socket: Socket, error: EventError| {
                if let EventErrorCause::Refused(refusal) = error.cause {
                    note(&socket, &format!("error: {refusal}"));
                }
            });
        })
        .on("do", perform);
}

async fn echo(socket: Socket, name: EventName, ack: Ack, args: Args) -> Result<(), EmitError> {
    if ack.is_wanted() { ack.send(args).map(drop) } else { socket.emit(&name.0, args).map(drop) }
}

/// Accepts clients with the secret token and rejects others with the message and data they request.
async fn guard(socket: Socket, Auth(auth): Auth<Value>) -> Result<(), ConnectError> {
    note(&socket, &format!("first middleware: {auth}"));
    if let Some(room) = auth["join"].as_str() {
        socket.join(room);
    }
    if let Some(milliseconds) = auth["wait"].as_u64() {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
    if auth["token"] == "secret" {
        return Ok(());
    }
    let refusal = ConnectError::new(auth["message"].as_str().unwrap_or("not authorized"));
    Err(match auth.get("data") {
        Some(data) => refusal.with_data(data),
        None => refusal,
    })
}

/// Command that a client sends to the server.
#[derive(Deserialize)]
struct Command {
    #[serde(rename = "do")]
    verb: Verb,
    /// Emitter: `socket`, `broadcast`, `io`, `parent`, or the name of a namespace.
    #[serde(default)]
    at: Option<String>,
    /// Operators, in order of application.
    #[serde(default)]
    by: Vec<Operator>,
    #[serde(default)]
    rooms: Vec<String>,
    /// Whether to request acknowledgements.
    #[serde(default)]
    ack: bool,
    /// Whether to close the connection too.
    #[serde(default)]
    close: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Verb {
    Emit,
    Join,
    Leave,
    Rooms,
    Sockets,
    SocketsJoin,
    SocketsLeave,
    DisconnectSockets,
    SetData,
    Disconnect,
    Handshake,
    On,
    Off,
    OnAny,
    OffAny,
    OnAnyOutgoing,
    OffAnyOutgoing,
    ServerSideEmit,
    Children,
    CloseAll,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Operator {
    To(Vec<String>),
    In(Vec<String>),
    Except(Vec<String>),
    Timeout(u64),
    Compress(bool),
    Volatile,
    Local,
}

/// Executes a command and acknowledges it with the result.
async fn perform(
    socket: Socket,
    ack: Ack,
    command: Command,
    event: Option<String>,
    args: Args,
) -> Result<(), EmitError> {
    let outcome = match command.verb {
        Verb::Emit => emit(&socket, &command, &event.unwrap_or_default(), args).await,
        Verb::Join => {
            for room in &command.rooms {
                socket.join(room);
            }
            json!(rooms(&socket))
        }
        Verb::Leave => {
            for room in &command.rooms {
                socket.leave(room);
            }
            json!(rooms(&socket))
        }
        Verb::Rooms => json!(rooms(&socket)),
        Verb::Sockets => sockets(&target(&socket, &command)).await,
        Verb::SocketsJoin => {
            target(&socket, &command).sockets_join(command.rooms);
            Value::Null
        }
        Verb::SocketsLeave => {
            target(&socket, &command).sockets_leave(command.rooms);
            Value::Null
        }
        Verb::DisconnectSockets => {
            let target = target(&socket, &command);
            let _ = if command.close { target.disconnect_client() } else { target.disconnect() };
            Value::Null
        }
        Verb::SetData => json!(socket.set_data(&args.get::<Value>(0).unwrap_or_default()).is_ok()),
        Verb::Disconnect if command.close => {
            socket.disconnect_client();
            Value::Null
        }
        Verb::Disconnect => {
            socket.disconnect();
            Value::Null
        }
        Verb::Handshake => handshake(&socket),
        Verb::On => {
            socket.on(&event.unwrap_or_default(), echo);
            Value::Null
        }
        Verb::Off => {
            socket.off(&event.unwrap_or_default());
            Value::Null
        }
        Verb::OnAny => {
            socket.on_any(async |socket: Socket, EventName(name): EventName, args: Args| {
                note(&socket, &format!("any: {name}, {} arguments", args.len()));
            });
            Value::Null
        }
        Verb::OffAny => {
            socket.off_any();
            Value::Null
        }
        Verb::OnAnyOutgoing => {
            socket.on_any_outgoing(|outgoing| {
                let line = format!("outgoing: {}, {} arguments", outgoing.event, outgoing.args.len());
                note(outgoing.socket, &line);
            });
            Value::Null
        }
        Verb::OffAnyOutgoing => {
            socket.off_any_outgoing();
            Value::Null
        }
        Verb::ServerSideEmit => match socket.io().server_side_emit(&event.unwrap_or_default(), args) {
            Ok(()) => Value::Null,
            Err(error) => refused(&error),
        },
        Verb::Children => {
            let children = PARENT.get().map(ParentNamespace::children).unwrap_or_default();
            let mut names: Vec<_> = children.iter().map(|child| child.name().to_string()).collect();
            names.sort();
            json!(names)
        }
        Verb::CloseAll => {
            socket.io().close();
            Value::Null
        }
    };
    ack.send(&outcome).map(drop)
}

async fn emit(socket: &Socket, command: &Command, event: &str, args: Args) -> Value {
    let emitter = emitter(socket, command);
    match (emitter, command.ack) {
        (Emitter::One(one), false) => emitted(one.emit(event, args)),
        (Emitter::Many(many), false) => emitted(many.emit(event, args)),
        (Emitter::One(one), true) => match one.emit_with_ack(event, args).await {
            Ok(args) => json!({ "answers": args.parse::<Vec<Value>>().unwrap_or_default(), "error": null }),
            Err(error) => json!({ "answers": [], "error": error.to_string() }),
        },
        (Emitter::Many(many), true) => match many.emit_with_ack(event, args).await {
            Ok(answers) => {
                let first = |args: &Args| args.get::<Value>(0).unwrap_or_default();
                let mut given: Vec<_> = answers.answers.iter().map(|(_, args)| first(args)).collect();
                given.sort_by_key(Value::to_string);
                let error = (!answers.missing.is_empty()).then_some("operation has timed out");
                json!({ "answers": given, "error": error })
            }
            Err(error) => refused(&error),
        },
    }
}

/// Builds the emitter of a command and applies its operators.
fn emitter(socket: &Socket, command: &Command) -> Emitter {
    let first = match command.at.as_deref() {
        None | Some("socket") => Emitter::One(socket.compress(true)),
        Some("broadcast") => Emitter::Many(socket.broadcast()),
        Some("io") => Emitter::Many(socket.io().main().target()),
        Some("parent") => {
            Emitter::Many(PARENT.get().map_or_else(|| socket.broadcast(), |parent| parent.target()))
        }
        Some(name) => Emitter::Many(socket.io().of(name).target()),
    };
    command.by.iter().fold(first, Emitter::by)
}

/// Builds the emitter of a command as a broadcast.
fn target(socket: &Socket, command: &Command) -> Emit {
    match emitter(socket, command) {
        Emitter::One(one) => one.broadcast(),
        Emitter::Many(many) => many,
    }
}

/// Returns the selected sockets, sorted by their names in the script.
async fn sockets(target: &Emit) -> Value {
    let found = target.fetch_sockets().await.unwrap_or_else(|error| error.partial);
    let mut known: Vec<_> = found
        .iter()
        .map(|socket| {
            let handshake = socket.handshake().unwrap_or_default();
            let own = socket.id().as_str();
            let names = socket.rooms().iter().map(|room| room.to_string());
            let mut rooms: Vec<_> = names.map(|name| if name == own { "own".into() } else { name }).collect();
            rooms.sort();
            json!({
                "auth": handshake.auth,
                "data": socket.data::<Value>().ok().flatten(),
                "peer": handshake.query_value("peer"),
                "rooms": rooms.join(" "),
            })
        })
        .collect();
    known.sort_by_key(|socket| socket["peer"].to_string());
    json!(known)
}

/// Emitter to the socket of the client or to several sockets.
enum Emitter {
    One(SocketEmit),
    Many(Emit),
}

impl Emitter {
    fn by(self, operator: &Operator) -> Self {
        let time = Duration::from_millis;
        match (self, operator) {
            (Self::One(one), Operator::To(rooms)) => Self::Many(one.to(rooms.clone())),
            // Node's `in` excludes the socket, as `to` does; `within` would include it.
            (Self::One(one), Operator::In(rooms)) => Self::Many(one.to(rooms.clone())),
            (Self::One(one), Operator::Except(rooms)) => Self::Many(one.except(rooms.clone())),
            (Self::One(one), Operator::Timeout(milliseconds)) => Self::One(one.timeout(time(*milliseconds))),
            (Self::One(one), Operator::Compress(compress)) => Self::One(one.compress(*compress)),
            (Self::One(one), Operator::Volatile) => Self::One(one.volatile()),
            (Self::One(one), Operator::Local) => Self::Many(one.local()),
            (Self::Many(many), Operator::To(rooms)) => Self::Many(many.to(rooms.clone())),
            (Self::Many(many), Operator::In(rooms)) => Self::Many(many.within(rooms.clone())),
            (Self::Many(many), Operator::Except(rooms)) => Self::Many(many.except(rooms.clone())),
            (Self::Many(many), Operator::Timeout(milliseconds)) => {
                Self::Many(many.timeout(time(*milliseconds)))
            }
            (Self::Many(many), Operator::Compress(compress)) => Self::Many(many.compress(*compress)),
            (Self::Many(many), Operator::Volatile) => Self::Many(many.volatile()),
            (Self::Many(many), Operator::Local) => Self::Many(many.local()),
        }
    }
}

fn emitted(outcome: Result<Receipt, EmitError>) -> Value {
    outcome.map_or_else(|error| refused(&error), |_| Value::Null)
}

/// Reports an event that the server refuses to emit, without the error text: Node words it differently.
fn refused(error: &EmitError) -> Value {
    json!({ "refused": matches!(error, EmitError::ReservedName(_)) })
}

fn handshake(socket: &Socket) -> Value {
    let handshake = socket.handshake();
    // Node uses the last value of a repeated parameter.
    let query: BTreeMap<_, _> =
        handshake.query().filter(|(name, _)| name != "script" && name != "sid").collect();
    json!({
        "query": query,
        "header": handshake.header("x-told"),
        "address": handshake.address().map(|address| address.ip().to_string()),
        "secure": handshake.is_secure(),
        "path": handshake.uri().split('?').next(),
        "transport": socket.transport().to_string(),
    })
}

/// Returns the sorted rooms of a socket, with its own room as `own`.
fn rooms(socket: &Socket) -> String {
    let own = socket.id().as_str();
    let mut names: Vec<String> = socket.rooms().iter().map(|room| room.to_string()).collect();
    names.iter_mut().filter(|name| *name == own).for_each(|name| *name = "own".into());
    names.sort();
    names.join(" ")
}

/// Reports a socket event to the watchers.
fn note(socket: &Socket, text: &str) {
    let query = |name| socket.handshake().query_value(name).unwrap_or_default();
    let line = format!("{} {}: {text}", query("peer"), socket.namespace().name());
    // Having no watchers is not an error.
    let _ = socket.io().of("/watch").emit("note", (query("script"), line));
}

/// Reports a refused request to the watchers.
fn note_refusal(io: &Io, refused: &RefusedRequest<'_>) {
    let query = refused.request.uri.query().unwrap_or_default();
    let script = query.split('&').find_map(|pair| pair.strip_prefix("script=")).unwrap_or_default();
    let line = format!("refused: {} {} {}", refused.code, refused.message, refused.context);
    // Having no watchers is not an error.
    let _ = io.of("/watch").emit("note", (script, line));
}
