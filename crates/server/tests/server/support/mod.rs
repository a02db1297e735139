//! Small clients of our own, and servers that end with their test

mod attachments;
pub mod client;
pub mod dial;
pub mod engine;
pub mod heard;
pub mod http;
mod json_mode;
pub mod linked;
pub mod logs;
pub mod serve;
mod socketio;
pub mod ws;

use std::time::Duration;

/// How long something may take that happens at once on a machine with nothing else to do
pub const PATIENCE: Duration = Duration::from_secs(30);
