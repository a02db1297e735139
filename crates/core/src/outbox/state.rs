//! State of an outbox and of its flush list, which refer to each other.

use std::collections::VecDeque;
use std::fmt;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::Waker;

use super::bounds::Bounds;
use super::policy::{Overflow, QueueDepth};
use super::queue::Queue;
use super::sink::{FrameSink, Readiness};
use crate::prefetch::{LINE, prefetch_line};
use crate::sync::{Arc, Mutex, MutexGuard, lock};
use crate::{CloseReason, Frame};

/// Bounded queue of the frames for one client; it also holds the write half of the connection.
///
/// All frames for the client pass through it in one order: broadcasts, replies, heartbeats, pongs, the close frame.
/// [`push`](Self::push) may be called from any thread; it never blocks, writes or runs callbacks. A writer (a flusher,
/// a pusher, or the task that owns the connection) first *leases* the [`FrameSink`] from the outbox. So two writers
/// never interleave inside a frame, and no lock is held during a system call.
///
/// An outbox with queued frames and a writable sink enters itself in its [`FlushList`], once. The task that owns the
/// connection is woken only when the sink is blocked or broken, the limit is exceeded, or the outbox is closed.
///
/// # Flow control
///
/// Queued bytes are either backlog or stalled. While the sink is [`Ready`](Readiness::Ready) they are *backlog*: not
/// yet offered to the carrier, which is the server's debt. Otherwise they are *stalled*: the carrier refused them or is
/// absent, which is the client's debt. Backlog causes backpressure: from high water on (64 KiB or 256 frames) a push
/// returns [`PushOutcome::Backlogged`](crate::PushOutcome::Backlogged), and the pusher [flushes](Self::flush_backlog) the outbox by
/// writing itself. Stalled bytes are queued up to the hard cap. The owner has the clock, and calls
/// [`evict`](Self::evict) when the client has stalled for too long. A push closes a client only at the hard cap.
///
/// Clones are handles to the same outbox.
#[derive(Clone)]
pub struct Outbox(pub(super) Handle<Inner>);

// A broadcast fetches each outbox twice, at the push and at the write. What a push uses comes first: a frame that extends
// a range touches the 104 bytes from `bounds` to `queue`. What only a write uses follows.
#[repr(C)]
pub(super) struct Inner {
    pub(super) bounds: Bounds,
    pub(super) flusher: FlushList,
    pub(super) state: Mutex<State>,
}

#[repr(C)]
pub(super) struct State {
    /// Sequence number of the last progress, see [`OutboxStatus::order`].
    pub(super) order: u32,
    /// The owner attended while the sink was leased, possibly because a parked sink became writable.
    pub(super) owner_polled: bool,
    /// The owner waits for the end of the lease.
    pub(super) owner_waiting: bool,
    pub(super) phase: Phase,
    pub(super) overflow: Overflow,
    pub(super) readiness: Readiness,
    pub(super) listed: bool,
    pub(super) leased: bool,
    /// A pusher found the sink leased and the backlog at high water; the lease ends after its batch.
    pub(super) wanted: bool,
    /// The sink is new and [holds bytes](FrameSink::has_unsent), which no writer has started to send.
    pub(super) unsent: bool,
    /// The owner was notified that the limit is exceeded.
    pub(super) over_limit: bool,
    /// The owner reported no progress.
    pub(super) stalled: bool,
    /// A heartbeat is in flight.
    pub(super) heartbeat_leased: bool,
    /// Flushers and pushers do not write until the [`Hold`] ends.
    pub(super) held: bool,
    pub(super) queue: Queue,
    pub(super) sink: Option<Box<dyn FrameSink>>,
    /// Pending heartbeat, sent before the queue.
    pub(super) heartbeat: Option<Frame>,
    pub(super) rare: Option<Box<Rare>>,
    // Not read by a broadcast.
    pub(super) owner: Option<Waker>,
}

/// Reference-counted pointer to an outbox, without a count of weak references.
#[cfg(not(loom))]
pub(super) type Handle<T> = triomphe::Arc<T>;
#[cfg(loom)]
pub(super) type Handle<T> = Arc<T>;

/// Size of the reference count, which precedes the value.
const COUNT: usize = size_of::<usize>();
/// Bytes of an outbox that a broadcast uses, with the reference count.
const HOT: usize = COUNT + size_of::<Inner>() - (size_of::<State>() - offset_of!(State, owner));

// Blocks of memory are aligned to 16 bytes, so these bytes are in three cache lines, wherever the first one begins.
#[cfg(all(target_os = "linux", target_pointer_width = "64", not(loom)))]
const _: () = assert!(HOT <= 2 * LINE + 16, "a broadcast would fetch a fourth line of each outbox");

/// Parts of the state that few outboxes need at a time.
#[derive(Default)]
pub(super) struct Rare {
    /// New write half that replaces the leased one when the lease ends.
    pub(super) successor: Option<Box<dyn FrameSink>>,
    /// Senders that wait for low water.
    pub(super) senders: Vec<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// The client was given up: the queue was freed, and only a final frame is accepted.
    Evicted(CloseReason),
    /// New frames are rejected; queued frames are still sent.
    Finishing,
    /// The queue and the sink were dropped.
    Closed(CloseReason),
}

