//! Event dispatch: started in order, or queued while handlers are busy

use std::task::{Context, Poll};
use std::time::Instant;

use roomcast_core::{CloseReason, Command, Inbound};

use super::dispatch::{EventDispatcher, take};
use super::running::Continuation;
use super::running_handlers::cost;
use super::state::Driver;
use crate::app::model::event_input::LookupCache;
use crate::host::limit::{Limit, limit_exceeded};
use crate::util::log_limit::log_limited;

impl Driver {
    /// Starts the handler of an event, or queues the event.
    #[inline]
    pub(super) fn dispatch(
        &mut self,
        inbound: &mut Inbound,
        lookup: &mut LookupCache,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        let config = self.shared.io.config();
        let max_handlers = config.limits.max_handlers;
        if inbound.name.len() > config.limits.max_name_bytes {
            return self.refuse_name(now);
        }
        let Some(position) = self.members.position(&inbound.namespace) else { return };
        let Some(member) = self.members.at(position) else { return };
        let must_wait = !member.waiting.is_empty()
            || self.handlers_running.running_count() >= max_handlers
            || member.is_busy();
        if must_wait {
            return self.let_wait(position, take(inbound), now);
        }
        self.dispatcher().start_event(position, inbound, lookup, cx);
        // Before the next message: a disconnected client is notified, regardless of later events.
        if self.members.at(position).is_some_and(|member| member.socket().is_disconnected_by_server()) {
            self.reject_pending(cx, now);
        }
    }

    #[cold]
    fn refuse_name(&mut self, now: Instant) {
        let (io, address) = (&self.shared.io, self.shared.handshake.address_field());
        let value = io.config().limits.max_name_bytes;
        limit_exceeded!(io, Limit::NameSize, address, value, "client closed: event name too long");
        self.session.handle_command(Command::Close(CloseReason::ParseError), now);
    }

    #[cold]
    fn let_wait(&mut self, position: usize, inbound: Inbound, now: Instant) {
        let Some(member) = self.members.at(position) else { return };
        let waiting_bytes = self.handlers_running.waiting_bytes + cost(&inbound);
        let config = self.shared.io.config();
        // Reading pauses before this limit, unless an awaited acknowledgement may come behind these events.
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
        self.handlers_running.waiting_bytes = waiting_bytes;
        member.waiting.push_back(inbound);
    }

    fn dispatcher(&mut self) -> EventDispatcher<'_> {
        EventDispatcher { members: &mut self.members, handlers_running: &mut self.handlers_running }
    }

    /// Polls running handlers.
    pub(super) fn poll_work(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut progress = false;
        // A closing session joins no namespace, and its remaining handlers run elsewhere.
        while !self.phase.is_closing() {
            let Poll::Ready(Some(ended)) = self.handlers_running.poll_next(cx) else { break };
            progress = true;
            match self.dispatcher().ended(ended, cx) {
                Some((Continuation::Admit(pending), Ok(()))) => self.ask_next(pending, cx, now),
                Some((Continuation::Admit(pending), Err(error))) => {
                    self.refuse(pending.socket(), &error, cx, now);
                }
                Some((Continuation::Open(opening), Ok(()))) => self.open(*opening, cx, now),
                Some((Continuation::Open(opening), Err(_))) => self.ask_parents(*opening, cx, now),
                Some((Continuation::Claimed(pending), _)) => self.claimed(*pending, cx, now),
                _ => {}
            }
            let max_handlers = self.shared.io.config().limits.max_handlers;
            self.dispatcher().start_waiting(max_handlers, cx);
            self.reject_pending(cx, now);
            self.perform(cx, now);
        }
        progress
    }
}
