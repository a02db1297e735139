//! What is kept for clients that come back, and for how long

use std::time::Duration;

/// What is kept for clients that come back, and for how long
///
/// Bounds are for each namespace. At its worst one takes `max_log_bytes` and `max_session_bytes` together.
///
/// # Shares
///
/// No [owner](crate::Owner), which is an address, or a client of which none is known, holds more than a quarter of any
/// bound. Of one that would, the oldest are dropped, and what takes more than that by itself is not kept at all; so
/// nobody can have others forgotten. Where members are too many in all, those of whoever holds most are dropped. Events
/// that no client caused belong to the application, which may fill the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryConfig {
    /// How long after it went away a client may come back
    ///
    /// Default: 2 minutes, as on Node.
    pub max_disconnection_duration: Duration,
    /// Whether a client that is recovered is let in without asking the middlewares again
    ///
    /// Default: yes, as on Node: they agreed once. Turn it off where permission may be withdrawn in between.
    pub skip_middlewares: bool,
    /// Events that are kept
    ///
    /// Default: 10,000. When there are more, the oldest is dropped; clients that missed it are refused from then on,
    /// and begin anew.
    pub max_log_events: usize,
    /// Bytes of events that are kept: their arguments, names and rooms, and about 200 for each
    ///
    /// Default: 16 MiB. Passing it has the same outcome as `max_log_events`. Arguments are shared with whoever emitted
    /// them, not copied.
    pub max_log_bytes: usize,
    /// Clients that are kept after they went away
    ///
    /// Default: 10,000. When there are more, the one that has been away longest is forgotten.
    pub max_sessions: usize,
    /// Bytes of those clients: their ids, rooms and data, and some 300 for each
    ///
    /// Default: 16 MiB. Passing it has the same outcome as `max_sessions`.
    pub max_session_bytes: usize,
    /// How long before it was found to be gone a client may have stopped hearing what it was sent
    ///
    /// Default: 90 s. Events are kept for this and `max_disconnection_duration` together. Must cover the time in which
    /// the transport protocol detects a dead client, or clients are refused without need: a server sets it to twice its
    /// ping interval and ping timeout, plus two seconds.
    pub grace: Duration,
}

impl Default for RecoveryConfig {
    fn default() -> Self {
        Self {
            max_disconnection_duration: Duration::from_secs(120),
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
    /// How long an event may still be missed by somebody
    pub(crate) fn retention(&self) -> Duration {
        self.max_disconnection_duration.saturating_add(self.grace)
    }
}
