//! Several nodes of Roomcast as one: a state machine without I/O, and the trait of its message engines.
//!
//! [`Node`] is the state machine of one node. [`Backplane`] is the trait that connects it to a message engine.

mod action;
mod backplane;
mod channel;
mod config;
mod envelope;
mod id;
mod metrics;
mod mutation;
mod node;

pub use action::{
    Asker, ClusterAction, ClusterRequest, JoinResult, JoinTicket, LeaveReason, MissingAnswer, MissingReason,
    Publication, PublishError, RequestId,
};
pub use backplane::{Backplane, BackplaneCommand, BackplaneEvent};
pub use channel::Channel;
pub use config::{ClusterConfig, QueueOverflow};
#[doc(hidden)]
pub use envelope::check_message;
pub use envelope::{DecodeError, VERSION};
pub use id::{Incarnation, NodeId, NodeRef};
pub use metrics::{ClusterMetrics, RequestTimes};
#[cfg(feature = "mutations")]
#[doc(hidden)]
pub use mutation::Mutation;
pub use node::Node;
