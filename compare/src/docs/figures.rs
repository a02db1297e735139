//! Figures of the documents, by name.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use super::CLUSTERS;
use super::cluster::Cluster;
use super::habits::Habits;
use super::sizing::Sizing;
use crate::document::{Record, base};
use crate::load::{DEFAULT_LOADS, Load};
use crate::summary::{Summary, thousands};
use crate::table::{cpu_us, paired};
use crate::targets::{Status, Target, targets};

/// Source of all generated figures.
///
/// | Block | Content |
/// | --- | --- |
/// | `source` | date, machine, versions and number of rounds |
/// | `headline` | main results, as a table |
/// | `targets` | all targets with their results, a row per case and load |
/// | `options` | cost of TLS, compression and recovery, relative to a server without them |
/// | `habits`, `habits source` | ratios to the bare loops by habit of the load generator, and their source |
/// | `cluster costs`, `cluster targets`, `cluster sizing`, `cluster source` | costs of messages between servers |
/// | `cluster-sharded costs` and so on | the same of the sharded adapters |
/// | `cluster-rooms servers`, `cluster-rooms source` | costs on several Redis servers |
/// | `cluster-streams costs`, `cluster-streams sessions` and so on | costs of messages through a stream, and of sessions |
/// | `missed` | targets that are missed, and how many are reached |
/// | `ratio LOAD SERVER [BASE]` | CPU time relative to another server in the same round |
/// | `time LOAD SERVER` | CPU time per delivery or accepted connection, in µs |
/// | `instructions PATH`, `allocations PATH` | figures of the cost guard |
/// | `sizing costs`, `sizing deliveries`, `sizing examples` | tables for sizing a machine |
#[derive(Debug)]
pub(crate) struct Figures<'a> {
    record: &'a Record,
    habits: Option<Habits<'a>>,
    clusters: Vec<(&'static str, Cluster<'a>)>,
    costs: Costs,
}

/// Figures of the cost guard, `benches/costs.json`.
#[derive(Debug, Deserialize)]
struct Costs {
    paths: BTreeMap<String, Cost>,
}

#[derive(Debug, Deserialize)]
struct Cost {
    instructions: f64,
    allocations: f64,
}

impl<'a> Figures<'a> {
    /// Reads the figures of the cost guard from the text of its file.
    ///
    /// # Errors
    ///
    /// Fails if the text is malformed.
    pub(crate) fn new(record: &'a Record, costs: &str) -> Result<Self, String> {
        let costs = serde_json::from_str(costs).map_err(|error| format!("benches/costs.json: {error}"))?;
        Ok(Self { record, habits: None, clusters: Vec::new(), costs })
    }

    /// Adds the results of `compare --habits`.
    pub(crate) fn with_habits(self, habits: Option<&'a Record>) -> Self {
        Self { habits: habits.map(Habits), ..self }
    }

