//! What becomes of a handler that goes wrong: how it is counted, logged, and answered

use bytestring::ByteString;
use roomcast_core::ArgsError;

use crate::app::error::{EventErrorCause, HandlerError};
use crate::app::model::socket::Socket;
use crate::host::metrics::count;
use crate::util::log_limit::log_limited;

/// What a handler is called for, which decides what its failing means
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Somebody asks to come in; failing is a refusal
    Door,
    /// An event is to be let through; failing is a refusal
    Middleware,
    /// Everything else
    Handler,
    /// To hear of what went wrong; nobody hears of it if this goes wrong
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
/// Only what the application wrote itself is sent in its own words. What serde says about an `auth` that does not fit
/// names the application's types and fields, so it goes to the log alone.
pub(super) fn told(cause: &EventErrorCause) -> HandlerError {
    let message = match cause {
        EventErrorCause::Failed(error) | EventErrorCause::Refused(error) => return error.clone(),
        EventErrorCause::Mismatch(ArgsError::Absent { .. }) | EventErrorCause::Panicked => "internal error",
        EventErrorCause::Mismatch(_) => "invalid auth",
    };
    HandlerError { message: message.into(), data: None }
}

/// Counts and logs a failure
///
/// Clients can cause any of them as often as they like, so the log is limited for each kind and event.
/// A client that leaves while a handler is about to answer it is no failure of the handler.
pub(super) fn note(socket: &Socket, name: &ByteString, role: Role, cause: &EventErrorCause) {
    let io = socket.io();
    let is_connected = socket.is_connected();
    let (event, namespace, socket) = (&**name, socket.name_of_namespace(), socket.id());
    match cause {
        EventErrorCause::Failed(error) if role == Role::Door => {
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
