//! Report of the steps: progress, the table at the end, and the exit code.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::test_counts::{self, TestCounts};

/// Result of a step.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) time: Duration,
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Passed {
        test_counts: TestCounts,
        excerpt: String,
    },
    Failed {
        reason: String,
        test_counts: TestCounts,
        log: PathBuf,
    },
    /// Skipped; always reported.
    NotRun {
        reason: String,
        remedy: String,
    },
}

impl Outcome {
    pub(crate) fn not_run(reason: &str, remedy: &str) -> Self {
        Self::NotRun { reason: reason.into(), remedy: remedy.into() }
    }

    pub(crate) fn failed(reason: String, log: PathBuf) -> Self {
        Self::Failed { reason, test_counts: TestCounts::default(), log }
    }

    /// Returns test counts; a step without counts that failed or did not run counts as one test.
    fn test_counts(&self) -> TestCounts {
        match self {
            Self::Passed { test_counts, .. } => *test_counts,
            Self::Failed { test_counts, .. } => {
                TestCounts { failed: test_counts.failed.max(1), ..*test_counts }
            }
            Self::NotRun { .. } => TestCounts { skipped: 1, ..TestCounts::default() },
        }
    }
}

pub(crate) fn print_begin(name: &str) {
    println!("{name} …");
    // A failed flush only delays the line.
    let _ = io::stdout().flush();
}

/// Prints the result of a step; for a failure also the end of its log and the failed tests.
pub(crate) fn print_step(row: &Row) {
    if let Outcome::Failed { log, .. } = &row.outcome {
        let printed = fs::read(log).unwrap_or_default();
        let printed = String::from_utf8_lossy(&printed);
        let lines: Vec<_> = printed.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL)..];
        println!("{}", tail.iter().map(|line| format!("  | {line}\n")).collect::<String>());
        // Failed tests may be above the tail, and the log may not be available to the reader.
        test_counts::failed_names(&printed).iter().take(NAMES).for_each(|name| println!("  failed: {name}"));
    }
    if let Outcome::Passed { excerpt, .. } = &row.outcome {
        excerpt.lines().for_each(|line| println!("  {line}"));
    }
    println!("{}: {}\n", row.name, described(row));
}

/// Prints the table and the totals; returns the exit code.
pub(crate) fn print(rows: &[Row], in_ci: bool) -> ExitCode {
    let name = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut total = TestCounts::default();
    for row in rows {
        println!("{:name$}  {:>10}  {}", row.name, time(row), described(row));
        total += row.outcome.test_counts();
    }
    let failed = rows.iter().any(|row| matches!(row.outcome, Outcome::Failed { .. }));
    let not_run = rows.iter().any(|row| matches!(row.outcome, Outcome::NotRun { .. }));
    if not_run && in_ci {
        println!("\nCI=true: a step that did not run counts as failed");
    }
    println!("\n{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    if failed || (not_run && in_ci) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn described(row: &Row) -> String {
    match &row.outcome {
        Outcome::Passed { test_counts, .. } if *test_counts == TestCounts::default() => "ran".into(),
        Outcome::Passed { test_counts, .. } => format!("ran      {}", counts(*test_counts)),
        Outcome::Failed { reason, test_counts, log } => {
            let counts = if *test_counts == TestCounts::default() {
                String::new()
            } else {
                format!("{}; ", counts(*test_counts))
            };
            format!("FAILED   {counts}{reason}; log: {}", log.display())
        }
        Outcome::NotRun { reason, remedy } => format!("NOT RUN  {reason}; remedy: {remedy}"),
    }
}

fn counts(test_counts: TestCounts) -> String {
    let parts =
        [(test_counts.passed, "passed"), (test_counts.failed, "failed"), (test_counts.skipped, "skipped")];
    let told: Vec<_> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(n, word)| format!("{n} {word}")).collect();
    told.join(", ")
}

fn time(row: &Row) -> String {
    match row.outcome {
        Outcome::NotRun { .. } => "–".into(),
        _ => format!("{:.1} s", row.time.as_secs_f64()),
    }
}

/// Maximum number of log lines shown for a failed step.
const TAIL: usize = 80;
/// Maximum number of failed tests listed.
const NAMES: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn row(outcome: Outcome) -> Row {
        Row { name: "step", time: Duration::from_millis(1234), outcome }
    }

    fn passed(passed: u64, skipped: u64) -> Row {
        row(Outcome::Passed {
            test_counts: TestCounts { passed, failed: 0, skipped },
            excerpt: String::new(),
        })
    }

    #[test]
    fn describes_each_outcome() {
        assert_eq!(described(&passed(3, 1)), "ran      3 passed, 1 skipped");
        assert_eq!(described(&passed(0, 0)), "ran");
        assert_eq!(time(&passed(1, 0)), "1.2 s");
        assert_eq!(
            described(&row(Outcome::not_run("no node", "install it"))),
            "NOT RUN  no node; remedy: install it"
        );
        let test_counts = TestCounts { passed: 2, failed: 1, skipped: 0 };
        let failed = Outcome::Failed { reason: "tests failed".into(), test_counts, log: "x.log".into() };
        assert_eq!(described(&row(failed)), "FAILED   2 passed, 1 failed; tests failed; log: x.log");
    }

    #[test]
    fn counts_failed_step_without_tests() {
        assert_eq!(Outcome::failed("broken".into(), "x.log".into()).test_counts().failed, 1);
        assert_eq!(Outcome::not_run("no node", "install it").test_counts().skipped, 1);
        assert_eq!(passed(5, 0).outcome.test_counts(), TestCounts { passed: 5, failed: 0, skipped: 0 });
    }

    #[test]
    fn exit_code_follows_worst_row() {
        let code = |rows: &[Row], in_ci| format!("{:?}", print(rows, in_ci));
        let (good, bad) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::FAILURE));
        let not_run = || row(Outcome::not_run("no node", "install it"));
        assert_eq!(code(&[passed(1, 0)], true), good);
        assert_eq!(code(&[passed(1, 0), not_run()], false), good);
        assert_eq!(code(&[passed(1, 0), not_run()], true), bad);
        assert_eq!(code(&[row(Outcome::failed("broken".into(), "x.log".into())), passed(1, 0)], false), bad);
    }
}
