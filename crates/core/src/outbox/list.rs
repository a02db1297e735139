//! List of the outboxes that have something to write, and the wake-ups of its flusher

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use super::state::{Counters, FlushList, Listed, Outbox, Shared, Told, wake};
use super::written::Written;
use crate::sync::lock;

impl FlushList {
    /// Makes an empty list
    pub fn new() -> Self {
        Self::default()
    }

    /// Swaps what is listed with `spare`, which must be empty; pending while there is nothing
    ///
    /// Cancel safe: nothing is taken until it is ready.
    pub fn poll_take(&self, cx: &mut Context<'_>, spare: &mut VecDeque<Outbox>) -> Poll<()> {
        debug_assert!(spare.is_empty());
        let mut listed = lock(&self.0.listed);
        if listed.outboxes.is_empty() {
            return listed.sleep(cx);
        }
        listed.told = None;
        std::mem::swap(&mut listed.outboxes, spare);
        Poll::Ready(())
    }

    /// Swaps what is listed with `spare`, which must be empty
    pub fn take(&self, spare: &mut VecDeque<Outbox>) {
        debug_assert!(spare.is_empty());
        let mut listed = lock(&self.0.listed);
        listed.told = None;
        std::mem::swap(&mut listed.outboxes, spare);
    }

    /// Pending while nothing is listed and nobody is [to be woken](Self::wake_held); takes nothing
    pub fn poll_listed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut listed = lock(&self.0.listed);
        if listed.outboxes.is_empty() && listed.held.is_empty() && !listed.urgent {
            return listed.sleep(cx);
        }
        Poll::Ready(())
    }

    /// Until the guard is dropped, other flushers to which the current thread gives work hear of it from this one
    ///
    /// For a thread that carries connections by itself and whose flusher calls [`wake_held`](Self::wake_held) behind
    /// everything that is ready to run. A flusher on another thread that were woken by the first frame would write
    /// each client one frame at a time, while this thread is still at the next.
    ///
    /// What such a thread gives to others waits while its own flusher does not run, so it must do nothing else for
    /// long. What others do for their own clients does not wait for it.
    pub fn relay(&self) -> Relay {
        RELAY.set(Some(self.clone()));
        Relay { list: self.clone(), _thread: PhantomData }
    }

    /// Wakes the flushers to which threads that [relay](Self::relay) here gave work since the last time
    pub fn wake_held(&self) {
        loop {
            // Woken outside the lock, for a waker is foreign code.
            let waker = lock(&self.0.listed).held.pop();
            let Some(waker) = waker else { return };
            waker.wake();
        }
    }

    /// Counts what a flusher has written for outboxes of this list
    pub fn record(&self, written: Written) {
        self.0.written.frames.fetch_add(written.frames, Ordering::Relaxed);
        self.0.written.bytes.fetch_add(written.bytes, Ordering::Relaxed);
    }

    /// What was written for outboxes of this list, by flushers as far as they recorded it and by owners
    pub fn written(&self) -> Written {
        let Counters { frames, bytes } = &self.0.written;
        Written { frames: frames.load(Ordering::Relaxed), bytes: bytes.load(Ordering::Relaxed) }
    }

    /// Lists an outbox ahead of the others, if it is not listed, and wakes the flusher at once, whoever else was to
    pub(super) fn hurry(&self, outbox: Option<Outbox>) {
        let mut listed = lock(&self.0.listed);
        outbox.into_iter().for_each(|outbox| listed.outboxes.push_front(outbox));
        listed.urgent = true;
        let told = listed.told.take().map(|told| told.flusher);
        let flusher = listed.flusher.take().or(told);
        drop(listed);
        wake(flusher);
    }

    /// Whether a backlog of this list must not wait any longer, since the last time this was asked
    ///
    /// A pusher found an outbox at high water with its sink leased; what was left of its backlog is listed.
    pub fn take_urgent(&self) -> bool {
        std::mem::take(&mut lock(&self.0.listed).urgent)
    }

    pub(super) fn enlist(&self, outbox: Outbox) {
        let mut listed = lock(&self.0.listed);
        listed.outboxes.push_back(outbox);
        if listed.flusher.is_none() && listed.told.is_none() {
            return;
        }
        // A thread that is ending has none any more.
        let other = |relay: &RefCell<Option<Self>>| {
            relay.borrow().as_ref().map(Self::number).filter(|relay| *relay != self.number())
        };
        match RELAY.try_with(other).ok().flatten() {
            Some(relay) => {
                // Nobody, but for the first frame of a turn.
                let Some(flusher) = listed.tell(relay) else { return };
                drop(listed);
                let relay = RELAY.with_borrow(Clone::clone);
                relay.into_iter().for_each(|relay| relay.hold(flusher.clone()));
            }
            None => {
                let told = listed.told.take().map(|told| told.flusher);
                let flusher = listed.flusher.take().or(told);
                drop(listed);
                wake(flusher);
            }
        }
    }

    /// Leaves it to this list's flusher to wake another one
    fn hold(&self, waker: Waker) {
        let own = {
            let mut listed = lock(&self.0.listed);
            listed.held.push(waker);
            // This list's flusher may itself be held by the other list at this moment: two that wait for each other
            // would both sleep.
            let told = listed.told.take().map(|told| told.flusher);
            listed.flusher.take().or(told)
        };
        wake(own);
    }

    /// Tells lists apart while they are there
    fn number(&self) -> usize {
        std::ptr::from_ref::<Shared>(&self.0).addr()
    }
}

impl Listed {
    fn sleep(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.told = None;
        self.flusher = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The flusher, if this list is to hold it too
    fn tell(&mut self, by: usize) -> Option<Waker> {
        if let Some(flusher) = self.flusher.take() {
            self.told = Some(Told { flusher: flusher.clone(), by: Some(by) });
            return Some(flusher);
        }
        let told = self.told.as_mut()?;
        told.by.take_if(|first| *first != by)?;
        Some(told.flusher.clone())
    }
}

thread_local! {
    /// Whose flusher wakes the others for this thread
    static RELAY: RefCell<Option<FlushList>> = const { RefCell::new(None) };
}

/// Lets the flusher of a list wake the others for as long as it is there, see [`FlushList::relay`]
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct Relay {
    list: FlushList,
    /// It belongs to the thread on which it was made
    _thread: PhantomData<*const ()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        RELAY.set(None);
        self.list.wake_held();
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
    fn lists_that_hold_each_other_do_not_sleep() {
        let lists = [(); 2].map(|()| FlushList::new());
        let flushers = [(); 2].map(|()| Arc::new(Flusher::default()));
        for (list, flusher) in lists.iter().zip(&flushers) {
            let waker = Waker::from(flusher.clone());
            assert!(list.poll_listed(&mut Context::from_waker(&waker)).is_pending());
        }
        // Two threads give work to each other's list: both have taken the other's flusher before either holds it.
        let [first, second] = &lists;
        let told = [(second, first), (first, second)]
            .map(|(to, by)| (by, lock(&to.0.listed).tell(by.number()).expect("it sleeps")));
        for (by, waker) in told {
            by.hold(waker);
        }
        assert!(flushers.iter().any(|flusher| flusher.0.load(Ordering::Relaxed) > 0), "both sleep");
        for list in &lists {
            list.wake_held();
        }
        assert!(flushers.iter().all(|flusher| flusher.0.load(Ordering::Relaxed) > 0));
    }
}
