//! Event delivery to the handlers of each socket, in order

use std::cell::Cell;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use bytestring::ByteString;
use roomcast_core::{Args, Inbound, Namespace};

use super::errors::Role;
use super::members::{MemberState, Members, handlers};
use super::running::{Continuation, Ended, PendingEvent, Running};
use super::running_handlers::RunningHandlers;
use crate::app::error::HandlerError;
use crate::app::model::ack::Ack;
use crate::app::model::event_input::{
    Arguments, EventContext, HandlerInput, Listener, Listeners, LookupCache,
};
use crate::app::model::io::Io;
use crate::app::model::listeners::ListenerKind;
use crate::app::model::socket::Socket;
use crate::host::metrics::count;
use crate::util::clock;

/// Sockets of a session and their running handlers.
pub(super) struct EventDispatcher<'a> {
    pub(super) members: &'a mut Members,
    pub(super) handlers_running: &'a mut RunningHandlers,
}

impl EventDispatcher<'_> {
    #[inline]
    pub(super) fn start_event(
        &mut self,
        position: usize,
        inbound: &mut Inbound,
        lookup: &mut LookupCache,
        cx: &mut Context<'_>,
    ) {
        let Self { members, handlers_running } = self;
        let Some(member) = members.at(position) else { return };
        let socket = member.socket();
        // Events behind a disconnect are discarded.
        if socket.is_disconnected_by_server() {
            return;
        }
        let mut ack = inbound.ack.map(|id| Ack::new(socket.clone(), id));
        let listeners =
            if socket.has_listeners() { None } else { lookup.find(&socket.state().registry, &inbound.name) };
        if let Some(listeners) = listeners {
            deliver(member, handlers_running, inbound, &mut ack, [listeners], cx);
        } else {
            let socket = socket.clone();
            self.start_slow_path(&socket, take(inbound), ack, cx);
        }
    }

    /// Starts an event that needs more than its handlers.
    fn start_slow_path(
        &mut self,
        socket: &Socket,
        inbound: Inbound,
        mut ack: Option<Ack>,
        cx: &mut Context<'_>,
    ) {
        if let Some(member) = self.members.of(socket) {
            for listener in socket.listening_to(ListenerKind::Any).iter().flat_map(Listeners::as_slice) {
                let (args, ack) = (Arguments::shared(&inbound.args), ack.as_mut().map(Ack::share));
                call_listener(member, self.handlers_running, listener, &inbound.name, args, ack, cx);
            }
        }
        let rest = handlers(&socket.listening_to(ListenerKind::Middleware)).into_iter();
        let outlives_client = socket.has_left();
        self.pass(socket, PendingEvent { inbound, ack, rest, outlives_client, rewrite: None }, cx);
    }

    /// Runs the remaining event middlewares up to the first that is pending, then delivers the event.
    fn pass(&mut self, socket: &Socket, mut event: PendingEvent, cx: &mut Context<'_>) {
        while let Some(handler) = event.rest.next() {
            let PendingEvent { inbound, ack, .. } = &mut event;
            let rewrite = OnceLock::new();
            let mut input = HandlerInput {
                socket,
                name: &inbound.name,
                args: Arguments::shared(&inbound.args),
                ack: ack.as_mut().map(Ack::share),
                context: EventContext::Rewrite(&rewrite),
            };
            let started = Running::start(&handler, Role::Middleware, &mut input, cx);
            event.rewrite = rewrite.into_inner();
            match started {
                Ok(Ok(())) => event.rewrite(),
                Ok(Err(_)) => return,
                Err(mut running) => {
                    if let Some(member) = self.members.of(socket) {
                        member.passing = true;
                    }
                    running.then = Continuation::Pass(Box::new(event));
                    return self.handlers_running.add(running);
                }
            }
        }
        let PendingEvent { mut inbound, mut ack, outlives_client, .. } = event;
        // Listeners registered in between count; a client disconnected in between sends no more.
        if let Some(member) = self.members.of(socket)
            && !socket.is_disconnected_by_server()
            && socket.has_left() == outlives_client
        {
            let [all, own] = socket.take_event(&inbound.name);
            deliver(member, self.handlers_running, &mut inbound, &mut ack, [&all, &own], cx);
        }
    }

    /// Records that a handler has ended; returns the continuation if it is not an event's.
    pub(super) fn ended(
        &mut self,
        ended: Ended,
        cx: &mut Context<'_>,
    ) -> Option<(Continuation, Result<(), HandlerError>)> {
        let Ended { socket, then, outcome } = ended;
        let member = socket.as_ref().and_then(|socket| self.members.of(socket));
        match then {
            Continuation::Nothing => {}
            Continuation::EventEnded(began) => {
                if let Some(socket) = &socket {
                    socket.metrics().handler_ended(began);
                }
                if let Some(member) = member {
                    member.running -= 1;
                }
            }
            Continuation::Pass(mut event) => {
                if let Some(member) = member {
                    member.passing = false;
                }
                if let (Some(socket), Ok(())) = (socket, outcome) {
                    event.rewrite();
                    self.pass(&socket, *event, cx);
                }
            }
            then => return Some((then, outcome)),
        }
        None
    }

    /// Starts queued events, up to the handler limit.
    pub(super) fn start_waiting(&mut self, max_handlers: usize, cx: &mut Context<'_>) {
        let mut lookup = LookupCache::default();
        loop {
            if self.handlers_running.running_count() >= max_handlers {
                return;
            }
            let next = self.members.each().enumerate().find_map(|(position, member)| {
                let inbound = if member.is_busy() { None } else { member.waiting.pop_front() };
                Some((position, inbound?))
            });
            let Some((position, mut inbound)) = next else { return };
            self.handlers_running.release(&inbound);
            self.start_event(position, &mut inbound, &mut lookup, cx);
            self.members.release_if_idle(position);
        }
    }
}

