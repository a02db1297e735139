//! The task that drives one session

mod closing;
mod errors;
mod events;
mod lane;
mod members;
mod opening;
mod rate;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::StatusCode;
use roomcast_core::{
    Action, CloseReason, Command, Connection, ConnectionError, Exchange, Lane, Message, Outbox, Overflow,
    Received, Rejection, Session, TransportName,
};
use tokio::time::Sleep;

use self::closing::Closing;
use self::events::Work;
use self::lane::{LaneState, Probe};
use self::members::Members;
use self::rate::Bucket;
use crate::breach::{Breach, breach};
use crate::clock;
use crate::inbox::Visit;
use crate::limits::ConnectionPermit;
use crate::metrics::count;
use crate::requests::{Bad, Refusal};
use crate::session::SessionShared;

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
    bucket: Option<Box<Bucket>>,
    timer: Timer,
    closing: Option<Box<Closing>>,
    /// Whether the write half of the primary is there
    open: bool,
    /// The probe has proven itself, and its write half is still lent to a flusher
    promoting: bool,
    /// The application refuses the client, which for some kinds of client is the end
    refusing: bool,
    /// Messages of this visit
    heard: u32,
}

// With what the runtime adds a task lies in a block of 256 bytes, or else of 384: much, for a client that only listens.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Driver>() <= 152, "one field more would cost each client 128 bytes");

/// Rounds of one visit, and messages heard in it, before other tasks have their turn
///
/// The messages of the last round are heard all the same, so that none has to be kept.
const ROUNDS: usize = 32;
const MESSAGES: u32 = 256;
/// Bytes that may wait on a connection that has not proven itself; it is sent two short packets
const PROBE_OUTBOX: usize = 64 * 1024;

