//! Runs the steps of a command in order and collects their results.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::Options;
use crate::plan::Step;
use crate::prerequisite::{Missing, Prerequisite};
use crate::process::{self, Ended};
use crate::project::Project;
use crate::report::{self, Outcome, Row};

/// Runs the steps and prints the report. Fails if a step fails, and in CI also if a step does not run.
pub(crate) fn run(project: &Project, steps: Vec<Step>, options: &Options) -> ExitCode {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&interrupted)) {
            eprintln!("cannot watch for signals: {error}");
            return ExitCode::FAILURE;
        }
    }
    let mut runner = Runner { project, options, interrupted, needs: HashMap::new(), rows: Vec::new() };
    for step in steps {
        runner.take(step);
    }
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    report::print(&runner.rows, in_ci)
}

struct Runner<'a> {
    project: &'a Project,
    options: &'a Options,
    interrupted: Arc<AtomicBool>,
    /// Results of prerequisites, so that none is installed twice.
    needs: HashMap<&'static str, Found>,
    rows: Vec<Row>,
}

type Found = Result<Vec<(&'static str, OsString)>, Missing>;

impl Runner<'_> {
    fn take(&mut self, mut step: Step) {
        let started = Instant::now();
        let outcome = self.outcome(&mut step).unwrap_or_else(|error| {
            Outcome::failed(format!("cannot run: {error}"), self.project.log(step.name))
        });
        let row = Row { name: step.name, time: started.elapsed(), outcome };
        report::print_step(&row);
        self.rows.push(row);
    }

    fn outcome(&mut self, step: &mut Step) -> io::Result<Outcome> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Ok(Outcome::not_run("interrupted", "run it again"));
        }
        if step.slow && self.options.quick {
            return Ok(Outcome::not_run("skipped by --quick", "cargo xtask test"));
        }
        for before in step.after {
            match self.rows.iter().find(|row| row.name == *before).map(|row| &row.outcome) {
                Some(Outcome::Passed { .. }) => {}
                Some(Outcome::NotRun { reason, remedy }) => return Ok(Outcome::not_run(reason, remedy)),
                _ => return Ok(Outcome::not_run(&format!("`{before}` failed"), "fix that step")),
            }
        }
        let log = self.project.log(step.name);
        fs::create_dir_all(log.parent().unwrap_or(&self.project.target))?;
        File::create(&log)?;
        report::print_begin(step.name);
        for prerequisite in step.needs.iter().chain(step.likes) {
            match self.ensure(*prerequisite, &log) {
                Ok(variables) => {
                    for command in &mut step.commands {
                        command.envs(variables.iter().cloned());
                    }
                }
                Err(missing) if step.needs.contains(prerequisite) => {
                    return Ok(Outcome::NotRun { reason: missing.reason, remedy: missing.remedy });
                }
                Err(missing) => println!("  without: {} ({})", missing.reason, missing.remedy),
            }
        }
        self.run_commands(step, &log)
    }

    fn run_commands(&self, step: &mut Step, log: &Path) -> io::Result<Outcome> {
        let mark = format!("{}-{}", std::process::id(), self.rows.len());
        let mut failure = None;
        for command in &mut step.commands {
            failure = run_logged(command, &mark, step.limit, log, &self.interrupted)?;
            if failure.is_some() {
                break;
            }
        }
        if !step.leaves_daemons {
            let left: Vec<_> =
                process::sweep(&mark).into_iter().map(|(pid, name)| format!("{name} ({pid})")).collect();
            if !left.is_empty() {
                failure.get_or_insert_with(|| format!("left processes behind: {}", left.join(", ")));
            }
        }
        let printed = String::from_utf8_lossy(&fs::read(log)?).into_owned();
        let test_counts = step.test_counts.map(|read| read(&printed));
        if test_counts.is_some_and(|test_counts| test_counts.passed + test_counts.failed == 0) {
            failure.get_or_insert_with(|| "no test was run".into());
        }
        if test_counts.is_some_and(|test_counts| test_counts.failed > 0) {
            failure.get_or_insert_with(|| "tests failed".into());
        }
        let test_counts = test_counts.unwrap_or_default();
        Ok(match failure {
            Some(reason) => Outcome::Failed { reason, test_counts, log: log.to_owned() },
            None => Outcome::Passed {
                test_counts,
                excerpt: step.excerpt.map(|cut| cut(&printed)).unwrap_or_default(),
            },
        })
    }

    fn ensure(&mut self, prerequisite: Prerequisite, log: &Path) -> Found {
        let name = match prerequisite {
            Prerequisite::Node => "node",
            Prerequisite::Chromium => "chromium",
            Prerequisite::Python => "python",
            Prerequisite::Python2 => "python2",
            Prerequisite::Valgrind => "valgrind",
            Prerequisite::Proxies => "proxies",
            Prerequisite::Redis => "redis",
            Prerequisite::OpenSsl => "openssl",
        };
        let install = self.options.install;
        let interrupted = &self.interrupted;
        let run = |mut command: Command| {
            matches!(run_logged(&mut command, name, INSTALL_LIMIT, log, interrupted), Ok(None))
        };
        self.needs.entry(name).or_insert_with(|| prerequisite.ensure(install, run)).clone()
    }
}

/// Runs a command with its output in the log; returns the reason of a failure.
fn run_logged(
    command: &mut Command,
    mark: &str,
    limit: Duration,
    log: &Path,
    interrupted: &AtomicBool,
) -> io::Result<Option<String>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut file = OpenOptions::new().append(true).open(log)?;
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    writeln!(file, "$ {program} {}", args.join(" "))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let ended = match process::run(command, mark, limit, interrupted) {
        Ok(ended) => ended,
        Err(error) => return Ok(Some(format!("cannot start {program}: {error}"))),
    };
    Ok(match ended {
        Ended::With(status) if status.success() => None,
        Ended::With(status) => Some(format!("{} exited with {status}", short(&program))),
        Ended::TooLate => Some(format!("{} timed out after {} s", short(&program), limit.as_secs())),
        Ended::Interrupted => Some("interrupted".into()),
    })
}

fn short(program: &str) -> &str {
    Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or(program)
}

const INSTALL_LIMIT: Duration = Duration::from_secs(15 * 60);
