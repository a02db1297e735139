//! Session and codecs of plain WebSocket clients, which share rooms with Socket.IO clients.
//!
//! [`PlainSession`] is the protocol of one client, without I/O. [`Mode`] selects bare messages or the subprotocol
//! `roomcast.json`, and the codec for it, so a room encodes an event once for all clients of a mode. The rest of this
//! page specifies the protocol for client authors.
#![doc = ""]
#![doc = include_str!("../docs/grammar.md")]

mod codec;
mod config;
mod frame;
mod grammar_error;
mod mode;
mod session;
mod text;

pub use codec::{JsonCodec, PlainCodec};
pub use config::PlainConfig;
pub use mode::{Mode, SUBPROTOCOL};
pub use session::PlainSession;
