//! State of the connection, as far as the task can tell.

use std::time::{Duration, Instant};

use roomcast_cluster::{BackplaneEvent, Channel, ClusterConfig, NodeId};
use roomcast_core::ClusterStatus;

/// Observed responses of the engine.
#[derive(Debug)]
pub(super) struct Health {
    /// Channels of the node itself, and whether each is confirmed.
    own: [(Channel, bool); 3],
    /// Time since which one of them is not.
    unconfirmed_since: Option<Instant>,
    /// Time at which all were confirmed first.
    joined_at: Option<Instant>,
    /// Time since which the engine accepts nothing although there is something to send.
    blocked_since: Option<Instant>,
    /// Time since which a part of the engine is lost.
    partial_since: Option<Instant>,
    started: Instant,
    is_leaving: bool,
    join_timeout: Duration,
}

impl Health {
    pub(super) fn new(config: &ClusterConfig, id: NodeId, now: Instant) -> Self {
        Self {
            own: [Channel::Nodes, Channel::Inbox(id), Channel::Ids(id)].map(|channel| (channel, false)),
            unconfirmed_since: Some(now),
            joined_at: None,
            blocked_since: None,
            partial_since: None,
            started: now,
            is_leaving: false,
            join_timeout: config.join_timeout,
        }
    }

    pub(super) fn note_event(&mut self, event: &BackplaneEvent, now: Instant) {
        let (channels, is_confirmed) = match event {
            BackplaneEvent::Subscribed { channels, .. } => (channels, true),
            BackplaneEvent::Unsubscribed { channels } => (channels, false),
            _ => return,
        };
        let all = !is_confirmed && channels.is_empty();
        for (own, state) in &mut self.own {
            if all || channels.contains(own) {
                *state = is_confirmed;
            }
        }
        if self.own.iter().all(|(_, is_confirmed)| *is_confirmed) {
            self.unconfirmed_since = None;
            self.joined_at.get_or_insert(now);
        } else {
            self.unconfirmed_since.get_or_insert(now);
        }
    }

    pub(super) fn block(&mut self, now: Instant) {
        self.blocked_since.get_or_insert(now);
    }

    pub(super) fn unblock(&mut self) {
        self.blocked_since = None;
    }

    /// Notes whether a part of the engine is lost.
    pub(super) fn note_part(&mut self, is_lost: bool, now: Instant) {
        if is_lost {
            self.partial_since.get_or_insert(now);
        } else {
            self.partial_since = None;
        }
    }

    pub(super) fn leave(&mut self) {
        self.is_leaving = true;
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// Returns the status; `degraded` is the number of channels that were not confirmed in time.
    pub(super) fn status(&self, degraded: usize, now: Instant) -> ClusterStatus {
        let is_over = |since: Option<Instant>, time| since.is_some_and(|since| since + time <= now);
        if self.joined_at.is_none() && now < self.started + self.join_timeout {
            return ClusterStatus::Joining;
        }
        let is_deaf = is_over(self.unconfirmed_since, self.join_timeout) || degraded > 0;
        let is_lost = is_over(self.partial_since, STALL);
        if is_deaf || is_lost || is_over(self.blocked_since, STALL) {
            return ClusterStatus::Degraded;
        }
        ClusterStatus::Connected
    }

    /// Returns the next time at which the status may change by itself.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let times = [
            self.unconfirmed_since.map(|since| since + self.join_timeout),
            self.blocked_since.map(|since| since + STALL),
            self.partial_since.map(|since| since + STALL),
        ];
        times.into_iter().flatten().filter(|at| *at > now).min()
    }
}

/// Time after which an engine that accepts nothing counts as down, not as busy.
const STALL: Duration = Duration::from_millis(250);
