//! Runs servers under the same load in turn, and reports each as a ratio to the limit
//!
//! A host's speed drifts, by a third within minutes on shared ones. So the servers of one scenario run right after
//! one another, in a new random order each round; a ratio is formed inside one round, and only then is the median
//! over the rounds taken. Absolute times of different scenarios or days are not comparable, ratios are.

mod contender;
mod load;
mod table;
mod trial;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs};

use crate::error::Doing as _;
use crate::loadgen::seconds;
use crate::process::raise_open_files;
use crate::random::Random;
use crate::{Error, Report};
pub use contender::Contender;
use load::DEFAULT_LOADS;
pub use load::Load;
use table::Table;
use trial::{Trial, Trials};

/// Compares servers with the physical limit, and prints a table for each scenario
///
/// Every run starts a fresh server process on one CPU and the load generator, which never sleeps, on another. The
/// first column that counts is the ratio: the server's CPU time for each delivered message, divided by that of the
/// limit server in the same round. paced, rooms, idle and poll-paced compare with limit-write, the others with
/// limit-batch; both limits always speak plain WebSocket (long-polling in the poll scenarios).
///
/// The machine should do nothing else meanwhile, and needs two CPUs. Ctrl-C ends everything.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "compare")]
pub struct Options {
    /// Scenarios, with a comma between: NAME, NAME:CLIENTS or NAME:CLIENTS:PAYLOAD
    ///
    /// NAME is paced, saturated, echo, rooms, idle, poll-paced or poll-saturated; what they do is in `loadgen --help`.
    #[arg(long, value_delimiter = ',', default_value = DEFAULT_LOADS)]
    pub scenarios: Vec<Load>,
    /// Run only these servers, with a comma between: limit-write, limit-batch, roomcast-plain, roomcast-sio, or
    /// names given by --server
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
    /// Seconds of load before the window
    #[arg(long, default_value = "0.6", value_parser = seconds)]
    pub warmup: Duration,
    /// Seconds that are measured in each run
    #[arg(long, default_value = "1.2", value_parser = seconds)]
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
    /// How often such a run is repeated; after that the quietest one counts, and the table says so
    #[arg(long, default_value_t = 3)]
    pub repeats: usize,
    /// Seed of the random order [default: from the clock]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Also write everything there, each single run included
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// One run of one server in one round, as it counts
#[derive(Debug, Clone, serde::Serialize)]
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

/// Runs everything, prints the tables and writes the JSON file
///
/// Returns whether every single run was faultless.
///
/// # Errors
///
/// If the options make no sense, or the programs or CPUs they name do not exist. A server that fails is no error; it
/// stands in the table as failed.
pub fn run(options: &Options) -> Result<bool, Error> {
    let contenders = contenders(options)?;
    if options.rounds == 0 {
        return Err(Error::Usage("--rounds must be at least 1".into()));
    }
    raise_open_files().doing(|| "raise the limit of open files".into())?;
    let trials = Trials::new(options)?;
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut random = Random::new(options.seed.unwrap_or(started.as_nanos() as u64));
    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for load in &options.scenarios {
            let mut order: Vec<&Contender> =
                contenders.iter().filter(|contender| contender.takes(load)).collect();
            random.shuffle(&mut order);
            for contender in order {
                let run = quiet_run(options, &trials, round, load, contender)?;
                eprintln!("round {round}/{}: {}", options.rounds, table::progress(&run));
                runs.push(run);
            }
        }
    }
    let tables: Vec<Table> = options
        .scenarios
        .iter()
        .map(|load| Table::new(load, contenders.iter().filter(|contender| contender.takes(load)), &runs))
        .collect();
    for table in &tables {
        println!("{table}");
    }
    let faultless = runs.iter().all(|run| run.report.ok);
    if let Some(path) = &options.json {
        let document = serde_json::json!({
            "started_unix_s": started.as_secs(),
            "machine": machine(),
            "rounds": options.rounds,
            "warmup_s": options.warmup.as_secs_f64(),
            "window_s": options.window.as_secs_f64(),
            "max_foreign_cores": options.max_foreign,
            "tables": tables,
            "runs": runs,
        });
        fs::write(path, format!("{document:#}\n")).doing(|| format!("write {}", path.display()))?;
    }
    Ok(faultless)
}

/// Those of the built-in and given servers that were asked for and exist
fn contenders(options: &Options) -> Result<Vec<Contender>, Error> {
    let programs = env::current_exe().doing(|| "find where this program lies".into())?;
    let programs = programs.parent().unwrap_or_else(|| Path::new("."));
    let fanout_server =
        options.fanout_server.clone().unwrap_or_else(|| programs.join("examples/fanout_server"));
    let mut all = Contender::built_in(&programs.join("limit"), &fanout_server);
    all.extend(options.servers.iter().cloned());
    let mut names = HashSet::new();
    if let Some(twice) = all.iter().find(|contender| !names.insert(contender.name())) {
        return Err(Error::Usage(format!("there are two servers called {}", twice.name())));
    }
    if let Some(unknown) = options.only.iter().find(|only| !names.contains(only.as_str())) {
        return Err(Error::Usage(format!("--only names {unknown}, but there is no such server")));
    }
    all.retain(|contender| {
        options.only.is_empty() || options.only.iter().any(|only| only == contender.name())
    });
    all.retain(|contender| {
        let exists = contender.exists();
        if !exists {
            eprintln!("{} is left out: {}", contender.name(), contender.how_to_build());
        }
        exists
    });
    if all.is_empty() { Err(Error::Usage("there is no server to run".into())) } else { Ok(all) }
}

/// Runs until nobody else used the CPU, or often enough
fn quiet_run(
    options: &Options,
    trials: &Trials,
    round: usize,
    load: &Load,
    contender: &Contender,
) -> Result<Run, Error> {
    let foreign = |report: &Report| report.foreign_cores.unwrap_or(0.0);
    let mut best: Option<Report> = None;
    let mut repeated = 0;
    loop {
        let report = Trial { trials, load, contender }.run()?;
        // A fault is a fault, however busy the machine was.
        let decided = !report.ok || foreign(&report) <= options.max_foreign || repeated >= options.repeats;
        // Chosen by how quiet it was, never by its result.
        if !report.ok || best.as_ref().is_none_or(|best| foreign(&report) < foreign(best)) {
            best = Some(report);
        }
        if decided && let Some(report) = best {
            let noisy = foreign(&report) > options.max_foreign;
            return Ok(Run {
                round,
                load: load.to_string(),
                server: contender.name().into(),
                repeated,
                noisy,
                report,
            });
        }
        repeated += 1;
    }
}

fn machine() -> serde_json::Value {
    let first_line = |path: &str, prefix: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(prefix)).unwrap_or_default();
        line.rsplit(": ").next().unwrap_or_default().to_owned()
    };
    serde_json::json!({
        "cpu": first_line("/proc/cpuinfo", "model name"),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": first_line("/proc/sys/kernel/osrelease", ""),
    })
}
