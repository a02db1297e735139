//! The three programs as a person runs them

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

use roomcast_benches::Report;

/// A limit server that ends with this value
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
fn a_run_charges_the_servers_cpu_to_the_deliveries() {
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
fn idle_connections_cost_the_server_cpu_and_memory() {
    let limit = Limit::start(&[]);
    let report = report(&limit.loadgen("--scenario idle --clients 500"));
    assert!(report.ok, "{report:?}");
    let idle = report.idle.unwrap();
    assert!(idle.cpu_us_per_connection > 1.0 && idle.base_rss_bytes > 100_000, "{idle:?}");
    assert!((0.0..5000.0).contains(&idle.rss_bytes_per_connection), "{idle:?}");
}

#[test]
fn a_run_that_breaks_off_says_why_and_fails() {
    let limit = Limit::start(&["--pattern", "echo"]);
    let output = limit.loadgen("--scenario saturated --clients 20 --stall 0.3");
    let report = report(&output);
    assert!(!output.status.success() && !report.ok);
    assert!(report.error.unwrap().contains("1 of 20 clients"));
}

#[test]
fn servers_are_compared_and_written_down() {
    let file = format!("{}/compare.json", env!("CARGO_TARGET_TMPDIR"));
    let output = compare(&["--scenarios", "paced:50,rooms:100:1024,idle:200,poll-paced:20", "--json", &file]);
    if std::thread::available_parallelism().unwrap().get() < 2 {
        assert!(stderr(&output).contains("choose with --server-cpu and --load-cpu"), "{}", stderr(&output));
        return;
    }
    assert!(output.status.success(), "{}", stderr(&output));
    let tables = String::from_utf8(output.stdout).unwrap();
    assert_eq!(tables.matches("### ").count(), 4, "{tables}");

    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let runs = document["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4 * 2 * 2);
    assert!(runs.iter().all(|run| run["report"]["ok"] == true), "{runs:?}");
    for table in document["tables"].as_array().unwrap() {
        for row in table["rows"].as_array().unwrap() {
            let ratio = &row["ratio"];
            assert_eq!(ratio["count"], 2, "{table}");
            assert!(ratio["median"].as_f64().unwrap() > 0.0, "{table}");
            assert!(
                row["server"] != table["base"] || (ratio["min"] == 1.0 && ratio["max"] == 1.0),
                "{table}"
            );
        }
    }
}

#[test]
fn a_server_that_fails_stands_in_the_table_as_failed() {
    let servers = ["--scenarios", "paced:10", "--server", "broken=plain:false {port}", "--only", "broken"];
    let output = compare(&servers);
    assert!(!output.status.success());
    if std::thread::available_parallelism().unwrap().get() >= 2 {
        assert!(stderr(&output).contains("the server ended at once"), "{}", stderr(&output));
        assert!(String::from_utf8(output.stdout).unwrap().contains("0, 2 failed"));
    }
}

/// Two short rounds, over the limits unless `arguments` name others
fn compare(arguments: &[&str]) -> Output {
    let only = if arguments.contains(&"--only") { &[][..] } else { &["--only", "limit-write,limit-batch"] };
    Command::new(env!("CARGO_BIN_EXE_compare"))
        .args("--rounds 2 --repeats 0 --warmup 0.05 --window 0.4".split(' '))
        .args(only)
        .args(arguments)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
