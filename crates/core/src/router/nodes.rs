//! What the servers of a cluster say to each other on behalf of the application

use async_trait::async_trait;
use bytestring::ByteString;

use crate::Args;

/// Takes what applications on other nodes emit to the servers of a namespace
///
/// Handed to a router by [`Router::listen`](crate::Router::listen).
#[async_trait]
pub trait ServerSide: Send + Sync + 'static {
    /// An application on another node emitted this; gives the answer for whoever asked for one
    ///
    /// `None` if this server does not handle such an event, or its handler failed: then there is nothing to tell.
    ///
    /// Cancel safe in that the router may give up waiting; the handler is then dropped where it waits.
    async fn server_side(&self, name: &ByteString, args: Args) -> Option<Args>;
}
