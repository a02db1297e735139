//! Queries and commands that a router relays to a member.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytestring::ByteString;

use crate::{AckTable, Member, MemberKey, Room, SocketId};

/// Queries and commands, besides sending, that a router relays to a member.
///
/// Given to the router with the [`Member`](crate::Member), and held until the member is detached. A router of a cluster
/// makes one for each socket of another node, from the data that it received. Called under no lock; must not block.
pub trait MemberControl: Any + Send + Sync + fmt::Debug {
    /// Returns the member if the control holds it, so that a router need not keep a copy. Default: none.
    ///
    /// Must return the same member each time, or none each time: the member that is attached with this control, except
    /// that its `control` may be `None`. Called under any lock.
    fn member(&self) -> Option<&Member> {
        None
    }

    /// Returns the pending acknowledgements of a member [without a table](Member::acks). Default: none.
    ///
    /// Must return the same table each time, which the first call may make, until the member is detached; then it may
    /// return a [closed](AckTable::closed) one. Called under any lock.
    fn acks(&self) -> Option<&AckTable> {
        None
    }

    /// Returns the handshake of its session as a JSON object, in the form that nodes of a cluster exchange.
    ///
    /// The fields match Node's `socket.handshake`: `headers`, `time`, `address`, `xdomain`, `secure`, `issued`
    /// in milliseconds, `url`, `query`, `auth`.
    fn handshake(&self) -> ByteString;

    /// Returns the application's data of the member as JSON text; empty if none was ever set.
    ///
    /// An empty object that was set is `{}`. Where JSON is required, unset data is also sent as `{}`, as on Node.
    fn data(&self) -> ByteString;

    /// Returns the events of the client that were handled, for a repeat of one on another node; empty if none are
    /// known. Default: none.
    fn handled_events(&self) -> ByteString {
        ByteString::new()
    }

    /// Disconnects the member from its namespace and notifies its client; with `close`, also closes the client's
    /// connection.
    ///
    /// A member of this node is detached from its router before this returns, so it must be called under no lock that
    /// the router takes.
    fn disconnect(&self, close: bool);

    /// Ends the member because its session continues on another node: its connection is closed, and the application's
    /// disconnect handlers do not run. Default: disconnects it.
    fn displace(&self) {
        self.disconnect(true);
    }

    /// Completes once the client's outbox has room for a sender to continue, or waiting is pointless.
    ///
    /// See [`Outbox::poll_writable`](crate::Outbox::poll_writable). Default: always ready, as for a member of another
    /// node.
    fn poll_writable(&self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Returns the maximum number of rooms for the member, its own not counted. Routers reject further joins.
    ///
    /// Must return the same value each time. Default: no limit.
    fn max_rooms(&self) -> usize {
        usize::MAX
    }

    /// Records that a limit of the member prevented a join or an event: once for each room and each event.
    ///
    /// An enclosing router may hold its own lock meanwhile, so this must not call the router. Default: does
    /// nothing.
    fn limited(&self, _limit: MemberLimit) {}
}

/// Limit of one member, enforced by a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemberLimit {
    /// Number of rooms: [`MemberControl::max_rooms`].
    Rooms,
    /// Number of pending acknowledgements: [`AckTable::with_limit`](crate::AckTable::with_limit).
    Answers,
}

/// Snapshot of a socket that a query found.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "routers build it")]
pub struct SocketInfo {
    /// Key that is unique on this node; `None` for a socket of another node.
    pub key: Option<MemberKey>,
    /// Public id.
    pub id: SocketId,
    /// Rooms of the socket, its own first.
    pub rooms: Vec<Room>,
    /// Further queries and commands; `None` if its member has no control.
    pub control: Option<Arc<dyn MemberControl>>,
}
