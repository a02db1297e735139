//! Load generator for WebSocket and Socket.IO servers that verifies every delivery.
//!
//! * [`tool`] implements `roomcast bench`: any server, a live view, and a report.
//! * [`scenario`] is for scripts: one scenario per run, one line of JSON. The comparison with other servers (`compare/`
//!   in the repository) runs it.
//! * [`capacity`] searches for the highest rate that a server sustains; both use it.
//! * [`environment`] and [`axis`] are the parts of reports that it shares with the comparison.
//! * [`socket`], [`websocket`] and [`process`] are building blocks shared with the bare servers of the comparison.
//!
//! It runs on one thread with epoll and no async runtime, to keep its own cost low. It requires Linux; on other systems
//! the crate is empty.

#![allow(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "used only by this repository's programs"
)]
#![cfg(target_os = "linux")]

pub mod axis;
pub mod capacity;
pub mod environment;
mod error;
mod format;
mod kernel;
mod latencies;
pub mod process;
mod report;
pub mod scenario;
pub mod socket;
mod tls;
pub mod tool;
pub mod websocket;

pub use error::{Error, ErrorContext};
pub use report::{
    ChatReport, ClusterReport, Failure, Faults, IdleReport, Invalid, KernelSource, OpenLoopReport, Report,
};
