//! Where clients connect, and which protocol they speak there

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

/// A path, and the protocol that clients speak there
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
    /// Everything that begins with it, as Node does it
    Prefix(String),
    Exact(String),
    /// What follows it has a meaning to the application; it ends with a slash
    Below(String),
    Any,
}

impl Path {
    /// Where plain clients connect
    fn plain(path: &str) -> Self {
        match path.strip_suffix('*') {
            Some("") => Self::Any,
            Some(above) if above.ends_with('/') => Self::Below(above.into()),
            _ => Self::Exact(path.into()),
        }
    }

    /// What is behind the part that is always the same; `None` if this is another path
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
    /// Socket.IO at `/socket.io/`
    pub fn socket_io() -> Self {
        Self::new(Path::Prefix("/socket.io/".into()), Protocol::SocketIo(Arc::default()), None)
    }

    /// Engine.IO alone at `/engine.io/`: each message is the event `message`, in this namespace
    pub fn engine_io(namespace: impl Into<Namespace>) -> Self {
        let protocol = Protocol::EngineIo(Arc::default());
        Self::new(Path::Prefix("/engine.io/".into()), protocol, Some(namespace.into()))
    }

    /// Plain WebSocket at this path, in the main namespace; `*` stands for any path that nothing else takes
    ///
    /// A path that ends with `/*`, such as `/rooms/*`, stands for all below it. What stands in place of the `*` is
    /// [`Handshake::path_rest`](crate::http::Handshake::path_rest):
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
    /// A client that offers the subprotocol `roomcast.json` speaks JSON arrays; every other one is in plain mode,
    /// where each frame is the event `message`.
    ///
    /// Browsers can set no header, so a client shows who it is by the query or by a subprotocol: the one behind `bearer`
    /// is its token. [`Auth`](crate::Auth) gives either to middlewares and handlers as `token`:
    ///
    /// ```js
    /// new WebSocket("wss://chat.example/ws?token=x");
    /// new WebSocket("wss://chat.example/ws", ["bearer", "x"]);
    /// new WebSocket("wss://chat.example/ws", ["roomcast.json", "bearer", "x"]);
    /// ```
    ///
    /// A subprotocol is a token of HTTP: of other characters than letters and digits it may have `-._~+` and some more,
    /// so a token in base64 should be of the URL-safe alphabet, without padding.
    pub fn plain(path: &str) -> Self {
        let subprotocols = Arc::new([BEARER.to_owned()]);
        let protocol = Protocol::Plain { mode: Mode::Plain, config: Arc::default(), subprotocols };
        Self::new(Path::plain(path), protocol, Some(Namespace::main()))
    }

    /// Serves it at another path; for Socket.IO and Engine.IO it should end with a slash, and for
    /// [plain](Self::plain) WebSocket it may end with `/*`
    pub fn at(mut self, path: &str) -> Self {
        self.path = match self.path {
            Path::Prefix(_) => Path::Prefix(path.into()),
            _ => Path::plain(path),
        };
        self
    }

    /// Puts packets into messages by this parser; the clients here must have the same one
    ///
    /// For Socket.IO; others have none. Clients of different parsers meet in the same rooms, so a server may have one
    /// path for each:
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
    /// `MsgpackCodec` is in the crate `roomcast-socketio-msgpack`, and in `roomcast` with the feature `msgpack`. For one
    /// of your own see [`Parser`]. Default: Socket.IO's own, JSON text with binary parts behind it.
    pub fn parser(mut self, parser: Arc<dyn Parser>) -> Self {
        if let Protocol::SocketIo(config) = &mut self.protocol {
            *config = Arc::new(SocketIoConfig::clone(config).parser(parser));
        }
        self
    }

    /// Puts its plain WebSocket or Engine.IO clients into this namespace
    ///
    /// Socket.IO clients choose theirs themselves.
    pub fn in_namespace(mut self, namespace: impl Into<Namespace>) -> Self {
        if !matches!(self.protocol, Protocol::SocketIo(_)) {
            self.namespace = Some(namespace.into());
        }
        self
    }

    /// Speaks JSON arrays with plain WebSocket clients, whether or not they ask for the subprotocol
    pub fn json(mut self) -> Self {
        if let Protocol::Plain { mode, .. } = &mut self.protocol {
            *mode = Mode::Json;
        }
        self
    }

    /// Chooses this subprotocol if a plain WebSocket client offers it and does not offer `roomcast.json`; may be called
    /// several times
    ///
    /// The client stays in plain mode, and speaks in it whatever the application makes of its frames. Browsers close a
    /// connection for which none of the subprotocols that they offered was chosen. Of several that are known, the one
    /// that the client offers first is chosen. Default: `bearer`, see [`plain`](Self::plain).
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

    /// Binds it to what carries its sessions; `None` if nothing does
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
                // Plain clients need WebSocket; a deployment without it has none. Theirs says why it closes.
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

    /// What a path has in place of the `*` of this endpoint's, or behind its prefix
    pub(crate) fn rest<'a>(&self, path: &'a str) -> &'a str {
        self.path.rest(path).unwrap_or_default()
    }

    /// Why no client could name this endpoint, if none could
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

    /// The file that a request for this path asks for, if this is where Socket.IO's clients are served
    pub(crate) fn client_file<'a>(&self, path: &'a str) -> Option<&'a str> {
        match &self.protocol {
            Protocol::SocketIo(_) => self.path.rest(path),
            Protocol::EngineIo(_) | Protocol::Plain { .. } => None,
        }
    }

    /// Whether its requests have the query parameters of Engine.IO
    pub(crate) fn is_engine(&self) -> bool {
        !matches!(self.protocol, Protocol::Plain { .. })
    }

    /// The subprotocol to choose of those a client offers
    ///
    /// To Engine.IO none means anything, but a browser that offered some gives up if none is chosen: the first it
    /// is, as with Node.
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

    /// What a new session speaks
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

/// Whether a text is a token (RFC 9110 section 5.6.2)
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
