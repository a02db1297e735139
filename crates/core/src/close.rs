//! Reasons for the end of a connection or session.

use std::fmt;

/// Reason for the end of a connection, session or socket; a value, never an error.
///
/// [`as_str`](Self::as_str) returns the text that a Socket.IO server on Node passes to `disconnect` listeners, where
/// Node has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client closed the connection or left.
    TransportClose,
    /// The connection broke, or the client violated the rules of its transport.
    TransportError,
    /// The client did not answer a heartbeat in time.
    PingTimeout,
    /// The client sent data that its protocol's grammar does not allow.
    ParseError,
    /// The client violated the protocol above, for example by sending to a namespace that it had not joined.
    ForcedClose,
    /// A middleware refused the client, and no other namespace is left for it to join.
    Refused,
    /// The application closed this client's connection.
    ForcedServerClose,
    /// The server is shutting down. Clients may reconnect to another node.
    ServerShutdown,
    /// The client left this namespace.
    ClientNamespaceDisconnect,
    /// The application disconnected this socket from its namespace.
    ServerNamespaceDisconnect,
    /// The client stalled: its outbox exceeded its limit and made no progress for too long.
    SlowConsumer,
    /// The application emitted more to this client than the hard cap of its outbox.
    OutboxFull,
    /// The client sent faster than its handlers could work, and their queue was full.
    Overloaded,
    /// The client exceeded its event rate limit.
    RateLimited,
    /// The client joined no namespace in time.
    ConnectTimeout,
    /// The client sent nothing for too long.
    IdleTimeout,
    /// The client sent a message over the size limit.
    MessageTooBig,
    /// The client returned on another connection, which took over the session.
    TakenOver,
}

impl CloseReason {
    /// Returns the reason as text, the same as on Node where Node has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TransportClose => "transport close",
            Self::TransportError | Self::MessageTooBig => "transport error",
            Self::PingTimeout | Self::IdleTimeout => "ping timeout",
            Self::ParseError => "parse error",
            Self::ForcedClose | Self::Refused | Self::ConnectTimeout => "forced close",
            Self::ForcedServerClose => "forced server close",
            Self::ServerShutdown => "server shutting down",
            Self::ClientNamespaceDisconnect => "client namespace disconnect",
            Self::ServerNamespaceDisconnect => "server namespace disconnect",
            Self::SlowConsumer => "slow consumer",
            Self::OutboxFull => "outbox full",
            Self::Overloaded => "overloaded",
            Self::RateLimited => "rate limited",
            Self::TakenOver => "session taken over",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
