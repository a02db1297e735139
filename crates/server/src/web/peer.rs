//! The other end of a connection

use std::net::SocketAddr;

use http::Extensions;

/// Where a client connects from
///
/// A server of one's own that mounts an [`Io`](crate::Io) puts it into the extensions of the request, if it knows. With the feature
/// `axum`, which is on by default, axum's `ConnectInfo<SocketAddr>` stands for it where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "programs that mount the server build it")]
pub struct Peer {
    /// Its address
    pub address: SocketAddr,
    /// Whether it came over TLS
    pub secure: bool,
}

impl Peer {
    /// Who is at the other end, if that is known: by this server, or by the one it is mounted in
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
