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
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Start a server with the demo application (this is also what happens without a command)
    Serve(options::Options),
}

fn main() -> ExitCode {
    let Command::Serve(options) =
        Cli::parse().command.unwrap_or_else(|| Command::Serve(options::Options::parse_from(["roomcast"])));
    match serve::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roomcast: {error}");
            ExitCode::FAILURE
        }
    }
}
