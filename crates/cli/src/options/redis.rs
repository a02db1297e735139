//! Settings of the connection to other servers by Redis.

use std::env;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgGroup, Args, ValueEnum};
use roomcast::Config;
use roomcast::cluster::{
    self, ConnectionConfig, NodeClusterConfig, RedisConfig, RedisConfigError, RedisError, RedisSessionStore,
    StoreConfig, SubscriptionMode,
};
use roomcast::config::IoBuilder;

use super::units::{size, time};
use crate::cause::with_causes;
use crate::sources::Sources;

/// Settings of the connection to other servers by Redis.
///
/// Passwords have no flags, since other users of the machine can read command lines.
#[derive(Args, Debug)]
#[command(next_help_heading = "Cluster")]
#[command(group = ArgGroup::new("redis_server").args(["redis", "redis_sentinel"]))]
pub(crate) struct Redis {
    /// Connect to the other servers on this Redis: redis://HOST:PORT, or rediss:// with TLS. Put the password into
    /// ROOMCAST_REDIS_PASSWORD, --redis-password-file or the variable ROOMCAST_REDIS, not into this flag. May be
    /// repeated, in mode native: the rooms are divided among independent servers
    #[arg(long, value_name = "URL", value_delimiter = ' ', env = "ROOMCAST_REDIS", hide_env_values = true)]
    redis: Vec<Url>,

