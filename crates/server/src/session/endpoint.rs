//! Endpoints: paths and their client protocols

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use roomcast_core::{Codec, Namespace, Session, Sid, Transport, TransportName};
use roomcast_engine::{EngineCodec, EngineConfig, EngineSession, Handshake, Version};
use roomcast_plain::{Mode, PlainConfig, PlainSession, SUBPROTOCOL};
use roomcast_socketio::{PacketLimits, Parser, SocketIoConfig, SocketIoSession};
use roomcast_transport_ws::WebSocket;

use crate::host::config::Config;
use crate::session::shared::ClientKind;
use crate::web::handshake_json::BEARER;

/// Path at which clients connect, and the protocol spoken there.
#[derive(Clone)]
#[must_use]
pub struct Endpoint {
    path: Path,
    protocol: Protocol,
    namespace: Option<Namespace>,
    transports: Arc<[Arc<dyn Transport>]>,
}

#[derive(Clone, Debug)]
enum Path {
    /// Matches every path with this prefix, as on Node
    Prefix(String),
    Exact(String),
    /// Prefix ending with a slash; the rest of the path is meant for the application
    Below(String),
    Any,
}

impl Path {
    /// Path of plain clients
    fn plain(path: &str) -> Self {
        match path.strip_suffix('*') {
            Some("") => Self::Any,
            Some(above) if above.ends_with('/') => Self::Below(above.into()),
            _ => Self::Exact(path.into()),
        }
    }

    /// Returns the rest behind the fixed part, or `None` if the path does not match.
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

    /// Creates an Engine.IO endpoint at `/engine.io/`; each message is a `message` event in this namespace.
    pub fn engine_io(namespace: impl Into<Namespace>) -> Self {
        let protocol = Protocol::EngineIo(Arc::default());
        Self::new(Path::Prefix("/engine.io/".into()), protocol, Some(namespace.into()))
    }

    /// Creates a plain WebSocket endpoint at this path, in the main namespace.
    ///
    /// The path `*` matches any path without another endpoint. A path that ends with `/*`, such as `/rooms/*`, matches
    /// all paths below it. [`Handshake::path_rest`](crate::http::Handshake::path_rest) is the part matched by the `*`:
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
    /// Clients that offer the subprotocol `roomcast.json` use JSON arrays. All others are in plain mode, where each
    /// frame is a `message` event.
    ///
    /// Browsers cannot set headers, so clients authenticate by the query or by a subprotocol: the one after `bearer` is
    /// the token. [`Auth`](crate::Auth) provides either to middlewares and handlers as `token`:
    ///
    /// ```js
    /// new WebSocket("wss://chat.example/ws?token=x");
    /// new WebSocket("wss://chat.example/ws", ["bearer", "x"]);
    /// new WebSocket("wss://chat.example/ws", ["roomcast.json", "bearer", "x"]);
    /// ```
    ///
    /// A subprotocol is an HTTP token: letters, digits, `-._~+` and a few other characters. Encode base64 tokens with
    /// the URL-safe alphabet, without padding.
    pub fn plain(path: &str) -> Self {
        let subprotocols = Arc::new([BEARER.to_owned()]);
        let protocol = Protocol::Plain { mode: Mode::Plain, config: Arc::default(), subprotocols };
        Self::new(Path::plain(path), protocol, Some(Namespace::main()))
    }

    /// Sets another path.
    ///
    /// It should end with a slash for Socket.IO and Engine.IO, and may end with `/*` for [plain](Self::plain)
    /// WebSocket.
    pub fn at(mut self, path: &str) -> Self {
        self.path = match self.path {
            Path::Prefix(_) => Path::Prefix(path.into()),
            _ => Path::plain(path),
        };
        self
    }

    /// Sets the parser; the clients of this endpoint must use the same one.
    ///
    /// It applies to Socket.IO only. Clients of different parsers share rooms, so a server may have one path for each:
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
    /// `MsgpackCodec` is in the crate `roomcast-socketio-msgpack`, and in `roomcast` with the feature `msgpack`. For a
    /// custom parser see [`Parser`]. Default: Socket.IO's parser, JSON text followed by binary parts.
    pub fn parser(mut self, parser: Arc<dyn Parser>) -> Self {
        if let Protocol::SocketIo(config) = &mut self.protocol {
            *config = Arc::new(SocketIoConfig::clone(config).parser(parser));
        }
        self
    }

