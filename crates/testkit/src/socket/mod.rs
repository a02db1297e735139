//! Blocking clients on real sockets: HTTP, WebSocket, Engine.IO, Socket.IO, `roomcast.json` and plain WebSocket.
//!
//! Each call waits for at most [`PATIENCE`] and panics if the server sends something else. Tests that control single
//! bytes or the time of a read use [`wire`](crate::wire) instead.

mod attachments;
pub mod client;
pub mod dial;
pub mod engine;
pub mod http;
mod json_mode;
mod message;
mod socketio;
pub mod ws;

use std::time::Duration;

/// Time limit of operations that complete at once on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
