//! See [`roomcast_compare::limit`].

use std::process::ExitCode;

use clap::Parser as _;
use roomcast_compare::limit;

fn main() -> ExitCode {
    let Err(error) = limit::run(&limit::Options::parse());
    eprintln!("limit: {error}");
    ExitCode::FAILURE
}
