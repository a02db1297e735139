//! HTTP headers, bodies and streams, independent of sessions and of the server API.

pub(crate) mod client_files;
pub(crate) mod compression;
pub(crate) mod cookie;
pub(crate) mod cors;
pub(crate) mod engine_error;
pub(crate) mod engine_query;
pub(crate) mod forwarded;
pub(crate) mod handshake;
pub(crate) mod handshake_json;
pub(crate) mod origin;
pub(crate) mod peer;
pub(crate) mod repeated_poll;
pub(crate) mod shared_stream;
pub(crate) mod stream;
#[cfg(feature = "tls")]
pub(crate) mod tls_stream;
pub(crate) mod upgrade;
