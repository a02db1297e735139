//! Settings, each with its default

use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;
use roomcast_core::{Bounds, Message, TransportName};
use roomcast_recovery::RecoveryConfig;
use roomcast_transport_ws::{Compression, WebSocket};

use crate::web::compression::HttpCompression;
use crate::web::cookie::Cookie;
use crate::web::cors::Cors;
use crate::web::forwarded::TrustedProxies;
use crate::web::origin::Origins;

/// Settings of a server, each with its default
///
/// All of them hold both in a [`Server`](crate::Server) and when mounted, unless they say otherwise; what concerns
/// TCP connections and HTTP headers is set on the [`Server`](crate::Server).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub(crate) ping_interval: Duration,
    pub(crate) ping_timeout: Duration,
    pub(crate) transports: Option<Vec<TransportName>>,
    pub(crate) allow_upgrades: bool,
    pub(crate) upgrade_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) drain_close_code: u16,
    pub(crate) max_payload: usize,
    pub(crate) max_fragments: u32,
    pub(crate) compression: Option<Compression>,
    pub(crate) outbox_limit: usize,
    pub(crate) outbox_max: usize,
    pub(crate) stall_timeout: Duration,
    pub(crate) min_drain_rate: u64,
    pub(crate) memory_budget: Option<u64>,
    pub(crate) max_handlers: usize,
    pub(crate) max_event_bytes: usize,
    pub(crate) max_acks: usize,
    pub(crate) max_rooms: usize,
    pub(crate) max_attachments: usize,
    pub(crate) attachment_timeout: Duration,
    pub(crate) max_namespaces: usize,
    pub(crate) max_child_namespaces: usize,
    pub(crate) cleanup_empty_child_namespaces: bool,
    pub(crate) max_requests: usize,
    pub(crate) max_sessions: usize,
    pub(crate) max_unjoined_sessions: usize,
    pub(crate) max_handshake_bytes: usize,
    pub(crate) max_handshakes_bytes: usize,
    pub(crate) max_name_bytes: usize,
    pub(crate) max_auth_bytes: usize,
    pub(crate) body_timeout: Duration,
    pub(crate) max_connections_per_address: Option<usize>,
    pub(crate) event_rate: Option<EventRate>,
    pub(crate) recovery: Option<RecoveryConfig>,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) cors: Cors,
    pub(crate) cookie: Option<Cookie>,
    pub(crate) http_compression: Option<HttpCompression>,
    pub(crate) initial_packet: Option<Message>,
    pub(crate) origins: Origins,
    pub(crate) allowed_origins: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            transports: None,
            allow_upgrades: true,
            upgrade_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(45),
            close_timeout: Duration::from_secs(10),
            drain_close_code: 1001,
            max_payload: 1_000_000,
            max_fragments: 16_384,
            compression: None,
            outbox_limit: 1024 * 1024,
            outbox_max: Bounds::DEFAULT_MAX,
            stall_timeout: Duration::from_secs(10),
            min_drain_rate: 1024,
            memory_budget: None,
            max_handlers: 1024,
            max_event_bytes: 4 * 1024 * 1024,
            max_acks: 1000,
            max_rooms: 10_000,
            max_attachments: 10,
            attachment_timeout: Duration::from_secs(60),
            max_namespaces: 100,
            max_child_namespaces: 10_000,
            cleanup_empty_child_namespaces: false,
            max_requests: 16,
            max_sessions: 1_000_000,
            max_unjoined_sessions: 20_000,
            max_handshake_bytes: 16 * 1024,
            max_handshakes_bytes: 256 * 1024 * 1024,
            max_name_bytes: 1024,
            max_auth_bytes: 64 * 1024,
            body_timeout: Duration::from_secs(30),
            max_connections_per_address: None,
            event_rate: None,
            recovery: None,
            trusted_proxies: TrustedProxies::default(),
            cors: Cors::Off,
            cookie: None,
            http_compression: Some(HttpCompression::default()),
            initial_packet: None,
            origins: Origins::default(),
            allowed_origins: Vec::new(),
        }
    }
}

impl Config {
    /// Sets this cookie, with the session's id, when a session begins by long-polling. Default: none
    pub fn cookie(mut self, cookie: Cookie) -> Self {
        self.cookie = Some(cookie);
        self
    }

