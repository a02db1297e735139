//! Bounded queue of a client's outgoing frames; it holds the write half of the connection.

mod bounds;
mod deferred;
mod flush;
mod flusher;
mod lease;
mod list;
#[cfg(all(test, loom))]
mod loom;
mod policy;
mod queue;
mod ring;
mod run;
mod sink;
mod state;
#[cfg(all(test, not(loom)))]
mod tests;
mod written;

use std::task::{Context, Poll, Waker};

pub use self::bounds::Bounds;
pub use self::deferred::DeferredWakes;
pub use self::flush::Backlog;
pub use self::flusher::Flusher;
use self::lease::{Lease, Writer};
pub use self::policy::{Delivery, Overflow, PushOutcome, QueueDepth};
use self::queue::{Admission, Queue};
use self::run::Place;
pub use self::run::SharedFrame;
pub use self::sink::{FrameSink, Readiness};
pub use self::state::{FlushList, Outbox};
use self::state::{Handle, Inner, Phase, State, wake};
pub use self::written::WriteStats;
use crate::sync::{Mutex, MutexGuard};
use crate::{CloseReason, Frame};

/// State of an outbox, as [`Outbox::attend`] returns it to the owner of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "drivers and their tests build it")]
pub struct Attended {
    /// Close reason, once the outbox was given up or its sink failed.
    pub closed: Option<CloseReason>,
    /// Whether the sink accepts bytes now; if so, the client has not stalled.
    pub writable: bool,
    /// Queued and in-flight bytes, as counted against the limit; they are stalled unless the sink is writable.
    pub stalled: usize,
    /// Whether more bytes than the limit are queued.
    pub over_limit: bool,
    /// Message bytes that this call wrote.
    pub written: u64,
    /// Whether the queue is above low water, so that [`Outbox::poll_writable`] is pending.
    pub high: bool,
    /// [`FrameSink::moved`] of the sink, unless the sink is leased or absent.
    pub moved: Option<u64>,
    /// Whether a heartbeat is queued or in flight.
    pub heartbeat: bool,
}

/// Guard that keeps an outbox from writing; see [`Outbox::hold`].
#[derive(Debug)]
pub struct Hold(Outbox);

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.held = false;
        self.0.unlock_and_enlist(state);
    }
}

/// Eviction criteria of an outbox, for when memory has to be freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "drivers and their tests build it")]
pub struct OutboxStatus {
    /// Whether the sink accepts bytes now, so that queued bytes are the server's debt.
    pub writable: bool,
    /// Queued bytes, including those in flight.
    pub bytes: usize,
    /// Whether the owner reported [no progress](Outbox::set_stalled).
    pub stalled: bool,
    /// Sequence number of the last progress: smaller means longer ago, by wrapping comparison.
    pub order: u32,
}

impl Outbox {
    /// Creates an empty outbox without a sink.
    ///
    /// The bounds count body bytes plus 64 bytes per frame, including frames in flight. An empty queue accepts one
    /// frame of any size, so a bound below the size of a message does not make that message undeliverable.
    pub fn new(bounds: impl Into<Bounds>, flusher: FlushList) -> Self {
        let state = State {
            queue: Queue::default(),
            heartbeat: None,
            sink: None,
            rare: None,
            owner: None,
            order: 0,
            owner_polled: false,
            owner_waiting: false,
            phase: Phase::Open,
            overflow: Overflow::Close,
            readiness: Readiness::Parked,
            listed: false,
            leased: false,
            wanted: false,
            unsent: false,
            over_limit: false,
            stalled: false,
            heartbeat_leased: false,
            held: false,
        };
        Self(Handle::new(Inner { bounds: bounds.into(), flusher, state: Mutex::new(state) }))
    }

