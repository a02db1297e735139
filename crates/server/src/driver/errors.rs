//! Handler failures: counting, logging and error responses

use bytestring::ByteString;
use roomcast_core::ArgsError;

use crate::app::error::{EventErrorCause, HandlerError};
use crate::app::model::socket::Socket;
use crate::host::metrics::count;
use crate::util::log_limit::log_limited;

/// Purpose of a handler call, which determines the effect of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Connect middleware; a failure rejects the client
    ConnectMiddleware,
    /// Event middleware; a failure rejects the event
    Middleware,
    /// Any other handler
    Handler,
    /// Error listener; its own failures are not reported to listeners
    Error,
}

pub(super) fn failure(role: Role, error: HandlerError) -> EventErrorCause {
    match role {
        Role::Middleware => EventErrorCause::Refused(error),
        _ => EventErrorCause::Failed(error),
    }
}

/// Returns the error that is sent to a client whose connect failed.
///
/// Only errors written by the application are sent verbatim. A serde error about `auth` names the application's types
/// and fields, so it is only logged.
pub(super) fn client_error(cause: &EventErrorCause) -> HandlerError {
    let message = match cause {
        EventErrorCause::Failed(error) | EventErrorCause::Refused(error) => return error.clone(),
        EventErrorCause::Mismatch(ArgsError::Absent { .. }) | EventErrorCause::Panicked => "internal error",
        EventErrorCause::Mismatch(_) => "invalid auth",
    };
    HandlerError { message: message.into(), data: None }
}

/// Counts and logs a failure.
///
/// Clients can cause failures at will, so the log is limited per kind and event. A client that disconnects before its
/// acknowledgement is not a handler failure.
pub(super) fn note(socket: &Socket, name: &ByteString, role: Role, cause: &EventErrorCause) {
    let io = socket.io();
    let is_connected = socket.is_connected();
    let (event, namespace, socket) = (&**name, socket.name_of_namespace(), socket.id());
    match cause {
        EventErrorCause::Failed(error) if role == Role::ConnectMiddleware => {
            count::connects_refused(io.metrics());
            tracing::debug!(%namespace, %socket, %error, "connect refused by middleware");
        }
        EventErrorCause::Failed(error) if !is_connected && error.is_disconnected() => {
            tracing::debug!(event, %namespace, %socket, %error, "handler ended: client has left");
        }
        EventErrorCause::Failed(error) => {
            count::handlers_failed(io.metrics());
            log_limited!(WARN, event, event, %namespace, %socket, %error, "handler failed");
        }
        EventErrorCause::Refused(error) => {
            tracing::debug!(event, %namespace, %socket, %error, "event refused by middleware");
        }
        EventErrorCause::Mismatch(error @ ArgsError::Absent { .. }) => {
            count::handlers_failed(io.metrics());
            log_limited!(ERROR, event, event, %namespace, %socket, %error, "handler parameter not provided");
        }
        EventErrorCause::Mismatch(error) => {
            count::events_mismatched(io.metrics());
            log_limited!(WARN, event, event, %namespace, %socket, %error, "arguments do not fit handler");
        }
        EventErrorCause::Panicked => {
            count::handlers_panicked(io.metrics());
            log_limited!(ERROR, event, event, %namespace, %socket, "handler panicked");
        }
    }
}
