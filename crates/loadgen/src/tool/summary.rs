//! Result as text.

use std::fmt::Write as _;

use super::outcome::{Outcome, target_failure};
use crate::Report;
use crate::capacity::{Capacity, Step, StoppedBy, Verdict};
use crate::format::{duration, grouped, round_duration};
use crate::report::{Invalid, OpenLoopReport};

/// Formats the result for the terminal.
pub(super) fn summary(outcome: &Outcome) -> String {
    let Report { clients, senders, payload, faults, .. } = outcome.report;
    let report = &outcome.report;
    let mut text =
        format!("{}, {clients} clients at {}, {payload} bytes\n", outcome.pattern, outcome.urls.join(", "));
    let mut line = |name: &str, value: String| _ = writeln!(text, "  {name:<22}{value}");
    if let Some(capacity) = &outcome.capacity {
        capacity_lines(capacity).into_iter().for_each(|(name, value)| line(name, value));
    }
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
    let OpenLoopReport { rate, late, late_share, late_after_us, late_max_us, .. } = *open_loop;
    let requested = grouped(rate);
    if late == 0 {
        return format!("none, at {requested} messages per second");
    }
    format!(
        "{} ({:.2} %) by more than {}, at most {}, at {requested} messages per second",
        grouped(late as f64),
        late_share * 100.0,
        round_duration(late_after_us),
        duration(late_max_us)
    )
}

/// Explains why a result must not be counted.
fn invalid(reason: Invalid, open_loop: &OpenLoopReport) -> String {
    match reason {
        Invalid::GeneratorLate => format!(
            "the load generator was the limit, not the server: over 1 % late sends; it had work {:.0} % of the time; \
             free a CPU for it or lower the rate",
            open_loop.generator_busy * 100.0
        ),
        Invalid::InFlightBound => format!(
            "the server did not keep up: over 1 % of the messages waited since their sender had {} in flight; lower \
             the rate or raise --outstanding",
            open_loop.outstanding
        ),
    }
}

fn busy(report: &Report) -> &'static str {
    if report.generator_cores > 0.95 { "; saturated, latencies may include its own delay" } else { "" }
}

/// Formats the head of the table of steps.
pub(super) fn steps_head(limit: &str) -> String {
    format!(
        "capacity within {limit}\n  {:>10} {:>11} {:>10} {:>10} {:>8}  verdict",
        "messages/s", "delivered/s", "p50", "p99", "late"
    )
}

/// Formats a row of the table of steps.
pub(super) fn step_row(step: &Step) -> String {
    let latency = |micros: Option<f64>| micros.map_or_else(|| "–".into(), duration);
    format!(
        "  {:>10} {:>11} {:>10} {:>10} {:>6.2} %  {}",
        grouped(step.rate),
        grouped(step.delivered_rate),
        latency(step.p50_us),
        latency(step.p99_us),
        step.late_share * 100.0,
        verdict(step)
    )
}

/// Explains the verdict on a step.
pub(super) fn verdict(step: &Step) -> String {
    match step.verdict {
        Verdict::Ok => "ok".into(),
        Verdict::Latency => match step.limited_us {
            Some(micros) => format!("over the limit: {}", duration(micros)),
            None => "over the limit".into(),
        },
        Verdict::Behind => "server falls behind".into(),
        Verdict::Faults => "faults".into(),
        Verdict::Aborted => format!("aborted: {}", step.error.as_deref().unwrap_or("no delivery")),
        Verdict::Generator => "load generator too late".into(),
    }
}

