//! Exceeded limits: counting and logging

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::util::clock;

/// Limit of the server that rejected a client.
///
/// Each is counted in [`Metrics::limits_exceeded`](crate::metrics::Metrics::limits_exceeded) and in `roomcast_refused_total`, and
/// logged as a warning at most once a second, with the number of suppressed ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// [`Server::max_connections`](crate::Server::max_connections): 503, and the connection is closed
    Connections,
    /// [`Limits::max_connections_per_address`](crate::config::Limits::max_connections_per_address): 503
    Address,
    /// [`Limits::max_sessions`](crate::config::Limits::max_sessions): 503
    Sessions,
    /// New session while the server drains: 503
    Draining,
    /// [`HttpConfig::cors`](crate::config::HttpConfig::cors): 403
    Origin,
    /// [`Server::max_header_bytes`](crate::Server::max_header_bytes) or
    /// [`max_headers`](crate::Server::max_headers): 431, and the connection is closed
    HeaderSize,
    /// [`Server::header_timeout`](crate::Server::header_timeout): the connection is closed
    HeaderTime,
    /// [`Server::proxy_protocol`](crate::Server::proxy_protocol): a trusted proxy sent no valid header; the
    /// connection is closed
    ProxyHeader,
    /// [`Limits::event_rate`](crate::config::Limits::event_rate): the client is closed, reason `rate limited`
    EventRate,
    /// [`Limits::max_child_namespaces`](crate::config::Limits::max_child_namespaces): the connect is rejected
    Namespaces,
    /// [`Limits::max_requests`](crate::config::Limits::max_requests): 400
    Requests,
    /// [`Timeouts::connect_timeout`](crate::config::Timeouts::connect_timeout): the client is closed
    ConnectTime,
    /// [`Limits::max_namespaces`](crate::config::Limits::max_namespaces): the connect is rejected
    JoinedNamespaces,
    /// [`Limits::max_rooms`](crate::config::Limits::max_rooms): the socket does not join
    Rooms,
    /// [`Limits::max_acks`](crate::config::Limits::max_acks): the event is not sent to the client
    Acks,
    /// [`Limits::max_name_bytes`](crate::config::Limits::max_name_bytes): an event closes the client; a namespace or
    /// room is not joined
    NameSize,
    /// [`Limits::max_auth_bytes`](crate::config::Limits::max_auth_bytes): the connect is rejected
    AuthSize,
    /// [`Limits::max_unjoined_sessions`](crate::config::Limits::max_unjoined_sessions): the oldest is closed
    Unjoined,
    /// [`Server::max_sessions_per_connection`](crate::Server::max_sessions_per_connection): 503
    ConnectionSessions,
    /// [`Limits::max_handshake_bytes`](crate::config::Limits::max_handshake_bytes): 431
    HandshakeSize,
    /// [`Limits::max_handshakes_bytes`](crate::config::Limits::max_handshakes_bytes): 503
    HandshakesSize,
    /// [`Timeouts::body_timeout`](crate::config::Timeouts::body_timeout): 408, and the session ends
    BodyTime,
}

impl Limit {
    /// All limits
    pub const ALL: [Self; 22] = [
        Self::Connections,
        Self::Address,
        Self::Sessions,
        Self::Draining,
        Self::Origin,
        Self::HeaderSize,
        Self::HeaderTime,
        Self::ProxyHeader,
        Self::EventRate,
        Self::Namespaces,
        Self::Requests,
        Self::ConnectTime,
        Self::JoinedNamespaces,
        Self::Rooms,
        Self::Acks,
        Self::NameSize,
        Self::AuthSize,
        Self::Unjoined,
        Self::ConnectionSessions,
        Self::HandshakeSize,
        Self::HandshakesSize,
        Self::BodyTime,
    ];

    /// Returns its label in `roomcast_refused_total`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Address => "address",
            Self::Sessions => "sessions",
            Self::Draining => "draining",
            Self::Origin => "origin",
            Self::HeaderSize => "header_size",
            Self::HeaderTime => "header_time",
            Self::ProxyHeader => "proxy_header",
            Self::EventRate => "event_rate",
            Self::Namespaces => "namespaces",
            Self::Requests => "requests",
            Self::ConnectTime => "connect_time",
            Self::JoinedNamespaces => "joined_namespaces",
            Self::Rooms => "rooms",
            Self::Acks => "acks",
            Self::NameSize => "name_size",
            Self::AuthSize => "auth_size",
            Self::Unjoined => "unjoined",
            Self::ConnectionSessions => "connection_sessions",
            Self::HandshakeSize => "handshake_size",
            Self::HandshakesSize => "handshakes_size",
            Self::BodyTime => "body_time",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Rejections per limit.
#[derive(Debug, Default)]
pub(crate) struct LimitCounters([Tally; Limit::ALL.len()]);

/// Counter whose log line is limited to one per second, with the number since the last.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    count: AtomicU64,
    /// Second of the last line
    said_at: AtomicU64,
    /// Count at the last line
    said: AtomicU64,
}

impl Tally {
    pub(crate) const fn new() -> Self {
        Self { count: AtomicU64::new(0), said_at: AtomicU64::new(0), said: AtomicU64::new(0) }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts one; if a line is due, returns the number since the last line.
    ///
    /// An attack on a limit must not fill the disk with log lines.
    pub(crate) fn record(&self) -> Option<u64> {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let second = clock::wall().duration_since(std::time::UNIX_EPOCH).map_or(1, |since| since.as_secs());
        if self.said_at.swap(second, Ordering::Relaxed) == second {
            return None;
        }
        Some(count.saturating_sub(self.said.swap(count, Ordering::Relaxed)))
    }
}

impl LimitCounters {
    pub(crate) fn count(&self, limit: Limit) -> u64 {
        self.0[limit as usize].count()
    }

    /// Counts one; if a line is due, returns the number since the last line.
    pub(crate) fn record(&self, limit: Limit) -> Option<u64> {
        self.0[limit as usize].record()
    }
}

/// Counts an exceeded limit, and logs it if due: limit, `key = value` fields, then a message.
macro_rules! limit_exceeded {
    ($io:expr, $limit:expr, $($line:tt)+) => {
        if let Some(times) = $io.metrics().limits_exceeded.record($limit) {
            tracing::warn!(limit = $limit.as_str(), times, $($line)+);
        }
    };
}
pub(crate) use limit_exceeded;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_all_and_logs_few() {
        let limits_exceeded = LimitCounters::default();
        let said: Vec<u64> = (0..1000).filter_map(|_| limits_exceeded.record(Limit::Origin)).collect();
        assert_eq!(limits_exceeded.count(Limit::Origin), 1000);
        assert_eq!(limits_exceeded.count(Limit::Sessions), 0);
        assert_eq!(said.first(), Some(&1));
        assert!(said.len() <= 3, "{said:?}");
    }

    #[test]
    fn names_are_distinct_and_ordered() {
        for (at, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, at);
            assert_eq!(Limit::ALL.iter().filter(|other| other.as_str() == limit.as_str()).count(), 1);
        }
    }
}
