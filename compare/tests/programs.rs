//! End-to-end tests of the three programs.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

use roomcast_loadgen::Report;

/// Limit server; killed on drop.
struct Limit {
    process: Child,
    port: String,
}

impl Limit {
    fn start(arguments: &[&str]) -> Self {
        let mut process =
            Command::new(env!("CARGO_BIN_EXE_limit")).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening"), "{line}");
        let port = line.trim().rsplit(':').next().unwrap().to_owned();
        Self { process, port }
    }

    fn loadgen(&self, arguments: &str) -> Output {
        let pid = self.process.id();
        let line = format!("--port {} --pid {pid} --warmup 0.05 --window 0.2 {arguments}", self.port);
        Command::new(env!("CARGO_BIN_EXE_loadgen")).args(line.split(' ')).output().unwrap()
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn report(output: &Output) -> Report {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(&output.stdout)))
}

#[test]
fn reports_server_cpu_per_delivery() {
    let limit = Limit::start(&["--send", "write", "--pattern", "broadcast"]);
    let output = limit.loadgen("--scenario paced --clients 100");
    let report = report(&output);
    assert!(output.status.success() && report.ok, "{report:?}");
    let (cpu, cores) = (report.cpu_us_per_delivery.unwrap(), report.server_cores.unwrap());
    assert!((0.2..200.0).contains(&cpu), "{report:?}");
    let charged = cpu * report.deliveries as f64 / 1e6 / report.window_s;
    assert!((charged - cores).abs() < 0.01 && cores < 1.1, "{report:?}");
}

#[test]
fn reports_cost_of_idle_connections() {
    let limit = Limit::start(&[]);
    let report = report(&limit.loadgen("--scenario idle --clients 500"));
    assert!(report.ok, "{report:?}");
    let idle = report.idle.unwrap();
    assert!(idle.cpu_us_per_connection > 1.0 && idle.base_rss_bytes > 100_000, "{idle:?}");
    assert!((0.0..5000.0).contains(&idle.rss_bytes_per_connection), "{idle:?}");
}

#[test]
fn aborted_run_fails_with_reason() {
    let limit = Limit::start(&["--pattern", "echo"]);
    let output = limit.loadgen("--scenario saturated --clients 20 --stall 0.3");
    let report = report(&output);
    assert!(!output.status.success() && !report.ok);
    assert!(report.error.unwrap().contains("1 of 20 clients"));
}

#[test]
fn compares_servers_and_writes_report() {
    let folder = format!("{}/compared", env!("CARGO_TARGET_TMPDIR"));
    let output =
        compare(&["--scenarios", "paced:50,rooms:100:1024,idle:200,poll-paced:20", "--out", &folder]);
    if std::thread::available_parallelism().unwrap().get() < 2 {
        assert!(stderr(&output).contains("choose with --server-cpu and --load-cpu"), "{}", stderr(&output));
        return;
    }
    assert!(output.status.success(), "{}", stderr(&output));
    let tables = String::from_utf8(output.stdout).unwrap();
    assert_eq!(tables.matches("### ").count(), 4, "{tables}");

    let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&read("results.json")).unwrap();
    let runs = record["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4 * 2 * 2);
    assert!(runs.iter().all(|run| run["report"]["ok"] == true), "{runs:?}");
    let report = read("README.md");
    assert!(report.contains("### idle:200") && !report.contains("Incomplete"), "{report}");
    for plot in report.lines().filter_map(|line| line.split_once("](")?.1.strip_suffix(')')) {
        assert!(plot.contains("performance.md") || read(plot).contains("limit-batch"), "{plot}");
    }

    let again = Command::new(env!("CARGO_BIN_EXE_compare"))
        .args(["--render", &format!("{folder}/results.json"), "--out", &folder])
        .output()
        .unwrap();
    assert!(again.status.success() && report == read("README.md"), "{}", stderr(&again));
}

#[test]
fn table_shows_failed_server() {
    let folder = format!("{}/failed", env!("CARGO_TARGET_TMPDIR"));
    let servers = ["--scenarios", "paced:10", "--server", "broken=plain:false {port}", "--only", "broken"];
    let output = compare(&[&servers[..], &["--out", &folder]].concat());
    assert!(!output.status.success());
    if std::thread::available_parallelism().unwrap().get() >= 2 {
        assert!(stderr(&output).contains("the server exited at startup"), "{}", stderr(&output));
        assert!(String::from_utf8(output.stdout).unwrap().contains("0, 2 failed"));
    }
}

#[test]
fn lists_servers_not_built() {
    let output = Command::new(env!("CARGO_BIN_EXE_compare"))
        .args(["--list", "--fanout-server", "nowhere/fanout_server"])
        .output()
        .unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    assert!(list.contains("limit-write: ready\n"), "{list}");
    assert!(list.contains("roomcast-sio: not built"), "{list}");
    assert!(list.contains("\nsocketioxide: "), "{list}");
}

/// Runs two short rounds, with the limits unless `arguments` name other servers.
fn compare(arguments: &[&str]) -> Output {
    let only = if arguments.contains(&"--only") { &[][..] } else { &["--only", "limit-write,limit-batch"] };
    Command::new(env!("CARGO_BIN_EXE_compare"))
        .args("--rounds 2 --peer-rounds 2 --repeats 0 --warmup 0.05 --window 0.4".split(' '))
        .args(only)
        .args(arguments)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
