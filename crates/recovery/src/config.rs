//! Settings of connection state recovery.

use std::time::Duration;

/// Settings of connection state recovery: retained events and sessions, and their lifetime.
///
/// Bounds apply per namespace. A namespace takes at most [`max_log_bytes`](Self::max_log_bytes) and
/// [`max_session_bytes`](Self::max_session_bytes) together.
///
/// # Shares
///
/// An [owner](crate::Owner) is an address, or a client without a known address. It holds at most a quarter of each
/// bound. If it exceeds that, its oldest entries are dropped, and a single entry above its share is not retained at
/// all, so no client can evict the entries of others. If there are too many sessions in total, sessions of the
/// owner with the most are dropped. Events that no client caused belong to the application, which may fill the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct RecoveryConfig {
    pub(crate) max_disconnection: Duration,
    pub(crate) skip_middlewares: bool,
    pub(crate) max_log_events: usize,
    pub(crate) max_log_bytes: usize,
    pub(crate) max_sessions: usize,
    pub(crate) max_session_bytes: usize,
    pub(crate) grace: Duration,
}

impl Default for RecoveryConfig {
    fn default() -> Self {
        Self {
            max_disconnection: Duration::from_secs(120),
            skip_middlewares: true,
            max_log_events: 10_000,
            max_log_bytes: 16 * 1024 * 1024,
            max_sessions: 10_000,
            max_session_bytes: 16 * 1024 * 1024,
            grace: Duration::from_secs(90),
        }
    }
}

impl RecoveryConfig {
    /// Returns the default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long after losing its connection a client may recover. Default: 2 minutes, as on Node.
    ///
    /// A later client starts a new session.
    pub fn max_disconnection(mut self, time: Duration) -> Self {
        self.max_disconnection = time;
        self
    }

    /// Sets whether recovered clients skip the connect middlewares. Default: yes, as on Node.
    ///
    /// Turn it off if permissions may be revoked in between.
    pub fn skip_middlewares(mut self, skip: bool) -> Self {
        self.skip_middlewares = skip;
        self
    }

    /// Sets the maximum number of retained events. Default: 10,000.
    ///
    /// Beyond it, the oldest event is dropped, and clients that missed it start a new session.
    pub fn max_log_events(mut self, events: usize) -> Self {
        self.max_log_events = events;
        self
    }

    /// Sets the maximum bytes of retained events: arguments, names and rooms, plus about 200 each. Default: 16 MiB.
    ///
    /// Beyond it, events are dropped as for [`max_log_events`](Self::max_log_events). Arguments are shared with the
    /// emit, not copied.
    pub fn max_log_bytes(mut self, bytes: usize) -> Self {
        self.max_log_bytes = bytes;
        self
    }

    /// Sets the maximum number of retained sessions. Default: 10,000.
    ///
    /// Beyond it, the session that disconnected first is dropped.
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// Sets the maximum bytes of retained sessions: ids, rooms and data, plus some 300 each. Default: 16 MiB.
    ///
    /// Beyond it, sessions are dropped as for [`max_sessions`](Self::max_sessions).
    pub fn max_session_bytes(mut self, bytes: usize) -> Self {
        self.max_session_bytes = bytes;
        self
    }

    /// Sets how long a client may have received no events before its disconnect is detected. Default: 90 s.
    ///
    /// Events are retained for this time plus [`max_disconnection`](Self::max_disconnection). It must cover the time in
    /// which the transport protocol detects a dead client, or clients are refused needlessly. A server sets it to twice
    /// the sum of its ping interval and ping timeout, plus two seconds.
    pub fn grace(mut self, time: Duration) -> Self {
        self.grace = time;
        self
    }

    /// Returns how long an event may still be missed by a client.
    pub(crate) fn retention(&self) -> Duration {
        self.max_disconnection.saturating_add(self.grace)
    }
}
