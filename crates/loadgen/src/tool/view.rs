//! Terminal view of a run: progress and result.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Outcome;
use crate::report::{Invalid, OpenLoopReport, Report};
use crate::scenario::{Sample, Watch};

/// Shows samples in the terminal and keeps them for the report.
pub(super) struct View {
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
        Self { whole, stop, bar, connected: 0, samples: Vec::new() }
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

/// Formats the result of a run for the terminal.
pub(super) fn summary(outcome: &Outcome) -> String {
    let Report { clients, senders, payload, faults, .. } = outcome.report;
    let report = &outcome.report;
    let mut text =
        format!("{}, {clients} clients at {}, {payload} bytes\n", outcome.pattern, outcome.urls.join(", "));
    let mut line = |name: &str, value: String| _ = writeln!(text, "  {name:<22}{value}");
    if let Some(error) = &report.error {
        line("aborted", error.clone());
    }
    if let Some(idle) = report.idle {
        line("memory", format!("{:.2} KiB per connection", idle.rss_bytes_per_connection / 1024.0));
        line("CPU, connecting", format!("{:.1} µs per connection", idle.cpu_us_per_connection));
        line("CPU, idle", format!("{:.0} µs per second", idle.cpu_us_per_idle_second));
    } else if report.deliveries > 0 {
        let seconds = report.window_s;
        line("deliveries", format!("{} per second, for {seconds:.1} s", grouped(report.deliveries_per_s)));
        line(
            "messages",
            format!("{} per second, from {senders} clients", grouped(report.sent as f64 / seconds)),
        );
        if let Some(open_loop) = &report.open_loop {
            line("late sends", late_sends(open_loop));
        }
        let latency = [
            ("p50", report.p50_us),
            ("p90", report.p90_us),
            ("p99", report.p99_us),
            ("p99.9", report.p999_us),
            ("max", report.max_us),
        ];
        let latency: Vec<String> = latency
            .iter()
            .filter_map(|(name, micros)| Some(format!("{name} {}", duration((*micros)?))))
            .collect();
        line("latency", latency.join(", "));
        if let (Some(micros), Some(cores)) = (report.cpu_us_per_delivery, report.server_cores) {
            line("server", format!("{micros:.3} µs of CPU per delivery, {cores:.2} cores"));
        }
        line("this program", format!("{:.2} cores{}", report.generator_cores, busy(report)));
    }
    if let Some(open_loop) = &report.open_loop
        && let Some(reason) = open_loop.invalid
    {
        line("INVALID", invalid(reason, open_loop));
    }
    let faults = [
        (faults.lost, "lost"),
        (faults.duplicate, "duplicated"),
        (faults.reordered, "reordered"),
        (faults.misdelivered, "misdelivered"),
        (faults.damaged, "damaged"),
        (faults.unknown, "never sent"),
    ];
    let faults: Vec<String> = faults
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if !faults.is_empty() {
        line("FAULTS", faults.join(", "));
    } else if report.ok && report.idle.is_none() {
        line("faults", "none: every message delivered once, in order".into());
    }
    if report.others > 0 {
        line("other messages", format!("{}, sent by the server", grouped(report.others as f64)));
    }
    text
}

fn late_sends(open_loop: &OpenLoopReport) -> String {
    let OpenLoopReport { rate, late, late_share, late_max_us, .. } = *open_loop;
    let requested = grouped(rate);
    if late == 0 {
        return format!("none, at {requested} messages per second");
    }
    format!(
        "{} ({:.2} %) by more than 1 ms, at most {}, at {requested} messages per second",
        grouped(late as f64),
        late_share * 100.0,
        duration(late_max_us)
    )
}

/// Explains why a result must not be counted.
fn invalid(reason: Invalid, open_loop: &OpenLoopReport) -> String {
    match reason {
        Invalid::GeneratorLate => format!(
            "the load generator was the limit, not the server: over 1 % late sends, {:.0} % busy; give it more CPU or \
             lower --rate",
            open_loop.generator_busy * 100.0
        ),
        Invalid::InFlightBound => format!(
            "the server did not keep up: over 1 % of the messages waited since their sender had {} in flight; lower \
             --rate or raise --outstanding",
            open_loop.outstanding
        ),
    }
}

fn busy(report: &Report) -> &'static str {
    if report.generator_cores > 0.95 { "; saturated, latencies may include its own delay" } else { "" }
}

/// Formats a number with thousands separators.
pub(super) fn grouped(number: f64) -> String {
    let digits =
        if number < 10.0 && number.fract() != 0.0 { format!("{number:.1}") } else { format!("{number:.0}") };
    let whole = digits.split('.').next().map_or(0, str::len);
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && index < whole && (whole - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats microseconds in a suitable unit.
pub(super) fn duration(micros: f64) -> String {
    match micros {
        micros if micros < 1_000.0 => format!("{micros:.0} µs"),
        micros if micros < 1_000_000.0 => format!("{:.2} ms", micros / 1e3),
        micros => format!("{:.2} s", micros / 1e6),
    }
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
    fn formats_numbers_and_sparklines() {
        assert_eq!(
            [0.0, 7.25, 999.0, 1000.0, 1_234_567.8].map(grouped),
            ["0", "7.2", "999", "1,000", "1,234,568"]
        );
        assert_eq!([12.3, 1_234.0, 2_500_000.0].map(duration), ["12 µs", "1.23 ms", "2.50 s"]);
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
        let mut view = View::on(target, Duration::from_secs(10), Arc::default());
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
        ] {
            assert!(picture.contains(part), "{part} in {picture}");
        }
        assert_eq!(picture.lines().count(), 4, "{picture}");
        view.sample(&Sample { at_s: 10.0, ..SAMPLE });
        assert_eq!(terminal.contents().lines().count(), 4, "{}", terminal.contents());
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
