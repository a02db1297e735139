//! Process metrics: CPU time, memory and descriptors, under the names that Prometheus clients use

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

/// Collector of process metrics; collects nothing where there is no `/proc`.
#[derive(Debug)]
pub(crate) struct Process;

impl Collector for Process {
    #[cfg(not(target_os = "linux"))]
    fn encode(&self, _: DescriptorEncoder<'_>) -> fmt::Result {
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        use prometheus_client::metrics::MetricType;
        use rustix::process::{Resource, getrlimit};

        use crate::serve::families::{counter, gauge};

        let to = &mut encoder;
        if let Some(stat) = linux::Stat::read() {
            let help = "CPU time of the process, of the user and the system together";
            counter(to, "process_cpu_seconds", help, stat.cpu_seconds)?;
            gauge(to, "process_threads", "Threads of the process", stat.threads)?;
            gauge(to, "process_virtual_memory_bytes", "Virtual memory of the process", stat.virtual_bytes)?;
            gauge(
                to,
                "process_resident_memory_bytes",
                "Resident memory of the process",
                stat.resident_bytes,
            )?;
            if let Some(seconds) = stat.start_time() {
                let help = "Unix time at which the process started";
                to.encode_descriptor("process_start_time_seconds", help, None, MetricType::Gauge)?
                    .encode_gauge(&seconds)?;
            }
        }
        if let Some(open) = linux::open_descriptors() {
            gauge(to, "process_open_fds", "File descriptors that are open", open)?;
        }
        match getrlimit(Resource::Nofile).current {
            Some(most) => gauge(to, "process_max_fds", "File descriptors that may be open", most),
            None => Ok(()),
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use rustix::param::{clock_ticks_per_second, page_size};

    /// Fields of `/proc/self/stat`.
    #[derive(Debug)]
    pub(crate) struct Stat {
        pub(crate) cpu_seconds: f64,
        pub(crate) threads: u64,
        pub(crate) virtual_bytes: u64,
        pub(crate) resident_bytes: u64,
        /// Seconds since the system booted
        started_seconds: f64,
    }

    impl Stat {
        pub(crate) fn read() -> Option<Self> {
            Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
        }

        #[expect(clippy::cast_precision_loss, reason = "a fraction of a second in 285 years")]
        pub(crate) fn parse(stat: &str) -> Option<Self> {
            // The program name, in parentheses, may contain any character.
            let (_, fields) = stat.rsplit_once(") ")?;
            let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
            // The manual numbers fields from 1; the first field here is its third.
            let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
            let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
            Some(Self {
                cpu_seconds: seconds(field(14)? + field(15)?),
                threads: field(20)?,
                started_seconds: seconds(field(22)?),
                virtual_bytes: field(23)?,
                resident_bytes: field(24)? * page_size() as u64,
            })
        }

        /// Returns the start time in seconds since 1970.
        #[expect(clippy::cast_precision_loss, reason = "as above")]
        pub(crate) fn start_time(&self) -> Option<f64> {
            let stat = fs::read_to_string("/proc/stat").ok()?;
            let booted: u64 =
                stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
            Some(booted as f64 + self.started_seconds)
        }
    }

    /// Linux 6.2 and later report their number as the folder's size; earlier versions need a count.
    pub(crate) fn open_descriptors() -> Option<usize> {
        let folder = "/proc/self/fd";
        let size = fs::metadata(folder).ok()?.size();
        if size > 0 {
            return usize::try_from(size).ok();
        }
        // One descriptor is the folder itself.
        fs::read_dir(folder).ok().map(|entries| entries.count().saturating_sub(1))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn reads_stat_with_any_program_name() {
            let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 3 0 1000 4096000 25 0";
            let stat = Stat::parse(stat).expect("all fields");
            let ticks = clock_ticks_per_second() as f64;
            assert!((stat.cpu_seconds - 200.0 / ticks).abs() < 1e-9);
            assert_eq!((stat.threads, stat.virtual_bytes), (3, 4_096_000));
            assert_eq!(stat.resident_bytes, 25 * page_size() as u64);
            assert!((stat.started_seconds - 1000.0 / ticks).abs() < 1e-9);
            assert!(Stat::parse("7 (a) S 1").is_none());
        }
    }
}
