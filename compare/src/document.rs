//! Report of a comparison: Markdown, plots, and the record of all runs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::cluster::ClusterLoad;
use super::contender::{NODE_ADAPTERS, ROOMCAST_ADAPTERS};
use super::docs::PRODUCTS;
use super::latency::BEST_PEER;
use super::load::Rate;
use super::plot::{Dot, Panel, plot};
use super::summary::Summary;
use super::table::{Row, Table};
use super::trial::PING_INTERVAL;
use super::{Load, Run, slope, targets};
use roomcast_loadgen::environment::{Machine, date};
use roomcast_loadgen::scenario::Scenario;
use roomcast_loadgen::{Error, ErrorContext as _, Report};

/// Record of a comparison, from which the report is rendered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) started_unix_s: u64,
    /// Why the comparison is incomplete, if it is.
    pub(super) unfinished: Option<String>,
    /// Command-line arguments.
    pub(super) arguments: String,
    pub(super) machine: Machine,
    pub(super) versions: Vec<(String, String)>,
    pub(super) rounds: usize,
    pub(super) peer_rounds: usize,
    pub(super) warmup_s: f64,
    pub(super) window_s: f64,
    pub(super) max_foreign_cores: f64,
    pub(super) loads: Vec<String>,
    /// Requested servers that did not run, with the reason.
    pub(super) missing: Vec<(String, String)>,
    pub(super) runs: Vec<Run>,
}