    /// Lets sessions use these transports alone, of those the server has. Default: all of them
    ///
    /// Without [`WebSocket::NAME`] there is no plain WebSocket either.
    ///
    /// ```
    /// use roomcast_server::transport::WebSocket;
    /// use roomcast_server::Config;
    ///
    /// let config = Config::default().transports([WebSocket::NAME]);
    /// ```
    pub fn transports(mut self, names: impl IntoIterator<Item = TransportName>) -> Self {
        self.transports = Some(names.into_iter().collect());
        self
    }

    /// A message that each client of Engine.IO and Socket.IO gets together with the handshake. Default: none
    ///
    /// To clients of Socket.IO it has to be a packet of theirs, for which they need not have joined a namespace yet.
    pub fn initial_packet(mut self, packet: impl Into<Message>) -> Self {
        self.initial_packet = Some(packet.into());
        self
    }

    /// Which pages of other origins may read answers to their requests, which long-polling needs. Default: none
    pub fn cors(mut self, cors: impl Into<Cors>) -> Self {
        self.cors = cors.into();
        self
    }

    /// Compresses answers to polls, for clients that take it; `None` for never. Default: [`HttpCompression::default`]
    pub fn http_compression(mut self, compression: impl Into<Option<HttpCompression>>) -> Self {
        self.http_compression = compression.into();
        self
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty),* $(,)?) => {
        impl Config {
            $($(#[$doc])* pub fn $name(mut self, $name: $type) -> Self {
                self.$name = $name;
                self
            })*
        }
    };
}

