//! Soak test: clients connect and disconnect in every way, while the server's memory and descriptors are sampled.

mod client;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::project::Project;
use crate::server::Server;
use crate::test_counts::TestCounts;

/// Runs this number of clients and prints the server's memory and descriptors over time.
///
/// Fails if memory at the end exceeds the maximum of the first half by a tenth and by [`SLACK`], if descriptors are
/// leaked, or if a client gets a wrong response.
pub(crate) fn run(project: &Project, clients: u64) -> ExitCode {
    let outcome = try_run(project, clients);
    if let Err(error) = &outcome {
        println!("soak failed: {error}");
    }
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Cuts the table of [`run`] out of the log.
pub(crate) fn excerpt(log: &str) -> String {
    log.lines().skip_while(|line| !line.starts_with(HEAD)).collect::<Vec<_>>().join("\n")
}

/// Counts the verdict of [`run`] as a test.
pub(crate) fn test_counts(log: &str) -> TestCounts {
    let passed = log.lines().filter(|line| line.starts_with("plateau held")).count() as u64;
    TestCounts { passed, failed: u64::from(log.contains("soak failed")), skipped: 0 }
}

fn try_run(project: &Project, clients: u64) -> Result<(), String> {
    let program = project.target.join("debug/examples/conformance_server");
    // Silent clients are closed after two seconds; other clients have most of that time to answer.
    let flags = ["--ping-interval", "500", "--ping-timeout", "1500", "--connect-timeout", "10000"];
    let server =
        Server::start(&program, &flags).map_err(|error| format!("start the server under test: {error}"))?;
    let watch =
        |done| Sample::take(server.id(), done).map_err(|error| format!("read the server's /proc: {error}"));
    let before = at_rest(&server.address, || watch(0))?;
    let mut samples = Vec::new();
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed = Mutex::new(None);
    let over = AtomicBool::new(false);
    scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= clients || over.load(Ordering::Relaxed) {
                            break;
                        }
                        if let Err(error) = client::come_and_go(&server.address, number) {
                            let kind = client::name(number);
                            let mut failed = failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                            failed.get_or_insert(format!("client {number}, {kind}: {error}"));
                            over.store(true, Ordering::Relaxed);
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            samples.push(watch(done.load(Ordering::Relaxed)));
            sleep(TICK);
        }
    });
    let mut samples = samples.into_iter().collect::<Result<Vec<_>, _>>()?;
    if let Some(failed) = failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        return Err(failed);
    }
    // Abandoned clients are closed by their heartbeat.
    let (earliest, deadline) = (Instant::now() + SILENCE, Instant::now() + SETTLE);
    let end = loop {
        let sample = watch(clients)?;
        samples.push(sample);
        let now = Instant::now();
        if sample.descriptors <= before.descriptors && now > earliest || now > deadline {
            break sample;
        }
        sleep(TICK);
    };
    let file = project.target.join("soak.csv");
    write_csv(&file, &samples).map_err(|error| format!("{}: {error}", file.display()))?;
    print!("{}", curve(&samples));
    println!("all samples: {}", file.display());
    judge(clients, before, &samples, end)
}

/// Samples the server after it has served some clients and is idle again.
///
/// A server that has just started may still be allocating for its threads.
fn at_rest(address: &str, watch: impl Fn() -> Result<Sample, String>) -> Result<Sample, String> {
    for number in 0..client::WAYS.len() as u64 {
        client::come_and_go(address, number).map_err(|error| format!("{}: {error}", client::name(number)))?;
    }
    sleep(SILENCE);
    let mut least = watch()?;
    for _ in 0..4 {
        sleep(TICK);
        let sample = watch()?;
        least.descriptors = least.descriptors.min(sample.descriptors);
    }
    Ok(least)
}

fn judge(clients: u64, before: Sample, samples: &[Sample], end: Sample) -> Result<(), String> {
    let early = samples.iter().filter(|sample| sample.done <= clients / 2);
    let plateau = early.map(|sample| sample.resident).max().unwrap_or(before.resident);
    let most = (plateau + plateau / 10).max(plateau + SLACK);
    println!(
        "{clients} clients; memory {} at start, {} at half, {} at end; descriptors {} at start, {} at end",
        mebibytes(before.resident),
        mebibytes(plateau),
        mebibytes(end.resident),
        before.descriptors,
        end.descriptors,
    );
    if end.descriptors > before.descriptors {
        return Err(format!("{} descriptors leaked", end.descriptors - before.descriptors));
    }
    if end.resident > most {
        return Err(format!("memory grew beyond {}", mebibytes(most)));
    }
    println!("plateau held");
    Ok(())
}

