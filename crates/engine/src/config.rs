//! Configuration of Engine.IO sessions.

use std::time::Duration;

use roomcast_core::{Capabilities, Message, Sid, TransportName};

/// Engine.IO configuration, shared by all sessions of a server.
///
/// The defaults match the Node server. Durations are sent to the client as whole milliseconds.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[must_use]
pub struct EngineConfig {
    /// Time from a pong or the handshake to the next ping. Default: 25 s.
    ///
    /// A client detects a dead server after this and [`ping_timeout`](Self::ping_timeout).
    pub ping_interval: Duration,
    /// Time a client has to answer a ping before its session ends. Default: 20 s.
    ///
    /// Other input on the primary connection restarts this time, as on Node; only a pong ends the wait.
    pub ping_timeout: Duration,
    /// Time a client has to complete an upgrade, from the opening of the new connection. Default: 10 s.
    ///
    /// On expiry only the new connection is closed.
    pub upgrade_timeout: Duration,
    /// Maximum payload of one HTTP body or message from a client, in bytes. Default: 1,000,000.
    ///
    /// This setting only announces the limit to the client; the transports enforce it.
    pub max_payload: usize,
    /// Transports that a session may upgrade to, in the order announced to the client. Default: none.
    ///
    /// An empty list disables upgrades.
    pub upgrades: Vec<TransportName>,
    /// Transports on which a client polls for responses. Default: none.
    ///
    /// On these transports a close packet reports the end of a session, since the end of a request has no meaning, and
    /// pending requests are answered when an upgrade needs it.
    pub polled: Vec<TransportName>,
    /// Transports from which a session may upgrade to one of [`upgrades`](Self::upgrades). Default: none.
    pub upgradable: Vec<TransportName>,
    /// Message sent to every client together with the handshake. Default: none.
    pub initial_message: Option<Message>,
    /// Maximum bytes that an [`EngineSession`] buffers before the application admits its client. Default: 256 KiB.
    ///
    /// A single message is buffered regardless of its length. A client that sends more is closed as overloaded.
    ///
    /// [`EngineSession`]: crate::EngineSession
    pub pending_limit: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            upgrade_timeout: Duration::from_secs(10),
            max_payload: 1_000_000,
            upgrades: Vec::new(),
            polled: Vec::new(),
            upgradable: Vec::new(),
            initial_message: None,
            pending_limit: 256 * 1024,
        }
    }
}

impl EngineConfig {
    /// Creates a configuration with the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`ping_interval`](Self#structfield.ping_interval).
    pub fn ping_interval(mut self, ping_interval: Duration) -> Self {
        self.ping_interval = ping_interval;
        self
    }

    /// Sets [`ping_timeout`](Self#structfield.ping_timeout).
    pub fn ping_timeout(mut self, ping_timeout: Duration) -> Self {
        self.ping_timeout = ping_timeout;
        self
    }

    /// Sets [`upgrade_timeout`](Self#structfield.upgrade_timeout).
    pub fn upgrade_timeout(mut self, upgrade_timeout: Duration) -> Self {
        self.upgrade_timeout = upgrade_timeout;
        self
    }

    /// Sets [`max_payload`](Self#structfield.max_payload).
    pub fn max_payload(mut self, max_payload: usize) -> Self {
        self.max_payload = max_payload;
        self
    }

    /// Sets [`upgrades`](Self#structfield.upgrades).
    pub fn upgrades(mut self, upgrades: Vec<TransportName>) -> Self {
        self.upgrades = upgrades;
        self
    }

    /// Sets [`polled`](Self#structfield.polled).
    pub fn polled(mut self, polled: Vec<TransportName>) -> Self {
        self.polled = polled;
        self
    }

    /// Sets [`upgradable`](Self#structfield.upgradable).
    pub fn upgradable(mut self, upgradable: Vec<TransportName>) -> Self {
        self.upgradable = upgradable;
        self
    }

    /// Sets [`initial_message`](Self#structfield.initial_message).
    pub fn initial_message(mut self, initial_message: Option<Message>) -> Self {
        self.initial_message = initial_message;
        self
    }

    /// Sets [`pending_limit`](Self#structfield.pending_limit).
    pub fn pending_limit(mut self, pending_limit: usize) -> Self {
        self.pending_limit = pending_limit;
        self
    }
}

impl EngineConfig {
    /// Derives the transport settings from the server's transports.
    ///
    /// Sets [`upgrades`](Self::upgrades), [`upgradable`](Self::upgradable) and [`polled`](Self::polled).
    pub fn transports(mut self, transports: impl IntoIterator<Item = (TransportName, Capabilities)>) -> Self {
        self.upgrades.clear();
        self.upgradable.clear();
        self.polled.clear();
        for (name, capabilities) in transports {
            if capabilities.upgrades_to {
                self.upgrades.push(name);
            }
            if capabilities.upgrades_from {
                self.upgradable.push(name);
            }
            if capabilities.polled {
                self.polled.push(name);
            }
        }
        self
    }

    /// Returns the transports that a session on `transport` may upgrade to.
    pub(crate) fn upgrades_from(&self, transport: TransportName) -> impl Iterator<Item = TransportName> {
        let may_leave = self.is_upgradable(transport);
        self.upgrades.iter().copied().filter(move |name| may_leave && *name != transport)
    }

    pub(crate) fn is_upgradable(&self, transport: TransportName) -> bool {
        self.upgradable.contains(&transport)
    }

    pub(crate) fn is_polled(&self, transport: TransportName) -> bool {
        self.polled.contains(&transport)
    }
}

/// Parameters of a new session.
#[derive(Debug, Clone)]
#[allow(clippy::exhaustive_structs, reason = "servers build it")]
pub struct OpenPacket {
    /// Secret id by which the client's later requests find the session.
    pub sid: Sid,
    /// Protocol revision requested by the client.
    pub version: Version,
}

/// A revision of the Engine.IO protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Version {
    /// Revision 4, of Socket.IO clients 3 and 4: the server sends the pings.
    V4,
}

impl Version {
    /// Returns the revision named by the query parameter `EIO`, or `None` if unsupported.
    pub fn from_query(eio: &str) -> Option<Self> {
        match eio {
            "4" => Some(Self::V4),
            _ => None,
        }
    }
}
