//! Runs servers under the same load in turn, and reports each as a ratio to the limit
//!
//! A host's speed drifts, by a third within minutes on shared ones. So the servers of one scenario run right after
//! one another, those that are divided by each other next to each other, and else in a new random order each round; a
//! ratio is formed inside one round, and only then is the median over the rounds taken. Absolute times of different
//! scenarios or days are not comparable, ratios are.
//!
//! * [`run`] is the driver, and writes the report with its plots: `cargo xtask compare`.
//! * [`limit`] has the bare epoll servers, the least a server can do on this kernel: what the ratios refer to.
//! * `peers/` has servers of other projects.
//! * The load itself is that of [`roomcast_loadgen::scenario`].
//!
//! Needs Linux, as the load generator does, and is empty elsewhere.

#![allow(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "only the programs of this repository use it"
)]
#![cfg(target_os = "linux")]

mod contender;
mod document;
pub mod limit;
mod load;
mod machine;
mod plot;
mod progress;
mod summary;
mod table;
mod targets;
mod trial;

use std::collections::HashSet;
use std::env;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use serde::{Deserialize, Serialize};

pub use contender::Contender;
use contender::{Family, Programs};
use document::Record;
use load::DEFAULT_LOADS;
pub use load::Load;
use machine::{Machine, versions};
use progress::Progress;
use roomcast_loadgen::Doing as _;
use roomcast_loadgen::process::raise_open_files;
use roomcast_loadgen::scenario::{Scenario, seconds};
use roomcast_loadgen::{Error, Report};
use trial::{Trial, Trials};

/// Compares servers with the physical limit and with each other, and writes a report with tables and plots
///
/// Every run starts a fresh server process on one CPU and the load generator, which never sleeps, on another. The
/// first column that counts is the ratio: the server's CPU time for each delivered message, divided by that of the
/// limit server in the same round. paced, rooms, idle, chat and poll-paced compare with limit-write, the others with
/// limit-batch; both limits always speak plain WebSocket (long-polling in the poll scenarios).
///
/// The machine should do nothing else meanwhile, and needs two CPUs. The report is written anew after each scenario
/// of each round, so whoever ends it with Ctrl-C has what was measured until then.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "compare")]
pub struct Options {
    /// Scenarios, with a comma between: NAME, NAME:CLIENTS or NAME:CLIENTS:PAYLOAD
    ///
    /// NAME is paced, saturated, echo, rooms, idle, chat, poll-paced or poll-saturated; what they do is in `loadgen --help`.
    /// `free-` before a name lets the server use every CPU, for servers with several threads; `text-` fills messages
    /// with text, for compression.
    #[arg(long, value_delimiter = ',', default_value = DEFAULT_LOADS, hide_default_value = true)]
    pub scenarios: Vec<Load>,
    /// Run only these servers, with a comma between, in every scenario that they can take
    ///
    /// Without it each runs where it tells something: peers in the usual sizes, a mounted server in fan-out, two
    /// threads where all CPUs may be used, compression of text, recovery in fan-out. `--list` names them.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// A further server: NAME=plain[/PATH]:COMMAND or NAME=sio[/PATH]:COMMAND
    ///
    /// In the command, {port} and {pattern} stand for the port and for broadcast, echo or room. It must do what
    /// the example fanout_server does in these modes. No shell reads the command; blanks separate its arguments.
    #[arg(long = "server", value_name = "NAME=KIND:COMMAND")]
    pub servers: Vec<Contender>,
    /// How often each server runs in each scenario; a 95 % interval needs six at least
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,
    /// In how many of the rounds the servers of other projects run
    #[arg(long, default_value_t = 3)]
    pub peer_rounds: usize,
    /// Two short rounds, whatever --rounds says, to see that everything runs; the figures tell little
    #[arg(long)]
    pub quick: bool,
    /// End after so many minutes, with what is there by then
    #[arg(long, default_value_t = 30)]
    pub minutes: u64,
    /// Seconds of load before the window
    #[arg(long, default_value = "0.4", value_parser = seconds)]
    pub warmup: Duration,
    /// Seconds that are measured in each run
    #[arg(long, default_value = "1", value_parser = seconds)]
    pub window: Duration,
    /// The product's example fanout_server; left out if there is none
    ///
    /// [default: examples/fanout_server beside this program, so target/release/examples/fanout_server]
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
    /// How often such a run is repeated, as long as there is time; after that the quietest one counts, and the table
    /// says so
    #[arg(long, default_value_t = 3)]
    pub repeats: usize,
    /// Seed of the random order [default: from the clock]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Folder of the report
    ///
    /// [default: docs/benchmarks for a whole comparison, target/compare for one that was cut by --quick, --only,
    /// --scenarios or fewer rounds]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Only write the report again, from the results.json of an earlier comparison
    #[arg(long, value_name = "FILE")]
    pub render: Option<PathBuf>,
    /// Only list the servers and whether they are there
    #[arg(long)]
    pub list: bool,
}

