//! Connection state recovery: a router that numbers events, keeps them for a while, and replays what a client missed
//!
//! [`Sequencer`] is a [`Router`](roomcast_core::Router) around another one. Every event that goes through it gets a
//! number, which is sent along as [`Event::offset`](roomcast_core::Event::offset), and stays in a log that is bounded
//! by time, count and bytes. A member that goes away can be [kept](Sequencer::keep) under a secret of its own; whoever
//! shows the secret in time, and says which event it had last, [gets back](Claim::resume) its id, its rooms, its data
//! and the events it missed.
//!
//! What is kept is bounded, and no [owner](Owner) holds more than a share of it.
//!
//! It reads no clock of its own: it is given one.

mod claim;
mod config;
mod kept;
mod log;
mod owner;
mod sequencer;

pub use claim::{Claim, Order, Refused};
pub use config::RecoveryConfig;
pub use kept::{Kept, SharedData};
pub use owner::{Acting, Owner};
pub use sequencer::{Sequencer, Usage};
