//! The queue of what a client is to be sent, and the owner of its write half

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
pub use self::policy::{Delivery, Overflow, Pushed, Waiting};
use self::queue::{Admission, Queue};
pub use self::sink::{FrameSink, Readiness};
pub use self::state::{FlushList, Outbox};
use self::state::{Inner, Phase, State, wake};
pub use self::written::Written;
use crate::sync::{Arc, Mutex, MutexGuard};
use crate::{CloseReason, Frame};

/// What the owner of a connection learns when it [attends](Outbox::attend) to its outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "drivers and their tests build it")]
pub struct Attended {
    /// Set once the outbox was given up or its sink broke
    pub closed: Option<CloseReason>,
    /// Whether the sink takes bytes now; if so, nothing is stalled
    pub writable: bool,
    /// Bytes that wait or are being written, as counted against the limit: stalled ones unless the sink takes bytes
    pub stalled: usize,
    /// Whether more than the limit waits
    pub over_limit: bool,
    /// Bytes of messages that this call wrote
    pub written: u64,
    /// Whether more waits than lets [waiting senders](Outbox::poll_writable) go on
    pub high: bool,
    /// [`FrameSink::moved`] of the sink, if it is there
    pub moved: Option<u64>,
    /// Whether a heartbeat waits
    pub heartbeat: bool,
}

/// Keeps an outbox from writing; see [`Outbox::hold`].
#[derive(Debug)]
pub struct Hold(Outbox);

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.held = false;
        self.0.unlock_and_enlist(state);
    }
}

/// How an outbox stands when memory has to be freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "drivers and their tests build it")]
pub struct Standing {
    /// Whether the sink takes bytes now, so what waits is the server's debt
    pub writable: bool,
    /// Bytes that wait
    pub bytes: usize,
    /// Whether the owner has seen no progress for a while
    pub stalled: bool,
    /// Age of the last progress: the smaller, the longer ago, by wrapping comparison
    pub order: u32,
}

impl Outbox {
    /// Makes an empty outbox without a sink.
    ///
    /// The bounds count the bytes of bodies plus 64 for each frame, including those that a sink has in hand. One frame
    /// is always taken when no other waits, however large, so a bound below the size of a message does not make that
    /// message undeliverable.
    pub fn new(bounds: impl Into<Bounds>, flusher: FlushList) -> Self {
        let state = State {
            queue: Queue::default(),
            heartbeat: None,
            sink: None,
            rare: None,
            owner: None,
            order: 0,
            owner_came: false,
            owner_waits: false,
            phase: Phase::Open,
            overflow: Overflow::Close,
            readiness: Readiness::Parked,
            listed: false,
            leased: false,
            wanted: false,
            over_limit: false,
            stalled: false,
            heartbeat_leased: false,
            held: false,
        };
        Self(Arc::new(Inner { bounds: bounds.into(), flusher, state: Mutex::new(state) }))
    }

    /// Appends a frame to the queue.
    ///
    /// Does not block and does not write. While the client reads, everything is queued; the result says when the
    /// pusher should [relieve](Self::relieve) the outbox. While the client stalls, `overflow` decides about
    /// [`Delivery::Reliable`] frames beyond the limit. Beyond the hard cap the client is given up with
    /// [`CloseReason::OutboxFull`].
    #[inline]
    pub fn push(&self, frame: Frame, delivery: Delivery, overflow: Overflow) -> Pushed {
        let mut state = self.state();
        if state.phase != Phase::Open {
            return Pushed::Closed;
        }
        let writable = state.readiness == Readiness::Ready;
        if delivery == Delivery::Volatile && !writable {
            return Pushed::Dropped;
        }
        let overflow = if overflow == Overflow::Inherit { state.overflow } else { overflow };
        let displaced = match state.queue.admit(&frame, delivery, overflow, self.0.bounds, writable) {
            Admission::Admitted(displaced) => displaced,
            Admission::Refused => return Pushed::Dropped,
            Admission::Overflowed => {
                self.give_up_locked(state, CloseReason::OutboxFull);
                return Pushed::Overflowed;
            }
        };
        let backlogged = state.queue.is_high() && writable;
        state.queue.push_back(frame, delivery);
        if !writable && !state.over_limit && state.queue.counted() > self.0.bounds.limit() {
            state.over_limit = true;
            let owner = state.owner.take();
            drop(state);
            wake(owner);
        } else {
            self.unlock_and_enlist(state);
        }
        match displaced {
            0 if backlogged => Pushed::Backlogged,
            0 => Pushed::Queued,
            displaced => Pushed::Displaced(displaced),
        }
    }

