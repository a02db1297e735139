//! The `roomcast` command

mod demo;
mod options;
mod pages;
mod serve;
mod signals;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Real-time messaging: Socket.IO and plain WebSocket clients in the same rooms
#[derive(Parser)]
#[command(name = "roomcast", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Start a server with the demo application (this is also what happens without a command)
    Serve(Box<options::Options>),
    /// Put load on a WebSocket or Socket.IO server, yours or another's, and check every delivery
    #[cfg(target_os = "linux")]
    Bench(Box<roomcast_bench::tool::Options>),
}

fn main() -> ExitCode {
    let command = Cli::parse()
        .command
        .unwrap_or_else(|| Command::Serve(Box::new(options::Options::parse_from(["roomcast"]))));
    let outcome = match command {
        Command::Serve(options) => serve::run(&options).map(|()| true),
        #[cfg(target_os = "linux")]
        Command::Bench(options) => roomcast_bench::tool::run(&options).map_err(Into::into),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("roomcast: {error}");
            ExitCode::FAILURE
        }
    }
}
