//! The one queue of what a client is to be sent, and the one owner of its write half

mod flush;
#[cfg(all(test, loom))]
mod loom;
#[cfg(all(test, not(loom)))]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll, Waker};

pub use self::flush::{FlushList, Written};
use crate::sync::{Arc, Mutex, MutexGuard, lock};
use crate::{CloseReason, ConnectionError, Frame};

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
    // The first frame lies here and only those behind it in the ring, so that a client that keeps up never
    // needs the ring's memory. Invariant: `head` is `None` only if `tail` is empty.
    head: Option<Entry>,
    tail: VecDeque<Entry>,
    bytes: usize,
    sink: Option<Box<dyn FrameSink>>,
    successor: Option<Box<dyn FrameSink>>,
    owner: Option<Waker>,
    phase: Phase,
    overflow: Overflow,
    readiness: Readiness,
    listed: bool,
    leased: bool,
}

struct Entry {
    frame: Frame,
    delivery: Delivery,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nothing more is taken in; what waits is still sent
    Finishing,
    /// What waited is gone
    Closed(CloseReason),
}

/// What an entry costs besides its bytes, so that empty messages are bounded too
const ENTRY_COST: usize = 64;
/// How far protocol packets may go past the limit before the client counts as one that does not read
const PROTOCOL_RESERVE: usize = 64 * 1024;
/// How much one lease takes out of the queue at a time
const BATCH_FRAMES: usize = 64;
const BATCH_BYTES: usize = 256 * 1024;
/// How many batches one visit of a flusher may write before the next outbox has its turn
const BATCHES_PER_VISIT: usize = 16;
/// Ring capacity that an outbox keeps once it has drained; a larger one is given back
const KEPT_CAPACITY: usize = 16;

