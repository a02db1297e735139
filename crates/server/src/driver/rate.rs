//! Event rate limit of a client

use std::time::{Duration, Instant};

use crate::host::config::EventRate;

/// Event allowance of a client, stored as one point in time.
///
/// The time at which the bucket is full again (generic cell rate algorithm): one number instead of a level and its
/// timestamp.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes one event from the bucket; returns `false` if it is empty.
    pub(super) fn take(&mut self, rate: EventRate, now: Instant) -> bool {
        let each = Duration::from_secs(1) / rate.per_second.get();
        let from = self.full_at.map_or(now, |full_at| full_at.max(now));
        // Overflow needs less than one event in years.
        let Some(full_at) = from.checked_add(each) else { return false };
        let fits = full_at.duration_since(now) <= each * rate.burst.get();
        if fits {
            self.full_at = Some(full_at);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn taken(bucket: &mut Bucket, rate: EventRate, now: Instant, tries: usize) -> usize {
        (0..tries).filter(|_| bucket.take(rate, now)).count()
    }

    fn number(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).expect("not zero")
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "some point in time is needed to count from")]
    fn allows_burst_then_sustained_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::default();
        let rate = EventRate::per_second(number(10)).burst(number(25));
        assert_eq!(taken(&mut bucket, rate, start, 100), 25);
        assert_eq!(taken(&mut bucket, rate, start + Duration::from_millis(99), 5), 0);
        assert_eq!(taken(&mut bucket, rate, start + Duration::from_millis(100), 5), 1);
        // Two seconds add twenty; a long pause adds no more than the burst.
        assert_eq!(taken(&mut bucket, rate, start + Duration::from_millis(2100), 100), 20);
        assert_eq!(taken(&mut bucket, rate, start + Duration::from_secs(3600), 100), 25);
        let mut long = Bucket::default();
        let sent: usize =
            (0..10_000).map(|tick| taken(&mut long, rate, start + Duration::from_millis(tick), 1)).sum();
        assert_eq!(sent, 25 + 99);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "some point in time is needed to count from")]
    fn accepts_smallest_and_largest_rate() {
        let start = Instant::now();
        let once = EventRate::per_second(number(1)).burst(number(1));
        assert_eq!(taken(&mut Bucket::default(), once, start, 9), 1);
        let most = EventRate::per_second(number(u32::MAX));
        assert_eq!(taken(&mut Bucket::default(), most, start, 1000), 1000);
        assert_eq!(EventRate::per_second(number(10)).burst.get(), 20);
    }
}
