//! Engine.IO v4 as a state machine without I/O: handshake, heartbeat, upgrade, packets.
//!
//! [`Engine`] is the protocol alone, a base for sessions such as that of `roomcast-socketio`. [`EngineSession`] is the
//! session of a plain Engine.IO client, and [`EngineCodec`] encodes its events.
//!
//! This crate is independent of transports. A packet reaches a connection as a [`Message`](roomcast_core::Message):
//! text with its type digit, or raw binary. The transport frames several of them in one HTTP body.

mod codec;
mod config;
mod engine;
mod packet;
mod session;
mod timers;

#[cfg(test)]
mod tests;

pub use codec::EngineCodec;
pub use config::{EngineConfig, OpenPacket, Version};
pub use engine::Engine;
pub use roomcast_core::Actions;
pub use session::EngineSession;