    /// Redis that is being removed from several: it is used as long as other servers use it; may be repeated
    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ' ',
        requires = "redis",
        env = "ROOMCAST_REDIS_RETIRED"
    )]
    #[arg(hide_env_values = true)]
    redis_retired: Vec<Url>,

    /// Use sharded channels (SSUBSCRIBE, SPUBLISH) in mode native; needs Redis 7, and the same on all servers
    #[arg(long, requires = "redis_server", env = "ROOMCAST_REDIS_SHARDED_CHANNELS")]
    #[arg(value_parser = BoolishValueParser::new())]
    redis_sharded_channels: bool,

    /// Connect to the Redis that these sentinels name, each as HOST:PORT; may be repeated
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', env = "ROOMCAST_REDIS_SENTINEL")]
    redis_sentinel: Vec<String>,

    /// Name of the master that the sentinels watch
    #[arg(
        long,
        value_name = "NAME",
        default_value = "mymaster",
        requires = "redis_sentinel",
        conflicts_with = "redis"
    )]
    #[arg(env = "ROOMCAST_REDIS_MASTER")]
    redis_master: String,

    /// Messages and channels on Redis
    #[arg(long, value_name = "MODE", value_enum, default_value = "native", requires = "redis_server")]
    #[arg(env = "ROOMCAST_REDIS_MODE")]
    redis_mode: RedisMode,

    /// First part of the name of each channel; clusters that share a Redis need different ones. In the other modes, the
    /// option `key` or `channelPrefix` of Node's adapter. Default: roomcast, in the other modes socket.io
    #[arg(long, value_name = "TEXT", requires = "redis_server", env = "ROOMCAST_REDIS_PREFIX")]
    redis_prefix: Option<String>,

    /// Name of the stream in mode streams, the option `streamName` of Node's adapter; clusters that share a Redis need
    /// different ones
    #[arg(long, value_name = "NAME", default_value = "socket.io", requires = "redis_server")]
    #[arg(env = "ROOMCAST_REDIS_STREAM")]
    redis_stream: String,

    /// Approximate number of entries that the stream keeps, the option `maxLen` of Node's adapter. The smallest one of
    /// all servers and emitters applies
    #[arg(long, value_name = "N", default_value_t = 10_000, requires = "redis_server")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..), env = "ROOMCAST_REDIS_MAX_LEN")]
    redis_max_len: u64,

    /// Use sharded channels (SSUBSCRIBE, SPUBLISH) for queries in mode streams, the option `useShardedPubSub` of Node's
    /// adapter; needs Redis 7, and the same on all servers
    #[arg(long, requires = "redis_server", env = "ROOMCAST_REDIS_SHARDED_REQUESTS")]
    #[arg(value_parser = BoolishValueParser::new())]
    redis_sharded_requests: bool,

    /// Keep sessions in memory in mode streams with --recovery. Clients then recover on the process that they were
    /// connected to only; otherwise their sessions are written to Redis as they change, and recover on any server
    #[arg(long, requires = "redis_server", env = "ROOMCAST_REDIS_NO_SESSIONS")]
    #[arg(value_parser = BoolishValueParser::new())]
    redis_no_sessions: bool,

    /// First part of the keys of sessions, the option `sessionKeyPrefix` of Node's adapter
    #[arg(long, value_name = "TEXT", default_value = "sio:session:", requires = "redis_server")]
    #[arg(env = "ROOMCAST_REDIS_SESSION_PREFIX")]
    redis_session_prefix: String,

    /// Time in which changes of a session are collected into one write; a server that is killed loses those changes
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = time, requires = "redis_server")]
    #[arg(env = "ROOMCAST_REDIS_SESSION_INTERVAL")]
    redis_session_interval: Duration,

    /// Channels of rooms in mode sharded, the option subscriptionMode of Node's adapter; the same on all servers
    #[arg(long, value_name = "MODE", value_enum, default_value = "dynamic", requires = "redis_server")]
    #[arg(env = "ROOMCAST_REDIS_SUBSCRIPTION_MODE")]
    redis_subscription_mode: Subscriptions,

    /// User at Redis. Default: that of the URL, or the default user
    #[arg(long, value_name = "NAME", requires = "redis_server", env = "ROOMCAST_REDIS_USER")]
    redis_user: Option<String>,

    /// File with the password, instead of the variable ROOMCAST_REDIS_PASSWORD
    #[arg(long, value_name = "FILE", requires = "redis_server", env = "ROOMCAST_REDIS_PASSWORD_FILE")]
    redis_password_file: Option<PathBuf>,

    /// User at the sentinels, whose password is in the variable ROOMCAST_REDIS_SENTINEL_PASSWORD. Default: none
    #[arg(
        long,
        value_name = "NAME",
        requires = "redis_sentinel",
        conflicts_with = "redis",
        env = "ROOMCAST_REDIS_SENTINEL_USER"
    )]
    redis_sentinel_user: Option<String>,

    /// Use TLS to sentinels and their master; for a single server use rediss://
    #[arg(long, requires = "redis_sentinel", conflicts_with = "redis", env = "ROOMCAST_REDIS_TLS")]
    #[arg(value_parser = BoolishValueParser::new())]
    redis_tls: bool,

    /// PEM file with the only certificate authorities to trust; enables TLS. Default: the authorities of the system
    #[arg(long, value_name = "FILE", requires = "redis_server", env = "ROOMCAST_REDIS_CA_FILE")]
    redis_ca_file: Option<PathBuf>,

    /// Maximum size of events that wait for Redis; further ones reach only the clients of this server
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = size::<usize>)]
    #[arg(requires = "redis_server", env = "ROOMCAST_REDIS_QUEUE")]
    redis_queue: usize,
}

/// Messages and channels on Redis
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
enum RedisMode {
    /// Servers of Roomcast only: detects losses, and receives the events of its own rooms
    Native,
    /// Together with Node servers on @socket.io/redis-adapter 8 (createAdapter)
    Classic,
    /// Together with Node servers on @socket.io/redis-adapter 8.3 (createShardedAdapter), on Redis 7 or later
    Sharded,
    /// Events stored in a stream, alone or together with Node servers on @socket.io/redis-streams-adapter 0.3
    Streams,
}

/// Rooms that have their own channel
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
enum Subscriptions {
    /// None: each server receives all events
    Static,
    /// All rooms except of socket ids: each server receives the events of its own rooms
    Dynamic,
    /// All rooms, also of socket ids
    DynamicPrivate,
}

