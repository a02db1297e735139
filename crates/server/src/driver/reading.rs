//! Reading from a client, and passing messages to the session

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use roomcast_core::{Attended, CloseReason, Command, ConnectionError, ConnectionRole, Message, Received};

use roomcast_runtime::{Stall, StallLimits};

use super::connection_slot::close_apart;
use super::dispatch::no_event;
use super::flow::Leaving;
use super::state::Driver;
use crate::app::model::event_input::LookupCache;
use crate::host::metrics::count;
use crate::host::pace;
use crate::util::clock;
use crate::util::scratch::with_messages;

/// Messages processed in one visit before the task yields
///
/// The rest of a read is kept for the next visit, at most one read of 16 KiB.
pub(super) const MESSAGES: u32 = 256;
/// Grace period for the last requests of a disconnecting client.
///
/// On page unload the last POST and the end of the poll arrive in either order. A client whose POST was refused gets as
/// long to read why.
const LEAVING_GRACE: Duration = Duration::from_millis(50);
/// Messages between two checks of the client's own outbox
const OWN_OUTBOX_EVERY: u32 = 8;

impl Driver {
    pub(super) fn poll_connection(
        &mut self,
        role: ConnectionRole,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> bool {
        if !self.phase.is_open(role) {
            return self.poll_open(role, cx, now);
        }
        let Some((_, outbox)) = self.role(role) else { return false };
        let attended = outbox.attend(cx);
        if let Some(reason) = attended.closed {
            if role == ConnectionRole::Primary && is_evicted(reason) {
                self.evict(reason, now);
            } else {
                if role == ConnectionRole::Primary {
                    self.read_remaining(cx, now);
                }
                self.connection_lost(role, reason, now);
            }
            self.perform(cx, now);
            return true;
        }
        if role == ConnectionRole::Primary && (!attended.writable || self.flow.is_some()) {
            if self.watch_stall(&attended, now) {
                self.perform(cx, now);
                return true;
            }
            if !self.may_read(&attended) {
                return false;
            }
            if self.flow.as_deref().is_some_and(|flow| !flow.kept.is_empty() || flow.ended.is_some()) {
                return self.handle_buffered(cx, now);
            }
        } else if role == ConnectionRole::Primary && !self.may_read(&attended) {
            return false;
        }
        // Any queued message also answers the request.
        if role == ConnectionRole::Primary
            && attended.writable
            && attended.stalled == 0
            && self.phase.probe().is_some()
        {
            self.session.handle_writable(now);
            self.perform(cx, now);
        }
        let is_deaf =
            || self.flow.as_ref().and_then(|flow| flow.leaving).is_some_and(|leaving| !leaving.reads);
        if role == ConnectionRole::Primary && is_deaf() {
            return false;
        }
        self.poll_recv(role, cx, now)
    }

    /// Completes the opening of a connection.
    fn poll_open(&mut self, role: ConnectionRole, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some((state, outbox)) = self.role(role) else { return false };
        match state.connection.poll_open(cx) {
            Poll::Pending => return false,
            Poll::Ready(Ok(sink)) => {
                outbox.set_sink(sink);
                let transport = state.transport;
                self.phase.opened(role);
                let name = self.shared.name_of_transport(transport);
                self.session.handle_connection_opened(role, name, now);
            }
            Poll::Ready(Err(error)) => self.connection_lost(role, error.reason(), now),
        }
        self.perform(cx, now);
        true
    }

    /// Runs the stall clock of a client whose outbox is blocked; returns whether it was given up.
    fn watch_stall(&mut self, attended: &Attended, now: Instant) -> bool {
        if attended.writable || attended.stalled == 0 && !attended.heartbeat {
            if let Some(flow) = &mut self.flow {
                flow.stall = None;
            }
            return false;
        }
        let limits = self.stall_limits();
        let flow = self.flow.get_or_insert_default();
        let verdict = flow.stall.get_or_insert_with(|| Stall::new(now)).observe(attended, now, limits);
        if verdict.heartbeat_sent {
            self.session.handle_heartbeat_sent(now);
        }
        if verdict.mark {
            self.shared.outbox.set_stalled();
        }
        if verdict.evict {
            self.shared.outbox.evict(CloseReason::SlowConsumer);
            self.evict(CloseReason::SlowConsumer, now);
        }
        verdict.evict
    }

    /// Closes the session of a client whose outbox was given up; sends only the close frame.
    pub(super) fn evict(&mut self, reason: CloseReason, now: Instant) {
        if let Some(probe) = self.phase.evict() {
            close_apart(*probe, reason, self.shared.io.config().timeouts.close_timeout);
        }
        if let Some(flow) = &mut self.flow {
            flow.kept.clear();
        }
        self.session.handle_command(Command::Close(reason), now);
    }

    pub(super) fn stall_limits(&self) -> StallLimits {
        let config = self.shared.io.config();
        StallLimits { timeout: config.timeouts.stall_timeout, min_rate: config.limits.min_drain_rate }
    }

    /// Returns whether the client's next message may be processed.
    ///
    /// Not while outboxes filled by its events await another writer, too much is queued for the client itself, or its
    /// handlers or connect middlewares are behind. While an acknowledgement is awaited, which may come behind other
    /// events, reading continues.
    fn may_read(&mut self, attended: &Attended) -> bool {
        if let Some(flow) = &mut self.flow
            && !flow.backlog.is_empty()
        {
            flow.backlog.flush_backlog();
            if !flow.backlog.is_empty() {
                return false;
            }
        }
        let heavy = attended.stalled >= self.shared.io.config().limits.outbox_max / 2;
        // A carrier pushes pongs itself, so no emit has flushed them.
        if heavy && attended.writable && !self.shared.outbox.flush_backlog() {
            self.flow.get_or_insert_default().backlog.add(&self.shared.outbox);
            return false;
        }
        let paused = heavy && !attended.writable || self.is_behind();
        if paused || self.flow.is_some() {
            self.flow.get_or_insert_default().paused = paused;
        }
        !paused
    }

    /// Returns whether the application is too far behind for this client to be read.
    #[inline]
    fn is_behind(&mut self) -> bool {
        // Pending connects and running handlers are both in `handlers_running`.
        !self.handlers_running.is_idle() && self.is_far_behind()
    }

    fn is_far_behind(&mut self) -> bool {
        let config = self.shared.io.config();
        let behind =
            self.handlers_running.is_behind(config.limits.max_handlers, config.limits.max_event_bytes)
                || self.session.is_congested();
        behind && !self.members.each().any(|member| member.socket().owes_answers())
    }

    /// Returns whether the rest of a read must wait for the next visit.
    #[inline]
    fn must_rest(&mut self) -> bool {
        self.messages_read >= MESSAGES
            || pace::is_spent()
            || self.is_behind()
            || self.messages_read % OWN_OUTBOX_EVERY == OWN_OUTBOX_EVERY - 1 && self.is_own_outbox_heavy()
    }

    /// Returns whether the client's own outbox is at half its hard cap, as the client does not read.
    fn is_own_outbox_heavy(&self) -> bool {
        let status = self.shared.outbox.status();
        !status.writable && status.bytes >= self.shared.io.config().limits.outbox_max / 2
    }

    fn poll_recv(&mut self, role: ConnectionRole, cx: &mut Context<'_>, now: Instant) -> bool {
        with_messages(|messages| self.poll_recv_into(messages, role, cx, now))
    }

    fn poll_recv_into(
        &mut self,
        messages: &mut Vec<Message>,
        role: ConnectionRole,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> bool {
        let Some((state, outbox)) = self.role(role) else { return false };
        let outcome = state.connection.poll_recv(cx, outbox, messages);
        let arrived = !messages.is_empty();
        if arrived || outcome.is_ready() {
            self.session.handle_activity(role, now);
        }
        if arrived {
            let bytes = messages.iter().map(Message::len).sum();
            self.shared.io.metrics().received.add(messages.len(), bytes);
        }
        let mut left = messages.drain(..);
        let kept = match self.handle_messages(role, &mut left, cx, now) {
            None => false,
            Some(next) => {
                let flow = self.flow.get_or_insert_default();
                flow.kept.push_back(next);
                flow.kept.extend(left.by_ref());
                true
            }
        };
        drop(left);
        match outcome {
            Poll::Pending => arrived,
            Poll::Ready(ended) if kept => {
                let flow = self.flow.get_or_insert_default();
                flow.ended =
                    Some(ended).filter(|ended| !matches!(ended, Ok(Received::Activity | Received::Pong(_))));
                true
            }
            Poll::Ready(ended) => {
                self.received(role, ended, cx, now);
                true
            }
        }
    }

    /// Passes messages to the session until the rest must wait; returns the first that does.
    #[inline]
    fn handle_messages(
        &mut self,
        role: ConnectionRole,
        messages: &mut impl Iterator<Item = Message>,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Option<Message> {
        let mut lookup = LookupCache::default();
        // One place for the events of a read, which nearly always share their name and namespace.
        let mut event = no_event();
        for message in messages {
            if self.phase.is_closing() {
                return None;
            }
            // After the packet that proves the probe, messages come from the carrier.
            let from = if self.phase.is_promoting() { ConnectionRole::Primary } else { role };
            if from == ConnectionRole::Primary && self.must_rest() {
                return Some(message);
            }
            self.messages_read += 1;
            if self.session.handle_message_into(from, message, now, &mut event) {
                self.accept_event(&mut event, &mut lookup, cx, now);
            }
            self.perform_with(&mut lookup, cx, now);
        }
        None
    }

    /// Processes the kept rest of a read.
    fn handle_buffered(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(flow) = &mut self.flow else { return false };
        let mut kept = std::mem::take(&mut flow.kept);
        let next = self.handle_messages(
            ConnectionRole::Primary,
            &mut std::iter::from_fn(|| kept.pop_front()),
            cx,
            now,
        );
        if self.phase.is_closing() {
            return true;
        }
        let Some(flow) = &mut self.flow else { return true };
        if let Some(next) = next {
            kept.push_front(next);
            flow.kept = kept;
        } else if let Some(ended) = flow.ended.take() {
            self.received(ConnectionRole::Primary, ended, cx, now);
        }
        true
    }

    /// Processes all kept messages regardless of limits: nothing follows them.
    pub(super) fn read_remaining(&mut self, cx: &mut Context<'_>, now: Instant) {
        let Some(flow) = &mut self.flow else { return };
        for message in std::mem::take(&mut flow.kept) {
            if self.phase.is_closing() {
                return;
            }
            self.session.handle_message(ConnectionRole::Primary, message, now);
            self.perform(cx, now);
        }
    }

    /// Handles the outcome of a read.
    fn received(
        &mut self,
        role: ConnectionRole,
        outcome: Result<Received, ConnectionError>,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        match outcome {
            Ok(Received::Activity) => {}
            Ok(Received::Pong(mark)) => self.delivered.answered_with(mark),
            Ok(Received::Closed) => self.connection_lost(role, CloseReason::TransportClose, now),
            Ok(Received::Leaving) if role == ConnectionRole::Primary => {
                self.begin_leaving(CloseReason::TransportError, true, now);
            }
            Ok(Received::Leaving) => self.connection_lost(role, CloseReason::TransportClose, now),
            Err(error) => {
                // A broken connection is not a protocol error; malformed input counts when the session ends.
                let broke_protocol =
                    matches!(error, ConnectionError::Misused(_) | ConnectionError::TooBig { .. });
                if broke_protocol {
                    count::protocol_errors(self.shared.io.metrics());
                }
                let (transport, address) = (self.primary_name().0, self.shared.handshake.address_field());
                tracing::debug!(%error, transport, address, broke_protocol, "connection failed");
                // The official client reports its first read: the POST's status or the end of a waiting poll.
                let is_refused_post = matches!(error, ConnectionError::TooBig { .. })
                    && role == ConnectionRole::Primary
                    && self.shared.is_polled(self.primary.transport);
                if is_refused_post {
                    self.begin_leaving(error.reason(), false, now);
                } else {
                    self.connection_lost(role, error.reason(), now);
                }
            }
        }
        self.perform(cx, now);
    }

    fn begin_leaving(&mut self, reason: CloseReason, reads: bool, now: Instant) {
        let flow = self.flow.get_or_insert_default();
        let at = flow.leaving.map_or_else(|| clock::after(now, LEAVING_GRACE), |leaving| leaving.at);
        flow.leaving = Some(Leaving { at, reason, reads });
    }

    pub(super) fn connection_lost(&mut self, role: ConnectionRole, reason: CloseReason, now: Instant) {
        if !self.phase.is_closing() {
            let lost = if self.phase.is_promoting() { ConnectionRole::Primary } else { role };
            self.session.handle_connection_closed(lost, reason, now);
        }
        if role == ConnectionRole::Probe {
            self.drop_probe(reason);
        }
    }
}

/// Returns whether the outbox was closed because of its client and the connection can still send a close.
fn is_evicted(reason: CloseReason) -> bool {
    matches!(reason, CloseReason::SlowConsumer | CloseReason::OutboxFull)
}
