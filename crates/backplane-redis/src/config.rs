//! Settings of an engine.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionAddr, IntoConnectionInfo};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// Settings of an engine.
///
/// ```
/// use roomcast_backplane_redis::RedisConfig;
///
/// # fn main() -> Result<(), roomcast_backplane_redis::ConfigError> {
/// let one = RedisConfig::from_url("rediss://user:secret@redis.example:6380")?;
/// assert!(!format!("{one:?}").contains("secret"));
///
/// let nodes = ["s1.example:26379", "s2.example:26379", "s3.example:26379"];
/// let sentinel = RedisConfig::sentinel("mymaster", nodes)?.credentials("user", "secret").prefix("chat");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisConfig {
    pub(crate) target: Target,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) sentinel_username: Option<String>,
    pub(crate) sentinel_password: Option<Secret>,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) prefix: String,
    pub(crate) max_backoff: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) ping_interval: Duration,
    pub(crate) send_buffer: usize,
    pub(crate) max_message: usize,
    pub(crate) sharded_channels: bool,
    pub(crate) is_retired: bool,
}

/// Server, the sentinels that know it, or some servers of a cluster.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Server(Address),
    Sentinel { master: String, sentinels: Vec<Address> },
    Cluster { seeds: Vec<Address> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(String, u16),
    Unix(std::path::PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Text that is not printed.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Invalid settings. The text contains no part of a URL, since that may hold a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The URL is not one of a Redis server.
    #[error("invalid Redis URL; expected redis:// or rediss://, such as redis://user:password@host:6379")]
    Url,
    /// The URL asks for TLS without verification.
    #[error("TLS without verification is not supported; add the certificate by `ca_file`")]
    Insecure,
    /// The address of a sentinel is not of the form `host:port`.
    #[error("invalid sentinel address {0:?}; expected host:port")]
    Sentinel(String),
    /// There is no sentinel.
    #[error("no sentinel address")]
    NoSentinel,
    /// The URL is one of a Redis Cluster.
    #[error("several servers are a Redis Cluster, which only the sharded mode uses; name one server")]
    Cluster,
    /// The environment variable is missing or not Unicode.
    #[error("no environment variable {0}")]
    Environment(String),
    /// A file cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Path of the file.
        path: String,
        /// Cause.
        source: std::io::Error,
    },
    /// A file has no valid certificate.
    #[error("no certificate in {0}")]
    Certificate(String),
}

