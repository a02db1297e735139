//! Bodies of publications, requests and answers.
//!
//! # Format
//!
//! A byte with the version, now 1, then fields in the format of envelopes. All bodies share the numbers of fields,
//! which are listed in `fields.rs`. Readers skip fields that they do not know, so fields may be added without a new
//! version. A body of another version, or of another kind than the known ones, is dropped and counted.

mod ack;
mod error;
mod event;
mod fields;
mod query;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use roomcast_core::Namespace;

pub(crate) use self::ack::AckPart;
pub(crate) use self::error::BodyError;
pub(crate) use self::event::{decode_event, encode_event, encode_server_event};
pub(crate) use self::query::{
    Found, Query, SocketPart, decode_change, decode_close, decode_count, decode_query, decode_sockets,
    encode_change, encode_close, encode_count, encode_event_query, encode_query, rooms_len,
};

/// Kinds of publications. A number is never reused for another meaning.
pub(crate) mod publication {
    /// Event for members.
    pub(crate) const EVENT: u32 = 1;
    /// Change of the rooms of members.
    pub(crate) const UPDATE: u32 = 2;
    /// Disconnect of members.
    pub(crate) const DISCONNECT: u32 = 3;
    /// Event for servers.
    pub(crate) const SERVER_EVENT: u32 = 4;
    /// Changes of the members of a room with presence, in the format of `roomcast-presence`.
    pub(crate) const PRESENCE: u32 = 5;
}

/// Kinds of requests. A number is never reused for another meaning.
pub(crate) mod request {
    /// Sockets that match a target.
    pub(crate) const FETCH: u32 = 1;
    /// Number of sockets that match a target.
    pub(crate) const COUNT: u32 = 2;
    /// Event for servers, with acknowledgement.
    pub(crate) const SERVER_EVENT: u32 = 3;
    /// Event for members, with acknowledgements.
    pub(crate) const EVENT: u32 = 4;
    /// Members of rooms with presence, in the format of `roomcast-presence`.
    pub(crate) const PRESENCE: u32 = 5;
}

/// Returns the name, the namespace and other fields of a body in all interpretations, as a number of successes.
///
/// Includes the bodies of presence. For fuzzing: no input panics, and memory is bounded by a multiple of the input's length.
#[must_use]
pub fn check_body(body: &Bytes) -> usize {
    let namespace = Namespace::main();
    let event = decode_event(body.clone(), &namespace);
    if let Ok(event) = &event {
        let again =
            decode_event(encode_event(&event.target(Vec::new(), Vec::new()), &event.event), &namespace);
        assert_eq!(
            again.map(|again| again.event.args),
            Ok(event.event.args.clone()),
            "event is encoded differently"
        );
    }
    [
        event.is_ok(),
        decode_change(body.clone()).is_ok(),
        decode_close(body.clone()).is_ok(),
        decode_count(body.clone()).is_ok(),
        decode_sockets(body.clone()).is_ok(),
        decode_query(body.clone()).is_ok(),
        AckPart::decode(body.clone()).is_ok(),
    ]
    .into_iter()
    .filter(|is_ok| *is_ok)
    .count()
        + roomcast_presence::check_body(body)
}
