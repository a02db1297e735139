//! Performance targets and their results.

use super::cluster::ClusterLoad;
use super::contender::{BARE_CLIENTS, NODE_ADAPTERS, ROOMCAST_ADAPTERS};
use super::latency::BEST_PEER;
use super::slope::USUAL_PING_INTERVAL;
use super::table::{aligned, cpu_us, none, paired};
use super::{Load, Run};
use crate::summary::Summary;
use roomcast_loadgen::Report;

/// Measured value with its required and its desired limit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    /// Subject, shared by several targets.
    pub(super) case: &'static str,
    pub(super) load: String,
    pub(super) server: String,
    /// Baseline of the ratio; `None` for an absolute value.
    pub(super) base: Option<String>,
    measure: Measure,
    pub(super) must: f64,
    pub(super) aim: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    /// CPU time per delivery or accepted connection.
    Cpu,
    /// 99th percentile of the latency.
    P99,
    /// Memory per idle connection in KiB.
    Memory,
    /// CPU time per idle connection and second with heartbeats every 25 s, µs.
    Heartbeats,
    /// CPU time of the sender per message between servers.
    Sender,
    /// CPU time of the receiver per message between servers, µs without a baseline.
    Receiver,
}

/// Status of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    AimReached,
    MustReached,
    Missed,
    NotMeasured,
}

impl Target {
    /// Returns the measured value or ratio; `None` if no run has it.
    pub(super) fn measured(&self, runs: &[Run]) -> Option<Summary> {
        let value = |report: &Report| match self.measure {
            Measure::Cpu => cpu_us(report),
            Measure::P99 => report.p99_us,
            Measure::Heartbeats => {
                Some(report.idle?.cpu_us_per_heartbeat? / USUAL_PING_INTERVAL.as_secs_f64())
            }
            Measure::Sender => Some(report.cluster?.sender_us),
            Measure::Receiver => Some(report.cluster?.receiver_us),
            Measure::Memory => Some(report.idle?.rss_bytes_per_connection / 1024.0),
        };
        let runs = runs.iter().filter(|run| run.load == self.load);
        match &self.base {
            Some(base) => paired(runs, &self.server, base, value),
            None => Summary::of(
                runs.filter(|run| run.server == self.server && run.report.ok)
                    .filter_map(|run| value(&run.report)),
            ),
        }
    }

    /// Formats a measured value, with so many decimals that it differs from a limit that it exceeds.
    pub(super) fn text(&self, measured: Summary) -> String {
        let shows = |decimals: &usize, limit: f64| {
            measured.median <= limit
                || format!("{:.decimals$}", measured.median) != format!("{limit:.decimals$}")
        };
        let decimals = (2..6).find(|it| shows(it, self.must) && shows(it, self.aim)).unwrap_or(6);
        measured.text(decimals)
    }

    /// Compares a measured value with the target.
    pub(super) fn status(&self, measured: Option<Summary>) -> Status {
        match measured.map(|it| it.median) {
            None => Status::NotMeasured,
            Some(median) if median <= self.aim => Status::AimReached,
            Some(median) if median <= self.must => Status::MustReached,
            Some(_) => Status::Missed,
        }
    }
}

/// Returns the targets of servers in a cluster, in the order of the report.
pub(super) fn cluster_targets() -> Vec<Target> {
    let [saturated, no_members] = [ClusterLoad::Saturated, ClusterLoad::NoMembers]
        .map(|load| load.name().parse::<Load>().map_or_else(|_| load.name().into(), |load| load.to_string()));
    let [native, classic, sharded] = ROOMCAST_ADAPTERS.map(|(name, _)| name);
    let [node, node_sharded, _] = NODE_ADAPTERS.map(|(name, _)| name);
    let mut targets = Vec::new();
    let mut add = |case, load: &str, server: &str, base: Option<&str>, measure, must, aim| {
        let base = base.map(str::to_owned);
        targets.push(Target { case, load: load.into(), server: server.into(), base, measure, must, aim });
    };
    let [bare, bare_classic] = BARE_CLIENTS.map(|(name, _)| name);
    for server in [classic, native] {
        add("sender", &saturated, server, Some(node), Measure::Sender, 1.0 / 6.0, 0.12);
        add("receiver", &saturated, server, Some(node), Measure::Receiver, 1.0 / 3.0, 0.25);
        add("sender and receiver", &saturated, server, Some(bare), Measure::Cpu, 1.4, 1.2);
    }
    add("the same to equal traffic", &saturated, classic, Some(bare_classic), Measure::Cpu, 1.4, 1.2);
    add("sender", &saturated, sharded, Some(node_sharded), Measure::Sender, 1.0 / 6.0, 0.12);
    add("receiver", &saturated, sharded, Some(node_sharded), Measure::Receiver, 1.0 / 3.0, 0.25);
    for (server, must, aim) in [(classic, 2.5, 2.0), (native, 0.1, 0.05), (sharded, 0.1, 0.05)] {
        add("µs of the receiver", &no_members, server, None, Measure::Receiver, must, aim);
    }
    targets
}

