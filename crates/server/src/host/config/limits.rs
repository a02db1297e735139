//! Bounds on what clients take, each alone and all together.

use std::num::NonZeroU32;

use roomcast_core::Bounds;

use super::setters::setters;

/// Bounds on what clients take, each alone and all together.
///
/// Set with [`Config::limits`](crate::Config::limits). The bounds on TCP connections and HTTP headers are settings of the
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
        /// Sets the bytes one message, or the body of one POST, may have. Default: 1,000,000.
        ///
        /// A larger WebSocket message closes its connection with 1009; a larger POST is answered with 413 and its session
        /// is closed. Holds for the transports that the server makes; those passed to
        /// [`IoBuilder::transport`](crate::config::IoBuilder::transport) have their own limit.
        max_payload: usize,
        /// Sets the frames one WebSocket message may be cut into, empty ones included. Default: 16,384.
        ///
        /// More close the connection with 1008. Holds where [`max_payload`](Self::max_payload) does.
        max_fragments: u32,
        /// Sets the bytes that may wait for a stalled client before it can be closed as a slow consumer. Default: 1 MiB.
        ///
        /// Counts the bytes that its carrier refused, with 64 for each frame. A client with more of them is closed once
        /// it takes less than [`min_drain_rate`](Self::min_drain_rate) for
        /// [`stall_timeout`](crate::config::Timeouts::stall_timeout). A client that reads is not judged, however much waits. The
        /// [overflow policies](roomcast_core::Overflow) apply from here on.
        outbox_limit: usize,
        /// Sets the bytes that may wait for any client: the hard cap. Default: 64 MiB.
        ///
        /// An emit beyond it closes the client with [`CloseReason::OutboxFull`](roomcast_core::CloseReason::OutboxFull),
        /// even one that reads: the application emitted more at once than it may. Reading from a client pauses while half
        /// of it waits for that client and its carrier refuses more.
        outbox_max: usize,
        /// Sets the bytes per second that count as progress of a stalled client. Default: 1,024.
        min_drain_rate: u64,
        /// Sets the handlers of one client that may run at once; further events wait in order. Default: 1024.
        ///
        /// Handlers of joining and leaving do not wait. While twice as many are running, reading from the client pauses.
        max_handlers: usize,
        /// Sets the bytes of events of one client that may wait for handlers. Default: 4 MiB.
        ///
        /// Beyond that, reading from the client pauses. While the client owes an answer, reading goes on, since the answer
        /// may come behind the events. It is closed as [`Overloaded`](roomcast_core::CloseReason::Overloaded) once half of
        /// [`outbox_max`](Self::outbox_max) waits then.
        max_event_bytes: usize,
        /// Sets the acknowledgements that one socket may owe. Default: 1000.
        ///
        /// An event that asks for one more is not sent to it. Counted as [`Breach::Acks`](crate::metrics::Breach::Acks).
        max_acks: usize,
        /// Sets the binary attachments of one event or acknowledgement, both ways. Default: 10, as in clients.
        ///
        /// A client that announces more is closed. An emit of more is an
        /// [error](crate::EmitError::TooManyAttachments), since clients close the connection over it; raise it together
        /// with the limit of your clients.
        max_attachments: usize,
        /// Sets the bytes of the name of an event, a namespace or a room. Default: 1 KiB.
        ///
        /// A client that sends an event with a longer name is closed for a parse error; it may not join a namespace with
        /// such a name; and no socket joins such a room: [`Socket::join`](crate::Socket::join) returns `false`. Counted as
        /// [`Breach::NameSize`](crate::metrics::Breach::NameSize).
        max_name_bytes: usize,
        /// Sets the bytes of the JSON text of `auth` in a request to join a namespace. Default: 64 KiB.
        ///
        /// With more the client may not join: `Auth too large`. Counted as
        /// [`Breach::AuthSize`](crate::metrics::Breach::AuthSize).
        max_auth_bytes: usize,
    }
}

