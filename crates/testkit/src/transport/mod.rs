//! A transport without a network, and what any transport has to keep to

mod client;
pub mod conformance;
mod memory;
mod rig;

pub use client::{Oversized, Requests, TransportClient, TransportHarness};
pub use memory::{MemoryClient, MemoryTransport};
pub use rig::{End, Rig};
