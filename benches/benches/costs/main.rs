//! Instruction and allocation costs of the hot paths, compared with checked-in figures.
//!
//! Time is noise on a busy machine; the number of instructions is not. Each path runs under valgrind's callgrind, which
//! counts only what happens in [`measured`], and its allocations are counted by a run without it.
//!
//! `cargo bench -p roomcast-benches --bench costs` compares with `benches/costs.json` and fails if a path got dearer
//! by more than the tolerance; with `-- --update` it records what it finds. `cargo xtask test` has it as the step
//! `cost guard`.

#[path = "../common/mod.rs"]
mod common;
mod figures;
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
            eprintln!("costs takes --update or nothing");
            ExitCode::FAILURE
        }
    }
}

/// Measures every path, and holds it against its figure or records it.
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
                    if update { "new" } else { "DEARER" },
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
            println!("DEARER: {steep}");
            return ExitCode::FAILURE;
        }
    }
    if update {
        return found.write().map_or_else(|error| failure(&error), |()| ExitCode::SUCCESS);
    }
    if !held {
        println!(
            "if that is meant, record it with `cargo bench -p roomcast-benches --bench costs -- --update`"
        );
    }
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn failure(error: &str) -> ExitCode {
    eprintln!("costs: {error}");
    ExitCode::FAILURE
}

/// Runs this program under callgrind on one path.
fn cost(path: &Path) -> Result<Cost, String> {
    let program = env::current_exe().map_err(|error| format!("cannot find itself: {error}"))?;
    let counted = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect=*{MEASURED}*"))
        .arg(&program)
        .args([COUNT, path.name])
        .output()
        .map_err(|error| {
            format!("cannot start valgrind: {error}; install it, on Debian by `apt-get install valgrind`")
        })?;
    let log = String::from_utf8_lossy(&counted.stderr);
    // Callgrind's last words are `Collected : NUMBER`.
    let collected =
        log.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse::<f64>().ok());
    let Some(collected) = collected.filter(|&count| counted.status.success() && count > 0.0) else {
        return Err(format!("valgrind counted nothing of {}:\n{log}", path.name));
    };
    let alone = Command::new(&program).args([COUNT, path.name]).output();
    let alone = alone.map_err(|error| format!("cannot start itself: {error}"))?;
    let printed = String::from_utf8_lossy(&alone.stdout);
    let allocations = printed.lines().find_map(|line| line.strip_prefix(ALLOCATIONS)?.parse().ok());
    let allocations = allocations.ok_or_else(|| format!("{} could not be run:\n{printed}", path.name))?;
    Ok(Cost { instructions: collected / (TURNS * path.units) as f64, allocations })
}

/// Runs a path until it has its size, and then counts its allocations for each unit of work.
fn allocations(path: &Path) -> f64 {
    let mut work = (path.prepare)();
    for _ in 0..TURNS {
        work();
    }
    let counted = allocation_counter::measure(|| measured(&mut *work));
    // Rounded, so that what happens once in a while, such as a table that grows, is seen as the little that it is.
    let each = counted.count_total as f64 / (TURNS * path.units) as f64;
    (each * 100.0).round() / 100.0
}

/// All that callgrind counts.
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
