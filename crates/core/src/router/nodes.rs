//! Events between the servers of a cluster.

use async_trait::async_trait;
use bytestring::ByteString;

use crate::Args;

/// Handler of events that other nodes emit to the servers of a namespace.
///
/// Registered with a router by [`Router::listen`](crate::Router::listen).
#[async_trait]
pub trait ServerSide: Send + Sync + 'static {
    /// Handles an event from another node, and returns the acknowledgement if one was requested.
    ///
    /// Returns `None` if this server has no handler for the event, or its handler failed; no answer is sent then.
    ///
    /// # Cancel safety
    /// The router may drop the future when it stops waiting. The handler is then dropped at its current await point.
    async fn server_side(&self, name: &ByteString, args: Args) -> Option<Args>;
}
