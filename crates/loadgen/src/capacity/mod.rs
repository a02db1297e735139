//! Capacity of a server: the highest rate within a latency limit.
//!
//! [`find`] measures rate after rate with the caller's runs, judges each, and lets [`Search`] choose the next.

mod limit;
mod search;

use std::time::Duration;

use serde::Serialize;

use crate::report::Invalid;
use crate::scenario::{LATE_AFTER, MAX_RATE, max_outstanding};
use crate::{Error, Failure, Report};

pub use limit::{LatencyLimit, Percentile};
pub use search::{End, Phase, Plan, Search, Verdict};

/// Result of a search for the capacity.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Capacity {
    /// Limit of the latency.
    pub limit: String,
    /// The same in microseconds.
    pub limit_us: f64,
    /// Highest rate within the limit, in messages per second; `None` if no rate passed.
    pub rate: Option<f64>,
    /// Whether a last run at this rate has passed too.
    pub confirmed: bool,
    /// Whether the server may sustain more, since it was not what ended the search.
    pub at_least: bool,
    /// Why there is no higher rate.
    pub stopped_by: StoppedBy,
    /// Lowest rate that failed above it.
    pub failed_rate: Option<f64>,
    /// All runs, in order.
    pub steps: Vec<Step>,
}

/// Run of one rate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Purpose of the run.
    pub phase: Phase,
    /// Messages due per second.
    pub rate: f64,
    /// Messages per second that reached all recipients.
    pub delivered_rate: f64,
    /// Deliveries per second.
    pub deliveries_per_s: f64,
    /// Median latency.
    pub p50_us: Option<f64>,
    /// 99th percentile of the latency.
    pub p99_us: Option<f64>,
    /// Latency of the limited percentile.
    pub limited_us: Option<f64>,
    /// Late sends as a share of the messages due.
    pub late_share: f64,
    /// Whether the rate passed, or why not.
    pub verdict: Verdict,
    /// Reason of an early end, if any.
    pub error: Option<String>,
}

/// Reason why a search found no higher rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoppedBy {
    /// The highest rate that can be requested passed.
    HighestRate,
    /// Ctrl-C.
    Interrupt,
    /// The target could not be reached, or took no message: no rate can be measured.
    Target(Failure),
    /// The next higher rate failed with this verdict.
    #[serde(untagged)]
    Verdict(Verdict),
}

/// Run to be measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Messages due per second.
    pub rate: f64,
    /// Purpose of the run.
    pub phase: Phase,
    /// Number of runs before it.
    pub index: usize,
}

