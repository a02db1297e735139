//! Configuration of Socket.IO sessions.

use std::sync::Arc;
use std::time::Duration;

use roomcast_engine::EngineConfig;

use crate::{DefaultCodec, PacketLimits, Parser};

/// Socket.IO configuration, shared by all sessions of a server.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[must_use]
pub struct SocketIoConfig {
    /// Configuration of the underlying Engine.IO sessions.
    ///
    /// Clients would read its `initial_message` as a Socket.IO packet, and its `pending_limit` is not used.
    pub engine: Arc<EngineConfig>,
    /// Parser of packets; the clients must use the same. Default: [`DefaultCodec`].
    pub parser: Arc<dyn Parser>,
    /// Time a client has to join its first namespace. Default: 45 s.
    ///
    /// The application's time to decide is included.
    pub connect_timeout: Duration,
    /// Time a client has to send the attachments of a packet, from the packet on. Default: 60 s.
    pub attachment_timeout: Duration,
    /// Maximum namespaces that one client is in or is joining at a time. Default: 100.
    ///
    /// Each costs some 50 bytes here, plus the application's memory for a socket. Further requests are rejected.
    pub max_namespaces: usize,
    /// Maximum bytes buffered for namespaces that the client is still joining. Default: 256 KiB.
    ///
    /// The limit covers all of them together and may be exceeded by one packet. A client that sends more is closed as
    /// overloaded.
    pub pending_limit: usize,
    /// Limits on a single packet.
    pub limits: PacketLimits,
}

impl Default for SocketIoConfig {
    fn default() -> Self {
        Self {
            engine: Arc::default(),
            parser: DefaultCodec::shared(),
            connect_timeout: Duration::from_secs(45),
            attachment_timeout: Duration::from_secs(60),
            max_namespaces: 100,
            pending_limit: 256 * 1024,
            limits: PacketLimits::default(),
        }
    }
}

impl SocketIoConfig {
    /// Creates a configuration with the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`engine`](Self#structfield.engine).
    pub fn engine(mut self, engine: Arc<EngineConfig>) -> Self {
        self.engine = engine;
        self
    }

    /// Sets [`parser`](Self#structfield.parser).
    pub fn parser(mut self, parser: Arc<dyn Parser>) -> Self {
        self.parser = parser;
        self
    }

    /// Sets [`connect_timeout`](Self#structfield.connect_timeout).
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// Sets [`attachment_timeout`](Self#structfield.attachment_timeout).
    pub fn attachment_timeout(mut self, attachment_timeout: Duration) -> Self {
        self.attachment_timeout = attachment_timeout;
        self
    }

    /// Sets [`max_namespaces`](Self#structfield.max_namespaces).
    pub fn max_namespaces(mut self, max_namespaces: usize) -> Self {
        self.max_namespaces = max_namespaces;
        self
    }

    /// Sets [`pending_limit`](Self#structfield.pending_limit).
    pub fn pending_limit(mut self, pending_limit: usize) -> Self {
        self.pending_limit = pending_limit;
        self
    }

    /// Sets [`limits`](Self#structfield.limits).
    pub fn limits(mut self, limits: PacketLimits) -> Self {
        self.limits = limits;
        self
    }
}
