//! Members of rooms on other nodes, replicated for presence.

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;

use crate::{MemberKey, Room, SocketId};

/// Replication of the members of rooms between the nodes of a cluster, for presence.
///
/// The server reports its own members of the rooms that have presence. While it has any in a room, the cluster passes
/// the members on other nodes to [`ClusterHost::presence`](crate::ClusterHost::presence). The methods never block, and repeated
/// calls have no effect. The calls for one room must not be concurrent.
pub trait ClusterPresence: Send + Sync + fmt::Debug {
    /// Reports a member of this node in a room; returns `false` if the node has left the cluster.
    ///
    /// With the first member, the members of other nodes follow as [`PresenceUpdate::Members`], with or without answers
    /// of all nodes, in a limited time. Data that is `None` leaves earlier data as it is.
    fn joined(&self, room: &Room, key: MemberKey, member: PresenceMember) -> bool;

    /// Reports new data of a member, if that was reported.
    fn data_changed(&self, room: &Room, key: MemberKey, data: ByteString);

    /// Reports that a member has left the room, with its last data.
    fn left(&self, room: &Room, key: MemberKey, data: Option<ByteString>);

    /// Requests [`PresenceUpdate::Members`] again, after the members were reported.
    fn refresh(&self, room: &Room);
}

/// Member of a room, as far as presence shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "servers and clusters build it")]
pub struct PresenceMember {
    /// Id of the socket.
    pub id: SocketId,
    /// Application data as JSON text, empty if never set; `None` if presence does not show it.
    pub data: Option<ByteString>,
}

/// Identity of a member of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_structs, reason = "a pair")]
pub struct RemoteKey {
    /// Number of the node.
    pub node: u64,
    /// Key of the member on that node.
    pub member: MemberKey,
}

/// News of the members of a room on other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "clusters build it, servers match it")]
pub enum PresenceUpdate {
    /// All members; replaces the known ones.
    Members(Vec<(RemoteKey, Arc<PresenceMember>)>),
    /// Changes, in order.
    Changes(Vec<RemoteChange>),
}

/// Change of the members of a room on other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "clusters build it, servers match it")]
pub enum RemoteChange {
    /// A member has joined.
    Joined(RemoteKey, Arc<PresenceMember>),
    /// The data of a member has changed.
    DataChanged(RemoteKey, Arc<PresenceMember>),
    /// A member has left, or its node has left. It has its last data.
    Left(RemoteKey, Arc<PresenceMember>),
}
