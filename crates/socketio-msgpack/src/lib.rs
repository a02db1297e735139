//! Socket.IO packets in MessagePack, as the clients' `socket.io-msgpack-parser` has them
//!
//! [`MsgpackCodec`] is a [`Parser`](roomcast_socketio::Parser) that a server takes in place of the default one, for a
//! path of its own; the clients there must have been given theirs. Rooms are shared with everybody else.
//!
//! A packet is one binary message: a map of `type` (0 to 4), `nsp`, `data` and `id`. Binary arguments stand in it as they
//! are, so they need no messages of their own.
//!
//! # Values
//!
//! Handlers see arguments as JSON with binary parts beside it, whatever the client speaks. What MessagePack has and JSON
//! has not is read as JavaScript would put it into JSON:
//!
//! | MessagePack | |
//! | --- | --- |
//! | bin; extension 0 of 8 to 32 bits length, an `ArrayBuffer` | binary |
//! | extension 0 of one byte, `undefined` to notepack 2 | `null`; left out where it is the value of a key |
//! | extension 0 of eight bytes, a `Date` to notepack 2; extension −1, a timestamp | text such as `"2026-01-31T12:00:00.000Z"`; `null` if there is no such day |
//! | other extensions | `[type, binary]` |
//! | floats that are no numbers, or infinite | `null` |
//! | text that is not UTF-8 | with U+FFFD where it is not |
//! | keys that are not text | refused |
//!
//! What the server sends has neither extensions nor `undefined`: all dialects read it alike.

mod codec;
mod date;
mod decode;
mod encode;

pub use codec::MsgpackCodec;
