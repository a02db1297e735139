//! What becomes of a handler that goes wrong: it is counted, logged, and told to those who asked to hear of it

use std::task::Context;

use bytestring::ByteString;
use futures_util::future::join_all;
use roomcast_core::ArgsError;

use super::events::{Role, Running};
use crate::error::{EventError, EventErrorCause};
use crate::handler::{Arguments, Beside, HandlerError, HandlerFuture, HandlerInput};
use crate::listeners::Topic;
use crate::metrics::count;
use crate::socket::Socket;

/// Counts and logs what went wrong, and tells those who listen to that; gives back what is left of the telling
pub(super) fn went_wrong(
    socket: &Socket,
    name: &ByteString,
    role: Role,
    cause: EventErrorCause,
    cx: &mut Context<'_>,
) -> Option<HandlerFuture> {
    note(socket, name, &cause);
    // To refuse a client is what a door is for.
    let is_refused_client = role == Role::Door && matches!(cause, EventErrorCause::Failed(_));
    if role == Role::Error || is_refused_client {
        return None;
    }
    let error = EventError::new(name, cause);
    let mut telling = Vec::new();
    for listener in socket.listening_to(Topic::Error).iter().flat_map(|listeners| listeners.as_slice()) {
        let beside = Beside::Error(&error);
        let mut input = HandlerInput { socket, name, args: Arguments::none(), ack: None, beside };
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

/// What a client at the door is told
pub(super) fn told(cause: &EventErrorCause) -> HandlerError {
    match cause {
        EventErrorCause::Failed(error) | EventErrorCause::Refused(error) => error.clone(),
        // What the application lacks is nobody's business, and a panic's own text is not either.
        EventErrorCause::Mismatch(ArgsError::Absent { .. }) | EventErrorCause::Panicked => {
            HandlerError { message: "internal error".into(), data: None }
        }
        EventErrorCause::Mismatch(error) => HandlerError { message: error.to_string(), data: None },
    }
}

fn note(socket: &Socket, name: &ByteString, cause: &EventErrorCause) {
    let io = socket.io();
    let (event, namespace, socket) = (&**name, socket.name_of_namespace(), socket.id());
    match cause {
        EventErrorCause::Failed(error) => {
            count::handlers_failed(io.metrics());
            tracing::warn!(event, %namespace, %socket, %error, "a handler failed");
        }
        EventErrorCause::Refused(error) => {
            tracing::debug!(event, %namespace, %socket, %error, "a middleware refused an event");
        }
        EventErrorCause::Mismatch(error @ ArgsError::Absent { .. }) => {
            count::handlers_failed(io.metrics());
            tracing::error!(
                event, %namespace, %socket, %error,
                "a handler asks for what the application did not put there"
            );
        }
        EventErrorCause::Mismatch(error) => {
            count::events_mismatched(io.metrics());
            tracing::warn!(
                event, %namespace, %socket, %error,
                "the client's arguments do not fit the handler of this event"
            );
        }
        EventErrorCause::Panicked => {
            count::handlers_panicked(io.metrics());
            tracing::error!(event, %namespace, %socket, "a handler panicked; only this event is lost");
        }
    }
}
