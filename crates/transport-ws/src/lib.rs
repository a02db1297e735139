//! The WebSocket transport of Roomcast (RFC 6455): handshake, frame reader, shared frames written as they are

pub mod close;
pub mod frame;
pub mod handshake;
