//! Bounds on what clients take, each alone and all together.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};

use clap::Args;
use roomcast::config::EventRate;
use roomcast::{Config, Server};

use super::units::size;

/// Bounds on what clients take, each alone and all together.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// TCP connections that may be open at once; more are answered with 503. Default: the
    /// system's limit of descriptors
    #[arg(long, value_name = "N", env = "ROOMCAST_MAX_CONNECTIONS")]
    max_connections: Option<NonZeroUsize>,

    /// Sessions that may be open at once; more are answered with 503
    #[arg(long, value_name = "N", default_value = "1000000", env = "ROOMCAST_MAX_SESSIONS")]
    max_sessions: NonZeroUsize,

    /// Long-polling sessions that began on one connection and may be open at once; more are answered with 503
    #[arg(long, value_name = "N", default_value = "100", env = "ROOMCAST_MAX_SESSIONS_PER_CONNECTION")]
    max_sessions_per_connection: NonZeroUsize,

    /// Sessions that may be open without being in a namespace; the oldest is closed for one more
    #[arg(long, value_name = "N", default_value = "20000", env = "ROOMCAST_MAX_UNJOINED_SESSIONS")]
    max_unjoined_sessions: NonZeroUsize,

    /// Size of the request that opens a session; more are answered with 431
    #[arg(long, value_name = "SIZE", default_value = "16KiB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_MAX_HANDSHAKE_BYTES")]
    max_handshake_bytes: usize,

    /// Size of such requests kept for all sessions; more are answered with 503
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_MAX_HANDSHAKES_BYTES")]
    max_handshakes_bytes: usize,

    /// Size of the name of an event, a namespace or a room
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_MAX_NAME_BYTES")]
    max_name_bytes: usize,

    /// Size of `auth` in a request to join a namespace; with more the client may not join
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_MAX_AUTH_BYTES")]
    max_auth_bytes: usize,

    /// Connections, and sessions, that one address may have open; more are answered with 503. Default: no limit
    #[arg(long, value_name = "N", env = "ROOMCAST_MAX_CONNECTIONS_PER_ADDRESS")]
    max_connections_per_address: Option<NonZeroUsize>,

    /// Requests of one session that may wait at once; more are answered with 400, and the session goes on
    #[arg(long, value_name = "N", default_value = "16", env = "ROOMCAST_MAX_REQUESTS")]
    max_requests: NonZeroUsize,

    /// Events that a client may send each second; one that sends more is closed. Default: no limit
    #[arg(long, value_name = "N", env = "ROOMCAST_MAX_EVENTS_PER_SECOND")]
    max_events_per_second: Option<NonZeroU32>,

    /// Events that a client may send at once after a pause. Default: as many as in two seconds
    #[arg(long, value_name = "N", requires = "max_events_per_second", env = "ROOMCAST_EVENT_BURST")]
    event_burst: Option<NonZeroU32>,

    /// Handlers of one client that may run at once; further events wait
    #[arg(long, value_name = "N", default_value = "1024", env = "ROOMCAST_MAX_HANDLERS")]
    max_handlers: NonZeroUsize,

    /// Size of the events of one client that wait for handlers; beyond that reading from it pauses
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_MAX_EVENT_BYTES")]
    max_event_bytes: usize,

    /// Namespaces that one client may be in; further requests to join are rejected
    #[arg(long, value_name = "N", default_value = "100", env = "ROOMCAST_MAX_NAMESPACES")]
    max_namespaces: NonZeroUsize,

    /// Rooms that one client may be in, in each namespace; it does not join further ones
    #[arg(long, value_name = "N", default_value_t = 10_000, env = "ROOMCAST_MAX_ROOMS")]
    max_rooms: usize,

    /// Size of one message, or of the body of one POST
    #[arg(long, value_name = "SIZE", default_value = "1MB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_MAX_PAYLOAD")]
    max_payload: usize,

    /// Frames that one WebSocket message may be cut into; one with more closes its connection
    #[arg(long, value_name = "N", default_value = "16384", env = "ROOMCAST_MAX_FRAGMENTS")]
    max_fragments: NonZeroU32,

    /// Binary attachments that one event may have; one with more closes its connection
    #[arg(long, value_name = "N", default_value_t = 10, env = "ROOMCAST_MAX_ATTACHMENTS")]
    max_attachments: usize,

    /// Size of what may be queued for a stalled client before it can be closed as a slow consumer
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_OUTBOX")]
    outbox: usize,

    /// Size of what may be queued for any client: an emit beyond this hard cap closes it
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_OUTBOX_MAX")]
    outbox_max: usize,

    /// Size per second that counts as progress of a stalled client
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = size::<u64>)]
    #[arg(env = "ROOMCAST_MIN_DRAIN_RATE")]
    min_drain_rate: u64,

    /// Size of the memory held for all clients together; beyond it clients that do not read are closed, longest
    /// stalled first. Default: a quarter of the RAM, or of the control group's limit, and at least 64 MiB
    #[arg(long, value_name = "SIZE", value_parser = size::<NonZeroU64>, env = "ROOMCAST_MEMORY_BUDGET")]
    memory_budget: Option<NonZeroU64>,

    /// Size of the headers of a request; more are answered with 431
    #[arg(long, value_name = "SIZE", default_value = "16KiB", value_parser = size::<usize>)]
    #[arg(env = "ROOMCAST_MAX_HEADER_BYTES")]
    max_header_bytes: usize,

    /// Headers that a request may have; more are answered with 431
    #[arg(long, value_name = "N", default_value_t = 100, env = "ROOMCAST_MAX_HEADERS")]
    max_headers: usize,
}

impl Limits {
    /// Returns the settings with those of the flags.
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

    /// Returns the server with the limits of TCP and HTTP.
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
        let options = Options::try_parse_from([&["serve"], flags].concat()).expect("flags that there are");
        options.limits.config(Config::new())
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        assert_eq!(config(&[]), Config::new());
    }

    #[test]
    fn each_is_set_by_its_flag() {
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
    fn nobody_can_be_served_with_none_of_these() {
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
