//! Comparison of servers under the same load, as ratios to a lower bound.
//!
//! The speed of a shared host drifts by up to a third within minutes. The servers of a scenario therefore run directly
//! after one another, in a new random order each round, with a server next to its baseline. Ratios are computed within
//! a round, and the median is taken over the rounds. Ratios are comparable across scenarios and days; absolute times
//! are not.
//!
//! * [`run`] is the driver, and writes the report with its plots: `cargo xtask compare`.
//! * [`docs`] generates the figures of the documents from the results: `cargo xtask results`.
//! * [`limit`] has the bare epoll servers, the lower bound on this kernel and the baseline of the ratios.
//! * `peers/` has servers of other projects.
//! * [`roomcast_loadgen::scenario`] generates the load.
//!
//! Requires Linux, like the load generator; on other systems the crate is empty.

#![allow(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "used only by this repository's programs"
)]
#![cfg(target_os = "linux")]

mod child;
mod cluster;
mod contender;
pub mod docs;
mod document;
mod latency;
pub mod limit;
mod load;
mod plan;
mod plot;
mod progress;
mod slope;
mod summary;
mod table;
mod targets;
mod trial;
mod versions;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs};

use fastrand::Rng;
use serde::{Deserialize, Serialize};

pub use contender::Contender;
use contender::{Family, Programs};
use docs::Project;
use document::Record;
use load::DEFAULT_LOADS;
pub use load::Load;
use plan::{Group, Plan};
use progress::Progress;
use roomcast_loadgen::ErrorContext as _;
use roomcast_loadgen::environment::Machine;
use roomcast_loadgen::process::raise_open_files;
use roomcast_loadgen::scenario::{Scenario, seconds};
use roomcast_loadgen::{Error, Report};
use trial::{Trial, Trials};
use versions::versions;

