//! What can go wrong for an application

use std::any::Any;
use std::fmt;

use bytestring::ByteString;
use roomcast_core::{ArgsError, Namespace};
use serde::Serialize;

use crate::host::budget::OverBudget;

/// An event could not be emitted, or an answer could not be sent
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The arguments could not be serialised
    #[error("the arguments cannot be serialised: {0}")]
    Args(ArgsError),
    /// More binary parts than clients accept, which would close their connections
    #[error(
        "{count} binary attachments are more than the {limit} that clients accept; send them in several events"
    )]
    TooManyAttachments {
        /// Attachments of the arguments
        count: usize,
        /// [`Limits::max_attachments`](crate::config::Limits::max_attachments)
        limit: usize,
    },
    /// The protocol keeps this name for itself
    #[error("`{0}` is a name that Socket.IO keeps for itself; choose another")]
    ReservedName(ByteString),
    /// The client of this socket is gone
    ///
    /// Of an emit to rooms the receipt tells instead, as of the next two.
    #[error("{DISCONNECTED}")]
    Disconnected,
    /// The client of this socket is of a kind that cannot take such an event or answer
    #[error("this kind of client cannot take such an event or answer")]
    Unsupported,
    /// More waits for the client than its outbox may hold, and it was closed for that
    ///
    /// The application emits faster than the client can read: see [`Socket::writable`](crate::Socket::writable), or
    /// raise [`Limits::outbox_max`](crate::config::Limits::outbox_max).
    #[error("the client's outbox is full; wait for `writable()` between emits, or raise `outbox_max`")]
    OutboxFull,
    /// The memory that may wait for all clients together is used up, and no client could be let go for it
    ///
    /// Nothing was sent. It works again once clients have read, or memory was freed otherwise. The application emits more
    /// than its clients read: see [`Emit::writable`](crate::emit::Emit::writable), or raise
    /// [`Limits::memory_budget`](crate::config::Limits::memory_budget).
    #[error(
        "{held} bytes are held for clients, over the memory budget of {budget}, and no client can be evicted; wait for \
         `writable()` between emits, or raise `memory_budget`"
    )]
    OverBudget {
        /// Bytes that the process holds for its clients
        held: usize,
        /// Bytes that it may hold
        budget: usize,
    },
}

impl From<OverBudget> for EmitError {
    fn from(OverBudget { held, budget }: OverBudget) -> Self {
        Self::OverBudget { held, budget }
    }
}

/// The text of both errors for a client that is gone.
pub(crate) const DISCONNECTED: &str = "socket has been disconnected";

/// An answer did not come
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// The event could not be emitted
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The client did not answer in time
    #[error("operation has timed out")]
    Timeout,
    /// The client went away before it answered
    #[error("{DISCONNECTED}")]
    Disconnected,
    /// This kind of client has no way to answer
    #[error("this kind of client cannot answer; a plain WebSocket client can in `roomcast.json` mode")]
    Unsupported,
    /// The event was dropped, as its delivery allows or because the client owes too many answers
    #[error("the client could not take the event, or owes too many answers already")]
    Dropped,
    /// The answer is not of the type that was expected
    #[error("the answer does not fit: {0}")]
    Args(ArgsError),
}

// Not by `#[from]`: the text of handlers' errors goes to logs and clients, so it has the cause in it, which must not be
// given as `source` again.
impl From<ArgsError> for EmitError {
    fn from(error: ArgsError) -> Self {
        Self::Args(error)
    }
}

impl From<ArgsError> for AckError {
    fn from(error: ArgsError) -> Self {
        Self::Args(error)
    }
}

/// A client may not join a namespace
///
/// Returned by a middleware; the client gets both parts in its `connect_error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConnectError {
    message: String,
    data: Option<ByteString>,
}

impl ConnectError {
    /// Refuses with a text
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), data: None }
    }

    /// Adds anything that serialises; what does not is left out
    #[must_use]
    pub fn with_data(mut self, data: &impl Serialize) -> Self {
        self.data = roomcast_core::to_json(data).ok().map(ByteString::from);
        self
    }
}

impl From<ConnectError> for HandlerError {
    fn from(error: ConnectError) -> Self {
        Self { message: error.message, data: error.data }
    }
}

/// A handler failed; the text of its error
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct HandlerError {
    /// What it said
    pub message: String,
    /// Whatever else there is to tell a client that may not connect, as JSON text
    pub data: Option<ByteString>,
}

impl HandlerError {
    /// Returns whether the handler could not reach a client that is gone
    ///
    /// Told by the text, since a handler may have wrapped the error.
    pub(crate) fn is_disconnected(&self) -> bool {
        self.message == DISCONNECTED
    }
}

