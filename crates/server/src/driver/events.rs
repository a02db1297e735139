//! Handlers: started in the order of their events, run beside the reader

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Instant;

use bytestring::ByteString;
use futures_util::stream::{FuturesUnordered, Stream};
use roomcast_core::{CloseReason, Command, Inbound};

use super::Driver;
use super::errors::{told, went_wrong};
use super::members::{Admission, MemberState, Members, handlers};
use super::opening::Opening;
use crate::app::error::{EventErrorCause, HandlerError};
use crate::app::model::ack::Ack;
use crate::app::model::event_input::{
    AnyHandler, Arguments, Beside, Found, HandlerInput, Listener, Listeners, Looked,
};
use crate::app::model::event_rewrite::EventRewrite;
use crate::app::model::handler_future::{HandlerFuture, Started};
use crate::app::model::io::Io;
use crate::app::model::listeners::Topic;
use crate::app::model::socket::Socket;
use crate::host::breach::{Breach, breach};
use crate::host::metrics::count;
use crate::util::clock;
use crate::util::log_limit::log_limited;

/// The handlers under way, and how much waits for them
#[derive(Default)]
pub(crate) struct Work {
    // Boxed and made on first use: most handlers end where they begin.
    running: Option<Box<FuturesUnordered<Running>>>,
    waiting_bytes: usize,
}

thread_local! {
    /// For the events of one visit, which nearly always have the same listeners
    static LOOKED: Cell<Looked> = const { Cell::new(Looked::new()) };
}

/// A handler on its way
pub(crate) struct Running {
    future: HandlerFuture,
    /// Nobody yet while a namespace is asked for
    socket: Option<Socket>,
    name: ByteString,
    role: Role,
    /// To answer with if it fails, where somebody hears of that; boxed, since few events ask for an answer
    spare: Option<Box<Ack>>,
    /// How it failed, if what is left is the telling of it
    failed: Option<Box<HandlerError>>,
    pub(crate) then: Then,
}

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

/// What follows when a handler has ended
#[derive(Default)]
pub(crate) enum Then {
    #[default]
    Nothing,
    /// One handler of an event less is under way; it began then, if it is timed
    EventEnded(Option<Instant>),
    /// The event goes on
    Pass(Box<Passage>),
    /// The client is asked further
    Admit(Box<Admission>),
    /// The namespace is made, or another parent is asked
    Open(Box<Opening>),
}

/// An event on its way through its middlewares
pub(crate) struct Passage {
    inbound: Inbound,
    ack: Option<Ack>,
    rest: std::vec::IntoIter<AnyHandler>,
    /// It had waited for its turn when its client left
    outlives: bool,
    /// What the middleware that is asked makes of it
    rewrite: Option<EventRewrite>,
}

impl Passage {
    /// Takes over what the middleware that has agreed made of the event
    fn rewrite(&mut self) {
        if let Some(rewrite) = self.rewrite.take() {
            rewrite.apply(&mut self.inbound.name, &mut self.inbound.args);
        }
    }
}

/// The sockets of a session, and the handlers that run for them
pub(super) struct Crew<'a> {
    members: &'a mut Members,
    work: &'a mut Work,
}

/// A handler that has ended
pub(crate) struct Ended {
    pub(crate) socket: Option<Socket>,
    pub(crate) then: Then,
    pub(crate) outcome: Result<(), HandlerError>,
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

    /// Drops what decides whether a client may join: nobody waits for the answer any more
    pub(super) fn drop_admissions(&mut self) {
        let Some(running) = self.running.as_deref_mut() else { return };
        if !running.iter().any(Running::is_admission) {
            return;
        }
        let kept = std::mem::take(running).into_iter().filter_map(|running| {
            if !running.is_admission() {
                return Some(running);
            }
            // Dropping a future runs code of the application.
            if catch_unwind(AssertUnwindSafe(|| drop(running))).is_err() {
                log_limited!(ERROR, (), "middleware panicked when it was dropped");
            }
            None
        });
        *running = kept.collect();
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        match self.running.as_deref_mut() {
            Some(running) => Pin::new(running).poll_next(cx),
            None => Poll::Ready(None),
        }
    }

