//! Socket.IO packets in MessagePack, compatible with `socket.io-msgpack-parser`.
//!
//! [`MsgpackCodec`] is a [`Parser`](roomcast_socketio::Parser) that replaces the default one on its own path; the
//! clients of that path must use theirs. Rooms are shared with all other clients.
//!
//! A packet is one binary message: a map of `type` (0 to 4), `nsp`, `data` and `id`. Binary arguments are inline, so
//! they need no separate messages.
//!
//! # Values
//!
//! Handlers see arguments as JSON with separate binary parts, as with every other protocol. MessagePack values
//! without a JSON equivalent are converted as JavaScript would:
//!
//! | MessagePack | Arguments |
//! | --- | --- |
//! | bin; extension 0 of 8 to 32 bits length, an `ArrayBuffer` | binary |
//! | extension 0 of one byte, `undefined` to notepack 2 | `null`; left out where it is the value of a key |
//! | extension 0 of eight bytes, a `Date` to notepack 2; extension −1, a timestamp | text such as `"2026-01-31T12:00:00.000Z"`; `null` for invalid dates |
//! | other extensions | `[type, binary]` |
//! | NaN and infinite floats | `null` |
//! | text that is not UTF-8 | U+FFFD replaces the invalid bytes |
//! | keys that are not text | refused |
//!
//! Server messages contain neither extensions nor `undefined`: all dialects decode them alike.

mod codec;
mod decode;
mod encode;

pub use codec::MsgpackCodec;