    /// Appends a frame to the queue.
    ///
    /// Does not block and does not write. While the client reads, every frame is queued; [`PushOutcome::Backlogged`] asks
    /// the pusher to [flush](Self::flush_backlog) the outbox. While the client stalls, `overflow` applies to
    /// [`Delivery::Reliable`] frames beyond the limit. A push beyond the hard cap gives the client up with
    /// [`CloseReason::OutboxFull`].
    #[inline]
    pub fn push(&self, frame: Frame, delivery: Delivery, overflow: Overflow) -> PushOutcome {
        let mut state = self.state();
        if state.phase != Phase::Open {
            return PushOutcome::Closed;
        }
        let writable = state.readiness == Readiness::Ready;
        if delivery == Delivery::Volatile && !writable {
            return PushOutcome::Dropped;
        }
        let overflow = if overflow == Overflow::Inherit { state.overflow } else { overflow };
        let displaced = match state.queue.admit(&frame, delivery, overflow, self.0.bounds, writable) {
            Admission::Admitted(displaced) => displaced,
            Admission::Refused => return PushOutcome::Dropped,
            Admission::Overflowed => {
                self.evict_locked(state, CloseReason::OutboxFull);
                return PushOutcome::Overflowed;
            }
        };
        let backlogged = state.queue.is_high() && writable;
        state.queue.push_back(frame, delivery);
        if !writable && !state.over_limit && state.queue.reserved_bytes() > self.0.bounds.limit() {
            state.over_limit = true;
            let owner = state.owner.take();
            drop(state);
            wake(owner);
        } else {
            self.unlock_and_enlist(state);
        }
        match displaced {
            0 if backlogged => PushOutcome::Backlogged,
            0 => PushOutcome::Queued,
            displaced => PushOutcome::Displaced(displaced),
        }
    }

    /// Appends the frame of a broadcast to the queue, like [`push`](Self::push).
    ///
    /// Costs less than `push` while the queue ends with the frame that this thread broadcast before.
    #[inline]
    pub fn push_shared(&self, shared: &SharedFrame, delivery: Delivery, overflow: Overflow) -> PushOutcome {
        let extended = match &shared.place {
            Some(place) => self.extend(place, queue::cost(&shared.frame), delivery),
            None => None,
        };
        extended.unwrap_or_else(|| self.push(shared.frame.clone(), delivery, overflow))
    }

    /// Appends a frame that follows the last queued frame in a run; returns `None` if it does not, or a policy applies.
    fn extend(&self, place: &Place, cost: usize, delivery: Delivery) -> Option<PushOutcome> {
        let mut state = self.state();
        let writable = state.readiness == Readiness::Ready;
        let may_queue = delivery == Delivery::Reliable || delivery == Delivery::Volatile && writable;
        if state.phase != Phase::Open || !may_queue {
            return None;
        }
        let backlogged = state.queue.is_high() && writable;
        // Up to the limit, no policy drops a frame without a key.
        let most = if writable { self.0.bounds.max() } else { self.0.bounds.limit() };
        if !state.queue.extend(place, cost, most) {
            return None;
        }
        // Nearly always listed, by the frame before.
        if !state.listed {
            self.unlock_and_enlist(state);
        }
        Some(if backlogged { PushOutcome::Backlogged } else { PushOutcome::Queued })
    }

    /// Appends a protocol packet or an acknowledgement to the queue.
    pub fn push_protocol(&self, frame: Frame) -> PushOutcome {
        self.push(frame, Delivery::Protocol, Overflow::Close)
    }

    /// Puts a heartbeat at the front of the queue and replaces one that is still queued.
    ///
    /// Behind a long queue, the heartbeat would reach the client too late for an answer in time.
    pub fn push_heartbeat(&self, frame: Frame) -> PushOutcome {
        let mut state = self.state();
        if state.phase != Phase::Open {
            return PushOutcome::Closed;
        }
        let replaced = state.heartbeat.replace(frame);
        self.unlock_and_enlist(state);
        drop(replaced);
        PushOutcome::Queued
    }

    /// Appends the carrier's final frame, such as a close frame, to the queue.
    ///
    /// After [`evict`](Self::evict) the outbox accepts only this frame, so a client that reads again receives the
    /// close reason.
    pub fn push_last(&self, frame: Frame) -> PushOutcome {
        let pushed = self.push_protocol(frame.clone());
        if !matches!(pushed, PushOutcome::Closed | PushOutcome::Overflowed) {
            return pushed;
        }
        let mut state = self.state();
        if !matches!(state.phase, Phase::Evicted(_)) || !state.queue.is_empty() {
            return PushOutcome::Closed;
        }
        state.queue.push_back(frame, Delivery::Protocol);
        self.unlock_and_enlist(state);
        PushOutcome::Queued
    }

