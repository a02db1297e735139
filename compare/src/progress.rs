//! Progress of a comparison, in one line of a terminal.

use std::io::{Write as _, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use roomcast_loadgen::process::now;

/// Progress bar below the printed lines; without a terminal, only the lines.
pub(super) struct Progress {
    begun: Duration,
    bar: ProgressBar,
}

impl Progress {
    /// Returns a bar on standard error.
    pub(super) fn new(steps: usize) -> Self {
        Self::on(ProgressDrawTarget::stderr(), steps)
    }

    fn on(target: ProgressDrawTarget, steps: usize) -> Self {
        let style = ProgressStyle::with_template(TEMPLATE).expect("a constant template is valid");
        let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
        bar.set_style(style.progress_chars("#."));
        Self { begun: now(), bar }
    }

    /// Sets the current step.
    pub(super) fn begin(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// Completes a step and prints its result.
    pub(super) fn done(&self, what: &str) {
        self.bar.inc(1);
        self.say(&format!("{}/{} {what}", self.bar.position(), self.bar.length().unwrap_or(0)));
    }

    /// Prints a line above the bar.
    pub(super) fn say(&self, what: &str) {
        // A closed standard error must not stop the comparison.
        self.bar.suspend(|| _ = writeln!(stderr(), "{what}"));
    }

    /// Returns the share of completed steps.
    pub(super) fn share(&self) -> f64 {
        self.bar.position() as f64 / self.bar.length().unwrap_or(0).max(1) as f64
    }

    pub(super) fn elapsed(&self) -> Duration {
        now() - self.begun
    }
}

const TEMPLATE: &str = "[{bar:30}] {pos}/{len}, {eta} left  {msg}";

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::*;

    #[test]
    fn draws_bar_below_lines() {
        let terminal = InMemoryTerm::new(24, 100);
        let progress = Progress::on(ProgressDrawTarget::term_like(Box::new(terminal.clone())), 2);
        progress.begin("round 1");
        let picture = terminal.contents();
        assert!(picture.starts_with("[..............................] 0/2, "), "{picture}");
        assert!(picture.ends_with(" left  round 1"), "{picture}");
        progress.done("1.0");
        progress.begin("round 2");
        let picture = terminal.contents();
        assert!(picture.starts_with("[###############...............] 1/2, "), "{picture}");
        assert!((0.5..0.51).contains(&progress.share()));
    }

    #[test]
    fn draws_no_bar_without_terminal() {
        let progress = Progress::on(ProgressDrawTarget::hidden(), 2);
        progress.begin("round 1");
        progress.done("1.0");
        assert!(progress.bar.is_hidden());
        assert!((0.5..0.51).contains(&progress.share()));
    }
}
