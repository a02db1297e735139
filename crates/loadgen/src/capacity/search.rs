//! Search for the highest rate that a server sustains, independent of how a rate is measured.

use serde::Serialize;

/// Verdict on the run of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Within the limit, without faults.
    Ok,
    /// The latency exceeded the limit.
    Latency,
    /// The server delivered less than was sent, or messages waited for the bound in flight.
    Behind,
    /// Messages were lost, damaged or misdelivered.
    Faults,
    /// The run ended early, for example since the server closed a connection.
    Aborted,
    /// The load generator sent late; the server's latency at this rate is unknown.
    Generator,
}

/// Purpose of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Doubles the rate until it fails, or halves it until it passes.
    Growth,
    /// Halves the interval between the highest rate that passed and the lowest that failed.
    Bisection,
    /// Repeats the rate that was found.
    Confirmation,
}

impl Phase {
    /// Returns the name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Growth => "growth",
            Self::Bisection => "bisection",
            Self::Confirmation => "confirmation",
        }
    }
}

/// Range and care of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// First rate.
    pub start: f64,
    /// Lowest rate to try.
    pub floor: f64,
    /// Highest rate to try.
    pub ceiling: f64,
    /// Ratio of the lowest failed to the highest passed rate at which the bisection ends.
    pub precision: f64,
    /// Number of runs that must fail for a rate to fail, except for the confirmation.
    ///
    /// With short runs, a disturbance of the machine fails one.
    pub attempts: u32,
}

/// Search over rates: growth, bisection, confirmation.
///
/// A pure state machine: the caller measures the [next](Self::next) rate and [records](Self::record) the verdict.
#[derive(Debug)]
pub struct Search {
    phase: Phase,
    rate: f64,
    plan: Plan,
    /// Highest rate that passed.
    passed: Option<f64>,
    /// All rates that passed.
    all_passed: Vec<f64>,
    /// Lowest rate that failed above it, and why.
    failed: Option<(f64, Verdict)>,
    /// Failed runs of this rate before it counts as failed.
    failed_runs: u32,
    /// Failed confirmations.
    unconfirmed: i32,
    end: Option<End>,
}

/// Reason for the end of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// A rate is confirmed, and a higher one failed.
    Confirmed,
    /// The highest rate that can be requested is confirmed.
    Ceiling,
    /// Even the lowest rate failed.
    NonePassed,
}

impl Search {
    /// Begins at the first rate of the plan.
    pub fn new(plan: &Plan) -> Self {
        Self {
            phase: Phase::Growth,
            rate: plan.start.clamp(plan.floor, plan.ceiling),
            plan: *plan,
            passed: None,
            all_passed: Vec::new(),
            failed: None,
            failed_runs: 0,
            unconfirmed: 0,
            end: None,
        }
    }

    /// Returns the rate to measure next, and why, unless the search has ended.
    pub fn next(&self) -> Option<(f64, Phase)> {
        self.end.is_none().then_some((self.rate, self.phase))
    }

    /// Records the verdict on the rate returned by [`next`](Self::next).
    pub fn record(&mut self, verdict: Verdict) {
        let attempts = match (verdict, self.phase) {
            // A late generator says nothing about the server and is often a short disturbance.
            (Verdict::Generator, _) => self.plan.attempts.max(2),
            (Verdict::Ok, _) | (_, Phase::Confirmation) => 1,
            (_, Phase::Growth | Phase::Bisection) => self.plan.attempts,
        };
        self.failed_runs += 1;
        if self.failed_runs < attempts {
            return;
        }
        self.failed_runs = 0;
        let rate = self.rate;
        if verdict == Verdict::Ok {
            self.passed = Some(rate);
            self.all_passed.push(rate);
        } else {
            self.failed = Some((rate, verdict));
        }
        match (self.phase, verdict) {
            (Phase::Confirmation, Verdict::Ok) => {
                self.end = Some(if self.failed.is_some() { End::Confirmed } else { End::Ceiling });
            }
            (Phase::Confirmation, _) => {
                let lower = self.all_passed.iter().copied().filter(|passed| *passed < rate);
                self.passed = lower.reduce(f64::max);
                self.unconfirmed += 1;
                self.lower(rate * (1.0 - backoff(self.unconfirmed)));
            }
            _ => self.narrow(),
        }
    }

