//! Capacity of a server: the highest rate within a latency limit.

use std::time::Duration;

use serde::Serialize;

use super::limit::LatencyLimit;
use super::search::{End, Phase, Search, Verdict};
use crate::report::Invalid;
use crate::scenario::{LATE_AFTER, MAX_RATE, Sample, max_outstanding};
use crate::{Error, Report};

/// Result of a search for the capacity.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Capacity {
    /// Limit of the latency.
    pub(super) limit: String,
    pub(super) limit_us: f64,
    /// Highest rate within the limit, in messages per second; `None` if no rate passed.
    pub(super) rate: Option<f64>,
    /// Whether a last run at this rate has passed too.
    pub(super) confirmed: bool,
    /// Whether the server may sustain more, since it was not what ended the search.
    pub(super) at_least: bool,
    /// Why there is no higher rate.
    pub(super) stopped_by: StoppedBy,
    /// Lowest rate that failed above it.
    pub(super) failed_rate: Option<f64>,
    pub(super) steps: Vec<Step>,
}

/// Run of one rate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Step {
    pub(super) phase: Phase,
    /// Messages due per second.
    pub(super) rate: f64,
    /// Messages per second that reached all recipients.
    pub(super) delivered_rate: f64,
    /// Deliveries per second.
    pub(super) deliveries_per_s: f64,
    pub(super) p50_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
    /// Latency of the limited percentile.
    pub(super) limited_us: Option<f64>,
    pub(super) late_share: f64,
    pub(super) verdict: Verdict,
    /// Reason of an early end, if any.
    pub(super) error: Option<String>,
}

/// Reason why a search found no higher rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum StoppedBy {
    /// The highest rate that can be requested passed.
    HighestRate,
    /// Ctrl-C.
    Interrupt,
    /// The next higher rate failed with this verdict.
    #[serde(untagged)]
    Verdict(Verdict),
}

/// Run with its samples.
#[derive(Debug, Clone, Default)]
pub(super) struct Run {
    pub(super) report: Report,
    pub(super) samples: Vec<Sample>,
}

/// Searches for the capacity with the runs of `measure`, which returns `None` after an interrupt.
///
/// Returns it with the run of the capacity, or the last run if no rate passed. `show` is called after each step.
///
/// # Errors
///
/// Returns the errors of `measure`.
pub(super) fn find(
    limit: LatencyLimit,
    mut search: Search,
    mut measure: impl FnMut(f64, usize) -> Result<Option<Run>, Error>,
    mut show: impl FnMut(&Step),
) -> Result<(Capacity, Run), Error> {
    let mut steps: Vec<Step> = Vec::new();
    let mut best: Option<(f64, Run)> = None;
    let mut last = Run::default();
    while let Some((rate, phase)) = search.next() {
        let Some(run) = measure(rate, steps.len())? else { break };
        let step = step(limit, rate, phase, &run.report);
        show(&step);
        search.record(step.verdict);
        if step.verdict == Verdict::Ok && search.passed() == Some(rate) {
            best = Some((rate, run));
        } else {
            last = run;
        }
        steps.push(step);
    }
    let (end, rate, failed) = (search.end(), search.passed(), search.failed());
    let stopped_by = match (end, failed) {
        (None, _) => StoppedBy::Interrupt,
        (Some(End::Ceiling), _) | (_, None) => StoppedBy::HighestRate,
        (Some(End::Confirmed | End::NonePassed), Some((_, verdict))) => StoppedBy::Verdict(verdict),
    };
    let by_server = matches!(stopped_by, StoppedBy::Verdict(verdict) if verdict != Verdict::Generator);
    let capacity = Capacity {
        limit: limit.to_string(),
        limit_us: limit.micros,
        rate,
        confirmed: matches!(end, Some(End::Confirmed | End::Ceiling)),
        at_least: rate.is_some() && !by_server,
        stopped_by,
        failed_rate: failed.map(|(rate, _)| rate),
        steps,
    };
    let run = best.filter(|(of, _)| Some(*of) == rate).map_or(last, |(_, run)| run);
    Ok((capacity, run))
}

/// Returns the search of a load with windows of `seconds`.
pub(super) fn search(start: f64, seconds: f64) -> Search {
    // Fewer messages than these are no measurement.
    let floor = LEAST_MESSAGES / seconds.max(0.001);
    Search::new(start, floor.min(MAX_RATE), MAX_RATE)
}

/// Returns the bound of messages in flight per sender: twice those of a server at the limit.
pub(super) fn outstanding(limit: LatencyLimit, rate: f64, senders: usize) -> usize {
    let at_limit = rate * limit.micros / 1e6 / senders as f64;
    ((2.0 * at_limit).ceil() as usize).max(LEAST_OUTSTANDING).min(max_outstanding(senders))
}

