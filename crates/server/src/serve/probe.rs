//! Probe of the latency from push to write, without touching clients' frames

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::time::{Duration, Instant};

use prometheus_client::metrics::histogram::Histogram;
use roomcast_core::{ConnectionError, Delivery, Frame, FrameSink, Outbox, Overflow, Readiness};

use crate::app::model::io::Io;
use crate::util::clock;

/// Interval between probe frames of each flusher
const INTERVAL: Duration = Duration::from_secs(1);

/// Sends a probe frame through each flusher every second and records when it is written; never returns.
///
/// Probe frames take the path of every frame: onto the list, through the flusher's turn, to a write. The hot path of
/// clients' frames therefore needs no measurement.
pub(crate) async fn probe(io: Io) {
    let mut under_way: HashMap<_, Arc<AtomicBool>> = HashMap::new();
    loop {
        tokio::time::sleep(INTERVAL).await;
        for (place, list) in io.app().flushers.each() {
            // A stalled flusher receives no further probe until the last one returns.
            if under_way.get(&place).is_some_and(|stopped| !stopped.load(Ordering::Relaxed)) {
                continue;
            }
            let stopped = Arc::new(AtomicBool::new(false));
            let outbox = Outbox::new(0, list);
            outbox.set_sink(Box::new(Stopwatch {
                pushed: clock::now(),
                histogram: io.metrics().delivery.clone(),
                stopped: stopped.clone(),
            }));
            let _ = outbox.push(Frame::new(""), Delivery::Reliable, Overflow::Close);
            under_way.insert(place, stopped);
        }
    }
}

/// Sink that records the time until it is written to.
#[derive(Debug)]
struct Stopwatch {
    pushed: Instant,
    histogram: Histogram,
    stopped: Arc<AtomicBool>,
}

impl FrameSink for Stopwatch {
    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        _: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError> {
        if !self.stopped.swap(true, Ordering::Relaxed) {
            self.histogram.observe(clock::now().saturating_duration_since(self.pushed).as_secs_f64());
        }
        // The frame is not accepted, so it is not counted as sent.
        Ok(Readiness::Blocked)
    }
}
