//! Going away without everybody noticing at once

use std::fmt;
use std::time::{Duration, Instant};

use roomcast_core::CloseReason;

use crate::app::model::io::Io;
use crate::host::lifecycle::Phase;
use crate::session::inbox::Visit;
use crate::util::clock;

/// How a server goes away
///
/// 1. It says that it is no longer [ready](Io::is_ready), and serves on for the [delay](Self::delay): time for
///    load balancers to notice.
/// 2. It takes in nothing new: a [`Server`](crate::Server) accepts no more connections, and sessions that would
///    begin on those that are open are answered with 503.
/// 3. It closes its sessions in batches, so that clients which come back elsewhere do not come all at once. What
///    waits for a client is still sent. A WebSocket is closed with 1001, or what
///    [`WebSocketConfig::drain_close_code`](crate::config::WebSocketConfig::drain_close_code) says; no Socket.IO client gets a DISCONNECT packet,
///    after which it would not come back by itself. Handlers of `disconnect` see [`CloseReason::ServerShutdown`].
/// 4. When all are gone, with the handlers that they left behind, or the [timeout](Self::timeout) is over, it ends.
///
/// Holds in [`Bound::serve_with_shutdown`](crate::server::Bound::serve_with_shutdown) and
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
    /// How long it serves on when it is no longer ready. Default: 0
    ///
    /// Behind a load balancer that asks `/ready`, take a little more than it needs to notice, such as 5 s.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// How long closing may take, after the delay. Default: 30 s
    ///
    /// Sessions that are left then are cut off.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sessions that are closed at once, and the time from one batch to the next. Default: 1000, each 250 ms
    ///
    /// Batches are larger when there are so many sessions that the timeout would not do.
    pub fn batches(mut self, sessions: usize, interval: Duration) -> Self {
        self.batch = sessions.max(1);
        self.interval = interval;
        self
    }

    /// How many to close at once, so that this many are closed in four fifths of the time
    fn batch_of(&self, sessions: usize) -> usize {
        if self.interval.is_zero() {
            return sessions.max(1);
        }
        let batches = (self.timeout / 5 * 4).as_nanos() / self.interval.as_nanos();
        let batches = usize::try_from(batches).unwrap_or(usize::MAX).max(1);
        self.batch.max(sessions.div_ceil(batches))
    }
}

/// What became of the sessions that there were
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Drained {
    /// Sessions that were closed
    pub closed: usize,
    /// Those that had not come to their end when the time was over, or whose handlers had not
    pub left: usize,
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sessions closed, {} of them cut off", self.closed, self.left)
    }
}

/// How often to look whether everybody is gone
const LOOK: Duration = Duration::from_millis(10);
/// How often to tell those again that are not
const RETELL: Duration = Duration::from_millis(500);

impl Io {
    /// Whether new clients are welcome: `false` from the moment that draining begins
    pub fn is_ready(&self) -> bool {
        self.app().lifecycle.phase() == Phase::Serving
    }

    /// Goes away as [`Drain`] tells, for a server that somebody else runs; there is no way back
    ///
    /// Sessions that begin meanwhile are refused with 503 once the delay is over. When it returns, stop the HTTP
    /// server around it.
    ///
    /// Cancel safe in that sessions which were told to close do, and no new one begins.
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
            // A session that was beginning as the phase changed is told now.
        }
        let closed = usize::try_from(self.metrics().sessions_closed() - before).unwrap_or(usize::MAX);
        let drained = Drained { closed, left: lifecycle.drivers() };
        tracing::info!(closed = drained.closed, left = drained.left, "drained");
        drained
    }

    /// Tells all sessions to close, some at a time
    async fn close_in_batches(&self, drain: &Drain, deadline: Instant) {
        let sessions = self.app().sessions.all();
        let batch = drain.batch_of(sessions.len());
        for (number, batch) in sessions.chunks(batch).enumerate() {
            if number > 0 {
                let next = clock::after(clock::now(), drain.interval);
                tokio::time::sleep_until(next.min(deadline).into()).await;
            }
            for session in batch {
                // One that is over already needs no closing.
                let _ = session.inbox.push(Visit::Close(CloseReason::ServerShutdown));
            }
        }
    }

    /// Waits for something to come about, no longer than until the deadline
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
    fn batches_grow_so_that_all_are_closed_in_time() {
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
