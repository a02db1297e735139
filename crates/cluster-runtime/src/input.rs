//! Inputs from other threads to the task of a connection.

use std::sync::Weak;

use bytes::Bytes;
use roomcast_cluster::{Asker, ClusterRequest, Publication};
use roomcast_cluster_task::reply::ReplySender;
use roomcast_core::{ByteString, ClusterHost, Heard, MemberKey, Namespace, PresenceMember, Room};
use tokio::sync::oneshot;

/// Input to the task of a connection.
pub(crate) enum Input {
    Publish(Box<Publication>),
    Open {
        namespace: Namespace,
        host: Weak<dyn ClusterHost>,
    },
    Close {
        namespace: Namespace,
    },
    Created {
        namespace: Namespace,
        room: Room,
    },
    Deleted {
        namespace: Namespace,
        room: Room,
    },
    /// Member of this node in a room with presence.
    Presence {
        namespace: Namespace,
        room: Room,
        news: PresenceNews,
    },
    Heard {
        namespace: Namespace,
        room: Option<Room>,
        reply: oneshot::Sender<Heard>,
    },
    Confirm {
        lost: u64,
        reply: oneshot::Sender<bool>,
    },
    Request {
        request: ClusterRequest,
        reply: ReplySender<Bytes>,
    },
    Cancel {
        key: u64,
    },
    Answer {
        asker: Asker,
        expected: Option<u32>,
        part: Bytes,
    },
    /// A recipient of a broadcast with acknowledgements has answered; `sink` is the number of the request here.
    Acknowledge {
        asker: Asker,
        sink: u64,
        part: Bytes,
    },
    Leave,
    /// The connection was dropped.
    Abandon,
}

/// News of the members of this node in a room with presence.
pub(crate) enum PresenceNews {
    Joined { key: MemberKey, member: PresenceMember },
    DataChanged { key: MemberKey, data: ByteString },
    Left { key: MemberKey, data: Option<ByteString> },
    Refresh,
}
