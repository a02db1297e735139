//! The commands of the project itself: `cargo xtask test`, `ci`, and those that do one thing at length
//!
//! A command is a list of steps (`plan`), each run with its output in a log (`run`), after what it needs from the
//! machine is found or installed (`need`), and told in one table (`report`). Unix only: what a step starts is ended
//! with it (`process`).

#![allow(clippy::disallowed_methods, reason = "steps are timed by the clock on the wall")]

mod autobahn;
mod bullseye;
mod compare;
mod fuzz;
mod layers;
mod need;
mod plan;
mod process;
mod project;
mod report;
mod run;
mod server;
mod soak;
mod tally;
mod wording;

use std::process::ExitCode;

use clap::{Args, Parser};

use crate::plan::Step;
use crate::project::Project;

/// The commands of the project itself
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
enum Cli {
    /// Run every test: in Rust, with real clients, in a browser
    Test(Options),
    /// Run what has to hold before a change goes in: formatting, lints, documentation, then every test
    Ci(Options),
    /// Run Autobahn|Testsuite against the echo of `conformance_server`
    Autobahn(AutobahnOptions),
    /// Run libFuzzer on the targets in `fuzz`, with the nightly toolchain
    Fuzz(FuzzOptions),
    /// Let clients come and go in every way there is, and watch the server's memory and descriptors
    Soak(SoakOptions),
    /// Compare with other servers and with the physical limit, and write docs/benchmarks; takes up to 30 minutes
    ///
    /// Builds all of them first. What stands behind it goes to the comparison: `--quick`, `--only`, `--scenarios`,
    /// `--rounds`, `--server` and more, as `cargo xtask compare --help` says.
    #[command(disable_help_flag = true)]
    Compare {
        /// For the comparison
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check that no import runs upwards and no new circle of files came, by the tables of ARCHITECTURE.md
    Layers,
    /// Count phrases of `xtask/wording.txt` in comments and Markdown.
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
    /// How many
    #[arg(long, default_value_t = 200_000)]
    clients: u64,
}

#[derive(Debug, Args)]
struct FuzzOptions {
    /// Only these targets; default: all
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each of them is run
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

#[derive(Debug, Args)]
struct AutobahnOptions {
    /// Cases such as 6.4.1 or 9.*, by commas; default: all 517, most of an hour for the 216
    /// with compression; the test command runs the other 301 and a dozen of them
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "*")]
    cases: Vec<String>,
    /// Install what is missing (Python 2.7 from Debian's bullseye) with apt-get, as `cargo xtask test` does
    #[arg(long)]
    install: bool,
}

#[derive(Debug, Args)]
struct Options {
    /// Run only these steps, and those they stand on; default: all
    #[arg(value_name = "STEP")]
    only: Vec<String>,
    /// Install what is missing (Node, Chromium, Python, Valgrind, OpenSSL's headers) with apt-get, through sudo where needed.
    /// Done without asking for root on Debian and Ubuntu
    #[arg(long)]
    install: bool,
    /// Leave out the steps that take long and seldom tell something new
    #[arg(long)]
    quick: bool,
    /// Only list the steps, do nothing
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
        Cli::Compare { arguments } => return compare::run(&project, &arguments),
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
