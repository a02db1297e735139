//! Autobahn testsuite: a WebSocket client with 517 cases, 216 of them compressed, against an echo server.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde_json::{Value, json};

use crate::prerequisite::PYTHON2;
use crate::project::Project;
use crate::server::Server;
use crate::test_counts::TestCounts;

/// Installs the suite if needed, runs these cases, and prints their results.
///
/// Fails if a verdict is neither OK nor informational; informational cases have no correct answer.
pub(crate) fn run(project: &Project, cases: &[String]) -> ExitCode {
    match try_run(project, cases) {
        Ok(results) => {
            print!("{}", results.table());
            if results.all_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Cuts the table of [`run`] out of the log.
pub(crate) fn excerpt(log: &str) -> String {
    log.lines().skip_while(|line| !line.starts_with(HEAD)).collect::<Vec<_>>().join("\n")
}

/// Counts the cases of the table of [`run`].
pub(crate) fn test_counts(log: &str) -> TestCounts {
    let total = log.lines().rfind(|line| line.starts_with("all ")).unwrap_or_default();
    let mut columns = total.split_whitespace().skip(1).map(|number| number.parse::<u64>().unwrap_or(0));
    let mut column = || columns.next().unwrap_or(0);
    let (ok, informational, bad) = (column(), column(), column() + column() + column());
    TestCounts { passed: ok + informational, failed: bad, skipped: 0 }
}

fn try_run(project: &Project, cases: &[String]) -> Result<Results, String> {
    let folder = project.target.join("autobahn");
    let wstest = set_up(&folder)?;
    // The server's own heartbeats must not interleave with the suite's frames.
    let quiet = "600000";
    let flags = [
        ["--ping-interval", quiet],
        ["--ping-timeout", quiet],
        ["--connect-timeout", quiet],
        ["--max-payload", "33554432"],
        ["--max-fragments", "131072"],
        ["--outbox", "134217728"],
    ];
    let flags = [flags.as_flattened(), &["--compression"]].concat();
    let program = project.target.join("debug/examples/conformance_server");
    let server =
        Server::start(&program, &flags).map_err(|error| format!("start the server under test: {error}"))?;
    let reports = folder.join("reports");
    // Remove the reports of an earlier run.
    let _ = fs::remove_dir_all(&reports);
    let spec = json!({
        "outdir": reports,
        "servers": [{
            "agent": AGENT,
            "url": format!("ws://{}/echo", server.address),
            "options": { "version": 18 },
        }],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    });
    let file = folder.join("spec.json");
    fs::write(&file, spec.to_string()).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut suite = Command::new(wstest);
    succeed(suite.args(["--mode", "fuzzingclient", "--spec"]).arg(&file))?;
    let index = reports.join("index.json");
    let index = fs::read_to_string(&index).map_err(|error| format!("{}: {error}", index.display()))?;
    Results::read(&index)
}

/// Creates a Python environment for the suite, with an old virtualenv, since newer ones do not support Python 2.
fn set_up(folder: &Path) -> Result<PathBuf, String> {
    let wstest = folder.join("python2/bin/wstest");
    if Command::new(&wstest).arg("--help").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    {
        return Ok(wstest);
    }
    let python2 =
        std::env::var_os(PYTHON2).ok_or_else(|| format!("{PYTHON2} must name a python2.7 with headers"))?;
    let (tools, suite) = (folder.join("tools"), folder.join("python2"));
    let pip = |of: &Path| {
        let mut pip = Command::new(of.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check"]);
        pip
    };
    succeed(Command::new("python3").args(["-m", "venv"]).arg(&tools))?;
    succeed(pip(&tools).arg(VIRTUALENV))?;
    succeed(
        Command::new(tools.join("bin/virtualenv")).args(["--quiet", "--python"]).arg(python2).arg(&suite),
    )?;
    succeed(pip(&suite).arg(SUITE))?;
    Ok(wstest)
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| format!("cannot start {program}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} exited with {status}")) }
}

/// Verdicts by case: the worse of those on its messages and on its close.
struct Results(BTreeMap<String, Verdict>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Informational,
    NonStrict,
    Unimplemented,
    Failed,
}

impl Results {
    fn read(index: &str) -> Result<Self, String> {
        let index: Value =
            serde_json::from_str(index).map_err(|error| format!("the suite's index: {error}"))?;
        let cases = index[AGENT].as_object().ok_or("the suite's index has no results")?;
        let verdict = |case: &Value| worse(verdict(&case["behavior"]), verdict(&case["behaviorClose"]));
        Ok(Self(cases.iter().map(|(id, case)| (id.clone(), verdict(case))).collect()))
    }

    fn all_good(&self) -> bool {
        !self.0.is_empty()
            && self.0.values().all(|verdict| matches!(verdict, Verdict::Ok | Verdict::Informational))
    }

    /// Formats the verdicts by section, then lists the failed cases.
    fn table(&self) -> String {
        let mut sections: BTreeMap<u32, [u32; 5]> = BTreeMap::new();
        let mut total = [0; 5];
        let mut bad = String::new();
        for (id, verdict) in &self.0 {
            let section = id.split('.').next().and_then(|section| section.parse().ok()).unwrap_or(0);
            sections.entry(section).or_default()[*verdict as usize] += 1;
            total[*verdict as usize] += 1;
            if !matches!(verdict, Verdict::Ok | Verdict::Informational) {
                bad += &format!("{id}: {verdict:?}\n");
            }
        }
        let row = |name: &str, [ok, informational, non_strict, unimplemented, failed]: [u32; 5]| {
            format!("{name:8}{ok:>5}{informational:>15}{non_strict:>12}{unimplemented:>15}{failed:>8}\n")
        };
        let mut table = format!("{HEAD}   OK  INFORMATIONAL  NON-STRICT  UNIMPLEMENTED  FAILED\n");
        table.extend(sections.iter().map(|(section, counts)| row(&format!("{section}.*"), *counts)));
        table + &row("all", total) + &bad
    }
}

fn verdict(value: &Value) -> Verdict {
    match value.as_str() {
        Some("OK") => Verdict::Ok,
        Some("INFORMATIONAL") => Verdict::Informational,
        Some("NON-STRICT") => Verdict::NonStrict,
        Some("UNIMPLEMENTED") => Verdict::Unimplemented,
        // Includes the close verdicts WRONG CODE, UNCLEAN and FAILED BY CLIENT.
        _ => Verdict::Failed,
    }
}

fn worse(one: Verdict, other: Verdict) -> Verdict {
    if one as usize >= other as usize { one } else { other }
}

/// The 301 uncompressed cases, and one compressed case per kind of negotiation; takes two minutes.
pub(crate) const SAMPLE: [&str; 21] = [
    "1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*", "12.1.1", "12.2.3", "12.3.4", "12.4.11",
    "12.5.5", "13.1.4", "13.2.3", "13.3.4", "13.4.2", "13.5.3", "13.6.4", "13.7.4",
];
const AGENT: &str = "roomcast";
const HEAD: &str = "cases   ";
/// Last release series that supports Python 2.
const VIRTUALENV: &str = "virtualenv<20.22";
const SUITE: &str = "autobahntestsuite==25.10.1";

#[cfg(test)]
mod tests {
    use super::*;

    fn results(cases: &[(&str, &str, &str)]) -> Results {
        let cases: serde_json::Map<_, _> = cases
            .iter()
            .map(|(id, behavior, close)| {
                ((*id).to_owned(), json!({ "behavior": behavior, "behaviorClose": close }))
            })
            .collect();
        Results::read(&json!({ AGENT: cases }).to_string()).unwrap()
    }

    #[test]
    fn counts_verdicts_by_section() {
        let results = results(&[
            ("1.1.1", "OK", "OK"),
            ("7.1.6", "INFORMATIONAL", "INFORMATIONAL"),
            ("7.1.5", "OK", "INFORMATIONAL"),
            ("10.1.1", "OK", "OK"),
        ]);
        assert!(results.all_good());
        let table = results.table();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(table.lines().nth(2).unwrap()), ["7.*", "0", "2", "0", "0", "0"]);
        assert_eq!(words(table.lines().last().unwrap()), ["all", "2", "2", "0", "0", "0"]);
        let log = format!("Running test case ID 1.1.1\n{table}");
        assert_eq!(test_counts(&log), TestCounts { passed: 4, failed: 0, skipped: 0 });
        assert_eq!(excerpt(&log), table.trim_end());
    }

    #[test]
    fn names_cases_that_are_not_ok() {
        for (behavior, close) in [
            ("OK", "UNCLEAN"),
            ("OK", "WRONG CODE"),
            ("FAILED", "OK"),
            ("NON-STRICT", "OK"),
            ("UNIMPLEMENTED", "OK"),
        ] {
            let results = results(&[("1.1.1", "OK", "OK"), ("6.4.1", behavior, close)]);
            assert!(!results.all_good(), "{behavior} {close}");
            assert!(results.table().lines().last().unwrap().starts_with("6.4.1: "));
            assert_eq!(test_counts(&results.table()), TestCounts { passed: 1, failed: 1, skipped: 0 });
        }
        assert!(!Results(BTreeMap::new()).all_good());
    }
}
