//! `cargo xtask compare`: builds the product, the limits and the peers, and lets them run against each other.

use std::process::{Command, ExitCode};

use crate::project::{Project, cargo};

/// Fails if the product cannot be built or a run was not faultless; a peer that cannot be built is left out by name.
pub(crate) fn run(project: &Project, arguments: &[String]) -> ExitCode {
    // In one command, so that both are built on the same dependencies, once.
    let mut own = Command::new(cargo());
    own.args(["build", "--release", "--package", "roomcast-compare", "--package", "roomcast"]);
    own.args(["--bins", "--example", "fanout_server"]).current_dir(&project.root);
    if !succeeds(&mut own) {
        eprintln!("xtask: what is to be measured could not be built");
        return ExitCode::FAILURE;
    }
    // No peer is built for a comparison that does not have any.
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if !asked("--help") && !asked("-h") && !asked("--render") {
        build_peers(project);
    }
    let compare = project.target.join("release/compare");
    if succeeds(Command::new(compare).args(arguments)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The comparison reports servers that cannot be built as missing.
fn build_peers(project: &Project) {
    let peers = project.root.join("compare/peers");
    let mut rust = Command::new(cargo());
    rust.args(["build", "--release", "--locked", "--manifest-path"]).arg(peers.join("rust/Cargo.toml"));
    rust.arg("--target-dir").arg(project.target.join("peers"));
    let mut node = Command::new("npm");
    node.args(["ci", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"]);
    node.current_dir(peers.join("node"));
    for (name, command) in [("in Rust", &mut rust), ("for Node", &mut node)] {
        if !succeeds(command) {
            eprintln!("xtask: the peers written {name} could not be built, and are left out");
        }
    }
}

fn succeeds(command: &mut Command) -> bool {
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("xtask: {} could not be started: {error}", command.get_program().display());
            false
        }
    }
}
