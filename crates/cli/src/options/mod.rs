//! Settings of `roomcast serve`, by flags or by variables of the environment.

mod http;
mod limits;
mod recovery;
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
use self::timeouts::Timeouts;
use self::units::time;
use self::websocket::WebSocket;
use crate::address::Address;
use crate::log::Format;

/// Settings of `roomcast serve`.
#[derive(Parser, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// Address and port to listen on, such as localhost:3000, or :3000 for every address; port 0 takes a free one.
    /// Without it the port may be in the variable PORT, as container hosts set it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000", env = "ROOMCAST_ADDR")]
    #[arg(help_heading = LISTENING)]
    pub(crate) addr: Address,

    /// Serve the demo to other machines too; anybody who can reach the port can then use it
    #[arg(long, env = "ROOMCAST_PUBLIC", help_heading = LISTENING)]
    #[arg(value_parser = BoolishValueParser::new())]
    pub(crate) public: bool,

    /// Number of threads that serve, each with clients of its own
    #[arg(long, value_name = "N", default_value = "1", env = "ROOMCAST_THREADS", help_heading = LISTENING)]
    pub(crate) threads: NonZeroUsize,

    /// How clients may connect; without `websocket` there is no plain WebSocket either
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',', default_value = "polling,websocket")]
    #[arg(env = "ROOMCAST_TRANSPORTS", help_heading = LISTENING)]
    pub(crate) transports: Vec<Transport>,

    /// Keep sessions on the transport they begin with, instead of letting them move to a better one
    #[arg(long, env = "ROOMCAST_NO_UPGRADES", help_heading = LISTENING)]
    #[arg(value_parser = BoolishValueParser::new())]
    pub(crate) no_upgrades: bool,

    /// PEM certificate chain, to serve https and wss. SIGHUP reads it again
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

    /// How long to serve on after SIGTERM or Ctrl-C when /ready says no; behind a load balancer take 5s or more
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time)]
    #[arg(env = "ROOMCAST_DRAIN_DELAY", help_heading = SHUTDOWN)]
    pub(crate) drain_delay: Duration,

    /// How long closing all sessions may take after that
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    #[arg(env = "ROOMCAST_DRAIN_TIMEOUT", help_heading = SHUTDOWN)]
    pub(crate) drain_timeout: Duration,

    /// Sessions to close each quarter of a second; more if the time would not do
    #[arg(long, value_name = "N", default_value = "1000", env = "ROOMCAST_DRAIN_BATCH")]
    #[arg(help_heading = SHUTDOWN)]
    pub(crate) drain_batch: NonZeroUsize,

    /// Address for /live, /ready and Prometheus /metrics, such as 127.0.0.1:9464; keep it from strangers.
    /// Default: none
    #[arg(long, value_name = "ADDRESS", env = "ROOMCAST_ADMIN_ADDR", help_heading = OBSERVABILITY)]
    pub(crate) admin_addr: Option<Address>,

    /// What is logged, such as `info` or `roomcast_server=debug`
    #[arg(long, value_name = "FILTER", default_value = "info", env = "ROOMCAST_LOG", help_heading = OBSERVABILITY)]
    pub(crate) log: String,

    /// Form of the lines of the log
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text", env = "ROOMCAST_LOG_FORMAT")]
    #[arg(help_heading = OBSERVABILITY)]
    pub(crate) log_format: Format,
}

const LISTENING: &str = "Listening";
const SHUTDOWN: &str = "Shutdown";
const OBSERVABILITY: &str = "Observability";

const AFTER_HELP: &str = "SIGTERM and Ctrl-C stop the server in an orderly way: what waits for clients is sent, and \
                          they are closed in batches so that not all come back at once. A second signal ends it at \
                          once.\n\nTIME is a number with a unit: 300ms, 25s, 2m. SIZE is a number of bytes, with a \
                          unit or without: 1MiB, 64KiB, 1MB, 1000000.";

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

    const MANUAL: &str = include_str!("../../../../docs/operations.md");

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
    fn flags_of_times_and_sizes_share_one_notation() {
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
    fn the_manual_tells_of_each_flag_and_of_no_other() {
        let command = Options::command();
        let flags: BTreeSet<_> = command.get_arguments().filter_map(|flag| flag.get_long()).collect();
        let code = MANUAL.split('`').skip(1).step_by(2);
        let told: BTreeSet<_> = code.filter_map(|code| code.strip_prefix("--")?.split(' ').next()).collect();
        assert_eq!(told, flags);
    }

    #[test]
    fn the_manual_has_a_flag_for_each_limit_but_those_of_what_the_demo_does_not_do() {
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