    /// Chooses the next rate of the growth or bisection.
    fn narrow(&mut self) {
        match (self.passed, self.failed) {
            (Some(passed), Some((failed, _))) if failed / passed > self.plan.precision => {
                (self.phase, self.rate) = (Phase::Bisection, (passed * failed).sqrt());
            }
            (Some(passed), None) if passed < self.plan.ceiling => {
                self.rate = (passed * GROWTH).min(self.plan.ceiling);
            }
            (Some(passed), _) => (self.phase, self.rate) = (Phase::Confirmation, passed),
            (None, _) => self.lower(self.rate / GROWTH),
        }
    }

    fn lower(&mut self, rate: f64) {
        if self.rate <= self.plan.floor {
            (self.end, self.passed) = (Some(End::NonePassed), None);
        }
        self.rate = rate.max(self.plan.floor);
    }

    /// Returns the reason for the end.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// Returns the highest rate that passed, confirmed if the search has [ended](Self::end).
    pub fn passed(&self) -> Option<f64> {
        self.passed
    }

    /// Returns the lowest rate that failed, and why.
    pub fn failed(&self) -> Option<(f64, Verdict)> {
        self.failed
    }
}

/// Returns the share by which the rate is lowered after so many failed confirmations.
///
/// It grows, so that a wrong start of the search cannot make it endless.
fn backoff(unconfirmed: i32) -> f64 {
    match unconfirmed {
        ..=1 => 0.05,
        2..=5 => 0.1,
        more => (0.1 * 2_f64.powi(more - 5)).min(0.5),
    }
}

