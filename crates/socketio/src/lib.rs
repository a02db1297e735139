//! Socket.IO v5 as a state machine without I/O: packets, namespaces, attachments, acks.
//!
//! [`SocketIoSession`] is the session of a Socket.IO client: an Engine.IO session with namespaces. A [`Parser`]
//! converts packets to and from messages; [`DefaultCodec`] is the default parser of all clients.

mod codec;
mod config;
mod packet;
mod parser;
mod session;

#[cfg(test)]
mod tests;

pub use codec::DefaultCodec;
pub use config::SocketIoConfig;
pub use packet::{Body, DecodeError, Packet, PacketLimits, is_reserved};
pub use parser::{Decoder, Parser};
pub use session::SocketIoSession;