/// Compare servers with the physical limit and with each other, and write a report with tables and plots
///
/// Every run starts a fresh server process on one CPU and the busy-polling load generator on another. The main result
/// is the ratio: the server's CPU time per delivery, divided by that of the limit server in the same round. The
/// scenarios paced, rooms, idle, chat and poll-paced compare with limit-write, the others with limit-batch; both limits
/// speak plain WebSocket (long-polling in the poll scenarios).
///
/// Needs an otherwise idle machine with two CPUs. The report is rewritten after each scenario of each round, so that
/// Ctrl-C keeps the results so far.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "compare")]
pub struct Options {
    /// Scenarios, separated by commas: NAME, NAME:CLIENTS or NAME:CLIENTS:PAYLOAD
    ///
    /// NAME is paced, saturated, echo, rooms, idle, chat, poll-paced or poll-saturated; see `loadgen --help`.
    /// connections is idle with a heartbeat every two seconds, and CLIENTS may be `limit`, as many as the limit of open
    /// files permits; from several sizes follow the costs per connection. latency is paced at a fixed rate: it measures
    /// the capacity of each server, then its latency at 30, 60 and 80 % of the lowest capacity.
    ///
    /// The prefix `free-` allows the server all CPUs, for servers with several threads; `tls-` compares TLS with plain
    /// text, in idle also with resumed sessions; `text-` fills messages with record-like text, for compression.
    #[arg(long, value_delimiter = ',', default_value = DEFAULT_LOADS, hide_default_value = true)]
    pub scenarios: Vec<Load>,
    /// Vary each habit of the load generator: acknowledgements, polls, writes and busy-polling
    ///
    /// Runs Roomcast and the limits in saturated, paced, echo and poll-saturated, with one habit changed at a time.
    #[arg(long, conflicts_with = "scenarios")]
    pub habits: bool,
    /// Measure the cost of messages between servers on a Redis, which is started: the scenarios cluster-saturated,
    /// cluster-paced, cluster-no-members and cluster-rooms, and of changes of sessions: cluster-sessions
    ///
    /// One client per server, 180 bytes. The CPU time of a server alone under the same load is subtracted. Needs
    /// redis-server.
    #[arg(long, conflicts_with_all = ["scenarios", "habits"])]
    pub cluster: bool,
    /// Servers to run, separated by commas, in every scenario that they support
    ///
    /// By default servers run in selected scenarios: peers in default sizes, a mounted server in fan-out, two threads
    /// with all CPUs, compression with text, recovery in fan-out. `--list` lists the servers.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Additional server: NAME=plain[/PATH]:COMMAND or NAME=sio[/PATH]:COMMAND
    ///
    /// In the command, {port} is replaced by the port, and {pattern} by broadcast, echo or room. The server must behave
    /// like the example fanout_server in these modes. The command is split at spaces and not passed to a shell.
    #[arg(long = "server", value_name = "NAME=KIND:COMMAND")]
    pub servers: Vec<Contender>,
    /// Number of rounds; a 95 % interval needs at least six
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,
    /// Number of rounds in which servers of other projects run
    #[arg(long, default_value_t = 3)]
    pub peer_rounds: usize,
    /// Run two short rounds as a smoke test; overrides --rounds
    #[arg(long)]
    pub quick: bool,
    /// Stop after this many minutes, with the results so far
    ///
    /// The estimate, and what a smaller budget leaves out, is printed at the start. [default: the estimate and a
    /// quarter]
    #[arg(long)]
    pub minutes: Option<u64>,
    /// Seconds of load before the measurement
    #[arg(long, default_value = "0.4", value_parser = seconds)]
    pub warmup: Duration,
    /// Seconds to measure in each run
    #[arg(long, default_value = "1", value_parser = seconds)]
    pub window: Duration,
    /// Path of Roomcast's example fanout_server, with cluster_fanout and bare_client next to it; skipped if missing
    ///
    /// [default: examples/fanout_server next to this program, as in target/dist/examples/fanout_server]
    #[arg(long)]
    pub fanout_server: Option<PathBuf>,
    /// CPU of the servers
    #[arg(long, default_value_t = 0)]
    pub server_cpu: usize,
    /// CPU of the load generator
    #[arg(long, default_value_t = 1)]
    pub load_cpu: usize,
    /// Repeat a run in which other processes used more than this many cores
    #[arg(long, default_value_t = 0.06)]
    pub max_foreign: f64,
    /// Maximum number of repeats of such a run, if time permits; after them the quietest run counts and is marked noisy
    #[arg(long, default_value_t = 3)]
    pub repeats: usize,
    /// Seed of the random order [default: from the clock]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Folder of the report
    ///
    /// [default: target/compare, and docs/benchmarks when a comparison without --quick, --only and --scenarios has
    /// completed at least six rounds; the figures of all documents are then rewritten]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Render the report from the results.json of an earlier comparison, without running anything
    ///
    /// A complete comparison is rendered to docs/benchmarks with the figures of all documents, another to the folder of
    /// the file, unless --out is given.
    #[arg(long, value_name = "FILE")]
    pub render: Option<PathBuf>,
    /// List the servers and whether they are built
    #[arg(long)]
    pub list: bool,
}

/// Counted run of a server in a round.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Run {
    round: usize,
    load: String,
    server: String,
    /// Number of discarded runs before it, in which other processes used the CPU.
    repeated: usize,
    /// Whether other processes used the CPU in this run too.
    noisy: bool,
    report: Report,
}

