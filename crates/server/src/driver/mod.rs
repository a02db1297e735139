//! The task that drives one session

mod closing;
mod errors;
mod events;
mod flow;
mod lane;
mod members;
mod opening;
mod rate;
mod reach;
mod timer;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use roomcast_core::{
    Action, Attended, Bounds, CloseReason, Command, Connection, ConnectionError, Exchange, Lane, Message,
    Outbox, Overflow, Received, Rejection, Session, TransportName,
};

use self::closing::Closing;
use self::events::Work;
use self::flow::{Flow, Leaving, Stall, StallLimits};
use self::lane::{LaneState, Probe};
use self::members::Members;
use self::reach::Reach;
use self::timer::Timer;
use crate::app::model::io::SessionShared;
use crate::host::breach::{Breach, breach};
use crate::host::config::EventRate;
use crate::host::limits::Permit;
use crate::host::metrics::count;
use crate::host::pace;
use crate::session::inbox::Visit;
use crate::util::clock;
use crate::util::coop::give_way;
use crate::web::engine_error::{Bad, Refusal, unknown_session};

/// The task that drives one session: it owns the protocol, the connections, the timer, and runs the handlers
///
/// Whatever happens to the session happens here, one thing after the other. Only the writing of frames is done by
/// others too, who lease the write half out of the outbox.
pub(crate) struct Driver {
    shared: Arc<SessionShared>,
    session: Box<dyn Session>,
    primary: LaneState,
    probe: Option<Box<Probe>>,
    members: Members,
    work: Work,
    // Boxed, as the closing: what few sessions have is no part of those that only wait.
    flow: Option<Box<Flow>>,
    timer: Timer,
    closing: Option<Box<Closing>>,
    /// Whether the write half of the primary is there
    open: bool,
    /// The probe has proven itself, and its write half is still lent to a flusher
    promoting: bool,
    /// The application refuses the client, which for some kinds of client is the end
    refusing: bool,
    /// A deadline has come so late that the connections are looked at once more before it counts
    overslept: bool,
    reach: Reach,
    /// Messages of this visit
    heard: u32,
}

// With what the runtime adds a task lies in a block of 256 bytes, or else of 384: much, for a client that only listens.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Driver>() <= 152, "one field more would cost each client 128 bytes");

/// Rounds of one visit, and messages heard in it, before other tasks have their turn
///
/// The rest of a read is kept for the next visit, at most one read of 16 KiB.
const ROUNDS: usize = 32;
const MESSAGES: u32 = 256;
/// How long the last requests of a client that hangs up may take to arrive: a page that is left sends its last POST, and
/// its poll ends, in either order. A client whose POST was refused gets as long to read why before its poll ends.
const LEAVING_GRACE: Duration = Duration::from_millis(50);
/// By how much a deadline may be late before the runtime has to look for what arrived first
const LATE: Duration = Duration::from_millis(100);
/// Messages between two looks at the outbox of the client itself
const OWN_OUTBOX_EVERY: u32 = 8;
/// Bytes that may wait on a connection that has not proven itself; it is sent two short packets
const PROBE_OUTBOX: usize = 64 * 1024;

impl Driver {
    pub(crate) fn new(
        shared: Arc<SessionShared>,
        session: Box<dyn Session>,
        connection: Box<dyn Connection>,
        permit: Option<Arc<Permit>>,
    ) -> Self {
        shared.io.app().lifecycle.driver_started();
        let mut primary = LaneState::new(connection, shared.transport());
        primary.permit = permit;
        Self {
            shared,
            session,
            primary,
            probe: None,
            members: Members::default(),
            work: Work::default(),
            flow: None,
            timer: Timer::default(),
            closing: None,
            open: false,
            promoting: false,
            refusing: false,
            overslept: false,
            reach: Reach::default(),
            heard: 0,
        }
    }

    fn visit(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        self.heard = 0;
        for _ in 0..ROUNDS {
            let mut progress = self.poll_inbox(cx, now);
            if self.closing.is_some() {
                return self.poll_closing(cx, now);
            }
            progress |= self.promoting && self.promote(cx, now);
            if !self.promoting {
                progress |= self.poll_lane(Lane::Primary, cx, now);
                // What comes by the probe was sent behind what the primary lane has taken.
                let reads_probe = self.probe.is_some() && !self.owes_messages();
                progress |= reads_probe && self.poll_lane(Lane::Probe, cx, now);
            }
            progress |= self.poll_work(cx, now);
            progress |= self.poll_timer(cx, now);
            if self.closing.is_some() {
                return self.poll_closing(cx, now);
            }
            if self.gives_way() {
                break;
            }
            if !progress {
                return Poll::Pending;
            }
        }
        give_way(cx);
        Poll::Pending
    }

