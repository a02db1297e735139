//! Wake-ups that a thread defers to its own flusher.
//!
//! A thread with its own connections emits to clients of other threads, several times in one turn of its runtime. If
//! the first frame woke another thread's flusher at once, that flusher would write one frame at a time while this
//! thread still emits the next. So [`DeferredWakes`] makes the thread collect these wake-ups in its own list. The
//! thread's flusher delivers them after all ready tasks of the thread have run.
//!
//! # Why a thread-local
//!
//! The flusher that runs after the current turn is a property of the emitting thread, not of any value it passes on:
//!
//! - The emit does not know it. Socket and namespace handles are used on any thread, so the list of the socket's own
//!   outbox may belong to another thread, and a background task has no outbox.
//! - [`Router::broadcast`](crate::Router::broadcast) cannot return the flushers to wake as it returns a
//!   [`Backlog`](crate::Backlog). A caller that drops a backlog loses speed. A caller that drops a wake-up, such as an
//!   external router, would leave clients without their frames. So would each direct [`push`](crate::Outbox::push).
//! - The batch spans several emits of one turn, so it must outlive each of them. Only another value of the thread could
//!   hold it between two emits.
//!
//! The value is one optional list handle, set for the life of a guard. Threads without a guard wake directly.

use std::cell::RefCell;
use std::marker::PhantomData;

use super::state::FlushList;

thread_local! {
    /// List to which this thread defers wake-ups; see the module documentation for why it is thread-local.
    static LIST: RefCell<Option<FlushList>> = const { RefCell::new(None) };
}

/// Guard that makes the current thread defer wake-ups of other flushers to the flusher of one list.
///
/// Intended for a thread with its own connections and its own list, [flushed](crate::Flusher) on that thread. After all
/// ready tasks of the thread have run, its flusher wakes the flushers of other lists, which then write all frames of
/// the turn together.
///
/// Deferred wake-ups wait until the thread's own flusher runs, so the thread must not block for long. Frames pushed by
/// other threads do not wait for them. Dropping the guard delivers the deferred wake-ups.
#[derive(Debug)]
#[must_use = "wake-ups are deferred until the guard is dropped"]
pub struct DeferredWakes {
    list: FlushList,
    /// Makes the guard `!Send`.
    _thread: PhantomData<*const ()>,
}

impl DeferredWakes {
    /// Makes the current thread defer wake-ups to the flusher of `list`; replaces an earlier list.
    pub fn enter(list: &FlushList) -> Self {
        LIST.set(Some(list.clone()));
        Self { list: list.clone(), _thread: PhantomData }
    }

    /// Makes the current thread defer wake-ups to `list` until the guard is dropped, unless it already defers them.
    ///
    /// Intended for a thread without connections that emits many frames in one go, such as a task that receives the
    /// events of other servers. No flusher is needed, since dropping the guard delivers the wake-ups.
    pub fn enter_if_none(list: &FlushList) -> Option<Self> {
        LIST.with_borrow(Option::is_none).then(|| Self::enter(list))
    }
}

impl Drop for DeferredWakes {
    fn drop(&mut self) {
        LIST.set(None);
        self.list.wake_deferred();
    }
}

/// Returns the number of the list to which this thread defers wake-ups, unless that is `own`.
pub(super) fn list_other_than(own: &FlushList) -> Option<usize> {
    let other = |list: &RefCell<Option<FlushList>>| {
        list.borrow().as_ref().map(FlushList::number).filter(|number| *number != own.number())
    };
    // An ending thread has already destroyed the value.
    LIST.try_with(other).ok().flatten()
}

/// Returns the list to which this thread defers wake-ups.
pub(super) fn list() -> Option<FlushList> {
    LIST.with_borrow(Clone::clone)
}
