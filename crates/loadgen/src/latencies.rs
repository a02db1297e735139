//! Latency percentiles.

use hdrhistogram::Histogram;

/// Histogram of latencies in nanoseconds, with an error of at most 0.8 %.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    /// Returns an empty histogram.
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS);
        Self(histogram.expect("constant bounds are valid"))
    }

    /// Records a latency, capped at a day.
    pub(crate) fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos);
    }

    /// Returns the percentile for a share from 0 to 1, or `None` if there are no latencies.
    pub(crate) fn percentile(&self, share: f64) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(share))
    }
}

/// A day; a run is shorter.
const LONGEST: u64 = 86_400_000_000_000;
/// Significant decimal digits; buckets are then at most 1/128 wide.
const DIGITS: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_stay_within_error_bound() {
        let mut latencies = Latencies::new();
        for value in 1..=100 {
            latencies.record(value);
        }
        let of = |latencies: &Latencies, share| latencies.percentile(share).unwrap();
        assert_eq!((of(&latencies, 0.0), of(&latencies, 0.5), of(&latencies, 0.99)), (1, 50, 99));
        assert_eq!(of(&latencies, 1.0), 100);

        let mut latencies = Latencies::new();
        for value in 1..=1000_u64 {
            latencies.record(value * 1_000_000);
        }
        for (share, exact) in [(0.5, 500e6), (0.99, 990e6), (1.0, 1000e6)] {
            let error = of(&latencies, share) as f64 / exact;
            assert!((1.0..1.008).contains(&error), "{share}: {error}");
        }
    }

    #[test]
    fn empty_histogram_has_no_percentile() {
        assert_eq!(Latencies::new().percentile(0.5), None);
    }

    #[test]
    fn keeps_precision_at_every_magnitude() {
        for value in (0..46).flat_map(|power| [1 << power, (1 << power) + 1, (2 << power) - 1]) {
            let mut latencies = Latencies::new();
            latencies.record(value);
            let kept = latencies.percentile(1.0).unwrap();
            assert!(kept >= value && kept - value <= value >> 7, "{value} became {kept}");
        }
    }

    #[test]
    fn counts_zero_and_capped_latencies() {
        let mut latencies = Latencies::new();
        latencies.record(0);
        latencies.record(u64::MAX);
        assert_eq!(latencies.percentile(0.5), Some(0));
        assert!(latencies.percentile(1.0).unwrap() >= LONGEST);
    }
}
