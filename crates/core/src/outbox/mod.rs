//! The one queue of what a client is to be sent, and the one owner of its write half

mod flush;
mod lease;
#[cfg(all(test, loom))]
mod loom;
mod policy;
mod queue;
mod sink;
#[cfg(all(test, not(loom)))]
mod tests;

use std::fmt;
use std::task::{Context, Poll, Waker};

pub use self::flush::{FlushList, Relay, Written};
use self::lease::{Lease, Writer};
pub use self::policy::{Delivery, Overflow, Pushed, Waiting};
use self::queue::{Admission, Queue};
pub use self::sink::{FrameSink, Readiness};
use crate::sync::{Arc, Mutex, MutexGuard, lock};
use crate::{CloseReason, Frame};

/// What waits to be sent to one client, bounded in bytes, and the lease on its write half
///
/// Everything that goes to the client goes through here, in one order: broadcasts, replies, heartbeats, pongs,
/// the close frame. [`push`](Self::push) may be called from any thread; it never blocks, never writes and never
/// calls back. Whoever writes (a flusher, or the task that owns the connection) first *leases* the
/// [`FrameSink`] out of the outbox, so two writers can never interleave inside a frame, and no lock is held
/// during a system call.
///
/// An outbox that got something to send and whose sink can take it puts itself on its [`FlushList`], once. The
/// task that owns the connection is woken only when the sink is blocked or broken or the outbox overflowed.
///
/// Cloning gives another handle to the same outbox.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    limit: usize,
    flusher: FlushList,
    state: Mutex<State>,
}

struct State {
    queue: Queue,
    sink: Option<Box<dyn FrameSink>>,
    // Boxed once more, since it is there only while a client that moves is written to.
    successor: Option<Box<Box<dyn FrameSink>>>,
    owner: Option<Waker>,
    /// The owner came while the sink was lent out, perhaps with something to write to
    owner_came: bool,
    /// The owner waits for the sink to be brought back
    owner_waits: bool,
    phase: Phase,
    overflow: Overflow,
    readiness: Readiness,
    listed: bool,
    leased: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The client did not read: what waited is gone, and only a good-bye is still taken
    Overflowed,
    /// Nothing more is taken in; what waits is still sent
    Finishing,
    /// What waited is gone
    Closed(CloseReason),
}

/// How many outboxes are fetched side by side, before the first of them is written
pub(crate) const GROUP: usize = if cfg!(loom) { 2 } else { 16 };

impl Outbox {
    /// Makes an empty outbox without a sink
    ///
    /// `limit` is in bytes: bodies plus 64 for each frame, those that a sink has in hand included. One frame is always
    /// taken when no other waits, however large, so a limit below the size of a message does not make that message
    /// undeliverable. Beyond that 64 KiB are kept for packets of the protocol and answers.
    pub fn new(limit: usize, flusher: FlushList) -> Self {
        let state = State {
            queue: Queue::default(),
            sink: None,
            successor: None,
            owner: None,
            owner_came: false,
            owner_waits: false,
            phase: Phase::Open,
            overflow: Overflow::Close,
            readiness: Readiness::Parked,
            listed: false,
            leased: false,
        };
        Self(Arc::new(Inner { limit, flusher, state: Mutex::new(state) }))
    }

    /// Puts a frame behind what waits already
    ///
    /// Does not block and does not write. A [`Delivery::Reliable`] frame that does not fit meets the policy of
    /// `overflow`; by default all that waited is freed, and the owner is told [`CloseReason::SlowConsumer`]; it may
    /// still say good-bye, with [`push_last`](Self::push_last).
    pub fn push(&self, frame: Frame, delivery: Delivery, overflow: Overflow) -> Pushed {
        let mut state = self.state();
        if state.phase != Phase::Open {
            return Pushed::Closed;
        }
        if delivery == Delivery::Volatile && state.readiness != Readiness::Ready {
            return Pushed::Dropped;
        }
        let overflow = if overflow == Overflow::Inherit { state.overflow } else { overflow };
        let displaced = match state.queue.admit(&frame, delivery, overflow, self.0.limit) {
            Admission::Admitted(displaced) => displaced,
            Admission::Refused => return Pushed::Dropped,
            Admission::Overflowed => {
                // The write half stays, so that a client which reads again hears why it was closed.
                state.phase = Phase::Overflowed;
                let spilled = std::mem::take(&mut state.queue);
                let owner = state.owner.take();
                drop(state);
                drop(spilled);
                wake(owner);
                return Pushed::Closed;
            }
        };
        state.queue.push_back(frame, delivery);
        self.unlock_and_enlist(state);
        if displaced == 0 { Pushed::Queued } else { Pushed::Displaced(displaced) }
    }

