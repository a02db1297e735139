//! The Roomcast server: HTTP in, one driver task a session, handlers, builder, tower layer

mod ack;
mod clock;
mod config;
mod driver;
mod emit;
mod endpoint;
mod error;
mod handler;
mod handshake;
mod ids;
mod inbox;
mod io;
mod layer;
mod metrics;
mod namespace;
mod requests;
mod runtime;
mod serve;
mod session;
mod socket;

pub use ack::{Ack, Answers};
pub use config::{Config, Cors};
pub use emit::{Emit, IntoRooms};
pub use endpoint::Endpoint;
pub use error::{AckError, ConnectError, EmitError, ServeError};
pub use handler::{
    Auth, ByArgument, ByType, EventName, FromEvent, Handler, HandlerError, HandlerFuture, HandlerInput,
    Outcome,
};
pub use handshake::Handshake;
pub use io::{Io, IoBuilder};
pub use layer::{IoLayer, IoService, NotFound};
pub use metrics::Metrics;
pub use namespace::NamespaceHandle;
pub use requests::Peer;
pub use serve::{Bound, Server};
pub use session::ClientKind;
pub use socket::Socket;

pub use roomcast_core::{
    Args, ArgsError, ByteString, Bytes, CloseReason, IntoArgs, Namespace, Overflow, Receipt, ResponseBody,
    Room, SocketId, Transport, TransportName,
};
pub use roomcast_plain::SUBPROTOCOL as JSON_SUBPROTOCOL;
pub use roomcast_transport_polling::Polling;
pub use roomcast_transport_ws::WebSocket;

/// The types of HTTP requests and answers
pub use ::http;
pub use serde_json::{Value, json};
