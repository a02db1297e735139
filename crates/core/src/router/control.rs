//! What can be asked of a socket, and done to it, by whoever knows only its name

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytestring::ByteString;

use crate::{MemberKey, Room, SocketId};

/// What a router can ask of a member, and do to it, besides sending
///
/// Given to the router with the [`Member`](crate::Member), and held until it is detached. A router that speaks for
/// other nodes makes one for each socket it has heard of, out of what it was told. Called under no lock; must not
/// block.
pub trait MemberControl: Any + Send + Sync + fmt::Debug {
    /// The request that its session began with, as the JSON object that the servers of a cluster tell each other
    ///
    /// Its fields are those of Node's `socket.handshake`: `headers`, `time`, `address`, `xdomain`, `secure`, `issued`
    /// in milliseconds, `url`, `query`, `auth`.
    fn handshake(&self) -> ByteString;

    /// What the application keeps with it, as JSON text; empty if it never kept anything
    ///
    /// An empty object that was kept is `{}`. Where JSON is needed, nothing is told as `{}`, as on Node.
    fn data(&self) -> ByteString;

    /// Takes it out of its namespace and tells its client; with `close` ends the client's connection
    ///
    /// A member of this node is detached from its router when this returns. So it must be called under no lock that
    /// the router takes.
    fn disconnect(&self, close: bool);

    /// Ready once little enough waits for its client for a sender to go on, or waiting is pointless.
    ///
    /// See [`Outbox::poll_writable`](crate::Outbox::poll_writable). Default: always ready, as for a member of another node.
    fn poll_writable(&self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Rooms it may be in at once, that of its own id not counted; no router puts it into more
    ///
    /// The same each time. Default: no limit.
    fn max_rooms(&self) -> usize {
        usize::MAX
    }

    /// Something was not done with it because of a limit of its own: once for each room it was not put into, and
    /// for each event it was not sent
    ///
    /// A router around another may hold a lock of its own meanwhile, so this must not call the router. Default: nobody
    /// wants to know.
    fn limited(&self, _limit: MemberLimit) {}
}

/// A limit of one member that a router keeps
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemberLimit {
    /// It is in as many rooms as it may be: [`MemberControl::max_rooms`]
    Rooms,
    /// It owes as many answers as it may: [`AckTable::with_limit`](crate::AckTable::with_limit)
    Answers,
}

/// A socket that was asked for, as it was then
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "routers build it")]
pub struct Found {
    /// What tells it from every other member of this node; none if it is on another node
    pub key: Option<MemberKey>,
    /// Its public id
    pub id: SocketId,
    /// Its rooms, its own first
    pub rooms: Vec<Room>,
    /// More about it; none if its member came without
    pub control: Option<Arc<dyn MemberControl>>,
}
