//! Peer of a connection

use std::net::SocketAddr;

use http::Extensions;

/// Peer address of a client's connection.
///
/// A custom server that mounts an [`Io`](crate::Io) inserts it into the request's extensions. With the feature `axum`,
/// which is on by default, axum's `ConnectInfo<SocketAddr>` is the fallback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "programs that mount the server build it")]
pub struct Peer {
    /// Socket address
    pub address: SocketAddr,
    /// Whether it used TLS
    pub secure: bool,
}

impl Peer {
    /// Returns the peer, if this server or the outer one provided it.
    pub(crate) fn of(extensions: &Extensions) -> Option<Self> {
        let known = extensions.get().copied();
        #[cfg(feature = "axum")]
        let known = known.or_else(|| {
            let axum::extract::ConnectInfo(address) =
                *extensions.get::<axum::extract::ConnectInfo<SocketAddr>>()?;
            Some(Self { address, secure: false })
        });
        known
    }
}
