//! Servers that end with their test, and what their handlers report; the clients are those of the test kit

pub mod heard;
pub mod linked;
pub mod logs;
pub mod serve;

pub use roomcast_testkit::socket::{PATIENCE, client, dial, engine, http, ws};
