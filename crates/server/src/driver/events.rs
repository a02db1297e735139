//! Handlers: started in the order of their events, run beside the reader

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytestring::ByteString;
use futures_util::stream::{FuturesUnordered, Stream};
use roomcast_core::{Args, ArgsError, ArgsReader, CloseReason, Command, Inbound};

use super::Driver;
use super::members::Admission;
use crate::ack::Ack;
use crate::handler::{AnyHandler, HandlerError, HandlerFuture, HandlerInput};
use crate::metrics::count;
use crate::socket::Socket;

/// The handlers under way, and how much waits for them
#[derive(Default)]
pub(crate) struct Work {
    // Boxed and made on first use: most handlers end where they begin.
    running: Option<Box<FuturesUnordered<Running>>>,
    waiting_bytes: usize,
}

/// A handler on its way
pub(crate) struct Running {
    future: HandlerFuture,
    socket: Socket,
    name: ByteString,
    /// Whether it counts as one of the socket's events
    counted: bool,
    pub(crate) admission: Option<Box<Admission>>,
}

/// A handler and what it is called with
pub(crate) struct Call<'a> {
    pub(crate) handler: &'a AnyHandler,
    pub(crate) name: &'a ByteString,
    pub(crate) args: &'a Args,
    pub(crate) ack: Option<Ack>,
    pub(crate) reason: Option<CloseReason>,
}

/// What an event that waits costs besides its bytes
const EVENT_COST: usize = 128;

impl Work {
    pub(crate) fn add(&mut self, running: Running) {
        self.running.get_or_insert_default().push(running);
    }

    /// An event that waited is no longer there
    pub(crate) fn release(&mut self, inbound: &Inbound) {
        self.waiting_bytes -= cost(inbound);
    }

    pub(crate) fn take(&mut self) -> Option<Box<FuturesUnordered<Running>>> {
        self.running.take().filter(|running| !running.is_empty())
    }

    /// Whether so many handlers are under way that those of events, which wait for their turn, are not all there is
    ///
    /// What is left are those of joining and leaving, which do not wait.
    pub(crate) fn is_crowded(&self, max_handlers: usize) -> bool {
        self.under_way() >= max_handlers.saturating_mul(2)
    }

    fn under_way(&self) -> usize {
        self.running.as_ref().map_or(0, |running| running.len())
    }
}

impl Running {
    /// Calls a handler and runs it to its first wait; gives back what is left of it if it did not end there
    pub(crate) fn start(
        socket: &Socket,
        auth: &str,
        call: Call<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Result<(), HandlerError>, Self> {
        let Call { handler, name, args, ack, reason } = call;
        let mut input = HandlerInput { socket, name, reader: ArgsReader::new(args), ack, auth, reason };
        // Called and run to its first wait in one go, which for most handlers is all there is.
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let mut future = handler(&mut input)?;
            // A future that ended is dropped in here too, since that may panic as well.
            Ok(match future.as_mut().poll(cx) {
                Poll::Ready(outcome) => Ok(outcome),
                Poll::Pending => Err(future),
            })
        }));
        match ran {
            Ok(Ok(Ok(outcome))) => Ok(outcome.inspect_err(|error| failed(socket, name, error))),
            Ok(Ok(Err(future))) => {
                let (socket, name) = (socket.clone(), name.clone());
                Err(Self { future, socket, name, counted: false, admission: None })
            }
            Ok(Err(error)) => Ok(Err(mismatched(socket, name, &error))),
            Err(_) => Ok(Err(panicked(socket, name))),
        }
    }

    fn poll_handler(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        match catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(cx))) {
            Ok(poll) => poll.map_err(|error| {
                failed(&self.socket, &self.name, &error);
                error
            }),
            Err(_) => Poll::Ready(Err(panicked(&self.socket, &self.name))),
        }
    }
}

fn failed(socket: &Socket, name: &ByteString, error: &HandlerError) {
    count::handlers_failed(socket.io().metrics());
    tracing::warn!(
        event = &**name, namespace = %socket.name_of_namespace(), socket = %socket.id(), %error,
        "a handler failed"
    );
}

fn mismatched(socket: &Socket, name: &ByteString, error: &ArgsError) -> HandlerError {
    count::events_mismatched(socket.io().metrics());
    tracing::warn!(
        event = &**name, namespace = %socket.name_of_namespace(), socket = %socket.id(), %error,
        "the client's arguments do not fit the handler of this event"
    );
    HandlerError { message: error.to_string(), data: None }
}