impl Record {
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read(path).doing(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text)
            .map_err(|error| Error::Usage(format!("{} is not a record of compare: {error}", path.display())))
    }

    /// Writes results and report to a folder, replacing an earlier comparison.
    pub(super) fn write(&self, folder: &Path) -> Result<(), Error> {
        self.write_report(folder)?;
        write(&folder.join("results.json"), &self.json())
    }

    /// Writes report and plots to a folder, and removes the plots of an earlier comparison.
    pub(super) fn write_report(&self, folder: &Path) -> Result<(), Error> {
        fs::create_dir_all(folder).doing(|| format!("create {}", folder.display()))?;
        // Other folders may have plots of the user.
        let obsolete =
            if folder.join("results.json").is_file() { self.obsolete_plots(folder)? } else { Vec::new() };
        for plot in obsolete {
            fs::remove_file(folder.join(&plot)).doing(|| format!("remove {plot}"))?;
        }
        self.files().iter().try_for_each(|(name, text)| write(&folder.join(name), text))
    }

    /// Returns report and plots, with their file names.
    pub(super) fn files(&self) -> Vec<(String, String)> {
        let plots = self.loads().into_iter().flat_map(|load| self.plots(&load));
        let report = [("README.md".to_owned(), self.markdown())];
        plots.chain(self.overview().map(|svg| (OVERVIEW.to_owned(), svg))).chain(report).collect()
    }

    /// Returns the plots in a folder that are not of this comparison.
    pub(super) fn obsolete_plots(&self, folder: &Path) -> Result<Vec<String>, Error> {
        let files = self.files();
        let entries = fs::read_dir(folder).doing(|| format!("read {}", folder.display()))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut obsolete: Vec<String> =
            names.filter(|it| it.ends_with(".svg") && !files.iter().any(|file| file.0 == *it)).collect();
        obsolete.sort();
        Ok(obsolete)
    }

    /// Returns the record as JSON with a line for each run.
    fn json(&self) -> String {
        let runs: Vec<String> =
            self.runs.iter().map(|run| serde_json::to_string(run).unwrap_or_default()).collect();
        let head = serde_json::to_string(&Self { runs: Vec::new(), ..self.clone() }).unwrap_or_default();
        let head = head.strip_suffix("]}").unwrap_or(&head);
        format!("{head}\n{}\n]}}\n", runs.join(",\n"))
    }

    /// Returns the faultless results of a server under a load.
    pub(super) fn results(&self, load: &str, server: &str) -> impl Iterator<Item = &Report> {
        let runs = self.runs.iter().filter(move |run| run.load == load && run.server == server);
        runs.filter(|run| run.report.ok).map(|run| &run.report)
    }

    /// Returns whether all servers ran under all loads, in enough rounds for intervals.
    pub(super) fn is_complete(&self) -> bool {
        let selected = ["--only", "--scenarios", "--habits", "--cluster", "--quick"]
            .iter()
            .any(|flag| self.arguments.contains(flag));
        self.unfinished.is_none() && self.rounds >= super::FEWEST_ROUNDS && !selected
    }

    /// Returns the day of the comparison.
    pub(super) fn date(&self) -> String {
        date(UNIX_EPOCH + Duration::from_secs(self.started_unix_s))
    }

    /// Formats only the tables, for a terminal.
    pub(super) fn tables(&self) -> String {
        let mut text = String::new();
        for load in self.loads() {
            let table = self.table(&load);
            if !table.rows.is_empty() {
                _ = writeln!(text, "### {load} (ratios to {})\n\n{table}", base(&load));
            }
        }
        text + &slope::section(&self.runs, &self.machine)
    }

    fn markdown(&self) -> String {
        let Self { rounds, peer_rounds, warmup_s, window_s, .. } = self;
        let mut text = format!(
            "# Comparison\n\n\
             Written by `cargo xtask compare{}` on {}; see [performance](../performance.md) for the method. All \
             figures are for this machine and day; compare ratios, not microseconds.\n\n\
             - Machine: {}; client and server over loopback.\n\
             - Each figure is the median of {rounds} rounds ({peer_rounds} for other projects' servers), each with a \
             fresh process, {warmup_s} s of warm-up and {window_s} s of measurement. The interval contains the true \
             median in 95 of 100 cases, for any distribution; it needs six rounds. \
             In the plots, a dot is a median and a bar its interval, or the range if there are fewer rounds.\n\
             - Every delivery was checked: a run with a message lost, duplicated, reordered, damaged or misdelivered \
             counts as failed and is in no figure. {} of {} runs failed.\n\
             - A run is noisy if other processes used more than {} cores.\n",
            self.arguments,
            self.date(),
            self.machine,
            self.runs.iter().filter(|run| !run.report.ok).count(),
            self.runs.len(),
            self.max_foreign_cores,
        );
        if let Some(reason) = &self.unfinished {
            _ = writeln!(text, "- **Incomplete**: {reason}.");
        }
        text += "\n## Targets\n\nServer CPU time per delivery, divided by that of another server in the same round, \
                 unless the case states another.\n\n";
        text += &targets::table(&self.loads, &self.runs);
        text += "\nThe step `cost guard` of `cargo xtask test` checks, by counting instructions and allocations, that \
                 join, leave and a broadcast to ten members cost the same with 1,000 and 1,000,000 memberships, and \
                 that no memory is allocated per recipient.\n\n## Scenarios\n";
        for load in self.loads() {
            let table = self.table(&load);
            if table.rows.is_empty() {
                continue;
            }
            _ = write!(text, "\n### {load}\n\n{} Ratios to `{}`.\n\n", explained(&load), base(&load));
            for (name, _) in self.plots(&load) {
                _ = writeln!(text, "![{load}]({name})\n");
            }
            _ = write!(text, "{table}");
        }
        text += &slope::section(&self.runs, &self.machine);
        text += "\n## Versions\n\n| | |\n| --- | --- |\n";
        for (name, version) in &self.versions {
            _ = writeln!(text, "| {name} | {version} |");
        }
        text += "\n`-tuned` is a server with the one setting that is known to help: a read buffer of 4 KiB for \
                 tungstenite, which axum uses too, and no reference to the first request for socket.io.\n\n\
                 ## Not included\n\n";
        for (name, reason) in &self.missing {
            _ = writeln!(text, "- {name}: {reason}.");
        }
        for (name, reason) in NEVER_HERE {
            if !self.runs.iter().any(|run| run.server == *name) {
                _ = writeln!(text, "- {name}: {reason}.");
            }
        }
        text
    }

    fn plots(&self, load: &Load) -> Vec<(String, String)> {
        let table = self.table(load);
        let name = load.to_string().replace(':', "-");
        let mut plots = Vec::new();
        let mut add = |suffix: &str, what: &str, axis: &str, dots: Vec<Dot>, marks| {
            if !dots.is_empty() {
                let title = format!("{load}: {what}");
                plots.push((format!("{name}{suffix}.svg"), plot(&title, &[Panel { axis, dots, marks }])));
            }
        };
        let (quantity, what) = match load.rate {
            Some(Rate::Share(_)) => ("p99 latency", "latency at a fixed rate"),
            Some(_) => ("time", "time per message at the capacity"),
            None if is_idle(load) => ("CPU time", "CPU time to accept a connection"),
            None => ("CPU time", "CPU time per delivery"),
        };
        let axis = format!("{quantity} relative to {}", base(load));
        add("", what, &axis, dots(&table, |row| row.ratio), targets::marks(load));
        let waits = sorted(dots(&table, |row| row.share_of_broadcast));
        let axis = "p99 latency relative to the duration of a broadcast";
        add("-wait", "chat latency during broadcasts", axis, waits, Vec::new());
        let kib = |row: &Row| Some(row.rss_bytes_per_connection?.scaled(1.0 / 1024.0));
        add("-memory", "memory per connection", "KiB resident", sorted(dots(&table, kib)), Vec::new());
        plots
    }

    /// Draws the main results of Roomcast and all peers.
    fn overview(&self) -> Option<String> {
        let panel = |(load, axis): (&str, &'static str)| {
            let load: Load = load.parse().ok()?;
            let mut dots = dots(&self.table(&load), |row| row.ratio);
            dots.retain(|dot| !dot.ours || PRODUCTS.contains(&dot.label.as_str()));
            dots.retain(|dot| !dot.label.starts_with("limit-"));
            (!dots.is_empty()).then_some(Panel { axis, dots, marks: Vec::new() })
        };
        let panels: Vec<Panel<'_>> = OVERVIEW_LOADS.into_iter().filter_map(panel).collect();
        let title = "CPU time per delivery, relative to a bare epoll loop";
        (!panels.is_empty()).then(|| plot(title, &panels))
    }

    fn table(&self, load: &Load) -> Table {
        Table::new(load, base(load), &self.runs)
    }

    fn loads(&self) -> Vec<Load> {
        self.loads.iter().filter_map(|load| load.parse().ok()).collect()
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).doing(|| format!("write {}", path.display()))
}

