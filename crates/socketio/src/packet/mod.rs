//! Socket.IO packets and their text in the default parser: `<type>[<n>-][<namespace>,][<id>][<json>]`.

mod attachment_order;
mod decode;
mod decoder;
mod encode;
mod error;

#[cfg(test)]
mod tests;

use bytestring::ByteString;
use roomcast_core::{AckId, Args};

pub(crate) use decoder::DefaultDecoder;
pub(crate) use encode::{
    encode_answer, encode_connect, encode_connect_error, encode_disconnect, encode_event,
};
pub use error::DecodeError;

/// A complete and valid packet from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "parsers build it")]
pub struct Packet {
    /// The packet's namespace.
    pub namespace: ByteString,
    /// The packet's content.
    pub body: Body,
}

/// Content of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "parsers match every type of packet")]
pub enum Body {
    /// The client requests to join.
    Connect {
        /// The auth payload: the JSON text of an object, or empty.
        auth: ByteString,
    },
    /// The client leaves the namespace.
    Disconnect,
    /// The client emits an event.
    Event {
        /// The event name, not reserved; a number becomes its digits.
        name: ByteString,
        /// The event's arguments.
        args: Args,
        /// Set if the client expects an acknowledgement.
        ack: Option<AckId>,
    },
    /// The client acknowledges an event.
    Ack {
        /// The id of the acknowledged event.
        id: AckId,
        /// The acknowledgement's arguments.
        args: Args,
    },
    /// A packet type that only servers may send.
    ConnectError,
}

/// Limits on a single packet.
///
/// The transport limits the length of each message beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct PacketLimits {
    /// Maximum attachments of one packet. Default: 10, as in the parser on Node.
    pub attachments: usize,
    /// Maximum bytes of a packet and its attachments together. Default: 10 MB.
    ///
    /// Each client may use this much memory while its attachments arrive.
    pub packet_bytes: usize,
    /// Maximum bytes of a namespace name. Default: 1 KiB.
    pub namespace_bytes: usize,
}

impl Default for PacketLimits {
    fn default() -> Self {
        Self { attachments: 10, packet_bytes: 10_000_000, namespace_bytes: 1024 }
    }
}

impl PacketLimits {
    /// Creates limits with the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`attachments`](Self#structfield.attachments).
    pub fn attachments(mut self, attachments: usize) -> Self {
        self.attachments = attachments;
        self
    }

    /// Sets [`packet_bytes`](Self#structfield.packet_bytes).
    pub fn packet_bytes(mut self, packet_bytes: usize) -> Self {
        self.packet_bytes = packet_bytes;
        self
    }

    /// Sets [`namespace_bytes`](Self#structfield.namespace_bytes).
    pub fn namespace_bytes(mut self, namespace_bytes: usize) -> Self {
        self.namespace_bytes = namespace_bytes;
        self
    }
}

/// Returns whether an event name is reserved for events that clients and servers raise locally.
pub fn is_reserved(name: &str) -> bool {
    matches!(
        name,
        "connect" | "connect_error" | "disconnect" | "disconnecting" | "newListener" | "removeListener"
    )
}
