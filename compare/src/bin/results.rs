//! See [`roomcast_compare::docs`].

use std::process::ExitCode;

use clap::Parser as _;
use roomcast_compare::docs::{Options, results};

fn main() -> ExitCode {
    match results(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("results: {error}");
            ExitCode::FAILURE
        }
    }
}
