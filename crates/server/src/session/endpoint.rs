//! Endpoints: a path and the protocol served there.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use roomcast_core::{Codec, Namespace, Session, Sid, Transport, TransportName};
use roomcast_engine::{EngineCodec, EngineConfig, EngineSession, OpenPacket, Version};
use roomcast_plain::{Mode, PlainConfig, PlainSession, SUBPROTOCOL};
use roomcast_socketio::{PacketLimits, Parser, SocketIoConfig, SocketIoSession};
use roomcast_transport_ws::WebSocket;

use crate::host::config::Config;
use crate::session::shared::ClientKind;
use crate::web::handshake_json::BEARER;

/// Path and the protocol served there.
#[derive(Clone)]
#[must_use]
pub struct Endpoint {
    path: Path,
    protocol: Protocol,
    namespace: Option<Namespace>,
    // Each session refers to it: thin, unlike a slice.
    transports: Arc<Vec<Arc<dyn Transport>>>,
}

#[derive(Clone, Debug)]
enum Path {
    /// All paths with this prefix, as on Node.
    Prefix(String),
    Exact(String),
    /// Prefix that ends with a slash; the rest of the path is passed to the application.
    Below(String),
    Any,
}

impl Path {
    /// Parses the path of a plain WebSocket endpoint.
    fn plain(path: &str) -> Self {
        match path.strip_suffix('*') {
            Some("") => Self::Any,
            Some(above) if above.ends_with('/') => Self::Below(above.into()),
            _ => Self::Exact(path.into()),
        }
    }

    /// Returns the part of `path` after the fixed part, or `None` if `path` does not match.
    fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        match self {
            Self::Prefix(prefix) | Self::Below(prefix) => path.strip_prefix(prefix.as_str()),
            Self::Exact(exact) => (path == exact).then_some(""),
            Self::Any => Some(path.strip_prefix('/').unwrap_or(path)),
        }
    }
}

#[derive(Clone)]
enum Protocol {
    SocketIo(Arc<SocketIoConfig>),
    EngineIo(Arc<EngineConfig>),
    Plain { mode: Mode, config: Arc<PlainConfig>, subprotocols: Arc<[String]> },
}

impl Endpoint {
    /// Creates a Socket.IO endpoint at `/socket.io/`.
    pub fn socket_io() -> Self {
        Self::new(Path::Prefix("/socket.io/".into()), Protocol::SocketIo(Arc::default()), None)
    }

    /// Creates an Engine.IO endpoint at `/engine.io/`; each message is the event `message` in this namespace.
    pub fn engine_io(namespace: impl Into<Namespace>) -> Self {
        let protocol = Protocol::EngineIo(Arc::default());
        Self::new(Path::Prefix("/engine.io/".into()), protocol, Some(namespace.into()))
    }

    /// Creates a plain WebSocket endpoint at this path, in the main namespace.
    ///
    /// The path `*` matches every path that no other endpoint matches. A path that ends with `/*`, such as `/rooms/*`,
    /// matches all paths below it; [`Handshake::path_rest`](crate::http::Handshake::path_rest) returns the part in
    /// place of the `*`:
    ///
    /// ```
    /// use roomcast_server::transport::Endpoint;
    /// use roomcast_server::{Io, Socket};
    ///
    /// let io = Io::builder().endpoint(Endpoint::plain("/rooms/*")).build();
    /// io.on_connect(async |socket: Socket| {
    ///     socket.join(socket.handshake().path_rest()); // `red` for `ws://…/rooms/red?token=x`
    /// });
    /// ```
    ///
    /// A client that offers the subprotocol `roomcast.json` uses JSON arrays. Other clients use plain mode, where each
    /// frame is the event `message`.
    ///
    /// Browsers cannot set headers on a WebSocket, so a client authenticates by the query or by a subprotocol: the one
    /// after `bearer` is its token. [`Auth`](crate::Auth) exposes both to middleware and handlers as `token`:
    ///
    /// ```js
    /// new WebSocket("wss://chat.example/ws?token=x");
    /// new WebSocket("wss://chat.example/ws", ["bearer", "x"]);
    /// new WebSocket("wss://chat.example/ws", ["roomcast.json", "bearer", "x"]);
    /// ```
    ///
    /// A subprotocol is an HTTP token (RFC 9110 section 5.6.2): besides letters and digits it allows `-._~+` and a few
    /// more characters. Encode a base64 token with the URL-safe alphabet and without padding.
    pub fn plain(path: &str) -> Self {
        let subprotocols = Arc::new([BEARER.to_owned()]);
        let protocol = Protocol::Plain { mode: Mode::Plain, config: Arc::default(), subprotocols };
        Self::new(Path::plain(path), protocol, Some(Namespace::main()))
    }

