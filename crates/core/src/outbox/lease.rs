//! The write half while it is lent out

use std::collections::VecDeque;
use std::task::Context;

use super::{FrameSink, GROUP, Outbox, Readiness, State, Written, wake};
use crate::sync::MutexGuard;
use crate::{CloseReason, Frame};

/// A sink that is lent out, and the frames it is to write next
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
    /// Borrows the sink, if it is there and, for a flusher, if there is something that it takes now
    pub(super) fn take(outbox: &'a Outbox, writer: Writer) -> Option<Self> {
        let mut state = outbox.state();
        if writer == Writer::Flusher {
            state.listed = false;
            // Blocked: the owner waits for the socket, and writes when it has room.
            if state.readiness != Readiness::Ready || state.queue.is_empty() {
                return None;
            }
        }
        if state.leased {
            return None;
        }
        let sink = state.sink.take()?;
        state.leased = true;
        let mut batch = spare_batch();
        let bytes = state.queue.take_batch(&mut batch, outbox.0.limit);
        Some(Self { outbox, writer, sink: Some(sink), batch, bytes, in_use: false })
    }

    /// Fetches what the sink looks at first
    pub(super) fn prefetch(&self) {
        self.sink.iter().for_each(|sink| sink.prefetch());
    }

    /// Writes until there is nothing left, or the sink takes no more, or others should have their turn
    pub(super) fn write(mut self, cx: &mut Context<'_>) -> Written {
        let mut written = Written::default();
        self.in_use = true;
        for visit in 1.. {
            let frames = self.batch.len();
            let sink = self.sink.as_deref_mut().expect("it is there until the lease ends");
            // From here to the next lock the sink is ours alone, and no lock is held.
            let outcome = sink.poll_send(cx, &mut self.batch);
            written.frames += frames.saturating_sub(self.batch.len()) as u64;
            written.bytes += self.bytes.saturating_sub(self.batch.iter().map(Frame::len).sum()) as u64;
            let mut state = self.outbox.state();
            let mut retired = None;
            let mut spilled = None;
            match (state.successor.take(), outcome) {
                // Whatever became of the old sink, the new one goes on from here.
                (Some(successor), _) => {
                    retired = self.sink.replace(*successor);
                    state.readiness = Readiness::Ready;
                }
                (None, Ok(readiness)) => {
                    debug_assert!(
                        readiness != Readiness::Ready || self.batch.is_empty(),
                        "a ready sink leaves nothing"
                    );
                    state.readiness = readiness;
                }
                (None, Err(error)) => spilled = Some(state.close(error.reason())),
            }
            if !state.is_closed() {
                state.queue.put_back(&mut self.batch);
            }
            let goes_on = state.readiness == Readiness::Ready && visit < BATCHES_PER_VISIT;
            if goes_on && !state.is_closed() {
                self.bytes = state.queue.take_batch(&mut self.batch, self.outbox.0.limit);
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

    /// Brings the sink back, and wakes the owner if that is its business
    fn end(&mut self, mut state: MutexGuard<'_, State>) {
        state.leased = false;
        let mut sink = self.sink.take();
        if !state.is_closed() {
            state.sink = sink.take();
        }
        let came = std::mem::take(&mut state.owner_came);
        // An owner that writes itself is awake: to wake it once more would keep it busy for as long as it waits.
        let waited = std::mem::take(&mut state.owner_waits) && self.writer == Writer::Flusher;
        let wanted = match state.readiness {
            Readiness::Ready => false,
            Readiness::Blocked => self.writer == Writer::Flusher,
            Readiness::Parked => came,
        };
        let owner = if wanted || waited || state.is_closed() { state.owner.take() } else { None };
        self.outbox.unlock_and_enlist(state);
        // Closed while it was lent out: it has no place to come back to.
        drop(sink);
        wake(owner);
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
        if !state.is_closed() {
            state.queue.put_back(&mut self.batch);
        }
        let mut retired = None;
        if let Some(successor) = state.successor.take() {
            retired = self.sink.replace(*successor);
            state.readiness = Readiness::Ready;
        }
        self.end(state);
        drop(retired);
    }
}

/// Who writes
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    Flusher,
    Owner,
}

/// How many batches one visit of a flusher may write before the next outbox has its turn
pub(super) const BATCHES_PER_VISIT: usize = if cfg!(loom) { 2 } else { 16 };

#[cfg(not(loom))]
thread_local! {
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