/// One counted run of one server in one round.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Run {
    round: usize,
    load: String,
    server: String,
    /// Runs that were thrown away before it because others used the CPU
    repeated: usize,
    /// Others used the CPU in this one too
    noisy: bool,
    report: Report,
}

/// Runs everything, prints the tables and writes the report
///
/// Returns whether every single run was faultless.
///
/// # Errors
///
/// If the options make no sense, or the programs or CPUs they name do not exist. A server that fails is no error; it
/// stands in the table as failed.
pub fn run(options: &Options) -> Result<bool, Error> {
    let options = &options.settled();
    let folder = options.folder();
    if let Some(file) = &options.render {
        let record = Record::read(file)?;
        record.write(&folder)?;
        println!("{}the report is in {}", record.tables(), folder.display());
        return Ok(true);
    }
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
        return Err(Error::Usage("there is no server to run".into()));
    }
    raise_open_files().doing(|| "raise the limit of open files".into())?;
    let mut record = options.record(&missing);
    let outcome = Comparison { options, contenders, trials: Trials::new(options)? }.run(&mut record, &folder);
    record.write(&folder)?;
    outcome?;
    println!("{}the report is in {}", record.tables(), folder.display());
    Ok(record.runs.iter().all(|run| run.report.ok))
}

impl Options {
    /// With what `--quick` stands for
    fn settled(&self) -> Self {
        let mut options = self.clone();
        if self.quick {
            (options.rounds, options.peer_rounds, options.repeats) = (2, 1, 0);
            (options.warmup, options.window) = (Duration::from_millis(100), Duration::from_millis(300));
            for load in options.scenarios.iter_mut().filter(|load| load.scenario == Scenario::Chat) {
                load.clients = load.clients.min(QUICK_CROWD);
            }
        }
        options
    }

    fn folder(&self) -> PathBuf {
        let benches = Path::new(env!("CARGO_MANIFEST_DIR"));
        let cut = self.rounds < FEWEST_ROUNDS
            || !self.only.is_empty()
            || self.scenarios
                != DEFAULT_LOADS.split(',').filter_map(|it| it.parse().ok()).collect::<Vec<_>>();
        let usual = if cut { "../target/compare" } else { "../docs/benchmarks" };
        self.out.clone().unwrap_or_else(|| benches.join(usual))
    }

