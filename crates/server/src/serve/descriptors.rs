//! File descriptors of the process, which limit its connections

use std::io;

use crate::app::model::io::Io;

/// Descriptors reserved for everything but connections
const RESERVE: usize = 64;

/// Connection limit below which a warning is logged
const FEW: usize = 256;

/// Counts a failed accept, and logs it at most once a second.
///
/// With descriptors exhausted it fails as long as clients keep connecting, on every thread.
pub(crate) fn report_failure_to_client(io: &Io, error: &io::Error, message: &str) {
    if let Some(times) = io.metrics().accept_failures.record() {
        let descriptors = descriptors();
        tracing::warn!(%error, times, descriptors, "{message}");
    }
}

/// Returns the descriptor limit of the process.
fn descriptors() -> usize {
    #[cfg(unix)]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let limit: Option<u64> = None;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Returns how many connections the descriptor limit allows.
pub(super) fn room() -> usize {
    descriptors().saturating_sub(RESERVE).max(1)
}

/// Warns if descriptors allow few connections, or fewer than configured.
pub(super) fn warn_few_descriptors(max_connections: usize) {
    let (descriptors, connections) = (descriptors(), room());
    if connections < max_connections || connections < FEW {
        tracing::warn!(
            descriptors,
            connections,
            max_connections,
            "few file descriptors: raise their limit (ulimit -n, or LimitNOFILE of systemd)"
        );
    }
}
