//! Settings, each with its default

use std::time::Duration;

use roomcast_transport_ws::WebSocket;

/// Settings of a server, each with its default
///
/// All of them hold both in a [`Server`](crate::Server) and when mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub(crate) ping_interval: Duration,
    pub(crate) ping_timeout: Duration,
    pub(crate) upgrade_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) max_payload: usize,
    pub(crate) max_fragments: u32,
    pub(crate) outbox_limit: usize,
    pub(crate) max_handlers: usize,
    pub(crate) max_event_bytes: usize,
    pub(crate) max_acks: usize,
    pub(crate) max_attachments: usize,
    pub(crate) max_namespaces: usize,
    pub(crate) cors: Cors,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            upgrade_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(45),
            close_timeout: Duration::from_secs(10),
            max_payload: 1_000_000,
            max_fragments: 131_072,
            outbox_limit: 1024 * 1024,
            max_handlers: 1024,
            max_event_bytes: 4 * 1024 * 1024,
            max_acks: 1000,
            max_attachments: 10,
            max_namespaces: 100,
            cors: Cors::Off,
        }
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
    /// How long a client has to prove a better transport; after that it stays where it was. Default: 10 s
    upgrade_timeout: Duration,
    /// How long a Socket.IO client has to join a namespace before it is closed. Default: 45 s
    connect_timeout: Duration,
    /// How long a closing connection may take to send what waits and to be answered. Default: 10 s
    close_timeout: Duration,
    /// Bytes one message, or the body of one POST, may have. Default: 1,000,000
    ///
    /// A larger WebSocket message closes its connection with 1009; a larger POST gets 413 and its session goes on.
    /// Holds for the transports that the builder makes; those it is given bring their own limit.
    max_payload: usize,
    /// Frames one WebSocket message may be cut into, empty ones included. Default: 131,072
    ///
    /// More close the connection with 1008. Holds where [`max_payload`](Self::max_payload) does.
    max_fragments: u32,
    /// Bytes that may wait to be sent to one client before it counts as a slow consumer. Default: 1 MiB
    ///
    /// The worst case of memory is this times the number of clients, though a broadcast that waits for many
    /// exists once.
    outbox_limit: usize,
    /// Handlers of one client that may be under way at once; further events wait in order. Default: 1024
    max_handlers: usize,
    /// Bytes of events of one client that may wait for handlers; beyond that the client is closed. Default: 4 MiB
    ///
    /// Answers and the protocol's own packets are always read.
    max_event_bytes: usize,
    /// Answers that one socket may owe; an event that asks for one more is not sent to it. Default: 1000
    max_acks: usize,
    /// Binary attachments of one event from a client. Default: 10
    max_attachments: usize,
    /// Namespaces one client may be in. Default: 100
    max_namespaces: usize,
    /// Which pages of other origins may use long-polling. Default: none
    cors: Cors,
}

impl Config {
    pub(crate) fn websocket(&self) -> WebSocket {
        WebSocket::new().max_message(self.max_payload).max_fragments(self.max_fragments)
    }
}

/// Which pages of other origins may read answers to their requests
///
/// Browsers ask before they let a page of one origin use long-polling at another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Cors {
    /// None
    #[default]
    Off,
    /// All of them, without cookies
    Any,
    /// These, such as `https://chat.example`, with or without cookies
    Origins {
        /// Which
        origins: Vec<String>,
        /// Whether cookies may be sent along
        credentials: bool,
    },
}