    /// Sets the policy for later frames that are pushed with [`Overflow::Inherit`].
    pub fn set_overflow(&self, overflow: Overflow) {
        self.state().overflow = if overflow == Overflow::Inherit { Overflow::Close } else { overflow };
    }

    /// Stops flushers and pushers from writing until the guard is dropped.
    ///
    /// Use it for a message that announces a state which is not established yet. Without the hold, another thread could
    /// write the message and the client could act on it too early. A batch in flight is completed. Holds do not nest:
    /// the first guard that is dropped ends them all. The owner's [`attend`](Self::attend) still writes.
    #[must_use = "the hold ends when the guard is dropped"]
    pub fn hold(&self) -> Hold {
        self.state().held = true;
        Hold(self.clone())
    }

    /// Sets the write half of a connection and drops the previous one.
    ///
    /// Queued frames go to the new sink; frames that the old sink accepted count as sent. If the old sink is leased, it
    /// is replaced when the lease ends.
    pub fn set_sink(&self, sink: Box<dyn FrameSink>) {
        let mut state = self.state();
        let unused = if state.is_closed() {
            Some(sink)
        } else if state.leased {
            state.rare.get_or_insert_default().successor.replace(sink)
        } else {
            state.begin_sink(&*sink);
            state.sink.replace(sink)
        };
        self.unlock_and_enlist(state);
        drop(unused);
    }

    /// Takes the write half out; returns `None` while it is leased or if there is none.
    ///
    /// Queued frames stay. An upgrade uses it to move the sink of the probing connection to the session. If the sink is
    /// leased, the owner is woken when the lease ends.
    pub fn take_sink(&self) -> Option<Box<dyn FrameSink>> {
        let mut state = self.state();
        if state.leased {
            state.owner_waiting = true;
            return None;
        }
        state.set_readiness(Readiness::Parked, false);
        state.unsent = false;
        state.sink.take()
    }

    /// Registers the owner's waker, and writes if the sink was blocked or parked.
    ///
    /// The owner of the connection calls it each time it runs. The call is cheap when there is nothing to do.
    pub fn attend(&self, cx: &mut Context<'_>) -> Attended {
        {
            let mut state = self.state();
            if let Some(reason) = state.phase.reason() {
                return Attended::closed(reason);
            }
            if !state.owner.as_ref().is_some_and(|owner| owner.will_wake(cx.waker())) {
                state.owner = Some(cx.waker().clone());
            }
            if state.leased {
                state.owner_polled = true;
                return state.attended(WriteStats::default());
            }
            if state.readiness == Readiness::Ready || state.sink.is_none() {
                return state.attended(WriteStats::default());
            }
        }
        let written =
            Lease::take(self, Writer::Owner).map_or_else(|_| WriteStats::default(), |lease| lease.write(cx));
        if written.frames > 0 {
            self.0.flusher.record(written);
        }
        let mut state = self.state();
        if let Some(reason) = state.phase.reason() {
            return Attended::closed(reason);
        }
        state.over_limit = state.queue.reserved_bytes() > self.0.bounds.limit();
        state.attended(written)
    }

    /// Marks a parked sink as ready and writes the queue, for a caller that has made it writable without the owner.
    ///
    /// An example is a server that has parked a request in a [`PollSlot`](crate::PollSlot). Does nothing unless the
    /// outbox is open and its sink parked. If the sink is leased, the owner is woken when the lease ends.
    pub fn unpark(&self) {
        let mut state = self.state();
        if state.leased {
            // Whatever its readiness was: the writer may be about to park it.
            state.owner_polled = true;
            return;
        }
        if state.phase != Phase::Open || state.readiness != Readiness::Parked || state.sink.is_none() {
            return;
        }
        state.set_readiness(Readiness::Ready, false);
        if state.has_frames() {
            drop(state);
            // Another writer that is faster writes the whole queue.
            self.flush_backlog();
        }
    }

    /// Calls [`attend`](Self::attend); returns ready with the reason once the outbox was given up or its sink failed.
    pub fn poll_owner(&self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.attend(cx).closed.map_or(Poll::Pending, Poll::Ready)
    }

