//! Settings of a server, in groups, each with its default.

mod http;
mod limits;
mod setters;
mod timeouts;
mod websocket;

use roomcast_core::{Message, TransportName};
use roomcast_recovery::RecoveryConfig;

pub use self::http::HttpConfig;
pub use self::limits::{EventRate, Limits};
use self::setters::setters;
pub use self::timeouts::Timeouts;
pub use self::websocket::WebSocketConfig;

/// Settings of a server, in groups, each with its default.
///
/// A setting leaves all others as they are. All of them hold both in a [`Server`](crate::Server) and when mounted, unless
/// they say otherwise; what concerns TCP connections and HTTP headers is set on the [`Server`](crate::Server).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use roomcast_server::transport::Compression;
/// use roomcast_server::Config;
///
/// let config = Config::new()
///     .timeouts(|timeouts| {
///         timeouts.ping_interval(Duration::from_secs(10)).ping_timeout(Duration::from_secs(5))
///     })
///     .limits(|limits| limits.max_payload(64 * 1024).max_rooms(100))
///     .websocket(|websocket| websocket.compression(Compression::new()))
///     .recovery(|recovery| recovery.max_disconnection(Duration::from_secs(300)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Config {
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: Limits,
    pub(crate) http: HttpConfig,
    pub(crate) websocket: WebSocketConfig,
    pub(crate) recovery: Option<RecoveryConfig>,
    pub(crate) transports: Option<Vec<TransportName>>,
    pub(crate) allow_upgrades: bool,
    pub(crate) initial_packet: Option<Message>,
    pub(crate) cleanup_empty_child_namespaces: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            http: HttpConfig::default(),
            websocket: WebSocketConfig::default(),
            recovery: None,
            transports: None,
            allow_upgrades: true,
            initial_packet: None,
            cleanup_empty_child_namespaces: false,
        }
    }
}

impl Config {
    /// Creates settings that are all at their defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes times that clients and connections are given.
    pub fn timeouts(mut self, set: impl FnOnce(Timeouts) -> Timeouts) -> Self {
        self.timeouts = set(self.timeouts);
        self
    }

    /// Changes bounds on what clients take.
    pub fn limits(mut self, set: impl FnOnce(Limits) -> Limits) -> Self {
        self.limits = set(self.limits);
        self
    }

    /// Changes settings of HTTP: cross-origin access, cookie, compression of polls and trusted proxies.
    pub fn http(mut self, set: impl FnOnce(HttpConfig) -> HttpConfig) -> Self {
        self.http = set(self.http);
        self
    }

    /// Changes settings of WebSocket connections.
    pub fn websocket(mut self, set: impl FnOnce(WebSocketConfig) -> WebSocketConfig) -> Self {
        self.websocket = set(self.websocket);
        self
    }

    /// Turns on connection state recovery, and changes its settings. Default: off.
    ///
    /// A client of Socket.IO, or a plain one in JSON mode, that reconnects in time has its id, its rooms and its data
    /// again, and is sent the events it missed, binary ones included; [`Socket::recovered`](crate::Socket::recovered)
    /// tells. It may reconnect after its connection was lost or the server closed it for a breach of the protocol, but not
    /// after the application disconnected it, or it left by itself.
    ///
    /// Events that are neither volatile nor ask for an answer get an offset, which clients of Socket.IO are sent as one
    /// more argument, the last. When the limits of the log are passed, clients that would have a gap begin anew; none is
    /// recovered with one.
    ///
    /// Costs one lock of the namespace and one entry of its log for each emit; while it is off, nothing. The limits hold
    /// for each namespace. The server sets [`RecoveryConfig::grace`] itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use roomcast_server::Config;
    ///
    /// let config = Config::new()
    ///     .recovery(|recovery| recovery.max_disconnection(Duration::from_secs(300)).skip_middlewares(false));
    /// let with_defaults = Config::new().recovery(|recovery| recovery);
    /// ```
    pub fn recovery(mut self, set: impl FnOnce(RecoveryConfig) -> RecoveryConfig) -> Self {
        self.recovery = Some(set(self.recovery.unwrap_or_default()));
        self
    }

    /// Limits sessions to these transports, of those the server has. Default: all of them.
    ///
    /// Without [`WebSocket::NAME`](crate::transport::WebSocket::NAME) there is no plain WebSocket either.
    ///
    /// # Examples
    ///
    /// ```
    /// use roomcast_server::transport::WebSocket;
    /// use roomcast_server::Config;
    ///
    /// let config = Config::new().transports([WebSocket::NAME]);
    /// ```
    pub fn transports(mut self, names: impl IntoIterator<Item = TransportName>) -> Self {
        self.transports = Some(names.into_iter().collect());
        self
    }

    /// Sets a message that each client of Engine.IO and Socket.IO gets together with the handshake. Default: none.
    ///
    /// For clients of Socket.IO it must be a packet of that protocol which needs no joined namespace.
    pub fn initial_packet(mut self, packet: impl Into<Message>) -> Self {
        self.initial_packet = Some(packet.into());
        self
    }
}

setters! {
    Config {
        /// Sets whether a session may move from one transport to a better one. Default: yes.
        ///
        /// Without, a session stays on its first transport, and clients are offered no other.
        allow_upgrades: bool,
        /// Sets whether a namespace that was created because a client asked for it is removed with its last client.
        /// Default: `false`, as on Node.
        ///
        /// Handlers registered on it alone go with it, and so does what was kept for recovery. The next one begins as its
        /// parent is then.
        cleanup_empty_child_namespaces: bool,
    }
}
