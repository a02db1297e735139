//! The queue of what a client is to be sent, and the owner of its write half

mod bounds;
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
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

pub use self::bounds::Bounds;
pub use self::flush::{Backlog, FlushList, Relay, Written};
use self::lease::{Lease, Writer};
pub use self::policy::{Delivery, Overflow, Pushed, Waiting};
use self::queue::{Admission, Queue};
pub use self::sink::{FrameSink, Readiness};
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
pub struct Outbox(Arc<Inner>);

struct Inner {
    bounds: Bounds,
    flusher: FlushList,
    state: Mutex<State>,
}

struct State {
    queue: Queue,
    /// The heartbeat that waits, ahead of the queue
    heartbeat: Option<Frame>,
    sink: Option<Box<dyn FrameSink>>,
    rare: Option<Box<Rare>>,
    owner: Option<Waker>,
    /// Orders outboxes by their last progress, see [`Standing::order`]
    order: u32,
    /// The owner came while the sink was lent out, perhaps with something to write to
    owner_came: bool,
    /// The owner waits for the sink to be brought back
    owner_waits: bool,
    phase: Phase,
    overflow: Overflow,
    readiness: Readiness,
    listed: bool,
    leased: bool,
    /// A pusher found the sink leased and the backlog at high water: the lease ends after its batch
    wanted: bool,
    /// The owner knows that more than the limit waits
    over_limit: bool,
    /// The owner has seen no progress for a while
    stalled: bool,
    /// A writer has the heartbeat in hand
    heartbeat_leased: bool,
    /// Nothing is written until the [`Hold`] ends
    held: bool,
}

/// Parts of the state that few outboxes have at a time
#[derive(Default)]
struct Rare {
    /// A new write half, until the old one is brought back
    successor: Option<Box<dyn FrameSink>>,
    /// Senders that wait until the outbox is below low water
    senders: Vec<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The client was given up: what waited is gone, and only a goodbye is still taken
    GivenUp(CloseReason),
    /// Nothing more is taken in; what waits is still sent
    Finishing,
    /// What waited is gone
    Closed(CloseReason),
}

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

/// How many outboxes are fetched side by side, before the first of them is written
pub(crate) const GROUP: usize = if cfg!(loom) { 2 } else { 16 };

/// Counts the times at which an outbox stalled, in place of a clock
static STALLS: AtomicU32 = AtomicU32::new(0);

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

    /// Writes the backlog on behalf of a pusher, until nothing waits or the carrier refuses more.
    ///
    /// To be called once no lock is held, after [`Pushed::Backlogged`]: whoever makes the backlog pays for it. If
    /// another writer has the sink, it is asked to hand it over after its batch; the result is `false` then, and the
    /// backlog stands. Otherwise `true`, also while the outbox is [held](Self::hold): the flusher writes after the hold.
    pub fn relieve(&self) -> bool {
        match Lease::take(self, Writer::Pusher) {
            Ok(lease) => {
                self.0.flusher.record(lease.write(&mut no_one()));
                true
            }
            Err(leased) => !leased,
        }
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

    /// Returns what waits right now.
    pub fn waiting(&self) -> Waiting {
        let state = self.state();
        Waiting { frames: state.queue.frames(), bytes: state.queue.bytes() }
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

    /// Fetches what the next push or write looks at first, for a caller who is about to go through many.
    ///
    /// In a broadcast to thousands most of the time goes by with waiting for the memory of each recipient. Asked for
    /// a few at a time it arrives side by side. Changes nothing.
    pub fn prefetch(&self) {
        #[cfg(not(loom))]
        std::hint::black_box(self.0.state.is_poisoned());
    }

    /// Writes what waits, on behalf of a flusher
    pub(crate) fn flush(&self) -> Written {
        Lease::take(self, Writer::Flusher)
            .map_or_else(|_| Written::default(), |lease| lease.write(&mut no_one()))
    }

    /// Writes what waits in each of a few outboxes
    pub(crate) fn flush_group(group: &[Self]) -> Written {
        if let [alone] = group {
            return alone.flush();
        }
        debug_assert!(group.len() <= GROUP, "a group has a place for each");
        group.iter().for_each(Self::prefetch);
        let leases: [_; GROUP] = std::array::from_fn(|at| {
            group.get(at).and_then(|outbox| Lease::take(outbox, Writer::Flusher).ok())
        });
        leases.iter().flatten().for_each(Lease::prefetch);
        let mut written = Written::default();
        leases.into_iter().flatten().for_each(|lease| written += lease.write(&mut no_one()));
        written
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

    fn close_locked(&self, mut state: MutexGuard<'_, State>, reason: CloseReason) {
        let spilled = state.close(reason);
        let (owner, senders) = (state.owner.take(), state.take_senders());
        drop(state);
        drop(spilled);
        wake(owner);
        senders.into_iter().for_each(Waker::wake);
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
            Self::GivenUp(reason) | Self::Closed(reason) => Some(reason),
        }
    }
}

impl State {
    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    fn has_frames(&self) -> bool {
        !self.queue.is_empty() || self.heartbeat.is_some()
    }

    /// Whether there is something to write, somebody to write it, and nobody who will do so anyway
    #[inline]
    fn wants_flush(&self) -> bool {
        self.has_frames()
            && self.readiness == Readiness::Ready
            && self.sink.is_some()
            && !self.listed
            && !self.leased
            && !self.held
    }

    /// Notes whether the carrier takes more, and whether it has just taken something
    fn set_readiness(&mut self, readiness: Readiness, moved: bool) {
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

    fn take_senders(&mut self) -> Vec<Waker> {
        let Some(rare) = &mut self.rare else { return Vec::new() };
        let senders = std::mem::take(&mut rare.senders);
        if rare.successor.is_none() {
            self.rare = None;
        }
        senders
    }

    fn take_successor(&mut self) -> Option<Box<dyn FrameSink>> {
        let rare = self.rare.as_mut()?;
        let successor = rare.successor.take();
        if rare.senders.is_empty() {
            self.rare = None;
        }
        successor
    }

    /// Returns what must be dropped outside the lock
    fn close(&mut self, reason: CloseReason) -> Spilled {
        self.phase = Phase::Closed(self.phase.reason().unwrap_or(reason));
        Spilled {
            _queue: std::mem::take(&mut self.queue),
            _heartbeat: self.heartbeat.take(),
            _sinks: [self.sink.take(), self.take_successor()],
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

struct Spilled {
    _queue: Queue,
    _heartbeat: Option<Frame>,
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
