//! How far it is, in one line of a terminal

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::Duration;

use roomcast_loadgen::process::now;

/// A bar that stays below what is printed; where there is no terminal, only what is printed
pub(super) struct Progress {
    begun: Duration,
    steps: usize,
    done: usize,
    shown: bool,
}

impl Progress {
    pub(super) fn new(steps: usize) -> Self {
        Self { begun: now(), steps, done: 0, shown: stderr().is_terminal() }
    }

    /// What is being done now
    pub(super) fn begin(&self, what: &str) {
        if self.shown {
            let line = bar(self.done, self.steps, now() - self.begun);
            // Nobody is hurt if it cannot be shown.
            _ = write!(stderr(), "\r\x1b[2K{line}  {what}");
        }
    }

    /// One more step is done, and this is what came of it
    pub(super) fn done(&mut self, what: &str) {
        self.done += 1;
        self.say(&format!("{}/{} {what}", self.done, self.steps));
    }

    /// A line that stays
    pub(super) fn say(&self, what: &str) {
        if self.shown {
            _ = write!(stderr(), "\r\x1b[2K");
        }
        _ = writeln!(stderr(), "{what}");
    }

    /// The share of the steps that is done
    pub(super) fn share(&self) -> f64 {
        self.done as f64 / self.steps.max(1) as f64
    }

    pub(super) fn elapsed(&self) -> Duration {
        now() - self.begun
    }
}

fn bar(done: usize, steps: usize, elapsed: Duration) -> String {
    let filled = WIDTH * done / steps.max(1);
    let mut line = format!("[{}{}] {done}/{steps}", "#".repeat(filled), ".".repeat(WIDTH - filled));
    if done > 0 {
        let left = elapsed.mul_f64((steps - done) as f64 / done as f64).as_secs();
        line += &format!(", {}:{:02} left", left / 60, left % 60);
    }
    line
}

const WIDTH: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows_and_tells_how_long_it_will_take() {
        assert_eq!(bar(0, 2, Duration::ZERO), "[..............................] 0/2");
        let half = bar(1, 2, Duration::from_secs(61));
        assert_eq!(half, "[###############...............] 1/2, 1:01 left");
        assert!(bar(2, 2, Duration::from_secs(9)).ends_with("2/2, 0:00 left"));
    }
}
