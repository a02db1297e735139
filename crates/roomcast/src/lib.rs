//! Real-time messaging server for Socket.IO and plain WebSocket clients.
//!
//! Roomcast keeps a connection to each client and sends events to all clients, to all except the sender, or to the
//! members of a room. The official Socket.IO clients (protocol 5: `socket.io-client` 3 and 4) connect unmodified over
//! HTTP long-polling, WebSocket, or long-polling with an upgrade. Clients that use a plain `new WebSocket(…)` join the
//! same rooms.
//!
//! The crate root re-exports the types that most applications need. Each module covers one concept and contains all of
//! its types, including the ones re-exported at the root.
//!
//! # Quick start
//!
//! An [`Io`] is the handle to a server: it registers handlers and emits events.
//!
//! ```no_run
//! use roomcast::{EmitError, Io, ServeError, Server, Socket};
//!
//! async fn join(socket: Socket, room: String) -> Result<(), EmitError> {
//!     socket.join(&room);
//!     socket.to(&room).emit("joined", socket.id().as_str())?; // all others in the room
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
//! [`Server`] is a standalone HTTP server. `serve` runs on the current tokio runtime; `run` starts worker threads and
//! assigns each connection to one of them. The feature `tls` adds https and wss. [`Io::layer`] and [`Io::service`]
//! mount an `Io` into axum or any tower service on hyper, with the same behaviour. With the feature `axum` (enabled by
//! default), client addresses come from axum's `ConnectInfo<SocketAddr>`.
//!
//! For applications written for Node, `docs/migration.md` maps every call of the Socket.IO server API to this crate.
//!
//! # Handlers
//!
//! A [`Handler`] is a function, async or not, whose parameters are extractors. [`Socket`], [`Io`], [`State`],
//! [`Extension`], [`Ack`], [`EventName`], [`Auth`], [`Args`] and [`CloseReason`] extract a part of the event. Any other
//! parameter deserializes the next argument of the event with serde, including binary ([`Bytes`]). The return value is
//! the acknowledgement, if the client requested one. `#[debug_handler]` improves the compiler errors of a function that
//! does not implement [`Handler`].
//!
//! ```
//! use roomcast::extract::ArgsError;
//! use roomcast::{Ack, Bytes, Io, Socket};
//!
//! # let io = Io::new();
//! io.on("upload", async |socket: Socket, name: String, data: Bytes, note: Option<String>| {
//!     println!("{} sent {name}: {} bytes, {note:?}", socket.id(), data.len());
//!     if data.is_empty() { Err("nothing came") } else { Ok(data.len()) } // errors are logged with the event name
//! });
//! io.on("half", async |number: Result<u32, ArgsError>, ack: Ack| match number {
//!     Ok(number) => ack.send(number / 2),
//!     Err(error) => ack.send(("error", error.to_string())), // without an answer the client times out
//! });
//! ```
//!
//! [`State`] shares a value, set by [`IoBuilder::state`], between handlers. [`Extension`] reads what a layer in front
//! of the server attached to the request, such as the authenticated user. [`IoBuilder`] also configures request filters
//! ([`allow_request`](config::IoBuilder::allow_request)) and response headers
//! ([`headers`](config::IoBuilder::headers)).
//!
//! ## Ordering and errors
//!
//! The handlers of a client start in the order of its events; each runs to its first `.await` that suspends before the
//! next starts. [`serial`] makes one handler finish an event before it starts the next; [`Socket::serial`] and
//! [`NamespaceHandle::serial`] do the same for all handlers. An error or a panic in a handler affects only that event.
//! [`on_error`](Io::on_error) receives these failures and arguments that do not deserialize, and may answer the client.
//!
//! ## Listeners and middleware
//!
//! An event may have several handlers, which run in the order of their registration. Handlers on a namespace have no
//! cost per client; as on Node, handlers may also be added to a [`Socket`] while it connects. [`once`](Io::once)
//! handles a single event, [`off`](Io::off) removes handlers, [`on_any`](Io::on_any) and
//! [`on_any_outgoing`](Socket::on_any_outgoing) observe all events in each direction,
//! [`event_middleware`](Io::event_middleware) filters events, and [`on_disconnecting`](Io::on_disconnecting) runs
//! before a disconnecting socket leaves its rooms.
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
//! The traits [`Event`] and, for several events, [`EventSet`] define the name and the types of an event in one place.
//! Handlers and emitters then agree by construction, and an acknowledgement of the wrong type does not compile.
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
//!     Ok::<_, roomcast::EmitError>(told.queued) // the acknowledgement
//! });
//! # async fn f(socket: Socket, say: Say) -> Result<(), Box<dyn std::error::Error>> {
//! let told: usize = socket.emit_event_with_ack(&say).await?;
//! # Ok(()) }
//! ```
//!
//! # Namespaces
//!
//! A namespace separates handlers and rooms on a shared connection; [`Io::of`] creates one. Connect
//! [middleware](namespace::NamespaceHandle::middleware) authorizes clients and rejects them with a [`ConnectError`],
//! which may carry data. Dynamic namespaces are created on the first connect, if a pattern, a function or an async
//! predicate accepts the name; the async predicate also receives the client's authentication payload. Events emitted to
//! a [`ParentNamespace`] reach all of its child namespaces.
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
//!     socket.namespace().emit("edited", text).map(drop) // to clients of the same document
//! });
//! documents.emit("maintenance", "in five minutes")?; // to clients of all documents
//! io.of_when(async |request: NamespaceRequest| request.auth::<Value>().is_ok_and(|auth| auth["invited"] == true));
//! # Ok(()) }
//! ```
//!
//! # Emitting
//!
//! The arguments of an event are a tuple, a reference to a single value, or one of a few basic types ([`IntoArgs`]):
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
//! [`Socket::emit_with_ack`] and [`Emit::emit_with_ack`] wait for acknowledgements.
//!
//! # Backpressure
//!
//! `emit` does not wait: it queues the frame in the outbox of each recipient. Each outbox is bounded and drains at the
//! pace of its client. When a client stalls, its [`Overflow`] policy decides whether it is closed after a timeout or
//! loses events; other clients are not delayed. A handler that sends a large amount of data to one client awaits
//! [`Socket::writable`] between the parts.
//!
//! # Rooms
//!
//! The operators that select the recipients of an event also select sockets to look up
//! ([`fetch_sockets`](emit::Emit::fetch_sockets)), to move ([`sockets_join`](emit::Emit::sockets_join),
//! [`sockets_leave`](emit::Emit::sockets_leave)) and to disconnect ([`disconnect`](emit::Emit::disconnect)).
//! [`Socket::set_data`] stores data that is returned with the socket. Hooks such as [`Io::on_join_room`] observe
//! changes of rooms, and [`Presence`] sends each member of a room the list of members and its changes.
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
//! # Several servers
//!
//! [`IoBuilder::cluster`](config::IoBuilder::cluster) connects a server to the other servers of a [`cluster`], such as by
//! Redis (feature `redis`). Emits and the other operators then reach the sockets of all servers;
//! [`Io::server_side_emit`] sends an event to the other servers, and [`Io::on_server_side`] handles it.
//!
//! # Client types
//!
//! | Client | Endpoint | Protocol |
//! | --- | --- | --- |
//! | Socket.IO | `/socket.io/` | events with acks, binary and namespaces |
//! | plain WebSocket | `/ws` | `message` events: each frame is the only argument |
//! | plain WebSocket, subprotocol [`JSON_SUBPROTOCOL`] | `/ws` | JSON arrays: events with acks and binary |
//!
//! [`Auth`] extracts the authentication payload: `auth` of a Socket.IO client; for plain clients, the query of the URL
//! and the token offered as a subprotocol ([`Endpoint::plain`]).
//!
//! The same handlers and emitters serve all client types. The [`Receipt`] counts the events that a client's protocol
//! cannot carry, such as an acknowledgement in plain mode; other recipients are not affected.
//!
//! # Connection state recovery
//!
//! With [`Config::recovery`] enabled, a client that reconnects within two minutes (by default) resumes its session: it
//! keeps its id, its rooms and its [data](Socket::set_data), and it receives the missed events before any newer ones.
//! [`Socket::recovered`] returns whether the session was resumed. Recovery works with unmodified official clients and
//! with plain clients in JSON mode.
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
//! The feature `client` of the crate `roomcast-testkit` provides in-memory clients. They need no port, pass through the
//! same HTTP, session and handler code as real clients, and work with a paused clock.
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
//! Socket.IO clients with a custom [`Parser`] connect to a separate path ([`Endpoint::parser`]) and share the rooms of
//! all other clients. `MsgpackCodec` (feature `msgpack`) is compatible with `socket.io-msgpack-parser`.
//!
//! # Custom transports and routers
//!
//! [`Io::builder`] accepts [`Transport`]s, [`Endpoint`]s, a router and a [`Config`]. Custom components implement the
//! traits of `roomcast-core` and run the conformance suites of `roomcast-testkit` as their tests. The example `sse`
//! implements a transport over server-sent events and POST in `examples/sse/transport.rs`; `tests/sse.rs` runs the
//! suite on it.
//!
//! # Feature flags
//!
//! - `axum` (default): client addresses from axum's `ConnectInfo<SocketAddr>` when mounted in axum.
//! - `macros` (default): `#[debug_handler]`.
//! - `tls`: TLS in [`Server`], by rustls.
//! - `msgpack`: `MsgpackCodec`, MessagePack encoding of Socket.IO packets.
//! - `redis`: `cluster::redis`, several servers as one, connected by Redis.
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

pub mod cluster;

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
    //! Rooms, room events and access to the sockets in a room.

    pub use roomcast_rooms::Rooms;
    pub use roomcast_server::rooms::{
        Heard, Presence, QueryError, RemoteHandshake, RemoteSocket, Room, RoomChange,
    };
}

pub mod transport {
    //! Transports, endpoints and the protocols of the endpoints.

    pub use roomcast_server::transport::{
        ByteString, Compressed, Compression, Endpoint, JSON_SUBPROTOCOL, Message, Parser, Polling, Transport,
        TransportName, WebSocket,
    };
    #[cfg(feature = "msgpack")]
    pub use roomcast_socketio_msgpack::MsgpackCodec;
}
