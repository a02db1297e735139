//! Calls of the server.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::error;

/// Guard of calls of the server: a panic affects one call, and the task continues.
#[derive(Debug, Default)]
pub struct HostGuard {
    panics: AtomicU64,
}

impl HostGuard {
    /// Calls a function; a panic is counted, and the first one logged. Returns `None` after a panic.
    pub fn call<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        catch_unwind(AssertUnwindSafe(call)).map_err(|_| self.count_panic()).ok()
    }

    /// Counts a panic that was caught elsewhere.
    pub fn count_panic(&self) {
        if self.panics.fetch_add(1, Ordering::Relaxed) == 0 {
            error!(
                "server panicked while it handled something of another node; further panics are only counted"
            );
        }
    }

    /// Returns the number of panics.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }
}
