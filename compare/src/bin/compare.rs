//! See [`roomcast_benches::compare`].

use std::process::ExitCode;

use clap::Parser as _;
use roomcast_benches::compare;

fn main() -> ExitCode {
    match compare::run(&compare::Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("compare: some runs failed and do not count");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}