// Rooms, namespaces and sessions.
setters! {
    Limits {
        /// Sets the rooms that one socket may be in, that of its own id not counted. Default: 10,000.
        ///
        /// Beyond that [`Socket::join`](crate::Socket::join) returns `false`, and
        /// [`sockets_join`](crate::emit::Emit::sockets_join) leaves the socket where it is. The default is beyond what people
        /// subscribe to; it is there for handlers that join any room a client names, since a room takes up to a kilobyte.
        /// Each namespace counts for itself. Counted as [`Breach::Rooms`](crate::metrics::Breach::Rooms).
        max_rooms: usize,
        /// Sets the namespaces one client may be in. Default: 100.
        ///
        /// Further requests to join are rejected with `Too many namespaces`. Counted as
        /// [`Breach::JoinedNamespaces`](crate::metrics::Breach::JoinedNamespaces).
        max_namespaces: usize,
        /// Sets the namespaces that may be created because clients ask for them, of all parents together. Default: 10,000.
        ///
        /// Further requests are rejected with `Too many namespaces`; existing namespaces go on. Each takes a few
        /// kilobytes. Counted as [`Breach::Namespaces`](crate::metrics::Breach::Namespaces).
        max_child_namespaces: usize,
        /// Sets the requests of one session that may wait for it at once. Default: 16.
        ///
        /// A client has at most two open. One more is answered with 400, `Bad request`, and the session goes on. Counted
        /// as [`Breach::Requests`](crate::metrics::Breach::Requests).
        max_requests: usize,
        /// Sets the sessions that may be open at once, of all clients and transports. Default: 1,000,000.
        ///
        /// One more is answered with 503, `Retry-After` and a text; those that are open go on. An idle session takes
        /// a few kilobytes. Counted as [`Breach::Sessions`](crate::metrics::Breach::Sessions).
        max_sessions: usize,
        /// Sets the sessions that may be open without being in a namespace, of all clients together. Default: 20,000.
        ///
        /// A client joins within a round trip, unless a middleware takes its time. When there is one more, the oldest is
        /// closed as if its [`connect_timeout`](crate::config::Timeouts::connect_timeout) were over, so that unused sessions
        /// make room for clients. Counted as [`Breach::Unjoined`](crate::metrics::Breach::Unjoined).
        max_unjoined_sessions: usize,
        /// Sets the bytes kept of the request that opens a session: its path, query and headers. Default: 16 KiB.
        ///
        /// More are answered with 431. Counted as [`Breach::HandshakeSize`](crate::metrics::Breach::HandshakeSize).
        max_handshake_bytes: usize,
        /// Sets the bytes kept of such requests for all sessions together. Default: 256 MiB.
        ///
        /// Headers that many clients send alike are kept once. A session for which there is no room is answered with 503,
        /// `Retry-After` and a text. Counted as [`Breach::HandshakesSize`](crate::metrics::Breach::HandshakesSize).
        max_handshakes_bytes: usize,
    }
}

impl Limits {
    /// Sets the bytes of memory that the process may hold for its clients.
    ///
    /// Default: a quarter of the RAM, or of the control group's limit if that is less (Linux, versions 1 and 2), and at
    /// least 64 MiB.
    ///
    /// Bodies and their renderings count once, however many clients share them, and so does what queues, TLS, compression
    /// contexts and HTTP answers hold. All servers of one process count together, each against its own budget. What
    /// applications hold and what clients send is not counted.
    ///
    /// When it is used up, an emit or an answer first closes clients that do not read, those longest without progress
    /// first, as [`SlowConsumer`](roomcast_core::CloseReason::SlowConsumer), until an eighth of the budget is free; a
    /// client that takes bytes is never closed for it. If no client can be closed it fails with
    /// [`EmitError::OverBudget`](crate::EmitError::OverBudget).
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory_budget = Some(bytes);
        self
    }

    /// Sets the connections that one address may have open, and sessions. Default: no limit.
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

    /// Sets the rate of events that each client may send; `None` for no limit. Default: no limit.
    ///
    /// Counted over all its namespaces, requests to join one included; answers and the protocol's own packets are
    /// not. A client that sends more is closed with the reason
    /// [`RateLimited`](roomcast_core::CloseReason::RateLimited): dropping some of its events would break the order
    /// and the answers that its own code relies on, without telling it. What it had sent before is handled. Counted
    /// as [`Breach::EventRate`](crate::metrics::Breach::EventRate).
    pub fn event_rate(mut self, rate: impl Into<Option<EventRate>>) -> Self {
        self.event_rate = rate.into();
        self
    }
}

/// Number of events that a client may send in a time.
///
/// A bucket that holds `burst` and is filled by `per_second` each second; each event takes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct EventRate {
    pub(crate) per_second: NonZeroU32,
    pub(crate) burst: NonZeroU32,
}

impl EventRate {
    /// Creates a rate of this many events in the long run, and twice as many at once after a pause.
    pub fn per_second(events: NonZeroU32) -> Self {
        Self { per_second: events, burst: events.saturating_mul(NonZeroU32::MIN.saturating_add(1)) }
    }

    /// Sets how many events may come at once after a pause.
    pub fn burst(mut self, events: NonZeroU32) -> Self {
        self.burst = events;
        self
    }
}
