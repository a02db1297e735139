//! How long a frame waits from push to write, found out without touching those of clients

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::time::{Duration, Instant};

use prometheus_client::metrics::histogram::Histogram;
use roomcast_core::{ConnectionError, Delivery, Frame, FrameSink, Outbox, Overflow, Readiness};

use crate::app::model::io::Io;
use crate::util::clock;

/// How often a frame is sent through each flusher
const INTERVAL: Duration = Duration::from_secs(1);

/// Sends a frame of its own through each flusher once a second, and notes when it was written; for ever
///
/// It takes the way of every frame: onto the list, through the flusher's turn behind what is ready to run, to a
/// write. So nothing has to be measured on the way of the others.
pub(crate) async fn probe(io: Io) {
    let mut under_way: HashMap<_, Arc<AtomicBool>> = HashMap::new();
    loop {
        tokio::time::sleep(INTERVAL).await;
        for (place, list) in io.app().flushers.each() {
            // One that has not come back is waited for: a flusher that stands still is not sent more and more.
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

/// Notes how long it took until it is written to
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
        // The frame is not taken, so it is not counted among those that were sent.
        Ok(Readiness::Blocked)
    }
}
