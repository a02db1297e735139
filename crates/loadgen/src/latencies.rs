//! Latency percentiles.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use serde::Serialize;

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

    /// Returns the maximum, or `None` if there are no latencies.
    pub(crate) fn max(&self) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.max())
    }

    /// Returns the histogram in the exchange format of `HdrHistogram`: V2, compressed, in base64.
    pub(crate) fn encode(&self) -> String {
        let mut bytes = Vec::new();
        let written = V2DeflateSerializer::new().serialize(&self.0, &mut bytes);
        written.expect("a histogram of this size fits into memory");
        STANDARD.encode(bytes)
    }

    /// Parses an [encoded](Self::encode) histogram.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        Deserializer::new().deserialize(&mut bytes.as_slice()).ok().map(Self)
    }

    /// Returns the percentile distribution, in ever finer steps towards 100 %.
    pub(crate) fn distribution(&self) -> Vec<PercentileStep> {
        let steps = self.0.iter_quantiles(STEPS_PER_HALVING).map(|step| PercentileStep {
            // Without the rounding errors of the iteration.
            percentile: (step.quantile_iterated_to() * 1e9).round() / 1e7,
            latency_us: step.value_iterated_to().min(self.0.max()) as f64 / 1e3,
        });
        if self.0.is_empty() { Vec::new() } else { steps.collect() }
    }
}

/// Step of a percentile distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct PercentileStep {
    /// Percentage of the deliveries with at most this latency.
    pub(crate) percentile: f64,
    pub(crate) latency_us: f64,
}

/// Number of steps of the distribution each time the distance to 100 % halves.
const STEPS_PER_HALVING: u32 = 5;
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
    fn distribution_ends_at_maximum() {
        let mut latencies = Latencies::new();
        (1..=1000_u64).for_each(|value| latencies.record(value * 1_000_000));
        let steps = latencies.distribution();
        assert_eq!((steps[0].percentile, steps.last().unwrap().percentile), (0.0, 100.0));
        assert!(steps.is_sorted_by(|one, next| one.percentile < next.percentile));
        assert!(steps.is_sorted_by(|one, next| one.latency_us <= next.latency_us));
        let max = latencies.max().unwrap() as f64 / 1e3;
        assert_eq!(steps.last().unwrap().latency_us, max);
        assert!(steps.iter().any(|step| (99.0..99.9).contains(&step.percentile)), "{steps:?}");
        assert_eq!(Latencies::new().distribution(), []);
    }

    #[test]
    fn encodes_in_standard_format() {
        let mut latencies = Latencies::new();
        [1_000, 2_000, 5_000_000].into_iter().for_each(|nanos| latencies.record(nanos));
        let text = latencies.encode();
        // Cookie 0x1c849304 of a compressed V2 histogram, with a word size of one byte.
        assert!(text.starts_with("HISTF"), "{text}");
        let decoded = Latencies::decode(&text).unwrap();
        assert_eq!(decoded.0, latencies.0);
        assert_eq!((decoded.max(), Latencies::new().max()), (latencies.max(), None));
        assert!(Latencies::decode("HISTF").is_none());
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
