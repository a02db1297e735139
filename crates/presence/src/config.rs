//! Settings of the replication.

use std::time::Duration;

/// Settings of a [`PresenceReplica`](crate::PresenceReplica); all nodes of a cluster should have the same.
///
/// ```
/// use std::time::Duration;
///
/// use roomcast_presence::PresenceConfig;
///
/// let mut config = PresenceConfig::default();
/// config.batch_interval = Duration::from_millis(20);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PresenceConfig {
    /// Time between two publications of a room's changes. Default: 50 ms.
    ///
    /// The first change after a pause is published at once. Changes of a member within the interval that undo each other
    /// are not published.
    pub batch_interval: Duration,
    /// Time after which the members of a room are passed on although nodes have not answered. Default: 1 s.
    pub sync_timeout: Duration,
    /// Time that a question to a node may take. Default: 2 s.
    pub ask_timeout: Duration,
    /// Pause before a question to a node that did not answer is repeated. Default: 250 ms; doubles up to 4 s.
    pub retry_interval: Duration,
    /// Time after which the version of a room without changes is published. Default: 30 s.
    ///
    /// Limits the time for which a difference remains that the cluster did not report as a gap: one interval, or three
    /// for members of a room that the other node has forgotten.
    pub announce_interval: Duration,
    /// Maximum bytes of one publication or part of an answer, at least one member. Default: 64 KiB.
    pub max_bytes: usize,
    /// Maximum number of changes of one room and node that are held while an answer is awaited. Default: 4,096.
    ///
    /// Beyond it they are dropped, and the question is sent again.
    pub max_held: usize,
    /// Maximum number of rooms in one question. Default: 512.
    pub max_rooms: usize,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self {
            batch_interval: Duration::from_millis(50),
            sync_timeout: Duration::from_secs(1),
            ask_timeout: Duration::from_secs(2),
            retry_interval: Duration::from_millis(250),
            announce_interval: Duration::from_secs(30),
            max_bytes: 64 << 10,
            max_held: 4096,
            max_rooms: 512,
        }
    }
}