/// Runs the comparison, prints the tables and writes the report.
///
/// Returns whether all runs were faultless, ignoring servers of other projects, whose faults are a result.
///
/// # Errors
///
/// Fails if the options are invalid, or name programs or CPUs that do not exist. A server that fails is not an error;
/// the table shows it as failed.
pub fn run(options: &Options) -> Result<bool, Error> {
    let options = &options.settled();
    if let Some(file) = &options.render {
        let record = Record::read(file)?;
        let folder = match &options.out {
            Some(folder) => folder.clone(),
            None if record.is_complete() => Project::here().report(),
            None => file.parent().map(Path::to_owned).unwrap_or_default(),
        };
        let results = folder.join("results.json");
        record.write_report(&folder)?;
        // A copy, so that rendering changes no digit.
        if !is_same(file, &results) {
            fs::copy(file, &results).doing(|| format!("write {}", results.display()))?;
        }
        publish(&record, &folder)?;
        return Ok(true);
    }
    let folder = options.folder();
    let contenders = contenders(options)?;
    if options.list {
        for contender in &contenders {
            println!("{}: {}", contender.name(), contender.missing().unwrap_or_else(|| "ready".into()));
        }
        return Ok(true);
    }
    let (missing, contenders): (Vec<_>, Vec<_>) =
        contenders.into_iter().partition(|contender| contender.missing().is_some());
    if contenders.is_empty() {
        return Err(Error::Usage("no server to run".into()));
    }
    raise_open_files().doing(|| "raise the limit of open files".into())?;
    let peers: HashSet<String> =
        contenders.iter().filter(|it| it.family().is_peer()).map(|it| it.name().to_owned()).collect();
    let mut record = options.record(&missing);
    let outcome = Comparison { options, contenders, trials: Trials::new(options)? }.run(&mut record, &folder);
    record.write(&folder)?;
    outcome?;
    let folder =
        if options.out.is_none() && record.is_complete() { Project::here().report() } else { folder };
    record.write(&folder)?;
    publish(&record, &folder)?;
    Ok(record.runs.iter().all(|run| run.report.ok || peers.contains(&run.server)))
}

/// Prints the tables of a written report; if it is in docs/benchmarks, rewrites the figures of all documents.
fn publish(record: &Record, folder: &Path) -> Result<(), Error> {
    println!("{}report: {}", record.tables(), folder.display());
    let project = Project::here();
    if is_same(folder, &project.report()) {
        for document in project.rewrite(record)? {
            println!("rewritten: {}", document.display());
        }
    }
    Ok(())
}

/// Returns whether two paths name the same existing file or folder.
fn is_same(one: &Path, other: &Path) -> bool {
    let (one, other) = (one.canonicalize(), other.canonicalize());
    matches!((one, other), (Ok(one), Ok(other)) if one == other)
}

impl Options {
    /// Returns the options with `--quick` applied.
    fn settled(&self) -> Self {
        let mut options = self.clone();
        if self.habits {
            options.scenarios = load::habit_loads();
        }
        if options.cluster {
            options.scenarios = load::cluster_loads();
            // Ratios to Node's servers need an interval.
            options.peer_rounds = options.rounds;
        }
        options.scenarios = options.scenarios.iter().flat_map(|load| load.expanded()).collect();
        if self.quick {
            (options.rounds, options.peer_rounds, options.repeats) = (2, 1, 0);
            (options.warmup, options.window) = (Duration::from_millis(100), Duration::from_millis(300));
            for load in options.scenarios.iter_mut().filter(|load| load.scenario == Scenario::Chat) {
                load.clients = load.clients.min(QUICK_CROWD);
            }
        }
        options
    }

    /// Returns the folder of the report until the comparison is complete.
    fn folder(&self) -> PathBuf {
        let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/compare");
        self.out.clone().unwrap_or_else(usual)
    }

