//! Percentiles of latencies

/// Counts durations in buckets that are at most 0.8 % wide
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// An empty one
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; bucket(u64::MAX) + 1], total: 0 }
    }

    /// Counts one value
    pub(crate) fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
    }

    /// The smallest value that at least this share of all values does not exceed, to a bucket's width
    pub(crate) fn percentile(&self, share: f64) -> Option<u64> {
        let wanted = ((share * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let index = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(upper_bound(index))
    }
}

fn bucket(value: u64) -> usize {
    let magnitude = (u64::BITS - value.leading_zeros()).saturating_sub(SUB_BITS + 1);
    ((magnitude << SUB_BITS) + (value >> magnitude) as u32) as usize
}

fn upper_bound(index: usize) -> u64 {
    let index = index as u64;
    let magnitude = (index >> SUB_BITS).saturating_sub(1);
    let first = (index - (magnitude << SUB_BITS)) << magnitude;
    first + ((1 << magnitude) - 1)
}

const SUB_BITS: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_for_small_values_and_near_for_large_ones() {
        let mut histogram = Histogram::new();
        for value in 1..=100 {
            histogram.record(value);
        }
        let of = |histogram: &Histogram, share| histogram.percentile(share).unwrap();
        assert_eq!((of(&histogram, 0.0), of(&histogram, 0.5), of(&histogram, 0.99)), (1, 50, 99));
        assert_eq!(of(&histogram, 1.0), 100);

        let mut histogram = Histogram::new();
        for value in 1..=1000_u64 {
            histogram.record(value * 1_000_000);
        }
        for (share, exact) in [(0.5, 500e6), (0.99, 990e6), (1.0, 1000e6)] {
            let error = of(&histogram, share) as f64 / exact;
            assert!((1.0..1.008).contains(&error), "{share}: {error}");
        }
    }

    #[test]
    fn an_empty_histogram_has_no_percentile() {
        assert_eq!(Histogram::new().percentile(0.5), None);
    }

    #[test]
    fn every_bucket_ends_where_the_next_begins() {
        for index in 0..bucket(u64::MAX) {
            let last = upper_bound(index);
            assert_eq!((bucket(last), bucket(last + 1)), (index, index + 1), "bucket {index}");
        }
        assert_eq!(upper_bound(bucket(u64::MAX)), u64::MAX);
    }
}