    #[expect(clippy::disallowed_methods, reason = "a report says when it was made")]
    fn record(&self, missing: &[Contender]) -> Record {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let arguments = repeatable(env::args().skip(1));
        Record {
            started_unix_s: started.as_secs(),
            unfinished: Some("it was ended before its time".into()),
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

    /// Returns whether servers of this family run in a round; families with fewer runs are spread over all rounds.
    fn takes_part(&self, family: Family, round: usize) -> bool {
        let due = |round: usize| (round * self.peer_rounds).div_ceil(self.rounds);
        !matches!(family, Family::Peer | Family::Given) || due(round) > due(round - 1)
    }

    fn time(&self) -> Duration {
        Duration::from_secs(60 * self.minutes)
    }
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
        let rounds =
            || (1..=options.rounds).flat_map(|round| options.scenarios.iter().map(move |it| (round, it)));
        let runs: usize = rounds().map(|(round, load)| self.taking_part(round, load).len()).sum();
        let progress = Progress::new(runs);
        for (name, reason) in &record.missing {
            progress.say(&format!("{name} is left out: {reason}"));
        }
        for (round, load) in rounds() {
            for contender in in_order(self.taking_part(round, load), &mut random) {
                if progress.elapsed() > options.time() {
                    let minutes = options.minutes;
                    record.unfinished = Some(format!(
                        "it ended in round {round}, after {minutes} minutes; `--minutes` gives it more"
                    ));
                    return Ok(());
                }
                progress.begin(&format!("{load} {}", contender.name()));
                let run = self.quiet_run(round, load, contender, &progress)?;
                progress.done(&table::progress(&run));
                record.runs.push(run);
            }
            record.write(folder)?;
        }
        record.unfinished = None;
        Ok(())
    }

    fn taking_part(&self, round: usize, load: &Load) -> Vec<&Contender> {
        let named = |contender: &Contender| self.options.only.iter().any(|only| only == contender.name());
        let takes =
            |it: &&Contender| it.takes(load, named(it)) && self.options.takes_part(it.family(), round);
        self.contenders.iter().filter(takes).collect()
    }

    /// Runs until no other process used the CPU, or the attempts are exhausted.
    fn quiet_run(
        &self,
        round: usize,
        load: &Load,
        contender: &Contender,
        progress: &Progress,
    ) -> Result<Run, Error> {
        let options = self.options;
        let foreign = |report: &Report| report.foreign_cores.unwrap_or(0.0);
        let mut best: Option<Report> = None;
        let mut repeated = 0;
        loop {
            let report = Trial { trials: &self.trials, load, contender }.run()?;
            let late = progress.elapsed() > options.time().mul_f64(progress.share()) + SPARE_TIME;
            // A fault is a fault, however busy the machine was.
            let decided =
                !report.ok || foreign(&report) <= options.max_foreign || repeated >= options.repeats || late;
            // Chosen by how quiet it was, never by its result.
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

/// A random order in which servers that are divided by each other are neighbours
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
    let programs = env::current_exe().doing(|| "find where this program lies".into())?;
    let programs = programs.parent().unwrap_or_else(|| Path::new("."));
    let fanout_server = options.fanout_server.clone();
    let mut all = Contender::built_in(&Programs {
        limit: programs.join("limit"),
        fanout_server: fanout_server.unwrap_or_else(|| programs.join("examples/fanout_server")),
        rust_peers: programs.join("../peers/release"),
        node_peers: Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/node"),
    });
    all.extend(options.servers.iter().cloned());
    let mut names = HashSet::new();
    if let Some(twice) = all.iter().find(|contender| !names.insert(contender.name())) {
        return Err(Error::Usage(format!("there are two servers called {}", twice.name())));
    }
    if let Some(unknown) = options.only.iter().find(|only| !names.contains(only.as_str())) {
        return Err(Error::Usage(format!("--only names {unknown}, but there is no such server; see --list")));
    }
    all.retain(|contender| {
        options.only.is_empty() || options.only.iter().any(|only| only == contender.name())
    });
    Ok(all)
}

/// Returns the portable arguments: those without a path.
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

/// With fewer there is no interval, so the report is no whole one
const FEWEST_ROUNDS: usize = 6;
/// The crowd beside a chat in a short comparison
const QUICK_CROWD: usize = 1000;
/// How far it may be behind its time before noisy runs are repeated no more
const SPARE_TIME: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn options(line: &str) -> Options {
        Options::parse_from(format!("compare {line}").split_ascii_whitespace()).settled()
    }

    #[test]
    fn peers_run_in_some_rounds_from_the_first_on() {
        let rounds = |line: &str| {
            let options = options(line);
            let rounds = 1..=options.rounds;
            rounds.filter(|&round| options.takes_part(Family::Peer, round)).collect::<Vec<_>>()
        };
        assert_eq!(rounds(""), [1, 3, 5]);
        assert_eq!(rounds("--rounds 5 --peer-rounds 9"), [1, 2, 3, 4, 5]);
        assert_eq!(rounds("--peer-rounds 0"), [] as [usize; 0]);
        assert_eq!(rounds("--quick"), [1]);
        assert!(options("").takes_part(Family::Product, 2));
    }

    #[test]
    fn what_is_divided_by_each_other_runs_side_by_side() {
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
    fn what_is_written_down_names_no_paths() {
        let line = "--quick --server uws=plain:/bin/uws --only axum --out=/there --render a/b";
        let words = line.split(' ').map(str::to_owned);
        assert_eq!(repeatable(words), " --quick --only axum");
    }

    #[test]
    fn only_a_whole_comparison_replaces_the_report_in_the_documentation() {
        for (line, whole) in [
            ("", true),
            ("--rounds 9", true),
            ("--minutes 60", true),
            ("--rounds 5", false),
            ("--quick", false),
            ("--only axum", false),
            ("--scenarios paced", false),
        ] {
            assert_eq!(options(line).folder().ends_with("docs/benchmarks"), whole, "{line}");
        }
        assert_eq!(options("--quick --out there").folder(), Path::new("there"));
    }
}