/// Searches for the capacity with the runs of `measure`, which returns `None` after an interrupt.
///
/// Returns it with the run of the capacity, or the last run if no rate passed. `show` is called after each step. The
/// search ends at once if the target cannot be reached, or if it takes no message in the first run.
///
/// # Errors
///
/// Returns the errors of `measure`.
pub fn find<R: AsRef<Report>>(
    limit: LatencyLimit,
    plan: &Plan,
    mut measure: impl FnMut(Trial) -> Result<Option<R>, Error>,
    mut show: impl FnMut(&Step),
) -> Result<(Capacity, Option<R>), Error> {
    let mut search = Search::new(plan);
    let mut steps: Vec<Step> = Vec::new();
    let mut best: Option<(f64, R)> = None;
    let mut last = None;
    let mut fatal = None;
    while let Some((rate, phase)) = search.next() {
        let Some(run) = measure(Trial { rate, phase, index: steps.len() })? else { break };
        let step = step(limit, rate, phase, run.as_ref());
        show(&step);
        let failure = run.as_ref().failure;
        let first = steps.is_empty();
        if failure == Some(Failure::Unreachable) || first && failure == Some(Failure::Setup) {
            (fatal, last) = (failure, Some(run));
            steps.push(step);
            break;
        }
        search.record(step.verdict);
        if step.verdict == Verdict::Ok && search.passed() == Some(rate) {
            best = Some((rate, run));
        } else {
            last = Some(run);
        }
        steps.push(step);
    }
    let (end, rate, failed) = (search.end(), search.passed(), search.failed());
    let stopped_by = match (end, failed) {
        (None, _) => fatal.map_or(StoppedBy::Interrupt, StoppedBy::Target),
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
    let run = best.filter(|(of, _)| Some(*of) == rate).map(|(_, run)| run).or(last);
    Ok((capacity, run))
}

impl Plan {
    /// Returns the plan of a search from this rate, with runs of this length.
    pub fn new(start: f64, window: Duration) -> Self {
        // Fewer messages than these are no measurement.
        let floor = LEAST_MESSAGES / window.as_secs_f64().max(0.001);
        Self { start, floor: floor.min(MAX_RATE), ceiling: MAX_RATE, precision: 1.05, attempts: 1 }
    }
}

/// Returns the bound of messages in flight per sender: twice those of a server at the limit.
pub fn outstanding(limit: LatencyLimit, rate: f64, senders: usize) -> usize {
    let at_limit = rate * limit.micros / 1e6 / senders as f64;
    ((2.0 * at_limit).ceil() as usize).max(LEAST_OUTSTANDING).min(max_outstanding(senders))
}

/// Returns the delay above which a send is late.
///
/// The latency includes the delay, so a tenth of the limit does not change the result much.
pub fn late_after(limit: LatencyLimit) -> Duration {
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

    fn run(report: Report) -> Result<Option<Report>, Error> {
        Ok(Some(report))
    }

    fn plan() -> Plan {
        Plan::new(100.0, Duration::from_secs_f64(SECONDS))
    }

    #[test]
    fn finds_capacity_of_simulated_server() {
        for capacity in [150.0, 5_000.0, 80_000.0] {
            let mut random = fastrand::Rng::with_seed(capacity as u64);
            // p99 of 50 ms: ln(100) / (capacity - rate) seconds.
            let expected = capacity - 100.0_f64.ln() / 0.05;
            let mut shown = 0;
            let measure = |it: Trial| run(simulated(capacity, it.rate, 1.0 + 0.04 * (random.f64() - 0.5)));
            let (found, best) = find(limit(), &plan(), measure, |_| shown += 1).unwrap();
            let rate = found.rate.unwrap();
            assert!((0.85..=1.05).contains(&(rate / expected)), "{capacity}: {rate} of {expected}");
            assert!(found.confirmed && !found.at_least, "{found:?}");
            assert_eq!(found.stopped_by, StoppedBy::Verdict(Verdict::Latency));
            let best = best.unwrap();
            assert_eq!(best.open_loop.unwrap().rate, rate, "it is the run of the capacity");
            assert!(best.p99_us.unwrap() <= 50_000.0);
            assert_eq!(found.steps.len(), shown);
            assert_eq!(found.steps.last().unwrap().phase, Phase::Confirmation);
        }
    }

    #[test]
    fn late_generator_gives_lower_bound() {
        let measure = |it: Trial| {
            let mut report = simulated(1e6, it.rate, 1.0);
            if it.rate > 10_000.0 {
                report.open_loop.as_mut().unwrap().invalid = Some(Invalid::GeneratorLate);
            }
            run(report)
        };
        let (found, _) = find(limit(), &plan(), measure, |_| ()).unwrap();
        assert!(found.at_least && found.confirmed, "{found:?}");
        assert_eq!(found.stopped_by, StoppedBy::Verdict(Verdict::Generator));
        assert!((9_500.0..=10_000.0).contains(&found.rate.unwrap()), "{found:?}");
    }

    #[test]
    fn interrupt_keeps_result() {
        let measure = |it: Trial| if it.index < 3 { run(simulated(1e6, it.rate, 1.0)) } else { Ok(None) };
        let (found, best) = find(limit(), &plan(), measure, |_| ()).unwrap();
        assert_eq!((found.rate, found.confirmed, found.at_least), (Some(400.0), false, true));
        assert_eq!((found.stopped_by, found.steps.len()), (StoppedBy::Interrupt, 3));
        assert_eq!(best.unwrap().open_loop.unwrap().rate, 400.0);
        let (found, _) = find(limit(), &plan(), |_| Ok(None::<Report>), |_| ()).unwrap();
        assert_eq!((found.rate, found.at_least), (None, false));
    }

    #[test]
    fn slow_server_has_no_capacity() {
        let measure = |it: Trial| run(simulated(2.0, it.rate, 1.0));
        let (found, last) = find(limit(), &plan(), measure, |_| ()).unwrap();
        assert_eq!((found.rate, found.confirmed, found.failed_rate), (None, false, Some(1.0)));
        assert_eq!(found.stopped_by, StoppedBy::Verdict(Verdict::Latency));
        assert_eq!(last.unwrap().open_loop.unwrap().rate, 1.0);
    }

    #[test]
    fn server_without_capacity_has_none() {
        let dead = Report { open_loop: None, p99_us: None, ..simulated(1.0, 1.0, 1.0) };
        let (found, last) = find(limit(), &plan(), |_| run(dead.clone()), |_| ()).unwrap();
        assert_eq!((found.rate, found.failed_rate), (None, Some(1.0)));
        assert_eq!(found.stopped_by, StoppedBy::Verdict(Verdict::Aborted));
        assert!(last.is_some_and(|report| report.deliveries == dead.deliveries));
    }

    fn failed(failure: Failure) -> Report {
        let error = Some("no answer".into());
        Report { ok: false, error, failure: Some(failure), open_loop: None, ..simulated(1e6, 100.0, 1.0) }
    }

    #[test]
    fn unreachable_target_ends_search_at_once() {
        for failure in [Failure::Unreachable, Failure::Setup] {
            let (found, _) = find(limit(), &plan(), |_| run(failed(failure)), |_| ()).unwrap();
            assert_eq!((found.steps.len(), found.rate), (1, None), "{failure:?}");
            assert_eq!(found.stopped_by, StoppedBy::Target(failure));
        }
        let measure = |it: Trial| {
            run(if it.index < 3 { simulated(1e6, it.rate, 1.0) } else { failed(Failure::Unreachable) })
        };
        let (found, best) = find(limit(), &plan(), measure, |_| ()).unwrap();
        assert_eq!((found.steps.len(), found.rate, found.confirmed), (4, Some(400.0), false));
        assert_eq!(found.stopped_by, StoppedBy::Target(Failure::Unreachable));
        assert_eq!(best.unwrap().open_loop.unwrap().rate, 400.0);
    }

    #[test]
    fn overload_that_closes_clients_is_a_verdict() {
        // Clients are closed above this rate; after the first run also while they are set up.
        let measure = |it: Trial| {
            let failure = if it.index == 5 { Failure::Setup } else { Failure::Load };
            run(if it.rate < 1500.0 { simulated(1e6, it.rate, 1.0) } else { failed(failure) })
        };
        let (found, _) = find(limit(), &plan(), measure, |_| ()).unwrap();
        assert!((1400.0..1500.0).contains(&found.rate.unwrap()) && found.confirmed, "{found:?}");
        assert_eq!(found.stopped_by, StoppedBy::Verdict(Verdict::Aborted));
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
