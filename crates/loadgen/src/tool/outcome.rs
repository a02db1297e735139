use serde::Serialize;

use super::capacity::Capacity;
use crate::Report;
use crate::environment::Machine;
use crate::latencies::{Latencies, PercentileStep};
use crate::scenario::Sample;

/// Result as written to the reports.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    /// Command line, without secrets.
    pub(super) command: String,
    /// Start in UTC.
    pub(super) date: String,
    pub(super) version: &'static str,
    /// Machine of the load generator.
    pub(super) machine: Machine,
    /// Server URLs, without the values of their queries.
    pub(super) urls: Vec<String>,
    pub(super) pattern: String,
    pub(super) rate: Option<f64>,
    /// Result of the search with `--find-capacity`; the rest is then the run of the capacity.
    pub(super) capacity: Option<Capacity>,
    #[serde(flatten)]
    pub(super) report: Report,
    /// Percentile distribution of the latency.
    pub(super) percentiles: Vec<PercentileStep>,
    pub(super) samples: Vec<Sample>,
}

impl Outcome {
    /// Returns whether the command succeeds: every delivery was correct, or a capacity was found.
    pub(super) fn is_ok(&self) -> bool {
        self.capacity.as_ref().map_or(self.report.ok, |capacity| capacity.rate.is_some())
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// Returns the percentile distribution of a report.
pub(super) fn percentiles(report: &Report) -> Vec<PercentileStep> {
    let latencies = report.histogram.as_deref().and_then(Latencies::decode);
    latencies.map(|latencies| latencies.distribution()).unwrap_or_default()
}