    /// Appends a packet of the protocol or an acknowledgement to the queue.
    pub fn push_protocol(&self, frame: Frame) -> Pushed {
        self.push(frame, Delivery::Protocol, Overflow::Close)
    }

    /// Puts a heartbeat ahead of the queue, in place of one that still waits.
    ///
    /// A client with a long queue would otherwise see it too late to answer in time.
    pub fn push_heartbeat(&self, frame: Frame) -> Pushed {
        let mut state = self.state();
        if state.phase != Phase::Open {
            return Pushed::Closed;
        }
        let replaced = state.heartbeat.replace(frame);
        self.unlock_and_enlist(state);
        drop(replaced);
        Pushed::Queued
    }

    /// Appends the carrier's goodbye, such as a close frame, to the queue.
    ///
    /// Once the client was [given up](Self::give_up), it is the one frame that is still taken, so a client that reads
    /// again learns why it was closed.
    pub fn push_last(&self, frame: Frame) -> Pushed {
        let pushed = self.push_protocol(frame.clone());
        if !matches!(pushed, Pushed::Closed | Pushed::Overflowed) {
            return pushed;
        }
        let mut state = self.state();
        if !matches!(state.phase, Phase::GivenUp(_)) || !state.queue.is_empty() {
            return Pushed::Closed;
        }
        state.queue.push_back(frame, Delivery::Protocol);
        self.unlock_and_enlist(state);
        Pushed::Queued
    }

    /// Sets the policy for frames that are pushed with [`Overflow::Inherit`] from now on.
    pub fn set_overflow(&self, overflow: Overflow) {
        self.state().overflow = if overflow == Overflow::Inherit { Overflow::Close } else { overflow };
    }

    /// Stops flushers and pushers from writing until the guard is dropped.
    ///
    /// For a message that announces a state which is about to be established: another thread could write the message, and
    /// the client act on it, too early. A batch that is already being written is finished. Holds do not nest: the first
    /// guard that is dropped ends them all. The owner's [`attend`](Self::attend) still writes.
    #[must_use = "the hold ends when the guard is dropped"]
    pub fn hold(&self) -> Hold {
        self.state().held = true;
        Hold(self.clone())
    }

    /// Gives the outbox the write half of a connection, in place of the one it had.
    ///
    /// What waits flows to the new sink; a frame that the old one has taken counts as sent. If the old sink is
    /// leased at this moment the change happens when it comes back.
    pub fn set_sink(&self, sink: Box<dyn FrameSink>) {
        let mut state = self.state();
        let unused = if state.is_closed() {
            Some(sink)
        } else if state.leased {
            state.rare.get_or_insert_default().successor.replace(sink)
        } else {
            state.set_readiness(Readiness::Ready, false);
            state.sink.replace(sink)
        };
        self.unlock_and_enlist(state);
        drop(unused);
    }

    /// Takes the write half out, leaving the outbox without one; `None` while it is leased or if there is none.
    ///
    /// What waits stays. For a connection that proved itself and becomes the one that carries the session. If the
    /// sink is leased, the owner is woken when it is back.
    pub fn take_sink(&self) -> Option<Box<dyn FrameSink>> {
        let mut state = self.state();
        if state.leased {
            state.owner_waits = true;
            return None;
        }
        state.set_readiness(Readiness::Parked, false);
        state.sink.take()
    }

