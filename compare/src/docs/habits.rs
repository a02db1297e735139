//! Spread of the results over the habits of the load generator.

use std::fmt::Write as _;

use roomcast_loadgen::scenario::Habit;

use super::PRODUCTS;
use super::figures::{NOT_MEASURED, wrapped};
use crate::document::{Record, base};
use crate::load::{HABIT_LOADS, Load};
use crate::summary::Summary;
use crate::table::{cpu_us, paired};

/// Results of `compare --habits`.
#[derive(Debug)]
pub(super) struct Habits<'a>(pub(super) &'a Record);

impl Habits<'_> {
    /// Returns a table with a row per habit, and the spread.
    pub(super) fn table(&self) -> String {
        let columns: Vec<(&str, &str)> = HABIT_LOADS
            .into_iter()
            .flat_map(|load| PRODUCTS.map(|server| (load, server)))
            .filter(|(load, server)| !(load.starts_with("poll-") && *server == PRODUCTS[0]))
            .collect();
        let mut text = String::from("| Habit |");
        for (load, server) in &columns {
            let protocol = if *server == PRODUCTS[0] { "plain" } else { "Socket.IO" };
            _ = write!(text, " `{load}`, {protocol} |");
        }
        _ = write!(text, "\n|{}\n", " --- |".repeat(columns.len() + 1));
        for habit in Habit::ALL {
            _ = write!(text, "| `{}` |", habit.name());
            for (load, server) in &columns {
                let cell = match (self.ratio(habit, load, server), habit) {
                    (Some(ratio), _) => ratio.text(2),
                    (None, Habit::BatchedPolls) if !load.starts_with("poll-") => "–".into(),
                    (None, _) => NOT_MEASURED.into(),
                };
                _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
        text += "| spread |";
        for (load, server) in &columns {
            let medians =
                || Habit::ALL.into_iter().filter_map(|it| self.ratio(it, load, server)).map(|it| it.median);
            let (low, high) = (medians().fold(f64::INFINITY, f64::min), medians().fold(0.0, f64::max));
            let spread =
                if high > 0.0 { format!("{:.0} %", (high / low - 1.0) * 100.0) } else { NOT_MEASURED.into() };
            _ = write!(text, " {spread} |");
        }
        text.push('\n');
        text
    }

    /// Returns date, machine and number of rounds.
    pub(super) fn source(&self) -> String {
        let Record { rounds, machine, runs, .. } = self.0;
        let noisy = runs.iter().filter(|run| run.noisy).count();
        wrapped(&format!(
            "Median of {rounds} rounds, {}; {noisy} of {} runs are noisy. {machine}.",
            self.0.date(),
            runs.len()
        ))
    }

    fn ratio(&self, habit: Habit, load: &str, server: &str) -> Option<Summary> {
        let load: Load = format!("{}-{load}", habit.name()).parse().ok()?;
        let name = load.to_string();
        paired(self.0.runs.iter().filter(|run| run.load == name), server, base(&load), cpu_us)
    }
}