/// Returns the baseline of a load in its table.
pub(super) fn base(load: &Load) -> &'static str {
    if let Some(Rate::Share(_)) = load.rate {
        return BEST_PEER;
    }
    match load.cluster {
        Some(ClusterLoad::Sessions) => return NODE_ADAPTERS[2].0,
        Some(ClusterLoad::Rooms) => return ROOMCAST_ADAPTERS[0].0,
        Some(_) => return NODE_ADAPTERS[0].0,
        None => {}
    }
    // With several threads, TLS or compression, the baseline is the same server without them.
    if load.free || load.text || load.tls { "roomcast-plain" } else { load.base() }
}

fn dots(table: &Table, value: impl Fn(&Row) -> Option<Summary>) -> Vec<Dot> {
    let dot = |row: &Row| {
        let label = row.server.clone();
        Some(Dot { ours: label.starts_with("roomcast-"), label, value: value(row)? })
    };
    table.rows.iter().filter_map(dot).collect()
}

fn sorted(mut dots: Vec<Dot>) -> Vec<Dot> {
    dots.sort_by(|one, other| one.value.median.total_cmp(&other.value.median));
    dots
}

fn is_idle(load: &Load) -> bool {
    load.scenario == Scenario::Idle
}

fn explained(load: &Load) -> String {
    let Load { clients, payload, polling, free, tls, text: records, .. } = load;
    if let Some(cluster) = load.cluster {
        return explained_cluster(cluster, *payload);
    }
    let mut text = match load.scenario {
        Scenario::Paced if load.rate == Some(Rate::Capacity) => format!(
            "One client broadcasts {payload} bytes to {clients} clients at a fixed rate (open loop). The highest rate \
             with p99 of at most 50 ms for 10 s; the ratio is that of the times per message."
        ),
        Scenario::Paced if load.rate.is_some() => format!(
            "One client broadcasts {payload} bytes to {clients} clients at a fixed rate (open loop), a share of the \
             lowest capacity among the servers, the same for all. Latencies count from the time at which a message was \
             due. A run with over 1 % late messages does not count. The ratio is that of p99."
        ),
        Scenario::Paced => {
            format!("One client broadcasts {payload} bytes to {clients} clients, one message at a time.")
        }
        Scenario::Saturated => format!(
            "Eight clients broadcast {payload} bytes to {clients} clients, each with eight messages in flight."
        ),
        Scenario::Echo => {
            format!("{clients} clients echo {payload} bytes, each with sixteen messages in flight.")
        }
        Scenario::Rooms => format!(
            "Eight of {clients} clients send {payload} bytes to random rooms of ten, each with four messages in flight."
        ),
        Scenario::Chat => format!(
            "One client broadcasts {payload} bytes to a room of {clients} clients, one message at a time; two other \
             clients chat in a second room. `p99/broadcast` is the chat latency relative to the duration of a \
             broadcast: near 1 or above, other messages wait for a whole broadcast. `quiet` is the latency without \
             broadcasts, `looked` the generator's own delay."
        ),
        Scenario::Idle if load.heartbeats => format!(
            "{clients} clients connect with a browser's headers and answer heartbeats, which servers that can set an \
             interval send every {} s.",
            PING_INTERVAL.as_secs()
        ),
        Scenario::Idle => {
            format!("{clients} clients connect with a browser's headers and send nothing.")
        }
    };
    if let Some(habit) = load.habit {
        _ = write!(text, " The load generator has the habit `{}`.", habit.name());
    }
    if *polling {
        text += " Over long-polling.";
    }
    if *records {
        text += " The messages are record-like text; `-compressed` uses permessage-deflate.";
    }
    if *tls {
        text += " `-tls` uses TLS 1.3, with a full handshake, and `-resumed` resumes a session.";
    }
    if *free {
        text +=
            " The server may use all CPUs and shares them with the load generator, which sleeps when idle.";
    }
    text
}