    /// What happens from now on to a frame that does not fit and was pushed with [`Overflow::Inherit`]
    pub fn set_overflow(&self, overflow: Overflow) {
        self.state().overflow = if overflow == Overflow::Inherit { Overflow::Close } else { overflow };
    }

    /// Puts a packet of the protocol itself, or an answer, behind what waits already
    pub fn push_protocol(&self, frame: Frame) -> Pushed {
        self.push(frame, Delivery::Protocol, Overflow::Close)
    }

    /// Puts the carrier's good-bye, such as a close frame, behind what waits already
    ///
    /// After an overflow, even of its own making, it is the one frame that is still taken, so a client that reads
    /// again hears why it was closed.
    pub fn push_last(&self, frame: Frame) -> Pushed {
        let pushed = self.push_protocol(frame.clone());
        if pushed != Pushed::Closed {
            return pushed;
        }
        let mut state = self.state();
        if state.phase != Phase::Overflowed || !state.queue.is_empty() {
            return Pushed::Closed;
        }
        state.queue.push_back(frame, Delivery::Protocol);
        self.unlock_and_enlist(state);
        Pushed::Queued
    }

    /// Gives the outbox the write half of a connection, in place of the one it had
    ///
    /// What waits flows to the new sink; a frame that the old one has taken counts as sent. If the old sink is
    /// leased at this moment the change happens when it comes back.
    pub fn set_sink(&self, sink: Box<dyn FrameSink>) {
        let mut state = self.state();
        let unused = if state.is_closed() {
            Some(sink)
        } else if state.leased {
            state.successor.replace(Box::new(sink)).map(|unused| *unused)
        } else {
            state.readiness = Readiness::Ready;
            state.sink.replace(sink)
        };
        self.unlock_and_enlist(state);
        drop(unused);
    }

    /// Takes the write half out, leaving the outbox without one; `None` while it is lent out or if there is none
    ///
    /// What waits stays. For a connection that proved itself and becomes the one that carries the session. If the
    /// sink is lent out, the owner is woken when it is back.
    pub fn take_sink(&self) -> Option<Box<dyn FrameSink>> {
        let mut state = self.state();
        if state.leased {
            state.owner_waits = true;
            return None;
        }
        state.readiness = Readiness::Parked;
        state.sink.take()
    }

    /// Lets the owner of the connection do its part: registers it to be woken, and writes if the sink was blocked
    ///
    /// Ready with the reason once the outbox overflowed or its sink broke. Call it whenever the owner runs; it is
    /// cheap when there is nothing to do.
    pub fn poll_owner(&self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        {
            let mut state = self.state();
            if let Some(reason) = state.phase.reason() {
                return Poll::Ready(reason);
            }
            if !state.owner.as_ref().is_some_and(|owner| owner.will_wake(cx.waker())) {
                state.owner = Some(cx.waker().clone());
            }
            if state.leased {
                state.owner_came = true;
                return Poll::Pending;
            }
            if state.readiness == Readiness::Ready || state.sink.is_none() {
                return Poll::Pending;
            }
        }
        let written = Lease::take(self, Writer::Owner).map_or_else(Written::default, |lease| lease.write(cx));
        if written.frames > 0 {
            self.0.flusher.record(written);
        }
        match self.state().phase.reason() {
            Some(reason) => Poll::Ready(reason),
            None => Poll::Pending,
        }
    }

