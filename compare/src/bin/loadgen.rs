//! See [`roomcast_bench::loadgen`].

use std::process::ExitCode;

use clap::Parser as _;
use roomcast_bench::loadgen;

fn main() -> ExitCode {
    let report = match loadgen::run(&loadgen::Options::parse()) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("loadgen: {error}");
            return ExitCode::FAILURE;
        }
    };
    match serde_json::to_string(&report) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("loadgen: {error}"),
    }
    if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
