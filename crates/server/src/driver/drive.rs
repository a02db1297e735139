//! Visit of a session's driver task: inputs polled and actions performed

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use roomcast_core::{Action, CloseReason, Command, ConnectionRole, Inbound, Overflow};

use super::flow::Flow;
use super::phase::Phase;
use super::reading::MESSAGES;
use super::state::Driver;
use crate::app::model::event_input::LookupCache;
use crate::host::config::EventRate;
use crate::host::limit::{Limit, limit_exceeded};
use crate::host::pace;
use crate::session::mailbox::{SessionCommand, TakeOver};
use crate::session::recovery;
use crate::util::clock;
use crate::util::coop::yield_now;

/// Rounds of one visit before the task yields
const ROUNDS: usize = 32;
/// Lateness of a deadline after which I/O is polled once more
const LATE: Duration = Duration::from_millis(100);

impl Driver {
    /// Returns whether nothing may be done for the client until its session is known to be of this node.
    fn is_fenced(&self, cx: &Context<'_>, now: Instant) -> bool {
        let Some(fence) = &self.shared.io.config().fence else { return false };
        // Address of the session as a number that no other task has.
        let key = Arc::as_ptr(&self.shared).addr();
        !fence.is_open(now)
            && recovery::order(self.shared.kind).is_some()
            && fence.poll_open(key, now, cx).is_pending()
    }

    fn visit(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        self.messages_read = 0;
        for _ in 0..ROUNDS {
            let mut progress = self.poll_inbox(cx, now);
            if self.phase.is_closing() {
                return self.poll_closing(cx, now);
            }
            progress |= self.phase.is_promoting() && self.promote(cx, now);
            if !self.phase.is_promoting() {
                progress |= self.poll_connection(ConnectionRole::Primary, cx, now);
                // Messages on the probe were sent after those taken from the primary lane.
                let reads_probe = self.phase.probe().is_some() && !self.has_pending_messages();
                progress |= reads_probe && self.poll_connection(ConnectionRole::Probe, cx, now);
            }
            progress |= self.poll_work(cx, now);
            progress |= self.poll_timer(cx, now);
            if self.phase.is_closing() {
                return self.poll_closing(cx, now);
            }
            if self.gives_way() {
                break;
            }
            if !progress {
                return Poll::Pending;
            }
        }
        yield_now(cx);
        Poll::Pending
    }

    /// Returns whether messages of the primary lane are unprocessed.
    fn has_pending_messages(&self) -> bool {
        self.primary.connection.has_pending_messages()
            || self.flow.as_ref().is_some_and(|flow| !flow.kept.is_empty())
    }

    /// Returns whether this visit should yield, or outboxes must be flushed before the next message.
    fn gives_way(&self) -> bool {
        let waits = |flow: &Flow| !flow.paused && !flow.kept.is_empty() || !flow.backlog.is_empty();
        self.messages_read >= MESSAGES
            || pace::is_spent()
            || self.overslept
            || self.flow.as_deref().is_some_and(waits)
    }

    fn poll_inbox(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut progress = false;
        while let Poll::Ready(visit) = self.shared.mailbox.poll_next(cx) {
            progress = true;
            match visit {
                SessionCommand::Exchange(transport, exchange) => {
                    self.receive_exchange(transport, *exchange, cx, now)
                }
                SessionCommand::SocketDisconnected => {
                    self.reject_pending(cx, now);
                    self.perform(cx, now);
                }
                SessionCommand::Close(reason) if !self.phase.is_closing() => {
                    self.session.handle_command(Command::Close(reason), now);
                    self.perform(cx, now);
                }
                SessionCommand::Close(_) => self.hasten_closing(now),
                SessionCommand::TakeOver(TakeOver { key, left }) => {
                    self.taken_over(key, cx, now);
                    drop(left);
                }
                SessionCommand::Displace(key) => self.displaced(key, cx, now),
            }
        }
        progress
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let deadline = self.session.poll_timeout();
        let limits = self.stall_limits();
        let stall = self.flow.as_mut().and_then(|flow| flow.stall.as_mut());
        // An expired deadline was checked in this visit, if the connection could be polled.
        let stalled = stall.and_then(|stall| stall.deadline(limits)).filter(|at| *at > now);
        let leaving = self.flow.as_ref().and_then(|flow| flow.leaving);
        let leaving_at = leaving.map(|leaving| leaving.at);
        let next = deadline.into_iter().chain(stalled).chain(leaving_at).min();
        if !self.timer.poll(next, &self.shared.io.app().timers, cx, now) {
            // The pong had arrived. Left set, this would rerun the task until the next deadline.
            self.overslept = false;
            return false;
        }
        // After a process pause, timers may fire before sockets are polled, although the pong has arrived.
        let is_late = deadline.is_some_and(|at| now > clock::after(at, LATE));
        if is_late && !std::mem::replace(&mut self.overslept, true) {
            return false;
        }
        self.overslept = false;
        if let Some(leaving) = leaving.filter(|leaving| leaving.at <= now) {
            self.read_remaining(cx, now);
            self.connection_lost(ConnectionRole::Primary, leaving.reason, now);
            self.perform(cx, now);
            return true;
        }
        if let Some(flow) = &self.flow {
            // Input not read, or output not written, by the driver's choice does not count against the client.
            if flow.holds_back() {
                self.session.handle_activity(ConnectionRole::Primary, now);
            }
            let ping_timeout = self.shared.io.config().timeouts.ping_timeout;
            let delayed = flow.stall.as_ref().and_then(|stall| stall.delays_heartbeat(ping_timeout, now));
            if let Some(taken) = delayed {
                self.session.handle_heartbeat_sent(taken);
            }
        }
        self.session.handle_timeout(now);
        self.perform(cx, now);
        true
    }

