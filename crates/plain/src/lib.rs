//! The session and codecs of a client that speaks plain WebSocket, in the same rooms as Socket.IO clients
//!
//! [`PlainSession`] is the protocol of one client, without I/O. [`Mode`] chooses between bare messages and the
//! subprotocol `roomcast.json`, and names the codec that belongs to it, so that a room encodes an event once for all
//! clients of a mode. What follows is all that a client has to know.
#![doc = ""]
#![doc = include_str!("../docs/grammar.md")]

mod codec;
mod config;
mod frame;
mod mode;
mod session;
mod text;
mod violation;

pub use codec::{JsonCodec, PlainCodec};
pub use config::PlainConfig;
pub use mode::{Mode, SUBPROTOCOL};
pub use session::PlainSession;
