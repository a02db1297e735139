//! Real-time messaging: Socket.IO and plain WebSocket clients in the same rooms
//!
//! Clients hold a connection to a server, and the server sends one message to many: to everyone, to everyone but the
//! sender, or to a room. The official Socket.IO clients (protocol 5, so `socket.io-client` 3 and 4) connect unmodified,
//! by HTTP long-polling, by WebSocket, or by polling with upgrade. A plain `new WebSocket(…)` stands in the same rooms.
//!
//! The root of the crate has the names that most applications use. All others are in modules, one for each concept; the
//! names of the root are listed there again.
//!
//! # A server
//!
//! Everything begins with an [`Io`]. Handlers are registered on it, and it emits.
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
//! [`Server`] serves it alone: on the runtime that is there, or with `run` on threads of its own, each with clients of
//! its own; with the feature `tls` also by https and wss. [`Io::layer`] and [`Io::service`] mount it into axum, or any
//! tower service on hyper; then it lives on that runtime and works the same. With the feature `axum`, which is on by
//! default, it knows the addresses of clients by axum's `ConnectInfo<SocketAddr>`.
//!
//! Who comes from Node finds each call of Socket.IO's server beside ours in `docs/migration.md`.
//!
//! # Handlers
//!
//! A [`Handler`] is a function, async or not, whose parameters say what it wants. [`Socket`], [`Io`], [`State`],
//! [`Extension`], [`Ack`], [`EventName`], [`Auth`], [`Args`] and [`CloseReason`] take their part of the event; any other
//! parameter takes the next argument the client sent, as a type that serde reads, binary ([`Bytes`]) included. What it
//! returns is the answer to a client that asked for one; `#[debug_handler]` explains a function that does not compile as
//! a handler.
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
//!     Err(error) => ack.send(("error", error.to_string())), // or the client would wait for its own timeout
//! });
//! ```
//!
//! What handlers share is [`State`], given to [`IoBuilder::state`]; what a layer in front of the server found out about a
//! request, such as the user, is an [`Extension`]. [`IoBuilder`] also takes what is to be asked about requests
//! ([`allow_request`](config::IoBuilder::allow_request)) and done with answers ([`headers`](config::IoBuilder::headers)).
//!
//! Handlers of one client start in the order of its events, each running to its first wait before the next starts.
//! [`serial`] makes one handler wait until it is through with the event before, [`Socket::serial`] and
//! [`NamespaceHandle::serial`] all of them. One that fails or panics costs that event alone, and
//! [`on_error`](Io::on_error) hears of it, as of arguments that do not fit, and may answer the client.
//!
//! An event may have several handlers, called in order. They are registered on a namespace, where they cost nothing per
//! client, or on a [`Socket`] while it connects, as on Node. [`once`](Io::once) and [`off`](Io::off) are there,
//! [`on_any`](Io::on_any) and [`on_any_outgoing`](Socket::on_any_outgoing) for whatever comes and goes,
//! [`event_middleware`](Io::event_middleware) to let events through or not, and
//! [`on_disconnecting`](Io::on_disconnecting) while the rooms are still there.
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
//! # Events by a schema
//!
//! Names and types may also be written down once, as an [`Event`] or, for several, an [`EventSet`]. Handlers and emitters
//! then cannot disagree, and a wrong answer does not compile.
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
//! [`Io::of`] makes one, apart from the others and over the same connection. [`middleware`](namespace::NamespaceHandle::middleware)
//! decides who may join; a [`ConnectError`] carries data. Namespaces may also be made as clients ask for them, by a
//! pattern, a function, or an async function that sees what the client shows; what is emitted to the [`ParentNamespace`]
//! goes to all of them.
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
//!     socket.namespace().emit("edited", text).map(drop) // to those in the same document
//! });
//! documents.emit("maintenance", "in five minutes")?; // to those in any document
//! io.of_when(async |request: NamespaceRequest| request.auth::<Value>().is_ok_and(|auth| auth["invited"] == true));
//! # Ok(()) }
//! ```
//!
//! # Emitting
//!
//! The arguments of an event are a tuple, or one value by reference, or a few types by themselves ([`IntoArgs`]):
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
//! `emit` waits for nobody. What it puts into a client's outbox leaves as soon as the client takes it; a client that
//! stalls is closed after some time, or loses events, as its [`Overflow`] policy says. Others never wait for it. A sender
//! of much waits for [`Socket::writable`] between the parts. [`Socket::emit_with_ack`] and [`Emit::emit_with_ack`] wait for answers.
//!
//! # Rooms and who is in them
//!
//! Everybody can be emitted to, and also looked up, moved and disconnected, by the rooms they are in, with the same
//! operators: [`fetch_sockets`](emit::Emit::fetch_sockets), [`sockets_join`](emit::Emit::sockets_join),
//! [`sockets_leave`](emit::Emit::sockets_leave), [`disconnect`](emit::Emit::disconnect). What is kept with a socket by
//! [`Socket::set_data`] is found with it. [`Io::on_join_room`] and its like tell the application what becomes of rooms, and
//! a [`Presence`] tells those who are in a room who else is.
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
//! [`Io::on_server_side`] and [`Io::server_side_emit`] are for servers among themselves, where a router connects several.
//!
//! # Kinds of clients
//!
//! | Client | Connects to | Speaks |
//! | --- | --- | --- |
//! | Socket.IO | `/socket.io/` | events with acks, binary and namespaces |
//! | plain WebSocket | `/ws` | `message` events: a frame is its one argument |
//! | plain WebSocket, subprotocol [`JSON_SUBPROTOCOL`] | `/ws` | JSON arrays: events with acks and binary |
//!
//! [`Auth`] is what a client shows: its `auth`, or for plain ones the query of the URL and the token that is offered as a
//! subprotocol ([`Endpoint::plain`]).
//!
//! Handlers and emitters do not care which is which. What a client cannot carry, such as an ack in plain mode, is
//! counted in the [`Receipt`] and concerns nobody else.
//!
//! # Connections that break
//!
//! With [`Config::recovery`] a client that comes back within two minutes is who it was: same id, same
//! rooms, same [data](Socket::set_data), and it is sent what it missed before anything newer. [`Socket::recovered`] tells.
//! It works with the official clients as they are, and with plain ones in JSON mode.
//!
//! ```
//! use roomcast::{Config, Io};
//!
//! let config = Config::new().recovery(|recovery| recovery);
//! let io = Io::builder().config(config).build();
//! ```
//!
//! # Tests
//!
//! The crate `roomcast-testkit` has, with its feature `client`, clients in memory: no port, the same path through HTTP,
//! session and handlers, and a clock that may stand still.
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
//! Socket.IO clients that were given another [`Parser`] have a path of their own ([`Endpoint::parser`]) and the same
//! rooms. `MsgpackCodec`, with the feature `msgpack`, is the counterpart of `socket.io-msgpack-parser`.
//!
//! # Parts
//!
//! [`Io::builder`] takes [`Transport`]s, [`Endpoint`]s, a router and a [`Config`]; one's own parts implement the traits
//! of `roomcast-core` and prove themselves with the suites of `roomcast-testkit`. The example `sse` adds a transport of
//! server-sent events and POST in one file, `examples/sse/transport.rs`; `tests/sse.rs` holds it to the suite.
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
    //! Rooms and the sockets in them

    pub use roomcast_rooms::Rooms;
    pub use roomcast_server::rooms::{
        Presence, RemoteHandshake, RemoteSocket, Room, RoomChange, RouterError,
    };
}

pub mod transport {
    //! Transports, the endpoints they are reached at, and the protocols spoken there

    pub use roomcast_server::transport::{
        ByteString, Compressed, Compression, Endpoint, JSON_SUBPROTOCOL, Message, Parser, Polling, Transport,
        TransportName, WebSocket,
    };
    #[cfg(feature = "msgpack")]
    pub use roomcast_socketio_msgpack::MsgpackCodec;
}

/// Each line of Rust in the guide compiles
#[cfg(doctest)]
#[doc = include_str!("../../../docs/migration.md")]
mod migration {}
