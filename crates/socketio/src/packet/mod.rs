//! Socket.IO packets, and their text in the default parser: `<type>[<n>-][<namespace>,][<id>][<json>]`

mod decode;
mod decoder;
mod encode;
mod error;
mod places;

#[cfg(test)]
mod tests;

use bytestring::ByteString;
use roomcast_core::{AckId, Args};

pub(crate) use decoder::DefaultDecoder;
pub(crate) use encode::{
    encode_answer, encode_connect, encode_connect_error, encode_disconnect, encode_event,
};
pub use error::DecodeError;

/// A packet as a client sent it, whole and checked
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "parsers build it")]
pub struct Packet {
    /// The namespace it is for
    pub namespace: ByteString,
    /// What it says
    pub body: Body,
}

/// What a packet says
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "parsers match every type of packet")]
pub enum Body {
    /// The client asks to join
    Connect {
        /// What it shows for it: the JSON text of an object, or empty
        auth: ByteString,
    },
    /// The client leaves
    Disconnect,
    /// The client emits an event
    Event {
        /// Its name, not reserved; a number counts as its digits
        name: ByteString,
        /// Its arguments
        args: Args,
        /// Set when the client waits for an answer
        ack: Option<AckId>,
    },
    /// The client answers an event
    Ack {
        /// Which event
        id: AckId,
        /// With what
        args: Args,
    },
    /// What only a server may say
    ConnectError,
}

/// What is accepted of a single packet
///
/// The length of a message is limited before, by the transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct PacketLimits {
    /// Attachments of one packet
    ///
    /// Default: 10, as in the parser on Node.
    pub attachments: usize,
    /// Bytes of a packet and its attachments together
    ///
    /// Default: 10 MB. So much may be kept for each client while its attachments arrive.
    pub packet_bytes: usize,
    /// Bytes of the name of a namespace
    ///
    /// Default: 1 KiB.
    pub namespace_bytes: usize,
}

impl Default for PacketLimits {
    fn default() -> Self {
        Self { attachments: 10, packet_bytes: 10_000_000, namespace_bytes: 1024 }
    }
}

impl PacketLimits {
    /// Creates settings that are all at their defaults.
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

/// Whether an event must not have this name, since clients and servers use it for what they notice themselves
pub fn is_reserved(name: &str) -> bool {
    matches!(
        name,
        "connect" | "connect_error" | "disconnect" | "disconnecting" | "newListener" | "removeListener"
    )
}
