//! Tests of the figures on a small comparison, and on a project in a temporary folder.

use std::path::PathBuf;

use roomcast_loadgen::{IdleReport, Report};
use serde_json::json;

use super::*;
use crate::contender::tests::built_in;
use crate::load::DEFAULT_LOADS;
use crate::{Load, Run};

const COSTS: &str = r#"{"paths": {"echo, plain": {"instructions": 3014.0, "allocations": 0.19}}}"#;
/// Document with every kind of block, except the tables of all targets.
const SAMPLE: &str = include_str!("sample.md");

/// Returns a comparison of six rounds without the scenarios `rooms` and `connections`.
fn record() -> Record {
    let mut runs = Vec::new();
    for round in 1..=6 {
        // The machine becomes slower; the ratios vary a little.
        let (slow, vary) = (0.9 + 0.1 * round as f64, 1.0 + 0.01 * round as f64);
        let mut add = |load: &str, server: &str, cpu: f64| {
            let mut report = Report { ok: true, ..Report::default() };
            if load.starts_with("idle") {
                report.idle = Some(IdleReport {
                    cpu_us_per_connection: cpu,
                    rss_bytes_per_connection: 2048.0 + 128.0 * (cpu - slow * 10.0),
                    ..IdleReport::default()
                });
            } else {
                report.cpu_us_per_delivery = Some(cpu);
            }
            let (load, server) = (load.into(), server.into());
            runs.push(Run { round, load, server, repeated: 0, noisy: false, report });
        };
        for (load, base, cpu, ratio) in [
            ("paced:1000:64", "limit-write", 4.0, 1.05),
            ("paced:4000:64", "limit-write", 5.0, 1.08),
            ("paced:1000:1024", "limit-write", 4.2, 1.06),
            ("saturated:1000:64", "limit-batch", 0.1, 1.2),
            ("echo:64:64", "limit-batch", 0.4, 1.4),
            ("idle:10000", "limit-write", 10.0, 1.5),
        ] {
            add(load, base, slow * cpu);
            add(load, "roomcast-plain", slow * cpu * ratio);
            add(load, "roomcast-sio", slow * cpu * ratio * vary);
        }
    }
    let machine = json!({"cpu": "CPU", "cpus": 2, "memory_mib": 2048, "kernel": "6.1", "system": "Linux"});
    Record {
        started_unix_s: 0,
        unfinished: None,
        arguments: String::new(),
        machine: serde_json::from_value(machine).unwrap(),
        versions: vec![("roomcast".into(), "0.1.0".into()), ("ws".into(), "8.23.0".into())],
        rounds: 6,
        peer_rounds: 2,
        warmup_s: 0.4,
        window_s: 1.0,
        max_foreign_cores: 0.06,
        loads: ["paced:1000:64", "echo:64:64", "idle:10000"].map(str::to_owned).into(),
        missing: Vec::new(),
        runs,
    }
}

fn render(name: &str) -> Result<String, String> {
    Figures::new(&record(), COSTS).unwrap().render(name)
}

