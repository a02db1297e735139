//! Outputs of a replica for its host.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use roomcast_cluster::NodeRef;
use roomcast_core::{Namespace, PresenceUpdate, Room};

/// Room of a namespace.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_structs, reason = "a pair")]
pub struct RoomName {
    /// Namespace.
    pub namespace: Namespace,
    /// Room.
    pub room: Room,
}

impl fmt::Debug for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.namespace, self.room)
    }
}

/// Output of a replica for its host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PresenceAction {
    /// Subscribe to the room's channel, and call [`heard`](crate::PresenceReplica::heard) when it is in effect, or cannot
    /// be waited for any longer.
    Watch(RoomName, WatchId),
    /// Unsubscribe from the room's channel.
    Unwatch(RoomName),
    /// Pass news of other nodes to the namespace.
    Update(RoomName, PresenceUpdate),
}

/// Publication to the nodes that have members in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "hosts take it apart")]
pub struct PresencePublication {
    /// Room, on whose channel it is sent.
    pub name: RoomName,
    /// Content.
    pub body: Bytes,
}

/// Question to another node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "hosts take it apart")]
pub struct PresenceAsk {
    /// Number for the answer.
    pub id: AskId,
    /// Node.
    pub node: NodeRef,
    /// Content.
    pub body: Bytes,
    /// Time after which it ends.
    pub timeout: Duration,
}

/// Number of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AskId(pub(crate) u64);

/// Number of a subscription to a room's channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct WatchId(pub(crate) u64);