    #[expect(clippy::disallowed_methods, reason = "the report is dated")]
    fn record(&self, missing: &[Contender]) -> Record {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let arguments = repeatable(env::args().skip(1));
        Record {
            started_unix_s: started.as_secs(),
            unfinished: Some("interrupted".into()),
            arguments,
            machine: Machine::read(),
            versions: versions(&Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")),
            rounds: self.rounds,
            peer_rounds: self.peer_rounds.min(self.rounds),
            warmup_s: self.warmup.as_secs_f64(),
            window_s: self.window.as_secs_f64(),
            max_foreign_cores: self.max_foreign,
            loads: self.scenarios.iter().map(Load::to_string).collect(),
            missing: missing.iter().filter_map(|it| Some((it.name().to_owned(), it.missing()?))).collect(),
            runs: Vec::new(),
        }
    }

    /// Returns whether servers of this family run in a round.
    ///
    /// The rounds of a load are spread over all rounds, and those of peers over the rounds of the load, so that there
    /// is a server of the project in the same round.
    fn takes_part(&self, family: Family, load: &Load, round: usize) -> bool {
        let [most, most_of_peers] = load.most_rounds();
        let rounds = self.rounds.min(most);
        let of_peers = family.is_peer() || family == Family::Given;
        let own = spread(rounds, self.rounds);
        let of_peers = of_peers.then(|| spread(self.peer_rounds.min(most_of_peers).min(rounds), rounds));
        // A round is the n-th of the load.
        own(round) > own(round - 1) && of_peers.is_none_or(|due| due(own(round)) > due(own(round) - 1))
    }

    /// Returns the time after which the comparison stops.
    fn budget(&self, plan: &Plan<'_>) -> Duration {
        match self.minutes {
            Some(minutes) => Duration::from_secs(60 * minutes),
            None => plan.time(self).mul_f64(SPARE),
        }
    }
}

/// Returns how many of `some` rounds are due after a number of `all` rounds.
fn spread(some: usize, all: usize) -> impl Fn(usize) -> usize {
    move |round| (round * some).div_ceil(all)
}

struct Comparison<'a> {
    options: &'a Options,
    contenders: Vec<Contender>,
    trials: Trials,
}

impl Comparison<'_> {
    fn run(&self, record: &mut Record, folder: &Path) -> Result<(), Error> {
        let options = self.options;
        let mut random = Rng::with_seed(options.seed.unwrap_or(record.started_unix_s));
        let plan = Plan::new(options, &self.contenders);
        let budget = options.budget(&plan);
        let progress = Progress::new(plan.runs());
        let minutes = |time: Duration| (time.as_secs_f64() / 60.0).ceil();
        progress.say(&format!(
            "{} runs, about {} minutes; stops after {}",
            plan.runs(),
            minutes(plan.time(options)),
            minutes(budget)
        ));
        if let Some(left_out) = plan.left_out(options, budget) {
            progress.say(&format!("`--minutes` is too short and leaves out {left_out}"));
        }
        for (name, reason) in &record.missing {
            progress.say(&format!("{name} skipped: {reason}"));
        }
        for Group { round, load, contenders } in plan.groups {
            for contender in in_order(contenders, &mut random) {
                if progress.elapsed() > budget {
                    let minutes = minutes(budget);
                    record.unfinished =
                        Some(format!("stopped in round {round}, after {minutes} minutes; raise `--minutes`"));
                    return Ok(());
                }
                progress.begin(&format!("{load} {}", contender.name()));
                let lowest = latency::lowest_capacity(&record.runs, load);
                let run = self.quiet_run((round, load), contender, lowest, (&progress, budget))?;
                progress.done(&table::progress(&run));
                record.runs.push(run);
            }
            record.write(folder)?;
        }
        record.unfinished = None;
        Ok(())
    }

    /// Runs until no other process used the CPU, or the attempts are exhausted.
    fn quiet_run(
        &self,
        (round, load): (usize, &Load),
        contender: &Contender,
        lowest_capacity: Option<f64>,
        (progress, budget): (&Progress, Duration),
    ) -> Result<Run, Error> {
        let options = self.options;
        let foreign = |report: &Report| report.foreign_cores.unwrap_or(0.0);
        let mut best: Option<Report> = None;
        let mut repeated = 0;
        loop {
            let report = Trial { trials: &self.trials, load, contender, lowest_capacity }.run()?;
            let late = progress.elapsed() > budget.mul_f64(progress.share()) + SPARE_TIME;
            // Faults count even if the machine was busy.
            let decided =
                !report.ok || foreign(&report) <= options.max_foreign || repeated >= options.repeats || late;
            // Choose by noise, never by result.
            if !report.ok || best.as_ref().is_none_or(|best| foreign(&report) < foreign(best)) {
                best = Some(report);
            }
            if decided && let Some(report) = best {
                let noisy = foreign(&report) > options.max_foreign;
                let (load, server) = (load.to_string(), contender.name().into());
                return Ok(Run { round, load, server, repeated, noisy, report });
            }
            repeated += 1;
        }
    }
}

