//! Engine.IO v4 as a state machine without I/O: handshake, heartbeat, upgrade, packets
//!
//! [`Engine`] is the protocol alone, to build a session around; `roomcast-socketio` does so. [`EngineSession`] is
//! the session of a client that speaks plain Engine.IO, and [`EngineCodec`] how events are put for it.
//!
//! Nothing here knows a transport. A packet reaches a connection as a [`Message`](roomcast_core::Message): text
//! with its type digit, or binary as it is. How several of them lie in one HTTP body is the business of the
//! transport.

mod codec;
mod config;
mod engine;
mod packet;
mod session;
mod timers;

#[cfg(test)]
mod tests;

pub use codec::EngineCodec;
pub use config::{EngineConfig, Handshake, Version};
pub use engine::Engine;
pub use roomcast_core::Actions;
pub use session::EngineSession;