/// Factor between two rates of the growth.
const GROWTH: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: f64 = 1.0;
    const CEILING: f64 = 1e7;
    const PRECISION: f64 = 1.05;

    fn plan(start: f64) -> Plan {
        Plan { start, floor: FLOOR, ceiling: CEILING, precision: PRECISION, attempts: 1 }
    }

    /// Runs a search against a simulated server and returns it with the measured rates.
    fn search(start: f64, server: impl FnMut(f64) -> Verdict) -> (Search, Vec<f64>) {
        follow(&plan(start), server)
    }

    fn follow(plan: &Plan, mut server: impl FnMut(f64) -> Verdict) -> (Search, Vec<f64>) {
        let mut search = Search::new(plan);
        let mut rates = Vec::new();
        while let Some((rate, _)) = search.next() {
            rates.push(rate);
            assert!(rates.len() < 100, "{rates:?}");
            search.record(server(rate));
        }
        (search, rates)
    }

    /// Latency of a queue with one server: it grows without bound towards its capacity.
    fn queue(capacity: f64) -> impl Fn(f64) -> Verdict {
        move |rate| if rate < capacity { Verdict::Ok } else { Verdict::Latency }
    }

    #[test]
    fn finds_capacity_within_precision() {
        for capacity in [1.3, 40.0, 99.0, 100.0, 101.0, 7_777.0, 123_456.0, 2_000_000.0] {
            let (search, rates) = search(100.0, queue(capacity));
            let found = search.passed().unwrap();
            assert!(found < capacity && found * PRECISION >= capacity, "{capacity}: {found}");
            assert_eq!((search.end(), search.next()), (Some(End::Confirmed), None));
            assert_eq!(search.failed().unwrap().1, Verdict::Latency);
            assert_eq!(rates.last(), search.passed().as_ref(), "the last run confirms it");
            assert!(rates.len() <= 8 + (capacity / 100.0).log2().abs() as usize, "{capacity}: {rates:?}");
        }
    }

    #[test]
    fn tolerates_noise() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let capacity = 1_000.0 * (1.0 + f64::from(random.u16(..1000)));
            // Each run sees a capacity that is up to 10 % lower, and one run in 20 is disturbed.
            let noisy = |rate| {
                let noise = 1.0 - 0.1 * random.f64();
                let disturbed = random.u8(..20) == 0;
                queue(if disturbed { 0.7 } else { noise } * capacity)(rate)
            };
            let (search, _) = search(100.0, noisy);
            let found = search.passed().unwrap();
            assert!((0.3..1.0).contains(&(found / capacity)), "{seed}: {found} of {capacity}");
        }
    }

    #[test]
    fn second_attempt_outlasts_disturbance() {
        let plan = Plan { attempts: 2, precision: 1.125, ..plan(100.0) };
        let mut runs = 0;
        let (search, rates) = follow(&plan, |rate| {
            runs += 1;
            if runs == 3 { Verdict::Latency } else { queue(1000.0)(rate) }
        });
        let found = search.passed().unwrap();
        assert!((880.0..1000.0).contains(&found), "{rates:?}");
        assert_eq!(rates.iter().filter(|rate| **rate == 400.0).count(), 2, "{rates:?}");
        assert_eq!(rates.iter().filter(|rate| **rate == 1600.0).count(), 2, "{rates:?}");
    }

    #[test]
    fn failed_confirmation_lowers_rate() {
        let mut runs = 0;
        // The rate passes when first measured, but the server gets slower.
        let (search, rates) = search(1000.0, |rate| {
            runs += 1;
            queue(if runs <= 6 { 1500.0 } else { 700.0 })(rate)
        });
        let found = search.passed().unwrap();
        assert!(found < 700.0 && found > 300.0, "{rates:?}");
        assert_eq!(search.end(), Some(End::Confirmed));
        assert!(search.failed().unwrap().0 > found, "{rates:?}");
    }

    #[test]
    fn late_generator_is_tried_again() {
        let mut disturbed = true;
        let (search, rates) = search(100.0, |rate| {
            if rate == 400.0 && std::mem::replace(&mut disturbed, false) {
                return Verdict::Generator;
            }
            queue(1000.0)(rate)
        });
        assert_eq!(rates.iter().filter(|rate| **rate == 400.0).count(), 2, "{rates:?}");
        assert_eq!(search.failed().unwrap().1, Verdict::Latency);
    }

    #[test]
    fn names_generator_as_limit() {
        let generator = |rate| if rate < 5_000.0 { Verdict::Ok } else { Verdict::Generator };
        let (search, rates) = search(100.0, generator);
        assert!(search.passed().unwrap() > 4_700.0, "{rates:?}");
        assert_eq!((search.end(), search.failed().unwrap().1), (Some(End::Confirmed), Verdict::Generator));
    }

    #[test]
    fn ends_at_floor_and_ceiling() {
        let (none, rates) = search(100.0, |_| Verdict::Faults);
        assert_eq!((none.end(), none.passed()), (Some(End::NonePassed), None));
        assert_eq!((rates.last(), none.failed()), (Some(&FLOOR), Some((FLOOR, Verdict::Faults))));
        let (all, rates) = search(100.0, |_| Verdict::Ok);
        assert_eq!((all.end(), all.passed()), (Some(End::Ceiling), Some(CEILING)));
        assert_eq!(rates[rates.len() - 2..], [CEILING, CEILING]);
    }

    #[test]
    fn keeps_best_rate_when_interrupted() {
        let mut search = Search::new(&plan(100.0));
        for _ in 0..3 {
            search.record(Verdict::Ok);
        }
        assert_eq!((search.end(), search.passed(), search.failed()), (None, Some(400.0), None));
        assert_eq!(search.next(), Some((800.0, Phase::Growth)));
    }
}
