//! The Roomcast server: HTTP in, one driver task a session, handlers, builder, tower layer

mod app;
mod driver;
#[doc(hidden)]
pub mod fuzzing;
#[doc(hidden)]
pub mod handler_check;
mod host;
mod ingress;
mod serve;
mod session;
mod util;
mod web;

pub use app::builder::IoBuilder;
pub use app::dynamic::ParentNamespace;
pub use app::emit::answers::Answers;
pub use app::emit::broadcast::Emit;
pub use app::emit::remote::{RemoteHandshake, RemoteSocket};
pub use app::emit::socket::SocketEmit;
pub use app::error::{
    AckError, ConfigError, ConnectError, EmitError, EventError, EventErrorCause, HandlerError,
    NamespaceError, ServeError,
};
pub use app::handler::call::{
    AtOnce, Auth, Borrowing, ByArgument, ByType, EventName, Fallible, FromEvent, Handler,
};
pub use app::handler::cloned::{Cloned, cloned};
pub use app::handler::extract::{Extension, State};
pub use app::handler::outcome::{Answer, Outcome};
pub use app::handler::serial::{InTurn, Serial, serial};
pub use app::handler::signature::{Signature, Takes};
pub use app::into_rooms::IntoRooms;
pub use app::model::ack::Ack;
pub use app::model::event_input::HandlerInput;
pub use app::model::event_rewrite::EventRewrite;
pub use app::model::handler_future::{HandlerFuture, Started};
pub use app::model::io::Io;
pub use app::model::listeners::ListenerId;
pub use app::model::outgoing_listeners::Outgoing;
pub use app::model::parents::NamespaceRequest;
pub use app::model::socket::Socket;
pub use app::model::user_data::DataError;
pub use app::namespace::NamespaceHandle;
pub use app::rooms::presence::Presence;
pub use app::server_side::ServerSideError;
pub use app::typed::{
    ByName, ByVariant, Emitted, Event, EventHandler, EventSet, NoAnswer, Reply, Schema, TypedAnswers,
};
pub use host::breach::Breach;
pub use host::config::{Config, EventRate, HttpConfig, Limits, Timeouts, WebSocketConfig};
pub use host::hooks::RefusedRequest;
pub use host::metrics::Metrics;
pub use serve::drain::{Drain, Drained};
pub use serve::layer::{IoLayer, IoService, NotFound};
pub use serve::{Bound, Server};
#[cfg(feature = "tls")]
pub use serve::{Tls, TlsError};
pub use session::endpoint::Endpoint;
pub use session::shared::ClientKind;
pub use web::compression::HttpCompression;
pub use web::cookie::{Cookie, Priority, SameSite};
pub use web::cors::Cors;
pub use web::handshake::Handshake;
pub use web::origin::OriginPolicy;
pub use web::peer::Peer;

pub use roomcast_core::{
    Args, ArgsError, ByteString, Bytes, CloseReason, FromArgs, IntoArgs, Message, Namespace, Overflow,
    Receipt, ResponseBody, Room, RoomChange, RouterError, SocketId, Transport, TransportName,
};
pub use roomcast_plain::SUBPROTOCOL as JSON_SUBPROTOCOL;
pub use roomcast_recovery::{RecoveryConfig, Refused as RecoveryRefused};
pub use roomcast_socketio::Parser;
pub use roomcast_transport_polling::Polling;
pub use roomcast_transport_ws::{Compressed, Compression, WebSocket};

/// A network of addresses, or one of them
pub use ipnet::IpNet;

/// The types of HTTP requests and answers
pub use ::http;
pub use serde_json::{Value, json};
