//! Connection state recovery: a router that numbers events, retains them for a while, and replays missed ones.
//!
//! [`Recovery`] is the trait that a server uses: a [`Router`](roomcast_core::Router) that also retains sessions.
//! [`Sequencer`] implements it in memory and wraps another router. Each event that passes through it gets a number,
//! which is sent as [`Event::offset`](roomcast_core::Event::offset), and is retained in a log bounded by time, count
//! and bytes. When a member disconnects, the server can [retain](Recovery::detach_and_retain) its session under a
//! recovery token. A client that returns in time with the token and its last offset [recovers](PendingRecovery::resume)
//! its id, rooms, data and missed events.
//!
//! Retained sessions and events are bounded, and each [owner](Owner) is limited to a share.
//!
//! [`StoredSessions`] wraps a recovery and stores its sessions in a [`SessionStore`] outside the process, as they
//! change. If the nodes of a cluster also share a [log of events](roomcast_core::EventLog), a session recovers on any
//! of them.
//!
//! The crate reads no clock; the server passes one in.

mod config;
mod log;
mod owner;
mod pending_recovery;
mod present;
mod recovery;
mod retained;
mod sequencer;
mod shared_log;
mod store;

pub use config::RecoveryConfig;
pub use owner::{Acting, Owner};
pub use pending_recovery::{Order, RecoveryError};
pub use recovery::{Claim, ClaimResult, Flushed, PendingRecovery, Recovery, SessionInit};
pub use retained::SharedData;
pub use sequencer::{Sequencer, Usage};
pub use store::{
    Batch, Claimed, Confirmed, Epoch, Fence, NodeId, SessionId, SessionQueue, SessionStore, SessionWrite,
    StoreConfig, StoreError, StoreStats, StoredSession, StoredSessions,
};
