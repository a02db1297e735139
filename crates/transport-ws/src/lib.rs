//! WebSocket transport of Roomcast (RFC 6455): handshake, frame reader, zero-copy writes of shared frames.

mod connection;
mod deflate;
mod scratch;
mod sink;
mod stream;
mod transport;
mod wire;

pub mod close;
pub mod frame;
pub mod handshake;

pub use deflate::{Compressed, Compression};
pub use transport::WebSocket;
pub use wire::WsWire;
