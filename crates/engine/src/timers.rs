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

/// Deadlines of the armed timers.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    ping: Option<Instant>,
    pong_deadline: Option<Instant>,
    /// Boxed, since a session is upgraded once at most.
    upgrade: Option<Box<UpgradeTimers>>,
}

#[derive(Debug, Default)]
struct UpgradeTimers {
    upgrade: Option<Instant>,
    noop: Option<Instant>,
}

impl Timers {
    fn get(&self, timer: Timer) -> Option<Instant> {
        let upgrade = self.upgrade.as_deref();
        match timer {
            Timer::Ping => self.ping,
            Timer::PongDeadline => self.pong_deadline,
            Timer::Upgrade => upgrade?.upgrade,
            Timer::Noop => upgrade?.noop,
        }
    }

    fn set(&mut self, timer: Timer, at: Option<Instant>) {
        match timer {
            Timer::Ping => self.ping = at,
            Timer::PongDeadline => self.pong_deadline = at,
            Timer::Upgrade | Timer::Noop if at.is_none() && self.upgrade.is_none() => {}
            Timer::Upgrade => self.upgrade.get_or_insert_default().upgrade = at,
            Timer::Noop => self.upgrade.get_or_insert_default().noop = at,
        }
        self.upgrade.take_if(|timers| timers.upgrade.is_none() && timers.noop.is_none());
    }

    /// Sets a timer; a deadline beyond the range of the clock never fires.
    pub(crate) fn arm(&mut self, timer: Timer, from: Instant, after: Duration) {
        self.set(timer, from.checked_add(after));
    }

    /// Arms a timer, or moves an armed one forward.
    pub(crate) fn arm_sooner(&mut self, timer: Timer, from: Instant, after: Duration) {
        let (at, current) = (from.checked_add(after), self.get(timer));
        if at.is_some_and(|at| current.is_none_or(|current| at < current)) {
            self.set(timer, at);
        }
    }

    pub(crate) fn disarm(&mut self, timer: Timer) {
        self.set(timer, None);
    }

    pub(crate) fn is_armed(&self, timer: Timer) -> bool {
        self.get(timer).is_some()
    }

    /// Disarms an expired timer and returns its deadline.
    pub(crate) fn take_due(&mut self, timer: Timer, now: Instant) -> Option<Instant> {
        let due = self.get(timer).filter(|due| *due <= now)?;
        self.set(timer, None);
        Some(due)
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let upgrade = self.upgrade.as_deref().map(|timers| [timers.upgrade, timers.noop]);
        [self.ping, self.pong_deadline].into_iter().chain(upgrade.unwrap_or_default()).flatten().min()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