/// URL that may hold a password, which is not printed.
#[derive(Clone)]
struct Url(String);

impl Url {
    fn has_password(&self) -> bool {
        let (_, rest) = self.0.split_once("://").unwrap_or_default();
        rest.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
    }
}

impl FromStr for Url {
    type Err = std::convert::Infallible;

    /// Accepts any text: an error of clap would print it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Redis {
    /// Starts the connection, if one is configured, and passes it to the server.
    ///
    /// # Errors
    /// Returns an error that names the invalid flag or variable.
    pub(crate) fn connect(&self, builder: IoBuilder, sources: &Sources<'_>) -> Result<IoBuilder, String> {
        let servers = self.servers(sources)?;
        let Some(redis) = servers.first().cloned() else { return Ok(builder) };
        if self.redis.iter().any(Url::has_password) && sources.is_typed("redis") {
            tracing::warn!(
                "the password in --redis is visible to other users of this machine; set ROOMCAST_REDIS instead"
            );
        }
        let connected = match self.redis_mode {
            RedisMode::Native => {
                let connection = ConnectionConfig::new().node(|node| node.queue_bytes = self.redis_queue);
                let settings = |redis: RedisConfig| {
                    let redis = redis.sharded_channels(self.redis_sharded_channels);
                    match &self.redis_prefix {
                        Some(prefix) => redis.prefix(prefix),
                        None => redis,
                    }
                };
                let connected = match servers.len() {
                    1 => cluster::redis_with(settings(redis), connection),
                    _ => {
                        let servers = servers.into_iter().map(settings).collect();
                        cluster::redis_servers(servers, connection).map(|(connection, _)| connection)
                    }
                };
                connected.map(|connection| {
                    tracing::info!(node = %connection.id(), "connecting to the other servers by Redis");
                    builder.cluster(connection)
                })
            }
            RedisMode::Classic if servers.len() > 1 || self.redis_sharded_channels => {
                let name = sources.name(if servers.len() > 1 { "redis" } else { "redis_sharded_channels" });
                return Err(format!("{name}: several servers and sharded channels need --redis-mode native"));
            }
            RedisMode::Classic => {
                let mut classic = NodeClusterConfig::new().queue_bytes(self.redis_queue);
                if let Some(prefix) = &self.redis_prefix {
                    classic = classic.prefix(prefix);
                }
                cluster::redis_classic_with(redis, classic).map(|cluster| {
                    tracing::info!("connecting to Node servers and others by Redis");
                    builder.cluster(cluster)
                })
            }
            RedisMode::Sharded => {
                let mut config = NodeClusterConfig::new().queue_bytes(self.redis_queue);
                if let Some(prefix) = &self.redis_prefix {
                    config = config.prefix(prefix);
                }
                let config = config.sharded(|sharded| {
                    sharded.mode = match self.redis_subscription_mode {
                        Subscriptions::Static => SubscriptionMode::Static,
                        Subscriptions::Dynamic => SubscriptionMode::Dynamic,
                        Subscriptions::DynamicPrivate => SubscriptionMode::DynamicPrivate,
                    };
                });
                cluster::redis_sharded_with(redis, config).map(|cluster| {
                    tracing::info!("connecting to Node servers and others by sharded channels of Redis");
                    builder.cluster(cluster)
                })
            }
            RedisMode::Streams => {
                let mut config = NodeClusterConfig::new().queue_bytes(self.redis_queue);
                if let Some(prefix) = &self.redis_prefix {
                    config = config.prefix(prefix);
                }
                let config = config.streams(|streams| {
                    streams.stream = self.redis_stream.as_str().into();
                    streams.max_len = self.redis_max_len;
                    streams.sharded_requests = self.redis_sharded_requests;
                });
                cluster::redis_streams_with(redis, config).map(|cluster| {
                    tracing::info!(
                        stream = self.redis_stream,
                        "connecting to the other servers by a stream of Redis"
                    );
                    builder.cluster(cluster)
                })
            }
        };
        connected.map_err(|error| match error {
            RedisError::Config(error) => explain("redis", &error, sources),
            error => with_causes(&error),
        })
    }