setters! {
    /// How long after the last sign of life a client is asked for one. Default: 25 s
    ping_interval: Duration,
    /// How long a client has to answer that before it counts as gone. Default: 20 s
    ping_timeout: Duration,
    /// Whether a session may move from one transport to a better one. Default: yes
    ///
    /// Without, a session stays where it begins, and clients are not offered anything else.
    allow_upgrades: bool,
    /// How long a client has to prove a better transport; after that it stays where it was. Default: 10 s
    upgrade_timeout: Duration,
    /// How long a Socket.IO client has to join a namespace before it is closed. Default: 45 s
    ///
    /// A middleware that takes longer than this is dropped at its wait, and refuses the client: `Connect timeout`.
    ///
    /// Counted as [`Breach::ConnectTime`](crate::metrics::Breach::ConnectTime).
    connect_timeout: Duration,
    /// How long a closing connection may take to send what waits and to be answered. Default: 10 s
    close_timeout: Duration,
    /// Close code of a WebSocket that is closed because the server [drains](crate::Io::drain). Default: 1001, going away
    ///
    /// Take 1012, service restart, for clients that do not come back after 1001, which some take for a page that was
    /// left. Holds where [`max_payload`](Self::max_payload) does.
    drain_close_code: u16,
    /// Bytes one message, or the body of one POST, may have. Default: 1,000,000
    ///
    /// A larger WebSocket message closes its connection with 1009; a larger POST gets 413 and its session is closed.
    /// Holds for the transports that the builder makes; those it is given bring their own limit.
    max_payload: usize,
    /// Frames one WebSocket message may be cut into, empty ones included. Default: 16,384
    ///
    /// More close the connection with 1008. Holds where [`max_payload`](Self::max_payload) does.
    max_fragments: u32,
    /// Bytes that may wait for a stalled client before it can be closed as a slow consumer. Default: 1 MiB
    ///
    /// Counted are the bytes that its carrier refused, with 64 for each frame. A client with more of them is closed once
    /// it takes less than [`min_drain_rate`](Self::min_drain_rate) for [`stall_timeout`](Self::stall_timeout). A client
    /// that reads is not judged, however much waits. The [overflow policies](roomcast_core::Overflow) apply from here on.
    outbox_limit: usize,
    /// Bytes that may wait for any client: the hard cap. Default: 64 MiB
    ///
    /// An emit beyond it closes the client with [`CloseReason::OutboxFull`](roomcast_core::CloseReason::OutboxFull),
    /// even one that reads: the application emitted more at once than it may. Reading from a client pauses while half
    /// of it waits for that client and its carrier refuses more.
    outbox_max: usize,
    /// How long a client may take less than [`min_drain_rate`](Self::min_drain_rate) while more than
    /// [`outbox_limit`](Self::outbox_limit) waits for it. Default: 10 s
    ///
    /// The time starts anew with each window in which enough moved. A polling client's time starts with its last
    /// answered GET, and stands while the body of the answer still moves. Time in which the server did not run is not
    /// counted.
    stall_timeout: Duration,
    /// Bytes per second that count as progress of a stalled client. Default: 1,024
    min_drain_rate: u64,
    /// Handlers of one client that may be under way at once; further events wait in order. Default: 1024
    ///
    /// Handlers of joining and leaving do not wait. While twice as many are under way, reading from the client pauses.
    max_handlers: usize,
    /// Bytes of events of one client that may wait for handlers; beyond that reading from it pauses. Default: 4 MiB
    ///
    /// While the client owes an answer, reading goes on, since the answer may come behind the events. It is closed as
    /// [`Overloaded`](roomcast_core::CloseReason::Overloaded) once half of [`outbox_max`](Self::outbox_max) waits then.
    max_event_bytes: usize,
    /// Answers that one socket may owe; an event that asks for one more is not sent to it. Default: 1000
    ///
    /// Counted as [`Breach::Acks`](crate::metrics::Breach::Acks).
    max_acks: usize,
    /// Rooms that one socket may be in, that of its own id not counted. Default: 10,000
    ///
    /// One more it does not join, whoever asks for that: [`Socket::join`](crate::Socket::join) says `false`, and
    /// [`sockets_join`](crate::emit::Emit::sockets_join) leaves it where it is. The default is beyond what people subscribe
    /// to; it is there for handlers that join whatever room a client names, since a room takes up to a kilobyte.
    /// Each namespace counts for itself. Counted as [`Breach::Rooms`](crate::metrics::Breach::Rooms).
    max_rooms: usize,
    /// Binary attachments of one event or acknowledgement, both ways. Default: 10, as in clients
    ///
    /// A client that announces more is closed. An emit of more is an
    /// [error](crate::EmitError::TooManyAttachments), since clients close the connection over it; raise it together with
    /// the limit of your clients.
    max_attachments: usize,
    /// How long a client has to send the attachments that it announced, before it is closed. Default: 60 s
    attachment_timeout: Duration,
    /// Namespaces one client may be in. Default: 100
    ///
    /// Whoever asks for one more is told `Too many namespaces`. Counted as
    /// [`Breach::JoinedNamespaces`](crate::metrics::Breach::JoinedNamespaces).
    max_namespaces: usize,
    /// Namespaces that may be made because clients ask for them, of all parents together. Default: 10,000
    ///
    /// Whoever asks for one more is told `Too many namespaces`; those that are there go on. Each takes a few
    /// kilobytes. Counted as [`Breach::Namespaces`](crate::metrics::Breach::Namespaces).
    max_child_namespaces: usize,
    /// Whether a namespace that was made because a client asked for it goes away with the last client that is in it.
    /// Default: `false`, as on Node
    ///
    /// With it goes what was registered on it alone, and what was kept for clients that may come back; the next one
    /// begins as its parent is then.
    cleanup_empty_child_namespaces: bool,
    /// Requests of one session that may wait for it at once; a client has two under way at most. Default: 16
    ///
    /// One more is answered with 400, `Bad request`, and the session goes on. Counted as
    /// [`Breach::Requests`](crate::metrics::Breach::Requests).
    max_requests: usize,
    /// Sessions that may be open at once, of all clients and transports. Default: 1,000,000
    ///
    /// One more is answered with 503, `Retry-After` and a text; those that are open go on. An idle session takes
    /// a few kilobytes. Counted as [`Breach::Sessions`](crate::metrics::Breach::Sessions).
    max_sessions: usize,
    /// Sessions that may be open without being in a namespace, of all clients together. Default: 20,000
    ///
    /// A client joins within a round trip, unless a middleware takes its time. When there is one more, the oldest is
    /// closed as if its [`connect_timeout`](Self::connect_timeout) were over, so that sessions which nobody uses give
    /// way to clients. Counted as [`Breach::Unjoined`](crate::metrics::Breach::Unjoined).
    max_unjoined_sessions: usize,
    /// Bytes kept of the request that a session begins with: its path, query and headers. Default: 16 KiB
    ///
    /// More are answered with 431. Counted as [`Breach::HandshakeSize`](crate::metrics::Breach::HandshakeSize).
    max_handshake_bytes: usize,
    /// Bytes kept of such requests for all sessions together. Default: 256 MiB
    ///
    /// Headers that many clients send alike are kept once. A session for which there is no room is answered with 503,
    /// `Retry-After` and a text. Counted as [`Breach::HandshakesSize`](crate::metrics::Breach::HandshakesSize).
    max_handshakes_bytes: usize,
    /// Bytes of the name of an event, a namespace or a room. Default: 1 KiB
    ///
    /// A client that sends an event with a longer name is closed for a parse error; it may not join a namespace with
    /// such a name; and no socket joins such a room, whoever asks for that: [`Socket::join`](crate::Socket::join) says
    /// `false`. Counted as [`Breach::NameSize`](crate::metrics::Breach::NameSize).
    max_name_bytes: usize,
    /// Bytes of the JSON text that a client may show as `auth` when it asks to join a namespace. Default: 64 KiB
    ///
    /// With more it may not join: `Auth too large`. Counted as [`Breach::AuthSize`](crate::metrics::Breach::AuthSize).
    max_auth_bytes: usize,
    /// How long the body of a POST may take to come. Default: 30 s
    ///
    /// After that the request is answered with 408, and its session ends. Counted as
    /// [`Breach::BodyTime`](crate::metrics::Breach::BodyTime). A WebSocket message that is not whole from one ping to the next
    /// but one closes its connection with 1008: after two [`ping_interval`](Self::ping_interval)s at most.
    body_timeout: Duration,
    /// Which pages may begin sessions and open WebSockets. Default: [`Origins::SameOrCookieless`]
    ///
    /// Others are answered with 403 and a text that says how to let them in. Counted as
    /// [`Breach::Origin`](crate::metrics::Breach::Origin).
    origins: Origins,
}

