//! `cargo xtask platforms`: compiles for other systems on this one.

use std::process::{Command, ExitCode};

use crate::process::succeed;
use crate::project::{Project, cargo};

/// Targets of macOS and Windows.
const TARGETS: [&str; 2] = ["aarch64-apple-darwin", "x86_64-pc-windows-gnu"];
/// Libraries that the command does not use without its default features. TLS and Redis connections contain C code, and
/// need a compiler for the target.
const LIBRARIES: [&str; 5] = [
    "roomcast-cluster-node",
    "roomcast-cluster-runtime",
    "roomcast-socketio-msgpack",
    "roomcast-testkit",
    "roomcast-transport-polling",
];

/// Compiles the libraries, and the command without its default features.
pub(crate) fn run(project: &Project) -> ExitCode {
    match TARGETS.iter().try_for_each(|target| check(project, target)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn check(project: &Project, target: &str) -> Result<(), String> {
    println!("{target}");
    let checked = |arguments: &[&str]| {
        let mut command = Command::new(cargo());
        command.args(["check", "--target", target]).args(arguments).current_dir(&project.root);
        succeed(&mut command)
            .map_err(|error| format!("{error}; the target is installed with `rustup target add {target}`"))
    };
    checked(&["--package", "roomcast-cli", "--no-default-features"])?;
    let packages: Vec<_> = LIBRARIES.iter().flat_map(|name| ["--package", name]).collect();
    checked(&packages)
}
