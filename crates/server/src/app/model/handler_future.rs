//! Future of a handler, and the result of its first poll.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::app::error::HandlerError;

/// Result of calling a handler and polling its future once.
#[allow(clippy::exhaustive_enums, reason = "drivers match both")]
pub enum Started {
    /// The handler has completed.
    Ended(Result<(), HandlerError>),
    /// The handler is pending; the driver polls this future on.
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

/// Boxed future of a handler.
pub type HandlerFuture = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;
