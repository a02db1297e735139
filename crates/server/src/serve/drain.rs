//! Graceful shutdown in batches

use std::fmt;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use roomcast_core::{CloseReason, ClusterStatus};

use crate::app::model::io::Io;
use crate::host::lifecycle::Phase;
use crate::session::mailbox::SessionCommand;
use crate::util::clock;

/// Settings of a graceful shutdown.
///
/// The shutdown has five steps:
///
/// 1. The server stops being [ready](Io::is_ready) and keeps serving for the [delay](Self::delay), so that load
///    balancers notice.
/// 2. A [`Server`](crate::Server) accepts no more connections. New sessions on open connections are rejected with 503.
/// 3. Sessions are closed in batches, so that clients do not all reconnect elsewhere at once. Queued messages are still
///    sent. A WebSocket is closed with 1001, or with
///    [`WebSocketConfig::drain_close_code`](crate::config::WebSocketConfig::drain_close_code). Socket.IO clients
///    receive no DISCONNECT packet, since they would not reconnect after one. `disconnect` handlers receive
///    [`CloseReason::ServerShutdown`].
/// 4. When all sessions and their remaining handlers have ended, or after the [timeout](Self::timeout), sessions that are
///    [stored](roomcast_recovery::StoredSessions) outside the process are written, for at most five seconds.
/// 5. The node leaves its [cluster](crate::config::IoBuilder::cluster): it sends its queue to the other nodes, and says
///    goodbye. This takes at most a second if the cluster's message engine does not respond.
///
/// Applies to [`Bound::serve_with_shutdown`](crate::server::Bound::serve_with_shutdown) and
/// [`run_with_shutdown`](crate::server::Bound::run_with_shutdown), and for [`Io::drain`] when mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Drain {
    delay: Duration,
    timeout: Duration,
    batch: usize,
    interval: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            timeout: Duration::from_secs(30),
            batch: 1000,
            interval: Duration::from_millis(250),
        }
    }
}

impl Drain {
    /// Sets how long the server keeps serving after it stops being ready. Default: 0.
    ///
    /// Behind a load balancer that polls `/ready`, use a little more than its detection time, such as 5 s.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sets how long closing may take, after the delay. Default: 30 s.
    ///
    /// Sessions still open after this are aborted.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the sessions closed per batch and the interval between batches. Default: 1000 every 250 ms.
    ///
    /// Batches grow if there are too many sessions to close within the timeout.
    pub fn batches(mut self, sessions: usize, interval: Duration) -> Self {
        self.batch = sessions.max(1);
        self.interval = interval;
        self
    }

    /// Returns the batch size that closes this many sessions in four fifths of the timeout.
    fn batch_of(&self, sessions: usize) -> usize {
        if self.interval.is_zero() {
            return sessions.max(1);
        }
        let batches = (self.timeout / 5 * 4).as_nanos() / self.interval.as_nanos();
        let batches = usize::try_from(batches).unwrap_or(usize::MAX).max(1);
        self.batch.max(sessions.div_ceil(batches))
    }
}

/// Result of a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Drained {
    /// Sessions that were closed
    pub closed: usize,
    /// Sessions that had not ended at the timeout, or whose handlers had not
    pub left: usize,
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sessions closed, {} of them cut off", self.closed, self.left)
    }
}

/// Interval at which the end of all sessions is polled
const LOOK: Duration = Duration::from_millis(10);
/// Time to store the sessions that have ended
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time to say goodbye to the cluster
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval at which remaining sessions get another close request
const RETELL: Duration = Duration::from_millis(500);

impl Io {
    /// Returns whether the server accepts new clients: `false` once draining begins, and while a cluster is being joined.
    ///
    /// Joining takes a second at most. A server whose cluster does not respond is ready: it serves its own clients.
    pub fn is_ready(&self) -> bool {
        self.app().lifecycle.phase() == Phase::Serving
            && self.cluster_status() != Some(ClusterStatus::Joining)
    }

    /// Shuts down as configured by [`Drain`], for an [`Io`] mounted in another server. Irreversible.
    ///
    /// New sessions are rejected with 503 once the delay is over. After this returns, stop the HTTP
    /// server around it.
    ///
    /// # Cancel safety
    /// Sessions already asked to close still do, and no new session begins.
    pub async fn drain(&self, drain: Drain) -> Drained {
        let lifecycle = &self.app().lifecycle;
        lifecycle.advance(Phase::Leaving);
        if !drain.delay.is_zero() {
            tracing::info!(
                delay_ms = clock::millis(drain.delay),
                sessions = self.client_count(),
                "not ready"
            );
            tokio::time::sleep(drain.delay).await;
        }
        lifecycle.advance(Phase::Draining);
        let deadline = clock::after(clock::now(), drain.timeout);
        let (timeout_ms, sessions) = (clock::millis(drain.timeout), self.client_count());
        tracing::info!(timeout_ms, sessions, "draining: closing all sessions");
        let before = self.metrics().sessions_closed();
        loop {
            self.close_in_batches(&drain, deadline).await;
            let soon = deadline.min(clock::now() + RETELL);
            self.until_gone(soon, || lifecycle.drivers() == 0).await;
            if lifecycle.drivers() == 0 || clock::now() >= deadline {
                break;
            }
            // Sessions that began during the phase change are closed here.
        }
        // Before the goodbye, after which other nodes may recover the clients.
        let recoveries = self.recoveries();
        let stored = join_all(recoveries.iter().map(|recovery| recovery.flush()));
        if tokio::time::timeout(STORE_TIMEOUT, stored).await.is_err() {
            tracing::warn!("sessions were not all stored: their store does not respond");
        }
        if let Some(handle) = &self.app().cluster
            && tokio::time::timeout(LEAVE_TIMEOUT, handle.cluster.leave()).await.is_err()
        {
            tracing::warn!("cluster left without goodbye: its message engine does not respond");
        }
        let closed = usize::try_from(self.metrics().sessions_closed() - before).unwrap_or(usize::MAX);
        let drained = Drained { closed, left: lifecycle.drivers() };
        tracing::info!(closed = drained.closed, left = drained.left, "drained");
        drained
    }

    /// Asks all sessions to close, in batches.
    async fn close_in_batches(&self, drain: &Drain, deadline: Instant) {
        let sessions = self.app().sessions.all();
        let batch = drain.batch_of(sessions.len());
        for (number, batch) in sessions.chunks(batch).enumerate() {
            if number > 0 {
                let next = clock::after(clock::now(), drain.interval);
                tokio::time::sleep_until(next.min(deadline).into()).await;
            }
            for session in batch {
                // A session that has ended needs no closing.
                let _ = session.mailbox.push(SessionCommand::Close(CloseReason::ServerShutdown));
            }
        }
    }

    /// Waits until `gone` returns true, at most until the deadline.
    pub(crate) async fn until_gone(&self, deadline: Instant, gone: impl Fn() -> bool) {
        while !gone() && clock::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_grow_to_meet_deadline() {
        let drain = Drain::default();
        assert_eq!(drain.batch_of(3), 1000);
        assert_eq!(drain.batch_of(96_000), 1000);
        assert_eq!(drain.batch_of(960_000), 10_000);
        assert_eq!(drain.timeout(Duration::ZERO).batch_of(500_000), 500_000);
        assert_eq!(drain.batches(10, Duration::ZERO).batch_of(500_000), 500_000);
        assert_eq!(drain.batches(0, Duration::from_secs(1)).batch_of(24), 1);
        assert_eq!(drain.timeout(Duration::MAX).batches(10, Duration::MAX).batch_of(24), 24);
    }
}
