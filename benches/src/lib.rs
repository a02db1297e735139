//! Benchmarks: criterion in process and over loopback, bare epoll loops as the limit, and a load generator
//!
//! Three programs measure servers from the outside:
//!
//! * [`limit`] is the least a server can do on this kernel: one thread, one epoll, frames encoded once.
//! * [`loadgen`] puts load on a server, checks every single delivery, and charges the server's CPU to them.
//! * [`compare`] runs many servers under the same load in turn, and reports each as a ratio to the limit.

pub mod compare;
mod error;
pub mod limit;
pub mod loadgen;
mod process;
mod random;
mod report;
mod socket;
mod stats;
mod websocket;

pub use error::Error;
pub use report::{Faults, IdleReport, Report};
