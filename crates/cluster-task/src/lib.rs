//! Parts of the tokio tasks that connect a Roomcast server to a cluster, in any format.
//!
//! `roomcast-cluster-runtime` and `roomcast-cluster-node` drive the state machines of two formats with them. A task is
//! a future that owns its state machine and its engine without a lock; each poll is one turn of limited work:
//!
//! - [`Inlet`]: queue of inputs from other threads, bounded in bytes together with the queue towards the engine.
//! - [`reply`]: answers of other nodes on their way to the future that waits for them, bounded in bytes.
//! - [`AckSinks`]: acknowledgements that other nodes have requested.
//! - [`Handlers`]: running handlers of events for servers.
//! - [`RemoteSocket`]: handle of a socket on another node.
//! - [`HostGuard`]: calls of the server, whose panics are counted.
//! - [`Status`] and [`EngineMetrics`]: what the server learns of the connection and the engine.
//! - [`Timer`] and [`clock`]: time.

pub mod clock;
mod engine_metrics;
mod guard;
mod handlers;
mod inlet;
mod remote;
pub mod reply;
mod sinks;
mod spawn;
mod status;
mod timer;

pub use engine_metrics::EngineMetrics;
pub use guard::HostGuard;
pub use handlers::Handlers;
pub use inlet::Inlet;
pub use remote::RemoteSocket;
pub use sinks::{AckSinks, SinkAnswer};
pub use spawn::spawn_thread;
pub use status::Status;
pub use timer::Timer;