    /// Stores the sessions in Redis, if clients recover and all servers share a stream.
    ///
    /// `recovery_time` is the time in which a client can recover, if any can.
    ///
    /// # Errors
    /// Returns an error that names the invalid flag or variable.
    pub(crate) fn sessions(
        &self,
        config: Config,
        recovery_time: Option<Duration>,
        sources: &Sources<'_>,
    ) -> Result<Config, String> {
        let Some(time) = recovery_time else { return Ok(config) };
        if self.redis_mode != RedisMode::Streams || self.redis_no_sessions {
            return Ok(config);
        }
        let Some(redis) = self.servers(sources)?.into_iter().next() else { return Ok(config) };
        let store =
            RedisSessionStore::new(redis).key_prefix(&self.redis_session_prefix).max_disconnection(time);
        let settings = StoreConfig::new().interval(self.redis_session_interval);
        let config = cluster::redis_sessions(config, store, settings).map_err(|error| with_causes(&error))?;
        tracing::info!(prefix = self.redis_session_prefix, "storing sessions in Redis");
        Ok(config)
    }

    /// Returns the servers with the credentials; none if no server is configured.
    fn servers(&self, sources: &Sources<'_>) -> Result<Vec<RedisConfig>, String> {
        let named = |id| move |error: RedisConfigError| explain(id, &error, sources);
        if !self.redis_sentinel.is_empty() {
            let config = RedisConfig::sentinel(&self.redis_master, &self.redis_sentinel);
            return Ok(vec![self.config(config.map_err(named("redis_sentinel"))?, false, sources)?]);
        }
        let mut servers = Vec::new();
        for (id, urls) in [("redis", &self.redis), ("redis_retired", &self.redis_retired)] {
            for url in urls {
                let config = RedisConfig::from_url(&url.0).map_err(named(id))?;
                let config = self.config(config, url.has_password(), sources)?;
                servers.push(if id == "redis" { config } else { config.retired() });
            }
        }
        Ok(servers)
    }

    /// Adds TLS and the credentials to the settings of a server.
    fn config(
        &self,
        mut config: RedisConfig,
        mut has_password: bool,
        sources: &Sources<'_>,
    ) -> Result<RedisConfig, String> {
        let named = |id| move |error: RedisConfigError| explain(id, &error, sources);
        if self.redis_tls {
            config = config.tls();
        }
        if let Some(file) = &self.redis_ca_file {
            config = config.ca_file(file).map_err(named("redis_ca_file"))?;
        }
        if let Some(file) = &self.redis_password_file {
            config = config.password_file(file).map_err(named("redis_password_file"))?;
            has_password = true;
        } else if let Some(password) = secret(PASSWORD)? {
            config = config.password(&password);
            has_password = true;
        }
        if let Some(user) = &self.redis_user {
            if !has_password {
                let user = sources.name("redis_user");
                return Err(format!("{user} needs a password: set {PASSWORD} or --redis-password-file"));
            }
            config = config.username(user);
        }
        match (secret(SENTINEL_PASSWORD)?, &self.redis_sentinel_user) {
            (Some(password), user) => config = config.sentinel_credentials(user.as_deref(), &password),
            (None, Some(_)) => {
                let user = sources.name("redis_sentinel_user");
                return Err(format!(
                    "{user} needs the password in the environment variable {SENTINEL_PASSWORD}"
                ));
            }
            (None, None) => {}
        }
        Ok(config)
    }
}