/// Returns the delay above which a send is late.
///
/// The latency includes the delay, so a tenth of the limit does not change the result much.
pub(super) fn late_after(limit: LatencyLimit) -> Duration {
    Duration::from_secs_f64(limit.micros / 1e6 / 10.0).max(LATE_AFTER)
}

fn step(limit: LatencyLimit, rate: f64, phase: Phase, report: &Report) -> Step {
    let open_loop = report.open_loop.unwrap_or_default();
    Step {
        phase,
        rate,
        delivered_rate: if report.window_s > 0.0 { open_loop.landed as f64 / report.window_s } else { 0.0 },
        deliveries_per_s: report.deliveries_per_s,
        p50_us: report.p50_us,
        p99_us: report.p99_us,
        limited_us: limit.measured(report),
        late_share: open_loop.late_share,
        verdict: judge(limit, report),
        error: report.error.clone(),
    }
}

fn judge(limit: LatencyLimit, report: &Report) -> Verdict {
    let (None, Some(open_loop), Some(latency)) = (&report.error, &report.open_loop, limit.measured(report))
    else {
        return Verdict::Aborted;
    };
    if !report.faults.is_empty() {
        return Verdict::Faults;
    }
    if open_loop.invalid == Some(Invalid::GeneratorLate) {
        return Verdict::Generator;
    }
    if latency > limit.micros {
        // A few late sends do not invalidate a run, but they may be what a high percentile measures.
        let may_exceed = limit.percentile.share_above() * open_loop.due as f64;
        let by_generator =
            open_loop.late_generator as f64 > may_exceed && open_loop.late_max_us > limit.micros;
        return if by_generator { Verdict::Generator } else { Verdict::Latency };
    }
    let behind = open_loop.due.saturating_sub(open_loop.landed) as f64;
    if open_loop.invalid.is_some() || behind > BEHIND_SHARE * open_loop.due as f64 + BEHIND_MESSAGES {
        return Verdict::Behind;
    }
    Verdict::Ok
}