    /// Sets the path.
    ///
    /// The path should end with a slash for Socket.IO and Engine.IO, and may end with `/*` for [plain](Self::plain)
    /// WebSocket.
    pub fn at(mut self, path: &str) -> Self {
        self.path = match self.path {
            Path::Prefix(_) => Path::Prefix(path.into()),
            _ => Path::plain(path),
        };
        self
    }

    /// Sets the Socket.IO parser; clients of this endpoint must use the same one.
    ///
    /// Has no effect on other protocols. Clients with different parsers share rooms, so a server may serve one path for
    /// each parser:
    ///
    /// ```
    /// use roomcast_server::transport::Endpoint;
    /// use roomcast_server::Io;
    /// # use roomcast_socketio::DefaultCodec as MsgpackCodec;
    ///
    /// let msgpack = Endpoint::socket_io().at("/msgpack/").parser(MsgpackCodec::shared());
    /// let io = Io::builder().endpoint(Endpoint::socket_io()).endpoint(msgpack).build();
    /// ```
    ///
    /// `MsgpackCodec` is in the crate `roomcast-socketio-msgpack`, and in `roomcast` with the feature `msgpack`.
    /// Implement [`Parser`] for a custom format. Default: Socket.IO's parser, JSON text followed by binary attachments.
    pub fn parser(mut self, parser: Arc<dyn Parser>) -> Self {
        if let Protocol::SocketIo(config) = &mut self.protocol {
            *config = Arc::new(SocketIoConfig::clone(config).parser(parser));
        }
        self
    }

    /// Sets the namespace of plain WebSocket and Engine.IO clients.
    ///
    /// Has no effect for Socket.IO, where clients select namespaces themselves.
    pub fn in_namespace(mut self, namespace: impl Into<Namespace>) -> Self {
        if !matches!(self.protocol, Protocol::SocketIo(_)) {
            self.namespace = Some(namespace.into());
        }
        self
    }

    /// Uses JSON arrays with all plain WebSocket clients, with or without the subprotocol.
    pub fn json(mut self) -> Self {
        if let Protocol::Plain { mode, .. } = &mut self.protocol {
            *mode = Mode::Json;
        }
        self
    }

    /// Adds a subprotocol that the server accepts from plain WebSocket clients.
    ///
    /// The server selects it if the client offers it and does not offer `roomcast.json`. If the client offers several
    /// accepted subprotocols, the server selects the first offered. The client stays in plain mode, and the application
    /// interprets its frames. Browsers close a connection if the server selects none of the offered subprotocols.
    /// Default: `bearer`, see [`plain`](Self::plain).
    ///
    /// ```
    /// use roomcast_server::transport::Endpoint;
    /// use roomcast_server::Io;
    ///
    /// let io = Io::builder().endpoint(Endpoint::plain("/ws").subprotocol("chat.v1")).build();
    /// ```
    pub fn subprotocol(mut self, name: &str) -> Self {
        if let Protocol::Plain { subprotocols, .. } = &mut self.protocol {
            *subprotocols = subprotocols.iter().cloned().chain([name.to_owned()]).collect();
        }
        self
    }

    fn new(path: Path, protocol: Protocol, namespace: Option<Namespace>) -> Self {
        Self { path, protocol, namespace, transports: Arc::default() }
    }

