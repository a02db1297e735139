//! Driver: runs one session over one connection.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use roomcast_core::{
    AckId, Action, Args, Attended, Bounds, ByteString, CloseReason, Codec, Command, Connection,
    ConnectionError, ConnectionRole, EncodeError, Event, Exchange, FlushList, Inbound, Message, Namespace,
    Outbox, Overflow, PushOutcome, Received, RejectedExchange, Session, SocketId, TransportName,
};

use crate::clock;
use crate::stall::{Stall, StallLimits};
use crate::timer::Timer;

/// Maximum number of messages handled before the task yields.
const MESSAGES_PER_TURN: u32 = 256;
/// Maximum number of reads from a connection whose write half failed.
const LAST_READS: usize = 32;
/// Lateness of a deadline after which the connection is polled once more before the deadline counts.
const LATE_THRESHOLD: Duration = Duration::from_millis(100);

/// Settings of a [`Driver`].
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct DriverConfig {
    bounds: Bounds,
    stall: StallLimits,
    ping_timeout: Duration,
    close_timeout: Duration,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            bounds: Bounds::from(1024 * 1024),
            stall: StallLimits::default(),
            ping_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(10),
        }
    }
}

impl DriverConfig {
    /// Returns the default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the bounds of the outbox, in bytes. Default: a limit of 1 MiB, and [`Bounds::DEFAULT_MAX`].
    ///
    /// While half of the hard cap is stalled, the driver stops reading from the client.
    pub fn outbox(mut self, bounds: impl Into<Bounds>) -> Self {
        self.bounds = bounds.into();
        self
    }

    /// Sets when a client over the limit of its outbox counts as stalled. Default: [`StallLimits::default`].
    pub fn stall(mut self, limits: StallLimits) -> Self {
        self.stall = limits;
        self
    }

    /// Sets the time within which the client must answer a heartbeat. Default: 20 s.
    ///
    /// For a heartbeat queued behind other bytes, the time starts when the transport accepts it.
    pub fn ping_timeout(mut self, timeout: Duration) -> Self {
        self.ping_timeout = timeout;
        self
    }

    /// Sets how long a closing connection may take to flush its queue and complete the close. Default: 10 s.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }
}

/// Item returned by [`Driver::next`]: a client request or the end of the session.
#[derive(Debug)]
#[non_exhaustive]
pub enum Incoming {
    /// The client requests to join a namespace; respond with [`Driver::accept`] or [`Driver::refuse`].
    ///
    /// If the protocol has a connect timeout, the session closes a client that gets no response in time.
    Connect {
        /// Requested namespace.
        namespace: Namespace,
        /// Authentication payload as JSON text; empty if absent.
        auth: ByteString,
    },
    /// The client emitted an event. If [`Inbound::ack`] is set, it expects [`Driver::answer`].
    Event(Inbound),
    /// The client acknowledged an event emitted with an [`AckRequest`](roomcast_core::AckRequest).
    Answer {
        /// Namespace of the event.
        namespace: Namespace,
        /// Id of the event.
        id: AckId,
        /// Arguments of the answer.
        args: Args,
    },
    /// The client left a namespace; detach its member from the router.
    Leave {
        /// Namespace that it left.
        namespace: Namespace,
        /// Reason.
        reason: CloseReason,
    },
    /// The session ends; detach all its members. Frames queued before are still written, then
    /// [`next`](Driver::next) returns `None`.
    Closed(CloseReason),
}

