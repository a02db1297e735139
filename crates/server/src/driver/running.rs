//! Handler execution from start to end

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytestring::ByteString;
use futures_util::future::join_all;
use roomcast_core::Inbound;

use super::errors::{Role, client_error, failure, note};
use super::pending::{PendingClaim, PendingConnect, PendingNamespace};
use crate::app::error::{EventError, EventErrorCause, HandlerError};
use crate::app::model::ack::Ack;
use crate::app::model::event_input::{AnyHandler, Arguments, EventContext, HandlerInput};
use crate::app::model::event_rewrite::EventRewrite;
use crate::app::model::handler_future::{HandlerFuture, Started};
use crate::app::model::listeners::ListenerKind;
use crate::app::model::socket::Socket;
use crate::util::log_limit::log_limited;

/// Handler in progress.
pub(crate) struct Running {
    future: HandlerFuture,
    /// `None` while a dynamic namespace is being decided
    socket: Option<Socket>,
    name: ByteString,
    role: Role,
    /// Acknowledgement for a failure, if expected; boxed, since few events ask for one
    spare: Option<Box<Ack>>,
    /// Failure, while its error listeners run
    failed: Option<Box<HandlerError>>,
    pub(crate) then: Continuation,
}

/// Continuation after a handler has ended.
#[derive(Default)]
pub(crate) enum Continuation {
    #[default]
    Nothing,
    /// An event handler ended; start time if it is timed
    EventEnded(Option<Instant>),
    /// Continue with the event's next middleware
    Pass(Box<PendingEvent>),
    /// Continue with the next connect middleware
    Admit(Box<PendingConnect>),
    /// Create the namespace, or ask the next parent
    Open(Box<PendingNamespace>),
    /// Continue with the connect middlewares, for a recovered or a new client
    Claimed(Box<PendingClaim>),
}

/// Event in its middlewares.
pub(crate) struct PendingEvent {
    pub(super) inbound: Inbound,
    pub(super) ack: Option<Ack>,
    pub(super) rest: std::vec::IntoIter<AnyHandler>,
    /// It was queued when its client left
    pub(super) outlives_client: bool,
    /// Rewrite by the running middleware
    pub(super) rewrite: Option<EventRewrite>,
}

impl PendingEvent {
    /// Applies the rewrite of a middleware that accepted the event.
    pub(super) fn rewrite(&mut self) {
        if let Some(rewrite) = self.rewrite.take() {
            rewrite.apply(&mut self.inbound.name, &mut self.inbound.args);
        }
    }
}

/// Handler that has ended.
pub(crate) struct Ended {
    pub(crate) socket: Option<Socket>,
    pub(crate) then: Continuation,
    pub(crate) outcome: Result<(), HandlerError>,
}

