//! See [`roomcast_loadgen::scenario`].

use std::process::ExitCode;

use clap::Parser as _;
use roomcast_loadgen::scenario;

fn main() -> ExitCode {
    let report = match scenario::run(&scenario::Options::parse()) {
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
