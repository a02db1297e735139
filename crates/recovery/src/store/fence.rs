//! Fence around the sessions of a node.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Fence around the sessions of a node, which is closed while other nodes may have claimed them unnoticed.
///
/// The task that stores sessions keeps it open for the time of the node's [lease](super::SessionStore::renew). A
/// process that was frozen for longer finds it closed when it wakes up, since it is closed by time alone. It stays
/// closed until the store has confirmed which sessions the node still holds. A server runs no handlers of clients that
/// can recover while it is closed.
///
/// A new fence is open, and stays so if no task stores sessions.
pub struct Fence {
    /// First time of the task.
    origin: OnceLock<Instant>,
    /// Nanoseconds since then until which it is open.
    open_until: AtomicU64,
    /// Tasks that wait, by a key that each has.
    waiting: Mutex<HashMap<usize, Waker>>,
}

const ALWAYS: u64 = u64::MAX;

impl Default for Fence {
    fn default() -> Self {
        Self { origin: OnceLock::new(), open_until: AtomicU64::new(ALWAYS), waiting: Mutex::default() }
    }
}

impl Fence {
    /// Creates an open fence.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns whether it is open.
    #[inline]
    pub fn is_open(&self, now: Instant) -> bool {
        let until = self.open_until.load(Ordering::Acquire);
        until == ALWAYS || self.since_origin(now) < until
    }

    /// Opens it for a time that begins at `from`; for the task that stores sessions.
    pub fn open_for(&self, from: Instant, time: Duration) {
        self.origin.get_or_init(|| from);
        let time = u64::try_from(time.as_nanos()).unwrap_or(ALWAYS);
        self.set(self.since_origin(from).saturating_add(time).min(ALWAYS - 1));
    }

    /// Opens it for ever, once no task stores sessions any more.
    pub fn open(&self) {
        self.set(ALWAYS);
    }

    /// Polls until it is open. A task with the same `key` as another one replaces it.
    pub fn poll_open(&self, key: usize, now: Instant, cx: &Context<'_>) -> Poll<()> {
        if self.is_open(now) {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting();
        if self.is_open(now) {
            return Poll::Ready(());
        }
        waiting.insert(key, cx.waker().clone());
        Poll::Pending
    }

    fn since_origin(&self, time: Instant) -> u64 {
        let origin = self.origin.get().copied().unwrap_or(time);
        u64::try_from(time.saturating_duration_since(origin).as_nanos()).unwrap_or(ALWAYS - 1)
    }

    fn set(&self, until: u64) {
        self.open_until.store(until, Ordering::Release);
        let waiting = std::mem::take(&mut *self.waiting());
        waiting.into_values().for_each(Waker::wake);
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<usize, Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Fence {
    /// Compares the identity.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Fence {}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fence").finish_non_exhaustive()
    }
}
