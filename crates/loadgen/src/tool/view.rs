//! Terminal view of a run in progress.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::format::{duration, grouped};
use crate::scenario::{Sample, Watch};

/// Shows samples in the terminal and keeps them for the report.
pub(super) struct View {
    /// Name of the run, if there are several.
    title: String,
    whole: Duration,
    stop: Arc<AtomicBool>,
    /// Hidden without a terminal.
    bar: ProgressBar,
    connected: usize,
    samples: Vec<Sample>,
}

impl View {
    /// Returns a view on standard error.
    pub(super) fn new(whole: Duration, stop: Arc<AtomicBool>) -> Self {
        Self::on(ProgressDrawTarget::stderr(), whole, stop)
    }

    fn on(target: ProgressDrawTarget, whole: Duration, stop: Arc<AtomicBool>) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(style("  {bar:40} {pos} of {len} clients connected"));
        Self { title: String::new(), whole, stop, bar, connected: 0, samples: Vec::new() }
    }

    /// Shows the name of the run below its progress.
    pub(super) fn titled(self, title: String) -> Self {
        Self { title, ..self }
    }

    /// Clears the screen and returns the samples.
    pub(super) fn finish(self) -> Vec<Sample> {
        self.bar.finish_and_clear();
        self.samples
    }

    fn picture(&self, sample: &Sample) -> String {
        let phase = if sample.measured { "measuring" } else { "warming up" };
        let rates: Vec<f64> = self.samples.iter().map(|sample| sample.deliveries_per_s).collect();
        let mut text = format!(
            "{phase}, {:.0} of {:.0} s, {} clients; Ctrl-C to stop\n",
            sample.at_s,
            self.whole.as_secs_f64(),
            self.connected,
        );
        _ = write!(text, "  deliveries  {:>12} /s  {}", grouped(sample.deliveries_per_s), sparkline(&rates));
        let latency = |micros: Option<f64>| micros.map_or_else(|| "–".into(), duration);
        _ = write!(
            text,
            "\n  latency     {:>12} p50, {} p99, {} in flight",
            latency(sample.p50_us),
            latency(sample.p99_us),
            sample.flying
        );
        if let (Some(cores), Some(rss)) = (sample.server_cores, sample.server_rss_bytes) {
            _ = write!(text, "\n  server      {cores:>12.2} cores, {:.1} MiB", rss as f64 / 1_048_576.0);
        }
        if !self.title.is_empty() {
            _ = write!(text, "\n  {}", self.title);
        }
        text
    }
}

impl Watch for View {
    fn connecting(&mut self, ready: usize, clients: usize) {
        // Redraw every 50 clients.
        if ready / 50 > self.connected / 50 || ready == clients {
            self.connected = ready;
            self.bar.set_length(clients as u64);
            self.bar.set_position(ready as u64);
        }
    }

    fn every(&self) -> Option<Duration> {
        Some(EVERY)
    }

    fn sample(&mut self, sample: &Sample) {
        if self.samples.len() < MOST_SAMPLES {
            self.samples.push(*sample);
        }
        if self.bar.is_hidden() {
            return;
        }
        if self.samples.len() == 1 {
            self.bar.set_style(style("  {bar:40} {msg}"));
            self.bar.set_length(self.whole.as_millis() as u64);
        }
        self.bar.set_position((sample.at_s * 1e3) as u64);
        self.bar.set_message(self.picture(sample));
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("constant templates are valid").progress_chars("█░")
}

/// Draws the latest values as bars.
fn sparkline(values: &[f64]) -> String {
    let values = &values[values.len().saturating_sub(WIDTH)..];
    let most = values.iter().copied().fold(0.0, f64::max);
    let bar = |value: &f64| {
        let height = if most > 0.0 { value / most * (BARS.len() - 1) as f64 } else { 0.0 };
        BARS[height.round() as usize]
    };
    values.iter().map(bar).collect()
}

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const WIDTH: usize = 40;
const EVERY: Duration = Duration::from_millis(250);
/// An hour of samples.
const MOST_SAMPLES: usize = 4 * 3600;

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::*;

    #[test]
    fn draws_sparklines() {
        assert_eq!(sparkline(&[0.0, 50.0, 100.0]), "▁▅█");
        assert_eq!(sparkline(&[0.0; 100]).chars().count(), WIDTH);
    }

    const SAMPLE: Sample = Sample {
        at_s: 5.0,
        measured: true,
        deliveries_per_s: 12_345.0,
        p50_us: Some(100.0),
        p99_us: None,
        flying: 3,
        server_cores: Some(0.5),
        server_rss_bytes: Some(3 << 20),
    };

    #[test]
    fn shows_progress_in_terminal() {
        let terminal = InMemoryTerm::new(24, 100);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let view = View::on(target, Duration::from_secs(10), Arc::default());
        let mut view = view.titled("step 3".into());
        view.connecting(50, 100);
        assert!(terminal.contents().contains("50 of 100 clients connected"), "{}", terminal.contents());
        view.connecting(100, 100);
        view.sample(&SAMPLE);
        let picture = terminal.contents();
        let half = format!("  {}{} measuring", "█".repeat(20), "░".repeat(20));
        for part in [
            &*half,
            "measuring, 5 of 10 s, 100 clients",
            "12,345 /s",
            "100 µs p50, – p99",
            "3 in flight",
            "3.0 MiB",
            "\n  step 3",
        ] {
            assert!(picture.contains(part), "{part} in {picture}");
        }
        assert_eq!(picture.lines().count(), 5, "{picture}");
        view.sample(&Sample { at_s: 10.0, ..SAMPLE });
        assert_eq!(terminal.contents().lines().count(), 5, "{}", terminal.contents());
        assert_eq!(view.finish().len(), 2);
        assert_eq!(terminal.contents(), "");
    }

    #[test]
    fn keeps_samples_without_terminal() {
        let mut view = View::on(ProgressDrawTarget::hidden(), Duration::from_secs(10), Arc::default());
        view.connecting(100, 100);
        view.sample(&SAMPLE);
        assert!(view.bar.is_hidden());
        assert_eq!(view.finish(), [SAMPLE]);
    }
}