/// Sample of the server's resources.
#[derive(Debug, Clone, Copy)]
struct Sample {
    seconds: f64,
    done: u64,
    /// Resident memory in bytes.
    resident: u64,
    descriptors: usize,
}

impl Sample {
    fn take(pid: u32, done: u64) -> io::Result<Self> {
        static BEGINNING: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().map_err(io::Error::other)?;
        Ok(Self {
            seconds: BEGINNING.get_or_init(Instant::now).elapsed().as_secs_f64(),
            done,
            resident: kibibytes * 1024,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        })
    }
}

fn write_csv(file: &Path, samples: &[Sample]) -> io::Result<()> {
    let mut csv = io::BufWriter::new(fs::File::create(file)?);
    writeln!(csv, "seconds,clients,resident_bytes,descriptors")?;
    for Sample { seconds, done, resident, descriptors } in samples {
        writeln!(csv, "{seconds:.1},{done},{resident},{descriptors}")?;
    }
    csv.flush()
}

/// Formats at most [`ROWS`] samples, each with a bar for its memory.
fn curve(samples: &[Sample]) -> String {
    let most = samples.iter().map(|sample| sample.resident).max().unwrap_or(1).max(1);
    let step = samples.len().div_ceil(ROWS).max(1);
    let mut rows = format!("{HEAD}  clients  descriptors   memory\n");
    let last = samples.len().saturating_sub(1);
    for (at, sample) in samples.iter().enumerate().filter(|(at, _)| at % step == 0 || *at == last) {
        let bar = "#".repeat((sample.resident * BAR / most) as usize);
        let Sample { seconds, done, descriptors, .. } = sample;
        let memory = mebibytes(sample.resident);
        rows += &format!("{seconds:7.1}{done:>9}{descriptors:>13}{memory:>12}  {bar}\n");
        debug_assert!(at <= last);
    }
    rows
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}

const WORKERS: usize = 32;
const TICK: Duration = Duration::from_millis(250);
/// Heartbeat timeout of a client, with a margin.
const SILENCE: Duration = Duration::from_secs(3);
const SETTLE: Duration = Duration::from_secs(20);
/// Allocator noise of a small process; a leak exceeds it.
const SLACK: u64 = 3 * 1024 * 1024;
const HEAD: &str = "seconds";
const ROWS: usize = 24;
const BAR: u64 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(done: u64, mebibytes: u64, descriptors: usize) -> Sample {
        Sample { seconds: done as f64, done, resident: mebibytes << 20, descriptors }
    }

    #[test]
    fn detects_growing_memory_and_leaked_descriptors() {
        let before = sample(0, 10, 9);
        let level =
            [before, sample(20, 40, 200), sample(30, 50, 300), sample(60, 51, 300), sample(100, 54, 9)];
        assert_eq!(judge(100, before, &level, level[4]), Ok(()));
        let growing = [before, sample(20, 40, 200), sample(60, 60, 300), sample(100, 54, 9)];
        assert!(judge(100, before, &growing, growing[3]).unwrap_err().contains("44.0 MiB"));
        let kept = sample(100, 50, 10);
        assert_eq!(judge(100, before, &level, kept).unwrap_err(), "1 descriptors leaked");
    }

    #[test]
    fn curve_includes_last_sample() {
        let samples: Vec<_> = (0..100).map(|at| sample(at, 1 + at, 9)).collect();
        let curve = curve(&samples);
        assert!(curve.lines().count() <= ROWS + 2, "{curve}");
        assert!(curve.lines().last().unwrap().ends_with(&"#".repeat(BAR as usize)), "{curve}");
        assert_eq!(excerpt(&format!("before\n{curve}plateau held\n")), format!("{curve}plateau held"));
        assert_eq!(test_counts(&format!("{curve}plateau held\n")).passed, 1);
    }
}
