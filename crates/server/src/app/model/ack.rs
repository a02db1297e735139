//! Acknowledgement of an event from a client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use roomcast_core::{AckId, IntoArgs};

use crate::app::error::EmitError;
use crate::app::model::socket::Socket;

/// Extractor for the acknowledgement of an event, to answer explicitly or later.
///
/// If the client requested no acknowledgement, [`send`](Self::send) has no effect and returns `false`.
#[derive(Debug)]
#[must_use = "a client may be waiting for this answer"]
pub struct Ack(Option<AckTarget>);

#[derive(Debug, Clone)]
struct AckTarget {
    socket: Socket,
    id: AckId,
    /// Set once any handler of the event has answered; `None` while there is only one handler.
    answered: Option<Arc<AtomicBool>>,
}

impl Ack {
    pub(crate) fn new(socket: Socket, id: AckId) -> Self {
        Self(Some(AckTarget { socket, id, answered: None }))
    }

    /// Returns a second handle for another handler; only the first answer is sent.
    pub(crate) fn share(&mut self) -> Self {
        if let Some(asked) = &mut self.0 {
            asked.answered.get_or_insert_default();
        }
        Self(self.0.clone())
    }

    pub(crate) fn unwanted() -> Self {
        Self(None)
    }

    /// Returns whether the client requested an acknowledgement.
    pub fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Answers the event with one or several arguments.
    ///
    /// Returns `false` if the client requested no acknowledgement, or if another handler of the event has already
    /// answered.
    ///
    /// # Errors
    /// Returns an error if the arguments cannot be serialised, the client has disconnected, or its protocol does not
    /// support the answer.
    pub fn send(self, args: impl IntoArgs) -> Result<bool, EmitError> {
        let Some(AckTarget { socket, id, answered }) = self.0 else { return Ok(false) };
        let args = args.into_args()?;
        socket.state().check_attachments(&args)?;
        let is_first = answered.is_none_or(|answered| !answered.swap(true, Ordering::Relaxed));
        if is_first {
            socket.answer(id, &args)?;
        }
        Ok(is_first)
    }
}