impl Running {
    /// Calls a handler and polls it once; returns the rest if it is pending.
    pub(crate) fn start(
        handler: &AnyHandler,
        role: Role,
        input: &mut HandlerInput<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Result<(), HandlerError>, Self> {
        let HandlerInput { socket, name, .. } = *input;
        let spare = match &mut input.ack {
            Some(ack) if role != Role::Error && socket.has_error_listeners() => Some(ack.share()),
            _ => None,
        };
        let _acting = socket.acting();
        // Called and polled in one step, which completes most handlers.
        let ran = catch_unwind(AssertUnwindSafe(|| {
            // A completed future is dropped here too, since its drop may panic.
            handler(input, cx)
        }));
        let cause = match ran {
            Ok(Ok(Started::Ended(Ok(())))) => return Ok(Ok(())),
            Ok(Ok(Started::Waits(future))) => {
                let spare = spare.map(Box::new);
                return Err(Self { spare, ..Self::new(future, Some(socket.clone()), name.clone(), role) });
            }
            Ok(Ok(Started::Ended(Err(error)))) => failure(role, error),
            Ok(Err(error)) => EventErrorCause::Mismatch(error),
            Err(_) => EventErrorCause::Panicked,
        };
        let failed = client_error(&cause);
        match report_failure(socket, name, role, cause, spare, cx) {
            None => Ok(Err(failed)),
            Some(telling) => {
                let failed = Some(Box::new(failed));
                Err(Self { failed, ..Self::new(telling, Some(socket.clone()), name.clone(), role) })
            }
        }
    }

    pub(crate) fn new(future: HandlerFuture, socket: Option<Socket>, name: ByteString, role: Role) -> Self {
        Self { future, socket, name, role, spare: None, failed: None, then: Continuation::Nothing }
    }

    /// Returns whether this decides about a connect.
    pub(super) fn is_admission(&self) -> bool {
        matches!(self.then, Continuation::Admit(_) | Continuation::Open(_) | Continuation::Claimed(_))
    }

    /// Rejects the client if this has not decided at `deadline`.
    pub(crate) fn until(mut self, deadline: Instant) -> Self {
        let future = self.future;
        self.future = Box::pin(async move {
            match tokio::time::timeout_at(deadline.into(), future).await {
                Ok(outcome) => outcome,
                Err(_) => Err(HandlerError { message: "Connect timeout".into(), data: None }),
            }
        });
        self
    }

    fn poll_handler(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        let _acting = self.socket.as_ref().and_then(Socket::acting);
        let polled = catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(cx)));
        if let Ok(Poll::Pending) = polled {
            return Poll::Pending;
        }
        if let Some(failed) = self.failed.take() {
            return Poll::Ready(Err(*failed));
        }
        let cause = match polled {
            Ok(Poll::Pending | Poll::Ready(Ok(()))) => return Poll::Ready(Ok(())),
            Ok(Poll::Ready(Err(error))) => failure(self.role, error),
            Err(_) => EventErrorCause::Panicked,
        };
        let failed = client_error(&cause);
        let Some(socket) = &self.socket else {
            if cause == EventErrorCause::Panicked {
                match self.then {
                    Continuation::Claimed(_) => {
                        log_limited!(ERROR, (), namespace = &*self.name, "recovery claim panicked");
                    }
                    _ => {
                        log_limited!(
                            ERROR,
                            (),
                            namespace = &*self.name,
                            "dynamic-namespace predicate panicked"
                        );
                    }
                }
            }
            return Poll::Ready(Err(failed));
        };
        let spare = self.spare.take().map(|ack| *ack);
        match report_failure(socket, &self.name, self.role, cause, spare, cx) {
            None => Poll::Ready(Err(failed)),
            Some(telling) => {
                self.future = telling;
                self.failed = Some(Box::new(failed));
                Poll::Pending
            }
        }
    }
}

impl Future for Running {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        self.poll_handler(cx).map(|outcome| Ended {
            socket: self.socket.take(),
            then: std::mem::take(&mut self.then),
            outcome,
        })
    }
}

/// Counts and logs a failure, and calls error listeners with the acknowledgement; returns the pending rest.
fn report_failure(
    socket: &Socket,
    name: &ByteString,
    role: Role,
    cause: EventErrorCause,
    mut ack: Option<Ack>,
    cx: &mut Context<'_>,
) -> Option<HandlerFuture> {
    note(socket, name, role, &cause);
    // Rejecting a client is a normal outcome of a connect middleware.
    let is_refused_client = role == Role::ConnectMiddleware && matches!(cause, EventErrorCause::Failed(_));
    if role == Role::Error || is_refused_client {
        return None;
    }
    let error = EventError::new(name, cause);
    let mut telling = Vec::new();
    for listener in socket.listening_to(ListenerKind::Error).iter().flat_map(|listeners| listeners.as_slice())
    {
        let context = EventContext::Error(&error);
        let ack = ack.as_mut().map(Ack::share);
        let mut input = HandlerInput { socket, name, args: Arguments::none(), ack, context };
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
