//! Limits on clients, individually and in total.

use std::num::NonZeroU32;

use roomcast_core::Bounds;

use super::setters::setters;

/// Limits on clients, individually and in total.
///
/// Set with [`Config::limits`](crate::Config::limits). Limits on TCP connections and HTTP headers are settings of the
/// [`Server`](crate::Server).
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Limits {
    pub(crate) max_payload: usize,
    pub(crate) max_fragments: u32,
    pub(crate) outbox_limit: usize,
    pub(crate) outbox_max: usize,
    pub(crate) min_drain_rate: u64,
    pub(crate) memory_budget: Option<u64>,
    pub(crate) max_handlers: usize,
    pub(crate) max_event_bytes: usize,
    pub(crate) max_acks: usize,
    pub(crate) max_rooms: usize,
    pub(crate) max_attachments: usize,
    pub(crate) max_namespaces: usize,
    pub(crate) max_child_namespaces: usize,
    pub(crate) max_requests: usize,
    pub(crate) max_sessions: usize,
    pub(crate) max_unjoined_sessions: usize,
    pub(crate) max_handshake_bytes: usize,
    pub(crate) max_handshakes_bytes: usize,
    pub(crate) max_name_bytes: usize,
    pub(crate) max_auth_bytes: usize,
    pub(crate) max_connections_per_address: Option<usize>,
    pub(crate) event_rate: Option<EventRate>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_payload: 1_000_000,
            max_fragments: 16_384,
            outbox_limit: 1024 * 1024,
            outbox_max: Bounds::DEFAULT_MAX,
            min_drain_rate: 1024,
            memory_budget: None,
            max_handlers: 1024,
            max_event_bytes: 4 * 1024 * 1024,
            max_acks: 1000,
            max_rooms: 10_000,
            max_attachments: 10,
            max_namespaces: 100,
            max_child_namespaces: 10_000,
            max_requests: 16,
            max_sessions: 1_000_000,
            max_unjoined_sessions: 20_000,
            max_handshake_bytes: 16 * 1024,
            max_handshakes_bytes: 256 * 1024 * 1024,
            max_name_bytes: 1024,
            max_auth_bytes: 64 * 1024,
            max_connections_per_address: None,
            event_rate: None,
        }
    }
}