impl RedisConfig {
    /// Returns the settings for the server of a URL: `redis://`, `rediss://` with TLS, or `redis+unix://`.
    ///
    /// Several servers, as in `redis://user:password@one:6379,two:6379`, are some nodes of a Redis Cluster, which name
    /// the others; see [`RedisClusterPubSub`](crate::RedisClusterPubSub).
    ///
    /// The URL may hold a username and a password. A database number has no effect: channels belong to none.
    ///
    /// # Errors
    /// Returns an error if the URL is invalid, or if the system's certificates are needed and not found.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        // Without its own TLS, which is not used, the client library takes no `rediss://`.
        // A password may have a comma, but no second scheme.
        let start = url.find('@').filter(|at| url[..*at].matches("://").count() == 1).unwrap_or_default();
        if let Some(comma) = url[start..].find(',') {
            return Self::from_seeds(&url[..start + comma], &url[start + comma + 1..]);
        }
        let tls_rest = ["rediss://", "valkeys://"].into_iter().find_map(|scheme| url.strip_prefix(scheme));
        if tls_rest.is_some() && url.ends_with("#insecure") {
            return Err(ConfigError::Insecure);
        }
        let plain = tls_rest.map(|rest| format!("redis://{rest}"));
        let info = plain.as_deref().unwrap_or(url).into_connection_info().map_err(|_| ConfigError::Url)?;
        let address = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Address::Tcp(host.clone(), *port),
            ConnectionAddr::Unix(path) => Address::Unix(path.clone()),
            _ => return Err(ConfigError::Url),
        };
        let mut config = Self::new(Target::Server(address));
        config.username = info.redis_settings().username().map(str::to_owned);
        config.password = info.redis_settings().password().map(|password| Secret(password.to_owned()));
        Ok(if plain.is_some() { config.tls() } else { config })
    }

    /// Reads a URL with several servers; `first` has the credentials.
    fn from_seeds(first: &str, others: &str) -> Result<Self, ConfigError> {
        let mut config = Self::from_url(first)?;
        let Target::Server(address @ Address::Tcp(..)) = &config.target else { return Err(ConfigError::Url) };
        let mut seeds = vec![address.clone()];
        for other in others.split(',') {
            // A list of whole URLs is common too.
            let other = other.split_once("://").map_or(other, |(_, rest)| rest);
            let other = other.rsplit_once('@').map_or(other, |(_, address)| address);
            match Self::from_url(&format!("redis://{other}"))?.target {
                Target::Server(address) => seeds.push(address),
                _ => return Err(ConfigError::Url),
            }
        }
        config.target = Target::Cluster { seeds };
        Ok(config)
    }

    /// Turns the server of a URL into a node of a Redis Cluster, which names the others.
    #[must_use]
    pub fn cluster(mut self) -> Self {
        if let Target::Server(address) = &self.target {
            self.target = Target::Cluster { seeds: vec![address.clone()] };
        }
        self
    }

    /// Returns whether the settings are for a Redis Cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self.target, Target::Cluster { .. })
    }

    /// Returns the settings for one server of the cluster.
    pub(crate) fn for_server(&self, address: &Address) -> Self {
        Self { target: Target::Server(address.clone()), ..self.clone() }
    }

    /// Returns the servers to ask first.
    pub(crate) fn seeds(&self) -> Vec<Address> {
        match &self.target {
            Target::Server(address) => vec![address.clone()],
            Target::Cluster { seeds } => seeds.clone(),
            Target::Sentinel { .. } => Vec::new(),
        }
    }

    /// Returns the settings for the master that sentinels name; each sentinel is given as `host:port`.
    ///
    /// # Errors
    /// Returns an error if an address is invalid or there is none.
    pub fn sentinel(
        master: &str,
        sentinels: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, ConfigError> {
        let parse = |text: &str| {
            let (host, port) = text.rsplit_once(':')?;
            let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            Some(Address::Tcp(host.to_owned(), port.parse().ok().filter(|_| !host.is_empty())?))
        };
        let sentinels = sentinels.into_iter().map(|text| {
            let text = text.as_ref();
            parse(text).ok_or_else(|| ConfigError::Sentinel(text.to_owned()))
        });
        let sentinels = sentinels.collect::<Result<Vec<_>, _>>()?;
        if sentinels.is_empty() {
            return Err(ConfigError::NoSentinel);
        }
        Ok(Self::new(Target::Sentinel { master: master.to_owned(), sentinels }))
    }

    fn new(target: Target) -> Self {
        Self {
            target,
            username: None,
            password: None,
            sentinel_username: None,
            sentinel_password: None,
            tls: None,
            prefix: "roomcast".to_owned(),
            max_backoff: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(2),
            ping_interval: Duration::from_secs(1),
            send_buffer: 1 << 20,
            max_message: 16 << 20,
            sharded_channels: false,
            is_retired: false,
        }
    }

    /// Sets the username and password of the server.
    #[must_use]
    pub fn credentials(mut self, username: &str, password: &str) -> Self {
        self.username = Some(username.to_owned());
        self.password = Some(Secret(password.to_owned()));
        self
    }

    /// Sets the username at the server. Default: that of the URL, or Redis's default user.
    #[must_use]
    pub fn username(mut self, username: &str) -> Self {
        self.username = Some(username.to_owned());
        self
    }

    /// Sets the password of the server.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(Secret(password.to_owned()));
        self
    }

    /// Sets the password of the server from an environment variable.
    ///
    /// # Errors
    /// Returns an error if the variable is not set.
    pub fn password_env(self, variable: &str) -> Result<Self, ConfigError> {
        let password = std::env::var(variable).map_err(|_| ConfigError::Environment(variable.to_owned()))?;
        Ok(self.password(&password))
    }

    /// Sets the password of the server from a file, without the line end. The file is read once.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    pub fn password_file(self, path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let password = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::File { path: path.display().to_string(), source })?;
        Ok(self.password(password.trim_end_matches(['\r', '\n'])))
    }

    /// Sets the username and password of the sentinels. Default: none; the sentinels do not get the server's.
    #[must_use]
    pub fn sentinel_credentials(mut self, username: Option<&str>, password: &str) -> Self {
        self.sentinel_username = username.map(str::to_owned);
        self.sentinel_password = Some(Secret(password.to_owned()));
        self
    }

    /// Uses TLS with the certificates of the system. `rediss://` sets this.
    ///
    /// With sentinels, it holds for them and for the server.
    #[must_use]
    pub fn tls(self) -> Self {
        let mut roots = RootCertStore::empty();
        // Certificates that cannot be read are skipped; without any, each connection fails with a message.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        self.tls_config(Arc::new(client_config(roots)))
    }

    /// Uses TLS with the certificate authorities of a PEM file only.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or has no certificate.
    pub fn ca_file(self, path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let name = || path.display().to_string();
        let pem = std::fs::read(path).map_err(|source| ConfigError::File { path: name(), source })?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
        let mut roots = RootCertStore::empty();
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(ConfigError::Certificate(name()));
        }
        Ok(self.tls_config(Arc::new(client_config(roots))))
    }

    /// Uses TLS with settings of the application, such as with a client certificate.
    #[must_use]
    pub fn tls_config(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Sets the first part of each channel's name. Default: `roomcast`.
    ///
    /// Clusters that share a server need different prefixes.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Sets the maximum time between attempts to connect. Default and maximum: 500 ms.
    ///
    /// The delay starts at an eighth of it and doubles. Each is shortened by a random part of up to a half.
    #[must_use]
    pub fn max_backoff(mut self, backoff: Duration) -> Self {
        self.max_backoff = backoff.min(Duration::from_millis(500));
        self
    }

    /// Sets the maximum time of an attempt to connect, with TLS and authentication. Default: 2 s.
    ///
    /// A quarter of it is the limit for the TCP connection to each address of the host.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the interval at which silent connections are tested. Default: 1 s; at least 10 ms.
    ///
    /// A PING follows one to two intervals of silence. A connection that stays silent, as with a frozen server, is
    /// closed after three to four intervals.
    #[must_use]
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = interval.max(Duration::from_millis(10));
        self
    }

    /// Sets the maximum bytes of commands that wait to be sent, for each of the two connections. Default: 1 MiB.
    ///
    /// One command may exceed it.
    #[must_use]
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.send_buffer = bytes;
        self
    }

    /// Sets the maximum bytes of an incoming message; a larger one is dropped and reported. Default: 16 MiB.
    ///
    /// Nodes send at most [`max_payload`](roomcast_cluster::ClusterConfig::max_payload) bytes.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Uses sharded channels: `SSUBSCRIBE` and `SPUBLISH` of Redis 7 and later. Default: off.
    ///
    /// For [`RedisBackplane`](crate::RedisBackplane) only. Channels of both kinds are different ones, so all nodes need
    /// the same setting.
    #[must_use]
    pub fn sharded_channels(mut self, is_on: bool) -> Self {
        self.sharded_channels = is_on;
        self
    }

    /// Marks one of several servers that is being removed: it is used as long as other nodes publish by it. Default:
    /// off.
    ///
    /// For nodes that start before the others know of the removal; see
    /// [`Server::retired`](roomcast_cluster::Server::retired).
    #[must_use]
    pub fn retired(mut self) -> Self {
        self.is_retired = true;
        self
    }

    /// Returns the name of the server without credentials: `host:port`, the path of a socket, or the sentinels' name of
    /// the master.
    #[must_use]
    pub fn server_name(&self) -> String {
        match &self.target {
            Target::Server(address) => address.to_string().to_ascii_lowercase(),
            Target::Sentinel { master, .. } => master.clone(),
            Target::Cluster { seeds } => {
                let names: Vec<_> = seeds.iter().map(ToString::to_string).collect();
                names.join(",").to_lowercase()
            }
        }
    }
}

