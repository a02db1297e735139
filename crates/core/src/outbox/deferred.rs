//! Wake-ups that a thread leaves to its own flusher
//!
//! A thread that carries connections by itself emits to clients of other threads, several times in one turn of its
//! runtime. If the first frame woke the flusher of another thread at once, that flusher would write each client one frame
//! at a time while this thread is still at the next. So [`DeferredWakes`] makes the thread collect these wake-ups in its
//! own list, and its flusher delivers them once everything that was ready to run on the thread has run.
//!
//! # Why a thread-local
//!
//! "Which flusher runs behind the current turn" is a property of the thread that emits, and of nothing it passes on:
//!
//! - The emit does not know it. A handle of a socket or a namespace is used on any thread, so the list of the socket's
//!   own outbox may belong to another one, and a background task has no outbox at all.
//! - [`Router::broadcast`](crate::Router::broadcast) cannot return the flushers to wake as it returns a
//!   [`Backlog`](crate::Backlog). A caller that drops a backlog loses speed; one that drops a wake-up, such as a router
//!   from outside, would leave clients without their frames. Every direct [`push`](crate::Outbox::push) would bear the
//!   same duty.
//! - The batch spans several emits of one turn, so it must outlive each of them. What could hold it between two emits is
//!   again a value of the thread.
//!
//! The value is one optional list handle, set for the life of a guard; threads without a guard wake directly.

use std::cell::RefCell;
use std::marker::PhantomData;

use super::state::FlushList;

thread_local! {
    /// List to which this thread defers wake-ups; the module's documentation says why it is thread-local
    static LIST: RefCell<Option<FlushList>> = const { RefCell::new(None) };
}

/// Guard: while it lives, the current thread leaves wake-ups of other flushers to the flusher of one list.
///
/// For a thread that carries connections by itself, with the list that is [flushed](crate::Flusher) on it. Flushers of
/// other lists are woken by that flusher, once everything that is ready to run on the thread has run, so that they write
/// all frames of the turn together.
///
/// These wake-ups wait while the thread's own flusher does not run, so the thread must not block for long. Frames that
/// other threads push do not wait for them. Dropping the guard delivers what was deferred.
#[derive(Debug)]
#[must_use = "wake-ups are deferred until the guard is dropped"]
pub struct DeferredWakes {
    list: FlushList,
    /// Keeps the guard on its thread
    _thread: PhantomData<*const ()>,
}

impl DeferredWakes {
    /// Makes the current thread defer wake-ups to the flusher of `list`, in place of an earlier list.
    pub fn enter(list: &FlushList) -> Self {
        LIST.set(Some(list.clone()));
        Self { list: list.clone(), _thread: PhantomData }
    }
}

impl Drop for DeferredWakes {
    fn drop(&mut self) {
        LIST.set(None);
        self.list.wake_deferred();
    }
}

/// Returns the number of the list to which this thread defers wake-ups, unless that is `own`
pub(super) fn list_other_than(own: &FlushList) -> Option<usize> {
    let other = |list: &RefCell<Option<FlushList>>| {
        list.borrow().as_ref().map(FlushList::number).filter(|number| *number != own.number())
    };
    // A thread that is ending has none any more.
    LIST.try_with(other).ok().flatten()
}

/// Returns the list to which this thread defers wake-ups
pub(super) fn list() -> Option<FlushList> {
    LIST.with_borrow(Clone::clone)
}