    /// Binds the endpoint to its transports; returns `None` if none is available.
    pub(crate) fn with_transports(mut self, all: &[Arc<dyn Transport>], config: &Config) -> Option<Self> {
        match &mut self.protocol {
            Protocol::SocketIo(protocol) => {
                let limits = PacketLimits::new()
                    .attachments(config.limits.max_attachments)
                    .namespace_bytes(config.limits.max_name_bytes);
                let sessions = SocketIoConfig::new()
                    .engine(Arc::new(engine_config(all, config)))
                    .connect_timeout(config.timeouts.connect_timeout)
                    .attachment_timeout(config.timeouts.attachment_timeout)
                    .max_namespaces(config.limits.max_namespaces)
                    .limits(limits)
                    .parser(protocol.parser.clone());
                *protocol = Arc::new(sessions);
                self.transports = Arc::new(all.to_vec());
            }
            Protocol::EngineIo(protocol) => {
                *protocol = Arc::new(engine_config(all, config));
                self.transports = Arc::new(all.to_vec());
            }
            Protocol::Plain { config: protocol, .. } => {
                // Plain clients need WebSocket. Their transport sends the close reason.
                all.iter().find(|transport| transport.name() == WebSocket::NAME)?;
                let websocket: Arc<dyn Transport> = Arc::new(config.websocket.transport(&config.limits));
                self.transports = Arc::new(vec![websocket]);
                let sessions = PlainConfig::new()
                    .ping_interval(config.timeouts.ping_interval)
                    .ping_timeout(config.timeouts.ping_timeout)
                    .max_attachments(config.limits.max_attachments)
                    .attachment_timeout(config.timeouts.attachment_timeout);
                *protocol = Arc::new(sessions);
            }
        }
        Some(self)
    }

    pub(crate) fn takes(&self, path: &str) -> bool {
        self.path.rest(path).is_some()
    }

    /// Returns the part of a path in place of the `*`, or after the prefix.
    pub(crate) fn rest<'a>(&self, path: &'a str) -> &'a str {
        self.path.rest(path).unwrap_or_default()
    }

    /// Returns a description of the misconfiguration if no client can reach this endpoint.
    pub(crate) fn problem(&self) -> Option<String> {
        if let Protocol::Plain { subprotocols, .. } = &self.protocol
            && let Some(name) = subprotocols.iter().find(|name| !is_token(name))
        {
            return Some(format!("subprotocol `{name}` is not an HTTP token, so no client can offer it"));
        }
        let (path, star) = match &self.path {
            Path::Prefix(path) | Path::Exact(path) => (path.as_str(), ""),
            Path::Below(path) => (path.as_str(), "*"),
            Path::Any => return None,
        };
        if !path.starts_with('/') {
            return Some(format!("`{path}{star}` does not begin with a slash; write `/{path}{star}`"));
        }
        if path.contains('*') {
            return Some(format!(
                "`{path}{star}` has a `*` before its end; only a final `*` is allowed, as in `/rooms/*`"
            ));
        }
        let strange = path.chars().find(|&c| !c.is_ascii_graphic() || matches!(c, '?' | '#'));
        strange.map(|strange| format!("`{path}{star}` has a `{strange}`, which no request path contains"))
    }

    pub(crate) fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }

    pub(crate) fn transports(&self) -> &Arc<Vec<Arc<dyn Transport>>> {
        &self.transports
    }

    pub(crate) fn transport_named(&self, name: &str) -> Option<&Arc<dyn Transport>> {
        self.transports.iter().find(|transport| transport.name().0 == name)
    }

    /// Returns the client bundle file requested by this path, if this endpoint serves Socket.IO.
    pub(crate) fn client_file<'a>(&self, path: &'a str) -> Option<&'a str> {
        match &self.protocol {
            Protocol::SocketIo(_) => self.path.rest(path),
            Protocol::EngineIo(_) | Protocol::Plain { .. } => None,
        }
    }

    /// Returns whether requests carry the Engine.IO query parameters.
    pub(crate) fn is_engine(&self) -> bool {
        !matches!(self.protocol, Protocol::Plain { .. })
    }

    /// Selects a subprotocol from the client's offers.
    ///
    /// Engine.IO defines no subprotocol, but a browser closes the connection if none of its offers is selected. The
    /// first is selected, as on Node.
    pub(crate) fn chosen_subprotocol(&self, headers: &http::HeaderMap) -> Option<Cow<'static, str>> {
        let offered = || {
            let offered = headers.get_all(http::header::SEC_WEBSOCKET_PROTOCOL).into_iter();
            let names = offered.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
            names.map(str::trim)
        };
        match &self.protocol {
            Protocol::Plain { .. } if offered().any(|name| name == SUBPROTOCOL) => Some(SUBPROTOCOL.into()),
            Protocol::Plain { subprotocols, .. } => {
                let known = offered().find(|name| subprotocols.iter().any(|known| known == name));
                known.map(|name| name.to_owned().into())
            }
            _ => offered().next().map(|name| name.to_owned().into()),
        }
    }

    /// Creates the protocol state of a new session.
    pub(crate) fn begin(
        &self,
        sid: &Sid,
        subprotocol: Option<&str>,
    ) -> (ClientKind, Arc<dyn Codec>, Box<dyn Session>) {
        let handshake = || OpenPacket { sid: sid.clone(), version: Version::V4 };
        let namespace = || self.namespace.clone().unwrap_or_else(Namespace::main);
        match &self.protocol {
            Protocol::SocketIo(config) => {
                let session = SocketIoSession::new(config.clone(), handshake());
                (ClientKind::SocketIo, config.parser.clone(), Box::new(session))
            }
            Protocol::EngineIo(config) => {
                let session = EngineSession::new(config.clone(), handshake()).in_namespace(namespace());
                (ClientKind::EngineIo, EngineCodec::shared(), Box::new(session))
            }
            Protocol::Plain { mode, config, .. } => {
                let mode = if subprotocol == Some(SUBPROTOCOL) { Mode::Json } else { *mode };
                let kind = if mode == Mode::Json { ClientKind::Json } else { ClientKind::Plain };
                let session = PlainSession::new(mode, config.clone(), namespace());
                (kind, mode.codec(), Box::new(session))
            }
        }
    }
}