impl Outbox {
    /// Makes an empty outbox without a sink
    ///
    /// `limit` is in bytes: bodies plus 64 for each frame. One frame is always taken when nothing waits, however
    /// large, so a limit below the size of a message does not make that message undeliverable.
    pub fn new(limit: usize, flusher: FlushList) -> Self {
        let state = State {
            head: None,
            tail: VecDeque::new(),
            bytes: 0,
            sink: None,
            successor: None,
            owner: None,
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
    /// `overflow`; by default the outbox is closed with [`CloseReason::SlowConsumer`] and all that waited is freed.
    pub fn push(&self, frame: Frame, delivery: Delivery, overflow: Overflow) -> Pushed {
        let mut state = self.state();
        if state.phase != Phase::Open {
            return Pushed::Closed;
        }
        let cost = cost(&frame);
        let overflow = if overflow == Overflow::Inherit { state.overflow } else { overflow };
        let mut displaced = 0;
        if overflow == Overflow::KeepLatest && state.head.is_some() {
            displaced += state.remove_keyed(&frame);
        }
        let full = state.bytes != 0 && state.bytes + cost > self.0.limit;
        match delivery {
            Delivery::Volatile if full || state.readiness != Readiness::Ready => return Pushed::Dropped,
            Delivery::Protocol if state.bytes + cost <= self.0.limit + PROTOCOL_RESERVE => {}
            Delivery::Reliable if full && overflow != Overflow::Close => {
                if overflow == Overflow::DropOldest {
                    displaced += state.remove_oldest(cost, self.0.limit);
                }
                if state.bytes != 0 && state.bytes + cost > self.0.limit {
                    return Pushed::Dropped;
                }
            }
            Delivery::Reliable | Delivery::Protocol if full => {
                let spilled = state.close(CloseReason::SlowConsumer);
                let owner = state.owner.take();
                drop(state);
                drop(spilled);
                wake(owner);
                return Pushed::Closed;
            }
            _ => {}
        }
        state.push_back(Entry { frame, delivery });
        if state.wants_flush() {
            state.listed = true;
            drop(state);
            self.0.flusher.enlist(self.clone());
        }
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

    /// Gives the outbox the write half of a connection, in place of the one it had
    ///
    /// What waits flows to the new sink; a frame that the old one has taken counts as sent. If the old sink is
    /// leased at this moment the change happens when it comes back.
    pub fn set_sink(&self, sink: Box<dyn FrameSink>) {
        let mut state = self.state();
        let previous = if state.leased {
            state.successor.replace(sink)
        } else {
            state.readiness = Readiness::Ready;
            state.sink.replace(sink)
        };
        let enlist = state.wants_flush();
        state.listed |= enlist;
        drop(state);
        drop(previous);
        if enlist {
            self.0.flusher.enlist(self.clone());
        }
    }

    /// Takes the write half out, leaving the outbox without one; `None` while it is leased or if there is none
    ///
    /// What waits stays. For a connection that proved itself and becomes the one that carries the session.
    pub fn take_sink(&self) -> Option<Box<dyn FrameSink>> {
        let mut state = self.state();
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
            if let Phase::Closed(reason) = state.phase {
                return Poll::Ready(reason);
            }
            if !state.owner.as_ref().is_some_and(|owner| owner.will_wake(cx.waker())) {
                state.owner = Some(cx.waker().clone());
            }
            if state.readiness == Readiness::Ready || state.leased || state.sink.is_none() {
                return Poll::Pending;
            }
        }
        let written = self.write(cx, Writer::Owner);
        if written.frames > 0 {
            self.0.flusher.record(written);
        }
        match self.state().phase {
            Phase::Closed(reason) => Poll::Ready(reason),
            _ => Poll::Pending,
        }
    }

    /// Takes in nothing more; what waits is still sent
    pub fn finish(&self) {
        let mut state = self.state();
        if state.phase == Phase::Open {
            state.phase = Phase::Finishing;
        }
    }

    /// Ready once all that waited was handed to the transport, or can no longer be
    pub fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_owner(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut state = self.state();
        let handed_over = state.head.is_none() && !state.leased && state.readiness != Readiness::Blocked;
        if handed_over {
            return Poll::Ready(());
        }
        // A flusher may hold the lease right now; it wakes the owner when it brings the sink back.
        state.owner = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Closes at once: what waits is dropped, the sink too
    ///
    /// The first reason stays; later calls change nothing.
    pub fn close(&self, reason: CloseReason) {
        let mut state = self.state();
        let spilled = state.close(reason);
        let owner = state.owner.take();
        drop(state);
        drop(spilled);
        wake(owner);
    }

    /// Why the outbox was closed, if it was
    pub fn closed(&self) -> Option<CloseReason> {
        match self.state().phase {
            Phase::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether there is nothing to write to until the owner is handed something
    pub fn is_parked(&self) -> bool {
        self.state().readiness == Readiness::Parked
    }

    /// What waits right now
    pub fn waiting(&self) -> Waiting {
        let state = self.state();
        Waiting { frames: usize::from(state.head.is_some()) + state.tail.len(), bytes: state.bytes }
    }

    /// Writes what waits, on behalf of a flusher
    pub(crate) fn flush(&self) -> Written {
        self.write(&mut Context::from_waker(Waker::noop()), Writer::Flusher)
    }

    fn write(&self, cx: &mut Context<'_>, writer: Writer) -> Written {
        let mut written = Written::default();
        let Some((mut sink, mut batch, mut bytes)) = self.lease(writer) else { return written };
        for _ in 0..BATCHES_PER_VISIT {
            let frames = batch.len();
            // From here to the next lock the sink is ours alone, and no lock is held.
            let outcome = sink.poll_send(cx, &mut batch);
            let unsent = !batch.is_empty();
            written.frames += frames.saturating_sub(batch.len()) as u64;
            written.bytes += bytes.saturating_sub(batch.iter().map(Frame::len).sum()) as u64;
            let mut state = self.state();
            state.put_back(&mut batch);
            if let Some(successor) = state.successor.take() {
                sink = successor;
                state.readiness = Readiness::Ready;
                bytes = state.take_batch(&mut batch);
                if !batch.is_empty() {
                    continue;
                }
            } else {
                match outcome {
                    Ok(Readiness::Ready) if unsent => debug_assert!(false, "a ready sink leaves nothing"),
                    Ok(Readiness::Ready) => {
                        state.readiness = Readiness::Ready;
                        bytes = state.take_batch(&mut batch);
                        if !batch.is_empty() {
                            continue;
                        }
                    }
                    Ok(blocked) => state.readiness = blocked,
                    Err(error) => {
                        let spilled = state.close(error.reason());
                        let owner = state.end_lease(None);
                        drop(state);
                        drop((spilled, sink));
                        wake(owner);
                        recycle(batch);
                        return written;
                    }
                }
            }
            self.bring_back(state, sink, writer);
            recycle(batch);
            return written;
        }
        let mut state = self.state();
        state.put_back(&mut batch);
        self.bring_back(state, sink, writer);
        recycle(batch);
        written
    }

    fn lease(&self, writer: Writer) -> Option<(Box<dyn FrameSink>, VecDeque<Frame>, usize)> {
        let mut state = self.state();
        if writer == Writer::Flusher {
            state.listed = false;
            // Blocked: the owner waits for the socket, and writes when it has room.
            if state.readiness != Readiness::Ready || state.head.is_none() {
                return None;
            }
        }
        if state.leased {
            return None;
        }
        let sink = state.sink.take()?;
        state.leased = true;
        let mut batch = spare_batch();
        let bytes = state.take_batch(&mut batch);
        Some((sink, batch, bytes))
    }

    fn bring_back(&self, mut state: MutexGuard<'_, State>, sink: Box<dyn FrameSink>, writer: Writer) {
        let blocked = state.readiness == Readiness::Blocked;
        let owner = state.end_lease(Some(sink));
        let enlist = state.wants_flush();
        state.listed |= enlist;
        let unused = state.sink.is_none();
        let owner = if blocked && writer == Writer::Flusher || state.phase != Phase::Open || unused {
            owner
        } else {
            state.owner = owner;
            None
        };
        drop(state);
        wake(owner);
        if enlist {
            self.0.flusher.enlist(self.clone());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }
}

impl State {
    fn push_back(&mut self, entry: Entry) {
        self.bytes += cost(&entry.frame);
        if self.head.is_none() {
            self.head = Some(entry);
        } else {
            self.tail.push_back(entry);
        }
    }

    /// Removes what waits under the same key as `frame`; tells how many there were
    fn remove_keyed(&mut self, frame: &Frame) -> u32 {
        let Some(key) = frame.key() else { return 0 };
        self.remove(|entry, _| entry.delivery != Delivery::Protocol && entry.frame.key() == Some(key))
    }

    /// Removes from the front until `cost` fits under `limit`, as far as that is allowed
    fn remove_oldest(&mut self, cost: usize, limit: usize) -> u32 {
        self.remove(|entry, bytes| entry.delivery != Delivery::Protocol && bytes + cost > limit)
    }

    fn remove(&mut self, mut unwanted: impl FnMut(&Entry, usize) -> bool) -> u32 {
        let mut removed = 0;
        let mut bytes = self.bytes;
        let mut keep = |entry: &Entry| {
            let goes = unwanted(entry, bytes);
            if goes {
                removed += 1;
                bytes -= cost(&entry.frame);
            }
            !goes
        };
        if self.head.as_ref().is_some_and(|head| !keep(head)) {
            self.head = None;
        }
        self.tail.retain(keep);
        if self.head.is_none() {
            self.head = self.tail.pop_front();
        }
        self.bytes = bytes;
        removed
    }

    /// Whether there is something to write, somebody to write it, and nobody who will do so anyway
    fn wants_flush(&self) -> bool {
        self.head.is_some()
            && self.readiness == Readiness::Ready
            && self.sink.is_some()
            && !self.listed
            && !self.leased
    }

    /// Moves the next frames into `batch`; tells how many bytes that is
    fn take_batch(&mut self, batch: &mut VecDeque<Frame>) -> usize {
        let mut taken = 0;
        while batch.len() < BATCH_FRAMES && taken < BATCH_BYTES {
            let Some(entry) = self.head.take() else { break };
            self.head = self.tail.pop_front();
            taken += entry.frame.len();
            self.bytes -= cost(&entry.frame);
            batch.push_back(entry.frame);
        }
        if self.head.is_none() && self.tail.capacity() > KEPT_CAPACITY {
            self.tail = VecDeque::new();
        }
        taken
    }

    /// Puts what the sink left back to the front, in its order
    fn put_back(&mut self, batch: &mut VecDeque<Frame>) {
        if matches!(self.phase, Phase::Closed(_)) {
            batch.clear();
        }
        while let Some(frame) = batch.pop_back() {
            self.bytes += cost(&frame);
            // It was on its way out: as good as sent, so no policy takes it back.
            let entry = Entry { frame, delivery: Delivery::Protocol };
            if let Some(second) = self.head.replace(entry) {
                self.tail.push_front(second);
            }
        }
    }

    /// Returns what must be dropped outside the lock
    fn close(&mut self, reason: CloseReason) -> Spilled {
        if !matches!(self.phase, Phase::Closed(_)) {
            self.phase = Phase::Closed(reason);
        }
        self.bytes = 0;
        Spilled {
            _frames: (self.head.take(), std::mem::take(&mut self.tail)),
            _sinks: [self.sink.take(), self.successor.take()],
        }
    }

    fn end_lease(&mut self, sink: Option<Box<dyn FrameSink>>) -> Option<Waker> {
        self.leased = false;
        // Closed while the sink was out: it has no place to come back to.
        self.sink = sink.filter(|_| !matches!(self.phase, Phase::Closed(_)));
        self.owner.take()
    }
}

struct Spilled {
    _frames: (Option<Entry>, VecDeque<Entry>),
    _sinks: [Option<Box<dyn FrameSink>>; 2],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    Flusher,
    Owner,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

/// The write half of a connection
///
/// Held by the [`Outbox`] and lent to one writer at a time. It is called without any lock held.
pub trait FrameSink: Send + fmt::Debug {
    /// Takes frames from the front of `batch` and hands their bytes to the carrier, as many as it takes now
    ///
    /// An empty `batch` asks only to go on with a frame that was cut short, and for the readiness. On
    /// [`Readiness::Ready`] `batch` is empty. On any other answer what was not taken stays in `batch`; a frame of
    /// which a part was written is taken, and the sink keeps the rest. On `Blocked` the task of `cx` is registered
    /// to be woken when there is room; a flusher passes a waker that does nothing, and then wakes the owner, who
    /// asks again.
    ///
    /// # Errors
    /// When the carrier is broken; the outbox is then closed with [`ConnectionError::reason`].
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError>;
}

/// Whether a carrier can take more now
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It can
    Ready,
    /// It has no room; the owner is woken, or asks to be, when there is
    Blocked,
    /// There is nothing to write to until the owner is handed something, such as the next GET of a polling client
    Parked,
}

/// What may become of a frame that a client does not take
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// Sent, or the client is closed as a slow consumer
    #[default]
    Reliable,
    /// Dropped if the client cannot take it now
    Volatile,
    /// A packet of the protocol itself, or an answer: never dropped for the budget's sake, yet bounded
    Protocol,
}

/// What happens when a [`Delivery::Reliable`] frame does not fit
///
/// In each case what remains keeps its order, and protocol packets and answers are not dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Overflow {
    /// What the outbox was told to do ([`Outbox::set_overflow`]), which is `Close` unless it was told otherwise
    #[default]
    Inherit,
    /// The client is closed as a slow consumer
    Close,
    /// The frame is dropped
    DropNewest,
    /// Frames that wait longest are dropped until it fits
    DropOldest,
    /// A frame that waits under the same [key](Frame::key) is dropped, whether or not there is room; one that
    /// still does not fit is dropped itself
    KeepLatest,
}

/// What became of a push
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It waits, or is on its way
    Queued,
    /// It waits, and this many older frames were dropped for it
    Displaced(u32),
    /// It was dropped, as its delivery allows
    Dropped,
    /// The client is gone, or has just been closed because this did not fit
    Closed,
}

/// What waits in an outbox
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Frames
    pub frames: usize,
    /// Bytes, as counted against the limit
    pub bytes: usize,
}

fn cost(frame: &Frame) -> usize {
    frame.len() + ENTRY_COST
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(not(loom))]
thread_local! {
    static SPARE: std::cell::Cell<VecDeque<Frame>> = const { std::cell::Cell::new(VecDeque::new()) };
}

/// A batch of this thread: emptied and given back, so that flushing allocates nothing
fn spare_batch() -> VecDeque<Frame> {
    #[cfg(not(loom))]
    return SPARE.take();
    #[cfg(loom)]
    VecDeque::new()
}

fn recycle(batch: VecDeque<Frame>) {
    debug_assert!(batch.is_empty());
    #[cfg(not(loom))]
    SPARE.set(batch);
    #[cfg(loom)]
    drop(batch);
}
