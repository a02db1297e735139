//! Future of a handler, and the result of its first poll

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::app::error::HandlerError;

/// How far a handler came when it was called
#[allow(clippy::exhaustive_enums, reason = "drivers match both")]
pub enum Started {
    /// To its end
    Ended(Result<(), HandlerError>),
    /// To its first wait; this is what is left of it
    Waits(HandlerFuture),
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(outcome) => f.debug_tuple("Ended").field(outcome).finish(),
            Self::Waits(_) => f.write_str("Waits"),
        }
    }
}

/// What a handler returns, as the server runs it
pub type HandlerFuture = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;
