//! Messages of `ClusterAdapter`, the common base of Node's newer adapters.
//!
//! The format is that of npm `socket.io-adapter` 2.5 (`dist/cluster-adapter.js`), as `@socket.io/redis-adapter` 8.3
//! (`dist/sharded-adapter.js`) and `@socket.io/redis-streams-adapter` 0.3 (`dist/adapter.js`) put it on the wire: an
//! envelope `{uid, nsp, type, data}` in JSON or MessagePack, which a receiver tells apart by the first byte.

mod decode;
mod encode;

use bytestring::ByteString;
use roomcast_core::{Args, Event, Membership};

pub(super) use self::decode::content;
pub use self::decode::decode_cluster_message;
pub(crate) use self::decode::{Received, receive};
pub use self::encode::encode_cluster_message;
pub(super) use self::encode::{Data, packed};
use super::{Flags, Recipients, Response};

/// Message of `ClusterAdapter`.
#[derive(Debug, Clone)]
#[allow(clippy::exhaustive_structs, reason = "drivers take it apart")]
pub struct ClusterMessage {
    /// Node that sent it; `emitter` for an emitter.
    pub sender: ByteString,
    /// Id of the request, also in its answers; empty if no answer is wanted.
    pub id: ByteString,
    /// Content.
    pub body: ClusterBody,
}

/// Content of a message.
#[derive(Debug, Clone)]
#[allow(clippy::exhaustive_enums, reason = "the protocol has no others")]
pub enum ClusterBody {
    /// Event for sockets (type 3); wants acknowledgements if the message has an id.
    Broadcast(Recipients, Flags, Event),
    /// Change of the rooms of matching sockets (types 4 and 5).
    Update(Recipients, Membership),
    /// Disconnect of matching sockets, with `true` of their clients (type 6).
    Disconnect(Recipients, bool),
    /// Request for the descriptions of matching sockets (type 7).
    Fetch(Recipients),
    /// Event for servers (type 9); wants an answer if the message has an id.
    ServerSideEmit(ByteString, Args),
    /// Answer to a request (types 8 and 10 to 12). Of [`Response`], the adapter has no ids, rooms and confirmations.
    Response(Response),
}

/// Encoding of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the adapters have no others")]
pub enum ClusterEncoding {
    /// JSON, and MessagePack for messages with binary: sharded pub/sub.
    JsonUnlessBinary,
    /// MessagePack: pub/sub of the streams adapter.
    MessagePack,
}

/// Numbers of the message types.
const BROADCAST: u64 = 3;
const JOIN: u64 = 4;
const LEAVE: u64 = 5;
const DISCONNECT: u64 = 6;
const FETCH: u64 = 7;
const FETCH_RESPONSE: u64 = 8;
const SERVER_SIDE_EMIT: u64 = 9;
const SERVER_SIDE_EMIT_RESPONSE: u64 = 10;
const CLIENT_COUNT: u64 = 11;
const ACK: u64 = 12;