/// Runs one [`Session`] over one [`Connection`].
///
/// For servers composed without `roomcast-server`. The driver owns the connection and its [`Outbox`], passes incoming
/// messages to the session, performs the session's actions, enforces its deadlines, and closes a stalled client.
/// [`next`](Self::next) returns the decisions that belong to the application. A driver runs one connection for the
/// whole session; it does not move a session to another transport.
///
/// [`next`](Self::next) also performs heartbeats and retries blocked writes. Call it again soon: a loop
/// that waits long between two calls delays heartbeats, and its client may disconnect. The driver does not read between
/// calls, so TCP applies backpressure to the client.
///
/// Dropping a driver closes its outbox immediately with [`CloseReason::ServerShutdown`].
pub struct Driver {
    session: Box<dyn Session>,
    connection: Box<dyn Connection>,
    transport: TransportName,
    outbox: Outbox,
    config: DriverConfig,
    phase: Phase,
    /// Pending actions for the application and the end of the session, in order.
    actions: VecDeque<Action>,
    /// Messages read but not yet handled.
    read: VecDeque<Message>,
    /// End of the connection, pending until those messages are handled.
    ended: Option<Result<Received, ConnectionError>>,
    stall: Option<Stall>,
    timer: Timer,
    /// Messages handled since the task last yielded.
    handled: u32,
    /// A late deadline fired; the connection is polled once more before the deadline counts.
    is_deadline_late: bool,
    buffer: Vec<Message>,
}

enum Phase {
    /// The connection does not carry bytes yet.
    Opening,
    Open,
    /// Queued frames are still being flushed.
    Closing {
        reason: CloseReason,
        deadline: Instant,
        drained: bool,
    },
    Over,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("session", &self.session)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

impl Driver {
    /// Creates a driver whose outbox adds itself to `list` when it has frames to write.
    ///
    /// A [flusher](crate::flush()) of that list must run. Nothing happens before the first call of
    /// [`next`](Self::next).
    #[must_use]
    pub fn new(
        session: Box<dyn Session>,
        connection: Box<dyn Connection>,
        transport: TransportName,
        list: FlushList,
        config: DriverConfig,
    ) -> Self {
        Self {
            session,
            connection,
            transport,
            outbox: Outbox::new(config.bounds, list),
            config,
            phase: Phase::Opening,
            actions: VecDeque::new(),
            read: VecDeque::new(),
            ended: None,
            stall: None,
            timer: Timer::default(),
            handled: 0,
            is_deadline_late: false,
            buffer: Vec::new(),
        }
    }

    /// Returns the client's outbound queue, for a [`Member`](roomcast_core::Member) of a router.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Runs the session until an item is ready for the application; returns `None` once the connection is closed.
    ///
    /// Needs a runtime with time enabled.
    ///
    /// # Cancel safety
    /// A dropped future loses no item: the next call returns it.
    pub async fn next(&mut self) -> Option<Incoming> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Polls for the next item; see [`next`](Self::next).
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        loop {
            let now = clock::now();
            self.collect();
            while let Some(action) = self.actions.pop_front() {
                if let Some(incoming) = self.incoming(action, now) {
                    return Poll::Ready(Some(incoming));
                }
            }
            let progress = match self.phase {
                Phase::Opening => self.poll_opening(cx, now),
                Phase::Open => self.poll_open(cx, now),
                Phase::Closing { .. } => {
                    if self.poll_closing(cx, now).is_pending() {
                        return Poll::Pending;
                    }
                    true
                }
                Phase::Over => return Poll::Ready(None),
            };
            let should_yield = self.handled >= MESSAGES_PER_TURN;
            if (should_yield || !progress) && !self.poll_timer(cx, now) {
                if should_yield || self.is_deadline_late {
                    self.handled = 0;
                    self.collect();
                    if self.actions.is_empty() {
                        yield_now(cx);
                        return Poll::Pending;
                    }
                } else {
                    return Poll::Pending;
                }
            }
        }
    }

