//! Acknowledgement of an event of a client

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use roomcast_core::{AckId, IntoArgs};

use crate::app::error::EmitError;
use crate::app::model::socket::Socket;

/// The answer that a client waits for
///
/// A client that asked for none gets none: sending is then harmless and says `false`.
#[derive(Debug)]
#[must_use = "a client may be waiting for this answer"]
pub struct Ack(Option<Asked>);

#[derive(Debug, Clone)]
struct Asked {
    socket: Socket,
    id: AckId,
    /// Whether another handler has answered, where there are several
    answered: Option<Arc<AtomicBool>>,
}

impl Ack {
    pub(crate) fn new(socket: Socket, id: AckId) -> Self {
        Self(Some(Asked { socket, id, answered: None }))
    }

    /// The same answer for another handler; the first one that is sent counts
    pub(crate) fn share(&mut self) -> Self {
        if let Some(asked) = &mut self.0 {
            asked.answered.get_or_insert_default();
        }
        Self(self.0.clone())
    }

    pub(crate) fn unwanted() -> Self {
        Self(None)
    }

    /// Whether the client asked for an answer
    pub fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Answers, with one argument or several; `false` if the client did not ask, or another handler of the same event
    /// has answered already
    ///
    /// # Errors
    /// When the arguments cannot be serialised, the client is gone, or it is of a kind that cannot take such an answer.
    pub fn send(self, args: impl IntoArgs) -> Result<bool, EmitError> {
        let Some(Asked { socket, id, answered }) = self.0 else { return Ok(false) };
        let args = args.into_args()?;
        socket.state().check_attachments(&args)?;
        let is_first = answered.is_none_or(|answered| !answered.swap(true, Ordering::Relaxed));
        if is_first {
            socket.answer(id, &args)?;
        }
        Ok(is_first)
    }
}