    /// Sets the namespace of plain WebSocket and Engine.IO clients.
    ///
    /// Socket.IO clients choose their namespaces themselves.
    pub fn in_namespace(mut self, namespace: impl Into<Namespace>) -> Self {
        if !matches!(self.protocol, Protocol::SocketIo(_)) {
            self.namespace = Some(namespace.into());
        }
        self
    }

    /// Uses JSON arrays with plain WebSocket clients, even without the `roomcast.json` subprotocol.
    pub fn json(mut self) -> Self {
        if let Protocol::Plain { mode, .. } = &mut self.protocol {
            *mode = Mode::Json;
        }
        self
    }

    /// Adds a subprotocol to accept from plain WebSocket clients that do not offer `roomcast.json`.
    ///
    /// May be called several times. The client stays in plain mode, and the application interprets its frames. Browsers
    /// close a connection if none of their offered subprotocols is chosen. If several are known, the first in the
    /// client's list is chosen. Default: `bearer`, see [`plain`](Self::plain).
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
        Self { path, protocol, namespace, transports: Arc::new([]) }
    }

    /// Binds the endpoint to its transports, or returns `None` if it has none.
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
                self.transports = all.into();
            }
            Protocol::EngineIo(protocol) => {
                *protocol = Arc::new(engine_config(all, config));
                self.transports = all.into();
            }
            Protocol::Plain { config: protocol, .. } => {
                // Plain clients need WebSocket, so without it there are none. Their transport sends the close reason.
                all.iter().find(|transport| transport.name() == WebSocket::NAME)?;
                let websocket: Arc<dyn Transport> = Arc::new(config.websocket.transport(&config.limits));
                self.transports = Arc::new([websocket]);
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

    /// Returns the part of a path matched by this endpoint's `*`, or behind its prefix.
    pub(crate) fn rest<'a>(&self, path: &'a str) -> &'a str {
        self.path.rest(path).unwrap_or_default()
    }

    /// Returns why clients cannot reach this endpoint, if so.
    pub(crate) fn problem(&self) -> Option<String> {
        if let Protocol::Plain { subprotocols, .. } = &self.protocol
            && let Some(name) = subprotocols.iter().find(|name| !is_token(name))
        {
            return Some(format!(
                "the subprotocol `{name}` is not a token of HTTP, so no client could offer it"
            ));
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
            return Some(format!("`{path}{star}` has a `*` elsewhere than at its end, as in `/rooms/*`"));
        }
        let strange = path.chars().find(|&c| !c.is_ascii_graphic() || matches!(c, '?' | '#'));
        strange
            .map(|strange| format!("`{path}{star}` has a `{strange}`, which the path of a request has not"))
    }

    pub(crate) fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }

    pub(crate) fn transports(&self) -> &Arc<[Arc<dyn Transport>]> {
        &self.transports
    }

    pub(crate) fn transport_named(&self, name: &str) -> Option<&Arc<dyn Transport>> {
        self.transports.iter().find(|transport| transport.name().0 == name)
    }

    /// Returns the requested file if this endpoint serves the Socket.IO client files.
    pub(crate) fn client_file<'a>(&self, path: &'a str) -> Option<&'a str> {
        match &self.protocol {
            Protocol::SocketIo(_) => self.path.rest(path),
            Protocol::EngineIo(_) | Protocol::Plain { .. } => None,
        }
    }

    /// Returns whether its requests have the query parameters of Engine.IO.
    pub(crate) fn is_engine(&self) -> bool {
        !matches!(self.protocol, Protocol::Plain { .. })
    }

    /// Returns the subprotocol to choose from a client's offers.
    ///
    /// Engine.IO ignores subprotocols, but a browser fails if none of its offers is chosen. So the first is chosen, as
    /// on Node.
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

    /// Returns the protocol of a new session.
    pub(crate) fn begin(
        &self,
        sid: &Sid,
        subprotocol: Option<&str>,
    ) -> (ClientKind, Arc<dyn Codec>, Box<dyn Session>) {
        let handshake = || Handshake { sid: sid.clone(), version: Version::V4 };
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
    fn chooses_one_offered_subprotocol() {
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
