//! What is agreed at the handshake

use std::time::Duration;

use roomcast_core::{Capabilities, Message, Sid, TransportName};

/// The rules of a server's sessions, shared by all of them
///
/// The defaults are those of the server on Node. Durations reach the client as whole milliseconds.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[must_use]
pub struct EngineConfig {
    /// Time from one pong, or from the handshake, to the next ping
    ///
    /// Default: 25 s. A client notices a dead server after this and [`ping_timeout`](Self::ping_timeout).
    pub ping_interval: Duration,
    /// Time a client has to answer a ping before its session ends
    ///
    /// Default: 20 s. Nothing but a pong counts as an answer, so it should be long enough for the largest upload
    /// that may be before it.
    pub ping_timeout: Duration,
    /// Time a client has to prove a new transport, from when its connection is open
    ///
    /// Default: 10 s. When it is over only the new connection is closed.
    pub upgrade_timeout: Duration,
    /// Largest payload a client may send in one HTTP body or one message, in bytes
    ///
    /// Default: 1,000,000. Here it is only told to the client; the transports hold it to that.
    pub max_payload: usize,
    /// Transports a session may move to, in the order in which they are told to the client
    ///
    /// Default: none. Empty it to forbid upgrades.
    pub upgrades: Vec<TransportName>,
    /// Transports on which a client has to ask for each answer
    ///
    /// Default: none. The end of a session is told there by a packet, since the end of a request means nothing, and a
    /// request that waits is answered where the client must go on.
    pub polled: Vec<TransportName>,
    /// Transports from which a session may move to one of [`upgrades`](Self::upgrades)
    ///
    /// Default: none.
    pub upgradable: Vec<TransportName>,
    /// A message that every client gets together with the handshake
    ///
    /// Default: none.
    pub initial_message: Option<Message>,
    /// Bytes kept of what a client sends before the application has let it in, in an [`EngineSession`]
    ///
    /// Default: 256 KiB. A single message is kept whatever its length. A client that sends more is closed as
    /// overloaded.
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
    /// Creates settings that are all at their defaults.
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
    /// Sets [`upgrades`](Self::upgrades), [`upgradable`](Self::upgradable) and [`polled`](Self::polled) from what the
    /// server's transports can do.
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

    /// Where a session that is on `transport` may move to
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

/// What a session begins with
#[derive(Debug, Clone)]
#[allow(clippy::exhaustive_structs, reason = "servers build it")]
pub struct Handshake {
    /// The secret id under which the client's further requests find the session
    pub sid: Sid,
    /// The revision of the protocol that the client asked for
    pub version: Version,
}

/// A revision of the Engine.IO protocol
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Version {
    /// The fourth, of Socket.IO clients 3 and 4: the server sends the pings
    V4,
}

impl Version {
    /// The revision that the query parameter `EIO` names, or `None` if it is not supported
    pub fn from_query(eio: &str) -> Option<Self> {
        match eio {
            "4" => Some(Self::V4),
            _ => None,
        }
    }
}
