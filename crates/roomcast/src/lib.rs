//! Real-time messaging: Socket.IO and plain WebSocket clients in the same rooms
//!
//! Clients connect to a server, which broadcasts messages: to all clients, to all except the sender, or to a room. The
//! official Socket.IO clients (protocol 5, so `socket.io-client` 3 and 4) connect unmodified, by HTTP long-polling, by
//! WebSocket, or by polling with upgrade. A plain `new WebSocket(…)` joins the same rooms.
//!
//! The crate root exports the names that most applications use. All names are also in modules, one per concept.
//!
//! # Quick start
//!
//! Applications start with an [`Io`]. It registers handlers and emits events.
//!
//! ```no_run
//! use roomcast::{EmitError, Io, ServeError, Server, Socket};
//!
//! async fn join(socket: Socket, room: String) -> Result<(), EmitError> {
//!     socket.join(&room);
//!     socket.to(&room).emit("joined", socket.id().as_str())?; // the others in the room
//!     Ok(())
//! }
//!
//! # async fn main_() -> Result<(), ServeError> {
//! let io = Io::new(); // Socket.IO at /socket.io/, plain WebSocket at /ws
//! io.on("join", join);
//! Server::new(io).bind("127.0.0.1:3000")?.serve().await?;
//! # Ok(()) }
//! ```
//!
//! [`Server`] serves it standalone: on the current runtime, or with `run` on its own threads, each with its own
//! clients; with the feature `tls` also over https and wss. [`Io::layer`] and [`Io::service`] mount it into axum, or
//! any tower service on hyper; it then runs on that runtime and works the same. With the default feature `axum`, it
//! reads client addresses from axum's `ConnectInfo<SocketAddr>`.
//!
//! The migration guide, `docs/migration.md`, maps every call of the Node server API.
//!
//! # Handlers
//!
//! A [`Handler`] is a function, async or not, with typed parameters. [`Socket`], [`Io`], [`State`], [`Extension`],
//! [`Ack`], [`EventName`], [`Auth`], [`Args`] and [`CloseReason`] extract their part of the event; any other parameter
//! takes the next argument of the client, deserialised by serde, including binary ([`Bytes`]). The return value is the
//! answer if the client asked for one. `#[debug_handler]` explains why a function does not compile as a handler.
//!
//! ```
//! use roomcast::extract::ArgsError;
//! use roomcast::{Ack, Bytes, Io, Socket};
//!
//! # let io = Io::new();
//! io.on("upload", async |socket: Socket, name: String, data: Bytes, note: Option<String>| {
//!     println!("{} sent {name}: {} bytes, {note:?}", socket.id(), data.len());
//!     if data.is_empty() { Err("nothing came") } else { Ok(data.len()) } // an error is logged with the name of the event
//! });
//! io.on("half", async |number: Result<u32, ArgsError>, ack: Ack| match number {
//!     Ok(number) => ack.send(number / 2),
//!     Err(error) => ack.send(("error", error.to_string())), // without an answer the client waits until its timeout
//! });
//! ```
//!
//! Handlers share [`State`], set by [`IoBuilder::state`]. Data that an outer layer attaches to a request, such as the
//! user, is an [`Extension`]. [`IoBuilder`] also takes hooks that check requests
//! ([`allow_request`](config::IoBuilder::allow_request)) and edit answers ([`headers`](config::IoBuilder::headers)).
//!
//! Handlers of one client start in the order of its events, each running to its first wait before the next starts.
//! [`serial`] makes one handler finish an event before it starts the next; [`Socket::serial`] and
//! [`NamespaceHandle::serial`] do so for all handlers. A failure, a panic or an argument mismatch affects only that
//! event and is passed to [`on_error`](Io::on_error), which may answer the client.
//!
//! An event may have several handlers, called in order. They are registered on a namespace, where they cost nothing per
//! client, or on a [`Socket`] while it connects, as on Node. [`once`](Io::once) and [`off`](Io::off) work as on Node,
//! [`on_any`](Io::on_any) and [`on_any_outgoing`](Socket::on_any_outgoing) see all incoming and outgoing events,
//! [`event_middleware`](Io::event_middleware) filters events, and [`on_disconnecting`](Io::on_disconnecting) runs while
//! the socket is still in its rooms.
//!
//! ```
//! use roomcast::extract::EventName;
//! use roomcast::socket::CloseReason;
//! use roomcast::{Args, Io, Socket};
//!
//! # let io = Io::new();
//! io.on_connect(async |socket: Socket| {
//!     socket.once("hello", async |name: String| println!("hello {name}"));
//!     socket.on_any(async |EventName(name): EventName, args: Args| println!("{name} {}", args.json())); // unparsed
//!     socket.event_middleware(async |socket: Socket, EventName(name): EventName| {
//!         if name == "admin" && socket.handshake().header("x-admin").is_none() { Err("not you") } else { Ok(()) }
//!     });
//!     socket.on_disconnecting(async |socket: Socket, why: CloseReason| {
//!         println!("{} leaves {:?}: {why}", socket.id(), socket.rooms());
//!     });
//! });
//! ```
//!
//! # Typed events
//!
//! Names and types can be declared once, as an [`Event`] or, for several events, an [`EventSet`]. Handlers and emitters
//! then always agree, and a wrong answer type does not compile.
//!
//! ```
//! use roomcast::typed::Event;
//! use roomcast::{Io, Socket};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Say { room: String, text: String }
//!
//! impl Event for Say {
//!     const NAME: &'static str = "say";
//!     type Answer = usize;
//! }
//!
//! # let io = Io::new();
//! io.on_event(async |socket: Socket, say: Say| {
//!     let told = socket.to(&say.room).emit("said", say.text)?;
//!     Ok::<_, roomcast::EmitError>(told.queued) // the answer
//! });
//! # async fn f(socket: Socket, say: Say) -> Result<(), Box<dyn std::error::Error>> {
//! let told: usize = socket.emit_event_with_ack(&say).await?;
//! # Ok(()) }
//! ```
//!
//! # Namespaces
//!
//! [`Io::of`] creates a namespace, separate from the others over the same connection.
//! [`middleware`](namespace::NamespaceHandle::middleware) authorizes connects; a [`ConnectError`] carries data. Dynamic
//! namespaces are created on request, by a pattern, a function, or an async function that sees the client's auth
//! payload. The [`ParentNamespace`] emits to all of them.
//!
//! ```
//! use roomcast::namespace::NamespaceRequest;
//! use roomcast::{Auth, ConnectError, Io, Socket, Value};
//!
//! # fn f() -> Result<(), Box<dyn std::error::Error>> {
//! # let io = Io::new();
//! io.of("/admin").middleware(async |Auth(shown): Auth<Value>| match shown["token"].as_str() {
//!     Some("sesame") => Ok(()),
//!     _ => Err(ConnectError::new("not you").with_data(&"ask for a token")),
//! });
//! let documents = io.of_pattern(r"^/documents/\d+$")?;
//! documents.on("edit", async |socket: Socket, text: String| {
//!     socket.namespace().emit("edited", text).map(drop) // to all sockets of this document
//! });
//! documents.emit("maintenance", "in five minutes")?; // to all documents
//! io.of_when(async |request: NamespaceRequest| request.auth::<Value>().is_ok_and(|auth| auth["invited"] == true));
//! # Ok(()) }
//! ```
//!
//! # Emitting
//!
//! The arguments of an event are a tuple, one value by reference, or one of a few types by value ([`IntoArgs`]):
//! `("a", 1)` is two arguments, `&("a", 1)` is one array.
//!
//! ```
//! # fn f(io: roomcast::Io, socket: roomcast::Socket) -> Result<(), roomcast::EmitError> {
//! socket.emit("news", "for this client")?;
//! io.emit("news", "for everyone")?;
//! socket.broadcast().emit("news", "for everyone but the sender")?;
//! socket.to("red").emit("news", "for a room, but the sender")?;
//! io.to(["red", "blue"]).except("muted").emit("news", "each once")?;
//! let receipt = io.to("map").volatile().emit("position", (3, 4))?;
//! println!("{} got it, {} could not take it", receipt.queued, receipt.dropped);
//! # Ok(()) }
//! ```
//!
//! `emit` never waits. It queues events in each client's outbox, which is written as fast as the client reads. A
//! stalled client is closed after a timeout or loses events, depending on its [`Overflow`] policy, and never delays
//! others. To send much data, await [`Socket::writable`] between emits. [`Socket::emit_with_ack`] and
//! [`Emit::emit_with_ack`] wait for answers.
//!
//! # Rooms and presence
//!
//! Besides emitting, the same operators list, move and disconnect the sockets of a room:
//! [`fetch_sockets`](emit::Emit::fetch_sockets), [`sockets_join`](emit::Emit::sockets_join),
//! [`sockets_leave`](emit::Emit::sockets_leave), [`disconnect`](emit::Emit::disconnect). Listed sockets include the
//! data set by [`Socket::set_data`]. [`Io::on_join_room`] and similar hooks report room changes to the application, and
//! [`Presence`] announces the members of a room to each other.
//!
//! ```
//! # async fn f(io: roomcast::Io, socket: roomcast::Socket) -> Result<(), Box<dyn std::error::Error>> {
//! use roomcast::rooms::Presence;
//!
//! io.presence(Presence::in_room("lobby").with_data());
//! socket.set_data(&("ada", 12))?;
//! socket.join("lobby");
//! for player in io.within("lobby").fetch_sockets().await? {
//!     println!("{} is {:?}", player.id(), player.data::<(String, u32)>()?);
//! }
//! io.within("lobby").except(socket.id()).sockets_join("game");
//! println!("{} play", io.count("game"));
//! # Ok(()) }
//! ```
//!
//! [`Io::on_server_side`] and [`Io::server_side_emit`] exchange events between the nodes of a cluster.
//!
//! # Kinds of clients
//!
//! | Client | Path | Protocol |
//! | --- | --- | --- |
//! | Socket.IO | `/socket.io/` | events with acks, binary and namespaces |
//! | plain WebSocket | `/ws` | `message` events with the frame as the only argument |
//! | plain WebSocket, subprotocol [`JSON_SUBPROTOCOL`] | `/ws` | JSON arrays: events with acks and binary |
//!
//! [`Auth`] holds a client's credentials: its `auth` payload or, for plain clients, the URL query and the token offered
//! as a subprotocol ([`Endpoint::plain`]).
//!
//! Handlers and emitters work the same for all kinds. Events that a client does not support, such as an ack in plain
//! mode, are counted in the [`Receipt`] and do not affect other recipients.
//!
//! # Connection state recovery
//!
//! With [`Config::recovery`], a client that reconnects within two minutes regains its id, rooms and
//! [data](Socket::set_data), and receives missed events before newer ones. [`Socket::recovered`] returns whether this
//! happened. It works with unmodified official clients, and with plain clients in JSON mode.
//!
//! ```
//! use roomcast::{Config, Io};
//!
//! let config = Config::new().recovery(|recovery| recovery);
//! let io = Io::builder().config(config).build();
//! ```
//!
//! # Testing
//!
//! The crate `roomcast-testkit`, with its feature `client`, provides in-memory clients: no port, the same code path
//! through HTTP, session and handlers, and support for a paused clock.
//!
//! ```
//! use roomcast::Io;
//! use roomcast_testkit::TestClient;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let io = Io::new();
//! io.on("add", async |a: i32, b: i32| a + b);
//! let mut client = TestClient::connect(&io).await;
//! assert_eq!(client.emit_with_ack::<i32>("add", (2, 3)).await, 5);
//! # }
//! ```
//!
//! # Parsers
//!
//! Socket.IO clients with another [`Parser`] connect at a separate path ([`Endpoint::parser`]) and share the same
//! rooms. `MsgpackCodec`, with the feature `msgpack`, is the counterpart of `socket.io-msgpack-parser`.
//!
//! # Custom transports and routers
//!
//! [`Io::builder`] takes [`Transport`]s, [`Endpoint`]s, a router and a [`Config`]. Custom transports and routers
//! implement the traits of `roomcast-core` and are tested by the suites of `roomcast-testkit`. The example `sse` adds a
//! transport of server-sent events and POST in one file, `examples/sse/transport.rs`; `tests/sse.rs` runs the suite on
//! it.
//!
//! [`CloseReason`]: socket::CloseReason
//! [`Emit::emit_with_ack`]: emit::Emit::emit_with_ack
//! [`Endpoint::parser`]: transport::Endpoint::parser
//! [`Endpoint::plain`]: transport::Endpoint::plain
//! [`Endpoint`]: transport::Endpoint
//! [`EventName`]: extract::EventName
//! [`EventSet`]: typed::EventSet
//! [`Event`]: typed::Event
//! [`Extension`]: extract::Extension
//! [`Handler`]: handler::Handler
//! [`IntoArgs`]: emit::IntoArgs
//! [`IoBuilder::state`]: config::IoBuilder::state
//! [`IoBuilder`]: config::IoBuilder
//! [`JSON_SUBPROTOCOL`]: transport::JSON_SUBPROTOCOL
//! [`NamespaceHandle::serial`]: namespace::NamespaceHandle::serial
//! [`Overflow`]: emit::Overflow
//! [`ParentNamespace`]: namespace::ParentNamespace
//! [`Parser`]: transport::Parser
//! [`Presence`]: rooms::Presence
//! [`Receipt`]: emit::Receipt
//! [`Transport`]: transport::Transport
//! [`serial`]: handler::serial

#[cfg(feature = "macros")]
pub use roomcast_macros::debug_handler;
pub use roomcast_server::{
    Ack, Args, Auth, Bytes, Config, ConnectError, EmitError, Io, ServeError, Server, Socket, State, Value,
    json,
};
pub use roomcast_server::{config, emit, extract, handler, http, metrics, namespace, server, socket, typed};

#[doc(hidden)]
pub use roomcast_server::{handler_check, marker};

pub mod rooms {
    //! Rooms, presence and room members

    pub use roomcast_rooms::Rooms;
    pub use roomcast_server::rooms::{
        Presence, RemoteHandshake, RemoteSocket, Room, RoomChange, RouterError,
    };
}

pub mod transport {
    //! Transports, endpoints and parsers

    pub use roomcast_server::transport::{
        ByteString, Compressed, Compression, Endpoint, JSON_SUBPROTOCOL, Message, Parser, Polling, Transport,
        TransportName, WebSocket,
    };
    #[cfg(feature = "msgpack")]
    pub use roomcast_socketio_msgpack::MsgpackCodec;
}

/// Compiles the Rust code of the migration guide
#[cfg(doctest)]
#[doc = include_str!("../../../docs/migration.md")]
mod migration {}
