//! See [`roomcast_compare`].

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match roomcast_compare::run(&roomcast_compare::Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("compare: some runs failed and are not counted");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}
