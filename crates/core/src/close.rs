//! Why a connection or a session ended

use std::fmt;

/// Why a connection, a session or a socket ended; a value, never an error
///
/// [`as_str`](Self::as_str) gives the text that a Socket.IO server on Node hands to `disconnect` listeners, where
/// it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client closed the connection or went away
    TransportClose,
    /// The connection broke, or the client misused its transport
    TransportError,
    /// The client did not answer a heartbeat in time
    PingTimeout,
    /// The client sent something that is not of its protocol's grammar
    ParseError,
    /// The client broke a rule of the protocol above, such as sending to a namespace it had not joined
    ForcedClose,
    /// A middleware refused the client, and there is nothing else that it could join
    Refused,
    /// The application closed the connection of this client
    ForcedServerClose,
    /// The server is going away; clients may come back elsewhere
    ServerShutdown,
    /// The client left this namespace
    ClientNamespaceDisconnect,
    /// The application disconnected this socket from its namespace
    ServerNamespaceDisconnect,
    /// The client stalled: more than the limit of its outbox waited, and it made no progress for too long
    SlowConsumer,
    /// The application emitted more to this client than its outbox may ever hold
    OutboxFull,
    /// The client sent faster than its handlers could work, and what waits for them was full
    Overloaded,
    /// The client sent more events in a time than it may
    RateLimited,
    /// The client joined no namespace in time
    ConnectTimeout,
    /// The client sent nothing for too long
    IdleTimeout,
    /// The client sent a message over the limit
    MessageTooBig,
}

impl CloseReason {
    /// The reason as text, the same as on Node where Node has it
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
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
