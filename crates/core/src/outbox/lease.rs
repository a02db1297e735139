//! The write half while it is leased

use std::collections::VecDeque;
use std::task::{Context, Waker};

use super::sink::{FrameSink, Readiness};
use super::state::{Outbox, State, wake};
use super::written::Written;
use crate::sync::MutexGuard;
use crate::{CloseReason, Frame};

/// A leased sink, and the frames it is to write next.
///
/// If it is dropped while the sink is in use, the sink panicked: its client is closed, and only that.
pub(super) struct Lease<'a> {
    outbox: &'a Outbox,
    writer: Writer,
    sink: Option<Box<dyn FrameSink>>,
    batch: VecDeque<Frame>,
    /// Those of the messages in `batch`
    bytes: usize,
    in_use: bool,
}

impl<'a> Lease<'a> {
    /// Borrows the sink, if it is there and, for a flusher or a pusher, if there is something that it takes now.
    ///
    /// # Errors
    /// Whether another writer has it.
    #[inline]
    pub(super) fn take(outbox: &'a Outbox, writer: Writer) -> Result<Self, bool> {
        let mut state = outbox.state();
        if writer == Writer::Flusher {
            state.listed = false;
        }
        if writer != Writer::Owner
            && (state.readiness != Readiness::Ready || !state.has_frames() || state.held)
        {
            // Blocked: the owner waits for the socket, and writes when it has room. Empty: another has just written it.
            // Held: it is listed again when the hold ends.
            return Err(false);
        }
        if state.leased {
            state.wanted |= writer == Writer::Pusher;
            return Err(true);
        }
        let Some(sink) = state.sink.take() else { return Err(false) };
        state.leased = true;
        let mut batch = spare_batch();
        // No overflow policy drops what a sink gives back, so a parked sink is asked before frames are taken for it.
        let bytes = match state.readiness {
            Readiness::Parked => 0,
            _ => state.take_batch(&mut batch, outbox.0.bounds.limit()),
        };
        Ok(Self { outbox, writer, sink: Some(sink), batch, bytes, in_use: false })
    }

    /// Fetches what the sink looks at first
    pub(super) fn prefetch(&self) {
        self.sink.iter().for_each(|sink| sink.prefetch());
    }

    /// Writes until there is nothing left, or the sink takes no more, or others should have their turn.
    ///
    /// A pusher has no turn to give: it goes on until nothing is left, so that it is as slow as the carrier. Whoever
    /// has the sink while another pusher wants it hands it over after its batch.
    pub(super) fn write(mut self, cx: &mut Context<'_>) -> Written {
        let mut written = Written::default();
        self.in_use = true;
        for visit in 1.. {
            let frames = self.batch.len();
            let sink = self.sink.as_deref_mut().expect("it is there until the lease ends");
            // From here to the next lock the sink is ours alone, and no lock is held.
            let outcome = sink.poll_send(cx, &mut self.batch);
            let taken = frames.saturating_sub(self.batch.len());
            written.frames += taken as u64;
            written.bytes += self.bytes.saturating_sub(self.batch.iter().map(Frame::len).sum()) as u64;
            let mut state = self.outbox.state();
            let mut retired = None;
            let mut spilled = None;
            match (state.take_successor(), outcome) {
                // Whatever became of the old sink, the new one goes on from here.
                (Some(successor), _) => {
                    retired = self.sink.replace(successor);
                    state.set_readiness(Readiness::Ready, false);
                }
                (None, Ok(readiness)) => {
                    debug_assert!(
                        readiness != Readiness::Ready || self.batch.is_empty(),
                        "a ready sink leaves nothing"
                    );
                    state.set_readiness(readiness, taken > 0);
                }
                (None, Err(error)) => spilled = Some(state.close(error.reason())),
            }
            state.put_back(&mut self.batch, taken);
            let has_turn = self.writer == Writer::Pusher || visit < BATCHES_PER_VISIT;
            let goes_on = has_turn && !state.wanted && !state.held && !state.is_closed();
            // Nearly always nothing has come meanwhile.
            if state.readiness == Readiness::Ready && goes_on && state.has_frames() {
                self.bytes = state.take_batch(&mut self.batch, self.outbox.0.bounds.limit());
                if !self.batch.is_empty() {
                    drop(state);
                    drop(retired);
                    continue;
                }
            }
            self.end(state);
            drop((retired, spilled));
            break;
        }
        written
    }

