//! Runs of a comparison, and an estimate of their time.

use std::time::Duration;

use super::load::Rate;
use super::{Contender, Load, Options, latency, trial};
use roomcast_loadgen::scenario::Scenario;

/// Runs in their order, by round and load.
pub(super) struct Plan<'a> {
    pub(super) groups: Vec<Group<'a>>,
}

/// Servers of a load in one round.
pub(super) struct Group<'a> {
    pub(super) round: usize,
    pub(super) load: &'a Load,
    pub(super) contenders: Vec<&'a Contender>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(options: &'a Options, contenders: &'a [Contender]) -> Self {
        let named = |contender: &Contender| options.only.iter().any(|only| only == contender.name());
        let taking_part = |round: usize, load: &Load| {
            let takes =
                |it: &&Contender| it.takes(load, named(it)) && options.takes_part(it.family(), load, round);
            contenders.iter().filter(takes).collect()
        };
        let rounds =
            (1..=options.rounds).flat_map(|round| options.scenarios.iter().map(move |it| (round, it)));
        let group = |(round, load)| Group { round, load, contenders: taking_part(round, load) };
        Self { groups: rounds.map(group).collect() }
    }

    /// Returns the number of runs.
    pub(super) fn runs(&self) -> usize {
        self.groups.iter().map(|group| group.contenders.len()).sum()
    }

    /// Estimates the time of all runs, with a margin for repeated ones.
    pub(super) fn time(&self, options: &Options) -> Duration {
        self.groups.iter().map(|group| group.time(options)).sum()
    }

    /// Returns what does not fit into a time, or `None` if all does.
    pub(super) fn left_out(&self, options: &Options, budget: Duration) -> Option<String> {
        let mut spent = Duration::ZERO;
        let first = self.groups.iter().position(|group| {
            spent += group.time(options);
            spent > budget
        })?;
        let missing: usize = self.groups[first..].iter().map(|group| group.contenders.len()).sum();
        let Group { round, load, .. } = &self.groups[first];
        let rest = match options.rounds {
            last if last == *round => String::new(),
            last if last == round + 1 => format!(" and round {last}"),
            last => format!(" and rounds {} to {last}", round + 1),
        };
        Some(format!("about {missing} of {} runs: round {round} from {load} on{rest}", self.runs()))
    }
}

impl Group<'_> {
    fn time(&self, options: &Options) -> Duration {
        let count = u32::try_from(self.contenders.len()).unwrap_or(u32::MAX);
        (run_time(self.load, options) * count).mul_f64(if options.repeats > 0 { REPEATED } else { 1.0 })
    }
}

/// Estimates the time of a run, with the start of the server and the connections.
fn run_time(load: &Load, options: &Options) -> Duration {
    let short = options.window < trial::SHORT_WINDOW;
    let connecting = CONNECTING.mul_f64(load.clients as f64);
    let once = |window: Duration| START + connecting + options.warmup + window;
    if load.cluster.is_some() {
        // Three servers and Redis start; one runs alone for half of the time, and the cluster twice.
        return START * 3 + (options.warmup + options.window).mul_f64(2.5);
    }
    match load.rate {
        Some(Rate::Capacity | Rate::All) => {
            let (search, confirmation) = latency::windows(short);
            once(search) * latency::SEARCH_RUNS + once(confirmation)
        }
        Some(Rate::Share(_)) => once(latency::window(short)),
        None if load.heartbeats => once(trial::heartbeat_window(options.window)),
        // It has a second window without broadcasts.
        None if load.scenario == Scenario::Chat => once(options.window * 2 + options.warmup),
        None => once(options.window),
    }
}

/// Time until a server accepts, and to end both programs.
const START: Duration = Duration::from_millis(500);
/// Time to connect a client, as a mean of all servers.
const CONNECTING: Duration = Duration::from_micros(100);
/// Factor for runs that are repeated since other processes used the CPU.
const REPEATED: f64 = 1.15;

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::contender::tests::built_in;

    fn options(line: &str) -> Options {
        Options::parse_from(format!("compare {line}").split_ascii_whitespace()).settled()
    }

    #[test]
    fn estimates_whole_comparison() {
        let (options, all) = (options(""), built_in());
        let plan = Plan::new(&options, &all);
        let minutes = plan.time(&options).as_secs_f64() / 60.0;
        assert!((60.0..180.0).contains(&minutes), "{minutes} for {} runs", plan.runs());
        assert_eq!(options.budget(&plan), plan.time(&options).mul_f64(crate::SPARE), "it is the default");
        assert_eq!(plan.left_out(&options, options.budget(&plan)), None);
    }

    #[test]
    fn names_what_does_not_fit() {
        let options =
            options("--rounds 4 --repeats 0 --scenarios paced,echo --only limit-write --warmup 0.4");
        let all: Vec<Contender> = built_in().into_iter().filter(|it| it.name() == "limit-write").collect();
        let plan = Plan::new(&options, &all);
        assert_eq!(plan.runs(), 8);
        // Four of eight runs: 2 s for paced and 1.91 s for echo.
        let half = plan.time(&options) / 2;
        let left_out = |budget| plan.left_out(&options, budget);
        assert_eq!(left_out(half).unwrap(), "about 4 of 8 runs: round 3 from paced:1000:64 on and round 4");
        let none = "about 8 of 8 runs: round 1 from paced:1000:64 on and rounds 2 to 4";
        assert_eq!(left_out(Duration::ZERO).unwrap(), none);
        let last = plan.time(&options) - Duration::from_secs(1);
        assert_eq!(left_out(last).unwrap(), "about 1 of 8 runs: round 4 from echo:64:64 on");
        assert_eq!(left_out(plan.time(&options)), None);
    }

    #[test]
    fn budget_is_as_asked() {
        let (options, all) = (options("--minutes 3"), built_in());
        let budget = options.budget(&Plan::new(&options, &all));
        assert_eq!(budget, Duration::from_secs(180));
    }
}
