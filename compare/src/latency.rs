//! Latency at a fixed rate: the capacity of a server, and the rates derived from it.

use std::time::Duration;

use roomcast_loadgen::capacity::{self, LatencyLimit, Percentile, Phase, Plan, Trial};
use roomcast_loadgen::{Error, Report};

use super::load::Rate;
use super::{Load, Run};

/// Limit of the latency at the capacity.
const LIMIT: LatencyLimit = LatencyLimit { percentile: Percentile::P99, micros: 50_000.0 };
/// Baseline of latencies: the server of another project with the lowest one in the same round.
pub(super) const BEST_PEER: &str = "the best peer";

/// Finds the highest rate with p99 ≤ 50 ms, and returns the report of the run that confirmed it.
///
/// The search uses short runs: above the capacity the queues grow, so that latencies exceed the limit within seconds. A
/// long run confirms the result. `run` measures at a rate for some time. `short` is for smoke tests.
pub(super) fn find_capacity(
    short: bool,
    mut run: impl FnMut(f64, Duration) -> Result<Report, Error>,
) -> Result<Report, Error> {
    let (search, confirmation) = windows(short);
    let plan = Plan {
        ceiling: HIGHEST_RATE,
        precision: if short { 2.0 } else { PRECISION },
        attempts: 2,
        ..Plan::new(FIRST_RATE, search)
    };
    let measure = |trial: Trial| {
        let window = if trial.phase == Phase::Confirmation { confirmation } else { search };
        run(trial.rate, window).map(Some)
    };
    let (capacity, found) = capacity::find(LIMIT, &plan, measure, |_| ())?;
    let mut report = found.unwrap_or_default();
    if !capacity.confirmed {
        report.ok = false;
        report.error = report.error.or_else(|| Some(format!("no rate with {}", capacity.limit)));
    }
    Ok(report)
}

/// Returns the report, as failed if too many messages were sent late.
pub(super) fn counted(mut report: Report) -> Report {
    if let Some(reason) = report.invalid()
        && report.ok
    {
        report.ok = false;
        report.error = Some(format!("over 1 % of the messages were sent late: {reason:?}"));
    }
    report
}

/// Returns the times to measure in the search and in the confirmation.
pub(super) fn windows(short: bool) -> (Duration, Duration) {
    if short { SMOKE_TEST } else { (SEARCH, CONFIRMATION) }
}

/// Returns the time to measure at a share of the capacity.
pub(super) fn window(short: bool) -> Duration {
    if short { SMOKE_TEST.1 } else { AT_SHARE }
}

/// Returns the lowest measured capacity for this load, in messages per second.
pub(super) fn lowest_capacity(runs: &[Run], load: &Load) -> Option<f64> {
    matches!(load.rate, Some(Rate::Share(_))).then_some(())?;
    let name = load.capacity().to_string();
    let capacities = runs.iter().filter(|run| run.load == name && run.report.ok);
    capacities.filter_map(|run| rate(&run.report)).min_by(f64::total_cmp)
}

/// Returns the rate of an open loop in messages per second.
pub(super) fn rate(report: &Report) -> Option<f64> {
    Some(report.open_loop?.rate)
}

/// Returns the lowest value of another project's server in a round, over faultless runs.
pub(super) fn best_peer<'a>(
    runs: impl Iterator<Item = &'a Run>,
    round: usize,
    value: impl Fn(&Report) -> Option<f64>,
) -> Option<f64> {
    let peers = runs.filter(|run| run.round == round && run.report.ok && is_peer(&run.server));
    peers.filter_map(|run| value(&run.report)).min_by(f64::total_cmp)
}

fn is_peer(server: &str) -> bool {
    !server.starts_with("limit-") && !server.starts_with("roomcast-")
}

