//! What `roomcast serve` is told, by flags or by variables of the environment

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use roomcast::{Compression, Cors, Origins, RecoveryConfig};

/// What `roomcast serve` is told
#[derive(Parser, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000", env = "ROOMCAST_ADDR")]
    #[arg(help_heading = LISTENING)]
    pub(crate) addr: SocketAddr,

    /// Serve the demo to other machines too; anybody who can reach the port can then use it
    #[arg(long, env = "ROOMCAST_PUBLIC", help_heading = LISTENING)]
    pub(crate) public: bool,

    /// How many threads serve, each with clients of its own
    #[arg(long, value_name = "N", default_value = "1", env = "ROOMCAST_THREADS", help_heading = LISTENING)]
    pub(crate) threads: NonZeroUsize,

    /// How clients may connect; without `websocket` there is no plain WebSocket either
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',', default_value = "polling,websocket")]
    #[arg(env = "ROOMCAST_TRANSPORTS", help_heading = LISTENING)]
    pub(crate) transports: Vec<Transport>,

    /// Keep sessions on the transport they begin with, instead of letting them move to a better one
    #[arg(long, env = "ROOMCAST_NO_UPGRADES", help_heading = LISTENING)]
    pub(crate) no_upgrades: bool,

    /// Name of a cookie with the session's id, for load balancers that keep a client on one server by it.
    /// Default: none
    #[arg(long, value_name = "NAME", env = "ROOMCAST_COOKIE", help_heading = LISTENING)]
    pub(crate) cookie: Option<String>,

    /// Bytes from which on answers to polls are compressed, for clients that take it; 0 for never
    #[arg(long, value_name = "BYTES", default_value_t = 1024, env = "ROOMCAST_COMPRESS_POLLS")]
    #[arg(help_heading = LISTENING)]
    pub(crate) compress_polls: usize,

    /// Folder with the official browser clients, such as node_modules/socket.io/client-dist, to be served as
    /// /socket.io/socket.io.js and so on. Default: none
    #[arg(long, value_name = "FOLDER", env = "ROOMCAST_SERVE_CLIENT", help_heading = LISTENING)]
    pub(crate) serve_client: Option<PathBuf>,

    /// Certificate as PEM, with those that vouch for it, to serve https and wss. SIGHUP reads it again
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "ROOMCAST_TLS_CERT", help_heading = LISTENING)]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Its private key, as PEM
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "ROOMCAST_TLS_KEY", help_heading = LISTENING)]
    pub(crate) tls_key: Option<PathBuf>,

    /// Proxy, or network of proxies, that is believed about where clients come from: by X-Forwarded-For,
    /// X-Forwarded-Proto and X-Forwarded-Host. May be repeated. Nobody else is believed
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', value_parser = network)]
    #[arg(env = "ROOMCAST_TRUSTED_PROXY", help_heading = LISTENING)]
    pub(crate) trusted_proxy: Vec<roomcast::IpNet>,

    /// Expect the PROXY protocol, version 1 or 2, from trusted proxies
    #[arg(long, requires = "trusted_proxy", env = "ROOMCAST_PROXY_PROTOCOL", help_heading = LISTENING)]
    pub(crate) proxy_protocol: bool,

    /// Origin, such as https://chat.example, whose pages may connect with their visitors' cookies; may be repeated
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',', env = "ROOMCAST_ALLOW_ORIGIN")]
    #[arg(help_heading = PAGES)]
    pub(crate) allow_origin: Vec<String>,

    /// Which other pages may connect
    #[arg(long, value_name = "WHICH", value_enum, default_value = "same-or-cookieless")]
    #[arg(env = "ROOMCAST_ORIGINS", help_heading = PAGES)]
    origins: OriginsOption,

    /// Origin whose pages may use long-polling here without cookies, or `*` for all; may be repeated
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',', env = "ROOMCAST_CORS", help_heading = PAGES)]
    cors: Vec<String>,

    /// TCP connections that may be open at once; more are told 503. Default: what the system lets a process have
    #[arg(long, value_name = "N", env = "ROOMCAST_MAX_CONNECTIONS", help_heading = LIMITS)]
    pub(crate) max_connections: Option<NonZeroUsize>,

    /// Sessions that may be open at once; more are told 503
    #[arg(long, value_name = "N", default_value = "1000000", env = "ROOMCAST_MAX_SESSIONS")]
    #[arg(help_heading = LIMITS)]
    pub(crate) max_sessions: NonZeroUsize,

    /// Connections, and sessions, that one address may have open; more are told 503. Default: no limit
    #[arg(long, value_name = "N", env = "ROOMCAST_MAX_CONNECTIONS_PER_ADDRESS", help_heading = LIMITS)]
    pub(crate) max_connections_per_address: Option<NonZeroUsize>,

    /// Events that a client may send each second; one that sends more is closed. Default: no limit
    #[arg(long, value_name = "N", env = "ROOMCAST_MAX_EVENTS_PER_SECOND", help_heading = LIMITS)]
    pub(crate) max_events_per_second: Option<NonZeroU32>,

    /// Events that a client may send at once after a pause. Default: as many as in two seconds
    #[arg(long, value_name = "N", requires = "max_events_per_second", env = "ROOMCAST_EVENT_BURST")]
    #[arg(help_heading = LIMITS)]
    pub(crate) event_burst: Option<NonZeroU32>,

    /// Bytes one message may have
    #[arg(long, value_name = "BYTES", default_value_t = 1_000_000, env = "ROOMCAST_MAX_PAYLOAD")]
    #[arg(help_heading = LIMITS)]
    pub(crate) max_payload: usize,

    /// Bytes that may wait for one client before it is closed as a slow consumer
    #[arg(long, value_name = "BYTES", default_value_t = 1_048_576, env = "ROOMCAST_OUTBOX")]
    #[arg(help_heading = LIMITS)]
    pub(crate) outbox: usize,

    /// Bytes that the headers of a request may have; more are told 431
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024, env = "ROOMCAST_MAX_HEADER_BYTES")]
    #[arg(help_heading = LIMITS)]
    pub(crate) max_header_bytes: usize,

    /// Headers that a request may have; more are told 431
    #[arg(long, value_name = "N", default_value_t = 100, env = "ROOMCAST_MAX_HEADERS")]
    #[arg(help_heading = LIMITS)]
    pub(crate) max_headers: usize,

    /// Let clients whose connection broke come back with their rooms and what they missed
    #[arg(long, env = "ROOMCAST_RECOVERY", help_heading = RECOVERY)]
    pub(crate) recovery: bool,

    /// How long after that they may come back
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration, requires = "recovery")]
    #[arg(env = "ROOMCAST_RECOVERY_TIME", help_heading = RECOVERY)]
    pub(crate) recovery_time: Duration,

    /// Ask the middlewares again about clients that come back
    #[arg(long, requires = "recovery", env = "ROOMCAST_RECOVERY_ASKS_MIDDLEWARES", help_heading = RECOVERY)]
    pub(crate) recovery_asks_middlewares: bool,

    /// Events kept for them in each namespace; when there are more, those who missed the oldest begin anew
    #[arg(long, value_name = "N", default_value = "10000", requires = "recovery")]
    #[arg(env = "ROOMCAST_RECOVERY_LOG_EVENTS", help_heading = RECOVERY)]
    pub(crate) recovery_log_events: NonZeroUsize,

    /// Bytes of those events
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024 * 1024, requires = "recovery")]
    #[arg(env = "ROOMCAST_RECOVERY_LOG_BYTES", help_heading = RECOVERY)]
    pub(crate) recovery_log_bytes: usize,

    /// Clients that are kept in each namespace after they went away; with more, the oldest are forgotten
    #[arg(long, value_name = "N", default_value = "10000", requires = "recovery")]
    #[arg(env = "ROOMCAST_RECOVERY_SESSIONS", help_heading = RECOVERY)]
    pub(crate) recovery_sessions: NonZeroUsize,

    /// Bytes of their rooms and data
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024 * 1024, requires = "recovery")]
    #[arg(env = "ROOMCAST_RECOVERY_SESSION_BYTES", help_heading = RECOVERY)]
    pub(crate) recovery_session_bytes: usize,

    /// Compress messages for WebSocket clients that offer permessage-deflate
    #[arg(long, env = "ROOMCAST_COMPRESSION", help_heading = COMPRESSION)]
    compression: bool,

    /// Bytes from which a message is compressed. Default: 1024
    #[arg(long, value_name = "BYTES", requires = "compression", env = "ROOMCAST_COMPRESSION_THRESHOLD")]
    #[arg(help_heading = COMPRESSION)]
    compression_threshold: Option<usize>,

    /// From 1, fast, to 9, small. Default: 6
    #[arg(long, value_name = "N", requires = "compression", env = "ROOMCAST_COMPRESSION_LEVEL")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=9), help_heading = COMPRESSION)]
    compression_level: Option<u8>,

    /// Memory of a compressor beside its window, from 1 to 9. Default: 8
    #[arg(long, value_name = "N", requires = "compression", env = "ROOMCAST_COMPRESSION_MEMORY_LEVEL")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=9), help_heading = COMPRESSION)]
    compression_memory_level: Option<u8>,

    /// Largest window of what is sent, from 9 to 15 as a power of two. Default: 15
    #[arg(long, value_name = "BITS", requires = "compression", env = "ROOMCAST_COMPRESSION_WINDOW_BITS")]
    #[arg(value_parser = clap::value_parser!(u8).range(9..=15), help_heading = COMPRESSION)]
    compression_window_bits: Option<u8>,

    /// Keep a context for each connection: smaller, but each recipient is compressed for alone
    #[arg(long, requires = "compression", env = "ROOMCAST_COMPRESSION_CONTEXT", help_heading = COMPRESSION)]
    compression_context: bool,

    /// Bytes that all contexts together may have; further connections have none. Default: 67108864
    #[arg(long, value_name = "BYTES", requires = "compression_context")]
    #[arg(env = "ROOMCAST_COMPRESSION_CONTEXT_MEMORY", help_heading = COMPRESSION)]
    compression_context_memory: Option<usize>,

    /// Milliseconds between a sign of life and the next ping
    #[arg(long, value_name = "MS", default_value_t = 25_000, env = "ROOMCAST_PING_INTERVAL")]
    #[arg(help_heading = TIMES)]
    pub(crate) ping_interval: u64,

    /// Milliseconds a client has to answer a ping
    #[arg(long, value_name = "MS", default_value_t = 20_000, env = "ROOMCAST_PING_TIMEOUT")]
    #[arg(help_heading = TIMES)]
    pub(crate) ping_timeout: u64,

    /// How long a client has to prove a better transport, before it stays where it was
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    #[arg(env = "ROOMCAST_UPGRADE_TIMEOUT", help_heading = TIMES)]
    pub(crate) upgrade_timeout: Duration,

    /// How long the headers of a request, or a TLS handshake, may take to come
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    #[arg(env = "ROOMCAST_HEADER_TIMEOUT", help_heading = TIMES)]
    pub(crate) header_timeout: Duration,

    /// How long a connection may stay open without a request; longer than a load balancer keeps it
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = duration)]
    #[arg(env = "ROOMCAST_KEEP_ALIVE_TIMEOUT", help_heading = TIMES)]
    pub(crate) keep_alive_timeout: Duration,

    /// How long to serve on after SIGTERM or Ctrl-C when /ready says no; behind a load balancer take 5s or more
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    #[arg(env = "ROOMCAST_DRAIN_DELAY", help_heading = STOPPING)]
    pub(crate) drain_delay: Duration,

    /// How long closing all sessions may take after that
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    #[arg(env = "ROOMCAST_DRAIN_TIMEOUT", help_heading = STOPPING)]
    pub(crate) drain_timeout: Duration,

    /// Sessions to close each quarter of a second; more if the time would not do
    #[arg(long, value_name = "N", default_value = "1000", env = "ROOMCAST_DRAIN_BATCH")]
    #[arg(help_heading = STOPPING)]
    pub(crate) drain_batch: NonZeroUsize,

    /// Address for /live, /ready and Prometheus /metrics, such as 127.0.0.1:9464; keep it from strangers.
    /// Default: none
    #[arg(long, value_name = "ADDRESS", env = "ROOMCAST_ADMIN_ADDR", help_heading = WATCHING)]
    pub(crate) admin_addr: Option<SocketAddr>,

    /// What is logged, such as `info` or `roomcast_server=debug`
    #[arg(long, value_name = "FILTER", default_value = "info", env = "ROOMCAST_LOG", help_heading = WATCHING)]
    pub(crate) log: String,
}

