//! Times of requests to other nodes.

use std::time::Duration;

use super::{ClusterMetric, ClusterValue};

/// Histogram of the times that requests to other nodes took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestTimes {
    /// Number of requests up to each of [`BOUNDS`](Self::BOUNDS), not cumulative; the last is for all others.
    pub counts: [u64; Self::BOUNDS.len() + 1],
    /// Sum of the times.
    pub sum: Duration,
    /// Longest time.
    pub max: Duration,
}

impl RequestTimes {
    /// Upper bounds of the buckets, in milliseconds.
    pub const BOUNDS: [u64; 9] = [1, 2, 5, 10, 50, 100, 500, 1000, 5000];

    /// Counts a request that has ended.
    pub fn record(&mut self, time: Duration) {
        let within = Self::BOUNDS.iter().position(|bound| time <= Duration::from_millis(*bound));
        self.counts[within.unwrap_or(Self::BOUNDS.len())] += 1;
        self.sum += time;
        self.max = self.max.max(time);
    }

    /// Returns the histogram `cluster_request_seconds` for the metrics of a server.
    #[must_use]
    pub fn to_cluster_metric(&self) -> ClusterMetric {
        let seconds = Self::BOUNDS.iter().map(|bound| *bound as f64 / 1000.0);
        ClusterMetric {
            name: "cluster_request_seconds",
            help: "Duration of requests to other nodes in seconds.",
            value: ClusterValue::Histogram {
                sum: self.sum.as_secs_f64(),
                buckets: seconds.chain([f64::MAX]).zip(self.counts).collect(),
            },
        }
    }
}
