//! Inputs from other threads to the task of a cluster.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytestring::ByteString;
use roomcast_cluster_task::reply::{Part, ReplySender};
use roomcast_core::{ClusterHost, Event, EventLogError, Heard, MissedEvents, Room, Target};
use roomcast_node_adapter::{
    Answer, Asker, Broadcast, ClassicWriter, Composed, EncodeError, EntryFields, EntryId, Query, Response,
    ShardedWriter, StreamOffset, StreamsWriter,
};
use tokio::sync::oneshot;

use crate::batch::Batch;

/// Number of an open namespace. A namespace that is opened again has another one.
pub(crate) type Key = u64;

/// Input to the task of a cluster.
pub(crate) enum Input {
    Publish(Composed),
    PublishAll(Batch),
    /// Entry for the stream; `local` is its effect on this node.
    Append {
        key: Key,
        fields: EntryFields,
        local: Option<Box<(Target, Event)>>,
    },
    Open {
        key: Key,
        writer: Writer,
        host: Weak<dyn ClusterHost>,
    },
    Close {
        key: Key,
    },
    /// A room with a channel got its first member, or lost its last.
    Room {
        key: Key,
        channel: ByteString,
        has_members: bool,
    },
    /// `channel` is that of a room.
    Heard {
        key: Key,
        channel: Option<ByteString>,
        reply: oneshot::Sender<Heard>,
    },
    /// Begins a confirmation, which ends if `since` is dropped.
    Confirming {
        since: Arc<OnceLock<ConfirmStart>>,
    },
    /// Asks for the publications between [`Confirming`](Self::Confirming) and this input.
    Confirm {
        since: Arc<OnceLock<ConfirmStart>>,
        reply: oneshot::Sender<Confirmation>,
    },
    Request {
        key: Key,
        query: Box<Query>,
        timeout: Duration,
        reply: ReplySender<AnswerPart>,
    },
    Cancel {
        key: Key,
        number: u64,
    },
    /// Answer to another node; `sink` is the number of the request here if it is an acknowledgement of a socket.
    Answer {
        key: Key,
        asker: Asker,
        response: Response,
        sink: Option<u64>,
    },
    /// A recipient of a broadcast with acknowledgements will not answer. Node's protocol has no message for it.
    Unanswered {
        sink: u64,
    },
    /// Question about the stream.
    Log(LogInput),
    Leave,
    /// The cluster was dropped.
    Abandon,
}

impl Input {
    /// Returns the number of publications and entries.
    pub(crate) fn publications(&self) -> usize {
        match self {
            Self::Publish(_) | Self::Append { .. } => 1,
            Self::PublishAll(batch) => batch.len(),
            _ => 0,
        }
    }
}

/// State of the task when a confirmation began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConfirmStart {
    /// Mark in the queue of entries.
    pub(crate) entries: u64,
    /// Number of publications that the task or the engine had lost.
    pub(crate) lost: u64,
}

/// Outcome of the publications before a [`Confirm`](Input::Confirm).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Confirmation {
    Accepted,
    /// An entry was refused, for this reason.
    Refused(ByteString),
    /// Some were lost, or perhaps lost, with the connection.
    Lost,
}

/// Writer of a namespace, with any adapter.
#[derive(Debug, Clone)]
pub(crate) enum Writer {
    Classic(Arc<ClassicWriter>),
    Sharded(Arc<ShardedWriter>),
    Streams(Arc<StreamsWriter>),
}

/// Publication with the bytes that it takes in the queue.
pub(crate) type Publication<'a> = Result<(Queued<'a>, usize), EncodeError>;

/// Publication on its way to the task.
pub(crate) enum Queued<'a> {
    /// Separate input.
    Alone(Input),
    /// Message that shares an input with others.
    Shared(Broadcast<'a>),
}

/// Question to the task about the stream.
#[derive(Debug)]
pub(crate) enum LogInput {
    Latest { reply: oneshot::Sender<Option<EntryId>> },
    Missed { key: Key, question: MissedQuestion, reply: oneshot::Sender<Result<MissedEvents, EventLogError>> },
}

/// Owned form of a [`LogQuery`](roomcast_core::LogQuery).
#[derive(Debug)]
pub(crate) struct MissedQuestion {
    pub(crate) after: StreamOffset,
    pub(crate) rooms: Vec<Room>,
    pub(crate) max_bytes: usize,
}

/// Position of the task in the stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StreamPosition {
    /// Last entry whose effects have taken place; `None` before the first one is known.
    pub(crate) id: Option<EntryId>,
    /// Whether the stream is being read.
    pub(crate) is_reading: bool,
    /// Whether own entries took effect that are not read back yet.
    pub(crate) has_released: bool,
}

/// Answer of another node.
pub(crate) struct AnswerPart(pub(crate) Answer);

impl Part for AnswerPart {
    fn byte_len(&self) -> usize {
        let content = match &self.0 {
            Answer::Sockets(sockets) => {
                let rooms = |rooms: &[Room]| rooms.iter().map(|room| room.as_str().len() + 32).sum::<usize>();
                let len = |socket: &roomcast_node_adapter::SocketDescription| {
                    socket.handshake.len() + socket.data.len() + rooms(&socket.rooms) + 128
                };
                sockets.iter().map(len).sum()
            }
            Answer::ServerSide(args) | Answer::Ack(args) => args.byte_len(),
            _ => 0,
        };
        content + 64
    }
}
