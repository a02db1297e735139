//! Errors of the server API.

use std::any::Any;
use std::fmt;

use bytestring::ByteString;
use roomcast_core::{ArgsError, Namespace, Unconfirmed};
use serde::Serialize;

use crate::host::budget::OverBudget;

/// Error of an emit or an acknowledgement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The arguments could not be serialised.
    #[error("cannot serialise arguments: {0}")]
    Args(ArgsError),
    /// More binary attachments than clients accept; sending them would close the connections.
    #[error(
        "{count} binary attachments exceed the {limit} that clients accept; split them across several events"
    )]
    TooManyAttachments {
        /// Number of attachments in the arguments.
        count: usize,
        /// Value of [`Limits::max_attachments`](crate::config::Limits::max_attachments).
        limit: usize,
    },
    /// The event name is reserved by the protocol.
    #[error("event name `{0}` is reserved by Socket.IO; choose another")]
    ReservedName(ByteString),
    /// The client has disconnected.
    ///
    /// This and the next two variants concern emits to a single socket; an emit to rooms reports these cases in its
    /// receipt.
    #[error("{DISCONNECTED}")]
    Disconnected,
    /// The client's protocol does not support this event or acknowledgement.
    #[error("the client's protocol does not support this event or acknowledgement")]
    Unsupported,
    /// The client's outbox was full, and the client was closed for it.
    ///
    /// The application emits faster than the client reads: wait for [`Socket::writable`](crate::Socket::writable)
    /// between emits, or raise [`Limits::outbox_max`](crate::config::Limits::outbox_max).
    #[error("the client's outbox is full; wait for `writable()` between emits, or raise `outbox_max`")]
    OutboxFull,
    /// The memory budget for all clients is exhausted, and no client could be evicted.
    ///
    /// No frame was sent. Emits succeed again once clients have read or memory is freed otherwise. The application emits
    /// faster than its clients read: wait for [`Emit::writable`](crate::emit::Emit::writable) between emits, or raise
    /// [`Limits::memory_budget`](crate::config::Limits::memory_budget).
    #[error(
        "memory budget exceeded: {held} of {budget} bytes are in use, and no client can be evicted; wait for \
         `writable()` between emits, or raise `memory_budget`"
    )]
    OverBudget {
        /// Bytes held for clients by this process.
        held: usize,
        /// Value of the budget in bytes.
        budget: usize,
    },
}

impl From<OverBudget> for EmitError {
    fn from(OverBudget { held, budget }: OverBudget) -> Self {
        Self::OverBudget { held, budget }
    }
}

/// Error of an emit whose publication to the cluster was not confirmed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfirmError {
    /// The event could not be emitted.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The event was delivered on this node, and may not reach the others.
    #[error("delivered on this node; other nodes of the cluster: {0}")]
    Unconfirmed(#[from] Unconfirmed),
}

/// Text of both errors for a disconnected client.
pub(crate) const DISCONNECTED: &str = "socket has been disconnected";

/// Error of an emit with acknowledgement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// The event could not be emitted.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The client did not answer within the timeout.
    #[error("operation has timed out")]
    Timeout,
    /// The client disconnected before it answered.
    #[error("{DISCONNECTED}")]
    Disconnected,
    /// The client's protocol has no acknowledgements.
    #[error("the client's protocol has no acknowledgements; plain WebSocket clients need `roomcast.json`")]
    Unsupported,
    /// The event was dropped: it was volatile, or too many acknowledgements of the client are outstanding.
    #[error("event dropped by its delivery mode, or too many acknowledgements are outstanding")]
    Dropped,
    /// The answer is not of the expected type.
    #[error("the answer is not of the expected type: {0}")]
    Args(ArgsError),
}

// Not `#[from]`: error texts of handlers reach logs and clients without their sources, so the text includes the cause,
// and `source` must not repeat it.
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

/// Rejection of a client by a middleware.
///
/// The client receives the message and the data in its `connect_error` event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConnectError {
    message: String,
    data: Option<ByteString>,
}

