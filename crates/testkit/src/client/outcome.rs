//! Protocols of a test client, and outcomes of its operations.

use std::fmt;

use roomcast_core::Args;
use serde_json::Value;

use super::event::{TestEvent, readable};

/// Protocol of a [`TestClient`](crate::TestClient).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TestKind {
    /// Socket.IO, at `/socket.io/`.
    #[default]
    SocketIo,
    /// Plain WebSocket with the subprotocol `roomcast.json`, at `/ws`.
    Json,
    /// Plain WebSocket, at `/ws`.
    Plain,
}

/// How a connection ended: contents of the close frame, if there was one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnected {
    /// Code of the close frame.
    pub code: Option<u16>,
    /// Its reason, or `io server disconnect` if the server disconnected the client from its namespace.
    pub reason: String,
}

impl fmt::Display for Disconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.reason.as_str()) {
            (Some(code), reason) => write!(f, "connection closed: {code} {reason:?}"),
            (None, "") => f.write_str("connection ended without a close frame"),
            (None, reason) => write!(f, "disconnected: {reason}"),
        }
    }
}

/// Reason for a refused connection.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NotConnected {
    /// The request was rejected.
    #[error("HTTP {status}: {body}")]
    Http {
        /// HTTP status.
        status: u16,
        /// Response body.
        body: String,
    },
    /// A middleware of the namespace refused, or the namespace does not exist.
    #[error("connect refused: {0}")]
    Refused(
        /// `{"message": …}`, and `data` if present.
        Value,
    ),
    /// The connection was closed before the connect completed.
    #[error("{0}")]
    Closed(Disconnected),
    /// An unexpected message arrived, or none.
    #[error("{0}")]
    Unexpected(
        /// The expected and the actual message.
        String,
    ),
}

/// Message or state change received from the server.
pub(super) enum Heard {
    Joined(String),
    Refused(Value),
    Event(TestEvent),
    Answer(u64, Args),
    Pong,
    Ended(Disconnected),
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joined(_) => f.write_str("connect confirmation"),
            Self::Refused(error) => write!(f, "connect error {error}"),
            Self::Event(event) => write!(f, "`{event}`"),
            Self::Answer(_, args) => write!(f, "acknowledgement ({})", readable(args)),
            Self::Pong => f.write_str("pong"),
            Self::Ended(end) => write!(f, "disconnect ({end})"),
        }
    }
}