fn explained_cluster(load: ClusterLoad, payload: usize) -> String {
    if load == ClusterLoad::Sessions {
        return "500 clients on one server, whose session data changes every 125 ms. The CPU time is that of the \
                server per change."
            .to_owned();
    }
    let (what, costs) = match load {
        ClusterLoad::NoMembers => (
            "to a room without members on the receiver, as many as possible",
            "The CPU time is that of the receiver.",
        ),
        ClusterLoad::Paced => ("to a room with one member on each, 1,000 per second", COST_OF_BOTH),
        ClusterLoad::Rooms => {
            ("to 64 rooms in turn, with one member on each, as many as possible", COST_OF_BOTH)
        }
        ClusterLoad::Saturated | ClusterLoad::Sessions | ClusterLoad::All => {
            ("to a room with one member on each, as many as possible", COST_OF_BOTH)
        }
    };
    let others = match load {
        ClusterLoad::Rooms => "The rooms are divided among the Redis servers.",
        _ => {
            "`redis-rs` is the client library without a server, `-classic` with as many bytes as Node's format."
        }
    };
    format!(
        "Messages of {payload} bytes from one server to another on a Redis server, {what}. {costs} {others}"
    )
}

const COST_OF_BOTH: &str = "The CPU time is that of both servers: the sender's without that of a server alone (`alone`), \
                            and the receiver's without the send to its client (`send`), the cost of a second client.";
const OVERVIEW: &str = "overview.svg";
const OVERVIEW_LOADS: [(&str, &str); 3] =
    [("paced", "one at a time"), ("saturated", "saturated"), ("echo", "echo")];

/// Servers that readers may look for.
const NEVER_HERE: &[(&str, &str)] = &[
    (
        "uws",
        "uWebSockets is C++ and in no package registry; build the server in `compare/peers/uws` and pass \
         `--server 'uws=plain:PATH {port} {pattern}'`",
    ),
    (
        "uWebSockets.js",
        "not published to npm by its authors; packages there that copy its binaries are 110 to 260 MB, and the one from \
         an organization needs glibc 2.38",
    ),
    (
        "socket.io on eiows",
        "the current version requires Node 22, and earlier ones download Node's source to build",
    ),
];

#[cfg(test)]
mod tests {
    use super::super::table::tests::run;
    use super::*;

    fn record() -> Record {
        let runs = (1..=6)
            .flat_map(|round| {
                [run(round, "limit-write", 1.0, true), run(round, "roomcast-plain", 1.1, round < 6)]
            })
            .collect();
        Record {
            started_unix_s: 0,
            unfinished: Some("interrupted".into()),
            arguments: " --quick".into(),
            machine: Machine::read(),
            versions: vec![("ws".into(), "8".into())],
            rounds: 6,
            peer_rounds: 2,
            warmup_s: 0.4,
            window_s: 1.0,
            max_foreign_cores: 0.06,
            loads: vec!["paced:1000:64".into(), "idle:10000".into()],
            missing: vec![("axum".into(), "not built".into())],
            runs,
        }
    }

    #[test]
    fn report_names_results_and_missing_servers() {
        let text = record().markdown();
        for part in [
            "`cargo xtask compare --quick` on 1970-01-01",
            "1 of 12 runs failed",
            "**Incomplete**: interrupted.",
            "must reached",
            "![paced:1000:64](paced-1000-64.svg)",
            "| ws | 8 |",
            "- axum: not built.",
            "- uws: ",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("### idle"), "no runs, no section");
    }

    #[test]
    fn renders_same_report_from_record() {
        let folder = std::env::temp_dir().join(format!("roomcast-compare-{}", std::process::id()));
        record().write(&folder).unwrap();
        let again = Record::read(&folder.join("results.json")).unwrap();
        assert_eq!(again.markdown(), record().markdown());
        assert!(fs::read_to_string(folder.join("paced-1000-64.svg")).unwrap().contains("roomcast-plain"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
