//! What `roomcast serve` is told, by flags or by variables of the environment

mod compression;
mod limits;
mod recovery;
mod times;
mod values;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Parser, ValueEnum};
use roomcast::http::{Cookie, Cors, Origins, SameSite};

use self::compression::Compressing;
use self::limits::Limits;
use self::recovery::Recovery;
use self::times::Times;
use self::values::{close_code, duration, network};
use crate::address::Address;
use crate::log::Format;

/// What `roomcast serve` is told
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

    /// How many threads serve, each with clients of its own
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

    /// Name of a cookie with the session's id, for load balancers that keep a client on one server by it.
    /// Default: none
    #[arg(long, value_name = "NAME", env = "ROOMCAST_COOKIE", help_heading = LISTENING)]
    pub(crate) cookie: Option<String>,

    /// To which requests browsers add that cookie; `none` is for pages of other sites, and makes it Secure
    #[arg(long, value_name = "WHICH", value_enum, default_value = "lax", requires = "cookie")]
    #[arg(env = "ROOMCAST_COOKIE_SAME_SITE", help_heading = LISTENING)]
    pub(crate) cookie_same_site: SameSiteOption,

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
    pub(crate) trusted_proxy: Vec<roomcast::http::IpNet>,

    /// Expect the PROXY protocol, version 1 or 2, from trusted proxies
    #[arg(long, requires = "trusted_proxy", env = "ROOMCAST_PROXY_PROTOCOL", help_heading = LISTENING)]
    #[arg(value_parser = BoolishValueParser::new())]
    pub(crate) proxy_protocol: bool,

    /// Origin, such as https://chat.example, whose pages may connect with their visitors' cookies; may be repeated
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',', env = "ROOMCAST_ALLOW_ORIGIN")]
    #[arg(help_heading = PAGES)]
    pub(crate) allow_origin: Vec<String>,

    /// Which other pages may connect
    #[arg(long, value_name = "WHICH", value_enum, default_value = "same-or-cookieless")]
    #[arg(env = "ROOMCAST_ORIGINS", help_heading = PAGES)]
    origins: OriginsOption,

    /// Origin whose pages may read answers to their polls without cookies, or `*` for all; may be repeated. With
    /// cookies they are refused, for which there is --allow-origin
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',', env = "ROOMCAST_CORS", help_heading = PAGES)]
    cors: Vec<String>,

    #[command(flatten)]
    pub(crate) limits: Limits,

    #[command(flatten)]
    pub(crate) times: Times,

    #[command(flatten)]
    pub(crate) recovery: Recovery,

    #[command(flatten)]
    pub(crate) compression: Compressing,

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

    /// Code that WebSockets are closed with; 1012 is for clients that do not come back after 1001
    #[arg(long, value_name = "CODE", default_value_t = 1001, env = "ROOMCAST_DRAIN_CLOSE_CODE")]
    #[arg(value_parser = close_code, help_heading = STOPPING)]
    pub(crate) drain_close_code: u16,

    /// Address for /live, /ready and Prometheus /metrics, such as 127.0.0.1:9464; keep it from strangers.
    /// Default: none
    #[arg(long, value_name = "ADDRESS", env = "ROOMCAST_ADMIN_ADDR", help_heading = WATCHING)]
    pub(crate) admin_addr: Option<Address>,

    /// What is logged, such as `info` or `roomcast_server=debug`
    #[arg(long, value_name = "FILTER", default_value = "info", env = "ROOMCAST_LOG", help_heading = WATCHING)]
    pub(crate) log: String,

    /// Form of the lines of the log
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text", env = "ROOMCAST_LOG_FORMAT")]
    #[arg(help_heading = WATCHING)]
    pub(crate) log_format: Format,
}

const LISTENING: &str = "Listening";
const PAGES: &str = "Pages of other sites";
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
pub(crate) enum SameSiteOption {
    /// Those of the same site
    Strict,
    /// Those of the same site, and links to it
    Lax,
    /// All of them
    None,
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

    /// The cookie for load balancers, if there is one
    pub(crate) fn cookie(&self) -> Option<Cookie> {
        let same_site = match self.cookie_same_site {
            SameSiteOption::Strict => SameSite::Strict,
            SameSiteOption::Lax => SameSite::Lax,
            SameSiteOption::None => SameSite::None,
        };
        // Browsers keep none that goes everywhere and not by TLS alone.
        let secure = self.has_tls() || same_site == SameSite::None;
        self.cookie.as_ref().map(|name| Cookie::new(name).secure(secure).same_site(same_site))
    }

    pub(crate) fn has_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls_cert.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    pub(crate) fn cors(&self) -> Cors {
        match self.cors.as_slice() {
            [] => Cors::Off,
            [origin] if origin.trim() == "*" => Cors::Any,
            origins => Cors::Origins { origins: origins.to_vec(), credentials: false },
        }
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

    #[test]
    fn cookie_for_other_sites_is_secure() {
        let cookie = |flags: &[&str]| {
            Options::try_parse_from([&["serve"], flags].concat()).expect("flags that there are").cookie()
        };
        assert_eq!(cookie(&[]), None);
        assert_eq!(cookie(&["--cookie=io"]), Some(Cookie::new("io")));
        let everywhere = Cookie::new("io").secure(true).same_site(SameSite::None);
        assert_eq!(cookie(&["--cookie=io", "--cookie-same-site=none"]), Some(everywhere));
        let strict = Cookie::new("io").same_site(SameSite::Strict);
        assert_eq!(cookie(&["--cookie=io", "--cookie-same-site=strict"]), Some(strict));
    }
}
