//! When the protocol has to act by itself

use std::time::{Duration, Instant};

/// What a session waits for besides its client
#[derive(Debug, Clone, Copy)]
pub(crate) enum Timer {
    /// The next ping is due
    Ping,
    /// The pong, or another sign of life, must be here by then
    PongDeadline,
    /// The upgrade must be complete by then
    Upgrade,
    /// The client's waiting request is to be answered, so that it can go on with the upgrade
    Noop,
}

impl Timer {
    const COUNT: usize = 4;
}

#[derive(Debug, Default)]
pub(crate) struct Timers([Option<Instant>; Timer::COUNT]);

impl Timers {
    /// Sets a timer; one that lies beyond what a clock can show never comes
    pub(crate) fn arm(&mut self, timer: Timer, from: Instant, after: Duration) {
        self.0[timer as usize] = from.checked_add(after);
    }

    /// Arms a timer that is not armed, or moves it forward.
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

    /// Disarms a timer whose time has come, and tells when that was
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
