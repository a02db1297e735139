//! State of the cluster, as far as the task can tell.

use std::time::{Duration, Instant};

use roomcast_core::ClusterStatus;

/// Observed responses of the engine.
#[derive(Debug)]
pub(super) struct Health {
    started: Instant,
    join_timeout: Duration,
    /// Whether the engine was connected with all namespaces subscribed.
    has_joined: bool,
    disconnected_since: Option<Instant>,
    /// Time since which the engine accepts nothing although there is something to send.
    blocked_since: Option<Instant>,
    is_leaving: bool,
}

impl Health {
    pub(super) fn new(join_timeout: Duration, now: Instant) -> Self {
        Self {
            started: now,
            join_timeout,
            has_joined: false,
            disconnected_since: Some(now),
            blocked_since: None,
            is_leaving: false,
        }
    }

    /// Notes a connection; returns whether it was away for long.
    pub(super) fn connect(&mut self, now: Instant) -> bool {
        self.disconnected_since.take().is_some_and(|since| since + STALL <= now)
    }

    pub(super) fn disconnect(&mut self, now: Instant) {
        self.disconnected_since.get_or_insert(now);
    }

    pub(super) fn block(&mut self, now: Instant) {
        self.blocked_since.get_or_insert(now);
    }

    pub(super) fn unblock(&mut self) {
        self.blocked_since = None;
    }

    pub(super) fn leave(&mut self) {
        self.is_leaving = true;
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// Returns the status. `unconfirmed` is the time since which a namespace is not subscribed, and `away` that since
    /// which the stream cannot be used.
    pub(super) fn status(
        &mut self,
        unconfirmed: Option<Instant>,
        away: Option<Instant>,
        now: Instant,
    ) -> ClusterStatus {
        self.has_joined |= self.disconnected_since.is_none() && unconfirmed.is_none() && away.is_none();
        if !self.has_joined && now < self.started + self.join_timeout {
            return ClusterStatus::Joining;
        }
        let is_over = |since: Option<Instant>, time| since.is_some_and(|since| since + time <= now);
        let is_away = is_over(self.disconnected_since, STALL)
            || is_over(self.blocked_since, STALL)
            || is_over(away, STALL);
        if is_away || is_over(unconfirmed, self.join_timeout) {
            return ClusterStatus::Degraded;
        }
        ClusterStatus::Connected
    }

    /// Returns the next time at which the status may change by itself.
    pub(super) fn poll_timeout(&self, unconfirmed: Option<Instant>, now: Instant) -> Option<Instant> {
        let times = [
            (!self.has_joined).then(|| self.started + self.join_timeout),
            self.disconnected_since.map(|since| since + STALL),
            self.blocked_since.map(|since| since + STALL),
            unconfirmed.map(|since| since + self.join_timeout),
        ];
        times.into_iter().flatten().filter(|at| *at > now).min()
    }
}

/// Time after which an engine that is away, or accepts nothing, counts as down.
pub(super) const STALL: Duration = Duration::from_millis(250);
