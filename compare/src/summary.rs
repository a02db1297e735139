//! Medians of small samples.

/// Median of a sample, with its range and confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Summary {
    /// Middle value, or the mean of the middle two.
    pub median: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// 95 % confidence interval of the median; `None` with fewer than six values.
    pub interval: Option<(f64, f64)>,
    /// Number of values.
    pub count: usize,
}

impl Summary {
    /// Summarizes values; returns `None` if there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
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

    /// Formats the median with its interval, or with the range if there are too few values: `1.07 (1.04 to 1.10)`.
    pub(crate) fn text(self, decimals: usize) -> String {
        let Self { median, min, max, interval, count } = self;
        match interval {
            Some((low, high)) => format!("{median:.decimals$} ({low:.decimals$} to {high:.decimals$})"),
            None if count > 1 => {
                format!("{median:.decimals$} (range of {count}: {min:.decimals$} to {max:.decimals$})")
            }
            None => format!("{median:.decimals$} (one round)"),
        }
    }

    /// Returns the summary in another unit.
    pub(crate) fn scaled(self, factor: f64) -> Self {
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

/// Formats a whole number with separators: `12,345`.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns the ranks of the 95 % confidence interval of the median of `count` sorted values.
///
/// For any distribution, each value is below the true median with probability one half, so the number of such values is
/// binomial.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computes_median_for_any_count() {
        assert_eq!(Summary::of([3.0, 1.0, 2.0]).unwrap().median, 2.0);
        assert_eq!(Summary::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Summary::of([]), None);
    }

    #[test]
    fn text_has_interval_or_range() {
        let text = |values: &[f64]| Summary::of(values.iter().copied()).unwrap().text(1);
        assert_eq!(text(&[1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]), "1.3 (1.0 to 1.6)");
        assert_eq!(text(&[1.0, 2.0]), "1.5 (range of 2: 1.0 to 2.0)");
        assert_eq!(text(&[1.0]), "1.0 (one round)");
    }

    #[test]
    fn separates_thousands() {
        let numbers = [0.4, 12.0, 999.6, 12_345.0, 1_234_567.0].map(thousands);
        assert_eq!(numbers, ["0", "12", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn interval_ranks_match_binomial_table() {
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
