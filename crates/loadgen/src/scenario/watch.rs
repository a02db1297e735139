//! Observation of a run in progress.

use std::time::Duration;

use super::meter::{Reading, server_memory};
use crate::Error;
use crate::latencies::Latencies;
use crate::process::now;

/// Observer of a run.
pub(crate) trait Watch {
    /// Called with the number of ready clients while connecting.
    fn connecting(&mut self, _ready: usize, _clients: usize) {}

    /// Returns the interval of [`sample`](Self::sample); by default there are no samples, since they cost time.
    fn every(&self) -> Option<Duration> {
        None
    }

    /// Called with the counts since the previous sample.
    fn sample(&mut self, _sample: &Sample) {}

    /// Returns whether to end the run early.
    fn stopped(&self) -> bool {
        false
    }
}

/// Observer that ignores all samples.
pub(super) struct Unwatched;

impl Watch for Unwatched {}

/// Measurements of a short interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Sample {
    /// Seconds since the start of the load.
    pub(crate) at_s: f64,
    /// Whether it is in the measured window.
    pub(crate) measured: bool,
    pub(crate) deliveries_per_s: f64,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    /// Messages that have not reached all recipients.
    pub(crate) flying: usize,
    pub(crate) server_cores: Option<f64>,
    pub(crate) server_rss_bytes: Option<u64>,
}

/// Source of samples.
#[derive(Debug)]
pub(super) struct Sampler {
    every: Duration,
    pid: Option<u32>,
    begun: Duration,
    last: Duration,
    reading: Option<Reading>,
    deliveries: u64,
    latencies: Latencies,
}

impl Sampler {
    pub(super) fn new(every: Duration, pid: Option<u32>) -> Result<Self, Error> {
        let reading = pid.map(|pid| Reading::take(Some(pid))).transpose()?;
        let (begun, latencies) = (now(), Latencies::new());
        Ok(Self { every, pid, begun, last: begun, reading, deliveries: 0, latencies })
    }

    pub(super) fn record(&mut self, latency: u64) {
        self.latencies.record(latency);
    }

    /// Returns the next sample, if one is due.
    pub(super) fn take(
        &mut self,
        deliveries: u64,
        flying: usize,
        measured: bool,
    ) -> Result<Option<Sample>, Error> {
        let at = now();
        let elapsed = at - self.last;
        if elapsed < self.every {
            return Ok(None);
        }
        let mut sample = Sample {
            at_s: (at - self.begun).as_secs_f64(),
            measured,
            deliveries_per_s: (deliveries - self.deliveries) as f64 / elapsed.as_secs_f64(),
            p50_us: self.latencies.percentile(0.50).map(|nanos| nanos as f64 / 1e3),
            p99_us: self.latencies.percentile(0.99).map(|nanos| nanos as f64 / 1e3),
            flying,
            server_cores: None,
            server_rss_bytes: None,
        };
        if let (Some(pid), Some(before)) = (self.pid, self.reading) {
            let reading = Reading::take(self.pid)?;
            let spent = before.until(&reading, false)?;
            sample.server_cores = spent.server.map(|time| time.as_secs_f64() / spent.wall.as_secs_f64());
            sample.server_rss_bytes = Some(server_memory(pid)?);
            self.reading = Some(reading);
        }
        (self.last, self.deliveries, self.latencies) = (at, deliveries, Latencies::new());
        Ok(Some(sample))
    }
}
