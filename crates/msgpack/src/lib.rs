//! MessagePack to JSON text with binary attachments, and back, in the dialects of Node's libraries.
//!
//! Arguments of events are JSON text with separate binary parts, and MessagePack has them inline. [`JsonValues`] and
//! [`Writer`] convert in one direction, [`Reader`] and [`JsonWriter`] in the other. The crate knows no packets.
//!
//! # Values
//!
//! Two libraries write MessagePack on Node: notepack.io (`socket.io-msgpack-parser`, the classic and sharded Redis
//! adapters, `@socket.io/redis-emitter`) and @msgpack/msgpack (the Redis Streams adapter). Both are read alike,
//! notepack of version 2 included. Values without a JSON equivalent are converted as JavaScript would:
//!
//! | MessagePack | JSON text |
//! | --- | --- |
//! | bin; extension 0 of 8 to 32 bits length, an `ArrayBuffer` | placeholder of an attachment |
//! | extension 0 of one byte, `undefined` to notepack 2 | `null`; left out where it is the value of a key |
//! | extension 0 of eight bytes, a `Date` to notepack 2; extension −1, a timestamp | text such as `"2026-01-31T12:00:00.000Z"`; `null` for invalid dates |
//! | other extensions | see [`Extensions`] |
//! | NaN and infinite floats | `null` |
//! | text that is not UTF-8 | U+FFFD replaces the invalid bytes |
//! | keys that are not text | refused |
//!
//! Written messages have neither extensions nor `undefined`, and integers and lengths in their shortest form, so that
//! all of these libraries decode them alike.

mod date;
mod encode;
mod json;
mod read;

pub use encode::{JsonValues, Writer};
pub use json::{Extensions, JsonLimits, JsonWriter};
pub use read::{ReadError, Reader, Value};
