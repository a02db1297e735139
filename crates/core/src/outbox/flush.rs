//! The outboxes that have something to write

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use super::{GROUP, Outbox};
use crate::sync::{Arc, Mutex, lock};

/// The outboxes that have something to write, and whoever writes for them
///
/// One for each thread or worker that carries connections. A *flusher* task takes the whole list when something
/// was put on an empty one, lets everything that is ready to run put more on it, and then writes each outbox once:
/// all that waits for a client leaves in one system call, and a broadcast wakes one task, not one for each
/// recipient.
///
/// Cloning gives another handle to the same list.
#[derive(Clone, Default)]
pub struct FlushList(Arc<Shared>);

#[derive(Default)]
struct Shared {
    listed: Mutex<Listed>,
    written: Counters,
}

#[derive(Default)]
struct Listed {
    outboxes: VecDeque<Outbox>,
    flusher: Option<Waker>,
    /// The flusher again, while it sleeps and others hold it, see [`FlushList::relay`]
    told: Option<Told>,
    /// Flushers of other lists that this one's flusher is going to wake
    held: Vec<Waker>,
    /// A backlog must not wait
    urgent: bool,
}

/// Who is going to wake a flusher; whoever does not relay need not wait for that
struct Told {
    flusher: Waker,
    /// The list that holds it, none if a second one does, which is enough
    by: Option<usize>,
}

// On a line of their own: they are written once a round, the lock beside them at every push.
#[derive(Default)]
#[repr(align(128))]
struct Counters {
    frames: AtomicU64,
    bytes: AtomicU64,
}

/// What was handed to carriers
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Written {
    /// Frames, those of the protocol and of the carrier included
    pub frames: u64,
    /// Bytes of their messages, without what the carrier puts around them
    pub bytes: u64,
}

impl AddAssign for Written {
    fn add_assign(&mut self, other: Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
    }
}

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

    /// Writes what waits in `outbox`, as far as its sink takes it; tells how much that was
    ///
    /// A flusher adds up what a round wrote and [records](Self::record) the sum, so that nothing is counted in
    /// shared memory for each recipient.
    pub fn write(outbox: &Outbox) -> Written {
        outbox.flush()
    }

    /// Takes up to `most` outboxes from the front, and writes what waits in them
    ///
    /// As [`write`](Self::write) for each, with the memory of a few of them fetched at a time. A sink that panics
    /// costs its own client and nobody else.
    pub fn write_some(outboxes: &mut VecDeque<Outbox>, most: usize) -> Written {
        let mut written = Written::default();
        let mut left = most.min(outboxes.len());
        while left > 0 {
            let size = left.min(GROUP);
            let group = &outboxes.make_contiguous()[..size];
            // Those whose turn did not come are listed again.
            if let Ok(group) = catch_unwind(AssertUnwindSafe(|| Outbox::flush_group(group))) {
                written += group;
            }
            // Let go of while their counters are still near.
            outboxes.drain(..size);
            left -= size;
        }
        written
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

    /// Writes for everything that is listed, and for what that puts on the list, until it is empty
    ///
    /// For tests and for programs without a flusher task.
    pub fn write_all(&self) {
        let mut outboxes = VecDeque::new();
        loop {
            self.take(&mut outboxes);
            if outboxes.is_empty() {
                return;
            }
            self.record(Self::write_some(&mut outboxes, usize::MAX));
        }
    }

    /// Lists an outbox ahead of the others, if it is not listed, and wakes the flusher at once, whoever else was to
    pub(super) fn hurry(&self, outbox: Option<Outbox>) {
        let mut listed = lock(&self.0.listed);
        outbox.into_iter().for_each(|outbox| listed.outboxes.push_front(outbox));
        listed.urgent = true;
        let told = listed.told.take().map(|told| told.flusher);
        let flusher = listed.flusher.take().or(told);
        drop(listed);
        super::wake(flusher);
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
                super::wake(flusher);
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
        super::wake(own);
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
