//! Checked-in figures and tolerances.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Recorded costs of a unit of work on each path.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Compiler version of the instruction counts, which differ between compilers.
    rustc: String,
    paths: BTreeMap<String, Cost>,
}

/// Cost of a unit of work.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) instructions: f64,
    pub(crate) allocations: f64,
}

impl Figures {
    pub(crate) fn of_this_compiler() -> Self {
        Self { rustc: rustc(), paths: BTreeMap::new() }
    }

    pub(crate) fn read() -> Result<Self, String> {
        let text =
            fs::read_to_string(FILE).map_err(|error| format!("cannot read benches/costs.json: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("invalid benches/costs.json: {error}"))
    }

    pub(crate) fn write(&self) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        fs::write(FILE, text + "\n").map_err(|error| format!("cannot write benches/costs.json: {error}"))
    }

    pub(crate) fn set(&mut self, path: &str, cost: Cost) {
        let instructions = cost.instructions.round();
        self.paths.insert(path.to_owned(), Cost { instructions, ..cost });
    }

    /// Compares a cost with its figure; returns a description, as an error if the cost has regressed.
    pub(crate) fn verdict(&self, path: &str, cost: Cost) -> Result<String, String> {
        let Cost { instructions, allocations } = cost;
        let words = format!("{instructions:.0} instructions, {allocations} allocations");
        let Some(recorded) = self.paths.get(path) else { return Err(format!("{words}, no recorded figure")) };
        let change = 100.0 * (instructions / recorded.instructions - 1.0);
        let words = format!("{words} ({change:+.1} %, {:+.2})", allocations - recorded.allocations);
        if allocations > recorded.allocations + ALLOCATIONS_TOLERANCE {
            return Err(words);
        }
        let rustc = rustc();
        if rustc != self.rustc {
            return Ok(format!("{words}; instructions not compared, figures are for rustc {}", self.rustc));
        }
        if change > 100.0 * INSTRUCTIONS_TOLERANCE {
            return Err(words);
        }
        Ok(words)
    }

    /// Checks that all paths cost the same; returns a description, as an error if they do not.
    pub(crate) fn flat(&self, paths: &[&str]) -> Result<String, String> {
        let costs: Vec<Cost> = paths.iter().filter_map(|path| self.paths.get(*path).copied()).collect();
        let instructions = |cost: &Cost| cost.instructions;
        let least = costs.iter().map(instructions).fold(f64::INFINITY, f64::min);
        let most = costs.iter().map(instructions).fold(0.0, f64::max);
        let words = format!("{} cost {least:.0} to {most:.0} instructions", paths.join(", "));
        if most <= least * (1.0 + FLAT_TOLERANCE) { Ok(words) } else { Err(words) }
    }
}

fn rustc() -> String {
    let output =
        Command::new("rustc").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).split(' ').nth(1).unwrap_or("unknown").to_owned()
}

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/costs.json");
/// Tolerance for random hash seeds, and for processors that copy memory differently.
const INSTRUCTIONS_TOLERANCE: f64 = 0.03;
/// Tolerance of one allocation in twenty units of work.
const ALLOCATIONS_TOLERANCE: f64 = 0.05;
/// Tolerance between 1,000 and 1,000,000 memberships.
const FLAT_TOLERANCE: f64 = 0.10;