    /// Adds the results of servers in clusters, by the name of their blocks.
    pub(crate) fn with_clusters(self, clusters: &'a [(&'static str, Record)]) -> Self {
        let clusters = clusters.iter().map(|(name, record)| (*name, Cluster(record))).collect();
        Self { clusters, ..self }
    }

    /// Returns the content of a block.
    ///
    /// A figure that the results do not have is [`NOT_MEASURED`].
    ///
    /// # Errors
    ///
    /// Fails if there is no figure of this name.
    pub(crate) fn render(&self, name: &str) -> Result<String, String> {
        let (kind, rest) = name.split_once(' ').unwrap_or((name, ""));
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        let sizing = || Sizing::new(&self.record.runs);
        match (kind, &words[..]) {
            ("source", []) => Ok(self.source()),
            ("headline", []) => Ok(self.headline()),
            ("targets", []) => Ok(self.targets()),
            ("options", []) => Ok(self.options()),
            ("habits", []) => Ok(self.habits.as_ref().map_or_else(|| NOT_MEASURED.into(), Habits::table)),
            ("habits", ["source"]) => {
                Ok(self.habits.as_ref().map_or_else(|| NOT_MEASURED.into(), Habits::source))
            }
            (name, &["costs"]) if CLUSTERS.contains(&name) => Ok(self.of_cluster(name, Cluster::costs)),
            (name, &["targets"]) if CLUSTERS.contains(&name) => Ok(self.of_cluster(name, Cluster::targets)),
            (name, &["sizing"]) if CLUSTERS.contains(&name) => Ok(self.of_cluster(name, Cluster::sizing)),
            (name, &["servers"]) if CLUSTERS.contains(&name) => Ok(self.of_cluster(name, Cluster::servers)),
            (name, &["sessions"]) if CLUSTERS.contains(&name) => Ok(self.of_cluster(name, Cluster::sessions)),
            (name, &["source"]) if CLUSTERS.contains(&name) => Ok(self.of_cluster(name, Cluster::source)),
            ("missed", []) => Ok(self.missed()),
            ("ratio", &[load, server]) => {
                let load = self.load(load)?;
                self.ratio(&load, server, base(&load)).map(|ratio| shown(ratio, 2))
            }
            ("ratio", &[load, server, base]) => {
                self.ratio(&self.load(load)?, server, base).map(|ratio| shown(ratio, 2))
            }
            ("time", &[load, server]) => self.time(&self.load(load)?, server).map(|time| shown(time, 2)),
            ("instructions", _) => Ok(thousands(self.cost(rest)?.instructions)),
            ("allocations", _) => Ok(self.cost(rest)?.allocations.to_string()),
            ("sizing", ["costs"]) => Ok(sizing().costs()),
            ("sizing", ["deliveries"]) => Ok(sizing().deliveries()),
            ("sizing", ["examples"]) => Ok(sizing().examples()),
            _ => Err(format!("unknown block `{name}`; compare/src/docs/figures.rs lists the blocks")),
        }
    }

    fn of_cluster(&self, name: &str, figure: fn(&Cluster<'a>) -> String) -> String {
        let cluster = self.clusters.iter().find(|(found, _)| *found == name);
        cluster.map_or_else(|| NOT_MEASURED.into(), |(_, cluster)| figure(cluster))
    }

    fn source(&self) -> String {
        let Record { rounds, peer_rounds, .. } = self.record;
        let versions: Vec<String> = ["roomcast", "rustc", "node"]
            .iter()
            .filter_map(|name| self.record.versions.iter().find(|version| version.0 == *name))
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        let incomplete = self.record.unfinished.as_ref();
        let incomplete = incomplete.map_or_else(String::new, |reason| format!(" **Incomplete**: {reason}."));
        wrapped(&format!(
            "Median and 95 % interval of {rounds} rounds ({peer_rounds} for other projects' servers), {}. {}; client and \
             server over loopback. Versions: {}; the report has the others.{incomplete}",
            self.record.date(),
            self.record.machine,
            versions.join(", "),
        ))
    }

    fn headline(&self) -> String {
        let mut text = "| 64 B, one thread | plain WebSocket | Socket.IO |\n| --- | --- | --- |\n".to_owned();
        for (label, load) in HEADLINE {
            let cell = |server| {
                let load: Load = load.parse().ok()?;
                Some(shown(self.ratio(&load, server, base(&load)).ok()?, 2))
            };
            row(&mut text, label, PRODUCTS.map(|server| cell(server).unwrap_or_else(|| NOT_MEASURED.into())));
        }
        let memory = PRODUCTS.map(|server| {
            let bytes = self.summary("idle:10000", server, |run| Some(run.idle?.rss_bytes_per_connection));
            bytes.map_or_else(|| NOT_MEASURED.into(), |it| format!("{} KiB", it.scaled(1.0 / 1024.0).text(2)))
        });
        row(&mut text, "memory of an idle connection", memory);
        let target = |load: &str, unit: &str| {
            PRODUCTS.map(|server| {
                let target = targets().into_iter().find(|it| it.load == load && it.server == server);
                let measured = target.and_then(|target| target.measured(&self.record.runs));
                measured.map_or_else(|| NOT_MEASURED.into(), |it| format!("{}{unit}", it.text(2)))
            })
        };
        row(
            &mut text,
            "heartbeats of an idle connection, CPU time per second",
            target("connections:10000", " µs"),
        );
        row(
            &mut text,
            "p99 latency at 60 % of the lowest capacity of all servers, to the best other server",
            target("latency-60:1000:64", ""),
        );
        text
    }

    fn targets(&self) -> String {
        let mut groups: Vec<Vec<Target>> = Vec::new();
        for target in targets() {
            let same = |group: &&mut Vec<Target>| {
                group[0].case == target.case
                    && group[0].load == target.load
                    && !group.iter().any(|other| is_plain(other) == is_plain(&target))
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.push(target),
                None => groups.push(vec![target]),
            }
        }
        let mut text = "| Case | Load | plain WebSocket | Socket.IO | must | aim |\n\
                        | --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
        for group in groups {
            let cell = |plain| {
                let target = group.iter().find(|target| is_plain(target) == plain);
                target.map_or_else(|| "–".into(), |target| self.result(target))
            };
            let limits = |of: fn(&Target) -> f64| {
                let mut limits: Vec<String> =
                    group.iter().map(|target| format!("{:.2}", of(target))).collect();
                limits.dedup();
                limits.join(", ")
            };
            _ = writeln!(
                text,
                "| {} | `{}` | {} | {} | {} | {} |",
                group[0].case,
                group[0].load,
                cell(true),
                cell(false),
                limits(|target| target.must),
                limits(|target| target.aim)
            );
        }
        text
    }

    /// Returns the value of a target, in bold if it is missed.
    fn result(&self, target: &Target) -> String {
        let measured = target.measured(&self.record.runs);
        let value = measured.map_or_else(|| NOT_MEASURED.into(), |it| target.text(it));
        match target.status(measured) {
            Status::Missed => format!("**{value}**"),
            _ => value,
        }
    }

    fn options(&self) -> String {
        let mut text =
            "| Option | Load | plain WebSocket | Socket.IO |\n| --- | --- | --- | --- |\n".to_owned();
        for (label, load, suffix) in OPTIONS {
            let cell = |server: &str| {
                // Plain text has neither packets nor room for an offset.
                if [RECOVERY, MSGPACK].contains(&suffix) && server == PRODUCTS[0] {
                    return "–".to_owned();
                }
                let runs = self.record.runs.iter().filter(|run| run.load == load);
                shown(paired(runs, &format!("{server}{suffix}"), server, cpu_us), 2)
            };
            let [plain, sio] = PRODUCTS.map(cell);
            _ = writeln!(text, "| {label} | `{load}` | {plain} | {sio} |");
        }
        text
    }

    fn missed(&self) -> String {
        let all: Vec<(Target, Option<Summary>)> = targets()
            .into_iter()
            .map(|target| {
                let measured = target.measured(&self.record.runs);
                (target, measured)
            })
            .collect();
        let count = |status| all.iter().filter(|(target, it)| target.status(*it) == status).count();
        let missed: Vec<_> = all.iter().filter(|(target, it)| target.status(*it) == Status::Missed).collect();
        let mut text = wrapped(&format!(
            "Of {} targets, {} reach the aim, {} only the must, {} are missed and {} are not measured{}",
            all.len(),
            count(Status::AimReached),
            count(Status::MustReached),
            missed.len(),
            count(Status::NotMeasured),
            if missed.is_empty() { "." } else { ". Missed:" },
        ));
        text.push('\n');
        for (target, measured) in missed {
            let Target { case, load, server, must, .. } = target;
            let value = measured.map_or_else(String::new, |it| target.text(it));
            _ = write!(text, "\n- {case} (`{load}`, `{server}`): {value}, must {must:.2}");
        }
        text
    }

    /// Returns the CPU time relative to a baseline.
    fn ratio(&self, load: &Load, server: &str, base: &str) -> Result<Option<Summary>, String> {
        let (server, base) = (self.server(server)?, self.server(base)?);
        let name = load.to_string();
        let runs = self.record.runs.iter().filter(|run| run.load == name);
        Ok(paired(runs, server, base, cpu_us))
    }

    fn time(&self, load: &Load, server: &str) -> Result<Option<Summary>, String> {
        Ok(self.summary(&load.to_string(), self.server(server)?, cpu_us))
    }

    fn summary(
        &self,
        load: &str,
        server: &str,
        value: impl Fn(&roomcast_loadgen::Report) -> Option<f64>,
    ) -> Option<Summary> {
        Summary::of(self.record.results(load, server).filter_map(value))
    }

    /// Parses a load that the comparison has.
    fn load(&self, text: &str) -> Result<Load, String> {
        let load: Load = text.parse()?;
        let name = load.to_string();
        let usual = |it: &str| it.parse::<Load>().is_ok_and(|it| it.expanded().contains(&load));
        if self.record.loads.contains(&name) || DEFAULT_LOADS.split(',').any(usual) {
            Ok(load)
        } else {
            Err(format!("the comparison has no load {name}"))
        }
    }

    /// Checks that the comparison has this server.
    fn server<'s>(&self, name: &'s str) -> Result<&'s str, String> {
        let targeted = |it: &Target| it.server == name || it.base.as_deref() == Some(name);
        if self.record.runs.iter().any(|run| run.server == name) || targets().iter().any(targeted) {
            Ok(name)
        } else {
            Err(format!("the comparison has no server {name}"))
        }
    }

    fn cost(&self, path: &str) -> Result<&Cost, String> {
        self.costs.paths.get(path).ok_or_else(|| format!("benches/costs.json has no path \"{path}\""))
    }
}

