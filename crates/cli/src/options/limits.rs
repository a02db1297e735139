//! Limits per client and for the whole server.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};

use clap::Args;
use roomcast::config::EventRate;
use roomcast::{Config, Server};

use super::units::size;

/// Limits per client and for the whole server.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// Maximum number of open TCP connections; further ones get 503. Default: the descriptor limit less 64
    #[arg(long, value_name = "N", env = "ROOMCAST_MAX_CONNECTIONS")]
    max_connections: Option<NonZeroUsize>,

    /// Maximum number of open sessions; further ones get 503
    #[arg(long, value_name = "N", default_value = "1000000", env = "ROOMCAST_MAX_SESSIONS")]
    max_sessions: NonZeroUsize,

    /// Maximum number of open long-polling sessions begun on one TCP connection; further ones get 503
    #[arg(long, value_name = "N", default_value = "100", env = "ROOMCAST_MAX_SESSIONS_PER_CONNECTION")]
    max_sessions_per_connection: NonZeroUsize,

    /// Maximum number of sessions in no namespace; beyond it the oldest is closed
    #[arg(long, value_name = "N", default_value = "20000", env = "ROOMCAST_MAX_UNJOINED_SESSIONS")]
    max_unjoined_sessions: NonZeroUsize,

    /// Maximum size of the request that opens a session; a larger one gets 431
    #[arg(long, value_name = "SIZE", default_value = "16KiB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_MAX_HANDSHAKE_BYTES")]
    max_handshake_bytes: usize,

    /// Maximum total size of these requests, kept for all sessions; beyond it new sessions get 503
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_MAX_HANDSHAKES_BYTES")]
    max_handshakes_bytes: usize,

    /// Maximum size of an event, namespace or room name
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_MAX_NAME_BYTES")]
    max_name_bytes: usize,

    /// Maximum size of the `auth` payload of a namespace connect; a larger one is rejected
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_MAX_AUTH_BYTES")]
    max_auth_bytes: usize,

    /// Maximum number of connections, and of sessions, per client address; further ones get 503. Default: no limit
    #[arg(long, value_name = "N", env = "ROOMCAST_MAX_CONNECTIONS_PER_ADDRESS")]
    max_connections_per_address: Option<NonZeroUsize>,

    /// Maximum number of pending requests per session; further ones get 400, and the session stays open
    #[arg(long, value_name = "N", default_value = "16", env = "ROOMCAST_MAX_REQUESTS")]
    max_requests: NonZeroUsize,

    /// Maximum event rate per client; a client that exceeds it is closed. Default: no limit
    #[arg(long, value_name = "N", env = "ROOMCAST_MAX_EVENTS_PER_SECOND")]
    max_events_per_second: Option<NonZeroU32>,

    /// Burst size of the event rate limit. Default: two seconds' worth of events
    #[arg(long, value_name = "N", requires = "max_events_per_second", env = "ROOMCAST_EVENT_BURST")]
    event_burst: Option<NonZeroU32>,

    /// Maximum number of concurrent handlers per client; further events wait
    #[arg(long, value_name = "N", default_value = "1024", env = "ROOMCAST_MAX_HANDLERS")]
    max_handlers: NonZeroUsize,

    /// Maximum size of events waiting for handlers per client; beyond it reading from the client pauses
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_MAX_EVENT_BYTES")]
    max_event_bytes: usize,

    /// Maximum number of namespaces per client; further connects are rejected
    #[arg(long, value_name = "N", default_value = "100", env = "ROOMCAST_MAX_NAMESPACES")]
    max_namespaces: NonZeroUsize,

    /// Maximum number of rooms per client in each namespace; further joins fail
    #[arg(long, value_name = "N", default_value_t = 10_000, env = "ROOMCAST_MAX_ROOMS")]
    max_rooms: usize,

    /// Maximum size of a message, and of the body of a POST
    #[arg(long, value_name = "SIZE", default_value = "1MB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_MAX_PAYLOAD")]
    max_payload: usize,

    /// Maximum number of frames in a WebSocket message; more close the connection
    #[arg(long, value_name = "N", default_value = "16384", env = "ROOMCAST_MAX_FRAGMENTS")]
    max_fragments: NonZeroU32,

    /// Maximum number of binary attachments in an event; more close the connection
    #[arg(long, value_name = "N", default_value_t = 10, env = "ROOMCAST_MAX_ATTACHMENTS")]
    max_attachments: usize,

    /// Queued bytes from which a stalled client can be closed as a slow consumer
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_OUTBOX")]
    outbox: usize,

    /// Hard cap on queued bytes per client; an emit beyond it closes the client
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_OUTBOX_MAX")]
    outbox_max: usize,

    /// Bytes per second that count as progress of a stalled client
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = size::<u64>)]
    #[arg(env = "ROOMCAST_MIN_DRAIN_RATE")]
    min_drain_rate: u64,

    /// Memory budget for all clients; beyond it stalled clients are closed, longest stalled first. Default: a quarter
    /// of the RAM or of the cgroup limit, at least 64 MiB
    #[arg(long, value_name = "SIZE", value_parser = size::<NonZeroU64>, env = "ROOMCAST_MEMORY_BUDGET")]
    memory_budget: Option<NonZeroU64>,

    /// Maximum size of request headers; larger ones get 431
    #[arg(long, value_name = "SIZE", default_value = "16KiB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_MAX_HEADER_BYTES")]
    max_header_bytes: usize,

    /// Maximum number of request headers; more get 431
    #[arg(long, value_name = "N", default_value_t = 100, env = "ROOMCAST_MAX_HEADERS")]
    max_headers: usize,
}

