use serde::Serialize;

use crate::capacity::{Capacity, StoppedBy};
use crate::environment::Machine;
use crate::format::grouped;
use crate::latencies::{Latencies, PercentileStep};
use crate::scenario::Sample;
use crate::{Failure, Report};

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
        self.target_failure().is_none()
            && self.capacity.as_ref().map_or(self.report.ok, |capacity| capacity.rate.is_some())
    }

    /// Returns why the target ended the search, if it did.
    pub(super) fn target_failure(&self) -> Option<String> {
        let capacity = self.capacity.as_ref()?;
        let StoppedBy::Target(failure) = capacity.stopped_by else { return None };
        Some(target_failure(failure, capacity))
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// Explains why the target ended the search, and the remedy.
pub(super) fn target_failure(failure: Failure, capacity: &Capacity) -> String {
    let (last, before) = match capacity.steps.split_last() {
        Some((last, before)) => (last.error.as_deref().unwrap_or_default(), before),
        None => ("", &[][..]),
    };
    match (failure, before.last()) {
        (Failure::Unreachable, Some(step)) => format!(
            "{last}; the target answered before and ended under or after {} messages per second: see its log and exit \
             status",
            grouped(step.rate)
        ),
        (Failure::Unreachable, None) => last.into(),
        (_, _) => format!(
            "{last}; the target took no message, so no rate can be measured: check that URL, --pattern, --transport, \
             --namespace and --auth fit the server"
        ),
    }
}

/// Returns the percentile distribution of a report.
pub(super) fn percentiles(report: &Report) -> Vec<PercentileStep> {
    let latencies = report.histogram.as_deref().and_then(Latencies::decode);
    latencies.map(|latencies| latencies.distribution()).unwrap_or_default()
}