/// Minimum number of messages in the window of a step.
const LEAST_MESSAGES: f64 = 10.0;
/// Minimum bound of messages in flight per sender; covers short delays at low rates.
const LEAST_OUTSTANDING: usize = 64;
/// Share of the due messages that may be in flight in addition to those at the start of the window.
const BEHIND_SHARE: f64 = 0.05;
/// Number of messages that may be so in any case, since a window begins and ends between two messages.
const BEHIND_MESSAGES: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Faults, OpenLoopReport};

    const SECONDS: f64 = 10.0;

    fn limit() -> LatencyLimit {
        "p99=50ms".parse().unwrap()
    }

    /// Report of a simulated server: an M/M/1 queue with this capacity.
    fn simulated(capacity: f64, rate: f64, noise: f64) -> Report {
        let due = (rate * SECONDS) as u64;
        let load = rate / capacity * noise;
        // Quantile of the time in the system; an overloaded queue grows over the window.
        let quantile = |share: f64| {
            let steady = -(1.0_f64 - share).ln() / (capacity * (1.0 - load).max(1e-9));
            if load < 1.0 { steady.min(SECONDS) } else { share * SECONDS * (load - 1.0) + 1.0 / capacity }
        };
        let landed = (due as f64 / load.max(1.0)) as u64;
        Report {
            ok: true,
            window_s: SECONDS,
            p50_us: Some(quantile(0.5) * 1e6),
            p99_us: Some(quantile(0.99) * 1e6),
            max_us: Some(quantile(0.99) * 2e6),
            deliveries: landed,
            deliveries_per_s: landed as f64 / SECONDS,
            open_loop: Some(OpenLoopReport { rate, due, landed, ..OpenLoopReport::default() }),
            ..Report::default()
        }
    }

    fn run(report: Report) -> Result<Option<Run>, Error> {
        Ok(Some(Run { report, samples: Vec::new() }))
    }

    #[test]
    fn finds_capacity_of_simulated_server() {
        for capacity in [150.0, 5_000.0, 80_000.0] {
            let mut random = fastrand::Rng::with_seed(capacity as u64);
            // p99 of 50 ms: ln(100) / (capacity - rate) seconds.
            let expected = capacity - 100.0_f64.ln() / 0.05;
            let mut shown = 0;
            let measure = |rate, _| run(simulated(capacity, rate, 1.0 + 0.04 * (random.f64() - 0.5)));
            let (found, best) = find(limit(), search(100.0, SECONDS), measure, |_| shown += 1).unwrap();
            let rate = found.rate.unwrap();
            assert!((0.85..=1.05).contains(&(rate / expected)), "{capacity}: {rate} of {expected}");
            assert!(found.confirmed && !found.at_least, "{found:?}");
            assert_eq!(found.stopped_by, StoppedBy::Verdict(Verdict::Latency));
            assert_eq!(best.report.open_loop.unwrap().rate, rate, "it is the run of the capacity");
            assert!(best.report.p99_us.unwrap() <= 50_000.0);
            assert_eq!(found.steps.len(), shown);
            assert_eq!(found.steps.last().unwrap().phase, Phase::Confirmation);
        }
    }

    #[test]
    fn late_generator_gives_lower_bound() {
        let measure = |rate, _| {
            let mut report = simulated(1e6, rate, 1.0);
            if rate > 10_000.0 {
                report.open_loop.as_mut().unwrap().invalid = Some(Invalid::GeneratorLate);
            }
            run(report)
        };
        let (found, _) = find(limit(), search(100.0, SECONDS), measure, |_| ()).unwrap();
        assert!(found.at_least && found.confirmed, "{found:?}");
        assert_eq!(found.stopped_by, StoppedBy::Verdict(Verdict::Generator));
        assert!((9_500.0..=10_000.0).contains(&found.rate.unwrap()), "{found:?}");
    }

    #[test]
    fn interrupt_keeps_result() {
        let measure = |rate, index| if index < 3 { run(simulated(1e6, rate, 1.0)) } else { Ok(None) };
        let (found, best) = find(limit(), search(100.0, SECONDS), measure, |_| ()).unwrap();
        assert_eq!((found.rate, found.confirmed, found.at_least), (Some(400.0), false, true));
        assert_eq!((found.stopped_by, found.steps.len()), (StoppedBy::Interrupt, 3));
        assert_eq!(best.report.open_loop.unwrap().rate, 400.0);
        let (found, _) = find(limit(), search(100.0, SECONDS), |_, _| Ok(None), |_| ()).unwrap();
        assert_eq!((found.rate, found.at_least), (None, false));
    }

    #[test]
    fn slow_server_has_no_capacity() {
        let measure = |rate, _| run(simulated(2.0, rate, 1.0));
        let (found, last) = find(limit(), search(100.0, SECONDS), measure, |_| ()).unwrap();
        assert_eq!((found.rate, found.confirmed, found.failed_rate), (None, false, Some(1.0)));
        assert_eq!(found.stopped_by, StoppedBy::Verdict(Verdict::Latency));
        assert_eq!(last.report.open_loop.unwrap().rate, 1.0);
    }

    #[test]
    fn names_reason_of_each_failure() {
        let report = simulated(1000.0, 100.0, 1.0);
        let judged = |change: &dyn Fn(&mut Report)| {
            let mut report = report.clone();
            change(&mut report);
            judge(limit(), &report)
        };
        fn open_loop(report: &mut Report) -> &mut OpenLoopReport {
            report.open_loop.as_mut().unwrap()
        }
        assert_eq!(judged(&|_| ()), Verdict::Ok);
        assert_eq!(judged(&|it| it.p99_us = Some(50_001.0)), Verdict::Latency);
        assert_eq!(judged(&|it| it.p99_us = None), Verdict::Aborted);
        assert_eq!(judged(&|it| it.error = Some("closed client 3".into())), Verdict::Aborted);
        assert_eq!(judged(&|it| it.faults = Faults { lost: 1, ..Faults::default() }), Verdict::Faults);
        assert_eq!(judged(&|it| open_loop(it).invalid = Some(Invalid::InFlightBound)), Verdict::Behind);
        assert_eq!(judged(&|it| open_loop(it).invalid = Some(Invalid::GeneratorLate)), Verdict::Generator);
        assert_eq!(judged(&|it| open_loop(it).landed = 948), Verdict::Ok);
        assert_eq!(judged(&|it| open_loop(it).landed = 947), Verdict::Behind);
    }

    #[test]
    fn generator_delay_beyond_limit_is_no_latency() {
        let mut report = simulated(1000.0, 100.0, 1.0);
        report.max_us = Some(60_000.0);
        let max = "max=50ms".parse().unwrap();
        assert_eq!(judge(max, &report), Verdict::Latency);
        let open_loop = report.open_loop.as_mut().unwrap();
        (open_loop.late_generator, open_loop.late_max_us) = (1, 59_000.0);
        assert_eq!(judge(max, &report), Verdict::Generator);
    }

    #[test]
    fn tolerance_is_tenth_of_limit() {
        assert_eq!(late_after(limit()), Duration::from_millis(5));
        assert_eq!(late_after("p50=2ms".parse().unwrap()), Duration::from_millis(1));
    }

    #[test]
    fn bound_in_flight_exceeds_limit() {
        assert_eq!(outstanding(limit(), 100.0, 1), 64);
        assert_eq!(outstanding(limit(), 10_000.0, 1), 1000);
        assert_eq!(outstanding(limit(), 10_000.0, 8), 125);
        assert_eq!(outstanding(limit(), 1e7, 100), 655);
    }
}
