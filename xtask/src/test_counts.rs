//! Test counts, parsed from the output of test runners.

use std::ops::AddAssign;

/// Test counts by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TestCounts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl AddAssign for TestCounts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Parses `cargo test`: a `test result:` line per binary and per package's doctests.
pub(crate) fn libtest(log: &str) -> TestCounts {
    let mut sum = TestCounts::default();
    for line in log.lines().filter(|line| line.starts_with("test result:")) {
        sum += TestCounts {
            passed: number_before(line, " passed"),
            failed: number_before(line, " failed"),
            skipped: number_before(line, " ignored"),
        };
    }
    sum
}

/// Parses `node --test`: a summary with a line per outcome.
pub(crate) fn node(log: &str) -> TestCounts {
    let of = |outcome: &str| {
        let marks = ["ℹ ", "# "].map(|mark| format!("{mark}{outcome} "));
        let numbers =
            log.lines().filter_map(|line| marks.iter().find_map(|mark| line.strip_prefix(mark.as_str())));
        numbers.filter_map(|number| number.trim().parse::<u64>().ok()).sum()
    };
    TestCounts {
        passed: of("pass"),
        failed: of("fail") + of("cancelled"),
        skipped: of("skipped") + of("todo"),
    }
}

/// Parses Python's unittest: `Ran 12 tests in 3.4s`, then a verdict with the counts of failures.
pub(crate) fn unittest(log: &str) -> TestCounts {
    let ran: u64 = log.lines().filter_map(|line| line.strip_prefix("Ran ")).map(first_number).sum();
    let verdict =
        log.lines().rfind(|line| line.starts_with("OK") || line.starts_with("FAILED")).unwrap_or_default();
    let of = |outcome: &str| {
        verdict.split_once(&format!("{outcome}=")).map_or(0, |(_, number)| first_number(number))
    };
    let failed = of("failures") + of("errors");
    let skipped = of("skipped");
    TestCounts { passed: ran.saturating_sub(failed + skipped), failed, skipped }
}

/// Parses criterion's `--test`: `Success` below each benchmark.
pub(crate) fn criterion(log: &str) -> TestCounts {
    TestCounts {
        passed: log.lines().filter(|line| *line == "Success").count() as u64,
        ..TestCounts::default()
    }
}

/// Parses the cost guard: a line per path.
pub(crate) fn costs(log: &str) -> TestCounts {
    let of = |outcome: &str| log.lines().filter(|line| line.starts_with(outcome)).count() as u64;
    TestCounts { passed: of("ok: "), failed: of("REGRESSED: "), skipped: 0 }
}

/// Returns the distinct names of failed tests, from the output of any runner.
pub(crate) fn failed_names(log: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for line in log.lines().map(str::trim) {
        let libtest = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
        // The name is followed by the duration.
        let node = line.strip_prefix("✖ ").and_then(|rest| rest.rsplit_once(" (")).map(|(name, _)| name);
        let unittest = ["FAIL: ", "ERROR: "].iter().find_map(|mark| line.strip_prefix(mark));
        let costs = line.strip_prefix("REGRESSED: ");
        names.extend(libtest.or(node).or(unittest).or(costs).filter(|name| !names.contains(name)));
    }
    names
}

fn number_before(line: &str, word: &str) -> u64 {
    let Some((before, _)) = line.split_once(word) else { return 0 };
    before
        .rsplit(|character: char| !character.is_ascii_digit())
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

fn first_number(text: &str) -> u64 {
    text.split(|character: char| !character.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_counts(passed: u64, failed: u64, skipped: u64) -> TestCounts {
        TestCounts { passed, failed, skipped }
    }

    #[test]
    fn libtest_sums_binaries_and_doctests() {
        let log = "running 3 tests\n\
            test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.01s\n\
            test result: FAILED. 10 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.30s\n";
        assert_eq!(libtest(log), test_counts(13, 2, 1));
        assert_eq!(libtest("error: could not compile"), test_counts(0, 0, 0));
    }

    #[test]
    fn node_counts_cancelled_as_failed() {
        let log = "✔ pass 7 (3ms)\nℹ tests 12\nℹ pass 8\nℹ fail 1\nℹ cancelled 1\nℹ skipped 2\nℹ todo 0\n";
        assert_eq!(node(log), test_counts(8, 2, 2));
        assert_eq!(
            node("# tests 3\n# pass 2\n# fail 1\n# cancelled 0\n# skipped 0\n# todo 0\n"),
            test_counts(2, 1, 0)
        );
    }

    #[test]
    fn names_failed_tests_of_all_runners() {
        let log = "test a::passes ... ok\ntest a::breaks ... FAILED\nfailures:\n    a::breaks\n\
            ✔ holds (2ms)\n▶ suite\n  ✖ gives way (half) (12.5ms)\n✖ failing tests:\n\n✖ gives way (half) (12.5ms)\n\
            ok: cheap 3\nERROR: test_it (test_clients.Threaded)\n----\n";
        assert_eq!(failed_names(log), ["a::breaks", "gives way (half)", "test_it (test_clients.Threaded)"]);
        assert!(failed_names("no test at all").is_empty());
    }

    #[test]
    fn unittest_reads_verdict() {
        assert_eq!(unittest("Ran 12 tests in 4.934s\n\nOK\n"), test_counts(12, 0, 0));
        assert_eq!(unittest("Ran 1 test in 0.1s\n\nOK (skipped=1)\n"), test_counts(0, 0, 1));
        assert_eq!(
            unittest("Ran 12 tests in 15.1s\n\nFAILED (failures=1, errors=2, skipped=3)\n"),
            test_counts(6, 3, 3)
        );
        assert_eq!(unittest("ModuleNotFoundError"), test_counts(0, 0, 0));
    }

    #[test]
    fn costs_counts_paths() {
        let log = "ok: fan-out for a recipient: 80 instructions\nREGRESSED: echo an event: 9 instructions\nok: flat\n";
        assert_eq!(costs(log), test_counts(2, 1, 0));
    }

    #[test]
    fn criterion_counts_benchmarks() {
        assert_eq!(
            criterion("Testing fanout/64\nSuccess\nTesting fanout/1024\nSuccess\n"),
            test_counts(2, 0, 0)
        );
    }
}