impl Limits {
    /// Applies the flags to `config`.
    pub(crate) fn config(&self, config: Config) -> Config {
        let mut config = config.limits(|limits| {
            limits
                .max_sessions(self.max_sessions.get())
                .max_unjoined_sessions(self.max_unjoined_sessions.get())
                .max_handshake_bytes(self.max_handshake_bytes)
                .max_handshakes_bytes(self.max_handshakes_bytes)
                .max_name_bytes(self.max_name_bytes)
                .max_auth_bytes(self.max_auth_bytes)
                .max_requests(self.max_requests.get())
                .max_handlers(self.max_handlers.get())
                .max_event_bytes(self.max_event_bytes)
                .max_namespaces(self.max_namespaces.get())
                .max_rooms(self.max_rooms)
                .max_payload(self.max_payload)
                .max_fragments(self.max_fragments.get())
                .max_attachments(self.max_attachments)
                .outbox_limit(self.outbox)
                .outbox_max(self.outbox_max)
                .min_drain_rate(self.min_drain_rate)
        });
        if let Some(max) = self.max_connections_per_address {
            config = config.limits(|limits| limits.max_connections_per_address(max.get()));
        }
        if let Some(bytes) = self.memory_budget {
            config = config.limits(|limits| limits.memory_budget(bytes.get()));
        }
        if let Some(events) = self.max_events_per_second {
            let rate = EventRate::per_second(events);
            config = config
                .limits(|limits| limits.event_rate(self.event_burst.map_or(rate, |burst| rate.burst(burst))));
        }
        config
    }

    /// Applies the TCP and HTTP limits to `server`.
    pub(crate) fn server(&self, server: Server) -> Server {
        let server = server
            .max_header_bytes(self.max_header_bytes)
            .max_headers(self.max_headers)
            .max_sessions_per_connection(self.max_sessions_per_connection.get());
        match self.max_connections {
            Some(max) => server.max_connections(max.get()),
            None => server,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::Options;

    fn config(flags: &[&str]) -> Config {
        let options = Options::try_parse_from([&["serve"], flags].concat()).expect("valid flags");
        options.limits.config(Config::new())
    }

    #[test]
    fn matches_library_defaults() {
        assert_eq!(config(&[]), Config::new());
    }

    #[test]
    fn flag_sets_its_limit() {
        let five = NonZeroU32::new(5).expect("not zero");
        let expected = [
            ("--max-sessions=5", Config::new().limits(|limits| limits.max_sessions(5))),
            ("--max-unjoined-sessions=5", Config::new().limits(|limits| limits.max_unjoined_sessions(5))),
            ("--max-handshake-bytes=5", Config::new().limits(|limits| limits.max_handshake_bytes(5))),
            ("--max-handshakes-bytes=5", Config::new().limits(|limits| limits.max_handshakes_bytes(5))),
            ("--max-name-bytes=5", Config::new().limits(|limits| limits.max_name_bytes(5))),
            ("--max-auth-bytes=5", Config::new().limits(|limits| limits.max_auth_bytes(5))),
            (
                "--max-connections-per-address=5",
                Config::new().limits(|limits| limits.max_connections_per_address(5)),
            ),
            ("--max-requests=5", Config::new().limits(|limits| limits.max_requests(5))),
            (
                "--max-events-per-second=5",
                Config::new().limits(|limits| limits.event_rate(EventRate::per_second(five))),
            ),
            ("--max-handlers=5", Config::new().limits(|limits| limits.max_handlers(5))),
            ("--max-event-bytes=5", Config::new().limits(|limits| limits.max_event_bytes(5))),
            ("--max-namespaces=5", Config::new().limits(|limits| limits.max_namespaces(5))),
            ("--max-rooms=5", Config::new().limits(|limits| limits.max_rooms(5))),
            ("--max-payload=5", Config::new().limits(|limits| limits.max_payload(5))),
            ("--max-fragments=5", Config::new().limits(|limits| limits.max_fragments(5))),
            ("--max-attachments=5", Config::new().limits(|limits| limits.max_attachments(5))),
            ("--outbox=5", Config::new().limits(|limits| limits.outbox_limit(5))),
            ("--memory-budget=5", Config::new().limits(|limits| limits.memory_budget(5))),
            ("--outbox-max=5", Config::new().limits(|limits| limits.outbox_max(5))),
            ("--min-drain-rate=5", Config::new().limits(|limits| limits.min_drain_rate(5))),
        ];
        for (flag, expected) in expected {
            assert_eq!(config(&[flag]), expected, "{flag}");
            assert_ne!(config(&[flag]), Config::new(), "{flag}");
        }
        let burst = EventRate::per_second(five).burst(NonZeroU32::MIN);
        let flags = ["--max-events-per-second=5", "--event-burst=1"];
        assert_eq!(config(&flags), Config::new().limits(|limits| limits.event_rate(burst)));
    }

    #[test]
    fn rejects_zero_limits() {
        for flag in [
            "--max-connections=0",
            "--max-sessions=0",
            "--max-connections-per-address=0",
            "--max-requests=0",
            "--max-events-per-second=0",
            "--max-handlers=0",
            "--max-namespaces=0",
            "--max-fragments=0",
            "--memory-budget=0",
        ] {
            assert!(Options::try_parse_from(["serve", flag]).is_err(), "{flag}");
        }
    }
}
