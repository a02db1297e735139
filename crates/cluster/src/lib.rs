//! Several nodes of Roomcast as one: a state machine without I/O, and the trait of its message engines.
//!
//! [`Node`] is the state machine of one node: publications, membership, requests, interest in rooms, and the queue
//! towards the engine. [`Backplane`] is the trait of an engine such as Redis or NATS; it transports bytes by channel,
//! without knowledge of rooms. The fault suite in `roomcast_testkit::cluster` runs nodes on any engine.
//!
//! # Guarantees
//!
//! - **Order**: a member of a room receives the publications of one node to that room in order, those to several rooms
//!   included. For the latter it holds after a [confirmed join](Node::await_join): before that, an earlier publication
//!   may arrive with another of its rooms. The publications of one node to a whole namespace arrive in order, and one
//!   to rooms on more than 16 channels counts as one of these. There is no other order across rooms or nodes. Requests
//!   have none.
//! - **Once**: a member receives a publication at most once.
//! - **Loss is reported**: engines lose messages. Each publication that was begun after a [confirmed
//!   join](Node::await_join) arrives, or the host gets a [`Gap`](ClusterAction::Gap) that covers it, or a
//!   [`NodeLeft`](ClusterAction::NodeLeft) without a goodbye. A node that joins or says goodbye is no loss by itself.
//!   The publications of a node that was never heard, and ended, are not reported.
//! - **Incarnations**: a restarted node is a new one. Messages of a dead incarnation are dropped. A node that was
//!   declared dead, as after a freeze or a partition, rejoins as a new incarnation and ends its requests.
//! - **Requests end** at their deadline with the answers that arrived, and name the nodes whose answers are missing. A
//!   node that is known to be dead is not waited for.
//! - **Bounds**: publishing never waits. The queue towards the engine, incomplete publications and pending requests
//!   have limits in [`ClusterConfig`].
//!
//! # Mechanism
//!
//! The frames of one incarnation on one channel are a stream. They are numbered from 1, and each carries the time since
//! its predecessor. A receiver drops numbers that it has seen, and reports numbers that it has not. The first frame
//! after a subscription has no known predecessor; the predecessor is missing only if, by its age, it may be younger
//! than the subscription. Ages are differences of one clock, so clocks need not agree; rates may differ by 1.5 %. A
//! lost frame without a successor is noticed by the heartbeats: when a stream becomes idle, its last number is listed
//! in four heartbeats in sequence. A receiver that misses more than four in sequence reports a gap of unknown size. The
//! goodbye lists the ends of all streams; frames that have not arrived one heartbeat interval later are lost.
//!
//! The ends that a new node lists in its first heartbeats cover all its publications, so its join is no loss. A node
//! that is first heard after more than four heartbeats, and later than a heartbeat interval after the receiver's own
//! start, is reported as a gap. A node that [is alone](Node::is_alone) may omit publications, and one that rejoins may
//! have been dead to others: its next four heartbeats tell how long ago that ended. Receivers whose first subscription
//! is older report a gap.
//!
//! A room is the channel of its name. The room of a socket id that is tagged with a node is on a channel of that node,
//! to which the node is always subscribed; see [`Channel::of`].
//!
//! # Outages
//!
//! An engine without memory delivers nothing to a node that has not subscribed again. After a node's subscriptions were
//! lost, its queue waits until all nodes that were alive before have returned, for at most
//! [`resume_delay`](ClusterConfig::resume_delay) from the return of the engine. A node's heartbeat follows its
//! subscriptions, so the queue reaches it. If the outage was so long that the others may have declared the node dead,
//! it first rejoins as a new incarnation, which they accept.
//!
//! # Publications to several rooms
//!
//! A publication to several rooms is sent on the channel of each, with one number. Engines have no order across
//! channels, so the first copy may precede an earlier publication on another channel. It waits until it, or a later
//! publication, has arrived on all its channels to which the receiver has a confirmed subscription. Each publication to
//! one room tells the number of the node's last publication to several rooms, so a lost copy delays only until the next
//! frame on its channel. The later publications of that node to the waiting rooms wait as well; other rooms do not.
//!
//! A wait ends after [`order_timeout`](ClusterConfig::order_timeout), or when memory runs short. It lasts that long if
//! a copy was lost at the end of its stream, or was published before the subscription to its channel. A frame that
//! would arrive out of order after that is dropped, and reported as a gap of its room. If only some of a publication's
//! rooms are concerned, the members of the others receive it: the rooms are added to [`Publication::except`].
//!
//! # Partitions
//!
//! Nodes on both sides of a partition continue to serve their clients, and deliver publications on their own side.
//! After [`node_timeout`](ClusterConfig::node_timeout) each side declares the other dead: its requests no longer wait
//! for those nodes. When the partition ends, each node that was declared dead by another rejoins as a new incarnation.
//! Publications to the other side are lost, and reported by `NodeLeft`, and by a gap after its next message. A shorter
//! partition is reported by gaps.
//!
//! # Several servers
//!
//! [`ShardedBackplane`] makes one engine of several independent servers: each channel is on one of them, and membership
//! and requests are on all. Servers are added and removed at run time.
//!
//! # Driving a node
//!
//! ```
//! use std::task::{Context, Waker};
//! use std::time::Instant;
//!
//! use roomcast_cluster::{Backplane, ClusterAction, Node};
//!
//! /// Runs when the engine's waker or the timer fires, and after local inputs. Returns the time of the next call.
//! fn drive(node: &mut Node, engine: &mut dyn Backplane, waker: &Waker, now: Instant) -> Option<Instant> {
//!     if node.poll_timeout().is_some_and(|at| at <= now) {
//!         node.handle_timeout(now);
//!     }
//!     node.exchange(engine, &mut Context::from_waker(waker), now);
//!     while let Some(action) = node.poll_action() {
//!         match action {
//!             ClusterAction::Deliver { publication, .. } => drop(publication), // to local members
//!             ClusterAction::Gap { .. } => {}                                   // to recovery
//!             _ => {}
//!         }
//!     }
//!     node.poll_timeout()
//! }
//! ```
//!
//! # Integration with servers
//!
//! `roomcast-cluster-runtime` drives a node on a tokio task, and connects it to a server by the traits
//! [`Cluster`](roomcast_core::Cluster) and [`ClusterHost`](roomcast_core::ClusterHost). Rules for any such driver:
//!
//! - **One task** owns the node and the engine, without a lock. Other threads encode publications and pass them through
//!   a bounded queue, so the engine's speed affects no handler.
//! - **Without other nodes** publishing is omitted: [`Node::is_alone`] is mirrored into an atomic, before a heartbeat
//!   is sent. With other nodes each broadcast is published, since engines do not reveal which nodes have members.
//! - **Interest**: rooms that get their first member or lose their last are passed through the same queue. Rooms named
//!   by this node's ids need no filter: they cost a hash look-up in the task, and no command.
//! - **A joining namespace** calls [`Node::add_interest`] and [`Node::await_join`], and accepts clients after
//!   [`Heard`](ClusterAction::Heard), at most [`join_timeout`](ClusterConfig::join_timeout) later.
//! - **Recovery**: a [`Gap`](ClusterAction::Gap) ends the recoverable range of its room, or of all. So does a
//!   `NodeLeft`, unless the node said goodbye.
//! - **Acknowledgements**: a broadcast with acknowledgements is a request. Each node answers with the number of its
//!   recipients, then with each acknowledgement; see [`Node::answer`].
//! - **Shutdown**: [`Node::leave`] after the sessions were stored; the task continues until
//!   [`Left`](ClusterAction::Left) and the engine's flush, for a limited time.
//!
//! # Memory
//!
//! A node keeps an entry for each subscribed channel (383 bytes) and each node that publishes on it (210 bytes for the
//! first, 312 for the second), one for each channel on which it has published within about five heartbeats (383 bytes),
//! and up to 1,024 dead nodes. The figures are for 10,000 rooms with names of 16 bytes on a 64-bit machine;
//! `tests/memory.rs` measures them at the allocator, with limits of 400, 220, 360 and 400 bytes. Publications that are
//! queued, incomplete or wait have limits in [`ClusterConfig`].

mod action;
mod backplane;
mod channel;
mod config;
mod envelope;
mod id;
mod metrics;
mod mutation;
mod node;
mod shards;

pub use action::{
    Asker, ClusterAction, ClusterRequest, JoinResult, JoinTicket, LeaveReason, MissingAnswer, MissingReason,
    Publication, PublishError, RequestId,
};
pub use backplane::{Backplane, BackplaneCommand, BackplaneEvent};
pub use channel::Channel;
pub use config::{ClusterConfig, QueueOverflow};
pub use envelope::{DecodeError, VERSION};
#[doc(hidden)]
pub use envelope::{check_message, wire};
pub use id::{Incarnation, NodeId, NodeRef, first_incarnation};
pub use metrics::ClusterMetrics;
#[cfg(feature = "mutations")]
#[doc(hidden)]
pub use mutation::Mutation;
pub use node::Node;
pub use roomcast_core::RequestTimes;
pub use shards::{Server, ServerMetrics, ServersError, ShardedBackplane, Shards, ShardsMetrics};
