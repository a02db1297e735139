//! Shutdown phases and the sessions that remain

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

/// Shutdown phase of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// Not ready, but still serving
    Leaving,
    /// Rejects new connections and sessions
    Draining,
    /// Closing sessions and HTTP connections
    Closing,
    Over,
}

pub(crate) struct Lifecycle {
    phase: watch::Sender<Phase>,
    /// Driver tasks, including closing ones, and tasks running remaining handlers
    drivers: AtomicUsize,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { phase: watch::Sender::new(Phase::Serving), drivers: AtomicUsize::new(0) }
    }
}

impl Lifecycle {
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Advances to a phase; never goes back.
    pub(crate) fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = *phase < to;
            if later {
                *phase = to;
            }
            later
        });
    }

    /// Waits until a phase is reached.
    ///
    /// # Cancel safety
    /// This method is cancel safe.
    pub(crate) async fn reached(&self, at_least: Phase) {
        // `self` owns the sender, so it cannot be closed.
        let _ = self.phase.subscribe().wait_for(|phase| *phase >= at_least).await;
    }

    pub(crate) fn driver_started(&self) {
        self.drivers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn driver_ended(&self) {
        self.drivers.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn drivers(&self) -> usize {
        self.drivers.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_returns_to_earlier_phase() {
        let lifecycle = Lifecycle::default();
        lifecycle.advance(Phase::Draining);
        lifecycle.advance(Phase::Leaving);
        assert_eq!(lifecycle.phase(), Phase::Draining);
    }
}