    /// Returns ready while the queue is at or below low water (32 KiB and 128 frames).
    ///
    /// Also returns ready once the outbox is closed and while it is [stalled](Self::set_stalled), as waiting is
    /// pointless then. Otherwise registers the task to be woken.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.phase != Phase::Open || state.queue.is_low() || state.stalled {
            return Poll::Ready(());
        }
        let senders = &mut state.rare.get_or_insert_default().senders;
        if !senders.iter().any(|sender| sender.will_wake(cx.waker())) {
            senders.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Marks the client as stalled and wakes the senders that wait for it.
    ///
    /// The mark lasts until the carrier accepts bytes again. Does nothing while the sink is ready.
    pub fn set_stalled(&self) {
        let mut state = self.state();
        state.stalled = state.readiness != Readiness::Ready;
        let senders = state.take_senders();
        drop(state);
        senders.into_iter().for_each(Waker::wake);
    }

    /// Gives up on the client: frees the queue and from then on accepts only a [final frame](Self::push_last).
    ///
    /// The write half stays, so a client that reads again receives the close reason. Wakes the owner. Returns the
    /// number of bytes that were queued. Does nothing unless the outbox is open.
    pub fn evict(&self, reason: CloseReason) -> usize {
        let state = self.state();
        if state.phase != Phase::Open {
            return 0;
        }
        let bytes = state.queue.reserved_bytes();
        self.evict_locked(state, reason);
        bytes
    }

    /// Rejects further frames; queued frames are still sent.
    pub fn finish(&self) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Open | Phase::Evicted(_)) {
            state.phase = Phase::Finishing;
        }
    }

    /// Returns ready once the transport has accepted every queued frame, or the outbox is closed.
    pub fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_owner(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut state = self.state();
        let handed_over = !state.has_frames() && !state.leased && state.readiness != Readiness::Blocked;
        if handed_over {
            return Poll::Ready(());
        }
        // The current or next lease wakes the owner when it ends.
        state.owner = Some(cx.waker().clone());
        state.owner_waiting = true;
        Poll::Pending
    }

    /// Closes the outbox and drops its frames and its sink.
    ///
    /// The first reason is kept; later calls change nothing.
    pub fn close(&self, reason: CloseReason) {
        self.close_locked(self.state(), reason);
    }

    /// Returns the close reason, if the outbox was closed or given up.
    pub fn closed(&self) -> Option<CloseReason> {
        self.state().phase.reason()
    }

    /// Returns whether the sink is [parked](Readiness::Parked) or absent.
    pub fn is_parked(&self) -> bool {
        self.state().readiness == Readiness::Parked
    }

    /// Returns the eviction criteria of the outbox.
    pub fn status(&self) -> OutboxStatus {
        let state = self.state();
        OutboxStatus {
            writable: state.readiness == Readiness::Ready,
            bytes: state.queue.reserved_bytes(),
            stalled: state.stalled,
            order: state.order,
        }
    }

    /// Releases the lock, then enlists the outbox if it has something to write.
    #[inline]
    fn unlock_and_enlist(&self, mut state: MutexGuard<'_, State>) {
        let enlist = state.wants_flush();
        state.listed |= enlist;
        drop(state);
        if enlist {
            self.0.flusher.enlist(self.clone());
        }
    }

    fn evict_locked(&self, mut state: MutexGuard<'_, State>, reason: CloseReason) {
        state.phase = Phase::Evicted(reason);
        let discarded = (std::mem::take(&mut state.queue), state.heartbeat.take());
        let (owner, senders) = (state.owner.take(), state.take_senders());
        drop(state);
        drop(discarded);
        wake(owner);
        senders.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn attended(&self, written: WriteStats) -> Attended {
        Attended {
            closed: None,
            writable: self.readiness == Readiness::Ready,
            stalled: self.queue.reserved_bytes(),
            over_limit: self.over_limit,
            written: written.bytes,
            high: !self.queue.is_low(),
            moved: self.sink.as_ref().map(|sink| sink.moved()),
            heartbeat: self.heartbeat.is_some() || self.heartbeat_leased,
        }
    }
}

impl Attended {
    fn closed(reason: CloseReason) -> Self {
        Self {
            closed: Some(reason),
            writable: false,
            stalled: 0,
            over_limit: false,
            high: false,
            written: 0,
            moved: None,
            heartbeat: false,
        }
    }
}
