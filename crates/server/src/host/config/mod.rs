//! Server settings, in groups, with defaults.

mod http;
mod limits;
mod setters;
mod timeouts;
mod websocket;

use std::fmt;
use std::sync::Arc;

use roomcast_core::{Message, Namespace, TransportName};
use roomcast_recovery::{Fence, Recovery, RecoveryConfig, Sequencer};

pub use self::http::HttpConfig;
pub use self::limits::{EventRate, Limits};
use self::setters::setters;
pub use self::timeouts::Timeouts;
pub use self::websocket::WebSocketConfig;

/// Server settings, in groups, with defaults.
///
/// Each setter leaves all other settings unchanged. Settings apply both in a [`Server`](crate::Server) and when
/// mounted, unless documented otherwise; TCP connections and HTTP headers are configured on the
/// [`Server`](crate::Server).
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
    pub(crate) recovery_factory: Option<RecoveryFactory>,
    pub(crate) fence: Option<Arc<Fence>>,
    pub(crate) transports: Option<Vec<TransportName>>,
    pub(crate) allow_upgrades: bool,
    pub(crate) initial_packet: Option<Message>,
    pub(crate) cleanup_empty_child_namespaces: bool,
}

/// Factory of custom recovery implementations.
#[derive(Clone)]
pub(crate) struct RecoveryFactory(Arc<MakeRecovery>);

type MakeRecovery = dyn Fn(&Namespace, Arc<Sequencer>) -> Arc<dyn Recovery> + Send + Sync;

impl RecoveryFactory {
    pub(crate) fn make(&self, name: &Namespace, sequencer: Arc<Sequencer>) -> Arc<dyn Recovery> {
        (self.0)(name, sequencer)
    }
}

impl fmt::Debug for RecoveryFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryFactory")
    }
}

impl PartialEq for RecoveryFactory {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for RecoveryFactory {}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            http: HttpConfig::default(),
            websocket: WebSocketConfig::default(),
            recovery: None,
            recovery_factory: None,
            fence: None,
            transports: None,
            allow_upgrades: true,
            initial_packet: None,
            cleanup_empty_child_namespaces: false,
        }
    }
}

impl Config {
    /// Creates the default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes timeouts of clients and connections.
    pub fn timeouts(mut self, set: impl FnOnce(Timeouts) -> Timeouts) -> Self {
        self.timeouts = set(self.timeouts);
        self
    }

    /// Changes limits on clients.
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

    /// Enables connection state recovery, and changes its settings. Default: off.
    ///
    /// A Socket.IO client, or a plain one in JSON mode, that reconnects in time keeps its id, rooms and data, and
    /// receives the events it missed, binary ones included; [`Socket::recovered`](crate::Socket::recovered) then
    /// returns true. Recovery applies after a lost connection or a close for a protocol error, but not after a
    /// disconnect by the application or the client.
    ///
    /// Events that are neither volatile nor ask for an acknowledgement get an offset, which Socket.IO clients receive
    /// as an additional last argument. Clients whose gap exceeds the limits of the log start a new session; no client
    /// is recovered with a gap.
    ///
    /// Costs one namespace lock and one log entry per emit; nothing while off. The limits apply per namespace. The
    /// server sets [`RecoveryConfig::grace`] itself.
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

    /// Sets the factory that creates the recovery of each namespace, for a store that outlives this process.
    ///
    /// It gets a [`Sequencer`] around the router of the namespace, with the settings of [`recovery`](Self::recovery),
    /// and has an effect only if that is enabled. A claim that does not complete within half of
    /// [`Timeouts::connect_timeout`] is given up, and the client starts a new session.
    ///
    /// Default: the sequencer itself, which retains sessions in memory.
    pub fn recovery_factory(
        mut self,
        make: impl Fn(&Namespace, Arc<Sequencer>) -> Arc<dyn Recovery> + Send + Sync + 'static,
    ) -> Self {
        self.recovery_factory = Some(RecoveryFactory(Arc::new(make)));
        self
    }

    /// Sets the fence of the store in which the sessions of this process are.
    ///
    /// While it is closed, the server reads no message of clients that can recover, and runs no handler for them,
    /// disconnect handlers included. So a process that was frozen drops clients that have returned elsewhere without
    /// their disconnect handlers. See [`Fence`]; it is that of
    /// [`SessionQueue::fence`](crate::recovery::SessionQueue::fence). Default: none.
    pub fn session_fence(mut self, fence: Arc<Fence>) -> Self {
        self.fence = Some(fence);
        self
    }

    /// Restricts sessions to these of the server's transports. Default: all of them.
    ///
    /// Without [`WebSocket::NAME`](crate::transport::WebSocket::NAME) plain WebSocket is disabled too.
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

    /// Sets a message sent to each Engine.IO and Socket.IO client with the handshake. Default: none.
    ///
    /// For Socket.IO clients it must be a packet of that protocol that needs no joined namespace.
    pub fn initial_packet(mut self, packet: impl Into<Message>) -> Self {
        self.initial_packet = Some(packet.into());
        self
    }
}

setters! {
    Config {
        /// Sets whether a session may upgrade to a better transport. Default: yes.
        ///
        /// If disabled, a session stays on its first transport, and clients are offered no other.
        allow_upgrades: bool,
        /// Sets whether a dynamic namespace is removed with its last client. Default: `false`, as on Node.
        ///
        /// Handlers registered on it and its recovery state are removed too. A later one starts from its parent's
        /// current state.
        cleanup_empty_child_namespaces: bool,
    }
}