/// Formats an error with the flag or variable that caused it, and never with its value.
fn explain(id: &str, error: &RedisConfigError, sources: &Sources<'_>) -> String {
    let name = sources.name(id);
    match error {
        RedisConfigError::Insecure => format!(
            "{name}: TLS without verification is not supported; name the certificate authority with --redis-ca-file"
        ),
        error => format!("{name}: {}", with_causes(error)),
    }
}

/// Returns the content of a variable, unless it is empty.
fn secret(variable: &str) -> Result<Option<String>, String> {
    match env::var(variable) {
        Ok(secret) => Ok(Some(secret).filter(|secret| !secret.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(format!("the environment variable {variable} is no text")),
    }
}

const PASSWORD: &str = "ROOMCAST_REDIS_PASSWORD";
const SENTINEL_PASSWORD: &str = "ROOMCAST_REDIS_SENTINEL_PASSWORD";

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches, Parser};

    use super::*;
    use crate::options::Options;

    fn parse(flags: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from([&["serve"], flags].concat())
    }

    #[test]
    fn settings_require_server() {
        let flags = ["--redis-prefix=a", "--redis-mode=native", "--redis-queue=1", "--redis-password-file=f"];
        for flag in flags.into_iter().chain([
            "--redis-stream=s",
            "--redis-max-len=5",
            "--redis-subscription-mode=static",
            "--redis-sharded-requests",
            "--redis-no-sessions",
            "--redis-session-prefix=s:",
            "--redis-session-interval=1s",
        ]) {
            assert!(parse(&[flag]).is_err(), "{flag}");
            assert!(parse(&["--redis=redis://h", flag]).is_ok(), "{flag}");
            assert!(parse(&["--redis-sentinel=h:1", flag]).is_ok(), "{flag}");
        }
        assert!(parse(&["--redis=redis://h", "--redis-sentinel=h:1"]).is_err());
        assert!(parse(&["--redis=redis://h", "--redis-master=m"]).is_err());
    }

    #[test]
    fn sessions_are_stored_with_streams_and_recovery() {
        let stored = |flags: &[&str]| {
            let matches =
                Options::command().get_matches_from([&["serve", "--redis=redis://h"], flags].concat());
            let options = Options::from_arg_matches(&matches).expect("valid flags");
            let config = options.recovery.config(Config::new());
            let with_store =
                options.redis.sessions(config.clone(), options.recovery.time(), &Sources(&matches));
            with_store.expect("valid flags") != config
        };
        assert!(stored(&["--redis-mode=streams", "--recovery"]));
        assert!(!stored(&["--redis-mode=streams", "--recovery", "--redis-no-sessions"]));
        assert!(!stored(&["--redis-mode=streams"]) && !stored(&["--recovery"]));
        assert!(!stored(&["--redis-mode=sharded", "--recovery"]));
    }

    #[test]
    fn several_servers_are_accepted() {
        let options =
            parse(&["--redis=redis://a", "--redis=redis://b redis://c", "--redis-retired=redis://d"]);
        let options = options.expect("valid flags");
        assert_eq!((options.redis.redis.len(), options.redis.redis_retired.len()), (3, 1));
        assert!(parse(&["--redis-retired=redis://d"]).is_err());
    }

    #[test]
    fn urls_are_never_printed() {
        let options = parse(&["--redis=redis://me:hunter2@host"]).expect("valid flags");
        assert!(!format!("{options:?}").contains("hunter2"));
        let redis = Options::command().get_arguments().find(|flag| flag.get_id() == "redis").cloned();
        assert!(redis.expect("a flag").is_hide_env_values_set());
        let error = parse(&["--redis=redis://me:hunter2@host", "--redis-sentinel=h:1"]).expect_err("both");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn passwords_in_urls_are_found() {
        for (url, has) in [
            ("redis://me:secret@host", true),
            ("redis://:secret@host", true),
            ("redis://me@host:1", false),
            ("redis://host:1", false),
            ("nonsense", false),
        ] {
            assert_eq!(Url(url.to_owned()).has_password(), has, "{url}");
        }
    }
}
