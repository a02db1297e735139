//! Exclusive use of an outbox's sink by one writer.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use super::sink::{FrameSink, Readiness};
use super::state::{Outbox, State, wake};
use super::written::WriteStats;
use crate::prefetch::prefetch;
use crate::sync::MutexGuard;
use crate::{CloseReason, Frame};

/// Leased sink with the next batch of frames.
///
/// A drop while the sink is in use means that the sink panicked; only its client is closed.
pub(super) struct Lease<'a> {
    outbox: &'a Outbox,
    writer: Writer,
    sink: Option<Box<dyn FrameSink>>,
    batch: VecDeque<Frame>,
    /// Frames and message bytes in `batch`.
    offered: WriteStats,
    in_use: bool,
}

impl<'a> Lease<'a> {
    /// Leases the sink; for a flusher or a pusher, only if there are frames that it accepts now.
    ///
    /// # Errors
    ///
    /// Returns `true` if another writer has leased the sink, `false` if there is nothing to do or no sink.
    #[inline]
    pub(super) fn take(outbox: &'a Outbox, writer: Writer) -> Result<Self, bool> {
        let mut state = outbox.state();
        if writer == Writer::Flusher {
            state.listed = false;
        }
        if writer != Writer::Owner
            && (state.readiness != Readiness::Ready || !state.has_frames() || state.held)
        {
            // Blocked: the owner waits for the socket and writes when it has room. Empty: another writer was faster.
            // Held: the end of the hold lists the outbox again.
            return Err(false);
        }
        if state.leased {
            state.wanted |= writer == Writer::Pusher;
            return Err(true);
        }
        let Some(sink) = state.sink.take() else { return Err(false) };
        // Read only once the whole group is leased.
        prefetch(&*sink);
        state.leased = true;
        state.unsent = false;
        let mut batch = spare_batch();
        // No overflow policy may drop frames that a sink returned, so a parked sink is polled with an empty batch
        // first.
        let offered = match state.readiness {
            Readiness::Parked => WriteStats::default(),
            _ => state.take_batch(&mut batch, outbox.0.bounds.limit(), || sink.max_joined()),
        };
        Ok(Self { outbox, writer, sink: Some(sink), batch, offered, in_use: false })
    }

    /// Prefetches the memory that the sink reads first.
    pub(super) fn prefetch(&self) {
        self.sink.iter().for_each(|sink| sink.prefetch());
    }

    /// Writes until the queue is empty, the sink refuses more, or the turn of the outbox is over.
    ///
    /// A pusher has no turns: it writes until the queue is empty, so that it is as slow as the carrier. If another
    /// pusher wants the sink, the lease ends after the current batch.
    pub(super) fn write(mut self, cx: &mut Context<'_>) -> WriteStats {
        let mut written = WriteStats::default();
        self.in_use = true;
        for round in 1.. {
            let sink = self.sink.as_deref_mut().expect("a lease has its sink until it ends");
            // Up to the next lock, this writer has exclusive use of the sink and holds no lock.
            let outcome = sink.poll_send(cx, &mut self.batch);
            let mut taken = self.offered;
            for frame in &self.batch {
                taken.frames = taken.frames.saturating_sub(frame.count() as u64);
                taken.bytes = taken.bytes.saturating_sub(frame.len() as u64);
            }
            written += taken;
            let mut state = self.outbox.state();
            let mut retired = None;
            let mut discarded = None;
            match (state.take_successor(), outcome) {
                // The new sink continues from here, even if the old one failed.
                (Some(successor), _) => {
                    state.begin_sink(&*successor);
                    retired = self.sink.replace(successor);
                }
                (None, Ok(readiness)) => {
                    debug_assert!(
                        readiness != Readiness::Ready || self.batch.is_empty(),
                        "ready sink left frames in the batch"
                    );
                    state.set_readiness(readiness, taken.frames > 0);
                }
                (None, Err(error)) => discarded = Some(state.close(error.reason())),
            }
            state.put_back(&mut self.batch, taken.frames);
            let has_turn = self.writer == Writer::Pusher || round < BATCHES_PER_LEASE;
            let continues = has_turn && !state.wanted && !state.held && !state.is_closed();
            // Rarely true: frames were pushed meanwhile, or the batch did not take the whole queue.
            if state.readiness == Readiness::Ready && continues && state.has_frames() {
                let most = || self.sink.as_ref().map_or(0, |sink| sink.max_joined());
                self.offered = state.take_batch(&mut self.batch, self.outbox.0.bounds.limit(), most);
                if std::mem::take(&mut state.unsent) || !self.batch.is_empty() {
                    drop(state);
                    drop(retired);
                    continue;
                }
            }
            self.end(state, written.frames > 0);
            drop((retired, discarded));
            break;
        }
        written
    }