    /// Performs the session's actions until there are none.
    pub(super) fn perform(&mut self, cx: &mut Context<'_>, now: Instant) {
        self.perform_with(&mut LookupCache::default(), cx, now);
    }

    /// Performs the session's actions until there are none, with the handlers found for earlier messages of a read.
    #[inline]
    pub(super) fn perform_with(&mut self, lookup: &mut LookupCache, cx: &mut Context<'_>, now: Instant) {
        while !self.phase.is_closing() {
            match self.session.poll_action() {
                None => return,
                Some(Action::Event(mut inbound)) => self.accept_event(&mut inbound, lookup, cx, now),
                Some(action) => self.perform_one(action, cx, now),
            }
        }
    }

    pub(super) fn perform_one(&mut self, action: Action, cx: &mut Context<'_>, now: Instant) {
        match action {
            Action::Transmit { role: ConnectionRole::Primary, frame, .. }
                if matches!(self.phase, Phase::Evicted) =>
            {
                let _ = self.shared.outbox.push_last(frame);
            }
            Action::Transmit { role, frame, delivery } => {
                if let Some((_, outbox)) = self.role(role) {
                    // A closed outbox is reported by the next poll.
                    let _ = outbox.push(frame, delivery, Overflow::Close);
                }
            }
            Action::Heartbeat(frame) => {
                self.mark_ping(now);
                _ = self.shared.outbox.push_heartbeat(frame);
            }
            Action::HeartbeatAnswered => self.delivered.answered(),
            Action::Ping(role) => {
                let mark = self.mark_ping(now);
                if let Some((state, outbox)) = self.role(role) {
                    state.connection.ping(outbox, mark);
                }
            }
            Action::Promote => {
                // The old connection writes its remaining data, such as the response to a waiting poll.
                let _ = self.shared.outbox.flush_backlog();
                // For the application the upgrade is complete: later messages arrive on the new lane.
                if let Some(probe) = self.phase.begin_promotion() {
                    self.shared.set_transport(probe.role.transport);
                }
            }
            Action::CloseProbe => self.drop_probe(CloseReason::TransportClose),
            Action::Connect { .. } | Action::Refused { .. } if !self.is_within_rate(now) => {}
            Action::Connect { namespace, auth } => self.admit(namespace, &auth, cx, now),
            Action::Refused { .. } => {
                let (io, address) = (&self.shared.io, self.shared.handshake.address_field());
                limit_exceeded!(
                    io,
                    Limit::JoinedNamespaces,
                    address,
                    "connect refused: client is in too many namespaces"
                );
            }
            Action::Event(mut inbound) => {
                self.accept_event(&mut inbound, &mut LookupCache::default(), cx, now);
            }
            Action::Answer { namespace, id, args } => {
                if let Some(member) = self.members.find(&namespace) {
                    member.socket().answered(id, args);
                }
            }
            Action::Leave { namespace, reason } => {
                self.leave(&namespace, reason, cx);
                self.reject_pending(cx, now);
            }
            Action::Close(reason) => self.start_closing(reason, "", cx, now),
            Action::Refuse { message } => self.start_closing(CloseReason::Refused, &message, cx, now),
            other => tracing::error!(action = ?other, "unknown session action"),
        }
    }

    /// Dispatches an event, unless it exceeds the event rate.
    #[inline]
    pub(super) fn accept_event(
        &mut self,
        inbound: &mut Inbound,
        lookup: &mut LookupCache,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        if self.is_within_rate(now) {
            self.dispatch(inbound, lookup, cx, now);
        }
    }

    /// Records a ping about to be sent; returns its mark.
    fn mark_ping(&mut self, now: Instant) -> u32 {
        let is_alone = self.shared.outbox.status().bytes == 0;
        self.delivered.ping(is_alone, now)
    }

    /// Returns whether the event rate allows one more event; closes the client if not.
    #[inline]
    fn is_within_rate(&mut self, now: Instant) -> bool {
        self.shared.io.config().limits.event_rate.is_none_or(|rate| self.takes_from_rate(rate, now))
    }

    fn takes_from_rate(&mut self, rate: EventRate, now: Instant) -> bool {
        let within = self.flow.get_or_insert_default().bucket.get_or_insert_default().take(rate, now);
        if !within {
            self.session.handle_command(Command::Close(CloseReason::RateLimited), now);
        }
        within
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let now = clock::now();
        if this.is_fenced(cx, now) {
            return Poll::Pending;
        }
        pace::begin();
        let polled = this.visit(cx, now);
        let backlog = pace::end();
        if !backlog.is_empty() {
            this.flow.get_or_insert_default().backlog.append(backlog);
            yield_now(cx);
        }
        this.flow.take_if(|flow| flow.is_idle());
        if this.polled && this.phase.is_plain() && this.flow.is_none() && !this.overslept {
            this.shared.mailbox.set_idle();
        }
        this.session.release_memory();
        polled
    }
}
