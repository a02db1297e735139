//! Protocol timers.

use std::time::{Duration, Instant};

/// Timers of a session.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Timer {
    /// Time to send the next ping.
    Ping,
    /// Deadline of the pong or other activity.
    PongDeadline,
    /// Deadline of the upgrade.
    Upgrade,
    /// Time to answer the pending request, so that the client can continue the upgrade.
    Noop,
}

impl Timer {
    const COUNT: usize = 4;
}

#[derive(Debug, Default)]
pub(crate) struct Timers([Option<Instant>; Timer::COUNT]);

impl Timers {
    /// Sets a timer; a deadline beyond the range of the clock never fires.
    pub(crate) fn arm(&mut self, timer: Timer, from: Instant, after: Duration) {
        self.0[timer as usize] = from.checked_add(after);
    }

    /// Arms a timer, or moves an armed one forward.
    pub(crate) fn arm_sooner(&mut self, timer: Timer, from: Instant, after: Duration) {
        let at = from.checked_add(after);
        let current = &mut self.0[timer as usize];
        if at.is_some_and(|at| current.is_none_or(|current| at < current)) {
            *current = at;
        }
    }

    pub(crate) fn disarm(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(crate) fn is_armed(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    /// Disarms an expired timer and returns its deadline.
    pub(crate) fn take_due(&mut self, timer: Timer, now: Instant) -> Option<Instant> {
        self.0[timer as usize].take_if(|due| *due <= now)
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
