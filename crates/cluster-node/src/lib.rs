//! Tokio task that connects a Roomcast server to a cluster of Node servers.

mod cluster;
mod config;
mod driver;
mod input;
mod metrics;
mod namespace;
mod shared;

pub use cluster::NodeCluster;
pub use config::NodeClusterConfig;
