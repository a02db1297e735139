//! The `roomcast` command.

mod address;
mod cause;
mod demo;
mod log;
mod options;
mod output;
mod pages;
mod serve;
mod signals;
mod sources;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::sources::Sources;

/// jemalloc: its threads return pages unused for ten seconds to the system. After 8,000 clients with long headers
/// (83 MiB) disconnect, it keeps 17 MiB, and glibc 80 MiB. mimalloc 3 builds in seconds, but took a fifth more memory
/// for an idle connection, and kept more of it after 4,000 of them.
#[cfg(all(feature = "jemalloc", target_os = "linux"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Real-time messaging: Socket.IO and plain WebSocket clients in the same rooms
///
/// Without a command, `serve` runs: `roomcast --addr :3000` is `roomcast serve --addr :3000`.
#[derive(Parser)]
#[command(name = "roomcast", version = VERSION, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Version, commit and build parameters, for bug reports.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("ROOMCAST_BUILD_COMMIT"),
    ", ",
    env!("ROOMCAST_BUILD_PROFILE"),
    " build for ",
    env!("ROOMCAST_BUILD_TARGET"),
    ", rustc ",
    env!("ROOMCAST_BUILD_RUSTC"),
    ")"
);

#[derive(Subcommand)]
enum Command {
    /// Run a server with the demo application (default)
    Serve(Box<options::Options>),
    /// Load-test a WebSocket or Socket.IO server and verify every delivery
    #[cfg(target_os = "linux")]
    Bench(Box<roomcast_loadgen::tool::Options>),
}

fn main() -> ExitCode {
    let words = with_command(std::env::args_os().collect());
    let matches = match Cli::command().try_get_matches_from(&words) {
        Ok(matches) => matches,
        Err(error) => return explain(&error, &words),
    };
    let command = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli.command,
        Err(error) => return explain(&error, &words),
    };
    let outcome = match command {
        Command::Serve(options) => {
            let none = ArgMatches::default();
            let sources = Sources(matches.subcommand_matches("serve").unwrap_or(&none));
            serve::run(&options, &sources).map(|()| true)
        }
        #[cfg(target_os = "linux")]
        Command::Bench(options) => roomcast_loadgen::tool::run(&options).map_err(Into::into),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Standard error may be closed, or a pipe without a reader.
            if let Ok(output) = output::Output::start("error", std::io::stderr(), |_| {}, |_| {}) {
                output.push(format!("roomcast: {}\n", cause::with_causes(error.as_ref())).as_bytes());
                output.flush(log::PATIENCE);
            }
            ExitCode::FAILURE
        }
    }
}

/// Inserts `serve` if the command line names no command.
fn with_command(mut words: Vec<OsString>) -> Vec<OsString> {
    let first = words.get(1).map(|word| word.to_string_lossy().into_owned());
    let serves = match first.as_deref() {
        None => true,
        Some("--help" | "--version") => false,
        Some(word) => word.starts_with("--"),
    };
    if serves {
        words.insert(words.len().min(1), "serve".into());
    }
    words
}

/// Prints the help, or a usage error and the environment variables behind it.
fn explain(error: &clap::Error, words: &[OsString]) -> ExitCode {
    // A closed pipe cannot be reported.
    let _ = error.print();
    let command = Cli::command();
    let subcommand = words.get(1).and_then(|word| command.find_subcommand(word));
    if let Some(note) = subcommand.and_then(|subcommand| sources::variables(error, subcommand, words)) {
        eprintln!("{note}");
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serves_without_command() {
        let with = |words: &[&str]| {
            let words = with_command(words.iter().map(OsString::from).collect());
            words.into_iter().map(|word| word.into_string().expect("text")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(with(&["roomcast"]), "roomcast serve");
        assert_eq!(with(&["roomcast", "--addr", ":1"]), "roomcast serve --addr :1");
        assert_eq!(with(&["roomcast", "--max-rooms=1"]), "roomcast serve --max-rooms=1");
        for same in [
            "roomcast serve --addr :1",
            "roomcast bench ws://h",
            "roomcast --help",
            "roomcast -h",
            "roomcast -V",
            "roomcast --version",
            "roomcast help",
        ] {
            assert_eq!(with(&same.split(' ').collect::<Vec<_>>()), same);
        }
    }
}
