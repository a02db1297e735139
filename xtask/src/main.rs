//! Development tasks: `cargo xtask test`, `ci`, and commands for single long-running checks.
//!
//! A command is a list of steps (`plan`). Each step finds or installs its prerequisites (`prerequisite`), runs with its
//! output in a log (`run`), and is reported in one table (`report`). Unix only: a step's child processes end with it
//! (`process`).

#![allow(clippy::disallowed_methods, reason = "steps are timed by the wall clock")]

mod autobahn;
mod compare;
mod debian_archive;
mod fuzz;
mod layers;
mod packages;
mod plan;
mod platforms;
mod prerequisite;
mod process;
mod project;
mod report;
mod run;
mod server;
mod size;
mod soak;
mod test_counts;
mod two_nodes;
mod wording;

use std::process::ExitCode;

use clap::{Args, Parser};

use crate::plan::Step;
use crate::project::Project;

/// Development tasks of the project
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
enum Cli {
    /// Run all tests: Rust tests, real clients, and a browser
    Test(Options),
    /// Run all pre-merge checks: formatting, lints, documentation, and all tests
    Ci(Options),
    /// Run the Autobahn testsuite against the echo of `conformance_server`
    Autobahn(AutobahnOptions),
    /// Run libFuzzer on the targets in `fuzz`, with the nightly toolchain
    Fuzz(FuzzOptions),
    /// Connect and disconnect clients in every way, and check the server's memory and descriptors for leaks
    Soak(SoakOptions),
    /// Compare with other servers and with the physical limit, and write the results to docs; takes up to 30 minutes
    ///
    /// Builds all servers first. Arguments are passed to the comparison; see `cargo xtask compare --help`.
    #[command(disable_help_flag = true)]
    Compare {
        /// Arguments of the comparison
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Regenerate the report and the figures of all documents from docs/benchmarks/results.json
    Results {
        /// Only compare them, and fail if they differ
        #[arg(long)]
        check: bool,
    },
    /// Package the public crates as for a release, and run their tests in the unpacked packages
    Packages(packages::Options),
    /// Follow the tutorial in an empty folder: build, start and use its program after each section
    Tutorial,
    /// Build the command with the profile `dist`, and fail if it is larger than 10 MB stripped
    Size,
    /// Compile the libraries and the command for macOS and Windows, without TLS and Redis
    Platforms,
    /// Run two servers on one Redis behind a load balancer with sticky sessions; needs redis-server
    TwoNodes(two_nodes::Options),
    /// Check layers and import cycles against the tables of ARCHITECTURE.md
    Layers,
    /// Count the phrases of `xtask/wording.txt` in comments and Markdown
    Wording,
    /// Command of the step `soak`.
    #[command(hide = true)]
    SoakClients(SoakOptions),
    /// Command of the step `autobahn`.
    #[command(hide = true)]
    AutobahnCases { cases: Vec<String> },
    /// Command of the step `fuzz`.
    #[command(hide = true)]
    FuzzTargets(FuzzOptions),
}

#[derive(Debug, Args)]
struct SoakOptions {
    /// Number of clients
    #[arg(long, default_value_t = 200_000)]
    clients: u64,
}

#[derive(Debug, Args)]
struct FuzzOptions {
    /// Targets to run; default: all
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Seconds per target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

#[derive(Debug, Args)]
struct AutobahnOptions {
    /// Cases such as 6.4.1 or 9.*, separated by commas; default: all 517, of which the 216 with compression take most
    /// of an hour
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "*")]
    cases: Vec<String>,
    /// Install missing prerequisites with apt-get (Python 2.7 from Debian bullseye)
    #[arg(long)]
    install: bool,
}

#[derive(Debug, Args)]
struct Options {
    /// Steps to run, with the steps they depend on; default: all
    #[arg(value_name = "STEP")]
    only: Vec<String>,
    /// Install missing prerequisites with apt-get, through sudo if needed (Node, Chromium, Python, Valgrind, OpenSSL
    /// headers); the default for root on Debian and Ubuntu
    #[arg(long)]
    install: bool,
    /// Skip slow steps
    #[arg(long)]
    quick: bool,
    /// List the steps without running them
    #[arg(long)]
    list: bool,
}

impl Options {
    /// Returns the options of a separate command for one step.
    fn only(step: &str, install: bool) -> Self {
        Self { only: vec![step.into()], install, quick: false, list: false }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let project = match Project::locate() {
        Ok(project) => project,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let (options, steps) = match cli {
        Cli::Test(options) => (options, plan::tests(&project)),
        Cli::Ci(options) => {
            (options, plan::checks(&project).into_iter().chain(plan::tests(&project)).collect())
        }
        Cli::Autobahn(chosen) => {
            let options = Options::only("autobahn", chosen.install);
            let steps = plan::tests(&project).into_iter().map(|step| match step.name {
                "autobahn" => plan::autobahn(&project, &chosen.cases),
                _ => step,
            });
            (options, steps.collect())
        }
        Cli::Soak(chosen) => {
            let steps = plan::tests(&project).into_iter().map(|step| match step.name {
                "soak" => plan::soak(&project, chosen.clients),
                _ => step,
            });
            (Options::only("soak", false), steps.collect())
        }
        Cli::Tutorial => (Options::only("tutorial", false), plan::tests(&project)),
        Cli::Compare { arguments } => return compare::run(&project, &arguments),
        Cli::Results { check } => return compare::results(&project, check),
        Cli::Packages(options) => return packages::run(&project, options),
        Cli::Size => return size::run(&project),
        Cli::Platforms => return platforms::run(&project),
        Cli::TwoNodes(options) => return two_nodes::run(&project, &options),
        Cli::Layers => return layers::run(&project),
        Cli::Wording => return wording::run(&project),
        Cli::SoakClients(chosen) => return soak::run(&project, chosen.clients),
        Cli::Fuzz(chosen) => {
            (Options::only("fuzz", false), vec![plan::fuzz(&project, chosen.seconds, &chosen.targets)])
        }
        Cli::FuzzTargets(chosen) => return fuzz::run(&project, chosen.seconds, &chosen.targets),
        Cli::AutobahnCases { cases } => return autobahn::run(&project, &cases),
    };
    let steps = match plan::only(steps, &options.only) {
        Ok(steps) => steps,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if options.list {
        list(&steps);
        return ExitCode::SUCCESS;
    }
    run::run(&project, steps, &options)
}

fn list(steps: &[Step]) {
    for step in steps {
        println!("{}: {}", step.name, step.about);
    }
}
