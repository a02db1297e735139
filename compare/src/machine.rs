//! Machine and software versions of a comparison.

use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use roomcast_loadgen::process::open_files_limit;
use serde::{Deserialize, Serialize};

/// Machine description for the report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Machine {
    cpu: String,
    cpus: usize,
    memory_mib: u64,
    kernel: String,
    system: String,
    /// Limit of open files of a process, if there is one.
    #[serde(default)]
    open_files: Option<u64>,
}

impl Machine {
    pub(super) fn read() -> Self {
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
    pub(super) fn describe_open_files(&self) -> String {
        let limit = self.open_files.map_or_else(|| "no limit".into(), |files| format!("at most {files}"));
        format!("{limit} open files per process")
    }

    pub(super) fn describe(&self) -> String {
        let Self { cpu, cpus, memory_mib, kernel, system, .. } = self;
        let gib = *memory_mib as f64 / 1024.0;
        format!("{cpu}, {cpus} CPUs, {gib:.1} GiB, Linux {kernel}, {system}; client and server over loopback")
    }
}

/// Returns the text after `name` in the first line of a file that begins with it.
fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
}

/// Returns names and versions of the software, from the lock files and tools.
pub(super) fn versions(peers: &Path) -> Vec<(String, String)> {
    let mut versions = Vec::new();
    let mut add = |name: &str, version: Option<String>| {
        if let Some(version) = version {
            versions.push((name.to_owned(), version));
        }
    };
    let commit = printed("git", &["rev-parse", "--short", "HEAD"]);
    let own = env!("CARGO_PKG_VERSION");
    add("roomcast", Some(commit.map_or_else(|| own.to_owned(), |commit| format!("{own} at {commit}"))));
    add("rustc", printed("rustc", &["--version"]).and_then(|it| Some(it.split(' ').nth(1)?.to_owned())));
    add("node", printed("node", &["--version"]).map(|it| it.trim_start_matches('v').to_owned()));
    let lock = fs::read_to_string(peers.join("node/package-lock.json")).unwrap_or_default();
    let lock: serde_json::Value = serde_json::from_str(&lock).unwrap_or_default();
    for name in ["ws", "socket.io", "bufferutil"] {
        let version = lock["packages"][format!("node_modules/{name}")]["version"].as_str();
        add(name, version.map(str::to_owned));
    }
    let lock = fs::read_to_string(peers.join("rust/Cargo.lock")).unwrap_or_default();
    for name in [
        "socketioxide",
        "axum",
        "tokio-tungstenite",
        "tokio-websockets",
        "fastwebsockets",
        "sockudo-ws",
        "tokio",
    ] {
        add(name, locked(&lock, name));
    }
    let pinned = fs::read_to_string(peers.join("python/requirements.txt")).unwrap_or_default();
    add("socketify", pinned.lines().find_map(|line| Some(line.strip_prefix("socketify==")?.to_owned())));
    versions
}

/// Returns the newest version of a package in a Cargo.lock, which is sorted.
fn locked(lock: &str, name: &str) -> Option<String> {
    let start = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = lock.rsplit_once(&start)?;
    Some(rest.split('"').next()?.to_owned())
}

/// Runs a program and returns its output, if it succeeds.
fn printed(program: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Formats a time as a date in UTC.
pub(super) fn date(unix_seconds: u64) -> String {
    let at = i64::try_from(unix_seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    at.unwrap_or(Timestamp::MAX).strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_calendar_dates() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_251_199, "2024-02-29"),
            (1_709_251_200, "2024-03-01"),
            (1_767_225_599, "2025-12-31"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }

    #[test]
    fn lock_files_contain_peer_versions() {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let versions = versions(&peers);
        for name in ["ws", "socket.io", "socketioxide", "axum", "fastwebsockets", "sockudo-ws", "socketify"] {
            let version = versions.iter().find(|it| it.0 == name).map(|it| it.1.as_str()).unwrap_or_default();
            assert!(version.contains('.'), "{name}: {version:?}");
        }
        let lock = "name = \"a\"\nversion = \"1.0\"\n\nname = \"a\"\nversion = \"2.0\"\n";
        assert_eq!((locked(lock, "a").as_deref(), locked(lock, "b")), (Some("2.0"), None));
    }

    #[test]
    fn reads_machine_description() {
        let machine = Machine::read();
        assert!(machine.cpus > 0 && machine.memory_mib > 0 && !machine.kernel.is_empty(), "{machine:?}");
    }
}
