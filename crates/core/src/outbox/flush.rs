//! Writing on behalf of flushers and pushers

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Waker};

use super::lease::{GROUP, Lease, Writer};
use super::state::Outbox;
use super::written::Written;

impl Outbox {
    /// Writes the backlog on behalf of a pusher, until nothing waits or the carrier refuses more.
    ///
    /// To be called once no lock is held, after [`Pushed::Backlogged`](crate::Pushed::Backlogged): the sender that makes
    /// the backlog writes it. If another writer has the sink, it is asked to hand it over after its batch; the result is
    /// `false` then, and the backlog stands. Otherwise `true`, also while the outbox is [held](Self::hold): the flusher writes after the hold.
    pub fn relieve(&self) -> bool {
        match Lease::take(self, Writer::Pusher) {
            Ok(lease) => {
                self.0.flusher.record(lease.write(&mut no_one()));
                true
            }
            Err(leased) => !leased,
        }
    }

    /// Writes what waits, on behalf of a flusher
    pub(super) fn flush(&self) -> Written {
        Lease::take(self, Writer::Flusher)
            .map_or_else(|_| Written::default(), |lease| lease.write(&mut no_one()))
    }

    /// Takes up to `most` outboxes from the front, and writes what waits in them
    ///
    /// The memory of a few of them is fetched at a time. A sink that panics costs its own client and no other.
    pub(super) fn flush_some(outboxes: &mut VecDeque<Self>, most: usize) -> Written {
        let mut written = Written::default();
        let mut left = most.min(outboxes.len());
        while left > 0 {
            let size = left.min(GROUP);
            let group = &outboxes.make_contiguous()[..size];
            // Those whose turn did not come are listed again.
            if let Ok(group) = catch_unwind(AssertUnwindSafe(|| Self::flush_group(group))) {
                written += group;
            }
            // Let go of while their counters are still near.
            outboxes.drain(..size);
            left -= size;
        }
        written
    }

    /// Writes what waits in each of a few outboxes
    pub(super) fn flush_group(group: &[Self]) -> Written {
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
}

/// Outboxes whose backlog was at high water at a push, which the pusher has to relieve once it holds no lock.
///
/// One pointer that owns nothing while it is empty, which it nearly always is: every emit brings one back.
#[derive(Debug, Default)]
#[must_use = "the sender has to relieve these, or a client that reads may be closed"]
#[allow(clippy::box_collection, reason = "three words are much where it is nearly always empty")]
pub struct Backlog(Option<Box<Vec<Outbox>>>);

impl Backlog {
    /// Makes an empty backlog.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Adds an outbox to relieve.
    #[cold]
    pub fn add(&mut self, outbox: &Outbox) {
        self.0.get_or_insert_default().push(outbox.clone());
    }

    /// Adds those of another backlog.
    pub fn append(&mut self, other: Self) {
        match (&mut self.0, other.0) {
            (_, None) => {}
            (Some(own), Some(other)) => own.extend(*other),
            (own, other) => *own = other,
        }
    }

    /// Whether there is nothing to relieve.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// [Relieves](Outbox::relieve) each outbox once; those that another writer has stay.
    ///
    /// No lock must be held: this writes to sockets.
    pub fn relieve(&mut self) {
        if let Some(outboxes) = &mut self.0 {
            outboxes.retain(|outbox| !outbox.relieve());
        }
        self.0.take_if(|outboxes| outboxes.is_empty());
    }
}

/// The context of a flusher, which asks again by way of the owner
fn no_one() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