    /// Takes in nothing more; what waits is still sent
    pub fn finish(&self) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Open | Phase::Overflowed) {
            state.phase = Phase::Finishing;
        }
    }

    /// Ready once all that waited was handed to the transport, or can no longer be
    pub fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_owner(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut state = self.state();
        let handed_over = state.queue.is_empty() && !state.leased && state.readiness != Readiness::Blocked;
        if handed_over {
            return Poll::Ready(());
        }
        // Whoever holds the sink, or takes it next, wakes the owner when it is back.
        state.owner = Some(cx.waker().clone());
        state.owner_waits = true;
        Poll::Pending
    }

    /// Closes at once: what waits is dropped, the sink too
    ///
    /// The first reason stays; later calls change nothing.
    pub fn close(&self, reason: CloseReason) {
        self.close_locked(self.state(), reason);
    }

    /// Why the outbox was closed, if it was
    pub fn closed(&self) -> Option<CloseReason> {
        self.state().phase.reason()
    }

    /// Whether there is nothing to write to until the owner is handed something
    pub fn is_parked(&self) -> bool {
        self.state().readiness == Readiness::Parked
    }

    /// What waits right now
    pub fn waiting(&self) -> Waiting {
        let state = self.state();
        Waiting { frames: state.queue.frames(), bytes: state.queue.bytes() }
    }

    /// Fetches what the next push or write looks at first, for a caller who is about to go through many
    ///
    /// In a broadcast to thousands most of the time goes by with waiting for the memory of each recipient. Asked for
    /// a few at a time it arrives side by side. Changes nothing.
    pub fn prefetch(&self) {
        #[cfg(not(loom))]
        std::hint::black_box(self.0.state.is_poisoned());
    }

    /// Writes what waits, on behalf of a flusher
    pub(crate) fn flush(&self) -> Written {
        Lease::take(self, Writer::Flusher).map_or_else(Written::default, |lease| lease.write(&mut no_one()))
    }

    /// Writes what waits in each of a few outboxes
    pub(crate) fn flush_group(group: &[Self]) -> Written {
        if let [alone] = group {
            return alone.flush();
        }
        debug_assert!(group.len() <= GROUP, "a group has a place for each");
        group.iter().for_each(Self::prefetch);
        let leases: [_; GROUP] =
            std::array::from_fn(|at| group.get(at).and_then(|outbox| Lease::take(outbox, Writer::Flusher)));
        leases.iter().flatten().for_each(Lease::prefetch);
        let mut written = Written::default();
        leases.into_iter().flatten().for_each(|lease| written += lease.write(&mut no_one()));
        written
    }

    /// Lets go of the lock, and puts the outbox on its list if there is something to write
    fn unlock_and_enlist(&self, mut state: MutexGuard<'_, State>) {
        let enlist = state.wants_flush();
        state.listed |= enlist;
        drop(state);
        if enlist {
            self.0.flusher.enlist(self.clone());
        }
    }

    fn close_locked(&self, mut state: MutexGuard<'_, State>, reason: CloseReason) {
        let spilled = state.close(reason);
        let owner = state.owner.take();
        drop(state);
        drop(spilled);
        wake(owner);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }
}

impl Phase {
    /// Why nothing is taken in any more, if that is the outbox's own doing
    fn reason(self) -> Option<CloseReason> {
        match self {
            Self::Open | Self::Finishing => None,
            Self::Overflowed => Some(CloseReason::SlowConsumer),
            Self::Closed(reason) => Some(reason),
        }
    }
}

impl State {
    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    /// Whether there is something to write, somebody to write it, and nobody who will do so anyway
    fn wants_flush(&self) -> bool {
        !self.queue.is_empty()
            && self.readiness == Readiness::Ready
            && self.sink.is_some()
            && !self.listed
            && !self.leased
    }

    /// Returns what must be dropped outside the lock
    fn close(&mut self, reason: CloseReason) -> Spilled {
        self.phase = Phase::Closed(self.phase.reason().unwrap_or(reason));
        Spilled {
            _queue: std::mem::take(&mut self.queue),
            _sinks: [self.sink.take(), self.successor.take().map(|sink| *sink)],
        }
    }
}

struct Spilled {
    _queue: Queue,
    _sinks: [Option<Box<dyn FrameSink>>; 2],
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The context of a flusher, which asks again by way of the owner
fn no_one() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
