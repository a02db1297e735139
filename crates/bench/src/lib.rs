//! Load on a WebSocket or Socket.IO server, every delivery of which is checked
//!
//! * [`tool`] is `roomcast bench`: load on any server, a live view, and a report.
//! * [`loadgen`] is the same for scripts: one scenario, one line of JSON.
//! * [`limit`] is the least a server can do on this kernel: one thread, one epoll, frames encoded once. What others
//!   cost is told as a ratio to it.
//!
//! One thread, epoll, and no runtime, so that the generator costs as little as can be; so it needs Linux, and the crate
//! is empty elsewhere.

#![allow(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "only the programs of this repository use it"
)]
#![cfg(target_os = "linux")]

mod error;
pub mod limit;
pub mod loadgen;
pub mod process;
pub mod random;
mod report;
mod socket;
pub mod stats;
mod tls;
pub mod tool;
mod websocket;

pub use error::{Doing, Error};
pub use report::{ChatReport, Faults, IdleReport, Report};