/// Formats the result of a search, and why it found no higher rate.
pub(super) fn capacity_lines(capacity: &Capacity) -> [(&'static str, String); 2] {
    let limit = &capacity.limit;
    let result = match capacity.rate {
        Some(rate) => format!(
            "{}{} messages per second with {limit}{}",
            if capacity.at_least { "at least " } else { "" },
            grouped(rate),
            if capacity.confirmed { "" } else { ", not confirmed" }
        ),
        None => format!("no rate with {limit} found"),
    };
    let at = match capacity.failed_rate {
        Some(rate) if !matches!(capacity.stopped_by, StoppedBy::Interrupt | StoppedBy::Target(_)) => {
            format!("at {}: ", grouped(rate))
        }
        _ => String::new(),
    };
    let reason = match capacity.stopped_by {
        StoppedBy::Verdict(Verdict::Latency) => "the latency exceeded the limit".into(),
        StoppedBy::Verdict(Verdict::Behind) => {
            "the server did not deliver as fast as messages were sent".into()
        }
        StoppedBy::Verdict(Verdict::Faults) => "messages were lost, damaged or misdelivered".into(),
        StoppedBy::Verdict(Verdict::Aborted) => {
            let error = capacity.steps.iter().rev().find_map(|step| step.error.as_deref());
            format!("the run was aborted: {}", error.unwrap_or("no delivery"))
        }
        StoppedBy::Verdict(Verdict::Generator) => {
            "the load generator is the limit, not the server; give it more CPU or run it on another machine"
                .into()
        }
        StoppedBy::Verdict(Verdict::Ok) | StoppedBy::HighestRate => "no higher rate can be requested".into(),
        StoppedBy::Target(failure) => target_failure(failure, capacity),
        StoppedBy::Interrupt => "stopped by Ctrl-C".into(),
    };
    [("capacity", result), ("stopped", at + &reason)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::Phase;

    const STEP: Step = Step {
        phase: Phase::Growth,
        rate: 12_800.0,
        delivered_rate: 11_234.5,
        deliveries_per_s: 1_123_450.0,
        p50_us: Some(1_500.0),
        p99_us: Some(80_000.0),
        limited_us: Some(80_000.0),
        late_share: 0.0012,
        verdict: Verdict::Latency,
        error: None,
    };

    #[test]
    fn formats_steps_as_table() {
        let row = step_row(&STEP);
        let parts = ["12,800", "11,234", "1.50 ms", "80.00 ms", "0.12 %", "over the limit: 80.00 ms"];
        assert!(parts.iter().all(|part| row.contains(part)), "{row}");
        let head = steps_head("p99 ≤ 50 ms");
        let column = |text: &str, word: &str| {
            text.find(word).map(|at| text[..at].chars().count() + word.chars().count())
        };
        let head = head.lines().nth(1).unwrap();
        assert_eq!(column(head, "delivered/s"), column(&row, "11,234"), "{head}\n{row}");
        let aborted = Step { verdict: Verdict::Aborted, error: Some("closed client 3".into()), ..STEP };
        assert!(step_row(&aborted).ends_with("aborted: closed client 3"));
    }

    #[test]
    fn names_result_and_reason_of_search() {
        let capacity = Capacity {
            limit: "p99 ≤ 50 ms".into(),
            limit_us: 50_000.0,
            rate: Some(12_345.0),
            confirmed: true,
            at_least: false,
            stopped_by: StoppedBy::Verdict(Verdict::Latency),
            failed_rate: Some(12_800.0),
            steps: vec![STEP],
        };
        let text = |capacity: &Capacity| capacity_lines(capacity).map(|(_, value)| value).join("; ");
        assert_eq!(
            text(&capacity),
            "12,345 messages per second with p99 ≤ 50 ms; at 12,800: the latency exceeded the limit"
        );
        let generator = StoppedBy::Verdict(Verdict::Generator);
        let bound = text(&Capacity { at_least: true, stopped_by: generator, ..capacity.clone() });
        assert!(bound.starts_with("at least 12,345") && bound.contains("generator is the limit"), "{bound}");
        let interrupted = Capacity {
            at_least: true,
            confirmed: false,
            stopped_by: StoppedBy::Interrupt,
            ..capacity.clone()
        };
        assert!(text(&interrupted).ends_with("not confirmed; stopped by Ctrl-C"));
        let none = text(&Capacity { rate: None, confirmed: false, ..capacity });
        assert!(none.starts_with("no rate with p99"), "{none}");
    }
}
