//! How far the server is on its way out, and which sessions are still there

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

/// How far the server is on its way out
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// No longer ready, and serving all the same
    Leaving,
    /// Takes in nothing new
    Draining,
    /// The sessions are closed, and HTTP connections are
    Closing,
    Over,
}

pub(crate) struct Lifecycle {
    phase: watch::Sender<Phase>,
    /// Tasks that drive sessions, those that are closing included, and those that run what sessions left behind
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

    /// Goes on to a phase, never back
    pub(crate) fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = *phase < to;
            if later {
                *phase = to;
            }
            later
        });
    }

    /// Waits until a phase is reached
    ///
    /// Cancel safe.
    pub(crate) async fn reached(&self, at_least: Phase) {
        // The sender is `self`, so it cannot be gone.
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
    fn a_phase_is_never_gone_back_to() {
        let lifecycle = Lifecycle::default();
        lifecycle.advance(Phase::Draining);
        lifecycle.advance(Phase::Leaving);
        assert_eq!(lifecycle.phase(), Phase::Draining);
    }
}