    /// Returns the sink to the outbox and wakes the tasks that wait for it; `moved` says that frames were written.
    fn end(&mut self, mut state: MutexGuard<'_, State>, moved: bool) {
        state.leased = false;
        let mut sink = self.sink.take();
        if !state.is_closed() {
            state.sink = sink.take();
        }
        let polled = std::mem::take(&mut state.owner_polled);
        // The owner is awake if it is the writer; another wake-up would make it spin for as long as it waits.
        let awaits_sink = std::mem::take(&mut state.owner_waiting) && self.writer != Writer::Owner;
        let wanted = match state.readiness {
            Readiness::Ready => false,
            Readiness::Blocked => self.writer != Writer::Owner,
            // The owner watches a client that has left frames in the queue.
            Readiness::Parked => polled || moved && state.has_frames() && self.writer != Writer::Owner,
        };
        let owner = if wanted || awaits_sink || state.is_closed() { state.owner.take() } else { None };
        let has_ready_senders = state.rare.is_some() && (state.queue.is_low() || state.is_closed());
        let senders = has_ready_senders.then(|| state.take_senders());
        let is_urgent = std::mem::take(&mut state.wanted);
        let enlist = state.wants_flush();
        let is_urgent = is_urgent && state.has_frames() && state.readiness == Readiness::Ready;
        state.listed |= enlist;
        drop(state);
        if is_urgent {
            self.outbox.0.flusher.enlist_urgent(enlist.then(|| self.outbox.clone()));
        } else if enlist {
            self.outbox.0.flusher.enlist(self.outbox.clone());
        }
        // `Some` if the outbox was closed during the lease.
        drop(sink);
        wake(owner);
        if let Some(senders) = senders {
            senders.into_iter().for_each(Waker::wake);
        }
    }
}

impl State {
    /// Moves the pending heartbeat and the next frames into `batch`; returns their number and message bytes.
    fn take_batch(
        &mut self,
        batch: &mut VecDeque<Frame>,
        limit: usize,
        most: impl Fn() -> usize,
    ) -> WriteStats {
        let Some(heartbeat) = self.heartbeat.take() else { return self.queue.take_batch(batch, limit, most) };
        self.heartbeat_leased = true;
        let mut taken = self.queue.take_batch(batch, limit, most);
        taken += WriteStats { frames: 1, bytes: heartbeat.len() as u64 };
        batch.push_front(heartbeat);
        taken
    }

    /// Puts the rest of a batch back in its place; the sink accepted `taken` frames of it.
    #[inline]
    fn put_back(&mut self, batch: &mut VecDeque<Frame>, taken: u64) {
        if std::mem::take(&mut self.heartbeat_leased) && taken == 0 {
            let heartbeat = batch.pop_front();
            // Dropped if a newer one was pushed meanwhile, or the client was given up.
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
        // The lease was not used, because the sink of another outbox in the group panicked.
        state.put_back(&mut self.batch, 0);
        let mut retired = None;
        if let Some(successor) = state.take_successor() {
            state.begin_sink(&*successor);
            retired = self.sink.replace(successor);
        }
        self.end(state, false);
        drop(retired);
    }
}

/// Role of a writer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// Flusher of the outbox's list.
    Flusher,
    /// Sender that writes its own backlog.
    Pusher,
    /// Task that owns the connection.
    Owner,
}

/// Number of outboxes that are prefetched together before the first of them is written.
pub(super) const GROUP: usize = if cfg!(loom) { 2 } else { 16 };

/// Maximum batches that a flusher writes for an outbox before it continues with the next.
pub(super) const BATCHES_PER_LEASE: usize = if cfg!(loom) { 2 } else { 16 };

#[cfg(not(loom))]
thread_local! {
    /// Emptied batches of leases that have ended.
    ///
    /// Saves an allocation per write, and 27 % of a recipient's share of a fan-out. Stored in the outbox, a batch would cost idle clients memory. Passed
    /// as a parameter, it would need a place in pushers and owners, which take leases too; up to [`GROUP`] leases are
    /// open at a time. Bounded by [`GROUP`] batches per thread.
    static SPARE: std::cell::RefCell<Vec<VecDeque<Frame>>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Returns an empty batch from this thread's pool, so that flushing allocates nothing.
fn spare_batch() -> VecDeque<Frame> {
    #[cfg(not(loom))]
    return SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
    #[cfg(loom)]
    VecDeque::new()
}

/// Returns a batch to the pool; frames still in it belonged to an outbox that was closed meanwhile.
fn recycle(mut batch: VecDeque<Frame>) {
    // Before the pool is borrowed, because dropping a frame may run foreign code.
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