    /// Whether messages of the primary lane wait to be heard
    fn owes_messages(&self) -> bool {
        self.primary.connection.owes_messages()
            || self.flow.as_ref().is_some_and(|flow| !flow.kept.is_empty())
    }

    /// Whether this visit has done enough, or there are outboxes to relieve before the next message
    fn gives_way(&self) -> bool {
        let waits = |flow: &Flow| !flow.paused && !flow.kept.is_empty() || !flow.backlog.is_empty();
        self.heard >= MESSAGES
            || pace::is_spent()
            || self.overslept
            || self.flow.as_deref().is_some_and(waits)
    }

    fn poll_inbox(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut progress = false;
        while let Poll::Ready(visit) = self.shared.inbox.poll_next(cx) {
            progress = true;
            match visit {
                Visit::Exchange(transport, exchange) => self.receive_exchange(transport, *exchange, cx, now),
                Visit::PutOut => {
                    self.send_away(cx, now);
                    self.perform(cx, now);
                }
                Visit::Close(reason) if self.closing.is_none() => {
                    self.session.handle_command(Command::Close(reason), now);
                    self.perform(cx, now);
                }
                Visit::Close(_) => self.hasten_closing(now),
            }
        }
        progress
    }

    fn receive_exchange(
        &mut self,
        transport: TransportName,
        exchange: Exchange,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        let leaving = self.flow.as_ref().and_then(|flow| flow.leaving);
        if leaving.is_some_and(|leaving| !leaving.reads || exchange.request.method != Method::POST) {
            // At most what it sent last is still read.
            let _ = exchange.respond.send(unknown_session());
            return;
        }
        let upgrades = exchange.upgrade.is_some() && self.closing.is_none();
        if transport == self.primary.name && !upgrades {
            if let Err(refused) = self.primary.connection.accept(exchange) {
                let fatal = refused.rejection.fatal;
                // A client that is gone needs no answer; so everywhere here.
                let _ = refused.exchange.respond.send(refused.rejection.response());
                if fatal && self.closing.is_none() {
                    self.session.handle_command(Command::Close(CloseReason::TransportError), now);
                    self.perform(cx, now);
                }
            }
            return;
        }
        if !upgrades {
            let refusal = Refusal::BadRequest(Bad::Mismatch(self.primary.name));
            let io = &self.shared.io;
            let response = io.hooks().refuse(io.metrics(), &refusal, &exchange.request, false);
            let _ = exchange.respond.send(response);
            return;
        }
        let Some(kind) = self.shared.transport_named(transport) else {
            let rejection = Rejection::new(StatusCode::BAD_REQUEST, "this transport is not enabled");
            let _ = exchange.respond.send(rejection.response());
            return;
        };
        let permit = exchange.request.extensions.get().cloned();
        let is_wanted = transport != self.primary.name && self.probe.is_none() && self.session.can_upgrade();
        match kind.open(exchange) {
            Ok(connection) => {
                let bounds = Bounds::new(PROBE_OUTBOX, PROBE_OUTBOX);
                let outbox = Outbox::new(bounds, self.shared.io.app().flushers.list());
                let mut lane = LaneState::new(connection, transport);
                lane.permit = permit;
                let probe = Probe { lane, outbox, open: false };
                if is_wanted {
                    self.probe = Some(Box::new(probe));
                } else {
                    // As on Node: a client library may take a refused handshake for an error of its own.
                    count::requests_refused(self.shared.io.metrics());
                    closing::open_and_close(probe, self.shared.io.config().timeouts.close_timeout);
                }
            }
            Err(refused) => {
                let _ = refused.exchange.respond.send(refused.rejection.response());
            }
        }
    }

