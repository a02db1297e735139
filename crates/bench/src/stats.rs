//! Percentiles of latencies, and medians of few runs

/// Counts durations in buckets that are at most 0.8 % wide
#[derive(Debug, Clone)]
pub struct Histogram {
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
    pub fn new() -> Self {
        Self { counts: vec![0; bucket(u64::MAX) + 1], total: 0 }
    }

    /// Counts one value
    pub fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
    }

    /// The smallest value that at least this share of all values does not exceed, to a bucket's width
    pub fn percentile(&self, share: f64) -> Option<u64> {
        let wanted = ((share * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let index = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(upper_bound(index))
    }
}

/// The middle of a sample, its ends, and how sure the middle is
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Summary {
    /// The middle value, or the mean of the middle two
    pub median: f64,
    /// The least value
    pub min: f64,
    /// The largest value
    pub max: f64,
    /// Contains the true median in at least 95 of 100 cases; none with fewer than six values
    pub interval: Option<(f64, f64)>,
    /// How many values there were
    pub count: usize,
}

impl Summary {
    /// `None` of no values
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        let interval = interval_ranks(values.len()).map(|(low, high)| (values[low], values[high]));
        Some(Self { median, min, max, interval, count: values.len() })
    }

    /// The same in another unit
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        let interval = self.interval.map(|(low, high)| (low * factor, high * factor));
        Self {
            median: self.median * factor,
            min: self.min * factor,
            max: self.max * factor,
            interval,
            ..self
        }
    }
}

/// Which two of `count` sorted values enclose the median in at least 95 of 100 cases
///
/// Each value lies below the true median with probability one half, whatever the distribution; so the number of
/// those below is binomial, and the ranks follow from it alone.
fn interval_ranks(count: usize) -> Option<(usize, usize)> {
    let mut term = 0.5_f64.powi(i32::try_from(count).ok()?);
    let mut tail = 0.0;
    let mut ranks = None;
    for low in 0..count / 2 {
        tail += term;
        if tail > 0.025 {
            break;
        }
        ranks = Some((low, count - 1 - low));
        term *= (count - low) as f64 / (low + 1) as f64;
    }
    ranks
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

    #[test]
    fn median_of_odd_and_even_counts() {
        assert_eq!(Summary::of([3.0, 1.0, 2.0]).unwrap().median, 2.0);
        assert_eq!(Summary::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Summary::of([]), None);
    }

    #[test]
    fn interval_takes_the_ranks_of_the_binomial_table() {
        assert_eq!(interval_ranks(5), None);
        assert_eq!(interval_ranks(6), Some((0, 5)));
        assert_eq!(interval_ranks(8), Some((0, 7)));
        assert_eq!(interval_ranks(9), Some((1, 7)));
        assert_eq!(interval_ranks(12), Some((2, 9)));
        assert_eq!(interval_ranks(20), Some((5, 14)));
        let nine = Summary::of((1..=9).map(f64::from)).unwrap();
        assert_eq!((nine.interval, nine.min, nine.max), (Some((2.0, 8.0)), 1.0, 9.0));
        assert_eq!(Summary::of((1..=5).map(f64::from)).unwrap().interval, None);
    }
}
