//! libFuzzer on the targets in `fuzz`, each for a time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::project::Project;
use crate::tally::Tally;

/// Runs these targets, or all, for so many seconds each, and prints how far they came.
///
/// Needs the nightly toolchain; `cargo-fuzz` is built into the target folder where it is not there yet. Fails if an
/// input broke a promise.
pub(crate) fn run(project: &Project, seconds: u64, targets: &[String]) -> ExitCode {
    let outcomes = find_cargo_fuzz(project).and_then(|cargo_fuzz| {
        let known = targets_in(&project.fuzz())?;
        if let Some(unknown) = targets.iter().find(|target| !known.contains(target)) {
            return Err(format!("there is no target {unknown}; there are {}", known.join(", ")));
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

/// The table that [`run`] printed, for the report.
pub(crate) fn excerpt(log: &str) -> String {
    log.lines().skip_while(|line| !line.starts_with(HEAD)).collect::<Vec<_>>().join("\n")
}

/// The targets in that table.
pub(crate) fn tally(log: &str) -> Tally {
    let table = excerpt(log);
    let ends = |end: &str| table.lines().filter(|line| line.ends_with(end)).count() as u64;
    Tally { passed: ends(CALM), failed: ends(FOUND), skipped: 0 }
}

#[derive(Debug)]
struct Outcome {
    target: String,
    seconds: u64,
    executions: u64,
    per_second: u64,
    inputs: usize,
    /// Inputs that broke a promise, this time or before, and were not mended since.
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
    // Found beside cargo's own subcommands only if it is on the path.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = cargo_fuzz.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders).map_err(|error| error.to_string())?);
    // There is no unsafe code of ours that a sanitizer could watch, and without one it comes twice as far.
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
        return Err(format!("{target} was not executed once"));
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
        return Err("the nightly toolchain is needed; rustup toolchain install nightly".into());
    }
    let tools = project.target.join("tools");
    let program = tools.join("bin/cargo-fuzz");
    if !program.is_file() {
        let mut install = nightly();
        install.args(["install", "--locked", "cargo-fuzz", "--root"]).arg(&tools);
        let status = install.status().map_err(|error| format!("cargo install: {error}"))?;
        if !status.success() {
            return Err(format!("cargo install cargo-fuzz ended with {status}"));
        }
    }
    Ok(program)
}

/// The cargo of the nightly toolchain, whichever runs this.
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
const CALM: &str = "held";
const FOUND: &str = "BROKEN";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_back() {
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
        assert_eq!(tally(&log), Tally { passed: 1, failed: 1, skipped: 0 });
    }
}