/// Returns whether a text is a token (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_byte)
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transports: Vec<TransportName> =
            self.transports.iter().map(|transport| transport.name()).collect();
        f.debug_struct("Endpoint")
            .field("path", &self.path)
            .field("transports", &transports)
            .finish_non_exhaustive()
    }
}

fn engine_config(transports: &[Arc<dyn Transport>], config: &Config) -> EngineConfig {
    let transports = transports.iter().map(|transport| (transport.name(), transport.capabilities()));
    let engine = EngineConfig::new()
        .ping_interval(config.timeouts.ping_interval)
        .ping_timeout(config.timeouts.ping_timeout)
        .upgrade_timeout(config.timeouts.upgrade_timeout)
        .max_payload(config.limits.max_payload)
        .initial_message(config.initial_packet.clone())
        .transports(transports);
    if config.allow_upgrades { engine } else { engine.upgrades(Vec::new()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_offered_subprotocol() {
        let chosen = |endpoint: &Endpoint, offered: &'static str| {
            let mut headers = http::HeaderMap::new();
            headers.insert(http::header::SEC_WEBSOCKET_PROTOCOL, http::HeaderValue::from_static(offered));
            endpoint.chosen_subprotocol(&headers)
        };
        assert_eq!(chosen(&Endpoint::socket_io(), "chat, other").as_deref(), Some("chat"));
        assert_eq!(Endpoint::socket_io().chosen_subprotocol(&http::HeaderMap::new()), None);
        assert_eq!(chosen(&Endpoint::plain("/ws"), "chat, roomcast.json").as_deref(), Some(SUBPROTOCOL));
        let plain = Endpoint::plain("/ws");
        assert_eq!(chosen(&plain, "chat"), None);
        assert_eq!(chosen(&plain, "bearer, abc").as_deref(), Some("bearer"));
        assert_eq!(chosen(&plain, "bearer, abc, roomcast.json").as_deref(), Some(SUBPROTOCOL));
        let chat = plain.subprotocol("chat").subprotocol("chat.v2");
        assert_eq!(chosen(&chat, "chat.v2, chat").as_deref(), Some("chat.v2"));
        assert_eq!(chosen(&chat, "other, bearer, chat").as_deref(), Some("bearer"));
        assert_eq!(chosen(&chat, "other"), None);
    }
}
