//! Acknowledgement of an event from a client.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use roomcast_core::{AckId, Args, IntoArgs};

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
    /// `None` while there is only one handler and no observer.
    answered: Option<Arc<Answered>>,
}

/// Answer of an event that several handles may send.
#[derive(Default)]
struct Answered {
    /// Set once any handler of the event has answered.
    is_answered: AtomicBool,
    observer: OnceLock<AnswerObserver>,
}

/// Function that gets the answer before it is sent.
pub(crate) type AnswerObserver = Box<dyn Fn(&Args) + Send + Sync>;

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

    /// Passes the answer to an observer too, before it is sent, and also if the client has disconnected.
    ///
    /// The observer is dropped with the last handle. No effect if no acknowledgement is requested, or if there is an
    /// observer.
    pub(crate) fn observe(&mut self, observer: AnswerObserver) {
        if let Some(asked) = &mut self.0 {
            let _ = asked.answered.get_or_insert_default().observer.set(observer);
        }
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
        let first = |answered: &Answered| !answered.is_answered.swap(true, Ordering::Relaxed);
        let is_first = answered.as_deref().is_none_or(first);
        if is_first {
            answered.iter().filter_map(|answered| answered.observer.get()).for_each(|observe| observe(&args));
            socket.answer(id, &args)?;
        }
        Ok(is_first)
    }
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered").field("is_answered", &self.is_answered).finish_non_exhaustive()
    }
}
