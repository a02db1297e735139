//! Node's Redis adapters and `@socket.io/redis-emitter` on the wire, without I/O.
//!
//! A node of Roomcast joins a cluster of Node servers. There is a state machine of a namespace for each adapter, which
//! takes messages and the time, and returns [`Action`]s. A driver subscribes, publishes and counts subscribers on a
//! [`PubSub`]; it can treat all of them alike through [`AdapterNamespace`].
//!
//! | Adapter on Node | State machine | Messages |
//! | --- | --- | --- |
//! | `@socket.io/redis-adapter` 8, `createAdapter` | [`ClassicNamespace`] | pub/sub, a separate format |
//! | `@socket.io/redis-adapter` 8.3, `createShardedAdapter` | [`ShardedNamespace`] | sharded pub/sub of Redis 7, [`ClusterMessage`] |
//! | `@socket.io/redis-streams-adapter` 0.3 | [`StreamsNamespace`], [`StreamReader`], [`SessionRestore`] | a stream and pub/sub, [`ClusterMessage`] |
//!
//! [`Channels`] and [`ClusterChannels`] are the names of the Redis channels of a namespace, and the functions named
//! `encode_*` and `decode_*` are the messages. All nodes of a cluster have the same adapter.
//!
//! # Operations
//!
//! Broadcasts with binary, several rooms and exclusions; joins, leaves and disconnects of sockets; fetches and counts
//! of sockets; broadcasts with acknowledgements; events for servers, with and without acknowledgements. Each is sent,
//! and each is accepted from Node and from emitters. With streams, sessions of disconnected clients are recovered on
//! any node, by Node's servers too.
//!
//! # Limits of the protocols
//!
//! - **Membership**: nodes do not announce themselves. A request waits for as many answers as the counted channel has
//!   subscribers, so a node that crashed without closing its connection is waited for until Redis notices.
//! - **Names of missing nodes**: the protocols do not transmit them. A request that ends early reports a number only.
//! - **Loss**: messages of pub/sub are not numbered. Messages that Redis drops, or publishes while a subscriber is
//!   disconnected, are lost without a trace. Loss from a stream is noticed; see [`StreamReader`].
//! - **Acknowledgements** are one argument, and do not name the socket.
//! - **Binary in events for servers**: these are JSON with the classic adapter. Binary arguments arrive as
//!   `{"type":"Buffer","data":[…]}`. Data of sockets is in this form with all adapters.
//! - **Offsets** for connection state recovery are transmitted with streams only.
//!
//! # Safety of Node servers
//!
//! A message that Node's adapter cannot process may end its process, or make it read the same entries of a stream
//! again and again. So events with names that Node reserves and arguments nested deeper than 127 levels are refused,
//! messages always have all of their fields, and additions of Roomcast are flags and fields that Node ignores.
//!
//! # Rooms
//!
//! Rooms on Node are strings or numbers. Both are read as text. A room such as `7` is sent as text and as number, so
//! that Node finds its members in either form, except in a join, which is by text.

mod channel;
mod codec;
mod engine;
mod protocol;
mod stream_log;

pub use channel::{ChannelKind, Channels, ClusterChannels};
pub use codec::{
    BroadcastMessage, ClusterBody, ClusterEncoding, ClusterMessage, CodecLimits, DecodeError, EncodeError,
    EntryFields, EntryId, Flags, Recipients, Request, RequestMessage, Response, ResponseMessage,
    SocketDescription, StoredSession, StreamEntry, broadcast_prefix, decode_broadcast,
    decode_cluster_message, decode_request, decode_response, decode_session, encode_broadcast,
    encode_cluster_message, encode_entry, encode_request, encode_response, encode_session, push_number,
    session_key,
};
pub use engine::{DroppedMessages, PubSub, PubSubCommand, PubSubEvent, SubscriberCount};
pub use protocol::{
    Action, AdapterMetrics, AdapterNamespace, Answer, AppendQueue, AppendState, Asker, Broadcast,
    ClassicAction, ClassicConfig, ClassicMetrics, ClassicNamespace, ClassicWriter, Composed,
    InvalidStreamOffset, MissedReader, PublishRefused, Query, QueryRefused, ReadRequest, ReleasedEntries,
    RequestNumber, RestoreError, RestoreStep, Restored, SessionRestore, ShardedConfig, ShardedNamespace,
    ShardedWriter, StreamOffset, StreamReader, StreamsConfig, StreamsNamespace, StreamsWriter,
    SubscriptionMode, Wanted, cluster_uid, entry_bytes, node_uid,
};
pub use stream_log::{AppendResult, Entries, LogCommand, LogEvent, StreamLog};
