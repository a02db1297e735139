//! File descriptors of the process, which bound its connections

use std::io;

use crate::app::model::io::Io;

/// Descriptors that are left for everything that is no connection
const RESERVE: usize = 64;

/// A server for fewer connections than this is hardly meant
const FEW: usize = 256;

/// Counts a connection that could not be accepted, and logs it once a second at most
///
/// Without descriptors it fails for as long as the clients like, on every thread.
pub(crate) fn tell_of_failure(io: &Io, error: &io::Error, message: &str) {
    if let Some(times) = io.metrics().accept_failures.record() {
        let descriptors = descriptors();
        tracing::warn!(%error, times, descriptors, "{message}");
    }
}

/// Descriptors that the process may have
fn descriptors() -> usize {
    #[cfg(unix)]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let limit: Option<u64> = None;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// How many connections the process has descriptors for
pub(super) fn room() -> usize {
    descriptors().saturating_sub(RESERVE).max(1)
}

/// Warns when there are descriptors for few connections, or for fewer than were asked for
pub(super) fn tell_of_few_descriptors(max_connections: usize) {
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
