//! Errors of connections and bodies

use std::error::Error;
use std::io;

use crate::CloseReason;

/// Any error
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a connection can go on no longer
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The carrier broke
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The client broke the rules of the transport
    #[error("the client broke the rules of its transport: {0}")]
    Misused(&'static str),
    /// The client sent what is not of the transport's grammar
    #[error("the client sent a malformed {0}")]
    Malformed(&'static str),
    /// The client sent a message over the limit
    #[error("the client sent a message over the limit of {limit} bytes")]
    TooBig {
        /// The limit, in bytes
        limit: usize,
    },
}

impl ConnectionError {
    /// Why a session ends that had only this connection
    pub fn reason(&self) -> CloseReason {
        match self {
            // As on Node: a peer that resets its connection, or drops it without a goodbye, has gone away.
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
