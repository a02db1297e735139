//! Connection state recovery: a router that numbers events, retains them for a while, and replays missed ones.
//!
//! [`Sequencer`] is a [`Router`](roomcast_core::Router) that wraps another one. Each event that passes through it gets
//! a number, which is sent as [`Event::offset`](roomcast_core::Event::offset), and is retained in a log bounded by
//! time, count and bytes. When a member disconnects, the server can [retain](Sequencer::detach_and_retain) its session under a
//! recovery token. A client that returns in time with the token and its last offset [recovers](PendingRecovery::resume) its id,
//! rooms, data and missed events.
//!
//! Retained sessions and events are bounded, and each [owner](Owner) is limited to a share.
//!
//! The crate reads no clock; the server passes one in.

mod config;
mod log;
mod owner;
mod pending_recovery;
mod retained;
mod sequencer;

pub use config::RecoveryConfig;
pub use owner::{Acting, Owner};
pub use pending_recovery::{Order, PendingRecovery, RecoveryError};
pub use retained::{RetainedSession, SharedData};
pub use sequencer::{Sequencer, Usage};