// Messages and queues of one client.
setters! {
    Limits {
        /// Sets the maximum size of a message or a POST body, in bytes. Default: 1,000,000.
        ///
        /// A larger WebSocket message closes its connection with 1009; a larger POST is answered with 413 and its
        /// session is closed. Applies to transports that the server creates; transports passed to
        /// [`IoBuilder::transport`](crate::config::IoBuilder::transport) have their own limit.
        max_payload: usize,
        /// Sets the maximum number of frames of a WebSocket message, including empty ones. Default: 16,384.
        ///
        /// More close the connection with 1008. Applies where [`max_payload`](Self::max_payload) does.
        max_fragments: u32,
        /// Sets the queued bytes above which a stalled client is closed as a slow consumer. Default: 1 MiB.
        ///
        /// Counts the bytes that the carrier refused, plus 64 per frame. A client above the limit is closed once it
        /// takes less than [`min_drain_rate`](Self::min_drain_rate) for
        /// [`stall_timeout`](crate::config::Timeouts::stall_timeout). A client that reads is not affected, regardless
        /// of its queue. The [overflow policies](roomcast_core::Overflow) apply above this limit.
        outbox_limit: usize,
        /// Sets the maximum bytes queued for any client: the hard cap. Default: 64 MiB.
        ///
        /// An emit beyond it closes the client with
        /// [`CloseReason::OutboxFull`](roomcast_core::CloseReason::OutboxFull), even if it reads: the application
        /// emitted too much at once. Reading from a client pauses while half of it is queued for that client and its
        /// carrier is blocked.
        outbox_max: usize,
        /// Sets the bytes per second that count as progress of a stalled client. Default: 1,024.
        min_drain_rate: u64,
        /// Sets the maximum number of concurrent handlers of one client; further events wait in order. Default: 1024.
        ///
        /// Connect and disconnect handlers do not wait. While twice as many are running, reading from the client
        /// pauses.
        max_handlers: usize,
        /// Sets the maximum bytes of a client's queued events. Default: 4 MiB.
        ///
        /// Beyond that, reading from the client pauses. While an acknowledgement is awaited, reading continues, since it
        /// may come behind the events; the client is then closed as
        /// [`Overloaded`](roomcast_core::CloseReason::Overloaded) once half of [`outbox_max`](Self::outbox_max) is
        /// queued.
        max_event_bytes: usize,
        /// Sets the maximum number of pending acknowledgements per socket. Default: 1000.
        ///
        /// Further events that ask for one are not sent to it. Counted as
        /// [`Limit::Acks`](crate::metrics::Limit::Acks).
        max_acks: usize,
        /// Sets the maximum binary attachments of an event or acknowledgement, both ways. Default: 10, as in clients.
        ///
        /// A client that announces more is closed. An emit of more is an [error](crate::EmitError::TooManyAttachments),
        /// since clients close the connection over it; raise both limits together.
        max_attachments: usize,
        /// Sets the maximum length of event, namespace and room names, in bytes. Default: 1 KiB.
        ///
        /// A client that sends a longer event name is closed for a parse error; a longer namespace name is rejected;
        /// for a longer room name [`Socket::join`](crate::Socket::join) returns `false`. Counted as
        /// [`Limit::NameSize`](crate::metrics::Limit::NameSize).
        max_name_bytes: usize,
        /// Sets the maximum size of the JSON text of `auth` in a CONNECT packet, in bytes. Default: 64 KiB.
        ///
        /// Larger ones are rejected with `Auth too large`. Counted as
        /// [`Limit::AuthSize`](crate::metrics::Limit::AuthSize).
        max_auth_bytes: usize,
    }
}

// Rooms, namespaces and sessions.
setters! {
    Limits {
        /// Sets the maximum rooms per socket, not counting the room named by its id. Default: 10,000.
        ///
        /// Beyond that [`Socket::join`](crate::Socket::join) returns `false`, and
        /// [`sockets_join`](crate::emit::Emit::sockets_join) skips the socket. The default exceeds normal use; it
        /// protects handlers that join any room a client names, since a room takes up to a kilobyte. Applies per
        /// namespace. Counted as [`Limit::Rooms`](crate::metrics::Limit::Rooms).
        max_rooms: usize,
        /// Sets the maximum namespaces per client. Default: 100.
        ///
        /// Further CONNECT packets are rejected with `Too many namespaces`. Counted as
        /// [`Limit::JoinedNamespaces`](crate::metrics::Limit::JoinedNamespaces).
        max_namespaces: usize,
        /// Sets the maximum number of dynamic namespaces, over all parents. Default: 10,000.
        ///
        /// Further requests are rejected with `Too many namespaces`; existing namespaces are unaffected. Each takes a
        /// few kilobytes. Counted as [`Limit::Namespaces`](crate::metrics::Limit::Namespaces).
        max_child_namespaces: usize,
        /// Sets the maximum number of queued requests per session. Default: 16.
        ///
        /// A client has at most two open. Further ones are answered with 400, `Bad request`; the session stays open.
        /// Counted as [`Limit::Requests`](crate::metrics::Limit::Requests).
        max_requests: usize,
        /// Sets the maximum number of open sessions, over all clients and transports. Default: 1,000,000.
        ///
        /// Further ones are rejected with 503 and `Retry-After`; open ones are unaffected. An idle session takes a few
        /// kilobytes. Counted as [`Limit::Sessions`](crate::metrics::Limit::Sessions).
        max_sessions: usize,
        /// Sets the maximum number of open sessions without a namespace, over all clients. Default: 20,000.
        ///
        /// A client normally joins within a round trip. Beyond the limit the oldest is closed as if its
        /// [`connect_timeout`](crate::config::Timeouts::connect_timeout) had expired, so that unused sessions make room
        /// for clients. Counted as [`Limit::Unjoined`](crate::metrics::Limit::Unjoined).
        max_unjoined_sessions: usize,
        /// Sets the maximum bytes retained of a session's opening request: path, query and headers. Default: 16 KiB.
        ///
        /// Larger ones are answered with 431. Counted as
        /// [`Limit::HandshakeSize`](crate::metrics::Limit::HandshakeSize).
        max_handshake_bytes: usize,
        /// Sets the maximum bytes retained of these requests for all sessions. Default: 256 MiB.
        ///
        /// Headers common to many clients are stored once. Sessions beyond the limit are rejected with 503 and
        /// `Retry-After`. Counted as [`Limit::HandshakesSize`](crate::metrics::Limit::HandshakesSize).
        max_handshakes_bytes: usize,
    }
}

