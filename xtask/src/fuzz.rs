//! Runs libFuzzer on the targets in `fuzz`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::project::Project;
use crate::test_counts::TestCounts;

/// Runs these targets, or all, for `seconds` each, and prints the results.
///
/// Requires the nightly toolchain; installs `cargo-fuzz` into the target folder if missing. Fails if an input violates
/// an assertion.
pub(crate) fn run(project: &Project, seconds: u64, targets: &[String]) -> ExitCode {
    let outcomes = find_cargo_fuzz(project).and_then(|cargo_fuzz| {
        let known = targets_in(&project.fuzz())?;
        if let Some(unknown) = targets.iter().find(|target| !known.contains(target)) {
            return Err(format!("unknown target {unknown}; available: {}", known.join(", ")));
        }
        let chosen = known.into_iter().filter(|target| targets.is_empty() || targets.contains(target));
        chosen.map(|target| fuzz(project, &cargo_fuzz, target, seconds)).collect::<Result<Vec<_>, _>>()
    });
    match outcomes {
        Ok(outcomes) => {
            print!("{}", table(&outcomes));
            if outcomes.iter().all(|outcome| outcome.calm) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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

/// Counts the targets of the table of [`run`].
pub(crate) fn test_counts(log: &str) -> TestCounts {
    let table = excerpt(log);
    let ends = |end: &str| table.lines().filter(|line| line.ends_with(end)).count() as u64;
    TestCounts { passed: ends(CALM), failed: ends(FOUND), skipped: 0 }
}

#[derive(Debug)]
struct Outcome {
    target: String,
    seconds: u64,
    executions: u64,
    per_second: u64,
    inputs: usize,
    /// Failing inputs of this and earlier runs.
    findings: usize,
    calm: bool,
}

fn fuzz(project: &Project, cargo_fuzz: &Path, target: String, seconds: u64) -> Result<Outcome, String> {
    let folder = project.target.join("fuzz");
    let (corpus, artifacts) = (folder.join("corpus").join(&target), folder.join("artifacts").join(&target));
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let mut command = nightly();
    // cargo finds the subcommand only on the path.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = cargo_fuzz.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders).map_err(|error| error.to_string())?);
    // The project has no unsafe code that needs a sanitizer, and without one the fuzzer runs twice as fast.
    command.args(["fuzz", "run", "--sanitizer", "none", "--target-dir"]).arg(folder.join("build"));
    command.arg("--fuzz-dir").arg(project.fuzz()).arg(&target).arg(&corpus);
    command.arg(project.fuzz().join("seeds").join(&target)).current_dir(&project.root);
    command.args(["--", "-max_len=4096", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]);
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    let output = command.output().map_err(|error| format!("cargo +nightly fuzz: {error}"))?;
    let printed = String::from_utf8_lossy(&output.stderr);
    println!("{}{printed}", String::from_utf8_lossy(&output.stdout));
    let stat = |name: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    };
    let executions = stat("stat::number_of_executed_units");
    if executions == 0 && output.status.success() {
        return Err(format!("{target} was never executed"));
    }
    let count = |folder: &Path| fs::read_dir(folder).map_or(0, Iterator::count);
    Ok(Outcome {
        target,
        seconds,
        executions,
        per_second: stat("stat::average_exec_per_sec"),
        inputs: count(&corpus),
        findings: count(&artifacts),
        calm: output.status.success(),
    })
}

fn find_cargo_fuzz(project: &Project) -> Result<PathBuf, String> {
    let works = nightly().arg("--version").output().is_ok_and(|output| output.status.success());
    if !works {
        return Err("no nightly toolchain; run rustup toolchain install nightly".into());
    }
    let tools = project.target.join("tools");
    let program = tools.join("bin/cargo-fuzz");
    if !program.is_file() {
        let mut install = nightly();
        install.args(["install", "--locked", "cargo-fuzz", "--root"]).arg(&tools);
        let status = install.status().map_err(|error| format!("cargo install: {error}"))?;
        if !status.success() {
            return Err(format!("cargo install cargo-fuzz exited with {status}"));
        }
    }
    Ok(program)
}

/// Returns a command for the nightly cargo, independent of the current toolchain.
fn nightly() -> Command {
    let mut command = Command::new("cargo");
    command.arg("+nightly").env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    command
}

fn targets_in(folder: &Path) -> Result<Vec<String>, String> {
    let folder = folder.join("fuzz_targets");
    let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let stem = |path: PathBuf| path.file_stem()?.to_str().map(str::to_owned);
    let mut targets: Vec<_> = entries.flatten().filter_map(|entry| stem(entry.path())).collect();
    targets.sort();
    Ok(targets)
}

fn table(outcomes: &[Outcome]) -> String {
    let mut table = format!("{HEAD} seconds  executions  per second  inputs kept  findings\n");
    for Outcome { target, seconds, executions, per_second, inputs, findings, calm } in outcomes {
        let verdict = if *calm { CALM } else { FOUND };
        table += &format!(
            "{target:20}{seconds:>8}{executions:>12}{per_second:>12}{inputs:>13}{findings:>10}  {verdict}\n"
        );
    }
    table
}

const HEAD: &str = "target              ";
const CALM: &str = "ok";
const FOUND: &str = "FAILED";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_targets_of_table() {
        let outcome = |target: &str, calm: bool| Outcome {
            target: target.into(),
            seconds: 60,
            executions: 12_345_678,
            per_second: 4000,
            inputs: 12,
            findings: usize::from(!calm),
            calm,
        };
        let table = table(&[outcome("ws_frames", true), outcome("args", false)]);
        let log = format!("stat::number_of_executed_units: 3\n{table}");
        assert_eq!(excerpt(&log), table.trim_end());
        assert_eq!(test_counts(&log), TestCounts { passed: 1, failed: 1, skipped: 0 });
    }
}
