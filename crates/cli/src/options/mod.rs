//! Settings of `roomcast serve`, from flags or environment variables.

mod http;
mod limits;
mod recovery;
#[cfg(feature = "redis")]
mod redis;
mod timeouts;
mod units;
mod websocket;

use std::num::NonZeroUsize;
#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Parser, ValueEnum};

use self::http::Http;
use self::limits::Limits;
use self::recovery::Recovery;
#[cfg(feature = "redis")]
use self::redis::Redis;
use self::timeouts::Timeouts;
use self::units::time;
use self::websocket::WebSocket;
use crate::address::Address;
use crate::log::Format;

/// Settings of `roomcast serve`.
#[derive(Parser, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// Address to listen on, such as localhost:3000, or :3000 for all interfaces; port 0 picks a free port. If unset,
    /// the port is taken from the environment variable PORT
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000", env = "ROOMCAST_ADDR")]
    #[arg(help_heading = LISTENING)]
    pub(crate) addr: Address,

    /// Accept connections from other machines; the demo has no authentication
    #[arg(long, env = "ROOMCAST_PUBLIC", help_heading = LISTENING)]
    #[arg(value_parser = BoolishValueParser::new())]
    pub(crate) public: bool,

    /// Number of server threads; each connection stays on one
    #[arg(long, value_name = "N", default_value = "1", env = "ROOMCAST_THREADS", help_heading = LISTENING)]
    pub(crate) threads: NonZeroUsize,

    /// Enabled transports; without `websocket`, plain WebSocket is disabled too
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',', default_value = "polling,websocket")]
    #[arg(env = "ROOMCAST_TRANSPORTS", help_heading = LISTENING)]
    pub(crate) transports: Vec<Transport>,

    /// Disable transport upgrades
    #[arg(long, env = "ROOMCAST_NO_UPGRADES", help_heading = LISTENING)]
    #[arg(value_parser = BoolishValueParser::new())]
    pub(crate) no_upgrades: bool,

    /// PEM certificate chain; enables https and wss. Reloaded on SIGHUP
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "ROOMCAST_TLS_CERT", help_heading = LISTENING)]
    pub(crate) tls_cert: Option<PathBuf>,

    /// PEM private key of the certificate
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "ROOMCAST_TLS_KEY", help_heading = LISTENING)]
    pub(crate) tls_key: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) limits: Limits,

    #[command(flatten)]
    pub(crate) timeouts: Timeouts,

    #[command(flatten)]
    pub(crate) http: Http,

    #[command(flatten)]
    pub(crate) websocket: WebSocket,

    #[command(flatten)]
    pub(crate) recovery: Recovery,

    #[cfg(feature = "redis")]
    #[command(flatten)]
    pub(crate) redis: Redis,

    /// Time between failing /ready and closing sessions at shutdown; use 5s or more behind a load balancer
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time)]
    #[arg(env = "ROOMCAST_DRAIN_DELAY", help_heading = SHUTDOWN)]
    pub(crate) drain_delay: Duration,

    /// Deadline for closing all sessions, counted from the end of --drain-delay
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    #[arg(env = "ROOMCAST_DRAIN_TIMEOUT", help_heading = SHUTDOWN)]
    pub(crate) drain_timeout: Duration,

    /// Sessions to close per 250 ms; raised if the deadline requires it
    #[arg(long, value_name = "N", default_value = "1000", env = "ROOMCAST_DRAIN_BATCH")]
    #[arg(help_heading = SHUTDOWN)]
    pub(crate) drain_batch: NonZeroUsize,

    /// Address for /live, /ready and Prometheus /metrics, such as 127.0.0.1:9464; it has no authentication.
    /// Default: none
    #[arg(long, value_name = "ADDRESS", env = "ROOMCAST_ADMIN_ADDR", help_heading = OBSERVABILITY)]
    pub(crate) admin_addr: Option<Address>,

    /// Log filter, such as `info` or `roomcast_server=debug`
    #[arg(long, value_name = "FILTER", default_value = "info", env = "ROOMCAST_LOG", help_heading = OBSERVABILITY)]
    pub(crate) log: String,

    /// Log format
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text", env = "ROOMCAST_LOG_FORMAT")]
    #[arg(help_heading = OBSERVABILITY)]
    pub(crate) log_format: Format,
}

const LISTENING: &str = "Listening";
const SHUTDOWN: &str = "Shutdown";
const OBSERVABILITY: &str = "Observability";

const AFTER_HELP: &str = "SIGTERM and Ctrl-C start a graceful shutdown: queued messages are sent, and sessions are \
                          closed in batches so that clients do not all reconnect at once.\nA second signal exits \
                          immediately.\n\nTIME is a number with a unit: 300ms, 25s, 2m. SIZE is a number of bytes \
                          with an optional unit: 1MiB, 64KiB, 1MB, 1000000.";

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Transport {
    Polling,
    #[value(name = "websocket")]
    WebSocket,
}

impl Options {
    pub(crate) fn has_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls_cert.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;

    const MANUAL: &str = include_str!("../../operations.md");

    #[test]
    fn flags_have_variable_and_heading() {
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
    fn time_and_size_flags_share_notation() {
        for flag in Options::command().get_arguments() {
            let name = flag.get_id().as_str();
            let defaults = flag.get_default_values().iter();
            let default = defaults.filter_map(|default| default.to_str()).next().unwrap_or_default();
            match flag.get_value_names().and_then(<[_]>::first).map(|unit| unit.as_str()) {
                Some("TIME") => assert!(time(default).is_ok(), "{name}"),
                Some("SIZE") => assert!(default.is_empty() || units::size::<u64>(default).is_ok(), "{name}"),
                unit => assert!(!matches!(unit, Some("MS" | "BYTES" | "SECONDS")), "{name}"),
            }
            assert!(!name.ends_with("timeout") || time(default).is_ok(), "{name}");
        }
    }

    #[test]
    fn manual_documents_every_flag() {
        let command = Options::command();
        let flags: BTreeSet<_> = command.get_arguments().filter_map(|flag| flag.get_long()).collect();
        let code = MANUAL.split('`').skip(1).step_by(2);
        let told: BTreeSet<_> = code.filter_map(|code| code.strip_prefix("--")?.split(' ').next()).collect();
        assert_eq!(told, flags);
    }

    #[test]
    fn manual_names_flag_for_limits() {
        let (_, table) = MANUAL.split_once("| Limit | Setting | Flag |").expect("a table of limits");
        let (table, _) = table.split_once("\n\n").expect("an end of the table");
        let mut without = Vec::new();
        for row in table.lines().skip(2) {
            let mut columns = row.trim_start_matches("| ").split(" | ").skip(1);
            let (setting, flag) = (columns.next().expect("a setting"), columns.next().expect("a flag"));
            match flag {
                "none" => without.push(setting),
                _ => assert!(flag.starts_with("`--"), "{row}"),
            }
        }
        assert_eq!(without, ["`Limits::max_child_namespaces`", "`Limits::max_acks`"]);
    }
}
