//! Command-line options.

use std::time::Duration;

use clap::Parser;
use roomcast::Config;
use roomcast::http::{Cookie, Cors, HttpCompression};
use roomcast::transport::{Polling, WebSocket};

#[derive(Parser)]
pub(crate) struct Options {
    /// Port to listen on, on 127.0.0.1 (0 selects a free port)
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// Number of worker threads
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Interval between the last client activity and the next ping, in milliseconds
    #[arg(long, default_value_t = 25_000)]
    pub(crate) ping_interval: u64,
    /// Timeout for the answer to a ping, in milliseconds
    #[arg(long, default_value_t = 20_000)]
    pub(crate) ping_timeout: u64,
    /// Timeout for a transport upgrade, in milliseconds
    #[arg(long, default_value_t = 10_000)]
    pub(crate) upgrade_timeout: u64,
    /// Timeout for the first namespace connect, in milliseconds
    #[arg(long, default_value_t = 45_000)]
    pub(crate) connect_timeout: u64,
    /// Maximum size of a message or POST body, in bytes
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) max_payload: usize,
    /// Allowed CORS origin for long-polling, or `*`
    #[arg(long)]
    pub(crate) cors: Option<String>,
    /// Enable connection state recovery
    #[arg(long)]
    pub(crate) recovery: bool,
    /// Enabled transports, separated by commas [default: all]
    #[arg(long, value_delimiter = ',')]
    pub(crate) transports: Vec<String>,
    /// Disable transport upgrades
    #[arg(long)]
    pub(crate) no_upgrades: bool,
    /// Minimum size of a polling response to compress, in bytes
    #[arg(long)]
    pub(crate) compress_from: Option<usize>,
    /// Serve the browser client files
    #[arg(long)]
    pub(crate) client_files: bool,
    /// Report rejected requests to the watchers
    #[arg(long)]
    pub(crate) tell_refusals: bool,
    /// Remove dynamic namespaces when their last client leaves
    #[arg(long)]
    pub(crate) clean_up: bool,
    /// Name of the session id cookie [default: no cookie]
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