/// Returns the targets of a comparison with these loads.
fn targets_of(loads: &[String]) -> Vec<Target> {
    let is_cluster = |load: &String| load.parse::<Load>().is_ok_and(|load| load.cluster.is_some());
    let mut targets = if loads.iter().all(is_cluster) { Vec::new() } else { targets() };
    targets.extend(cluster_targets().into_iter().filter(|_| loads.iter().any(is_cluster)));
    targets
}

/// Returns all targets of single servers, in the order of the report.
pub(super) fn targets() -> Vec<Target> {
    let mut targets = Vec::new();
    let mut add = |case, load: &str, server: &str, base: Option<&str>, measure, must, aim| {
        let load: String = load.parse::<Load>().map_or_else(|_| load.into(), |load| load.to_string());
        let base = base.map(str::to_owned);
        targets.push(Target { case, load, server: server.into(), base, measure, must, aim });
    };
    let limit = |load: &str| load.parse::<Load>().map_or("limit-write", |load| load.base());
    for load in PACED {
        for server in BOTH {
            add("paced broadcast", load, server, Some(limit(load)), Measure::Cpu, 1.10, 1.04);
        }
    }
    for (case, load, must, aim) in [
        ("400 rooms of 10 among 4,000 clients", "rooms", [1.10, 1.10], [1.04, 1.04]),
        ("saturated broadcast", "saturated", [1.3, 1.3], [1.1, 1.1]),
        ("echo, 64 clients, pipelined", "echo", [1.5, 2.0], [1.2, 1.6]),
    ] {
        for (index, server) in BOTH.iter().enumerate() {
            add(case, load, server, Some(limit(load)), Measure::Cpu, must[index], aim[index]);
        }
    }
    for load in FAN_OUT {
        add("Socket.IO to plain WebSocket", load, BOTH[1], Some(BOTH[0]), Measure::Cpu, 1.10, 1.03);
    }
    for server in BOTH {
        add("p99 of paced broadcast", "paced", server, Some("limit-write"), Measure::P99, 1.3, 1.1);
    }
    for (load, must, aim) in [("poll-paced", 1.8, 1.4), ("poll-saturated", 1.4, 1.1)] {
        add("long-polling fan-out", load, BOTH[1], Some(limit(load)), Measure::Cpu, must, aim);
    }
    for load in FAN_OUT {
        for server in BOTH {
            let (load, two) = (format!("free-{load}"), format!("{server}-2-threads"));
            add("two threads to one", &load, &two, Some(server), Measure::Cpu, 1.25, 1.10);
        }
    }
    for load in FAN_OUT {
        for server in BOTH {
            let mounted = format!("{server}-mounted");
            add("mounted to stand-alone", load, &mounted, Some(server), Measure::Cpu, 1.15, 1.05);
        }
    }
    for (server, must, aim) in [(BOTH[0], 2.0, 1.4), (BOTH[1], 2.2, 1.6)] {
        add("KiB of an idle connection", "idle", server, None, Measure::Memory, must, aim);
    }
    for (server, must, aim) in [(BOTH[0], 1.6, 1.3), (BOTH[1], 2.2, 1.8)] {
        add("accepting a connection", "idle", server, Some("limit-write"), Measure::Cpu, must, aim);
    }
    for (server, must) in [(BOTH[0], 0.55), (BOTH[1], 0.65)] {
        let load = "connections:10000";
        add("µs per second of an idle connection", load, server, None, Measure::Heartbeats, must, 0.35);
    }
    for load in ["latency-30", "latency-60", "latency-80"] {
        for server in BOTH {
            add("p99 at a fixed rate", load, server, Some(BEST_PEER), Measure::P99, 1.1, 1.0);
        }
    }
    for server in BOTH {
        let compressed = format!("{server}-compressed");
        add(
            "compressed to uncompressed",
            "text-paced:1000:1024",
            &compressed,
            Some(server),
            Measure::Cpu,
            1.5,
            1.2,
        );
    }
    targets
}

/// Formats a Markdown table of the targets and their results.
pub(super) fn table(loads: &[String], runs: &[Run]) -> String {
    let titles = ["case", "load", "server", "to", "must", "aim", "median, 95 % interval", "rounds", "status"];
    let mut lines = vec![titles.map(str::to_owned).to_vec()];
    for target in targets_of(loads) {
        let measured = target.measured(runs);
        let status = match target.status(measured) {
            Status::AimReached => "aim reached",
            Status::MustReached => "must reached",
            Status::Missed => "**missed**",
            Status::NotMeasured => "not measured",
        };
        lines.push(vec![
            target.case.to_owned(),
            target.load.clone(),
            target.server.clone(),
            target.base.clone().unwrap_or_else(none),
            format!("{:.2}", target.must),
            format!("{:.2}", target.aim),
            measured.map_or_else(none, |it| target.text(it)),
            measured.map_or(0, |it| it.count).to_string(),
            status.to_owned(),
        ]);
    }
    aligned(&lines)
}

