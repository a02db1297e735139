//! Latency percentiles.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};

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
}

/// A day; a run is shorter.
const LONGEST: u64 = 86_400_000_000_000;
/// Significant decimal digits; buckets are then at most 1/128 wide.
const DIGITS: u8 = 2;

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;

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
    fn encodes_in_standard_format() {
        let mut latencies = Latencies::new();
        [1_000, 2_000, 5_000_000].into_iter().for_each(|nanos| latencies.record(nanos));
        let text = latencies.encode();
        // Cookie 0x1c849304 of a compressed V2 histogram, with a word size of one byte.
        assert!(text.starts_with("HISTF"), "{text}");
        let bytes = STANDARD.decode(text).unwrap();
        let decoded: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
        assert_eq!(decoded, latencies.0);
        assert_eq!((latencies.max(), Latencies::new().max()), (Some(decoded.max()), None));
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
