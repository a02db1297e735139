//! Members of rooms, replicated between the nodes of a cluster: a state machine without I/O.
//!
//! [`PresenceReplica`] is the state machine of one node. It publishes the node's own members of rooms with presence, and
//! while the node has members in a room, keeps the members on other nodes. `roomcast-cluster-runtime` drives it next to a
//! [`Node`](roomcast_cluster::Node) of `roomcast-cluster`, which transports its messages and reports losses.
//!
//! # Mechanism
//!
//! Each node numbers its publications about rooms by one counter. A publication has the changes of one room from one of
//! these versions to the next, and is sent on the channel of the room, so it reaches the nodes with members there. A room
//! that was empty starts from version 0, so that its publication needs no earlier one, and a room that becomes empty is
//! forgotten. A receiver applies changes that follow the version that it knows. Otherwise it holds them, and asks their
//! node for the state of the room: the members in the node's present version, or that the room is empty. Answers take
//! another channel than publications; the versions show which is newer.
//!
//! A receiver asks for the state of a room when
//!
//! - the room gets its first member here: it asks each other node, after the room's channel is subscribed;
//! - a node joins the cluster, or rejoins as a new incarnation: it asks that node for all rooms with members here;
//! - messages were lost, or this node was declared dead by others;
//! - a publication does not follow the known version;
//! - a node has not mentioned its members in a room for 2.5 [announcement
//!   intervals](PresenceConfig::announce_interval). Nodes repeat the version of a room without changes once in an interval.
//!
//! A question names many rooms with their known versions, and each node has one question at a time; a room whose
//! version is still the present one costs a few bytes in the answer.
//!
//! # Guarantees
//!
//! - **One list, then changes**: after the first local member of a room, the host gets the members of all nodes once, then
//!   each change once, in order for each member. If a node does not answer within
//!   [`sync_timeout`](PresenceConfig::sync_timeout), its members follow as changes.
//! - **Batches**: the changes of a room are published at most once in a [`batch_interval`](PresenceConfig::batch_interval),
//!   larger ones in parts. A member that leaves and returns within it, or joins and leaves, causes no publication.
//! - **Departed nodes**: when the cluster reports that a node has left, its members leave. The members of a new incarnation
//!   are new ones.
//! - **Convergence**: after faults have ended, all nodes agree on the members of each room when the cluster has reported
//!   the losses and nodes have answered once. Unreported losses heal within one announcement interval, or within
//!   three if they concern a room that its node has forgotten.
//! - **No idle traffic**: rooms without presence cost nothing. Publications and announcements reach nodes with members in
//!   the room. Other nodes receive the room's name in a question when it gets its first member on a node.
//!
//! # Memory
//!
//! A member of another node costs 134 bytes with an id of 20 characters and no data, on a 64-bit machine;
//! `tests/memory.rs` measures it at the allocator, with a limit of 160 bytes. Changes that are held while an answer is
//! awaited are limited by [`max_held`](PresenceConfig::max_held). A burst of changes is held once per member, not per
//! change, also while the engine accepts nothing.

mod action;
mod answer;
mod body;
mod config;
mod local;
mod peers;
mod replica;
mod view;

pub use action::{AskId, PresenceAction, PresenceAsk, PresencePublication, RoomName, WatchId};
pub use answer::{AnswerPart, PresenceAnswer};
#[doc(hidden)]
pub use body::check_body;
pub use config::PresenceConfig;
pub use replica::PresenceReplica;
