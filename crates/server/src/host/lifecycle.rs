//! Shutdown phases and the sessions that remain

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};

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
    /// The phase, for readers that take no lock
    reached: AtomicU8,
    /// Notified in the phase `Closing`
    closing: Notify,
    /// Driver tasks, including closing ones, and tasks running remaining handlers
    drivers: AtomicUsize,
}

impl Default for Lifecycle {
    fn default() -> Self {
        let phase = watch::Sender::new(Phase::Serving);
        let reached = AtomicU8::new(Phase::Serving as u8);
        Self { phase, reached, closing: Notify::new(), drivers: AtomicUsize::new(0) }
    }
}

impl Lifecycle {
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Advances to a phase; never goes back.
    pub(crate) fn advance(&self, to: Phase) {
        // First, so that tasks which are notified find it.
        self.reached.fetch_max(to as u8, Ordering::Relaxed);
        if to >= Phase::Closing {
            self.closing.notify_waiters();
        }
        self.phase.send_if_modified(|phase| {
            let later = *phase < to;
            if later {
                *phase = to;
            }
            later
        });
    }

    /// Returns whether a phase is reached.
    pub(crate) fn has_reached(&self, at_least: Phase) -> bool {
        self.reached.load(Ordering::Relaxed) >= at_least as u8
    }

    /// Returns a future that resolves once the phase `Closing` is reached.
    ///
    /// For a task that calls [`has_reached`](Self::has_reached) each time it runs: one poll is enough to wake it.
    pub(crate) fn closing(&self) -> Notified<'_> {
        self.closing.notified()
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
    use std::sync::Arc;
    use std::task::{Context, Wake};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn closing_wakes_a_task_that_polled_once() {
        let (lifecycle, woken) = (Lifecycle::default(), Arc::new(Woken::default()));
        let mut closing = std::pin::pin!(lifecycle.closing());
        assert!(closing.as_mut().poll(&mut Context::from_waker(&woken.clone().into())).is_pending());
        for (phase, wakes) in
            [(Phase::Leaving, 0), (Phase::Draining, 0), (Phase::Closing, 1), (Phase::Over, 1)]
        {
            lifecycle.advance(phase);
            assert_eq!(
                (woken.0.load(Ordering::Relaxed), lifecycle.has_reached(Phase::Closing)),
                (wakes, wakes > 0)
            );
        }
    }

    #[test]
    fn never_returns_to_earlier_phase() {
        let lifecycle = Lifecycle::default();
        lifecycle.advance(Phase::Draining);
        lifecycle.advance(Phase::Leaving);
        assert_eq!(lifecycle.phase(), Phase::Draining);
    }
}