/// Returns the targets under these loads for which no run has a value.
///
/// A target under another load is younger than the comparison; the documents show it as not measured.
pub(super) fn not_measured<'a>(
    loads: &[String],
    runs: impl Iterator<Item = &'a [Run]> + Clone,
) -> Vec<String> {
    let is_missing = |target: &Target| runs.clone().all(|runs| target.measured(runs).is_none());
    let missing = targets_of(loads).into_iter().filter(is_missing);
    missing
        .filter(|target| loads.contains(&target.load))
        .map(|Target { case, load, server, .. }| format!("{server} under {load}, for \"{case}\""))
        .collect()
}

/// Returns the required and desired maximum ratios to the limit under a load, of plain WebSocket if they differ.
pub(super) fn marks(load: &Load) -> Vec<(f64, &'static str)> {
    let name = load.to_string();
    let base = Some(load.base());
    let targets = targets().into_iter().filter(|it| it.load == name && it.measure == Measure::Cpu);
    let mut of_load = targets.filter(|it| it.base.as_deref() == base);
    let Some(first) = of_load.next() else {
        return Vec::new();
    };
    let same = of_load.all(|it| (it.must, it.aim) == (first.must, first.aim));
    let (must, aim) = if same { ("must", "aim") } else { ("must, plain", "aim, plain") };
    vec![(first.must, must), (first.aim, aim)]
}

const BOTH: [&str; 2] = ["roomcast-plain", "roomcast-sio"];
const PACED: [&str; 6] = [
    "paced:100:64",
    "paced:1000:64",
    "paced:4000:64",
    "paced:100:1024",
    "paced:1000:1024",
    "paced:4000:1024",
];
const FAN_OUT: [&str; 3] = ["paced", "saturated", "rooms"];

#[cfg(test)]
mod tests {
    use super::super::contender::tests::built_in;
    use super::super::load::DEFAULT_LOADS;
    use super::super::table::tests::run;
    use super::*;

    #[test]
    fn default_scenarios_measure_every_target() {
        let loads: Vec<Load> = DEFAULT_LOADS.split(',').map(|load| load.parse().unwrap()).collect();
        for target in targets() {
            let load = loads.iter().find(|load| load.to_string() == target.load);
            let load = load.unwrap_or_else(|| panic!("{} is not run", target.load));
            for name in [Some(&target.server), target.base.as_ref()].into_iter().flatten() {
                if name == BEST_PEER {
                    continue;
                }
                let all = built_in();
                let contender = all.iter().find(|it| it.name() == name).unwrap();
                assert!(contender.takes(load, false), "{name} does not run under {load}");
            }
            assert!(target.aim < target.must);
        }
    }

    #[test]
    fn cluster_scenarios_measure_every_target() {
        let loads = crate::load::cluster_loads();
        let all = built_in();
        for target in cluster_targets() {
            let load = loads.iter().find(|load| load.to_string() == target.load).unwrap();
            for name in [Some(&target.server), target.base.as_ref()].into_iter().flatten() {
                let contender = all.iter().find(|it| it.name() == name).unwrap();
                assert!(contender.takes(load, false), "{name} does not run under {load}");
            }
            assert!(target.aim < target.must);
        }
        let names: Vec<String> = loads.iter().map(Load::to_string).collect();
        assert_eq!(not_measured(&names, [].into_iter()).len(), cluster_targets().len());
    }

    #[test]
    fn compares_median_with_must_and_aim() {
        let runs: Vec<Run> = (1..=6)
            .flat_map(|round| {
                [
                    run(round, "limit-write", 1.0, true),
                    run(round, "roomcast-plain", 1.04, true),
                    run(round, "roomcast-sio", 1.13, true),
                ]
            })
            .collect();
        let text = table(&["paced:1000:64".into()], &runs);
        let row = |start: &str, server: &str| {
            let mut rows = text.lines().filter(|line| {
                let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                cells.len() > 3
                    && cells[1].starts_with(start)
                    && cells[2] == "paced:1000:64"
                    && cells[3] == server
            });
            rows.next().unwrap().to_owned()
        };
        assert!(row("paced", "roomcast-plain").contains("aim reached"), "{text}");
        assert!(row("paced", "roomcast-sio").contains("**missed**"), "{text}");
        assert!(row("Socket.IO to", "roomcast-sio").contains("must reached"), "{text}");
        assert!(row("mounted", "roomcast-sio-mounted").contains("not measured"), "{text}");
        let target = targets().remove(0);
        let text = |value: f64| target.text(Summary::of([value]).unwrap());
        assert_eq!([text(1.0999), text(1.1001)], ["1.10 (one round)", "1.1001 (one round)"]);
        assert_eq!(marks(&"paced".parse().unwrap()), [(1.10, "must"), (1.04, "aim")]);
        assert_eq!(marks(&"echo".parse().unwrap()), [(1.5, "must, plain"), (1.2, "aim, plain")]);
        assert_eq!(marks(&"free-paced".parse().unwrap()), []);
    }
}
