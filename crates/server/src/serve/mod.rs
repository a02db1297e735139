//! Standalone server: listeners, threads, HTTP

pub(crate) mod accept;
pub(crate) mod admin;
mod bound;
pub(crate) mod descriptors;
pub(crate) mod drain;
pub(crate) mod exposition;
pub(crate) mod families;
mod http;
pub(crate) mod layer;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod proxy_protocol;
mod rules;
mod server;
#[cfg(feature = "tls")]
mod tls;

pub use self::bound::Bound;
pub use self::server::Server;
#[cfg(feature = "tls")]
pub use self::tls::{Tls, TlsError};
