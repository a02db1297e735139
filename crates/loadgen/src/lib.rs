//! Load on a WebSocket or Socket.IO server, every delivery of which is checked.
//!
//! * [`tool`] is `roomcast bench`: load on any server, a live view, and a report.
//! * [`scenario`] is the same for scripts: one scenario, one line of JSON. The comparison with other servers
//!   (`compare/` in the repository) runs it.
//! * [`socket`], [`websocket`] and [`process`] are the parts beneath, which the bare servers of the comparison share.
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
mod latencies;
pub mod process;
mod report;
pub mod scenario;
pub mod socket;
mod tls;
pub mod tool;
pub mod websocket;

pub use error::{Doing, Error};
pub use report::{ChatReport, Faults, IdleReport, Report};
