//! Configuration of plain WebSocket sessions.

use std::time::Duration;

/// Plain WebSocket configuration, shared by all sessions of a server.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[must_use]
pub struct PlainConfig {
    /// Time between two pings of the connection. Default: 25 s.
    pub ping_interval: Duration,
    /// Time a client has to answer a ping. Default: 20 s.
    ///
    /// Any input is an answer: a client without input for this and the [`ping_interval`](Self::ping_interval) is closed
    /// as idle.
    pub ping_timeout: Duration,
    /// Maximum bytes buffered from a client before the application admits it. Default: 256 KiB.
    ///
    /// A single message is buffered regardless of its length. A client that sends more is closed as overloaded.
    pub pending_limit: usize,
    /// Maximum binary messages of one event or acknowledgement, in JSON mode. Default: 10.
    pub max_attachments: usize,
    /// Maximum bytes of an event or acknowledgement with its binary, in JSON mode. Default: 10 MB.
    ///
    /// Each client may use this much memory while its binary arrives.
    pub max_event_bytes: usize,
    /// Time a client has to send the announced binary. Default: 60 s.
    pub attachment_timeout: Duration,
}

impl Default for PlainConfig {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            pending_limit: 256 * 1024,
            max_attachments: 10,
            max_event_bytes: 10_000_000,
            attachment_timeout: Duration::from_secs(60),
        }
    }
}

impl PlainConfig {
    /// Creates a configuration with the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`ping_interval`](Self#structfield.ping_interval).
    pub fn ping_interval(mut self, ping_interval: Duration) -> Self {
        self.ping_interval = ping_interval;
        self
    }

    /// Sets [`ping_timeout`](Self#structfield.ping_timeout).
    pub fn ping_timeout(mut self, ping_timeout: Duration) -> Self {
        self.ping_timeout = ping_timeout;
        self
    }

    /// Sets [`pending_limit`](Self#structfield.pending_limit).
    pub fn pending_limit(mut self, pending_limit: usize) -> Self {
        self.pending_limit = pending_limit;
        self
    }

    /// Sets [`max_attachments`](Self#structfield.max_attachments).
    pub fn max_attachments(mut self, max_attachments: usize) -> Self {
        self.max_attachments = max_attachments;
        self
    }

    /// Sets [`max_event_bytes`](Self#structfield.max_event_bytes).
    pub fn max_event_bytes(mut self, max_event_bytes: usize) -> Self {
        self.max_event_bytes = max_event_bytes;
        self
    }

    /// Sets [`attachment_timeout`](Self#structfield.attachment_timeout).
    pub fn attachment_timeout(mut self, attachment_timeout: Duration) -> Self {
        self.attachment_timeout = attachment_timeout;
        self
    }
}