/// List of outboxes that have something to write.
///
/// Each thread or worker that carries connections has its own list. An [`Outbox`] is created with its list and enters
/// itself when it has something to write. The task that drives the list's [`Flusher`](crate::Flusher) takes the whole
/// list at once. All frames queued for a client leave in one system call, and a broadcast wakes one task instead of
/// one per recipient.
///
/// Clones are handles to the same list.
#[derive(Clone, Default)]
pub struct FlushList(pub(super) Arc<Shared>);

#[derive(Default)]
pub(super) struct Shared {
    pub(super) listed: Mutex<Listed>,
    pub(super) written: Counters,
}

#[derive(Default)]
pub(super) struct Listed {
    pub(super) outboxes: VecDeque<Outbox>,
    pub(super) flusher: Option<Waker>,
    /// The sleeping flusher, if another list has to wake it; see [`DeferredWakes`](super::DeferredWakes).
    pub(super) deferred: Option<Deferred>,
    /// Flushers of other lists that this list's flusher has to wake.
    pub(super) pending_wakers: Vec<Waker>,
    /// A backlog has to be written without delay.
    pub(super) urgent: bool,
}

/// Deferred wake-up of a flusher; threads that do not defer wake-ups still wake it directly.
pub(super) struct Deferred {
    pub(super) flusher: Waker,
    /// Number of the list that delivers the wake-up; `None` once a second list delivers it too.
    pub(super) by: Option<usize>,
}

// On a separate cache line: the counters are written once per round, the adjacent lock at every push.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Counters {
    pub(super) frames: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// Counter of stalls, used as a clock for [`State::order`].
static STALLS: AtomicU32 = AtomicU32::new(0);

impl Outbox {
    /// Returns the number of queued frames and bytes, without those in flight.
    pub fn waiting(&self) -> QueueDepth {
        let state = self.state();
        QueueDepth { frames: state.queue.frames(), bytes: state.queue.bytes() }
    }

    /// Prefetches the memory that the next push or write reads first.
    ///
    /// In a broadcast to thousands of recipients, cache misses on each outbox take most of the time. Prefetching each a
    /// few recipients early makes the misses overlap. Changes nothing.
    #[inline]
    pub fn prefetch(&self) {
        let start = std::ptr::from_ref(&*self.0).addr() - COUNT;
        (0..HOT.div_ceil(LINE)).for_each(|line| prefetch_line(start + line * LINE));
    }

    pub(super) fn close_locked(&self, mut state: MutexGuard<'_, State>, reason: CloseReason) {
        let discarded = state.close(reason);
        let (owner, senders) = (state.owner.take(), state.take_senders());
        drop(state);
        drop(discarded);
        wake(owner);
        senders.into_iter().for_each(Waker::wake);
    }

    #[inline]
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }
}

impl Phase {
    /// Returns the close reason, if the outbox was closed or given up.
    #[inline]
    pub(super) fn reason(self) -> Option<CloseReason> {
        match self {
            Self::Open | Self::Finishing => None,
            Self::Evicted(reason) | Self::Closed(reason) => Some(reason),
        }
    }
}

impl State {
    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    /// Returns whether there is something to write: frames, or bytes of a new sink.
    #[inline]
    pub(super) fn has_frames(&self) -> bool {
        !self.queue.is_empty() || self.heartbeat.is_some() || self.unsent
    }

    /// Records that `sink` is the one to write to from now on.
    pub(super) fn begin_sink(&mut self, sink: &dyn FrameSink) {
        self.unsent = sink.has_unsent();
        self.set_readiness(Readiness::Ready, false);
    }

    /// Returns whether the outbox has frames and a writable sink, and no writer is due yet.
    #[inline]
    pub(super) fn wants_flush(&self) -> bool {
        self.has_frames()
            && self.readiness == Readiness::Ready
            && self.sink.is_some()
            && !self.listed
            && !self.leased
            && !self.held
    }

    /// Sets whether the carrier accepts more; `moved` says that it has just accepted something.
    pub(super) fn set_readiness(&mut self, readiness: Readiness, moved: bool) {
        let stalls = readiness != Readiness::Ready;
        if stalls && (moved || self.readiness == Readiness::Ready) {
            self.order = STALLS.fetch_add(1, Ordering::Relaxed);
        }
        if !stalls || moved {
            self.stalled = false;
        }
        if !stalls {
            self.over_limit = false;
        }
        self.readiness = readiness;
    }

    pub(super) fn take_senders(&mut self) -> Vec<Waker> {
        let Some(rare) = &mut self.rare else { return Vec::new() };
        let senders = std::mem::take(&mut rare.senders);
        if rare.successor.is_none() {
            self.rare = None;
        }
        senders
    }

    pub(super) fn take_successor(&mut self) -> Option<Box<dyn FrameSink>> {
        let rare = self.rare.as_mut()?;
        let successor = rare.successor.take();
        if rare.senders.is_empty() {
            self.rare = None;
        }
        successor
    }

    /// Closes the outbox; returns the values to drop outside the lock.
    ///
    /// Boxed, so that a write which closes nothing checks one pointer.
    pub(super) fn close(&mut self, reason: CloseReason) -> Box<Discarded> {
        self.phase = Phase::Closed(self.phase.reason().unwrap_or(reason));
        Box::new(Discarded {
            _queue: std::mem::take(&mut self.queue),
            _heartbeat: self.heartbeat.take(),
            _sinks: [self.sink.take(), self.take_successor()],
        })
    }
}

/// Values to drop outside the lock.
pub(super) struct Discarded {
    _queue: Queue,
    _heartbeat: Option<Frame>,
    _sinks: [Option<Box<dyn FrameSink>>; 2],
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

pub(super) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