impl ConnectError {
    /// Creates a rejection with a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), data: None }
    }

    /// Adds data for the client; a value that cannot be serialised is ignored.
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

/// Error returned by a handler, as text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct HandlerError {
    /// Error message.
    pub message: String,
    /// Data of a [`ConnectError`], as JSON text.
    pub data: Option<ByteString>,
}

impl HandlerError {
    /// Returns whether the handler failed because the client had disconnected.
    ///
    /// Compares the text, since a handler may have wrapped the error.
    pub(crate) fn is_disconnected(&self) -> bool {
        self.message == DISCONNECTED
    }
}

/// Converts the error of a handler, with the data of a [`ConnectError`].
pub(crate) fn failure<E: fmt::Display + 'static>(error: &E) -> HandlerError {
    let any: &dyn Any = error;
    match any.downcast_ref::<ConnectError>() {
        Some(refusal) => refusal.clone().into(),
        None => HandlerError { message: error.to_string(), data: None },
    }
}

/// Error of creating a namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// The name contains a comma, which ends the namespace in a packet, so no client could connect to it.
    #[error("namespace name `{0}` contains a comma: clients could not connect to it")]
    Comma(Namespace),
    /// The pattern is not a valid regular expression of the `regex` crate.
    #[error("invalid namespace pattern: {0}")]
    Pattern(String),
}

/// Failure of an event, passed to `on_error` handlers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event `{event}`: {cause}")]
#[non_exhaustive]
pub struct EventError {
    /// Name of the event; `connect` and `disconnect` for connect and disconnect handlers.
    pub event: ByteString,
    /// Cause of the failure.
    pub cause: EventErrorCause,
}

/// Cause of an [`EventError`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventErrorCause {
    /// An argument does not match the handler's parameter; client and server disagree about the event.
    #[error("arguments do not match the handler: {0}")]
    Mismatch(ArgsError),
    /// A middleware rejected the event, so its handlers did not run.
    #[error("middleware rejected the event: {0}")]
    Refused(HandlerError),
    /// A handler returned an error.
    #[error("handler failed: {0}")]
    Failed(HandlerError),
    /// A handler panicked.
    #[error("handler panicked")]
    Panicked,
}

impl EventError {
    pub(crate) fn new(event: &ByteString, cause: EventErrorCause) -> Self {
        Self { event: event.clone(), cause }
    }
}

/// Invalid setting: no client could be served with it, or it could never have an effect.
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

    /// Returns the name of the setting.
    ///
    /// It is a method of [`Config`](crate::Config), [`Server`](crate::Server) or
    /// [`IoBuilder`](crate::config::IoBuilder).
    pub fn setting(&self) -> &'static str {
        self.setting
    }

    /// Returns the problem and a valid alternative.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Error of starting a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address could not be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// Address, as configured.
        address: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A setting of the server is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A thread or its runtime could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// Returns the error object of a `connect_error` packet, as JSON text.
pub(crate) fn refusal(error: &HandlerError) -> ByteString {
    let message = serde_json::to_string(&error.message).unwrap_or_else(|_| "\"\"".into());
    match &error.data {
        Some(data) => format!("{{\"message\":{message},\"data\":{data}}}").into(),
        None => format!("{{\"message\":{message}}}").into(),
    }
}

/// Returns the error object for an unknown namespace.
pub(crate) fn invalid_namespace() -> ByteString {
    ByteString::from_static(r#"{"message":"Invalid namespace"}"#)
}

/// Returns the error object for an `auth` payload over the limit.
pub(crate) fn auth_too_large() -> ByteString {
    ByteString::from_static(r#"{"message":"Auth too large"}"#)
}

/// Returns the error object for a failure of the application, such as a panic.
pub(crate) fn internal_error() -> ByteString {
    ByteString::from_static(r#"{"message":"internal error"}"#)
}

/// Returns the error object for a client that exceeds the limit of dynamic namespaces.
pub(crate) fn too_many_namespaces() -> ByteString {
    ByteString::from_static(r#"{"message":"Too many namespaces"}"#)
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::io;

    use super::*;

    #[test]
    fn prints_each_cause_once() {
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
