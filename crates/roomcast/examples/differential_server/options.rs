//! What the command line says of the server

use std::time::Duration;

use clap::Parser;
use roomcast::Config;
use roomcast::http::{Cookie, Cors, HttpCompression};
use roomcast::transport::{Polling, WebSocket};

#[derive(Parser)]
pub(crate) struct Options {
    /// The port to listen on, on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// Threads that serve
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Milliseconds from one sign of life to the next ping
    #[arg(long, default_value_t = 25_000)]
    pub(crate) ping_interval: u64,
    /// Milliseconds a client has to answer a ping
    #[arg(long, default_value_t = 20_000)]
    pub(crate) ping_timeout: u64,
    /// Milliseconds a client has to prove a better transport
    #[arg(long, default_value_t = 10_000)]
    pub(crate) upgrade_timeout: u64,
    /// Milliseconds a client has to join a namespace
    #[arg(long, default_value_t = 45_000)]
    pub(crate) connect_timeout: u64,
    /// Bytes of one message, or of one POST
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) max_payload: usize,
    /// Origin whose pages may use long-polling, or `*`
    #[arg(long)]
    pub(crate) cors: Option<String>,
    /// Enables connection state recovery
    #[arg(long)]
    pub(crate) recovery: bool,
    /// Transports that sessions may use, with commas; all if not given
    #[arg(long, value_delimiter = ',')]
    pub(crate) transports: Vec<String>,
    /// Keeps each session on the transport it began with
    #[arg(long)]
    pub(crate) no_upgrades: bool,
    /// Bytes from which on the answer to a poll is compressed
    #[arg(long)]
    pub(crate) compress_from: Option<usize>,
    /// Serves the browser clients
    #[arg(long)]
    pub(crate) client_files: bool,
    /// Reports rejected requests to watchers
    #[arg(long)]
    pub(crate) tell_refusals: bool,
    /// Removes empty dynamic namespaces
    #[arg(long)]
    pub(crate) clean_up: bool,
    /// Name of the cookie with the session's id; none if not given
    #[arg(long)]
    pub(crate) cookie: Option<String>,
}

impl Options {
    /// Returns the requested settings.
    pub(crate) fn config(&self) -> Config {
        let cors = match self.cors.as_deref() {
            None => Cors::new(),
            Some("*") => Cors::any(),
            Some(origin) => Cors::origins([origin]).credentials(true),
        };
        let config = Config::new()
            .timeouts(|timeouts| {
                timeouts
                    .ping_interval(Duration::from_millis(self.ping_interval))
                    .ping_timeout(Duration::from_millis(self.ping_timeout))
                    .upgrade_timeout(Duration::from_millis(self.upgrade_timeout))
                    .connect_timeout(Duration::from_millis(self.connect_timeout))
            })
            .limits(|limits| limits.max_payload(self.max_payload))
            .allow_upgrades(!self.no_upgrades)
            .cleanup_empty_child_namespaces(self.clean_up)
            .http(|http| http.cors(cors));
        let named = |name: &String| if name == "polling" { Polling::NAME } else { WebSocket::NAME };
        let config = match self.transports.as_slice() {
            [] => config,
            names => config.transports(names.iter().map(named)),
        };
        let config = match self.compress_from {
            Some(bytes) => config.http(|http| http.compression(HttpCompression::default().threshold(bytes))),
            None => config,
        };
        let config = match &self.cookie {
            Some(name) => config.http(|http| http.cookie(Cookie::new(name.clone()))),
            None => config,
        };
        if self.recovery { config.recovery(|recovery| recovery) } else { config }
    }
}
