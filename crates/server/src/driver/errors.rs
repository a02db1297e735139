//! What becomes of a handler that goes wrong: it is counted, logged, and told to those who asked to hear of it

use std::task::Context;

use bytestring::ByteString;
use futures_util::future::join_all;
use roomcast_core::ArgsError;

use super::events::{Role, Running};
use crate::app::error::{EventError, EventErrorCause, HandlerError};
use crate::app::model::ack::Ack;
use crate::app::model::event_input::{Arguments, Beside, HandlerInput};
use crate::app::model::handler_future::HandlerFuture;
use crate::app::model::listeners::Topic;
use crate::app::model::socket::Socket;
use crate::host::metrics::count;
use crate::util::log_limit::log_limited;

/// Counts and logs what went wrong, and tells those who listen to that, with the acknowledgement that the event may
/// still need; gives back what is left of the telling
pub(super) fn went_wrong(
    socket: &Socket,
    name: &ByteString,
    role: Role,
    cause: EventErrorCause,
    mut ack: Option<Ack>,
    cx: &mut Context<'_>,
) -> Option<HandlerFuture> {
    note(socket, name, role, &cause);
    // To refuse a client is what a door is for.
    let is_refused_client = role == Role::Door && matches!(cause, EventErrorCause::Failed(_));
    if role == Role::Error || is_refused_client {
        return None;
    }
    let error = EventError::new(name, cause);
    let mut telling = Vec::new();
    for listener in socket.listening_to(Topic::Error).iter().flat_map(|listeners| listeners.as_slice()) {
        let beside = Beside::Error(&error);
        let ack = ack.as_mut().map(Ack::share);
        let mut input = HandlerInput { socket, name, args: Arguments::none(), ack, beside };
        if let Err(running) = Running::start(&listener.handler, Role::Error, &mut input, cx) {
            telling.push(running);
        }
    }
    if telling.is_empty() {
        return None;
    }
    Some(Box::pin(async move {
        join_all(telling).await;
        Ok(())
    }))
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
fn note(socket: &Socket, name: &ByteString, role: Role, cause: &EventErrorCause) {
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
