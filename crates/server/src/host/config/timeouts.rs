//! Timeouts of clients and connections.

use std::time::Duration;

use super::setters::setters;

/// Timeouts of clients and connections.
///
/// Set with [`Config::timeouts`](crate::Config::timeouts).
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Timeouts {
    pub(crate) ping_interval: Duration,
    pub(crate) ping_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) upgrade_timeout: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) attachment_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) close_timeout: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(45),
            upgrade_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            attachment_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(10),
        }
    }
}

setters! {
    Timeouts {
        /// Sets the time between the last packet of a client and the next ping. Default: 25 s.
        ping_interval: Duration,
        /// Sets the time a client has to answer a ping before its session ends. Default: 20 s.
        ping_timeout: Duration,
        /// Sets the time a Socket.IO client has to join a namespace before it is closed. Default: 45 s.
        ///
        /// A connect middleware that takes longer is dropped at its next await, and the client is rejected with
        /// `Connect timeout`.
        ///
        /// Counted as [`Limit::ConnectTime`](crate::metrics::Limit::ConnectTime).
        connect_timeout: Duration,
        /// Sets the time a client has to complete a transport upgrade. Default: 10 s.
        ///
        /// After that the new connection is closed, and the session stays on its transport.
        upgrade_timeout: Duration,
        /// Sets the time in which the body of a POST must arrive. Default: 30 s.
        ///
        /// After that the request is answered with 408, and its session ends. Counted as
        /// [`Limit::BodyTime`](crate::metrics::Limit::BodyTime). A WebSocket message still incomplete at the second
        /// ping after its start closes its connection with 1008: after two [`ping_interval`](Self::ping_interval)s at
        /// most.
        body_timeout: Duration,
        /// Sets the time a client has to send the binary attachments it announced, before it is closed. Default: 60 s.
        attachment_timeout: Duration,
        /// Sets how long a client may stall before it is closed. Default: 10 s.
        ///
        /// A client stalls while it takes less than [`min_drain_rate`](crate::config::Limits::min_drain_rate) and more
        /// than [`outbox_limit`](crate::config::Limits::outbox_limit) is queued for it. The time restarts with each
        /// window of sufficient progress. A polling client's time starts with its last answered GET and pauses while
        /// the response body makes progress. Time in which the server did not run is not counted.
        stall_timeout: Duration,
        /// Sets the time a closing connection has to send its queue and complete the close. Default: 10 s.
        close_timeout: Duration,
    }
}
