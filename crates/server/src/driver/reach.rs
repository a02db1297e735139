//! How far what was sent has reached the client

use std::time::{Duration, Instant};

use crate::clock;

/// Up to when everything that was sent to a client is known to have reached it.
///
/// A client that answers a ping has what was written before the ping. Pings overtake what waits, so only one that was
/// sent while nothing waited proves that all of it came; any other proves what the one before would have proven.
///
/// Kept in seconds of the process, since every client has one.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// What an answer to the last ping proves; 0 for nothing
    sent: u32,
    /// What was proven; 0 for nothing
    arrived: u32,
}

impl Reach {
    /// A ping is about to be sent; returns the mark that its answer is to bring back.
    pub(super) fn ping(&mut self, is_alone: bool, now: Instant) -> u32 {
        if is_alone {
            self.sent = clock::process_seconds(now);
        }
        self.sent
    }

    /// The last ping was answered.
    pub(super) fn answered(&mut self) {
        self.arrived = self.sent;
    }

    /// A ping with this mark was answered, perhaps not the last one; a mark that never was sent proves nothing.
    pub(super) fn answered_with(&mut self, mark: u32) {
        if mark <= self.sent {
            self.arrived = self.arrived.max(mark);
        }
    }

    /// Everything that was emitted before this has arrived.
    pub(super) fn arrived(&self) -> Option<Instant> {
        let at = self.arrived.checked_sub(SLACK)?;
        Some(clock::process_instant(at))
    }
}

/// Seconds that another thread may take at most between an event's time and its place in the outbox.
const SLACK: u32 = 1;
/// By how much more than the time of its pings a client may seem to be behind: the slack, and what is lost to whole
/// seconds.
pub(crate) const UNCERTAINTY: Duration = Duration::from_secs(SLACK as u64 + 1);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(base: Instant, seconds: u64) -> Instant {
        base + Duration::from_secs(seconds)
    }

    #[test]
    fn an_answered_ping_proves_what_came_before() {
        let base = clock::process_instant(1000);
        let mut reach = Reach::default();
        assert_eq!(reach.arrived(), None);
        reach.ping(true, at(base, 10));
        assert_eq!(reach.arrived(), None);
        reach.answered();
        assert_eq!(reach.arrived(), Some(at(base, 9)));
    }

    #[test]
    fn a_ping_that_overtakes_proves_no_more() {
        let base = clock::process_instant(1000);
        let mut reach = Reach::default();
        reach.ping(false, at(base, 5));
        reach.answered();
        assert_eq!(reach.arrived(), None);
        reach.ping(true, at(base, 10));
        reach.answered();
        reach.ping(false, at(base, 20));
        reach.answered();
        assert_eq!(reach.arrived(), Some(at(base, 9)));
    }

    #[test]
    fn marks_prove_their_own_ping_alone() {
        let base = clock::process_instant(1000);
        let mut reach = Reach::default();
        let first = reach.ping(true, at(base, 10));
        let second = reach.ping(true, at(base, 20));
        reach.answered_with(first);
        assert_eq!(reach.arrived(), Some(at(base, 9)));
        for forged in [second + 1, u32::MAX, 0] {
            reach.answered_with(forged);
            assert_eq!(reach.arrived(), Some(at(base, 9)), "{forged}");
        }
        reach.answered_with(second);
        reach.answered_with(first);
        assert_eq!(reach.arrived(), Some(at(base, 19)));
    }
}
