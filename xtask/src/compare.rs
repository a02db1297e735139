//! `cargo xtask compare`: builds Roomcast, the limit servers and the peers, and runs the comparison.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::project::{Project, cargo};

/// Fails if Roomcast cannot be built or a run has faults; a peer that cannot be built is skipped with a message.
pub(crate) fn run(project: &Project, arguments: &[String]) -> ExitCode {
    // One command, so that shared dependencies are built once.
    let mut own = Command::new(cargo());
    own.args(["build", "--profile", "dist", "--package", "roomcast-compare", "--package", "roomcast"]);
    own.args(["--package", "roomcast-backplane-redis", "--features", "roomcast/redis", "--bins"])
        .current_dir(&project.root);
    own.args(["--example", "fanout_server", "--example", "cluster_fanout", "--example", "bare_client"]);
    if !succeeds(&mut own) {
        eprintln!("xtask: the servers under test could not be built");
        return ExitCode::FAILURE;
    }
    // These modes run no peers.
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if !asked("--help") && !asked("-h") && !asked("--render") {
        build_tls(project);
        build_peers(project);
    }
    let compare = project.target.join("dist/compare");
    if succeeds(Command::new(compare).args(arguments)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Regenerates the figures of the documents, or checks them.
pub(crate) fn results(project: &Project, check: bool) -> ExitCode {
    let mut command = results_command();
    command.args(check.then_some("--check")).current_dir(&project.root);
    if succeeds(&mut command) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns the command that generates the figures of the documents.
pub(crate) fn results_command() -> Command {
    let mut command = Command::new(cargo());
    command.args(["run", "--quiet", "--package", "roomcast-compare", "--bin", "results", "--"]);
    command
}

/// Builds the example server with TLS in its own folder, so that the one without TLS is built without its code.
///
/// The comparison reports it as missing if it cannot be built.
fn build_tls(project: &Project) {
    let mut tls = Command::new(cargo());
    tls.args([
        "build",
        "--profile",
        "dist",
        "--package",
        "roomcast",
        "--features",
        "tls",
        "--example",
        "fanout_server",
    ]);
    tls.arg("--target-dir").arg(project.target.join("tls")).current_dir(&project.root);
    if !succeeds(&mut tls) {
        eprintln!("xtask: the server with TLS could not be built and is skipped");
    }
}

/// Returns the command that installs the packages of the Node peers.
pub(crate) fn node_packages(root: &Path) -> Command {
    let mut command = Command::new("npm");
    command.args(["ci", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"]);
    command.current_dir(root.join("compare/peers/node"));
    command
}

/// Builds the peers; the comparison reports a peer that cannot be built as missing.
fn build_peers(project: &Project) {
    let peers = project.root.join("compare/peers");
    let mut rust = Command::new(cargo());
    // A peer that does not build must not prevent the others.
    rust.args(["build", "--release", "--locked", "--keep-going", "--manifest-path"])
        .arg(peers.join("rust/Cargo.toml"));
    rust.arg("--target-dir").arg(project.target.join("peers"));
    let mut node = node_packages(&project.root);
    for (name, built) in [
        ("in Rust", succeeds(&mut rust)),
        ("for Node", succeeds(&mut node)),
        ("for Python", install_python_peers(project)),
    ] {
        if !built {
            eprintln!("xtask: peers {name} could not be built and are skipped");
        }
    }
}

/// Installs the Python peers into a virtual environment; marks it as ready if their native library can be loaded.
fn install_python_peers(project: &Project) -> bool {
    let (peers, venv) = (project.root.join("compare/peers/python"), project.target.join("peers/python"));
    let (python, ready) = (venv.join("bin/python"), venv.join("ready"));
    let Ok(requirements) = fs::read_to_string(peers.join("requirements.txt")) else { return false };
    if fs::read_to_string(&ready).is_ok_and(|installed| installed == requirements) {
        return true;
    }
    let mut create = Command::new("python3");
    create.args(["-m", "venv"]).arg(&venv);
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    install.arg(peers.join("requirements.txt"));
    let mut load = Command::new(&python);
    load.args(["-c", "import socketify"]);
    succeeds(&mut create)
        && succeeds(&mut install)
        && succeeds(&mut load)
        && fs::write(ready, requirements).is_ok()
}

fn succeeds(command: &mut Command) -> bool {
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("xtask: cannot start {}: {error}", command.get_program().display());
            false
        }
    }
}