    /// Lets the owner of the connection do its part: registers it to be woken, and writes if the sink was blocked.
    ///
    /// Call it whenever the owner runs; it is cheap when there is nothing to do.
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
                state.owner_came = true;
                return state.attended(Written::default());
            }
            if state.readiness == Readiness::Ready || state.sink.is_none() {
                return state.attended(Written::default());
            }
        }
        let written =
            Lease::take(self, Writer::Owner).map_or_else(|_| Written::default(), |lease| lease.write(cx));
        if written.frames > 0 {
            self.0.flusher.record(written);
        }
        let mut state = self.state();
        if let Some(reason) = state.phase.reason() {
            return Attended::closed(reason);
        }
        state.over_limit = state.queue.counted() > self.0.bounds.limit();
        state.attended(written)
    }

    /// As [`attend`](Self::attend); ready with the reason once the outbox was given up or its sink broke.
    pub fn poll_owner(&self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.attend(cx).closed.map_or(Poll::Pending, Poll::Ready)
    }

    /// Ready once little enough waits for a sender to go on, or waiting is pointless.
    ///
    /// That is below low water (32 KiB and 128 frames), once the outbox is closed, and while its owner has
    /// [seen no progress](Self::set_stalled). Registers the task to be woken otherwise.
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

    /// Says that the client has made no progress for a while, so that senders do not wait for it.
    ///
    /// Holds until the carrier takes bytes again. Does nothing while the sink is ready.
    pub fn set_stalled(&self) {
        let mut state = self.state();
        state.stalled = state.readiness != Readiness::Ready;
        let senders = state.take_senders();
        drop(state);
        senders.into_iter().for_each(Waker::wake);
    }

    /// Gives the client up: what waits is freed, and only a [goodbye](Self::push_last) is still taken.
    ///
    /// The write half stays, so a client that reads again learns why it was closed. The owner is woken. Returns the
    /// bytes that waited. Does nothing unless the outbox is open.
    pub fn give_up(&self, reason: CloseReason) -> usize {
        let state = self.state();
        if state.phase != Phase::Open {
            return 0;
        }
        let bytes = state.queue.counted();
        self.give_up_locked(state, reason);
        bytes
    }

    /// Takes in nothing more; what waits is still sent.
    pub fn finish(&self) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Open | Phase::GivenUp(_)) {
            state.phase = Phase::Finishing;
        }
    }

    /// Ready once all that waited was handed to the transport, or can no longer be.
    pub fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_owner(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut state = self.state();
        let handed_over = !state.has_frames() && !state.leased && state.readiness != Readiness::Blocked;
        if handed_over {
            return Poll::Ready(());
        }
        // Whoever holds the sink, or takes it next, wakes the owner when it is back.
        state.owner = Some(cx.waker().clone());
        state.owner_waits = true;
        Poll::Pending
    }

    /// Closes at once: what waits is dropped, the sink too.
    ///
    /// The first reason stays; later calls change nothing.
    pub fn close(&self, reason: CloseReason) {
        self.close_locked(self.state(), reason);
    }

    /// Returns why the outbox was closed, if it was.
    pub fn closed(&self) -> Option<CloseReason> {
        self.state().phase.reason()
    }

    /// Whether there is nothing to write to until the owner is handed something.
    pub fn is_parked(&self) -> bool {
        self.state().readiness == Readiness::Parked
    }

    /// Returns how the outbox stands when memory has to be freed.
    pub fn standing(&self) -> Standing {
        let state = self.state();
        Standing {
            writable: state.readiness == Readiness::Ready,
            bytes: state.queue.counted(),
            stalled: state.stalled,
            order: state.order,
        }
    }

    /// Lets go of the lock, and puts the outbox on its list if there is something to write
    #[inline]
    fn unlock_and_enlist(&self, mut state: MutexGuard<'_, State>) {
        let enlist = state.wants_flush();
        state.listed |= enlist;
        drop(state);
        if enlist {
            self.0.flusher.enlist(self.clone());
        }
    }

    fn give_up_locked(&self, mut state: MutexGuard<'_, State>, reason: CloseReason) {
        state.phase = Phase::GivenUp(reason);
        let spilled = (std::mem::take(&mut state.queue), state.heartbeat.take());
        let (owner, senders) = (state.owner.take(), state.take_senders());
        drop(state);
        drop(spilled);
        wake(owner);
        senders.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn attended(&self, written: Written) -> Attended {
        Attended {
            closed: None,
            writable: self.readiness == Readiness::Ready,
            stalled: self.queue.counted(),
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