    /// Brings the sink back, and wakes those who wait for that
    fn end(&mut self, mut state: MutexGuard<'_, State>) {
        state.leased = false;
        let mut sink = self.sink.take();
        if !state.is_closed() {
            state.sink = sink.take();
        }
        let came = std::mem::take(&mut state.owner_came);
        // An owner that writes itself is awake: to wake it once more would keep it busy for as long as it waits.
        let waited = std::mem::take(&mut state.owner_waits) && self.writer != Writer::Owner;
        let wanted = match state.readiness {
            Readiness::Ready => false,
            Readiness::Blocked => self.writer != Writer::Owner,
            Readiness::Parked => came,
        };
        let owner = if wanted || waited || state.is_closed() { state.owner.take() } else { None };
        let is_awaited = state.rare.is_some() && (state.queue.is_low() || state.is_closed());
        let senders = is_awaited.then(|| state.take_senders());
        let at_once = std::mem::take(&mut state.wanted);
        let enlist = state.wants_flush();
        let at_once = at_once && state.has_frames() && state.readiness == Readiness::Ready;
        state.listed |= enlist;
        drop(state);
        if at_once {
            self.outbox.0.flusher.hurry(enlist.then(|| self.outbox.clone()));
        } else if enlist {
            self.outbox.0.flusher.enlist(self.outbox.clone());
        }
        // Closed while it was leased: it has no place to come back to.
        drop(sink);
        wake(owner);
        if let Some(senders) = senders {
            senders.into_iter().for_each(Waker::wake);
        }
    }
}

impl State {
    /// Moves the heartbeat that waits, and the next frames, into `batch`; tells how many bytes their messages have
    fn take_batch(&mut self, batch: &mut VecDeque<Frame>, limit: usize) -> usize {
        let Some(heartbeat) = self.heartbeat.take() else { return self.queue.take_batch(batch, limit) };
        self.heartbeat_leased = true;
        let bytes = heartbeat.len() + self.queue.take_batch(batch, limit);
        batch.push_front(heartbeat);
        bytes
    }

    /// Puts what a sink left of a batch, of which it took so many frames, back to where it was
    #[inline(always)]
    fn put_back(&mut self, batch: &mut VecDeque<Frame>, taken: usize) {
        if std::mem::take(&mut self.heartbeat_leased) && taken == 0 {
            let heartbeat = batch.pop_front();
            // A newer one came meanwhile, or the client was given up.
            if self.heartbeat.is_none() && self.phase.reason().is_none() {
                self.heartbeat = heartbeat;
            }
        }
        if !self.is_closed() {
            self.queue.put_back(batch);
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if self.sink.is_none() {
            recycle(std::mem::take(&mut self.batch));
            return;
        }
        let mut state = self.outbox.state();
        state.leased = false;
        if self.in_use {
            return self.outbox.close_locked(state, CloseReason::TransportError);
        }
        // Its turn never came, because the sink of another panicked.
        state.put_back(&mut self.batch, 0);
        let mut retired = None;
        if let Some(successor) = state.take_successor() {
            retired = self.sink.replace(successor);
            state.set_readiness(Readiness::Ready, false);
        }
        self.end(state);
        drop(retired);
    }
}

/// Who writes
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// The flusher of the outbox's list
    Flusher,
    /// A sender that writes its own backlog
    Pusher,
    /// The task that owns the connection
    Owner,
}

/// How many outboxes are fetched side by side, before the first of them is written
pub(super) const GROUP: usize = if cfg!(loom) { 2 } else { 16 };

/// How many batches one visit of a flusher may write before the next outbox has its turn
pub(super) const BATCHES_PER_VISIT: usize = if cfg!(loom) { 2 } else { 16 };

#[cfg(not(loom))]
thread_local! {
    /// Emptied batches of leases that have ended.
    ///
    /// Saves an allocation and a free per write. A batch cannot stay in the outbox, where an idle client would pay for
    /// it. Thread-local rather than a parameter: leases are also taken by pushers and owners, which have no place of
    /// their own for it, and up to [`GROUP`] are open at a time. Bounded by [`GROUP`] batches a thread.
    static SPARE: std::cell::RefCell<Vec<VecDeque<Frame>>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// A batch of this thread: emptied and given back, so that flushing allocates nothing
fn spare_batch() -> VecDeque<Frame> {
    #[cfg(not(loom))]
    return SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
    #[cfg(loom)]
    VecDeque::new()
}

/// Gives a batch back; what is still in it belonged to an outbox that was closed meanwhile
fn recycle(mut batch: VecDeque<Frame>) {
    // Before the pool is borrowed: what is let go of may run foreign code.
    batch.clear();
    #[cfg(not(loom))]
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < GROUP {
            spare.push(batch);
        }
    });
    #[cfg(loom)]
    drop(batch);
}