    /// Whether so many handlers are under way that those of events, which wait for their turn, are not all there is
    ///
    /// What is left are those of joining and leaving, which do not wait.
    pub(crate) fn is_crowded(&self, max_handlers: usize) -> bool {
        self.under_way() >= max_handlers.saturating_mul(2)
    }

    /// Whether nothing is under way, and nothing waits for that
    #[inline(always)]
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting_bytes == 0 && self.running.is_none()
    }

    /// Whether so much waits for the handlers, or so many are under way, that the client should not be read on
    #[inline]
    pub(crate) fn is_behind(&self, max_handlers: usize, max_event_bytes: usize) -> bool {
        self.waiting_bytes > max_event_bytes || self.running.is_some() && self.is_crowded(max_handlers)
    }

    fn under_way(&self) -> usize {
        self.running.as_ref().map_or(0, |running| running.len())
    }
}

impl Running {
    /// Calls a handler and runs it to its first wait; gives back what is left of it if it did not end there
    pub(crate) fn start(
        handler: &AnyHandler,
        role: Role,
        input: &mut HandlerInput<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Result<(), HandlerError>, Self> {
        let HandlerInput { socket, name, .. } = *input;
        let spare = match &mut input.ack {
            Some(ack) if role != Role::Error && socket.hears_errors() => Some(ack.share()),
            _ => None,
        };
        let _acting = socket.acting();
        // Called and run to its first wait in one go, which for most handlers is all there is.
        let ran = catch_unwind(AssertUnwindSafe(|| {
            // A future that ended is dropped in here too, since that may panic as well.
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
        let failed = told(&cause);
        match went_wrong(socket, name, role, cause, spare, cx) {
            None => Ok(Err(failed)),
            Some(telling) => {
                let failed = Some(Box::new(failed));
                Err(Self { failed, ..Self::new(telling, Some(socket.clone()), name.clone(), role) })
            }
        }
    }

    pub(crate) fn new(future: HandlerFuture, socket: Option<Socket>, name: ByteString, role: Role) -> Self {
        Self { future, socket, name, role, spare: None, failed: None, then: Then::Nothing }
    }

    /// Returns whether this decides about a client that wants to join.
    fn is_admission(&self) -> bool {
        matches!(self.then, Then::Admit(_) | Then::Open(_))
    }

    /// Refuses the client if this has not decided at `deadline`.
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
        let failed = told(&cause);
        let Some(socket) = &self.socket else {
            if cause == EventErrorCause::Panicked {
                log_limited!(ERROR, (), namespace = &*self.name, "dynamic-namespace predicate panicked");
            }
            return Poll::Ready(Err(failed));
        };
        let spare = self.spare.take().map(|ack| *ack);
        match went_wrong(socket, &self.name, self.role, cause, spare, cx) {
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

fn failure(role: Role, error: HandlerError) -> EventErrorCause {
    match role {
        Role::Middleware => EventErrorCause::Refused(error),
        _ => EventErrorCause::Failed(error),
    }
}

impl Driver {
    /// Starts the handler of an event, or lets it wait for its turn
    #[inline]
    pub(super) fn dispatch(&mut self, inbound: Inbound, cx: &mut Context<'_>, now: Instant) {
        let config = self.shared.io.config();
        let max_handlers = config.limits.max_handlers;
        if inbound.name.len() > config.limits.max_name_bytes {
            return self.refuse_name(now);
        }
        let Some(position) = self.members.position(&inbound.namespace) else { return };
        let Some(member) = self.members.at(position) else { return };
        let must_wait =
            !member.waiting.is_empty() || self.work.under_way() >= max_handlers || member.is_busy();
        if must_wait {
            return self.let_wait(position, inbound, now);
        }
        self.crew().start_event(position, inbound, cx);
        // Before the next message is heard: a client that is put out is told so, whatever it has sent behind.
        if self.members.at(position).is_some_and(|member| member.socket().is_put_out()) {
            self.send_away(cx, now);
        }
    }

    #[cold]
    fn refuse_name(&mut self, now: Instant) {
        let (io, address) = (&self.shared.io, self.shared.handshake.address_field());
        let value = io.config().limits.max_name_bytes;
        breach!(io, Breach::NameSize, address, value, "client closed: event name too long");
        self.session.handle_command(Command::Close(CloseReason::ParseError), now);
    }

    #[cold]
    fn let_wait(&mut self, position: usize, inbound: Inbound, now: Instant) {
        let Some(member) = self.members.at(position) else { return };
        let waiting_bytes = self.work.waiting_bytes + cost(&inbound);
        let config = self.shared.io.config();
        // Reading pauses before, unless the client owes an answer that may come behind all this.
        if waiting_bytes
            > config
                .limits
                .max_event_bytes
                .max(config.limits.outbox_max / 2)
                .saturating_add(config.limits.max_payload)
        {
            log_limited!(
                WARN, (), socket = %member.socket().id(), event = &*inbound.name, waiting_bytes,
                limit = "max_event_bytes", value = config.limits.max_event_bytes,
                "client overloaded: event queue full"
            );
            self.session.handle_command(Command::Close(CloseReason::Overloaded), now);
            return;
        }
        self.work.waiting_bytes = waiting_bytes;
        member.waiting.push_back(inbound);
    }

    fn crew(&mut self) -> Crew<'_> {
        Crew { members: &mut self.members, work: &mut self.work }
    }

    /// Runs the handlers that were waiting for something
    pub(super) fn poll_work(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut progress = false;
        // Whoever is closing comes in no more, and what it left behind runs elsewhere.
        while self.closing.is_none() {
            let Poll::Ready(Some(ended)) = self.work.poll_next(cx) else { break };
            progress = true;
            match self.crew().ended(ended, cx) {
                Some((Then::Admit(admission), Ok(()))) => self.ask_next(admission, cx, now),
                Some((Then::Admit(admission), Err(error))) => {
                    self.refuse(admission.socket(), &error, cx, now);
                }
                Some((Then::Open(opening), Ok(()))) => self.open(*opening, cx, now),
                Some((Then::Open(opening), Err(_))) => self.ask_parents(*opening, cx, now),
                _ => {}
            }
            let max_handlers = self.shared.io.config().limits.max_handlers;
            self.crew().start_waiting(max_handlers, cx);
            self.send_away(cx, now);
            self.perform(cx, now);
        }
        progress
    }
}

impl Crew<'_> {
    #[inline]
    fn start_event(&mut self, position: usize, mut inbound: Inbound, cx: &mut Context<'_>) {
        let Self { members, work } = self;
        let Some(member) = members.at(position) else { return };
        let socket = member.socket();
        // What it sent behind that nobody wants to hear.
        if socket.is_put_out() {
            return;
        }
        let mut ack = inbound.ack.map(|id| Ack::new(socket.clone(), id));
        // Lent out, since there may be a future to be put beside it.
        let mut looked = LOOKED.take();
        let found = if socket.has_listeners() {
            Found::Detour
        } else {
            socket.state().board.find(&inbound.name, &mut looked)
        };
        match found {
            Found::Direct(listeners) => deliver(member, work, &mut inbound, &mut ack, [listeners], cx),
            Found::Taken(listeners) => deliver(member, work, &mut inbound, &mut ack, [&listeners], cx),
            Found::Detour => {
                let socket = socket.clone();
                self.start_detour(&socket, inbound, ack, cx);
                LOOKED.set(looked);
                return;
            }
        }
        // Not `LocalKey::set`, which costs a call and fifteen instructions.
        LOOKED.with(|place| place.set(looked));
    }

    /// Starts an event that there may be more to than its handlers
    fn start_detour(
        &mut self,
        socket: &Socket,
        inbound: Inbound,
        mut ack: Option<Ack>,
        cx: &mut Context<'_>,
    ) {
        if let Some(member) = self.members.of(socket) {
            for listener in socket.listening_to(Topic::Any).iter().flat_map(Listeners::as_slice) {
                let (args, ack) = (Arguments::shared(&inbound.args), ack.as_mut().map(Ack::share));
                call_listener(member, self.work, listener, &inbound.name, args, ack, cx);
            }
        }
        let rest = handlers(&socket.listening_to(Topic::Middleware)).into_iter();
        let outlives = socket.has_left();
        self.pass(socket, Passage { inbound, ack, rest, outlives, rewrite: None }, cx);
    }

    /// Asks the middlewares of an event that are left, up to the first that takes its time; then it is delivered
    fn pass(&mut self, socket: &Socket, mut passage: Passage, cx: &mut Context<'_>) {
        while let Some(handler) = passage.rest.next() {
            let Passage { inbound, ack, .. } = &mut passage;
            let rewrite = OnceLock::new();
            let mut input = HandlerInput {
                socket,
                name: &inbound.name,
                args: Arguments::shared(&inbound.args),
                ack: ack.as_mut().map(Ack::share),
                beside: Beside::Rewrite(&rewrite),
            };
            let started = Running::start(&handler, Role::Middleware, &mut input, cx);
            passage.rewrite = rewrite.into_inner();
            match started {
                Ok(Ok(())) => passage.rewrite(),
                Ok(Err(_)) => return,
                Err(mut running) => {
                    if let Some(member) = self.members.of(socket) {
                        member.passing = true;
                    }
                    running.then = Then::Pass(Box::new(passage));
                    return self.work.add(running);
                }
            }
        }
        let Passage { mut inbound, mut ack, outlives, .. } = passage;
        // Registered meanwhile counts, and a client that left or was put out meanwhile sends no more.
        if let Some(member) = self.members.of(socket)
            && !socket.is_put_out()
            && socket.has_left() == outlives
        {
            let [all, own] = socket.take_event(&inbound.name);
            deliver(member, self.work, &mut inbound, &mut ack, [&all, &own], cx);
        }
    }

    /// Takes note that a handler has ended; gives back what follows if that is not an event's
    fn ended(&mut self, ended: Ended, cx: &mut Context<'_>) -> Option<(Then, Result<(), HandlerError>)> {
        let Ended { socket, then, outcome } = ended;
        let member = socket.as_ref().and_then(|socket| self.members.of(socket));
        match then {
            Then::Nothing => {}
            Then::EventEnded(began) => {
                if let Some(socket) = &socket {
                    socket.io().metrics().handler_ended(began);
                }
                if let Some(member) = member {
                    member.running -= 1;
                }
            }
            Then::Pass(mut passage) => {
                if let Some(member) = member {
                    member.passing = false;
                }
                if let (Some(socket), Ok(())) = (socket, outcome) {
                    passage.rewrite();
                    self.pass(&socket, *passage, cx);
                }
            }
            then => return Some((then, outcome)),
        }
        None
    }

    /// Starts events that waited, as many as may run now
    fn start_waiting(&mut self, max_handlers: usize, cx: &mut Context<'_>) {
        loop {
            if self.work.under_way() >= max_handlers {
                return;
            }
            let next = self.members.each().enumerate().find_map(|(position, member)| {
                let inbound = if member.is_busy() { None } else { member.waiting.pop_front() };
                Some((position, inbound?))
            });
            let Some((position, inbound)) = next else { return };
            self.work.release(&inbound);
            self.start_event(position, inbound, cx);
            self.members.let_go(position);
        }
    }
}

/// Hands an event to all its listeners, the last of which may take its arguments
fn deliver<const N: usize>(
    member: &mut MemberState,
    work: &mut Work,
    inbound: &mut Inbound,
    ack: &mut Option<Ack>,
    listeners: [&Listeners; N],
    cx: &mut Context<'_>,
) {
    let Inbound { name, args, namespace, .. } = inbound;
    let mut left = listeners.into_iter().flat_map(Listeners::as_slice);
    let Some(mut listener) = left.next() else {
        count::events_unhandled(member.socket().io().metrics());
        tracing::debug!(event = &**name, %namespace, socket = %member.socket().id(), "event without handler");
        return;
    };
    for next in left {
        let ack = ack.as_mut().map(Ack::share);
        call_listener(member, work, listener, name, Arguments::shared(args), ack, cx);
        listener = next;
    }
    // Most ask for no answer, and nothing need be moved for them.
    let ack = if ack.is_some() { ack.take() } else { None };
    call_listener(member, work, listener, name, Arguments::whole(args), ack, cx);
}

#[inline(always)]
fn call_listener(
    member: &mut MemberState,
    work: &mut Work,
    listener: &Listener,
    name: &ByteString,
    args: Arguments<'_>,
    ack: Option<Ack>,
    cx: &mut Context<'_>,
) {
    let began = is_timed().then(clock::now);
    let mut input = HandlerInput { socket: member.socket(), name, args, ack, beside: Beside::Nothing };
    match Running::start(&listener.handler, Role::Handler, &mut input, cx) {
        Ok(_) => member.socket().io().metrics().handler_ended(began),
        Err(mut running) => {
            running.then = Then::EventEnded(began);
            member.running += 1;
            work.add(running);
        }
    }
}

/// Whether this call of a handler is timed: the first of each thread, and one of 64 after it
///
/// To read the clock twice would cost more than many a handler does.
#[inline]
fn is_timed() -> bool {
    const ONE_OF: u32 = 64;
    thread_local! {
        static CALLS: Cell<u32> = const { Cell::new(0) };
    }
    CALLS.with(|calls| calls.replace(calls.get().wrapping_add(1)).is_multiple_of(ONE_OF))
}

/// Lets go of the listeners that were looked at: a visit is over, and the next may be long in coming
pub(super) fn let_go() {
    LOOKED.set(Looked::new());
}

/// Handlers and events of clients that are gone, on their way to their end
///
/// A drain waits for them as for a session.
pub(super) struct Outliving {
    io: Io,
    work: Work,
    /// Those whose events still wait for their turn
    members: Members,
}

impl Outliving {
    /// What is left of a session that ends; `None` if nothing is
    pub(super) fn of(io: &Io, work: Work, members: Members) -> Option<Self> {
        if work.under_way() == 0 && members.is_empty() {
            return None;
        }
        io.app().lifecycle.driver_started();
        Some(Self { io: io.clone(), work, members })
    }

    /// Runs them to their end
    pub(super) async fn run(mut self) {
        let max_handlers = self.io.config().limits.max_handlers;
        std::future::poll_fn(|cx| {
            let polled = loop {
                let mut crew = Crew { members: &mut self.members, work: &mut self.work };
                crew.start_waiting(max_handlers, cx);
                match crew.work.poll_next(cx) {
                    // Whoever waits at a door is gone.
                    Poll::Ready(Some(ended)) => drop(crew.ended(ended, cx)),
                    Poll::Ready(None) => break Poll::Ready(()),
                    Poll::Pending => break Poll::Pending,
                }
            };
            let_go();
            polled
        })
        .await;
    }
}

impl Drop for Outliving {
    fn drop(&mut self) {
        self.io.app().lifecycle.driver_ended();
    }
}

fn cost(inbound: &Inbound) -> usize {
    inbound.args.byte_len() + inbound.name.len() + EVENT_COST
}