    fn poll_lane(&mut self, lane: Lane, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some((state, outbox, open)) = self.lane(lane) else { return false };
        if !*open {
            match state.connection.poll_open(cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok(sink)) => {
                    *open = true;
                    outbox.set_sink(sink);
                    let name = state.name;
                    self.session.handle_lane_opened(lane, name, now);
                }
                Poll::Ready(Err(error)) => self.lane_lost(lane, error.reason(), now),
            }
            self.perform(cx, now);
            return true;
        }
        let attended = outbox.attend(cx);
        if let Some(reason) = attended.closed {
            if lane == Lane::Primary && is_given_up(reason) {
                self.give_up(reason, now);
            } else {
                if lane == Lane::Primary {
                    self.hear_out(cx, now);
                }
                self.lane_lost(lane, reason, now);
            }
            self.perform(cx, now);
            return true;
        }
        if lane == Lane::Primary && (!attended.writable || self.flow.is_some()) {
            if self.watch_stall(&attended, now) {
                self.perform(cx, now);
                return true;
            }
            if !self.may_read(&attended) {
                return false;
            }
            if self.flow.as_deref().is_some_and(|flow| !flow.kept.is_empty() || flow.ended.is_some()) {
                return self.hear_kept(cx, now);
            }
        } else if lane == Lane::Primary && !self.may_read(&attended) {
            return false;
        }
        // Whatever waits answers the request as well.
        if lane == Lane::Primary && attended.writable && attended.stalled == 0 && self.probe.is_some() {
            self.session.handle_writable(now);
            self.perform(cx, now);
        }
        let is_deaf =
            || self.flow.as_ref().and_then(|flow| flow.leaving).is_some_and(|leaving| !leaving.reads);
        if lane == Lane::Primary && is_deaf() {
            return false;
        }
        self.poll_recv(lane, cx, now)
    }

    /// Runs the stall clock of a client whose outbox is not writable; `true` if the client was given up
    fn watch_stall(&mut self, attended: &Attended, now: Instant) -> bool {
        if attended.writable || attended.stalled == 0 && !attended.heartbeat {
            if let Some(flow) = &mut self.flow {
                flow.stall = None;
            }
            return false;
        }
        let limits = self.stall_limits();
        let flow = self.flow.get_or_insert_default();
        let judgement = flow.stall.get_or_insert_with(|| Stall::new(now)).observe(attended, now, limits);
        if judgement.heartbeat_sent {
            self.session.handle_heartbeat_sent(now);
        }
        if judgement.mark {
            self.shared.outbox.set_stalled();
        }
        if judgement.give_up {
            self.shared.outbox.give_up(CloseReason::SlowConsumer);
            self.give_up(CloseReason::SlowConsumer, now);
        }
        judgement.give_up
    }

    /// Closes the session of a client whose outbox was given up; only the goodbye is still sent
    fn give_up(&mut self, reason: CloseReason, now: Instant) {
        let flow = self.flow.get_or_insert_default();
        flow.given_up = true;
        flow.kept.clear();
        self.session.handle_command(Command::Close(reason), now);
    }

    fn stall_limits(&self) -> StallLimits {
        let config = self.shared.io.config();
        StallLimits { timeout: config.timeouts.stall_timeout, min_rate: config.limits.min_drain_rate }
    }

    /// Whether the next message of the client may be heard
    ///
    /// Not while outboxes that its events have filled wait for another writer, while too much waits for the client
    /// itself, nor while its handlers, or those that let it in, are behind. But an answer that a handler waits for may
    /// come behind everything else, so then its events are read on.
    fn may_read(&mut self, attended: &Attended) -> bool {
        if let Some(flow) = &mut self.flow
            && !flow.backlog.is_empty()
        {
            flow.backlog.relieve();
            if !flow.backlog.is_empty() {
                return false;
            }
        }
        let heavy = attended.stalled >= self.shared.io.config().limits.outbox_max / 2;
        // A carrier pushes pongs by itself, so no emit has paid for writing them.
        if heavy && attended.writable && !self.shared.outbox.relieve() {
            self.flow.get_or_insert_default().backlog.add(&self.shared.outbox);
            return false;
        }
        let paused = heavy && !attended.writable || self.is_behind();
        if paused || self.flow.is_some() {
            self.flow.get_or_insert_default().paused = paused;
        }
        !paused
    }

    /// Whether so much of the client waits for the application that it should not be read on
    #[inline(always)]
    fn is_behind(&mut self) -> bool {
        // Who is to be let in, and whoever runs, is among the handlers under way.
        !self.work.is_idle() && self.is_far_behind()
    }

    #[inline(never)]
    fn is_far_behind(&mut self) -> bool {
        let config = self.shared.io.config();
        let behind = self.work.is_behind(config.limits.max_handlers, config.limits.max_event_bytes)
            || self.session.is_congested();
        behind && !self.members.each().any(|member| member.socket().owes_answers())
    }

    /// Whether the rest of a read should wait for the next visit
    #[inline(always)]
    fn must_rest(&mut self) -> bool {
        self.heard >= MESSAGES
            || pace::is_spent()
            || self.is_behind()
            || self.heard % OWN_OUTBOX_EVERY == OWN_OUTBOX_EVERY - 1 && self.is_own_outbox_heavy()
    }

    /// Whether half of what may ever wait for the client itself waits, since it does not read
    #[inline(never)]
    fn is_own_outbox_heavy(&self) -> bool {
        let standing = self.shared.outbox.standing();
        !standing.writable && standing.bytes >= self.shared.io.config().limits.outbox_max / 2
    }

    fn poll_recv(&mut self, lane: Lane, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some((state, outbox, _)) = self.lane(lane) else { return false };
        let mut messages = lane::take_messages();
        let outcome = state.connection.poll_recv(cx, outbox, &mut messages);
        let arrived = !messages.is_empty();
        if arrived || outcome.is_ready() {
            self.session.handle_activity(lane, now);
        }
        if arrived {
            let bytes = messages.iter().map(Message::len).sum();
            self.shared.io.metrics().received.add(messages.len(), bytes);
        }
        let mut left = messages.drain(..);
        let kept = match self.hear(lane, &mut left, cx, now) {
            None => false,
            Some(next) => {
                let flow = self.flow.get_or_insert_default();
                flow.kept.push_back(next);
                flow.kept.extend(left.by_ref());
                true
            }
        };
        drop(left);
        lane::give_back(messages);
        match outcome {
            Poll::Pending => arrived,
            Poll::Ready(ended) if kept => {
                let flow = self.flow.get_or_insert_default();
                flow.ended =
                    Some(ended).filter(|ended| !matches!(ended, Ok(Received::Activity | Received::Pong(_))));
                true
            }
            Poll::Ready(ended) => {
                self.received(lane, ended, cx, now);
                true
            }
        }
    }

    /// Hands messages to the session, until the rest should wait; gives back the first that does
    #[inline]
    fn hear(
        &mut self,
        lane: Lane,
        messages: &mut impl Iterator<Item = Message>,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Option<Message> {
        for message in messages {
            if self.closing.is_some() {
                return None;
            }
            // What follows the packet that proved the probe comes from the connection that carries the session.
            let from = if self.promoting { Lane::Primary } else { lane };
            if from == Lane::Primary && self.must_rest() {
                return Some(message);
            }
            self.heard += 1;
            self.session.handle_message(from, message, now);
            self.perform(cx, now);
        }
        None
    }

    /// Hears the rest of a read that was kept
    fn hear_kept(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(flow) = &mut self.flow else { return false };
        let mut kept = std::mem::take(&mut flow.kept);
        let next = self.hear(Lane::Primary, &mut std::iter::from_fn(|| kept.pop_front()), cx, now);
        if self.closing.is_some() {
            return true;
        }
        let Some(flow) = &mut self.flow else { return true };
        if let Some(next) = next {
            kept.push_front(next);
            flow.kept = kept;
        } else if let Some(ended) = flow.ended.take() {
            self.received(Lane::Primary, ended, cx, now);
        }
        true
    }

    /// Hears all that was kept, whatever it costs: nothing comes behind it
    fn hear_out(&mut self, cx: &mut Context<'_>, now: Instant) {
        let Some(flow) = &mut self.flow else { return };
        for message in std::mem::take(&mut flow.kept) {
            if self.closing.is_some() {
                return;
            }
            self.session.handle_message(Lane::Primary, message, now);
            self.perform(cx, now);
        }
    }

    /// Does what follows from a read
    fn received(
        &mut self,
        lane: Lane,
        outcome: Result<Received, ConnectionError>,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        match outcome {
            Ok(Received::Activity) => {}
            Ok(Received::Pong(mark)) => self.reach.answered_with(mark),
            Ok(Received::Closed) => self.lane_lost(lane, CloseReason::TransportClose, now),
            Ok(Received::Leaving) if lane == Lane::Primary => {
                self.begin_leaving(CloseReason::TransportError, true, now);
            }
            Ok(Received::Leaving) => self.lane_lost(lane, CloseReason::TransportClose, now),
            Err(error) => {
                // A broken connection is nobody's fault, and what is malformed counts when the session ends.
                let broke_protocol =
                    matches!(error, ConnectionError::Misused(_) | ConnectionError::TooBig { .. });
                if broke_protocol {
                    count::protocol_errors(self.shared.io.metrics());
                }
                let (transport, address) = (self.primary.name.0, self.shared.handshake.address_field());
                tracing::debug!(%error, transport, address, broke_protocol, "connection failed");
                // The official client reports what it reads first: the status of the POST, or the end of a waiting poll.
                let is_refused_post = matches!(error, ConnectionError::TooBig { .. })
                    && lane == Lane::Primary
                    && self.shared.is_polled(self.primary.name);
                if is_refused_post {
                    self.begin_leaving(error.reason(), false, now);
                } else {
                    self.lane_lost(lane, error.reason(), now);
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

    fn lane_lost(&mut self, lane: Lane, reason: CloseReason, now: Instant) {
        if self.closing.is_none() {
            let lost = if self.promoting { Lane::Primary } else { lane };
            self.session.handle_lane_closed(lost, reason, now);
        }
        if lane == Lane::Probe {
            self.drop_probe(reason);
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let deadline = self.session.poll_timeout();
        let limits = self.stall_limits();
        let stall = self.flow.as_mut().and_then(|flow| flow.stall.as_mut());
        // One that has come was looked at in this visit, if the connection could be looked at.
        let stalled = stall.and_then(|stall| stall.deadline(limits)).filter(|at| *at > now);
        let leaving = self.flow.as_ref().and_then(|flow| flow.leaving);
        let leaving_at = leaving.map(|leaving| leaving.at);
        let next = deadline.into_iter().chain(stalled).chain(leaving_at).min();
        if !self.timer.poll(next, cx, now) {
            // The answer did lie there. Left set, it would have this task run again and again until the next deadline.
            self.overslept = false;
            return false;
        }
        // After a pause of the process the timers may be told of before the sockets, where the answer lies already.
        let is_late = deadline.is_some_and(|at| now > clock::after(at, LATE));
        if is_late && !std::mem::replace(&mut self.overslept, true) {
            return false;
        }
        self.overslept = false;
        if let Some(leaving) = leaving.filter(|leaving| leaving.at <= now) {
            self.hear_out(cx, now);
            self.lane_lost(Lane::Primary, leaving.reason, now);
            self.perform(cx, now);
            return true;
        }
        if let Some(flow) = &self.flow {
            // What the driver itself does not read, or could not write, is not held against the client.
            if flow.holds_back() {
                self.session.handle_activity(Lane::Primary, now);
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

    /// Does what the session asks for, until it asks for nothing
    fn perform(&mut self, cx: &mut Context<'_>, now: Instant) {
        while self.closing.is_none() {
            let Some(action) = self.session.poll_action() else { return };
            self.perform_one(action, cx, now);
        }
    }

    fn perform_one(&mut self, action: Action, cx: &mut Context<'_>, now: Instant) {
        match action {
            Action::Transmit { lane: Lane::Primary, frame, .. }
                if self.flow.as_ref().is_some_and(|flow| flow.given_up) =>
            {
                let _ = self.shared.outbox.push_last(frame);
            }
            Action::Transmit { lane, frame, delivery } => {
                if let Some((_, outbox, _)) = self.lane(lane) {
                    // One that is closed tells on the next poll.
                    let _ = outbox.push(frame, delivery, Overflow::Close);
                }
            }
            Action::Heartbeat(frame) => {
                self.mark_ping(now);
                _ = self.shared.outbox.push_heartbeat(frame);
            }
            Action::HeartbeatAnswered => self.reach.answered(),
            Action::Ping(lane) => {
                let mark = self.mark_ping(now);
                if let Some((state, outbox, _)) = self.lane(lane) {
                    state.connection.ping(outbox, mark);
                }
            }
            Action::Promote => {
                // The old lane writes what it can take, such as the answer to a poll that still waits.
                let _ = self.shared.outbox.relieve();
                self.promoting = true;
                // To the application it has moved: what the client sent behind this comes by the new way.
                if let Some(probe) = &self.probe {
                    self.shared.set_transport(probe.lane.name);
                }
            }
            Action::CloseProbe => self.drop_probe(CloseReason::TransportClose),
            Action::Connect { .. } | Action::Refused { .. } | Action::Event(_)
                if !self.is_within_rate(now) => {}
            Action::Connect { namespace, auth } => self.admit(namespace, &auth, cx, now),
            Action::Refused { .. } => {
                let (io, address) = (&self.shared.io, self.shared.handshake.address_field());
                breach!(
                    io,
                    Breach::JoinedNamespaces,
                    address,
                    "connect refused: client is in too many namespaces"
                );
            }
            Action::Event(inbound) => self.dispatch(inbound, cx, now),
            Action::Answer { namespace, id, args } => {
                if let Some(member) = self.members.find(&namespace) {
                    member.socket().answered(id, args);
                }
            }
            Action::Leave { namespace, reason } => {
                self.leave(&namespace, reason, cx);
                self.send_away(cx, now);
            }
            Action::Close(reason) => self.start_closing(reason, "", cx, now),
            Action::Refuse { message } => self.start_closing(CloseReason::Refused, &message, cx, now),
            other => tracing::error!(action = ?other, "session asked for an unknown action"),
        }
    }

    /// Records a ping that is about to be sent, and returns its mark.
    fn mark_ping(&mut self, now: Instant) -> u32 {
        let is_alone = self.shared.outbox.standing().bytes == 0;
        self.reach.ping(is_alone, now)
    }

    /// Whether the client may send one more event now; if not it is closed
    #[inline(always)]
    fn is_within_rate(&mut self, now: Instant) -> bool {
        self.shared.io.config().limits.event_rate.is_none_or(|rate| self.takes_from_rate(rate, now))
    }

    #[inline(never)]
    fn takes_from_rate(&mut self, rate: EventRate, now: Instant) -> bool {
        let within = self.flow.get_or_insert_default().bucket.get_or_insert_default().take(rate, now);
        if !within {
            self.session.handle_command(Command::Close(CloseReason::RateLimited), now);
        }
        within
    }

    /// Lets the probe carry the session, once what it was sent as a probe is out and nobody else writes to it
    fn promote(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(probe) = self.probe.as_mut() else {
            self.promoting = false;
            return false;
        };
        if let Some(reason) = probe.outbox.closed() {
            // It broke with the session on it already.
            self.lane_lost(Lane::Probe, reason, now);
            self.perform(cx, now);
            return true;
        }
        if probe.outbox.poll_drained(cx).is_pending() {
            return false;
        }
        let Some(sink) = probe.outbox.take_sink() else { return true };
        self.promoting = false;
        let Some(probe) = self.probe.take() else { return false };
        let LaneState { connection, name, permit, .. } = probe.lane;
        self.primary.connection.start_close(CloseReason::TransportClose, &self.shared.outbox);
        self.shared.outbox.set_sink(sink);
        self.primary.connection = connection;
        self.primary.name = name;
        self.primary.permit = permit;
        self.open = true;
        count::upgrades(self.shared.io.metrics());
        tracing::debug!(
            kind = self.shared.kind.as_str(),
            transport = name.0,
            address = self.shared.handshake.address_field(),
            "transport upgraded"
        );
        true
    }

    fn drop_probe(&mut self, reason: CloseReason) {
        self.promoting = false;
        if let Some(probe) = self.probe.take() {
            closing::close_apart(*probe, reason, self.shared.io.config().timeouts.close_timeout);
        }
    }

    /// A lane, its outbox, and whether its write half is there
    fn lane(&mut self, lane: Lane) -> Option<(&mut LaneState, &Outbox, &mut bool)> {
        match lane {
            Lane::Primary => Some((&mut self.primary, &self.shared.outbox, &mut self.open)),
            Lane::Probe => {
                let Probe { lane, outbox, open } = self.probe.as_deref_mut()?;
                Some((lane, outbox, open))
            }
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        pace::begin();
        let polled = this.visit(cx, clock::now());
        let backlog = pace::end();
        if !backlog.is_empty() {
            this.flow.get_or_insert_default().backlog.append(backlog);
            give_way(cx);
        }
        this.flow.take_if(|flow| flow.is_idle());
        events::let_go();
        polled
    }
}

/// Whether an outbox was closed for its client's sake, and the connection is still there to say so
fn is_given_up(reason: CloseReason) -> bool {
    matches!(reason, CloseReason::SlowConsumer | CloseReason::OutboxFull)
}

/// A session that is dropped without an end, because its runtime goes away, leaves nothing behind all the same
impl Drop for Driver {
    fn drop(&mut self) {
        for member in self.members.take_all() {
            member.socket().detach(false, None);
        }
        // The write half goes with it. Others may hold the outbox, and some of them for ever: what is listed for a
        // flusher that is gone holds the list, which holds what is listed.
        let probe = self.probe.as_deref().map(|probe| &probe.outbox);
        for outbox in std::iter::once(&self.shared.outbox).chain(probe) {
            outbox.close(CloseReason::ServerShutdown);
        }
        self.forget();
        self.shared.io.app().lifecycle.driver_ended();
    }
}
