//! Errors of connections and bodies.

use std::error::Error;
use std::io;

use crate::CloseReason;

/// Boxed error of any type.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Error that ends a connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The carrier broke.
    #[error("connection failed")]
    Io(#[from] io::Error),
    /// The client violated the rules of the transport.
    #[error("client violated the transport protocol: {0}")]
    Misused(&'static str),
    /// The client sent data that the transport's grammar does not allow.
    #[error("client sent a malformed {0}")]
    Malformed(&'static str),
    /// The client sent a message over the size limit.
    #[error("client sent a message over the limit of {limit} bytes")]
    TooBig {
        /// Limit in bytes.
        limit: usize,
    },
}

impl ConnectionError {
    /// Returns the close reason for a session whose only connection failed with this error.
    pub fn reason(&self) -> CloseReason {
        match self {
            // As on Node, a reset connection, or one dropped without a close, counts as closed by the client.
            Self::Io(error) if is_gone(error) => CloseReason::TransportClose,
            Self::Io(_) | Self::Misused(_) => CloseReason::TransportError,
            Self::Malformed(_) => CloseReason::ParseError,
            Self::TooBig { .. } => CloseReason::MessageTooBig,
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected | UnexpectedEof)
}