/// Returns a random order in which a server is next to its baseline.
fn in_order<'a>(mut all: Vec<&'a Contender>, random: &mut Rng) -> Vec<&'a Contender> {
    random.shuffle(&mut all);
    let (mut ours, mut others): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| it.place().is_some());
    let forwards = if random.bool() { 1 } else { -1 };
    ours.sort_by_key(|it| it.place().map(|place| forwards * place));
    let before = random.usize(..=others.len());
    others.splice(before..before, ours);
    others
}

/// Returns the selected built-in and given servers.
fn contenders(options: &Options) -> Result<Vec<Contender>, Error> {
    if options.rounds == 0 {
        return Err(Error::Usage("--rounds must be at least 1".into()));
    }
    let programs = env::current_exe().doing(|| "find the path of this program".into())?;
    let programs = programs.parent().unwrap_or_else(|| Path::new("."));
    let fanout_server =
        options.fanout_server.clone().unwrap_or_else(|| programs.join("examples/fanout_server"));
    let mut all = Contender::built_in(&Programs {
        limit: programs.join("limit"),
        cluster_server: fanout_server.with_file_name("cluster_fanout"),
        bare_client: fanout_server.with_file_name("bare_client"),
        fanout_server,
        tls_server: programs.join("../tls/dist/examples/fanout_server"),
        certificates: Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/server/tests/certificates"),
        rust_peers: programs.join("../peers/release"),
        node_peers: Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/node"),
        python_peers: Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/python"),
        python: programs.join("../peers/python"),
    });
    all.extend(options.servers.iter().cloned());
    let mut names = HashSet::new();
    if let Some(twice) = all.iter().find(|contender| !names.insert(contender.name())) {
        return Err(Error::Usage(format!("two servers are called {}", twice.name())));
    }
    if let Some(unknown) = options.only.iter().find(|only| !names.contains(only.as_str())) {
        return Err(Error::Usage(format!("unknown server {unknown} in --only; see --list")));
    }
    all.retain(|contender| {
        options.only.is_empty() || options.only.iter().any(|only| only == contender.name())
    });
    Ok(all)
}

/// Returns the portable arguments, without paths.
fn repeatable(arguments: impl Iterator<Item = String>) -> String {
    let mut kept: Vec<String> = Vec::new();
    for argument in arguments {
        if !argument.contains('/') {
            kept.push(argument);
        } else if kept.last().is_some_and(|last| last.starts_with("--") && !argument.starts_with("--")) {
            kept.pop();
        }
    }
    kept.iter().map(|argument| format!(" {argument}")).collect()
}

