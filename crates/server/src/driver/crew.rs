//! Event delivery to the handlers of each socket, in order

use std::cell::Cell;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use bytestring::ByteString;
use roomcast_core::Inbound;

use super::errors::Role;
use super::members::{MemberState, Members, handlers};
use super::running::{Ended, Passage, Running, Then};
use super::work::Work;
use crate::app::error::HandlerError;
use crate::app::model::ack::Ack;
use crate::app::model::event_input::{Arguments, Beside, HandlerInput, Listener, Listeners};
use crate::app::model::io::Io;
use crate::app::model::listeners::Topic;
use crate::app::model::socket::Socket;
use crate::host::metrics::count;
use crate::util::clock;

/// Sockets of a session and their running handlers.
pub(super) struct Crew<'a> {
    pub(super) members: &'a mut Members,
    pub(super) work: &'a mut Work,
}

impl Crew<'_> {
    #[inline]
    pub(super) fn start_event(&mut self, position: usize, mut inbound: Inbound, cx: &mut Context<'_>) {
        let Self { members, work } = self;
        let Some(member) = members.at(position) else { return };
        let socket = member.socket();
        // Events behind a disconnect are discarded.
        if socket.is_put_out() {
            return;
        }
        let mut ack = inbound.ack.map(|id| Ack::new(socket.clone(), id));
        let listeners = if socket.has_listeners() { None } else { socket.state().board.find(&inbound.name) };
        if let Some(listeners) = listeners {
            deliver(member, work, &mut inbound, &mut ack, [&listeners], cx);
        } else {
            let socket = socket.clone();
            self.start_detour(&socket, inbound, ack, cx);
        }
    }

    /// Starts an event that needs more than its handlers.
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

    /// Runs the remaining event middlewares up to the first that is pending, then delivers the event.
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
        // Listeners registered in between count; a client disconnected in between sends no more.
        if let Some(member) = self.members.of(socket)
            && !socket.is_put_out()
            && socket.has_left() == outlives
        {
            let [all, own] = socket.take_event(&inbound.name);
            deliver(member, self.work, &mut inbound, &mut ack, [&all, &own], cx);
        }
    }

    /// Records that a handler has ended; returns the continuation if it is not an event's.
    pub(super) fn ended(
        &mut self,
        ended: Ended,
        cx: &mut Context<'_>,
    ) -> Option<(Then, Result<(), HandlerError>)> {
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

    /// Starts queued events, up to the handler limit.
    pub(super) fn start_waiting(&mut self, max_handlers: usize, cx: &mut Context<'_>) {
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

/// Delivers an event to all its listeners; the last one may take its arguments.
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
    // Most events need no acknowledgement, so no move is needed.
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

/// Returns whether this handler call is timed: the first of each thread, and one of 64 after it.
///
/// Two clock reads cost more than many handlers do.
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
pub(super) struct Outliving {
    io: Io,
    work: Work,
    /// Members whose events are still queued
    members: Members,
}

impl Outliving {
    /// Returns the remaining work of an ending session, or `None`.
    pub(super) fn of(io: &Io, work: Work, members: Members) -> Option<Self> {
        if work.under_way() == 0 && members.is_empty() {
            return None;
        }
        io.app().lifecycle.driver_started();
        Some(Self { io: io.clone(), work, members })
    }

    /// Runs the remaining work to completion.
    pub(super) async fn run(mut self) {
        let max_handlers = self.io.config().limits.max_handlers;
        std::future::poll_fn(|cx| {
            let polled = loop {
                let mut crew = Crew { members: &mut self.members, work: &mut self.work };
                crew.start_waiting(max_handlers, cx);
                match crew.work.poll_next(cx) {
                    // Pending connects end with their client.
                    Poll::Ready(Some(ended)) => drop(crew.ended(ended, cx)),
                    Poll::Ready(None) => break Poll::Ready(()),
                    Poll::Pending => break Poll::Pending,
                }
            };
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
