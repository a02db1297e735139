//! Synchronization primitives from std, or from loom under `cfg(loom)`.

#[cfg(loom)]
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::sync::{Arc, Mutex, MutexGuard};

/// Locks the mutex and ignores poisoning.
///
/// The guarded data is consistent at every point where foreign code (a codec, a waker) runs, so a panic there leaves
/// nothing half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
