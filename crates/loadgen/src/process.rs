//! Process statistics from the kernel: CPU time, memory and affinity.

use std::num::NonZeroU64;
use std::time::Duration;
use std::{fs, io};

use rustix::process::{Resource, Rlimit};
use rustix::thread::CpuSet;
use rustix::time::{ClockId, clock_gettime};

/// CPU time of a process since its start, user and system, from two sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTime {
    /// Scheduler time of the live threads, in nanoseconds; for a running thread it may be a tick old.
    living: Duration,
    /// Time of all threads, ended ones included, in hundredths of a second.
    all: Duration,
}

impl CpuTime {
    /// Reads both sources.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut living = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            match fs::read_to_string(task?.path().join("schedstat")) {
                Ok(schedstat) => living += first_number(&schedstat)?,
                // The thread ended after it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let all = ticks(user_and_system(&stat).ok_or_else(|| malformed("/proc/PID/stat"))?);
        Ok(Self { living: Duration::from_nanos(living), all })
    }

    /// Returns the time since an earlier reading, or `None` if threads ended in between.
    pub fn since(self, earlier: Self) -> Option<Duration> {
        let living = self.living.checked_sub(earlier.living)?;
        let all = self.all.checked_sub(earlier.all)?;
        (living.abs_diff(all) <= COARSENESS).then_some(living)
    }

    /// Returns the time since an earlier reading, to hundredths of a second, ended threads included.
    pub fn since_roughly(self, earlier: Self) -> Duration {
        self.all.saturating_sub(earlier.all)
    }
}

fn user_and_system(stat: &str) -> Option<u64> {
    // The program's name is in parentheses and may contain any character; user time is the 12th field after it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11).map(str::parse::<u64>);
    Some(times.next()?.ok()? + times.next()?.ok()?)
}

/// Returns the CPU time of this process since its start, user and system.
pub fn own_cpu_time() -> Duration {
    duration(clock_gettime(ClockId::ProcessCPUTime))
}

/// Returns the time in which this thread ran or waited for a CPU, since its start.
pub fn thread_demand() -> io::Result<Duration> {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat")?;
    let mut times = schedstat.split_ascii_whitespace().map_while(|time| time.parse().ok());
    let (ran, waited): (u64, u64) =
        times.next().zip(times.next()).ok_or_else(|| malformed("/proc/thread-self/schedstat"))?;
    Ok(Duration::from_nanos(ran + waited))
}

/// Returns the time of the monotonic clock.
pub fn now() -> Duration {
    duration(clock_gettime(ClockId::Monotonic))
}

/// Returns the resident memory of a process in bytes, without the kernel's socket buffers.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    if let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
        let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap_or_default();
        return Ok(first_number(line)? << 10);
    }
    let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages = first_number(statm.split_once(' ').map_or("", |(_, rest)| rest))?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// CPU time of the whole machine since boot, summed over all CPUs.
///
/// The kernel measures idle time exactly but samples busy times at ticks, so compute the busy time by subtraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineTime {
    /// Idle time, waits for I/O included.
    pub idle: Duration,
    /// Time the hypervisor gave to other guests.
    pub stolen: Duration,
    /// Number of CPUs.
    pub cpus: u32,
}

impl MachineTime {
    /// Reads `/proc/stat`.
    pub fn read() -> io::Result<Self> {
        Self::parse(&fs::read_to_string("/proc/stat")?)
    }

    fn parse(stat: &str) -> io::Result<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
        let fields: Vec<u64> = line.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
        let [_user, _nice, _system, idle, iowait, _irq, _softirq, steal, ..] = fields[..] else {
            return Err(malformed("/proc/stat"));
        };
        let cpus = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
        Ok(Self { idle: ticks(idle + iowait), stolen: ticks(steal), cpus: cpus as u32 })
    }
}

/// Makes the waits of this thread end on time; by default, Linux delays them by up to 50 µs.
pub fn wake_on_time() -> io::Result<()> {
    Ok(rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?)
}

/// Returns the CPUs this thread may run on.
pub fn allowed_cpus() -> io::Result<CpuSet> {
    Ok(rustix::thread::sched_getaffinity(None)?)
}