impl Driver {
    pub(crate) fn new(
        shared: Arc<SessionShared>,
        session: Box<dyn Session>,
        connection: Box<dyn Connection>,
        permit: Option<Arc<ConnectionPermit>>,
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
            bucket: None,
            timer: Timer::default(),
            closing: None,
            open: false,
            promoting: false,
            refusing: false,
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
                progress |= self.probe.is_some() && self.poll_lane(Lane::Probe, cx, now);
            }
            progress |= self.poll_work(cx, now);
            progress |= self.poll_timer(cx, now);
            if self.closing.is_some() {
                return self.poll_closing(cx, now);
            }
            if !progress {
                return Poll::Pending;
            }
            if self.heard >= MESSAGES {
                break;
            }
        }
        give_way(cx);
        Poll::Pending
    }

    fn poll_inbox(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut progress = false;
        while let Poll::Ready(visit) = self.shared.inbox.poll_next(cx) {
            progress = true;
            match visit {
                Visit::Exchange(transport, exchange) => self.receive_exchange(transport, *exchange, cx, now),
                // The client may have left meanwhile, and come again as another socket.
                Visit::Disconnect(namespace, id) if self.members.is_put_out(&id) => {
                    self.session.handle_command(Command::Disconnect { namespace: namespace.clone() }, now);
                    self.perform(cx, now);
                    self.leave(&namespace, CloseReason::ServerNamespaceDisconnect, cx);
                }
                Visit::Close(reason) if self.closing.is_none() => {
                    self.session.handle_command(Command::Close(reason), now);
                    self.perform(cx, now);
                }
                Visit::Disconnect(..) | Visit::Close(_) => {}
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
        if transport == self.primary.name {
            if let Err(refused) = self.primary.connection.accept(exchange) {
                count::requests_refused(self.shared.io.metrics());
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
        let upgrades = exchange.upgrade.is_some() && self.closing.is_none();
        if !upgrades || self.probe.is_some() || !self.session.can_upgrade() {
            count::requests_refused(self.shared.io.metrics());
            let refusal = Refusal::BadRequest(Bad::Mismatch(self.primary.name));
            let response = refusal.answer(&self.shared.io, &exchange.request, upgrades);
            let _ = exchange.respond.send(response);
            return;
        }
        let Some(kind) = self.shared.transport_named(transport) else {
            let rejection = Rejection::new(StatusCode::BAD_REQUEST, "this transport is not enabled");
            let _ = exchange.respond.send(rejection.response());
            return;
        };
        let permit = exchange.request.extensions.get().cloned();
        match kind.open(exchange) {
            Ok(connection) => {
                let outbox = Outbox::new(PROBE_OUTBOX, self.shared.io.app().flushers.list());
                let mut lane = LaneState::new(connection, transport);
                lane.permit = permit;
                self.probe = Some(Box::new(Probe { lane, outbox, open: false }));
            }
            Err(refused) => {
                count::requests_refused(self.shared.io.metrics());
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
        if let Poll::Ready(reason) = outbox.poll_owner(cx) {
            self.lane_lost(lane, reason, now);
            self.perform(cx, now);
            return true;
        }
        self.poll_recv(lane, cx, now)
    }

    fn poll_recv(&mut self, lane: Lane, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some((state, outbox, _)) = self.lane(lane) else { return false };
        let mut messages = lane::take_messages();
        let outcome = state.connection.poll_recv(cx, outbox, &mut messages);
        let arrived = !messages.is_empty();
        if arrived || outcome.is_ready() {
            self.session.handle_activity(lane, now);
        }
        self.heard = self.heard.saturating_add(u32::try_from(messages.len()).unwrap_or(u32::MAX));
        if arrived {
            let bytes = messages.iter().map(Message::len).sum();
            self.shared.io.metrics().received.add(messages.len(), bytes);
        }
        for message in messages.drain(..) {
            if self.closing.is_some() {
                break;
            }
            // What follows the packet that proved the probe comes from the connection that carries the session.
            let from = if self.promoting { Lane::Primary } else { lane };
            self.session.handle_message(from, message, now);
            self.perform(cx, now);
        }
        lane::give_back(messages);
        match outcome {
            Poll::Pending => return arrived,
            Poll::Ready(Ok(Received::Activity)) => {}
            Poll::Ready(Ok(Received::Closed)) => self.lane_lost(lane, CloseReason::TransportClose, now),
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, transport = %self.primary.name, "a connection ended");
                // A broken connection is nobody's fault, and what is malformed counts when the session ends.
                if matches!(error, ConnectionError::Misused(_) | ConnectionError::TooBig { .. }) {
                    count::protocol_errors(self.shared.io.metrics());
                }
                self.lane_lost(lane, error.reason(), now);
            }
        }
        self.perform(cx, now);
        true
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
        if !self.timer.poll(self.session.poll_timeout(), cx, now) {
            return false;
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
            Action::Transmit { lane, frame, delivery } => {
                if let Some((_, outbox, _)) = self.lane(lane) {
                    // A client that does not read is closed by the outbox, which tells on the next poll.
                    let _ = outbox.push(frame, delivery, Overflow::Close);
                }
            }
            Action::Ping(lane) => {
                if let Some((state, outbox, _)) = self.lane(lane) {
                    state.connection.ping(outbox);
                }
            }
            Action::Promote => {
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
                let (io, address) = (&self.shared.io, self.shared.handshake.address());
                breach!(io, Breach::JoinedNamespaces, ?address, "refused one more namespace to a client");
            }
            Action::Event(inbound) => self.dispatch(inbound, cx, now),
            Action::Answer { namespace, id, args } => {
                if let Some(member) = self.members.find(&namespace) {
                    member.socket().answered(id, args);
                }
            }
            Action::Leave { namespace, reason } => self.leave(&namespace, reason, cx),
            Action::Close(reason) => self.start_closing(reason, cx, now),
            other => tracing::error!(?other, "a session asked for what this server does not know"),
        }
    }

    /// Whether the client may send one more event now; if not it is closed
    fn is_within_rate(&mut self, now: Instant) -> bool {
        let Some(rate) = self.shared.io.config().event_rate else { return true };
        let within = self.bucket.get_or_insert_default().take(rate, now);
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
        true
    }

    fn drop_probe(&mut self, reason: CloseReason) {
        self.promoting = false;
        if let Some(probe) = self.probe.take() {
            closing::close_apart(*probe, reason, self.shared.io.config().close_timeout);
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
        let polled = this.visit(cx, clock::now());
        events::let_go();
        polled
    }
}

/// Wakes the task again when everything else has had its turn, and the runtime has looked for what arrived
///
/// A task that just wakes itself runs again before that, dozens of times: one busy client would keep all others
/// waiting.
pub(crate) fn give_way(cx: &mut Context<'_>) {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

/// A session that is dropped without an end, because its runtime goes away, leaves nothing behind all the same
impl Drop for Driver {
    fn drop(&mut self) {
        for member in self.members.take_all() {
            member.socket().detach(false);
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

/// One timer for everything the session waits for
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    at: Option<Instant>,
}

impl Timer {
    /// Whether the deadline has come; if not, the task is woken when it has
    ///
    /// A deadline that moved back is left to fire early, as that is rarer than moving the timer each time.
    fn poll(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(deadline) = deadline else { return false };
        if deadline <= now {
            self.at = None;
            return true;
        }
        if self.at.is_some_and(|at| at > now && at <= deadline) {
            return false;
        }
        let until = tokio::time::Instant::from_std(deadline);
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                sleep.as_mut().reset(until);
                sleep
            }
            None => self.sleep.insert(Box::pin(tokio::time::sleep_until(until))),
        };
        self.at = Some(deadline);
        if sleep.as_mut().poll(cx).is_ready() {
            // It lies between two ticks of the timer: look again at once.
            cx.waker().wake_by_ref();
            self.at = None;
        }
        false
    }
}