const LISTENING: &str = "Listening";
const PAGES: &str = "Pages of other sites";
const LIMITS: &str = "Limits";
const RECOVERY: &str = "Recovery of clients whose connection broke";
const COMPRESSION: &str = "Compression";
const TIMES: &str = "Times";
const STOPPING: &str = "Stopping";
const WATCHING: &str = "Watching";

const AFTER_HELP: &str = "SIGTERM and Ctrl-C stop the server in an orderly way: what waits for clients is sent, and \
                          they are closed in batches so that not all come back at once. A second signal ends it at \
                          once. Times are numbers with a unit: 500ms, 30s, 2m.";

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Transport {
    Polling,
    #[value(name = "websocket")]
    WebSocket,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OriginsOption {
    /// Those of this server, and others as long as their requests carry no cookies
    SameOrCookieless,
    /// Those of this server, and no others
    Same,
    /// All, with cookies; safe only if cookies tell nothing about who somebody is
    Any,
}

impl Options {
    pub(crate) fn origins(&self) -> Origins {
        match self.origins {
            OriginsOption::SameOrCookieless => Origins::SameOrCookieless,
            OriginsOption::Same => Origins::Same,
            OriginsOption::Any => Origins::Any,
        }
    }

    pub(crate) fn recovery(&self) -> Option<RecoveryConfig> {
        self.recovery.then(|| RecoveryConfig {
            max_disconnection_duration: self.recovery_time,
            skip_middlewares: !self.recovery_asks_middlewares,
            max_log_events: self.recovery_log_events.get(),
            max_log_bytes: self.recovery_log_bytes,
            max_sessions: self.recovery_sessions.get(),
            max_session_bytes: self.recovery_session_bytes,
            ..RecoveryConfig::default()
        })
    }

    pub(crate) fn has_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls_cert.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// `None` if it is off
    pub(crate) fn compression(&self) -> Option<Compression> {
        if !self.compression {
            return None;
        }
        let mut compression = Compression::new().context_takeover(self.compression_context);
        if let Some(bytes) = self.compression_threshold {
            compression = compression.threshold(bytes);
        }
        if let Some(level) = self.compression_level {
            compression = compression.level(level);
        }
        if let Some(level) = self.compression_memory_level {
            compression = compression.memory_level(level);
        }
        if let Some(bits) = self.compression_window_bits {
            compression = compression.window_bits(bits);
        }
        if let Some(bytes) = self.compression_context_memory {
            compression = compression.max_context_memory(bytes);
        }
        Some(compression)
    }

    pub(crate) fn cors(&self) -> Cors {
        match self.cors.as_slice() {
            [] => Cors::Off,
            origins if origins.iter().any(|origin| origin == "*") => Cors::Any,
            origins => Cors::Origins { origins: origins.to_vec(), credentials: false },
        }
    }
}

fn network(text: &str) -> Result<roomcast::IpNet, String> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(roomcast::IpNet::from));
    network.map_err(|_| "expected an address such as 10.0.0.1, or a network such as 10.0.0.0/8".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let repair = || "expected a number with a unit: 500ms, 30s, 2m".to_owned();
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| repair())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(repair),
        "" if number == 0 => Ok(Duration::ZERO),
        _ => Err(repair()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_consistent_and_each_has_a_variable_and_a_heading() {
        let command = Options::command();
        command.clone().debug_assert();
        for flag in
            command.get_arguments().filter(|flag| !["help", "version"].contains(&flag.get_id().as_str()))
        {
            let name = flag.get_id().as_str();
            let variable = format!("ROOMCAST_{}", name.to_uppercase());
            assert_eq!(flag.get_env().and_then(|env| env.to_str()), Some(variable.as_str()));
            assert!(flag.get_help_heading().is_some(), "{name}");
        }
    }

    #[test]
    fn the_manual_tells_of_each_flag() {
        let manual = include_str!("../../../docs/operations.md");
        for flag in Options::command().get_arguments().filter_map(|flag| flag.get_long()) {
            let told = manual.contains(&format!("`--{flag}`")) || manual.contains(&format!("`--{flag} "));
            assert!(told, "--{flag}");
        }
    }

    #[test]
    fn compression_is_off_unless_asked_for_and_its_details_need_it() {
        let parse = |flags: &[&str]| Options::try_parse_from([&["serve"], flags].concat());
        assert_eq!(parse(&[]).unwrap().compression(), None);
        assert_eq!(parse(&["--compression"]).unwrap().compression(), Some(Compression::new()));
        let all = [
            "--compression",
            "--compression-threshold=1",
            "--compression-level=2",
            "--compression-memory-level=3",
            "--compression-window-bits=10",
            "--compression-context",
            "--compression-context-memory=5",
        ];
        let expected = Compression::new()
            .threshold(1)
            .level(2)
            .memory_level(3)
            .window_bits(10)
            .context_takeover(true)
            .max_context_memory(5);
        assert_eq!(parse(&all).unwrap().compression(), Some(expected));
        assert!(
            parse(&all[1..2]).is_err() && parse(&["--compression", "--compression-window-bits=8"]).is_err()
        );
        assert!(parse(&["--compression", "--compression-context-memory=5"]).is_err());
    }

    #[test]
    fn times_have_a_unit() {
        for (text, expected) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("2m", Some(120_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
        ] {
            assert_eq!(duration(text).ok(), expected.map(Duration::from_millis), "{text}");
        }
        for text in
            ["", "s", "30", "-1s", "1.5s", "30 s", "1h", "99999999999999999999s", "999999999999999999m"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_are_addresses_or_have_a_length() {
        for text in ["10.0.0.0/8", "10.0.0.1", "2001:db8::/32", "::1"] {
            assert!(network(text).is_ok(), "{text}");
        }
        for text in ["", "10.0.0.0/33", "localhost", "10.0.0", "10.0.0.1:80"] {
            assert!(network(text).is_err(), "{text}");
        }
    }
}