/// Project with one document, and the report of [`record`].
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, readme: &str) -> Self {
        let root = std::env::temp_dir().join(format!("roomcast-docs-{name}-{}", std::process::id()));
        for (path, text) in
            [("README.md", readme), ("benches/costs.json", COSTS), ("docs/page.md", "Page.\n")]
        {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let folder = Self(root);
        record().write(&folder.project().report()).unwrap();
        folder
    }

    fn project(&self) -> Project<'_> {
        Project(&self.0)
    }

    /// Returns the problems except targets without a result, which this small comparison has.
    fn problems(&self) -> Vec<String> {
        let mut problems = self.project().check(&record()).unwrap();
        problems.retain(|problem| !problem.contains("no result of"));
        problems
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A leftover folder disturbs no other run.
        _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn sample_has_figures_of_results() {
    let filled = blocks::fill(SAMPLE, render).unwrap();
    assert!(filled == SAMPLE, "update compare/src/docs/sample.md after a review:\n{filled}");
}

#[test]
fn names_unknown_figures() {
    for (name, part) in [
        ("speed", "unknown block `speed`"),
        ("ratio echo", "unknown block `ratio echo`"),
        ("ratio pace roomcast-plain", "pace"),
        ("ratio paced:7:64 roomcast-plain", "no load paced:7:64"),
        ("time paced roomcast-plan", "no server roomcast-plan"),
        ("ratio paced roomcast-plain limit", "no server limit"),
        ("instructions echo", "no path \"echo\""),
    ] {
        let problem = render(name).unwrap_err();
        assert!(problem.contains(part), "{name}: {problem}");
    }
}

#[test]
fn options_are_compared_by_default() {
    let defaults: Vec<Load> =
        DEFAULT_LOADS.split(',').flat_map(|load| load.parse::<Load>().unwrap().expanded()).collect();
    for (label, load, suffix) in figures::OPTIONS {
        let parsed: Load = load.parse().unwrap();
        assert!(parsed.to_string() == load && defaults.contains(&parsed), "{label}: {load}");
        let name = format!("roomcast-sio{suffix}");
        let server = built_in().into_iter().find(|it| it.name() == name).unwrap();
        assert!(server.takes(&parsed, false), "{name} does not run under {load}");
    }
}

#[test]
fn options_are_relative_to_same_server() {
    let mut record = record();
    for round in 1..=6 {
        for (server, cpu) in [("roomcast-sio", 4.0), ("roomcast-sio-compressed", 5.0)] {
            let report = Report { ok: true, cpu_us_per_delivery: Some(cpu), ..Report::default() };
            let (load, server) = ("text-paced:1000:1024".into(), server.into());
            record.runs.push(Run { round, load, server, repeated: 0, noisy: false, report });
        }
    }
    let options = Figures::new(&record, COSTS).unwrap().render("options").unwrap();
    let row = "| compression | `text-paced:1000:1024` | not measured in this run | 1.25 (1.25 to 1.25) |";
    assert!(options.contains(row), "{options}");
}

#[test]
fn habits_have_ratios_and_spread() {
    let mut habits = record();
    assert_eq!(Figures::new(&record(), COSTS).unwrap().render("habits").unwrap(), "not measured in this run");
    for round in 1..=3 {
        for (load, ratio) in [("usual-echo:64:64", 1.5), ("blocking-echo:64:64", 1.8)] {
            for (server, cpu) in [("limit-batch", 2.0), ("roomcast-plain", 2.0 * ratio)] {
                let report = Report { ok: true, cpu_us_per_delivery: Some(cpu), ..Report::default() };
                let (load, server) = (load.into(), server.into());
                habits.runs.push(Run { round, load, server, repeated: 0, noisy: false, report });
            }
        }
    }
    let record = record();
    let table = Figures::new(&record, COSTS).unwrap().with_habits(Some(&habits)).render("habits").unwrap();
    let cells = |name: &str| {
        let row = table.lines().find(|line| line.starts_with(&format!("| {name} |"))).unwrap();
        row.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    // Saturated and paced, each plain and Socket.IO, come first.
    assert!(cells("`usual`")[6].starts_with("1.50") && cells("`blocking`")[6].starts_with("1.80"), "{table}");
    assert_eq!((&*cells("spread")[6], &*cells("`batched-polls`")[6]), ("20 %", "–"), "{table}");
    assert_eq!(cells("`delayed-acks`")[6], "not measured in this run", "{table}");
}

#[test]
fn headline_has_heartbeats_and_latency() {
    let mut record = record();
    for round in 1..=6 {
        for (server, p99) in [("roomcast-plain", 9.0), ("ws", 10.0), ("socket.io", 20.0)] {
            let report = Report { ok: true, p99_us: Some(p99), ..Report::default() };
            let (load, server) = ("latency-60:1000:64".into(), server.into());
            record.runs.push(Run { round, load, server, repeated: 0, noisy: false, report });
        }
        let idle = IdleReport { cpu_us_per_heartbeat: Some(15.0), ..IdleReport::default() };
        let report = Report { ok: true, idle: Some(idle), ..Report::default() };
        let (load, server) = ("connections:10000".into(), "roomcast-sio".into());
        record.runs.push(Run { round, load, server, repeated: 0, noisy: false, report });
    }
    let headline = Figures::new(&record, COSTS).unwrap().render("headline").unwrap();
    for part in [
        "to the best other server | 0.90 (0.90 to 0.90) | not measured in this run |",
        "CPU time per second | not measured in this run | 0.60 (0.60 to 0.60) µs |",
    ] {
        assert!(headline.contains(part), "{part} in {headline}");
    }
}

#[test]
fn target_tables_follow_results() {
    let targets = render("targets").unwrap();
    let echo = targets.lines().find(|line| line.contains("`echo:64:64`")).unwrap();
    assert!(echo.contains("| 1.40 (1.40 to 1.40) | 1.45 (1.41 to 1.48) |"), "{echo}");
    let rooms = targets.lines().find(|line| line.contains("`rooms:4000:64`")).unwrap();
    assert_eq!(rooms.matches("not measured in this run").count(), 2, "{rooms}");
    let saturated = targets.lines().find(|line| line.contains("| `saturated:1000:64` | 1.2")).unwrap();
    assert!(!saturated.contains("**"), "{saturated}");
    let paced = targets.lines().find(|line| line.contains("| `paced:4000:64` |")).unwrap();
    assert!(paced.contains("| 1.08 (1.08 to 1.08) | **1.12 (1.09 to 1.14)** |"), "{paced}");
    let missed = render("missed").unwrap();
    assert!(missed.contains("\n- paced broadcast (`paced:4000:64`, `roomcast-sio`): 1.12"), "{missed}");
    assert!(!missed.contains("(`paced:4000:64`, `roomcast-plain`)"), "{missed}");
}

#[test]
fn sizing_includes_heartbeats_and_kernel_memory() {
    let mut record = record();
    for server in PRODUCTS {
        let idle = IdleReport {
            cpu_us_per_heartbeat: Some(15.0),
            kernel_bytes_per_connection: Some(8192.0),
            sockets_per_connection: Some(2.0),
            ..IdleReport::default()
        };
        let report = Report { ok: true, idle: Some(idle), ..Report::default() };
        let (load, server) = ("connections:10000".into(), server.into());
        record.runs.push(Run { round: 1, load, server, repeated: 0, noisy: false, report });
    }
    let figures = Figures::new(&record, COSTS).unwrap();
    let costs = figures.render("sizing costs").unwrap();
    assert_eq!(costs.matches("| 0.60 (one round) µs |").count(), 1, "{costs}");
    assert_eq!(costs.matches("| 4.00 (one round) KiB |").count(), 1, "{costs}");
    let examples = figures.render("sizing examples").unwrap();
    // 16,667 × 6.75 µs and 0.6 s of heartbeats.
    for part in ["16,667 × 6.8 µs + 1,000,000 × 0.60 µs = 0.71 cores; plan 2", "(2.8 + 4.0) KiB = 6.5 GiB"]
    {
        assert!(examples.contains(part), "{part} in {examples}");
    }
    assert!(!examples.contains("not measured"), "{examples}");
}

#[test]
fn rewrites_stale_documents() {
    let stale = SAMPLE.replace("1.05 (1.05 to 1.05)", "0.99 (0.98 to 1.00)");
    let folder = Folder::new("stale", &stale);
    let problems = folder.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    for (problem, block) in problems.iter().zip(["`headline`", "`ratio paced:1000:64 roomcast-plain`"]) {
        assert!(problem.starts_with("README.md:") && problem.contains(block), "{problem}");
    }
    assert_eq!(folder.project().rewrite(&record()).unwrap(), [Path::new("README.md")]);
    assert_eq!(fs::read_to_string(folder.0.join("README.md")).unwrap(), SAMPLE);
    assert_eq!(folder.problems(), Vec::<String>::new());
    assert!(folder.project().rewrite(&record()).unwrap().is_empty(), "a second time changes nothing");
}

#[test]
fn changes_nothing_with_unknown_block() {
    let text = "A <!-- results: time paced limit-write --><!-- /results -->\n\nb <!-- results: x --><!-- /results -->\n";
    let folder = Folder::new("unknown", text);
    assert!(folder.problems()[0].starts_with("README.md:3: unknown block `x`"), "{:?}", folder.problems());
    let error = folder.project().rewrite(&record()).unwrap_err().to_string();
    assert!(error.starts_with("README.md:3: unknown block `x`"), "{error}");
    assert_eq!(fs::read_to_string(folder.0.join("README.md")).unwrap(), text);
}

#[test]
fn checks_report_and_plots() {
    let folder = Folder::new("report", "");
    let report = folder.project().report();
    fs::write(report.join("echo-64-64.svg"), "<svg/>").unwrap();
    fs::write(report.join("echo-5-5.svg"), "<svg/>").unwrap();
    let problems = folder.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("docs/benchmarks/echo-64-64.svg: differs"), "{problems:?}");
    assert!(problems[1].starts_with("docs/benchmarks/echo-5-5.svg: belongs to no scenario"), "{problems:?}");
    record().write_report(&report).unwrap();
    assert_eq!(folder.problems(), Vec::<String>::new());
}

#[test]
fn names_targets_without_result() {
    let folder = Folder::new("missing", "");
    let mut record = record();
    record.loads.push("rooms:4000:64".into());
    let problems = folder.project().check(&record).unwrap();
    let named = |row: &str| problems.iter().any(|problem| problem.contains(row));
    assert!(named("results.json: no result of roomcast-plain under rooms:4000:64"), "{problems:?}");
    assert!(!named("under echo:64:64"), "{problems:?}");
    assert!(!named("under latency-30"), "not a load of this comparison: {problems:?}");
}