/// Pins this thread, and processes it starts afterwards, to the given CPUs.
pub fn run_on(cpus: &CpuSet) -> io::Result<()> {
    Ok(rustix::thread::sched_setaffinity(None, cpus)?)
}

/// Returns a set of one CPU.
pub fn only_cpu(cpu: usize) -> io::Result<CpuSet> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "CPU number out of range"));
    }
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    Ok(cpus)
}

/// Returns the hard limit of open files, or `None` if there is none.
pub fn open_files_limit() -> Option<u64> {
    rustix::process::getrlimit(Resource::Nofile).maximum
}

/// Raises the soft limit of open files to the hard limit and returns it.
pub fn raise_open_files() -> io::Result<u64> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    }
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

fn duration(time: rustix::time::Timespec) -> Duration {
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn first_number(text: &str) -> io::Result<u64> {
    let number = text.split_ascii_whitespace().next().and_then(|number| number.parse().ok());
    number.ok_or_else(|| malformed("a file of /proc"))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} has an unknown layout"))
}

/// Tolerated difference of the two sources: each reading is rounded to hundredths of a second.
const COARSENESS: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    struct Shell(Child);

    impl Shell {
        fn run(script: &str) -> Self {
            Self(Command::new("sh").args(["-c", script]).spawn().unwrap())
        }

        fn cpu_time(&self) -> CpuTime {
            CpuTime::of(self.0.id()).unwrap()
        }
    }

    impl Drop for Shell {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the other processes need time")]
    fn measures_busy_and_sleeping_processes() {
        let (busy, sleeping) = (Shell::run("while :; do :; done"), Shell::run("exec sleep 300"));
        let (before, began) = (busy.cpu_time(), now());
        // Its share of the machine depends on the load.
        let (used, wall) = loop {
            std::thread::sleep(Duration::from_millis(100));
            let used = busy.cpu_time().since(before).unwrap();
            let wall = now() - began;
            if used > Duration::from_millis(50) || wall > Duration::from_secs(60) {
                break (used, wall);
            }
        };
        assert!(
            used > Duration::from_millis(50) && used < wall + Duration::from_millis(20),
            "{used:?} in {wall:?}"
        );
        // The program is still being loaded until it sleeps.
        let rests = || {
            let before = sleeping.cpu_time();
            std::thread::sleep(Duration::from_millis(200));
            sleeping.cpu_time().since(before) == Some(Duration::ZERO)
        };
        assert!((0..100).any(|_| rests()));
    }

    #[test]
    fn ended_threads_make_time_unknown() {
        let time =
            |living, all| CpuTime { living: Duration::from_millis(living), all: Duration::from_millis(all) };
        assert_eq!(time(1005, 1000).since(time(500, 500)), Some(Duration::from_millis(505)));
        assert_eq!(time(900, 1000).since(time(500, 500)), None);
        assert_eq!(time(900, 1000).since_roughly(time(500, 500)), Duration::from_millis(500));
        assert_eq!(time(400, 1000).since(time(500, 500)), None);
    }

    #[test]
    fn parses_stat_with_any_program_name() {
        let stat = "7 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 30 12 0 0";
        assert_eq!(user_and_system(stat), Some(42));
        assert_eq!(user_and_system("7 sh R 1"), None);
    }

    #[test]
    fn counts_touched_memory_as_resident() {
        let before = resident_bytes(std::process::id()).unwrap();
        let touched = std::hint::black_box(vec![1_u8; 32 << 20]);
        let after = resident_bytes(std::process::id()).unwrap();
        assert!(after > before + (24 << 20), "{before} {after}");
        drop(touched);
    }

    #[test]
    fn parses_machine_idle_and_steal_time() {
        let second = rustix::param::clock_ticks_per_second();
        let stat = format!(
            "cpu  1 1 1 {} {} 3 7 {} 0 0\ncpu0 1 1 1 1\ncpu1 1 1 1 1\nintr 1\n",
            7 * second,
            second,
            2 * second
        );
        let (idle, stolen) = (Duration::from_secs(8), Duration::from_secs(2));
        assert_eq!(MachineTime::parse(&stat).unwrap(), MachineTime { idle, stolen, cpus: 2 });
        assert!(MachineTime::parse("intr 1 2 3").is_err());
    }
}