fn client_config(roots: RootCertStore) -> ClientConfig {
    // The process may have another default provider, or none.
    let provider = Arc::new(crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    versions.expect("ring supports the default versions").with_root_certificates(roots).with_no_client_auth()
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("target", &self.target)
            .field("username", &self.username)
            .field("password", &self.password)
            .field("has_tls", &self.tls.is_some())
            .field("prefix", &self.prefix)
            .field("max_backoff", &self.max_backoff)
            .field("connect_timeout", &self.connect_timeout)
            .field("ping_interval", &self.ping_interval)
            .field("send_buffer", &self.send_buffer)
            .field("max_message", &self.max_message)
            .field("sharded_channels", &self.sharded_channels)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_set_address_and_user() {
        let config = RedisConfig::from_url("redis://me:p%40ss@host:7000/3").expect("a URL");
        let Target::Server(address) = &config.target else { panic!("{config:?}") };
        assert_eq!(*address, Address::Tcp("host".into(), 7000));
        assert_eq!(config.username.as_deref(), Some("me"));
        assert_eq!(config.password.as_ref().map(Secret::expose), Some("p@ss"));
        assert!(config.tls.is_none());
        assert!(RedisConfig::from_url("rediss://host").expect("a URL").tls.is_some());
    }

    #[test]
    fn several_servers_are_cluster() {
        let address = |host: &str, port| Address::Tcp(host.to_owned(), port);
        let expected = [address("a", 1), address("b", 6379), address("::1", 3)];
        for url in ["redis://me:p,@a:1,b,[::1]:3", "redis://me:p%2C@a:1,redis://b,redis://me:p%2C@[::1]:3"] {
            let config = RedisConfig::from_url(url).expect("a URL");
            assert!(config.is_cluster());
            assert_eq!(config.seeds(), expected);
            assert_eq!(config.password.as_ref().map(Secret::expose), Some("p,"));
        }
        assert!(!RedisConfig::from_url("redis://a").expect("a URL").is_cluster());
        assert!(RedisConfig::from_url("redis://a").expect("a URL").cluster().is_cluster());
        for url in ["redis://a,", "redis://a,b:port", "redis+unix:///a,b"] {
            assert!(RedisConfig::from_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn server_names_have_no_credentials() {
        let name = |config: RedisConfig| config.server_name();
        assert_eq!(
            name(RedisConfig::from_url("rediss://me:hunter2@Host:7000/3").expect("a URL")),
            "host:7000"
        );
        assert_eq!(name(RedisConfig::sentinel("m", ["a:1"]).expect("an address")), "m");
    }

    #[test]
    fn passwords_are_never_printed() {
        let config = RedisConfig::from_url("redis://me:hunter2@host").expect("a URL");
        let config = config.sentinel_credentials(None, "hunter2");
        assert!(!format!("{config:#?}").contains("hunter2"));
        let error = RedisConfig::from_url("http://me:hunter2@host").expect_err("another scheme");
        assert!(!format!("{error:?} {error}").contains("hunter2"));
        let error = RedisConfig::from_url("redis://me:hunter2@host:port").expect_err("no port");
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }

    #[test]
    fn unverified_tls_is_rejected() {
        let error = RedisConfig::from_url("rediss://host/#insecure").expect_err("unverified");
        assert!(matches!(error, ConfigError::Insecure));
    }

    #[test]
    fn sentinel_addresses_are_checked() {
        let config = RedisConfig::sentinel("m", ["a:1", "[::1]:2"]).expect("addresses");
        let Target::Sentinel { sentinels, .. } = config.target else { panic!("no sentinels") };
        assert_eq!(sentinels, [Address::Tcp("a".into(), 1), Address::Tcp("::1".into(), 2)]);
        assert!(RedisConfig::sentinel("m", ["a"]).is_err());
        assert!(RedisConfig::sentinel("m", [":1"]).is_err());
        assert!(RedisConfig::sentinel("m", [""; 0]).is_err());
    }
}
