//! Namespace of a server, as its cluster connection sees it.

use std::sync::Arc;

use async_trait::async_trait;
use bytestring::ByteString;

use crate::{AnswerSink, Args, Event, Membership, PresenceUpdate, Room, SocketInfo, Target};

/// Namespace of a server, as its [`Cluster`](crate::Cluster) sees it: the receiver of what other nodes send.
///
/// The methods act on this node only, and do not block unless they are async. They are called on any thread, under no
/// lock; publications of one node to one room are passed in order, by one thread at a time.
#[async_trait]
pub trait ClusterHost: Send + Sync + 'static {
    /// Delivers an event of another node to local members; returns for how many it was queued.
    ///
    /// A cluster that [orders events](crate::ClusterNamespace#ordered-events) also passes the events of this node.
    ///
    /// Overflow policies of rooms, outgoing listeners and recovery apply as to local events.
    fn deliver(&self, target: &Target, event: &Event) -> usize;

    /// Delivers an event and requests acknowledgements; all recipients are announced to `answers` before it returns.
    ///
    /// Recipients hold `answers` weakly, so dropping it withdraws the request.
    fn deliver_with_ack(&self, target: &Target, event: Event, answers: Arc<dyn AnswerSink>);

    /// Changes the rooms of matching members.
    fn update(&self, target: &Target, change: &Membership);

    /// Disconnects matching members; with `close`, also closes their clients' connections.
    fn disconnect(&self, target: &Target, close: bool);

    /// Returns the matching sockets.
    fn find(&self, target: &Target) -> Vec<SocketInfo>;

    /// Returns the number of matching sockets.
    fn count(&self, target: &Target) -> usize;

    /// Handles an event for servers, and returns the acknowledgement if one was requested.
    ///
    /// Returns `None` if this server has no handler for the event, or its handler failed; no answer is sent then.
    ///
    /// # Cancel safety
    /// The cluster may drop the future when it stops waiting. The handler is then dropped at its current await point.
    async fn server_side(&self, name: &ByteString, args: Args) -> Option<Args>;

    /// Notes that events of other nodes to a room, or to the whole namespace, were or may have been lost.
    fn missed(&self, room: Option<&Room>);

    /// Takes news of the members of a room on other nodes; returns how many clients were notified.
    ///
    /// See [`ClusterPresence`](crate::ClusterPresence). Default: ignores them.
    fn presence(&self, _room: &Room, _update: PresenceUpdate) -> usize {
        0
    }
}
