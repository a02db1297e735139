//! What is kept for clients that reconnect, and for how long.

use std::time::Duration;

/// Settings of connection state recovery: what is kept for clients that reconnect, and for how long.
///
/// Bounds are for each namespace. At its worst one takes [`max_log_bytes`](Self::max_log_bytes) and
/// [`max_session_bytes`](Self::max_session_bytes) together.
///
/// # Shares
///
/// No [owner](crate::Owner), which is an address, or a client of which none is known, holds more than a quarter of any
/// bound. Of one that would, the oldest entries are dropped, and an entry that takes more than that by itself is not kept
/// at all; so no client can have others forgotten. Where members are too many in all, those of the owner that holds most
/// are dropped. Events that no client caused belong to the application, which may fill the log.
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
    /// Creates settings that are all at their defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long after its connection was lost a client may reconnect. Default: 2 minutes, as on Node.
    ///
    /// Later it begins a new session.
    pub fn max_disconnection(mut self, time: Duration) -> Self {
        self.max_disconnection = time;
        self
    }

    /// Sets whether a recovered client is let in without running the connect middlewares again. Default: yes, as on Node.
    ///
    /// Turn it off where permission may be withdrawn in between.
    pub fn skip_middlewares(mut self, skip: bool) -> Self {
        self.skip_middlewares = skip;
        self
    }

    /// Sets the number of events that are kept. Default: 10,000.
    ///
    /// When there are more, the oldest is dropped; clients that missed it begin anew.
    pub fn max_log_events(mut self, events: usize) -> Self {
        self.max_log_events = events;
        self
    }

    /// Sets the bytes of events that are kept: their arguments, names and rooms, and about 200 for each. Default: 16 MiB.
    ///
    /// Passing it has the same outcome as [`max_log_events`](Self::max_log_events). Arguments are shared with the emit,
    /// not copied.
    pub fn max_log_bytes(mut self, bytes: usize) -> Self {
        self.max_log_bytes = bytes;
        self
    }

    /// Sets the number of disconnected clients that are kept. Default: 10,000.
    ///
    /// When there are more, the one that has been away longest is forgotten.
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// Sets the bytes of those clients: their ids, rooms and data, and some 300 for each. Default: 16 MiB.
    ///
    /// Passing it has the same outcome as [`max_sessions`](Self::max_sessions).
    pub fn max_session_bytes(mut self, bytes: usize) -> Self {
        self.max_session_bytes = bytes;
        self
    }

    /// Sets how long before it was found to be gone a client may have stopped receiving events. Default: 90 s.
    ///
    /// Events are kept for this and [`max_disconnection`](Self::max_disconnection) together. Must cover the time in which
    /// the transport protocol detects a dead client, or clients are refused without need: a server sets it to twice its
    /// ping interval and ping timeout, plus two seconds.
    pub fn grace(mut self, time: Duration) -> Self {
        self.grace = time;
        self
    }

    /// Returns how long an event may still be missed by a client.
    pub(crate) fn retention(&self) -> Duration {
        self.max_disconnection.saturating_add(self.grace)
    }
}
