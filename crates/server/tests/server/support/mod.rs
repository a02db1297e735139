//! Servers that end with their test, and recorders for their handlers; the clients are from the test kit.

pub mod cluster;
pub mod logs;
pub mod ordered;
pub mod recorder;
pub mod serve;

pub use roomcast_testkit::socket::{PATIENCE, client, dial, engine, http, ws};
