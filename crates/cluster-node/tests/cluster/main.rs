//! Clusters of nodes on a broker in memory, in paused time.

#![allow(clippy::disallowed_methods, reason = "the tests measure paused time")]

#[path = "../../../cluster-runtime/tests/cluster/host.rs"]
#[allow(dead_code, reason = "each cluster uses a part")]
mod host;

mod broker;
mod frozen;
mod life_cycle;
mod outages;
mod queries;
mod rig;
mod sharded;
mod stream_log;
mod streams;
mod streams_outages;
mod traffic;
