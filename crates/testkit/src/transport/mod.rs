//! In-memory transport, and the conformance suite for transports.

mod client;
pub mod conformance;
mod memory;
mod rig;

pub use client::{Oversized, Requests, TransportClient, TransportHarness};
pub use memory::{MemoryClient, MemoryTransport};
pub use rig::{End, Rig};