impl Config {
    /// Compresses WebSocket messages for clients that offer permessage-deflate. Default: off, as on Node
    ///
    /// By default from 1,024 bytes on, and a broadcast once for all. [`Compression`] says what it costs. A single
    /// message is left alone with `compress(false)`. Holds where [`max_payload`](Self::max_payload) does; a
    /// [`WebSocket`] of one's own may be given the same, and then they count together.
    ///
    /// ```
    /// use roomcast_server::transport::Compression;
    /// use roomcast_server::Config;
    ///
    /// let config = Config::default().compression(Compression::new().threshold(512));
    /// ```
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Bytes of memory that the process may hold for its clients. Default: a quarter of the RAM, or of the control group's
    /// limit if that is less (Linux, versions 1 and 2), and at least 64 MiB
    ///
    /// Counted are bodies and their renderings once, however many clients share them, and what queues, TLS, compression
    /// contexts and HTTP answers hold. All servers of one process count together, each against its own budget. What
    /// applications hold and what clients send is not counted.
    ///
    /// When it is used up, an emit or an answer first closes clients that do not read, those longest without progress
    /// first, as [`SlowConsumer`](roomcast_core::CloseReason::SlowConsumer), until an eighth of the budget is free; a
    /// client that takes bytes is never closed for it. If there is nobody to close it fails with
    /// [`EmitError::OverBudget`](crate::EmitError::OverBudget).
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory_budget = Some(bytes);
        self
    }

    /// Connections that one address may have open, and sessions. Default: no limit
    ///
    /// In a [`Server`](crate::Server), TCP connections are counted where the address is known when they are
    /// accepted: of clients that connect directly, or through a proxy by the PROXY protocol. Sessions are counted
    /// there too, and alone when mounted or behind a proxy that is known by `X-Forwarded-For`. An IPv6 address
    /// counts as its /64 network.
    ///
    /// One more is answered with 503, `Retry-After` and a text. A browser takes up to three connections for a
    /// session that polls, and people behind one router share an address, so it should not be low. Counted as
    /// [`Breach::Address`](crate::metrics::Breach::Address). While it is off no address is kept.
    pub fn max_connections_per_address(mut self, max: usize) -> Self {
        self.max_connections_per_address = Some(max);
        self
    }

    /// Events that each client may send. Default: no limit
    ///
    /// Counted over all its namespaces, requests to join one included; answers and the protocol's own packets are
    /// not. A client that sends more is closed with the reason
    /// [`RateLimited`](roomcast_core::CloseReason::RateLimited): dropping some of its events would break the order
    /// and the answers that its own code relies on, without telling it. What it had sent before is handled. Counted
    /// as [`Breach::EventRate`](crate::metrics::Breach::EventRate).
    pub fn event_rate(mut self, rate: EventRate) -> Self {
        self.event_rate = Some(rate);
        self
    }

    /// Lets clients whose connection broke come back as who they were: connection state recovery. Default: off
    ///
    /// A client of Socket.IO, or a plain one in JSON mode, that comes back in time has its id, its rooms and its data
    /// again, and is sent the events it missed, binary ones included; [`Socket::recovered`](crate::Socket::recovered)
    /// tells. It may come back after its connection was lost or the server closed it for the protocol's sake, but not
    /// after the application put it out, or it left by itself.
    ///
    /// Events that are neither volatile nor ask for an answer get an offset, which clients of Socket.IO are sent as one
    /// more argument, the last. When the limits of the log are passed, those who would have a gap begin anew; nobody is
    /// recovered with one.
    ///
    /// Costs one lock of the namespace and one entry of its log for each emit; while it is off, nothing. The limits hold
    /// for each namespace. [`RecoveryConfig::grace`] is set by the server.
    ///
    /// ```
    /// use std::time::Duration;
    /// use roomcast_server::config::RecoveryConfig;
    /// use roomcast_server::Config;
    ///
    /// let recovery = RecoveryConfig {
    ///     max_disconnection_duration: Duration::from_secs(300),
    ///     ..RecoveryConfig::default()
    /// };
    /// let config = Config::default().connection_state_recovery(recovery);
    /// ```
    pub fn connection_state_recovery(mut self, recovery: RecoveryConfig) -> Self {
        self.recovery = Some(recovery);
        self
    }

    /// The proxies whose word is taken for where a client comes from. Default: none
    ///
    /// From these `X-Forwarded-For` is read, from the right and past trusted hops only, into
    /// [`Handshake::address`](crate::http::Handshake::address) and the limit for each address; `X-Forwarded-Proto` into
    /// [`Handshake::is_secure`](crate::http::Handshake::is_secure); and `X-Forwarded-Host` is taken for this server's own
    /// host when origins are compared. Of the latter two the value that counts is that of the outermost trusted hop, as
    /// far as proxies add to the list, or the one that is left if they overwrite it. Anybody else may send such headers
    /// in vain. When mounted it needs axum's `ConnectInfo<SocketAddr>` or a [`Peer`](crate::http::Peer) with the request.
    ///
    /// ```
    /// use roomcast_server::http::IpNet;
    /// use roomcast_server::Config;
    ///
    /// let config = Config::default().trusted_proxies(["10.0.0.0/8".parse::<IpNet>()?]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trusted_proxies(mut self, networks: impl IntoIterator<Item = impl Into<IpNet>>) -> Self {
        self.trusted_proxies = TrustedProxies::new(networks);
        self
    }

    /// Lets pages of this origin, such as `https://chat.example`, in: they may use WebSocket and long-polling
    /// here, with cookies; may be called again for others
    ///
    /// It comes on top of [`origins`](Self::origins) and [`cors`](Self::cors). Case, a default port and a trailing slash
    /// make no difference. One that no browser can send, as it has a path or no scheme, is refused when the
    /// [`Io`](crate::Io) is built; patterns are for [`CorsRules::matching`](crate::http::CorsRules::matching). Pages from files
    /// have the origin `file://` for WebSocket and `null` for polling.
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.allowed_origins.push(origin.into());
        self
    }
}

/// How many events a client may send in a time
///
/// A bucket that holds `burst` and is filled by `per_second` each second; each event takes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRate {
    pub(crate) per_second: NonZeroU32,
    pub(crate) burst: NonZeroU32,
}

impl EventRate {
    /// This many in the long run, and twice as many at once after a pause
    pub fn per_second(events: NonZeroU32) -> Self {
        Self { per_second: events, burst: events.saturating_mul(NonZeroU32::MIN.saturating_add(1)) }
    }

    /// How many may come at once after a pause
    pub fn burst(mut self, events: NonZeroU32) -> Self {
        self.burst = events;
        self
    }
}

impl Config {
    pub(crate) fn websocket(&self) -> WebSocket {
        let websocket = WebSocket::new()
            .max_message(self.max_payload)
            .max_fragments(self.max_fragments)
            .shutdown_code(self.drain_close_code);
        match &self.compression {
            Some(compression) => websocket.compression(compression.clone()),
            None => websocket,
        }
    }
}
