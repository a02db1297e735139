//! Inputs and outputs of a namespace.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{Args, Event, Membership, Target};

use crate::{EncodeError, EntryFields, Flags, Recipients, SocketDescription};

/// Number of a request of this node, unique in its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestNumber(pub(crate) u64);

/// Request to all other nodes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Query {
    /// Number of matching sockets.
    Count(Recipients),
    /// Descriptions of matching sockets.
    Fetch(Recipients),
    /// Acknowledgements of an event for servers.
    ServerSide(ByteString, Args),
    /// Acknowledgements of an event by matching sockets.
    Broadcast(Recipients, Flags, Event),
}

/// Error of a publication that was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishRefused {
    /// It could harm a Node server or its clients.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Too many entries for the stream are not confirmed yet.
    #[error("too many unconfirmed entries of the stream")]
    QueueFull,
}

/// Error of a request that was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryRefused {
    /// The event could harm a Node server or its clients.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Too many requests are pending.
    #[error("too many pending requests to the cluster")]
    TooMany,
}

/// Request of another node, to which the driver sends answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Asker {
    pub(crate) id: ByteString,
    pub(crate) node: ByteString,
}

impl Asker {
    /// Returns the id of the asking node; empty for one that did not say.
    #[must_use]
    pub fn node(&self) -> &ByteString {
        &self.node
    }
}

/// Subject of a query of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wanted {
    /// Ids of the sockets: [`Response::Ids`](crate::Response::Ids).
    Ids,
    /// Descriptions of the sockets: [`Response::Sockets`](crate::Response::Sockets).
    Sockets,
    /// Names of their rooms, own-id rooms included: [`Response::Rooms`](crate::Response::Rooms).
    Rooms,
}

/// Answer of one node, or of one of its sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// Number of matching sockets on a node.
    Count(usize),
    /// Matching sockets on a node.
    Sockets(Vec<SocketDescription>),
    /// Acknowledgement of a server.
    ServerSide(Args),
    /// Number of sockets on a node that received a request for an acknowledgement.
    Recipients(usize),
    /// Acknowledgement of a socket, without its id.
    Ack(Args),
}

/// Output of a [`ClassicNamespace`](crate::ClassicNamespace).
pub type ClassicAction = Action;

/// Output of a namespace for its driver, the same for all adapters.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Action {
    /// Subscribe to a channel. The classic adapter lists its [channels](crate::Channels) instead.
    ///
    /// One command for each channel: on Redis Cluster they are in different slots.
    Subscribe {
        /// Channel.
        channel: ByteString,
    },
    /// Unsubscribe from a channel.
    Unsubscribe {
        /// Channel.
        channel: ByteString,
    },
    /// Publish a message.
    Publish {
        /// Channel.
        channel: ByteString,
        /// Message.
        payload: Bytes,
    },
    /// Append an entry to the stream, and call
    /// [`handle_append_failure`](crate::StreamsNamespace::handle_append_failure) if that fails. Streams adapter only.
    ///
    /// `XADD stream MAXLEN ~ max_len * fields…`. The order of entries matters, so they use one connection, and an entry
    /// is not retried after another one.
    Append {
        /// Key of the stream.
        stream: ByteString,
        /// Approximate number of entries that are kept.
        max_len: u64,
        /// Names and values of the fields.
        fields: EntryFields,
        /// Number of the entry for this node.
        number: u64,
    },
    /// Count the subscribers of the [counted channel](crate::AdapterNamespace::counted_channel), and call
    /// [`handle_node_count`](crate::AdapterNamespace::handle_node_count).
    ///
    /// `PUBSUB NUMSUB`, and `SHARDNUMSUB` for sharded pub/sub, counts on one server; on Redis Cluster the numbers of
    /// all masters are summed.
    CountNodes {
        /// Request that waits for it.
        request: RequestNumber,
    },
    /// Deliver an event to local sockets.
    Deliver {
        /// Recipients.
        target: Target,
        /// Event.
        event: Event,
    },
    /// Change the rooms of local sockets.
    Update {
        /// Sockets.
        target: Target,
        /// Change.
        change: Membership,
        /// If the target has a local socket, answer with [`Response::Done`](crate::Response::Done).
        asker: Option<Asker>,
    },
    /// Disconnect local sockets.
    Disconnect {
        /// Sockets.
        target: Target,
        /// Whether to close their clients' connections too.
        close: bool,
        /// If the target has a local socket, answer with [`Response::Done`](crate::Response::Done).
        asker: Option<Asker>,
    },
    /// Answer with the matching local sockets, also if there are none.
    Find {
        /// Reference for the answer.
        asker: Asker,
        /// Sockets.
        target: Target,
        /// Content of the answer.
        wanted: Wanted,
    },
    /// Call the server's handlers, and answer with [`Response::ServerSide`](crate::Response::ServerSide) if one did.
    ServerSide {
        /// Name of the event.
        name: ByteString,
        /// Arguments.
        args: Args,
        /// Reference for the answer, if one is wanted.
        asker: Option<Asker>,
    },
    /// Deliver an event to local sockets with a request for acknowledgements.
    ///
    /// Answer with [`Response::ClientCount`](crate::Response::ClientCount), also if it is 0, and with
    /// [`Response::Ack`](crate::Response::Ack) for each acknowledgement.
    DeliverWithAck {
        /// Reference for the answers.
        asker: Asker,
        /// Recipients.
        target: Target,
        /// Event, without a request yet.
        event: Event,
        /// Time after which answers are ignored, if the sender stated it.
        timeout: Option<Duration>,
    },
    /// Another node has another subscription mode, so broadcasts to rooms may be lost. Sharded adapter only.
    OtherMode {
        /// Id of the node; empty if it is not known.
        node: ByteString,
        /// Name of its mode, if it is known.
        mode: Option<ByteString>,
    },
    /// An answer to a request of this node.
    Answer {
        /// Request.
        request: RequestNumber,
        /// Answer.
        answer: Answer,
    },
    /// A request has ended; no answer follows.
    Done {
        /// Request.
        request: RequestNumber,
        /// Number of nodes whose answers are missing; `None` if the number of nodes was not known.
        missing: Option<usize>,
        /// Time since the request was begun.
        elapsed: Duration,
    },
}