/// Minimum number of rounds of a complete comparison; fewer give no interval.
const FEWEST_ROUNDS: usize = 6;
/// Number of clients of the chat scenario with `--quick`.
const QUICK_CROWD: usize = 1000;
/// Default budget, as a factor of the estimate.
const SPARE: f64 = 1.25;
/// Delay behind schedule beyond which noisy runs are not repeated.
const SPARE_TIME: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn options(line: &str) -> Options {
        Options::parse_from(format!("compare {line}").split_ascii_whitespace()).settled()
    }

    #[test]
    fn spreads_peer_rounds() {
        let load = "paced".parse().unwrap();
        let rounds = |line: &str| {
            let options = options(line);
            let rounds = 1..=options.rounds;
            rounds.filter(|&round| options.takes_part(Family::Peer, &load, round)).collect::<Vec<_>>()
        };
        assert_eq!(rounds(""), [1, 3, 5]);
        assert_eq!(rounds("--rounds 5 --peer-rounds 9"), [1, 2, 3, 4, 5]);
        assert_eq!(rounds("--peer-rounds 0"), [] as [usize; 0]);
        assert_eq!(rounds("--quick"), [1]);
        assert!(options("").takes_part(Family::Product, &load, 2));
        let connections = "connections".parse().unwrap();
        let long =
            |family| (1..=7).filter(|&round| options("").takes_part(family, &connections, round)).count();
        assert_eq!((long(Family::Product), long(Family::Peer)), (3, 1));
    }

    #[test]
    fn peers_of_long_loads_run_in_their_rounds() {
        for line in ["--rounds 6 --peer-rounds 2", "--rounds 7", "--rounds 9 --peer-rounds 5"] {
            let options = options(line);
            for load in ["latency-60", "connections"] {
                let load = load.parse().unwrap();
                let rounds = |family| {
                    let all = 1..=options.rounds;
                    all.filter(|&round| options.takes_part(family, &load, round)).collect::<Vec<_>>()
                };
                let (own, peers) = (rounds(Family::Product), rounds(Family::Peer));
                let expected = if load.heartbeats { 1 } else { options.peer_rounds.min(3) };
                assert_eq!((own.len(), peers.len()), (3, expected), "{line} {load}");
                assert!(peers.iter().all(|round| own.contains(round)), "{line} {load}: {own:?} {peers:?}");
            }
        }
    }

    #[test]
    fn runs_servers_next_to_baseline() {
        let all = contender::tests::built_in();
        let mut random = Rng::with_seed(7);
        let mut orders = HashSet::new();
        for _ in 0..50 {
            let load = "paced".parse().unwrap();
            let taking = all.iter().filter(|it| it.takes(&load, false)).collect::<Vec<_>>();
            let names: Vec<&str> = in_order(taking.clone(), &mut random).iter().map(|it| it.name()).collect();
            assert_eq!(names.len(), taking.len());
            let at = |name| names.iter().position(|it| *it == name).unwrap();
            for (one, other) in [
                ("limit-write", "roomcast-plain"),
                ("limit-write", "roomcast-sio"),
                ("roomcast-plain", "roomcast-plain-mounted"),
            ] {
                assert_eq!(at(one).abs_diff(at(other)), 1, "{one} and {other} in {names:?}");
            }
            assert!(at("roomcast-sio").abs_diff(at("roomcast-sio-mounted")) <= 2, "{names:?}");
            orders.insert(names.concat());
        }
        assert!(orders.len() > 40, "{} of 50 orders differ", orders.len());
    }

    #[test]
    fn record_omits_arguments_with_paths() {
        let line = "--quick --server uws=plain:/bin/uws --only axum --out=/there --render a/b";
        let words = line.split(' ').map(str::to_owned);
        assert_eq!(repeatable(words), " --quick --only axum");
    }

    #[test]
    fn only_complete_comparison_updates_docs() {
        for (line, complete) in [
            ("", true),
            ("--rounds 9", true),
            ("--minutes 60", true),
            ("--rounds 5", false),
            ("--quick", false),
            ("--only axum", false),
            ("--scenarios paced", false),
            ("--cluster", false),
        ] {
            let record = options(line).settled().record(&[]);
            let arguments = format!(" {line}");
            assert!(!record.is_complete(), "it has not run");
            let record = Record { unfinished: None, arguments, ..record };
            assert_eq!(record.is_complete(), complete, "{line}");
        }
        assert!(options("").folder().ends_with("target/compare"));
        assert_eq!(options("--quick --out there").folder(), Path::new("there"));
    }
}
