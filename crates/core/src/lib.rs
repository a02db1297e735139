//! Core types and traits of Roomcast: messages, frames, events, the outbox, sessions, routers and transports.
//!
//! An application emits an [`Event`]. A [`Router`] finds its recipients, and a [`Codec`] encodes it once for each kind
//! of client into a [`Frame`]. Each recipient's [`Outbox`] holds the frame until the write half of its [`Connection`],
//! a [`FrameSink`], takes it. Client input arrives as [`Message`]s, which a [`Session`] turns into [`Action`]s. Nothing
//! here spawns, sleeps or reads a clock.

mod ack;
mod actions;
mod body;
mod close;
mod cluster;
mod error;
mod event;
mod frame;
mod ids;
pub mod memory;
mod message;
mod outbox;
mod prefetch;
mod router;
mod session;
mod sync;
mod transport;

pub use ack::AckTable;
pub use actions::Actions;
pub use body::{BodyProgress, ResponseBody, TrackedBody};
pub use close::CloseReason;
pub use cluster::{
    Cluster, ClusterHost, ClusterMetric, ClusterNamespace, ClusterPresence, ClusterStatus, ClusterValue,
    Confirming, EventLog, EventLogError, Heard, LogQuery, MissedEvents, PresenceMember, PresenceUpdate,
    PublishRefusal, Published, QueryError, RemoteAnswers, RemoteChange, RemoteKey, RequestTimes, Unconfirmed,
};
pub use error::{BoxError, ConnectionError};
pub use event::{AckRequest, AnswerSink, Codec, EncodeError, Event};
pub use frame::{Frame, Wire, WireKey};
pub use ids::{AckId, MemberKey, Namespace, Room, Sid, SocketId};
pub use message::Message;
pub use outbox::{
    Attended, Backlog, Bounds, DeferredWakes, Delivery, FlushList, Flusher, FrameSink, Hold, Outbox,
    OutboxStatus, Overflow, PushOutcome, QueueDepth, Readiness, SharedFrame, WriteStats,
};
pub use prefetch::prefetch;
pub use roomcast_args::{
    Args, ArgsError, ArgsIter, ArgsReader, ArgsWriter, FromArgs, IntoArgs, needs_escape, push_quoted,
    replace_lone_surrogates, to_json,
};
pub use router::{
    ChangeQueue, Dispatched, JoinOutcome, Member, MemberControl, MemberLimit, Membership, PresentMember,
    Receipt, RoomChange, RoomWatcher, Router, RouterStats, Scope, SocketInfo, Target, WatchFilter,
};
pub use session::{Action, Command, ConnectionRole, Inbound, Session};
pub use transport::{
    ByteStream, Capabilities, Connection, Exchange, FixedHeaders, PollSlot, PollSlotCell, Received,
    RejectedExchange, Rejection, RepeatedResponse, RepeatedResponses, RequestBody, Responder, Transport,
    TransportName, Upgrade, Upgraded,
};

/// Types of other crates in the signatures above.
pub use bytes::Bytes;
pub use bytestring::ByteString;