    /// Accepts the client into a namespace that it [requested](Incoming::Connect), under this id.
    ///
    /// `attach` attaches the member to the router; its result is returned. The response is queued first, so it
    /// precedes all events, and is not written before `attach` has returned, so every broadcast reaches a client that
    /// received it.
    ///
    /// Returns `None` and attaches nothing if [`Incoming::Closed`] was already returned.
    pub fn accept<T>(
        &mut self,
        namespace: &Namespace,
        id: SocketId,
        attach: impl FnOnce() -> T,
    ) -> Option<T> {
        if !self.is_running() {
            return None;
        }
        let _hold = self.outbox.hold();
        self.command(Command::Accept { namespace: namespace.clone(), socket: id, recovery: None });
        Some(attach())
    }

    /// Refuses a client that [requested](Incoming::Connect) a namespace; `message` is human-readable.
    pub fn refuse(&mut self, namespace: &Namespace, message: &str) {
        let error = ByteString::from(serde_json::json!({ "message": message }).to_string());
        self.command(Command::Refuse { namespace: namespace.clone(), error });
    }

    /// Removes the client from a namespace and notifies it; [`Incoming::Leave`] or [`Incoming::Closed`] follows.
    pub fn disconnect(&mut self, namespace: &Namespace) {
        self.command(Command::Disconnect { namespace: namespace.clone() });
    }

    /// Ends the session; [`Incoming::Closed`] follows.
    pub fn close(&mut self, reason: CloseReason) {
        self.command(Command::Close(reason));
    }

    /// Emits an event to this client only.
    ///
    /// # Errors
    /// If the codec cannot encode the event.
    pub fn emit(&self, codec: &dyn Codec, event: &Event) -> Result<PushOutcome, EncodeError> {
        let frame = event.frame(codec)?;
        Ok(self.push(frame))
    }

    /// Acknowledges an event whose [`Inbound::ack`] is set.
    ///
    /// # Errors
    /// If the codec cannot encode the acknowledgement.
    pub fn answer(
        &self,
        codec: &dyn Codec,
        namespace: &Namespace,
        id: AckId,
        args: &Args,
    ) -> Result<PushOutcome, EncodeError> {
        let frame = codec.encode_answer(namespace, id, args)?;
        Ok(self.push(frame))
    }

    /// Passes a later HTTP request of the session to the connection, for transports that use several requests.
    ///
    /// A fatal refusal closes the session.
    ///
    /// # Errors
    /// If the connection refuses the request; returns the exchange without a response.
    pub fn request(&mut self, exchange: Exchange) -> Result<(), RejectedExchange> {
        let taken = self.connection.accept(exchange);
        if taken.as_ref().is_err_and(|refused| refused.rejection.fatal) {
            self.close(CloseReason::TransportError);
        }
        taken
    }

    fn push(&self, frame: roomcast_core::Frame) -> PushOutcome {
        let pushed = self.outbox.push(frame, roomcast_core::Delivery::Reliable, Overflow::Inherit);
        if pushed == PushOutcome::Backlogged {
            self.outbox.flush_backlog();
        }
        pushed
    }

    fn command(&mut self, command: Command) {
        if self.is_running() {
            self.session.handle_command(command, clock::now());
            self.collect();
        }
    }

    fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Opening | Phase::Open)
    }

    /// Performs the session's actions on the connection and queues those for the application.
    fn collect(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                // An outbox that was given up accepts only the close message.
                Action::Transmit { role: ConnectionRole::Primary, frame, .. }
                    if self.outbox.closed().is_some() =>
                {
                    let _ = self.outbox.push_last(frame);
                }
                Action::Transmit { role: ConnectionRole::Primary, frame, delivery } => {
                    let _ = self.outbox.push(frame, delivery, Overflow::Close);
                }
                Action::Heartbeat(frame) => {
                    let _ = self.outbox.push_heartbeat(frame);
                }
                Action::Ping(ConnectionRole::Primary) => {
                    self.connection.ping(&self.outbox, 0);
                }
                Action::HeartbeatAnswered | Action::Refused { .. } => {}
                Action::Connect { .. }
                | Action::Event(_)
                | Action::Answer { .. }
                | Action::Leave { .. }
                | Action::Close(_)
                | Action::Refuse { .. } => self.actions.push_back(action),
                // There is no second connection, so no other action can occur.
                _ => {}
            }
        }
        self.session.release_memory();
    }

    fn incoming(&mut self, action: Action, now: Instant) -> Option<Incoming> {
        if !self.is_running() {
            return None;
        }
        match action {
            Action::Connect { namespace, auth } => Some(Incoming::Connect { namespace, auth }),
            Action::Event(event) => Some(Incoming::Event(event)),
            Action::Answer { namespace, id, args } => Some(Incoming::Answer { namespace, id, args }),
            Action::Leave { namespace, reason } => Some(Incoming::Leave { namespace, reason }),
            Action::Close(reason) => Some(self.start_closing(reason, "", now)),
            Action::Refuse { message } => Some(self.start_closing(CloseReason::Refused, &message, now)),
            _ => None,
        }
    }

    fn poll_opening(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        match self.connection.poll_open(cx) {
            Poll::Pending => return false,
            Poll::Ready(Ok(sink)) => {
                self.phase = Phase::Open;
                self.outbox.set_sink(sink);
                self.session.handle_connection_opened(ConnectionRole::Primary, self.transport, now);
            }
            Poll::Ready(Err(error)) => self.end_connection(error.reason(), now),
        }
        true
    }

    fn poll_open(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let attended = self.outbox.attend(cx);
        if let Some(reason) = attended.closed {
            if matches!(reason, CloseReason::SlowConsumer | CloseReason::OutboxFull) {
                // The connection is still open and can carry the close message.
                self.read.clear();
                self.end(Command::Close(reason), reason, now);
            } else {
                self.drain_reads(cx, now);
                self.end_connection(reason, now);
            }
            return true;
        }
        if self.watch_stall(&attended, now) {
            return true;
        }
        if self.session.is_congested() || !self.may_read(&attended, cx) {
            return false;
        }
        if let Some(message) = self.read.pop_front() {
            self.handled += 1;
            self.session.handle_message(ConnectionRole::Primary, message, now);
            return true;
        }
        match self.ended.take() {
            None => self.poll_recv(cx, now),
            Some(Ok(_)) => {
                self.end_connection(CloseReason::TransportClose, now);
                true
            }
            Some(Err(error)) => {
                self.end_connection(error.reason(), now);
                true
            }
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let outcome = self.connection.poll_recv(cx, &self.outbox, &mut self.buffer);
        let arrived = !self.buffer.is_empty();
        self.read.extend(self.buffer.drain(..));
        if arrived || outcome.is_ready() {
            self.session.handle_activity(ConnectionRole::Primary, now);
        }
        match outcome {
            Poll::Pending => return arrived,
            Poll::Ready(Ok(Received::Activity | Received::Pong(_))) => {}
            Poll::Ready(end) => self.ended = Some(end),
        }
        true
    }

    /// Handles the complete messages received before the write half failed.
    fn drain_reads(&mut self, cx: &mut Context<'_>, now: Instant) {
        for _ in 0..LAST_READS {
            while let Some(message) = self.read.pop_front() {
                self.session.handle_message(ConnectionRole::Primary, message, now);
            }
            if self.ended.is_some() || !self.poll_recv(cx, now) {
                return;
            }
        }
    }

    /// Checks progress of a client whose outbox is not writable; returns `true` if the client was given up.
    fn watch_stall(&mut self, attended: &Attended, now: Instant) -> bool {
        if attended.writable || attended.stalled == 0 && !attended.heartbeat {
            self.stall = None;
            return false;
        }
        let stall = self.stall.get_or_insert_with(|| Stall::new(now));
        let verdict = stall.observe(attended, now, self.config.stall);
        if verdict.heartbeat_sent {
            self.session.handle_heartbeat_sent(now);
        }
        if verdict.mark {
            self.outbox.set_stalled();
        }
        if verdict.evict {
            let reason = CloseReason::SlowConsumer;
            self.outbox.evict(reason);
            self.read.clear();
            self.end(Command::Close(reason), reason, now);
        }
        verdict.evict
    }

    /// Returns whether the outbound queue is short enough to resume reading.
    fn may_read(&self, attended: &Attended, cx: &mut Context<'_>) -> bool {
        if attended.stalled < self.config.bounds.max() / 2 {
            return true;
        }
        if attended.writable {
            if self.outbox.flush_backlog() {
                return true;
            }
            // Another writer has to release the write half.
            yield_now(cx);
        }
        false
    }

    /// Returns whether a deadline has passed and was handled.
    fn poll_timer(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let deadline = self.session.poll_timeout();
        let limits = self.config.stall;
        let stalled = self.stall.as_mut().and_then(|stall| stall.deadline(limits)).filter(|at| *at > now);
        let next = deadline.into_iter().chain(stalled).min();
        if !self.timer.poll(next, cx, now) {
            self.is_deadline_late = false;
            return false;
        }
        // After a pause of the process, timers may fire before sockets are polled, where a response may already wait.
        let is_late = deadline.is_some_and(|at| now > clock::after(at, LATE_THRESHOLD));
        if is_late && !std::mem::replace(&mut self.is_deadline_late, true) {
            return false;
        }
        self.is_deadline_late = false;
        if !self.read.is_empty() {
            // Messages that the driver has not handled yet do not count against the client.
            self.session.handle_activity(ConnectionRole::Primary, now);
        }
        if let Some(taken) =
            self.stall.as_ref().and_then(|stall| stall.delays_heartbeat(self.config.ping_timeout, now))
        {
            self.session.handle_heartbeat_sent(taken);
        }
        self.session.handle_timeout(now);
        true
    }

    /// Handles a lost connection.
    fn end_connection(&mut self, reason: CloseReason, now: Instant) {
        self.session.handle_connection_closed(ConnectionRole::Primary, reason, now);
        self.ensure_end(reason);
    }

    fn end(&mut self, command: Command, reason: CloseReason, now: Instant) {
        self.session.handle_command(command, now);
        self.ensure_end(reason);
    }

    /// Ends a session that requests no action after its connection was lost.
    fn ensure_end(&mut self, reason: CloseReason) {
        self.collect();
        if !self.actions.iter().any(|action| matches!(action, Action::Close(_) | Action::Refuse { .. })) {
            self.actions.push_back(Action::Close(reason));
        }
    }

    fn start_closing(&mut self, reason: CloseReason, message: &str, now: Instant) -> Incoming {
        let opened = matches!(self.phase, Phase::Open);
        self.connection.start_close_with_message(reason, message, &self.outbox);
        self.outbox.finish();
        if !opened {
            self.outbox.close(reason);
        }
        let deadline = clock::after(now, self.config.close_timeout);
        self.phase = Phase::Closing { reason, deadline, drained: !opened };
        self.read.clear();
        Incoming::Closed(reason)
    }

    fn poll_closing(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let Phase::Closing { reason, deadline, drained } = &mut self.phase else { return Poll::Ready(()) };
        if !*drained && (self.outbox.poll_drained(cx).is_ready() || self.outbox.is_parked()) {
            *drained = true;
            // Drops the write half too, which signals the end of the stream to the peer.
            self.outbox.close(*reason);
        }
        let closed = *drained && self.connection.poll_closed(cx).is_ready();
        if closed || self.timer.poll(Some(*deadline), cx, now) {
            self.outbox.close(*reason);
            self.phase = Phase::Over;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Entries on the list of a dropped flusher would otherwise keep the list alive.
        self.outbox.close(CloseReason::ServerShutdown);
    }
}

/// Reschedules the task after all other ready tasks and after the runtime has polled for I/O.
fn yield_now(cx: &mut Context<'_>) {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}