/// Text in place of a figure that the results do not have.
pub(super) const NOT_MEASURED: &str = "not measured in this run";

fn shown(value: Option<Summary>, decimals: usize) -> String {
    value.map_or_else(|| NOT_MEASURED.into(), |value| value.text(decimals))
}

fn row(text: &mut String, label: &str, cells: [String; 2]) {
    _ = writeln!(text, "| {label} | {} | {} |", cells[0], cells[1]);
}

fn is_plain(target: &Target) -> bool {
    target.server.starts_with(PRODUCTS[0])
}

/// Breaks a paragraph into lines of at most 120 characters.
pub(super) fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_ascii_whitespace() {
        let line = lines.last_mut().expect("there is a first line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > 120 {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

/// Roomcast without options, for plain WebSocket and Socket.IO clients.
pub(crate) const PRODUCTS: [&str; 2] = ["roomcast-plain", "roomcast-sio"];
const HEADLINE: [(&str, &str); 5] = [
    ("broadcast to 1,000 clients, one at a time, to a bare loop with one write per socket", "paced"),
    ("rooms of ten, 4,000 clients, to the same", "rooms"),
    ("broadcast to 1,000 clients, saturated, to a bare loop that batches", "saturated"),
    ("echo, 64 clients with sixteen messages in flight, to the same", "echo"),
    ("accepting a connection, to a bare loop", "idle"),
];
const RECOVERY: &str = "-recovery";
const MSGPACK: &str = "-msgpack";
/// Options with the load under which they are compared, and the suffix of the server's name.
pub(super) const OPTIONS: [(&str, &str, &str); 11] = [
    ("connection state recovery", "paced:1000:64", RECOVERY),
    ("connection state recovery", "saturated:1000:64", RECOVERY),
    ("connection state recovery", "rooms:4000:64", RECOVERY),
    ("MessagePack packets", "paced:1000:64", MSGPACK),
    ("MessagePack packets", "saturated:1000:64", MSGPACK),
    ("MessagePack packets", "rooms:4000:64", MSGPACK),
    ("compression", "text-paced:1000:1024", "-compressed"),
    ("TLS 1.3", "tls-paced:1000:64", "-tls"),
    ("TLS 1.3", "tls-saturated:1000:64", "-tls"),
    ("TLS 1.3, accepting a connection with a full handshake", "tls-idle:10000", "-tls"),
    ("TLS 1.3, accepting a connection that resumes a session", "tls-idle:10000", "-tls-resumed"),
];