impl Limits {
    /// Sets the maximum memory the process may hold for its clients, in bytes.
    ///
    /// Default: a quarter of the RAM or of the control group's limit, whichever is less (Linux, versions 1 and 2), and
    /// at least 64 MiB.
    ///
    /// Bodies and their encodings count once, for any number of clients; queues, TLS, compression contexts and
    /// HTTP responses count too. All servers of one process count together, each against its own budget. Memory of the
    /// application and input from clients are not counted.
    ///
    /// When the budget is exhausted, an emit or acknowledgement first evicts clients that do not read, longest without
    /// progress first, as [`SlowConsumer`](roomcast_core::CloseReason::SlowConsumer), until an eighth of the budget is
    /// free; a client that takes bytes is never evicted. If no client can be evicted the emit fails with
    /// [`EmitError::OverBudget`](crate::EmitError::OverBudget).
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory_budget = Some(bytes);
        self
    }

    /// Sets the maximum number of open connections, and of sessions, per address. Default: no limit.
    ///
    /// In a [`Server`](crate::Server), TCP connections are counted if their client address is known at accept: direct
    /// clients, or a proxy using the PROXY protocol. Sessions are always counted, and alone when mounted or behind a
    /// proxy known by `X-Forwarded-For`. An IPv6 address counts as its /64 network.
    ///
    /// Further ones are rejected with 503 and `Retry-After`. A browser needs up to three connections for a polling
    /// session, and users behind one router share an address, so do not set it low. Counted as
    /// [`Limit::Address`](crate::metrics::Limit::Address). While off, no addresses are retained.
    pub fn max_connections_per_address(mut self, max: usize) -> Self {
        self.max_connections_per_address = Some(max);
        self
    }

    /// Sets the maximum event rate of each client; `None` for no limit. Default: no limit.
    ///
    /// Counts events and CONNECT packets over all namespaces, but not acknowledgements or protocol packets. A client
    /// that exceeds it is closed with [`RateLimited`](roomcast_core::CloseReason::RateLimited): dropping events
    /// silently would break the order and acknowledgements its code relies on. Earlier events are still handled.
    /// Counted as [`Limit::EventRate`](crate::metrics::Limit::EventRate).
    pub fn event_rate(mut self, rate: impl Into<Option<EventRate>>) -> Self {
        self.event_rate = rate.into();
        self
    }
}

/// Event rate of a client.
///
/// Token bucket that holds `burst` and is filled by `per_second` each second; each event takes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct EventRate {
    pub(crate) per_second: NonZeroU32,
    pub(crate) burst: NonZeroU32,
}

impl EventRate {
    /// Creates a sustained rate with a burst of twice as many events.
    pub fn per_second(events: NonZeroU32) -> Self {
        Self { per_second: events, burst: events.saturating_mul(NonZeroU32::MIN.saturating_add(1)) }
    }

    /// Sets the burst: the events that may come at once after a pause.
    pub fn burst(mut self, events: NonZeroU32) -> Self {
        self.burst = events;
        self
    }
}
