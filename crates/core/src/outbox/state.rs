//! State of an outbox and of its flush list, which refer to each other

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::Waker;

use super::bounds::Bounds;
use super::policy::{Overflow, Waiting};
use super::queue::Queue;
use super::sink::{FrameSink, Readiness};
use crate::sync::{Arc, Mutex, MutexGuard, lock};
use crate::{CloseReason, Frame};

/// Queue of the frames for one client, and the lease on its write half.
///
/// Everything that goes to the client goes through here, in one order: broadcasts, replies, heartbeats, pongs,
/// the close frame. [`push`](Self::push) may be called from any thread; it never blocks, never writes and never
/// calls back. A writer (a flusher, a pusher, or the task that owns the connection) first *leases* the
/// [`FrameSink`] out of the outbox, so two writers can never interleave inside a frame, and no lock is held
/// during a system call.
///
/// An outbox that got something to send and whose sink can take it puts itself on its [`FlushList`], once. The
/// task that owns the connection is woken only when the sink is blocked or broken, or the outbox needs its decision.
///
/// # Flow control
///
/// Bytes that wait are one of two debts. While the sink is [`Ready`](Readiness::Ready) they are *backlog*: nobody has
/// tried to write them, which is the server's debt. Otherwise they are *stalled*: the carrier refused them, or there is
/// none, which is the client's debt. Backlog slows senders: from high water on (64 KiB or 256 frames) a pusher is told
/// to [`relieve`](Self::relieve) the outbox, that is to write itself. Stalled bytes are queued up to the hard cap, and
/// the owner, who has a clock, decides with [`give_up`](Self::give_up) whether the client has stalled for too long.
/// The hard cap alone closes a client at a push.
///
/// Cloning gives another handle to the same outbox.
#[derive(Clone)]
pub struct Outbox(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) bounds: Bounds,
    pub(super) flusher: FlushList,
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    pub(super) queue: Queue,
    /// The heartbeat that waits, ahead of the queue
    pub(super) heartbeat: Option<Frame>,
    pub(super) sink: Option<Box<dyn FrameSink>>,
    pub(super) rare: Option<Box<Rare>>,
    pub(super) owner: Option<Waker>,
    /// Orders outboxes by their last progress, see [`Standing::order`]
    pub(super) order: u32,
    /// The owner came while the sink was lent out, perhaps with something to write to
    pub(super) owner_came: bool,
    /// The owner waits for the sink to be brought back
    pub(super) owner_waits: bool,
    pub(super) phase: Phase,
    pub(super) overflow: Overflow,
    pub(super) readiness: Readiness,
    pub(super) listed: bool,
    pub(super) leased: bool,
    /// A pusher found the sink leased and the backlog at high water: the lease ends after its batch
    pub(super) wanted: bool,
    /// The owner knows that more than the limit waits
    pub(super) over_limit: bool,
    /// The owner has seen no progress for a while
    pub(super) stalled: bool,
    /// A writer has the heartbeat in hand
    pub(super) heartbeat_leased: bool,
    /// Nothing is written until the [`Hold`] ends
    pub(super) held: bool,
}

/// Parts of the state that few outboxes have at a time
#[derive(Default)]
pub(super) struct Rare {
    /// A new write half, until the old one is brought back
    pub(super) successor: Option<Box<dyn FrameSink>>,
    /// Senders that wait until the outbox is below low water
    pub(super) senders: Vec<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// The client was given up: what waited is gone, and only a goodbye is still taken
    GivenUp(CloseReason),
    /// Nothing more is taken in; what waits is still sent
    Finishing,
    /// What waited is gone
    Closed(CloseReason),
}

/// List of the outboxes that have something to write.
///
/// One for each thread or worker that carries connections. Every [`Outbox`] is created with the list on which it puts
/// itself when it has something to write. The task that drives the list's [`Flusher`](crate::Flusher) takes the whole
/// list at once: all that waits for a client leaves in one system call, and a broadcast wakes one task instead of one
/// for each recipient.
///
/// Cloning gives another handle to the same list.
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
    /// The flusher while it sleeps and another list is to wake it, see [`DeferredWakes`](super::DeferredWakes)
    pub(super) deferred: Option<Deferred>,
    /// Flushers of other lists that this list's flusher has to wake
    pub(super) pending_wakers: Vec<Waker>,
    /// Set if a backlog must not wait
    pub(super) urgent: bool,
}

/// Deferred wake-up of a flusher; threads that do not defer wake it directly
pub(super) struct Deferred {
    pub(super) flusher: Waker,
    /// Number of the list that delivers the wake-up; `None` once a second list does too
    pub(super) by: Option<usize>,
}

// On a line of their own: they are written once a round, the lock beside them at every push.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Counters {
    pub(super) frames: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// Counts the times at which an outbox stalled, in place of a clock
static STALLS: AtomicU32 = AtomicU32::new(0);

impl Outbox {
    /// Returns what waits right now.
    pub fn waiting(&self) -> Waiting {
        let state = self.state();
        Waiting { frames: state.queue.frames(), bytes: state.queue.bytes() }
    }

    /// Fetches what the next push or write looks at first, for a caller who is about to go through many.
    ///
    /// In a broadcast to thousands most of the time goes by with waiting for the memory of each recipient. Asked for
    /// a few at a time it arrives side by side. Changes nothing.
    pub fn prefetch(&self) {
        #[cfg(not(loom))]
        std::hint::black_box(self.0.state.is_poisoned());
    }

    pub(super) fn close_locked(&self, mut state: MutexGuard<'_, State>, reason: CloseReason) {
        let spilled = state.close(reason);
        let (owner, senders) = (state.owner.take(), state.take_senders());
        drop(state);
        drop(spilled);
        wake(owner);
        senders.into_iter().for_each(Waker::wake);
    }

    #[inline]
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }
}

impl Phase {
    /// Why nothing is taken in any more, if that is the outbox's own doing
    #[inline]
    pub(super) fn reason(self) -> Option<CloseReason> {
        match self {
            Self::Open | Self::Finishing => None,
            Self::GivenUp(reason) | Self::Closed(reason) => Some(reason),
        }
    }
}

impl State {
    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    #[inline]
    pub(super) fn has_frames(&self) -> bool {
        !self.queue.is_empty() || self.heartbeat.is_some()
    }

    /// Whether there is something to write, somebody to write it, and nobody who will do so anyway
    #[inline]
    pub(super) fn wants_flush(&self) -> bool {
        self.has_frames()
            && self.readiness == Readiness::Ready
            && self.sink.is_some()
            && !self.listed
            && !self.leased
            && !self.held
    }

    /// Notes whether the carrier takes more, and whether it has just taken something
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

    /// Returns what must be dropped outside the lock
    ///
    /// Boxed, so that a write which closes nothing has one pointer to look at.
    pub(super) fn close(&mut self, reason: CloseReason) -> Box<Spilled> {
        self.phase = Phase::Closed(self.phase.reason().unwrap_or(reason));
        Box::new(Spilled {
            _queue: std::mem::take(&mut self.queue),
            _heartbeat: self.heartbeat.take(),
            _sinks: [self.sink.take(), self.take_successor()],
        })
    }
}

/// Values to drop outside the lock
pub(super) struct Spilled {
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
