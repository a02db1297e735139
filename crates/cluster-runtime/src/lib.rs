//! Tokio task that connects a Roomcast server to the other nodes of its cluster, over any message engine.

mod body;
mod clock;
mod config;
mod connection;
mod driver;
mod inlet;
mod metrics;
mod namespace;
mod remote;
mod reply;
mod shared;

#[doc(hidden)]
pub use body::check_body;
pub use config::ConnectionConfig;
pub use connection::ClusterConnection;
