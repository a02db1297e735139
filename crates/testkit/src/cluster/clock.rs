//! Clocks of nodes, which differ in origin and rate.

use std::time::{Duration, Instant};

/// Clock of one node, as a function of the engine's time.
#[derive(Debug, Clone, Copy)]
pub(super) struct NodeClock {
    origin: Instant,
    offset: Duration,
    /// Deviation of the rate, in thousandths.
    drift: i32,
}

impl NodeClock {
    pub(super) fn new(origin: Instant, offset: Duration, drift: i32) -> Self {
        Self { origin, offset, drift }
    }

    /// Returns the time of the node's clock.
    pub(super) fn local(&self, now: Instant) -> Instant {
        let elapsed = now.saturating_duration_since(self.origin);
        let part = elapsed * self.drift.unsigned_abs() / 1000;
        let elapsed = if self.drift < 0 { elapsed - part } else { elapsed + part };
        self.origin + self.offset + elapsed
    }

    /// Returns a time at which the node's clock has reached `local`, at most a microsecond too late.
    pub(super) fn global(&self, local: Instant) -> Instant {
        let elapsed = local.saturating_duration_since(self.origin + self.offset).as_nanos();
        let rate = u128::from(1000_u32.saturating_add_signed(self.drift));
        let nanos = (elapsed * 1000).div_ceil(rate);
        let mut now = self.origin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 4));
        while self.local(now) < local {
            now += Duration::from_nanos(100);
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an `Instant` has no other constructor")]
    fn times_convert_back() {
        let origin = Instant::now();
        for drift in [-10, 0, 3, 10] {
            let clock = NodeClock::new(origin, Duration::from_secs(77), drift);
            for nanos in [0, 1, 999, 1_000_000, 123_456_789_012] {
                let local = clock.local(origin) + Duration::from_nanos(nanos);
                let late = clock.local(clock.global(local)) - local;
                assert!(late < Duration::from_micros(1), "{drift} {nanos}: {late:?}");
            }
        }
    }
}
