//! Writing on behalf of flushers and pushers.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Waker};

use super::lease::{GROUP, Lease, Writer};
use super::state::Outbox;
use super::written::WriteStats;

impl Outbox {
    /// Writes the backlog on behalf of a pusher, until the queue is empty or the carrier refuses more.
    ///
    /// Call it after [`PushOutcome::Backlogged`](crate::PushOutcome::Backlogged) and without holding a lock: the sender that
    /// causes a backlog writes it. Returns `false` if another writer has leased the sink; that writer ends its lease
    /// after its batch, and the backlog remains. Otherwise returns `true`, also while the outbox is [held](Self::hold):
    /// the flusher writes after the hold.
    pub fn flush_backlog(&self) -> bool {
        match Lease::take(self, Writer::Pusher) {
            Ok(lease) => {
                self.0.flusher.record(lease.write(&mut noop_context()));
                true
            }
            Err(leased) => !leased,
        }
    }

    /// Writes the queue on behalf of a flusher.
    pub(super) fn flush(&self) -> WriteStats {
        Lease::take(self, Writer::Flusher)
            .map_or_else(|_| WriteStats::default(), |lease| lease.write(&mut noop_context()))
    }

    /// Takes up to `most` outboxes from the front and writes their queues.
    ///
    /// Prefetches a few outboxes at a time. A panic in a sink closes only the client of that sink.
    pub(super) fn flush_some(outboxes: &mut VecDeque<Self>, most: usize) -> WriteStats {
        let mut written = WriteStats::default();
        let mut left = most.min(outboxes.len());
        while left > 0 {
            let size = left.min(GROUP);
            let (group, further) = outboxes.make_contiguous()[..left].split_at(size);
            let next = &further[..further.len().min(GROUP)];
            // After a panic, the leases that were not used enlist their outboxes again.
            if let Ok(group) = catch_unwind(AssertUnwindSafe(|| Self::flush_group(group, next))) {
                written += group;
            }
            // Dropped while their reference counts are still in the cache.
            outboxes.drain(..size);
            left -= size;
        }
        written
    }

    /// Writes the queues of up to [`GROUP`] outboxes, and prefetches the next ones.
    pub(super) fn flush_group(group: &[Self], next: &[Self]) -> WriteStats {
        if let [alone] = group {
            return alone.flush();
        }
        debug_assert!(group.len() <= GROUP, "group exceeds GROUP");
        group.iter().for_each(Self::prefetch);
        let leases: [_; GROUP] = std::array::from_fn(|at| {
            group.get(at).and_then(|outbox| Lease::take(outbox, Writer::Flusher).ok())
        });
        leases.iter().flatten().for_each(Lease::prefetch);
        next.iter().for_each(Self::prefetch);
        let mut written = WriteStats::default();
        leases.into_iter().flatten().for_each(|lease| written += lease.write(&mut noop_context()));
        written
    }
}

/// Outboxes at high water, which the pusher has to flush once it holds no lock.
///
/// Every emit returns one, and it is nearly always empty: then it is a null pointer and owns no memory.
#[derive(Debug, Default)]
#[must_use = "the sender has to flush the outboxes, or a client that reads may be closed"]
#[allow(clippy::box_collection, reason = "nearly always empty, and a `Vec` takes three words")]
pub struct Backlog(Option<Box<Vec<Outbox>>>);

impl Backlog {
    /// Creates an empty backlog.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Adds an outbox to flush.
    #[cold]
    pub fn add(&mut self, outbox: &Outbox) {
        self.0.get_or_insert_default().push(outbox.clone());
    }

    /// Moves the outboxes of another backlog into this one.
    pub fn append(&mut self, other: Self) {
        match (&mut self.0, other.0) {
            (_, None) => {}
            (Some(own), Some(other)) => own.extend(*other),
            (own, other) => *own = other,
        }
    }

    /// Returns whether there is no outbox to flush.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// [Flushes](Outbox::flush_backlog) each outbox once; keeps the outboxes that another writer has leased.
    ///
    /// The caller must not hold a lock: this writes to sockets.
    pub fn flush_backlog(&mut self) {
        if let Some(outboxes) = &mut self.0 {
            outboxes.retain(|outbox| !outbox.flush_backlog());
        }
        self.0.take_if(|outboxes| outboxes.is_empty());
    }
}

/// Returns a context without a waker: when a sink blocks, the owner polls it again.
fn noop_context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
