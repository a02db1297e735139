//! Node's classic Redis adapter and `@socket.io/redis-emitter` on the wire, without I/O.
//!
//! A node of Roomcast joins a cluster of Node servers that use `@socket.io/redis-adapter` 8 (`createAdapter`).
//! [`Channels`] are the names of the Redis channels of a namespace, the functions named `encode_*` and `decode_*` are
//! the messages, and [`ClassicNamespace`] is the protocol: a state machine that takes messages and the time, and
//! returns actions. A driver subscribes, publishes and counts subscribers on a [`PubSub`].
//!
//! # Operations
//!
//! Broadcasts with binary, several rooms and exclusions; joins, leaves and disconnects of sockets; fetches and counts
//! of sockets; broadcasts with acknowledgements; events for servers, with and without acknowledgements. Each is sent,
//! and each is accepted from Node and from emitters.
//!
//! # Limits of the protocol
//!
//! - **Membership**: nodes do not announce themselves. A request waits for as many answers as the request channel has
//!   subscribers, so a node that crashed without closing its connection is waited for until Redis notices.
//! - **Names of missing nodes**: answers do not name their node. A request that ends early reports a number only.
//! - **Loss**: messages are not numbered. Messages that Redis drops, or publishes while a subscriber is disconnected,
//!   are lost without a trace.
//! - **Acknowledgements** are one argument, and do not name the socket.
//! - **Binary in events for servers**: these are JSON. Binary arguments arrive as `{"type":"Buffer","data":[…]}`.
//! - **Offsets** for connection state recovery are not transmitted.
//!
//! # Safety of Node servers
//!
//! A message that Node's adapter cannot process may end its process. So events with names that Node reserves and
//! arguments nested deeper than 127 levels are refused, requests always have all of their fields, and additions of
//! Roomcast are flags that Node ignores.
//!
//! # Rooms
//!
//! Rooms on Node are strings or numbers. Both are read as text. A room such as `7` is sent as text and as number, so
//! that Node finds its members in either form, except in a join, which is by text.

mod channel;
mod codec;
mod engine;
mod protocol;

pub use channel::{ChannelKind, Channels, ClusterChannels};
pub use codec::{
    BroadcastMessage, ClusterBody, ClusterEncoding, ClusterMessage, CodecLimits, DecodeError, EncodeError,
    EntryFields, EntryId, Flags, Recipients, Request, RequestMessage, Response, ResponseMessage,
    SocketDescription, StoredSession, StreamEntry, decode_broadcast, decode_cluster_message, decode_request,
    decode_response, decode_session, encode_broadcast, encode_cluster_message, encode_entry, encode_request,
    encode_response, encode_session, session_key,
};
pub use engine::{PubSub, PubSubCommand, PubSubEvent, SubscriberCount};
pub use protocol::{
    Action, AdapterMetrics, AdapterNamespace, Answer, Asker, ClassicAction, ClassicConfig, ClassicMetrics,
    ClassicNamespace, ClassicWriter, Composed, PublishRefused, Query, QueryRefused, ReadRequest,
    RequestNumber, RestoreError, RestoreStep, Restored, SessionRestore, ShardedConfig, ShardedNamespace,
    StreamReader, StreamsConfig, StreamsNamespace, SubscriptionMode, Wanted, cluster_uid, node_uid,
};
