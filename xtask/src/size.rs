//! `cargo xtask size`: size of the command as it is deployed.

use std::fs;
use std::process::{Command, ExitCode};

use crate::process::succeed;
use crate::project::{Project, cargo};

/// Limit of the stripped binary, in bytes.
const LIMIT: u64 = 10_000_000;

/// Builds the command as `docs/production.md` says, with its default features and jemalloc, and compares its stripped
/// size with the limit.
pub(crate) fn run(project: &Project) -> ExitCode {
    match stripped_size(project) {
        Ok(size) if size <= LIMIT => {
            println!("{size} bytes stripped, {} % of the limit of {LIMIT}", percent(size));
            ExitCode::SUCCESS
        }
        Ok(size) => {
            eprintln!("{size} bytes stripped, {} % of the limit of {LIMIT}", percent(size));
            ExitCode::FAILURE
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn percent(size: u64) -> u64 {
    size * 100 / LIMIT
}

fn stripped_size(project: &Project) -> Result<u64, String> {
    let mut build = Command::new(cargo());
    build.args(["build", "--profile", "dist", "--package", "roomcast-cli"]);
    build.args(["--features", "jemalloc"]).current_dir(&project.root);
    succeed(&mut build)?;
    // A copy: the binary keeps its line tables for profilers.
    let folder = project.target.join("xtask");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let stripped = folder.join("roomcast.stripped");
    succeed(
        Command::new("strip").arg("-o").arg(&stripped).arg(project.target.join("dist").join("roomcast")),
    )?;
    let found = fs::metadata(&stripped).map_err(|error| format!("{}: {error}", stripped.display()))?;
    Ok(found.len())
}
