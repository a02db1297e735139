//! List of the outboxes that have something to write, and the wake-ups of its flusher.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use super::deferred;
use super::state::{Counters, Deferred, FlushList, Listed, Outbox, Shared, wake};
use super::written::WriteStats;
use crate::sync::lock;

impl FlushList {
    /// Creates an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Swaps the listed outboxes with the empty `spare`; returns whether a backlog is urgent.
    ///
    /// A backlog is urgent if, since the last call, a pusher found an outbox at high water with its sink leased; the
    /// rest of that backlog is listed. Also delivers [deferred wake-ups](Self::wake_deferred), which takes a second
    /// lock only if there are any.
    #[inline]
    pub(super) fn take(&self, spare: &mut VecDeque<Outbox>) -> bool {
        debug_assert!(spare.is_empty());
        let mut listed = lock(&self.0.listed);
        listed.deferred = None;
        std::mem::swap(&mut listed.outboxes, spare);
        let urgent = std::mem::take(&mut listed.urgent);
        let wakes = !listed.pending_wakers.is_empty();
        drop(listed);
        if wakes {
            self.wake_deferred();
        }
        urgent
    }

    /// Returns ready while an outbox is listed or a [deferred wake-up](Self::wake_deferred) is pending; takes nothing.
    pub(super) fn poll_listed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut listed = lock(&self.0.listed);
        if listed.outboxes.is_empty() && listed.pending_wakers.is_empty() && !listed.urgent {
            return listed.park_flusher(cx);
        }
        Poll::Ready(())
    }

    /// Delivers the wake-ups that were [deferred](super::DeferredWakes) to this list.
    pub(super) fn wake_deferred(&self) {
        loop {
            // Woken outside the lock, because a waker runs foreign code.
            let waker = lock(&self.0.listed).pending_wakers.pop();
            let Some(waker) = waker else { return };
            waker.wake();
        }
    }

    /// Adds to the amount written for outboxes of this list.
    pub(super) fn record(&self, written: WriteStats) {
        self.0.written.frames.fetch_add(written.frames, Ordering::Relaxed);
        self.0.written.bytes.fetch_add(written.bytes, Ordering::Relaxed);
    }

    /// Returns the amount written for outboxes of this list by its flusher, pushers and owners.
    pub fn written(&self) -> WriteStats {
        let Counters { frames, bytes } = &self.0.written;
        WriteStats { frames: frames.load(Ordering::Relaxed), bytes: bytes.load(Ordering::Relaxed) }
    }

    /// Puts an outbox, if given, at the front of the list, and wakes the flusher without deferral.
    pub(super) fn enlist_urgent(&self, outbox: Option<Outbox>) {
        let mut listed = lock(&self.0.listed);
        outbox.into_iter().for_each(|outbox| listed.outboxes.push_front(outbox));
        listed.urgent = true;
        let flusher = listed.take_flusher();
        drop(listed);
        wake(flusher);
    }

    /// Appends an outbox, and wakes the flusher if it sleeps.
    pub(super) fn enlist(&self, outbox: Outbox) {
        let mut listed = lock(&self.0.listed);
        listed.outboxes.push_back(outbox);
        if listed.flusher.is_none() && listed.deferred.is_none() {
            return;
        }
        match deferred::list_other_than(self) {
            Some(by) => {
                // `Some` only for the first frame of a turn.
                let Some(flusher) = listed.defer(by) else { return };
                drop(listed);
                deferred::list().into_iter().for_each(|list| list.defer(flusher.clone()));
            }
            None => {
                let flusher = listed.take_flusher();
                drop(listed);
                wake(flusher);
            }
        }
    }

    /// Defers the wake-up of another flusher to this list's flusher.
    fn defer(&self, waker: Waker) {
        let own = {
            let mut listed = lock(&self.0.listed);
            listed.pending_wakers.push(waker);
            // This list's flusher may itself be waiting for a wake-up deferred to the other list. Without a direct
            // wake-up, both flushers would sleep.
            listed.take_flusher()
        };
        wake(own);
    }

    /// Returns a number that identifies the list while it exists.
    pub(super) fn number(&self) -> usize {
        std::ptr::from_ref::<Shared>(&self.0).addr()
    }
}

impl Listed {
    fn park_flusher(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.deferred = None;
        self.flusher = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes the waker of the flusher if it sleeps, for the caller to wake.
    fn take_flusher(&mut self) -> Option<Waker> {
        let deferred = self.deferred.take().map(|deferred| deferred.flusher);
        self.flusher.take().or(deferred)
    }

    /// Defers the wake-up to the list with number `by`; returns the waker unless that list already has it.
    fn defer(&mut self, by: usize) -> Option<Waker> {
        if let Some(flusher) = self.flusher.take() {
            self.deferred = Some(Deferred { flusher: flusher.clone(), by: Some(by) });
            return Some(flusher);
        }
        let deferred = self.deferred.as_mut()?;
        deferred.by.take_if(|first| *first != by)?;
        Some(deferred.flusher.clone())
    }
}

impl fmt::Debug for FlushList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlushList").field("listed", &lock(&self.0.listed).outboxes.len()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;
    use crate::sync::Arc;

    #[derive(Default)]
    struct Flusher(AtomicUsize);

    impl Wake for Flusher {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn mutual_deferral_wakes_both_flushers() {
        let lists = [(); 2].map(|()| FlushList::new());
        let flushers = [(); 2].map(|()| Arc::new(Flusher::default()));
        for (list, flusher) in lists.iter().zip(&flushers) {
            let waker = Waker::from(flusher.clone());
            assert!(list.poll_listed(&mut Context::from_waker(&waker)).is_pending());
        }
        // Two threads enlist outboxes in each other's list: both take the other's flusher before either defers it.
        let [first, second] = &lists;
        let taken = [(second, first), (first, second)]
            .map(|(to, by)| (by, lock(&to.0.listed).defer(by.number()).expect("the flusher sleeps")));
        for (by, waker) in taken {
            by.defer(waker);
        }
        assert!(flushers.iter().any(|flusher| flusher.0.load(Ordering::Relaxed) > 0), "both flushers sleep");
        for list in &lists {
            list.wake_deferred();
        }
        assert!(flushers.iter().all(|flusher| flusher.0.load(Ordering::Relaxed) > 0));
    }
}