/// Takes the content of an event out of its place.
///
/// Only for events that are kept or take the slow path: the others are not moved, since an event is large.
pub(super) fn take(inbound: &mut Inbound) -> Inbound {
    std::mem::replace(inbound, no_event())
}

/// Returns an empty place for an event.
pub(super) fn no_event() -> Inbound {
    Inbound { namespace: Namespace::main(), name: ByteString::new(), args: Args::empty(), ack: None }
}

/// Delivers an event to all its listeners; the last one may take its arguments.
fn deliver<const N: usize>(
    member: &mut MemberState,
    handlers_running: &mut RunningHandlers,
    inbound: &mut Inbound,
    ack: &mut Option<Ack>,
    listeners: [&Listeners; N],
    cx: &mut Context<'_>,
) {
    let Inbound { name, args, namespace, .. } = inbound;
    let mut left = listeners.into_iter().flat_map(Listeners::as_slice);
    let Some(mut listener) = left.next() else {
        count::events_unhandled(member.socket().metrics());
        tracing::debug!(event = &**name, %namespace, socket = %member.socket().id(), "event without handler");
        return;
    };
    for next in left {
        let ack = ack.as_mut().map(Ack::share);
        call_listener(member, handlers_running, listener, name, Arguments::shared(args), ack, cx);
        listener = next;
    }
    call_listener(member, handlers_running, listener, name, Arguments::whole(args), ack.take(), cx);
}

#[inline(always)]
fn call_listener(
    member: &mut MemberState,
    handlers_running: &mut RunningHandlers,
    listener: &Listener,
    name: &ByteString,
    args: Arguments<'_>,
    ack: Option<Ack>,
    cx: &mut Context<'_>,
) {
    let began = is_timed().then(clock::now);
    let mut input = HandlerInput { socket: member.socket(), name, args, ack, context: EventContext::Nothing };
    match Running::start(&listener.handler, Role::Handler, &mut input, cx) {
        Ok(_) => member.socket().metrics().handler_ended(began),
        Err(mut running) => {
            running.then = Continuation::EventEnded(began);
            member.running += 1;
            handlers_running.add(running);
        }
    }
}

/// Returns whether this handler call is timed: the first of each thread, and one of 64 after it.
///
/// Two clock reads for each call cost 6 % of an echo.
#[inline]
fn is_timed() -> bool {
    const ONE_OF: u32 = 64;
    thread_local! {
        // Per thread rather than per driver: a driver has no room for a counter, and timing the first call of each
        // would time most calls of quiet sessions. Wraps.
        static CALLS: Cell<u32> = const { Cell::new(0) };
    }
    CALLS.with(|calls| calls.replace(calls.get().wrapping_add(1)).is_multiple_of(ONE_OF))
}

/// Handlers and queued events of disconnected clients, run to completion.
///
/// A drain waits for them as for a session.
pub(super) struct DetachedWork {
    io: Io,
    handlers_running: RunningHandlers,
    /// Members whose events are still queued
    members: Members,
}

impl DetachedWork {
    /// Returns the remaining work of an ending session, or `None`.
    pub(super) fn of(io: &Io, handlers_running: RunningHandlers, members: Members) -> Option<Self> {
        if handlers_running.running_count() == 0 && members.is_empty() {
            return None;
        }
        io.app().lifecycle.driver_started();
        Some(Self { io: io.clone(), handlers_running, members })
    }

    /// Runs the remaining work to completion.
    pub(super) async fn run(mut self) {
        let max_handlers = self.io.config().limits.max_handlers;
        std::future::poll_fn(|cx| {
            loop {
                let mut dispatcher = EventDispatcher {
                    members: &mut self.members,
                    handlers_running: &mut self.handlers_running,
                };
                dispatcher.start_waiting(max_handlers, cx);
                match dispatcher.handlers_running.poll_next(cx) {
                    // Pending connects end with their client.
                    Poll::Ready(Some(ended)) => drop(dispatcher.ended(ended, cx)),
                    Poll::Ready(None) => break Poll::Ready(()),
                    Poll::Pending => break Poll::Pending,
                }
            }
        })
        .await;
    }
}

impl Drop for DetachedWork {
    fn drop(&mut self) {
        self.io.app().lifecycle.driver_ended();
    }
}
