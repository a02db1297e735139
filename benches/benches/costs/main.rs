//! Instruction and allocation costs of the hot paths, compared with checked-in figures.
//!
//! On a busy machine times are noisy, but instruction counts are not. Each path runs under valgrind's callgrind, which
//! counts only in [`measured`]; a second run without valgrind counts the allocations.
//!
//! `cargo bench -p roomcast-benches --bench costs` compares with `benches/costs.json` and fails if a path regresses
//! beyond the tolerance; `-- --update` records new figures. It is the step `cost guard` of `cargo xtask test`.

#[path = "../common/mod.rs"]
mod common;
mod figures;
mod nodes;
mod paths;

use std::env;
use std::process::{Command, ExitCode};

use figures::{Cost, Figures};
use paths::{PATHS, Path, ROOMS};

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [COUNT, name] => {
            if let Some(path) = PATHS.iter().find(|path| path.name == name) {
                println!("{ALLOCATIONS}{}", allocations(path));
            }
            ExitCode::SUCCESS
        }
        // `cargo bench -- --test` requires each benchmark to run.
        ["--test"] => {
            for path in PATHS {
                println!("{}: {} allocations", path.name, allocations(path));
            }
            ExitCode::SUCCESS
        }
        [] => guard(false),
        ["--update"] => guard(true),
        _ => {
            eprintln!("usage: costs [--update]");
            ExitCode::FAILURE
        }
    }
}

/// Measures every path, and compares it with its figure or records it.
fn guard(update: bool) -> ExitCode {
    let recorded = match Figures::read() {
        Ok(figures) => figures,
        Err(_) if update => Figures::default(),
        Err(error) => return failure(&error),
    };
    let mut found = Figures::of_this_compiler();
    let mut held = true;
    for path in PATHS {
        let cost = match cost(path) {
            Ok(cost) => cost,
            Err(error) => return failure(&error),
        };
        match recorded.verdict(path.name, cost) {
            Ok(verdict) => println!("ok: {} for {}: {verdict}", path.name, path.unit),
            Err(verdict) => {
                println!(
                    "{}: {} for {}: {verdict}",
                    if update { "new" } else { "REGRESSED" },
                    path.name,
                    path.unit
                );
                held = false;
            }
        }
        found.set(path.name, cost);
    }
    match found.flat(&ROOMS) {
        Ok(flat) => println!("ok: {flat}"),
        Err(steep) => {
            println!("REGRESSED: {steep}");
            return ExitCode::FAILURE;
        }
    }
    if update {
        return found.write().map_or_else(|error| failure(&error), |()| ExitCode::SUCCESS);
    }
    if !held {
        println!(
            "if intended, record the figures with `cargo bench -p roomcast-benches --bench costs -- --update`"
        );
    }
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn failure(error: &str) -> ExitCode {
    eprintln!("costs: {error}");
    ExitCode::FAILURE
}

/// Measures a path: runs this program under callgrind, and again to count allocations.
fn cost(path: &Path) -> Result<Cost, String> {
    let program = env::current_exe().map_err(|error| format!("cannot find itself: {error}"))?;
    let counted = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect=*{MEASURED}*"))
        .arg(&program)
        .args([COUNT, path.name])
        .output()
        .map_err(|error| {
            format!("cannot start valgrind: {error}; on Debian, run `apt-get install valgrind`")
        })?;
    let log = String::from_utf8_lossy(&counted.stderr);
    // Callgrind prints `Collected : NUMBER` at the end.
    let collected =
        log.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse::<f64>().ok());
    let Some(collected) = collected.filter(|&count| counted.status.success() && count > 0.0) else {
        return Err(format!("valgrind counted no instructions of {}:\n{log}", path.name));
    };
    let alone = Command::new(&program).args([COUNT, path.name]).output();
    let alone = alone.map_err(|error| format!("cannot start itself: {error}"))?;
    let printed = String::from_utf8_lossy(&alone.stdout);
    let allocations = printed.lines().find_map(|line| line.strip_prefix(ALLOCATIONS)?.parse().ok());
    let allocations = allocations.ok_or_else(|| format!("cannot run {}:\n{printed}", path.name))?;
    Ok(Cost { instructions: collected / (TURNS * path.units) as f64, allocations })
}

/// Warms a path up, then counts its allocations per unit of work.
fn allocations(path: &Path) -> f64 {
    let mut work = (path.prepare)();
    for _ in 0..TURNS {
        work();
    }
    let counted = allocation_counter::measure(|| measured(&mut *work));
    // Rounded, so that rare allocations, such as the growth of a table, do not matter.
    let each = counted.count_total as f64 / (TURNS * path.units) as f64;
    (each * 100.0).round() / 100.0
}

/// Runs the work; callgrind counts only this function.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    for _ in 0..TURNS {
        work();
    }
}

const MEASURED: &str = "costs::measured";
const COUNT: &str = "count";
const ALLOCATIONS: &str = "allocations ";
const TURNS: usize = 100;
