//! Logging: filter, format and panic hook.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use roomcast::Io;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::output::Output;

/// Log format
#[derive(Clone, Copy, Debug, Default, ValueEnum, PartialEq, Eq)]
pub(crate) enum Format {
    /// Human-readable: the message, then its fields as `key=value`
    #[default]
    Text,
    /// A JSON object per line
    Json,
}

/// Logger that writes to standard error from a dedicated thread.
///
/// Dropping it flushes pending lines, for at most [`PATIENCE`].
pub(crate) struct Log {
    output: Output,
    /// Server whose metrics count lost lines.
    io: Arc<OnceLock<Io>>,
}

/// Longest wait at exit for pending output to be written.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

impl Log {
    /// Installs the logger and a panic hook.
    ///
    /// # Errors
    ///
    /// Fails if the writer thread cannot be started.
    pub(crate) fn start(filter: Targets, format: Format) -> io::Result<Self> {
        let io = Arc::new(OnceLock::<Io>::new());
        let counting = io.clone();
        let lost = move |lines| {
            if let Some(io) = counting.get() {
                io.metrics().add_log_lines_lost(lines);
            }
        };
        let regained =
            |lines| tracing::warn!(lines, "log lines lost: standard error is not read fast enough");
        let output = Output::start("log", io::stderr(), lost, regained)?;
        let writer = output.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(io::stderr().is_terminal())
            // Internal errors would bypass the writer thread.
            .log_internal_errors(false);
        let layer = match format {
            Format::Text => layer.boxed(),
            Format::Json => layer.json().flatten_event(true).boxed(),
        };
        tracing_subscriber::registry().with(layer.with_filter(filter)).init();
        // The default hook blocks on standard error.
        std::panic::set_hook(Box::new(log_panic));
        Ok(Self { output, io })
    }

    /// Counts lost lines in the metrics of this server.
    pub(crate) fn count_in(&self, io: &Io) {
        let _ = self.io.set(io.clone());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.output.flush(PATIENCE);
    }
}

/// Logs a panic, at most once per second and source location.
#[expect(clippy::disallowed_methods, reason = "the command has a clock of its own")]
fn log_panic(info: &PanicHookInfo<'_>) {
    static TALLIES: Mutex<Tallies> = Mutex::new(Tallies(None));
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let times = TALLIES.lock().unwrap_or_else(PoisonError::into_inner).admit(&location, Instant::now());
    let Some(times) = times else { return };
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let panic = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    let current = std::thread::current();
    let thread = current.name();
    // Captured only if `RUST_BACKTRACE` is set.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(location, thread, panic, times, backtrace, "thread panicked");
}

/// Panic counts by source location; bounded by the number of locations.
struct Tallies(Option<HashMap<String, Tally>>);

struct Tally {
    logged_at: Instant,
    unlogged: u64,
}

/// Minimum time between two log lines for one location.
const INTERVAL: Duration = Duration::from_secs(1);

impl Tallies {
    /// Counts a panic. Returns the number of panics since the last line if another line is due.
    fn admit(&mut self, location: &str, now: Instant) -> Option<u64> {
        let tallies = self.0.get_or_insert_default();
        let Some(tally) = tallies.get_mut(location) else {
            tallies.insert(location.to_owned(), Tally { logged_at: now, unlogged: 0 });
            return Some(1);
        };
        tally.unlogged += 1;
        if now.saturating_duration_since(tally.logged_at) < INTERVAL {
            return None;
        }
        tally.logged_at = now;
        Some(std::mem::take(&mut tally.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "some point in time is needed to count from")]
    fn logs_first_panic_and_counts_rest() {
        let (mut tallies, start) = (Tallies(None), Instant::now());
        let admitted: Vec<_> = (0..1000).filter_map(|_| tallies.admit("a.rs:1:1", start)).collect();
        assert_eq!(admitted, [1]);
        assert_eq!(tallies.admit("b.rs:1:1", start), Some(1));
        assert_eq!(tallies.admit("a.rs:1:1", start + INTERVAL), Some(1000));
    }
}