/// The error of a handler, with the data of a [`ConnectError`]
pub(crate) fn failure<E: fmt::Display + 'static>(error: &E) -> HandlerError {
    let any: &dyn Any = error;
    match any.downcast_ref::<ConnectError>() {
        Some(refusal) => refusal.clone().into(),
        None => HandlerError { message: error.to_string(), data: None },
    }
}

/// A namespace cannot be made
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// A comma ends the name of a namespace in what clients send, so none could join it
    #[error("a namespace cannot have a comma in its name, as `{0}` has: clients could not name it")]
    Comma(Namespace),
    /// The pattern is none of the `regex` crate
    #[error("not a pattern for the names of namespaces: {0}")]
    Pattern(String),
}

/// Something went wrong with an event
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event `{event}`: {cause}")]
#[non_exhaustive]
pub struct EventError {
    /// The name of the event; `connect` and `disconnect` for the handlers of those
    pub event: ByteString,
    /// What was wrong
    pub cause: EventErrorCause,
}

/// What was wrong with an event
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventErrorCause {
    /// An argument does not fit the handler; client and server disagree about the event
    #[error("the arguments do not fit the handler: {0}")]
    Mismatch(ArgsError),
    /// A middleware kept the event from its handlers
    #[error("a middleware refused it: {0}")]
    Refused(HandlerError),
    /// A handler returned an error
    #[error("a handler failed: {0}")]
    Failed(HandlerError),
    /// A handler panicked
    #[error("a handler panicked")]
    Panicked,
}

impl EventError {
    pub(crate) fn new(event: &ByteString, cause: EventErrorCause) -> Self {
        Self { event: event.clone(), cause }
    }
}

/// A setting with which no client could be served, or which could never have an effect
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid setting `{setting}`: {reason}")]
pub struct ConfigError {
    setting: &'static str,
    reason: String,
}

impl ConfigError {
    pub(crate) fn new(setting: &'static str, reason: impl Into<String>) -> Self {
        Self { setting, reason: reason.into() }
    }

    /// Name of the method of [`Config`](crate::Config), [`Server`](crate::Server) or
    /// [`IoBuilder`](crate::config::IoBuilder) that sets it.
    pub fn setting(&self) -> &'static str {
        self.setting
    }

    /// What is wrong with it, and what would do.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// A server could not be started
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address could not be listened on
    #[error("cannot listen on {address}")]
    Bind {
        /// Which address
        address: String,
        /// Why
        source: std::io::Error,
    },
    /// A setting of the server lets nobody in
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A thread or its runtime could not be started
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// What the client is told when it may not join, as JSON text
pub(crate) fn refusal(error: &HandlerError) -> ByteString {
    let message = serde_json::to_string(&error.message).unwrap_or_else(|_| "\"\"".into());
    match &error.data {
        Some(data) => format!("{{\"message\":{message},\"data\":{data}}}").into(),
        None => format!("{{\"message\":{message}}}").into(),
    }
}

/// What the client is told that asks for a namespace nobody registered
pub(crate) fn invalid_namespace() -> ByteString {
    ByteString::from_static(r#"{"message":"Invalid namespace"}"#)
}

/// The error object for a client whose `auth` is over the limit.
pub(crate) fn auth_too_large() -> ByteString {
    ByteString::from_static(r#"{"message":"Auth too large"}"#)
}

/// The error object for a client that cannot join because the application failed.
pub(crate) fn internal_error() -> ByteString {
    ByteString::from_static(r#"{"message":"internal error"}"#)
}

/// What the client is told that asks for one more namespace than may be made on demand
pub(crate) fn too_many_namespaces() -> ByteString {
    ByteString::from_static(r#"{"message":"Too many namespaces"}"#)
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::io;

    use super::*;

    #[test]
    fn errors_name_their_cause_once() {
        let args = || ArgsError::Missing { position: 7 };
        let io = || io::Error::other("no room");
        let errors: [Box<dyn Error>; 4] = [
            Box::new(EmitError::from(args())),
            Box::new(AckError::from(args())),
            Box::new(ServeError::Bind { address: "localhost".into(), source: io() }),
            Box::new(ServeError::Thread(io())),
        ];
        for error in errors {
            let causes = std::iter::successors(error.source(), |&cause| cause.source());
            let text = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
            let named = ["argument 7", "no room"].map(|cause| text.matches(cause).count());
            assert_eq!(named.iter().sum::<usize>(), 1, "{text}");
        }
    }
}
