//! Machine, date and command line of a report.

use std::fmt;
use std::fs;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::process::open_files_limit;

/// Machine description for a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the CPU.
    pub cpu: String,
    /// Number of CPUs available to this program.
    pub cpus: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Version of the Linux kernel.
    pub kernel: String,
    /// Name and version of the distribution.
    pub system: String,
    /// Maximum number of open files of a process, if there is one.
    #[serde(default)]
    pub open_files: Option<u64>,
}

impl Machine {
    /// Reads the description of this machine; unknown fields stay empty.
    pub fn read() -> Self {
        let memory = field("/proc/meminfo", "MemTotal:");
        Self {
            cpu: field("/proc/cpuinfo", "model name").trim_start_matches([' ', '\t', ':']).to_owned(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) >> 10,
            // Omit the suffix of the distribution or host.
            kernel: field("/proc/sys/kernel/osrelease", "").split('-').next().unwrap_or_default().to_owned(),
            system: field("/etc/os-release", "PRETTY_NAME=").trim_matches('"').to_owned(),
            open_files: open_files_limit(),
        }
    }

    /// Describes the limit of open files, which bounds the number of connections.
    pub fn describe_open_files(&self) -> String {
        let limit = self.open_files.map_or_else(|| "no limit".into(), |files| format!("at most {files}"));
        format!("{limit} open files per process")
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cpus, memory_mib, kernel, system, .. } = self;
        let cpu = if cpu.is_empty() { "unknown CPU" } else { cpu };
        let gib = *memory_mib as f64 / 1024.0;
        write!(f, "{cpu}, {cpus} CPUs, {gib:.1} GiB, Linux {kernel}")?;
        if system.is_empty() { Ok(()) } else { write!(f, ", {system}") }
    }
}

/// Returns the text after `name` in the first line of a file that begins with it.
fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
}

/// Formats a time as a date in UTC, such as `2026-01-31`.
pub fn date(time: SystemTime) -> String {
    timestamp(time).strftime("%Y-%m-%d").to_string()
}

/// Formats a time in UTC to the second, in the format of RFC 3339, such as `2026-01-31T09:30:00Z`.
pub fn date_time(time: SystemTime) -> String {
    timestamp(time).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn timestamp(time: SystemTime) -> Timestamp {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let at = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    at.unwrap_or(Timestamp::MAX)
}

/// Formats a command line for a shell, without secrets.
///
/// The values of `--auth`, of `--header` and of the queries of URLs are replaced, since a report is often published.
pub fn command_line(arguments: impl IntoIterator<Item = String>) -> String {
    let mut words = Vec::new();
    let mut option = None;
    for (index, argument) in arguments.into_iter().enumerate() {
        let word = match (index, option.take(), argument.split_once('=')) {
            (0, _, _) => argument.rsplit('/').next().unwrap_or_default().to_owned(),
            (_, Some(option), _) => masked(option, &argument),
            (_, None, Some((name, value))) if SECRET_OPTIONS.contains(&name) => {
                format!("{name}={}", masked(name, value))
            }
            _ => masked_query(&argument),
        };
        option = SECRET_OPTIONS.into_iter().find(|option| *option == argument);
        words.push(quoted(&word));
    }
    words.join(" ")
}

/// Replaces the value of an option, except for the name of a header.
fn masked(option: &str, value: &str) -> String {
    match value.split_once(':') {
        Some((name, _)) if option == HEADER => format!("{name}: {MASK}"),
        _ => MASK.into(),
    }
}

/// Replaces the values in the query of a URL.
pub(crate) fn masked_query(argument: &str) -> String {
    let Some((address, query)) = argument.split_once('?').filter(|_| argument.contains("://")) else {
        return argument.to_owned();
    };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) => format!("{name}={MASK}"),
        // It may be a token without a name.
        None => MASK.into(),
    });
    format!("{address}?{}", pairs.collect::<Vec<_>>().join("&"))
}

fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./:=,@%+".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

const HEADER: &str = "--header";
const SECRET_OPTIONS: [&str; 2] = ["--auth", HEADER];
const MASK: &str = "***";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn formats_calendar_dates() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_251_199, "2024-02-29"),
            (1_709_251_200, "2024-03-01"),
            (1_767_225_599, "2025-12-31"),
        ] {
            assert_eq!(date(at(seconds)), expected);
        }
        assert_eq!(date_time(at(1_767_225_599)), "2025-12-31T23:59:59Z");
    }

    #[test]
    fn reads_machine_description() {
        let machine = Machine::read();
        assert!(machine.cpus > 0 && machine.memory_mib > 0 && !machine.kernel.is_empty(), "{machine:?}");
        let machine = Machine { cpu: "C".into(), cpus: 2, memory_mib: 1536, ..machine };
        assert!(machine.to_string().starts_with("C, 2 CPUs, 1.5 GiB, Linux "), "{machine}");
    }

    #[test]
    fn masks_secrets_in_command_line() {
        for (line, expected) in [
            ("/opt/bin/roomcast|bench|ws://h:1/x|--rate|50", "roomcast bench ws://h:1/x --rate 50"),
            ("r|--auth|{\"token\":\"s3cret\"}|--spin", "r --auth '***' --spin"),
            ("r|--auth={\"token\":\"s3cret\"}", "r '--auth=***'"),
            ("r|--header|Authorization: Bearer s3cret", "r --header 'Authorization: ***'"),
            ("r|--header=Cookie: a=s3cret|x", "r '--header=Cookie: ***' x"),
            ("r|--header|s3cret", "r --header '***'"),
            ("r|ws://h/x?token=s3cret&s3cret", "r 'ws://h/x?token=***&***'"),
            ("r|--auth|--auth|s3cret", "r --auth '***' '***'"),
            ("r|--message|it's {payload}", r"r --message 'it'\''s {payload}'"),
            ("r||--json|-", "r '' --json -"),
        ] {
            let masked = command_line(line.split('|').map(str::to_owned));
            assert_eq!(masked, expected);
            assert!(!masked.contains("s3cret"));
        }
    }
}
