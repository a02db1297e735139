//! Roomcast server: HTTP endpoints, session drivers, event handlers, the [`Io`] builder and the tower layer.
//!
//! The crate root exports the most used items. Modules group all items by topic, including items of the root.

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

pub use config::Config;
pub use emit::EmitError;
pub use extract::{Ack, Args, Auth, State};
pub use namespace::ConnectError;
pub use server::{Io, ServeError, Server};
pub use socket::Socket;

pub use bytes::Bytes;
pub use serde_json::{Value, json};

pub mod config {
    //! Server settings.

    pub use crate::app::builder::IoBuilder;
    pub use crate::app::error::ConfigError;
    pub use crate::host::config::{Config, EventRate, HttpConfig, Limits, Timeouts, WebSocketConfig};
    pub use roomcast_recovery::RecoveryConfig;
}

pub mod cluster {
    //! Connection to the other nodes of a cluster.

    pub use roomcast_core::{Cluster, ClusterMetric, ClusterStatus, ClusterValue, EventLog};
}

pub mod recovery {
    //! Connection state recovery: the trait of custom implementations.

    pub use roomcast_recovery::*;
}

pub mod emit {
    //! Emits and broadcasts, with or without acknowledgements.

    pub use crate::app::emit::answers::Answers;
    pub use crate::app::emit::broadcast::Emit;
    pub use crate::app::emit::socket::SocketEmit;
    pub use crate::app::error::ConfirmError;
    pub use crate::app::error::{AckError, EmitError};
    pub use crate::app::into_rooms::IntoRooms;
    pub use roomcast_core::{IntoArgs, Overflow, PublishRefusal, Published, Receipt, Unconfirmed};
}

pub mod extract {
    //! Extractors: parameters of handlers.

    pub use crate::app::handler::call::{Auth, EventName, FromEvent};
    pub use crate::app::handler::extract::{Extension, State};
    pub use crate::app::model::ack::Ack;
    pub use roomcast_core::{Args, ArgsError, FromArgs};
}

pub mod handler {
    //! Event handlers: signatures, return values, ordering and errors.

    pub use crate::app::error::{EventError, EventErrorCause, HandlerError};
    pub use crate::app::handler::call::Handler;
    pub use crate::app::handler::cloned::cloned;
    pub use crate::app::handler::deduplicated::deduplicated;
    pub use crate::app::handler::outcome::{Answer, Outcome};
    pub use crate::app::handler::serial::serial;
    pub use crate::app::model::event_rewrite::EventRewrite;
    pub use crate::app::model::listeners::ListenerId;
    pub use crate::app::model::outgoing_listeners::Outgoing;
}

pub mod http {
    //! HTTP settings and types: handshake, origins, cookies and compression.

    pub use crate::host::hooks::RefusedRequest;
    pub use crate::web::compression::HttpCompression;
    pub use crate::web::cookie::{Cookie, Priority, SameSite};
    pub use crate::web::cors::Cors;
    pub use crate::web::handshake::Handshake;
    pub use crate::web::origin::OriginPolicy;
    pub use crate::web::peer::Peer;
    pub use ::http::{
        Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
        header, request, response,
    };
    pub use roomcast_core::ResponseBody;

    /// IP network in CIDR notation, or a single address.
    pub use ipnet::IpNet;
}

pub mod metrics {
    //! Server metrics and limits.

    pub use crate::host::limit::Limit;
    pub use crate::host::metrics::Metrics;
}

pub mod namespace {
    //! Namespaces, dynamic namespaces, and events between servers.

    pub use crate::app::dynamic::ParentNamespace;
    pub use crate::app::error::{ConnectError, NamespaceError};
    pub use crate::app::model::parents::NamespaceRequest;
    pub use crate::app::namespace::NamespaceHandle;
    pub use crate::app::server_side::ServerSideError;
    pub use roomcast_core::Namespace;
}

pub mod rooms {
    //! Rooms, room changes, and the sockets in a room.

    pub use crate::app::emit::remote::{RemoteHandshake, RemoteSocket};
    pub use crate::app::rooms::presence::Presence;
    pub use roomcast_core::{Heard, QueryError, Room, RoomChange};
}

pub mod server {
    //! Standalone server, tower layer, and graceful shutdown.

    pub use crate::app::error::ServeError;
    pub use crate::app::model::io::Io;
    pub use crate::serve::drain::{Drain, Drained};
    pub use crate::serve::layer::{IoLayer, IoService, NotFound};
    pub use crate::serve::{Bound, Server};
    #[cfg(feature = "tls")]
    pub use crate::serve::{Tls, TlsError};
}

pub mod socket {
    //! Socket: one client in one namespace.

    pub use crate::app::model::socket::Socket;
    pub use crate::app::model::user_data::DataError;
    pub use crate::session::shared::ClientKind;
    pub use roomcast_core::{CloseReason, SocketId};
    pub use roomcast_recovery::RecoveryError as RecoveryRefused;
}

pub mod transport {
    //! Transports, endpoints, and their protocols.

    pub use crate::session::endpoint::Endpoint;
    pub use roomcast_core::{ByteString, Message, Transport, TransportName};
    pub use roomcast_plain::SUBPROTOCOL as JSON_SUBPROTOCOL;
    pub use roomcast_socketio::Parser;
    pub use roomcast_transport_polling::Polling;
    pub use roomcast_transport_ws::{Compressed, Compression, WebSocket};
}

pub mod typed {
    //! Typed events: schemas of name, arguments and acknowledgement.

    pub use crate::app::typed::{Event, EventHandler, EventSet, NoAnswer, Reply, TypedAnswers};
}

/// Types required by public signatures that applications do not name.
#[doc(hidden)]
pub mod marker {
    pub use crate::app::handler::call::{AtOnce, Borrowing, ByArgument, ByType, Fallible};
    pub use crate::app::handler::cloned::Cloned;
    pub use crate::app::handler::deduplicated::{Deduplicated, Once};
    pub use crate::app::handler::serial::{InTurn, Serial};
    pub use crate::app::handler::signature::{Signature, Takes};
    pub use crate::app::model::event_input::HandlerInput;
    pub use crate::app::model::handler_future::{HandlerFuture, Started};
    pub use crate::app::typed::{ByName, ByVariant, Emitted, Schema};
}