/// First rate of the search, in messages per second.
const FIRST_RATE: f64 = 25.0;
const HIGHEST_RATE: f64 = 50_000.0;
/// Ratio of the lowest failed to the highest passed rate at which the search ends.
const PRECISION: f64 = 1.125;
/// Usual number of runs of a search without its confirmation.
pub(super) const SEARCH_RUNS: u32 = 14;
const SEARCH: Duration = Duration::from_secs(2);
const CONFIRMATION: Duration = Duration::from_secs(10);
/// Search and confirmation of a smoke test.
const SMOKE_TEST: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(1000));
const AT_SHARE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use roomcast_loadgen::{Invalid, OpenLoopReport};

    use super::*;

    fn report(rate: f64, p99_us: f64) -> Report {
        let open_loop = Some(OpenLoopReport { rate, due: 100, landed: 100, ..OpenLoopReport::default() });
        Report { ok: true, p99_us: Some(p99_us), open_loop, ..Report::default() }
    }

    /// Finds the capacity of a server that keeps up to `most`, and up to `longer` in runs of 10 s.
    fn found(most: f64, longer: f64) -> Report {
        let server = |rate: f64, window: Duration| {
            let most = if window >= CONFIRMATION { longer } else { most };
            Ok(report(rate, if rate <= most { 900.0 } else { 80_000.0 }))
        };
        find_capacity(false, server).unwrap()
    }

    #[test]
    fn finds_highest_sustained_rate() {
        for most in [25.0, 60.0, 1000.0, 1999.0, 4321.0] {
            let report = found(most, most);
            let rate = rate(&report).unwrap();
            assert!(report.ok && rate <= most && rate > 0.85 * most, "{rate} of {most}");
        }
    }

    #[test]
    fn lowers_rate_until_long_run_passes() {
        let report = found(1000.0, 800.0);
        assert!(report.ok && rate(&report).is_some_and(|rate| (700.0..=800.0).contains(&rate)), "{report:?}");
        let slow = found(1.0, 1.0);
        assert!(!slow.ok && slow.error.is_some_and(|error| error.contains("p99 ≤ 50 ms")));
    }

    #[test]
    fn one_disturbed_run_does_not_end_search() {
        let mut runs = 0;
        let server = |rate: f64, _| {
            runs += 1;
            let disturbed = runs == 3;
            Ok(report(rate, if rate <= 1000.0 && !disturbed { 900.0 } else { 80_000.0 }))
        };
        assert!(find_capacity(false, server).is_ok_and(|report| rate(&report) > Some(850.0)));
    }

    #[test]
    fn late_sends_do_not_count() {
        let mut late = report(100.0, 500.0);
        let invalid = Some(Invalid::GeneratorLate);
        late.open_loop = Some(OpenLoopReport { rate: 100.0, invalid, ..OpenLoopReport::default() });
        let counted = counted(late);
        assert!(!counted.ok && counted.error.is_some_and(|error| error.contains("late")));
    }

    #[test]
    fn rates_follow_lowest_capacity() {
        let run = |server: &str, load: &str, report: Report| Run {
            round: 1,
            load: load.into(),
            server: server.into(),
            repeated: 0,
            noisy: false,
            report,
        };
        let failed = Report { ok: false, ..report(10.0, 1.0) };
        let runs = [
            run("roomcast-sio", "latency-capacity:1000:64", report(3000.0, 1.0)),
            run("ws", "latency-capacity:1000:64", report(120.0, 1.0)),
            run("axum", "latency-capacity:100:64", report(50.0, 1.0)),
            run("socket.io", "latency-capacity:1000:64", failed),
        ];
        let lowest = |load: &str| lowest_capacity(&runs, &load.parse().unwrap());
        assert_eq!((lowest("latency-30"), lowest("latency-30:50")), (Some(120.0), None));
        assert_eq!((lowest("latency-capacity"), lowest("paced")), (None, None));

        let runs = [
            run("roomcast-sio", "latency-30:1000:64", report(36.0, 1.0)),
            run("limit-write", "latency-30:1000:64", report(36.0, 1.0)),
            run("ws", "latency-30:1000:64", report(36.0, 7.0)),
            run("axum", "latency-30:1000:64", report(36.0, 5.0)),
        ];
        assert_eq!(best_peer(runs.iter(), 1, |report| report.p99_us), Some(5.0));
        assert_eq!(best_peer(runs.iter(), 2, |report| report.p99_us), None);
    }
}