fn panicked(socket: &Socket, name: &ByteString) -> HandlerError {
    count::handlers_panicked(socket.io().metrics());
    tracing::error!(
        event = &**name, namespace = %socket.name_of_namespace(), socket = %socket.id(),
        "a handler panicked; only this event is lost"
    );
    // What a client at the door is told: the panic's own text is nobody's business.
    HandlerError { message: "internal error".into(), data: None }
}

impl Future for Running {
    type Output = (Self, Result<(), HandlerError>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.poll_handler(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(outcome) => {
                let this = &mut *self;
                let ended = Self {
                    future: Box::pin(std::future::ready(Ok(()))),
                    socket: this.socket.clone(),
                    name: this.name.clone(),
                    counted: this.counted,
                    admission: this.admission.take(),
                };
                Poll::Ready((ended, outcome))
            }
        }
    }
}

impl Driver {
    /// Starts the handler of an event, or lets it wait for its turn
    pub(super) fn dispatch(&mut self, inbound: Inbound, cx: &mut Context<'_>, now: Instant) {
        let config = self.shared.io.config();
        let (max_handlers, max_bytes) = (config.max_handlers, config.max_event_bytes);
        let under_way = self.work.under_way();
        let Some(member) = self.members.find(&inbound.namespace) else { return };
        let serial = member.socket.state().is_serial();
        let must_wait =
            !member.waiting.is_empty() || under_way >= max_handlers || serial && member.running > 0;
        if !must_wait {
            return self.start_event(inbound, cx);
        }
        let waiting_bytes = self.work.waiting_bytes + cost(&inbound);
        if waiting_bytes > max_bytes {
            tracing::warn!(
                socket = %member.socket.id(), event = &*inbound.name, waiting_bytes,
                "a client sends faster than its handlers work; closing it"
            );
            self.session.handle_command(Command::Close(CloseReason::Overloaded), now);
            return;
        }
        self.work.waiting_bytes = waiting_bytes;
        member.waiting.push_back(inbound);
    }

    fn start_event(&mut self, inbound: Inbound, cx: &mut Context<'_>) {
        let Some(member) = self.members.find(&inbound.namespace) else { return };
        let socket = member.socket.clone();
        let Some(handler) = socket.state().event_handler(&inbound.name) else {
            count::events_unhandled(socket.io().metrics());
            tracing::trace!(event = &*inbound.name, namespace = %inbound.namespace, "nobody handles this event");
            return;
        };
        let ack = inbound.ack.map(|id| Ack::new(socket.clone(), id));
        let call = Call { handler: &handler, name: &inbound.name, args: &inbound.args, ack, reason: None };
        if let Err(mut running) = Running::start(&socket, "", call, cx) {
            running.counted = true;
            member.running += 1;
            self.work.add(running);
        }
    }

    /// Runs the handlers that were waiting for something
    pub(super) fn poll_work(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut progress = false;
        // Whoever is closing comes in no more, and what it left behind runs elsewhere.
        while self.closing.is_none()
            && let Some(running) = self.work.running.as_deref_mut()
        {
            let Poll::Ready(Some((ended, outcome))) = Pin::new(running).poll_next(cx) else { break };
            progress = true;
            let Running { socket, counted, admission, .. } = ended;
            match (admission, outcome) {
                (Some(admission), Ok(())) => self.ask_next(admission, cx, now),
                (Some(admission), Err(error)) => self.refuse(&admission.socket, &error, cx, now),
                (None, _) => {
                    if counted && let Some(member) = self.members.by_id(socket.id()) {
                        member.running -= 1;
                    }
                }
            }
            self.start_waiting(cx);
            self.perform(cx, now);
        }
        progress
    }

    /// Starts events that waited, as many as may run now
    fn start_waiting(&mut self, cx: &mut Context<'_>) {
        let max_handlers = self.shared.io.config().max_handlers;
        loop {
            if self.work.under_way() >= max_handlers {
                return;
            }
            let next = self.members.each().find_map(|member| {
                let serial = member.socket.state().is_serial();
                if serial && member.running > 0 { None } else { member.waiting.pop_front() }
            });
            let Some(inbound) = next else { return };
            self.work.release(&inbound);
            self.start_event(inbound, cx);
        }
    }
}

/// Runs handlers to their end whose client is gone
pub(crate) async fn outlive(mut running: Box<FuturesUnordered<Running>>) {
    std::future::poll_fn(|cx| {
        while let Poll::Ready(ended) = Pin::new(&mut *running).poll_next(cx) {
            if ended.is_none() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
}

fn cost(inbound: &Inbound) -> usize {
    inbound.args.byte_len() + inbound.name.len() + EVENT_COST
}
