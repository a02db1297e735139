use std::fmt;
use std::str::FromStr;

use crate::Report;
use crate::format::round_duration;

/// Limit of a latency percentile, such as `p99=50ms`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencyLimit {
    /// Percentile that is limited.
    pub percentile: Percentile,
    /// Limit in microseconds.
    pub micros: f64,
}

/// Percentile of the latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Percentile {
    /// Median.
    P50,
    /// 90th percentile.
    P90,
    /// 99th percentile.
    P99,
    /// 99.9th percentile.
    P999,
    /// Maximum.
    Max,
}

impl LatencyLimit {
    /// Returns the latency that is limited, in microseconds.
    pub fn measured(&self, report: &Report) -> Option<f64> {
        match self.percentile {
            Percentile::P50 => report.p50_us,
            Percentile::P90 => report.p90_us,
            Percentile::P99 => report.p99_us,
            Percentile::P999 => report.p999_us,
            Percentile::Max => report.max_us,
        }
    }
}

impl Percentile {
    /// Returns the share of messages that may take longer.
    pub fn share_above(self) -> f64 {
        match self {
            Self::P50 => 0.5,
            Self::P90 => 0.1,
            Self::P99 => 0.01,
            Self::P999 => 0.001,
            Self::Max => 0.0,
        }
    }

    /// Returns the name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Max => "max",
        }
    }
}

impl FromStr for LatencyLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, time) = text.split_once('=').ok_or("expected PERCENTILE=DURATION, such as p99=50ms")?;
        let percentile = ALL
            .into_iter()
            .find(|percentile| percentile.name() == name)
            .ok_or_else(|| format!("unknown percentile {name}; expected p50, p90, p99, p99.9 or max"))?;
        let unit_at = time.find(|character: char| !character.is_ascii_digit() && character != '.');
        let (number, unit) = time.split_at(unit_at.unwrap_or(time.len()));
        let micros_per_unit = match unit {
            "us" | "µs" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            "" => return Err(format!("{time} has no unit; expected us, ms or s")),
            unit => return Err(format!("unknown unit {unit}; expected us, ms or s")),
        };
        let number: f64 = number.parse().map_err(|_| format!("{time} is not a duration"))?;
        let micros = number * micros_per_unit;
        if !(LEAST..=MOST).contains(&micros) {
            return Err("the limit must be between 1us and 60s".into());
        }
        Ok(Self { percentile, micros })
    }
}

impl fmt::Display for LatencyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ≤ {}", self.percentile.name(), round_duration(self.micros))
    }
}

const ALL: [Percentile; 5] =
    [Percentile::P50, Percentile::P90, Percentile::P99, Percentile::P999, Percentile::Max];
/// Shortest limit, µs.
const LEAST: f64 = 1.0;
/// Longest limit, µs.
const MOST: f64 = 60e6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_percentiles_and_units() {
        for (text, percentile, micros) in [
            ("p50=250us", Percentile::P50, 250.0),
            ("p90=250µs", Percentile::P90, 250.0),
            ("p99=50ms", Percentile::P99, 50_000.0),
            ("p99.9=1.5s", Percentile::P999, 1_500_000.0),
            ("max=60s", Percentile::Max, 60_000_000.0),
        ] {
            assert_eq!(text.parse(), Ok(LatencyLimit { percentile, micros }), "{text}");
        }
        assert_eq!("p99.9=1.5s".parse::<LatencyLimit>().unwrap().to_string(), "p99.9 ≤ 1.5 s");
    }

    #[test]
    fn rejects_other_limits_with_reason() {
        for (text, reason) in [
            ("50ms", "PERCENTILE=DURATION"),
            ("p98=50ms", "p98"),
            ("P99=50ms", "P99"),
            ("p99=50", "no unit"),
            ("p99=50m", "unit m"),
            ("p99=ms", "not a duration"),
            ("p99=1.2.3ms", "not a duration"),
            ("p99=-5ms", "unit -5ms"),
            ("p99=0ms", "between"),
            ("p99=61s", "between"),
            ("p99=", "no unit"),
        ] {
            let error = text.parse::<LatencyLimit>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn reads_its_percentile_from_report() {
        let report = Report {
            p50_us: Some(1.0),
            p90_us: Some(2.0),
            p99_us: Some(3.0),
            p999_us: Some(4.0),
            max_us: Some(5.0),
            ..Report::default()
        };
        let measured = ALL.map(|percentile| LatencyLimit { percentile, micros: 1.0 }.measured(&report));
        assert_eq!(measured, [1.0, 2.0, 3.0, 4.0, 5.0].map(Some));
        assert!(ALL.is_sorted_by(|one, next| one.share_above() > next.share_above()));
    }
}
