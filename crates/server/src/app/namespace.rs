//! A namespace as an application sees it

use std::fmt;
use std::sync::Arc;

use roomcast_core::{Namespace, Overflow, Room, Router};

use crate::app::model::event_input::Board;
use crate::app::model::io::Io;
use crate::app::model::namespace_state::NamespaceState;
use crate::app::model::socket::Socket;

/// A namespace, for registering handlers and for emitting; cloning gives another handle
///
/// Handlers registered here hold for all its sockets and cost nothing per client; a [`Socket`](crate::Socket) can have
/// some of its own.
#[derive(Clone)]
pub struct NamespaceHandle {
    pub(crate) io: Io,
    pub(crate) state: Arc<NamespaceState>,
}

impl NamespaceHandle {
    /// Its name
    pub fn name(&self) -> &Namespace {
        &self.state.name
    }

    /// Whether an event of a socket waits until the handler of the one before it has ended
    ///
    /// Default: off. Handlers then start in the order of the events, but one that waits does not hold up the next.
    /// With it on, a handler must not wait for an event of its own client, which would come to nothing; waiting
    /// for an answer is fine.
    pub fn serial(&self, serial: bool) -> &Self {
        self.state.set_serial(serial);
        self
    }

    /// What happens to an event for this room that the full outbox of a member does not take
    ///
    /// Holds unless the emit says otherwise, and goes before what a socket was told. An event for several rooms
    /// goes by the first that was told anything. [`Overflow::Inherit`] forgets it.
    pub fn set_room_overflow(&self, room: impl Into<Room>, overflow: Overflow) -> &Self {
        self.state.set_room_overflow(room.into(), overflow);
        self
    }

    /// How many sockets are in a room on this node
    pub fn count(&self, room: impl Into<Room>) -> usize {
        self.state.router.count(&room.into())
    }

    /// How many clients are in the namespace on this node
    ///
    /// [`fetch_sockets`](Self::fetch_sockets) finds those of other nodes too, and [`Io::client_count`] counts the
    /// connections, whichever namespaces their clients are in.
    pub fn client_count(&self) -> usize {
        self.state.router.stats().members
    }

    /// The router of the namespace
    pub fn router(&self) -> &Arc<dyn Router> {
        &self.state.router
    }

    /// The server it belongs to
    pub fn io(&self) -> &Io {
        &self.io
    }

    pub(crate) fn board(&self) -> &Board {
        &self.state.board
    }
}

impl fmt::Debug for NamespaceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NamespaceHandle").field(&self.state.name).finish()
    }
}

impl Io {
    /// A namespace; it exists, and clients may join it, from the first time it is named here
    ///
    /// A name that does not begin with `/` is given one, as on Node. One that fits
    /// [`of_pattern`](Self::of_pattern) or [`of_matching`](Self::of_matching) begins with what is registered there.
    ///
    /// # Panics
    /// When the name has a comma, with which clients could not name it; [`try_of`](Self::try_of) does not. Inside the
    /// [router factory](crate::config::IoBuilder::router) of this very namespace.
    #[track_caller]
    pub fn of(&self, namespace: impl Into<Namespace>) -> NamespaceHandle {
        self.try_of(namespace).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The main namespace
    pub fn main(&self) -> NamespaceHandle {
        NamespaceHandle { io: self.clone(), state: self.app().main.clone() }
    }

    /// How many sockets are in a room of the main namespace on this node
    pub fn count(&self, room: impl Into<Room>) -> usize {
        self.main().count(room)
    }
}

impl Socket {
    /// The namespace it is in
    pub fn namespace(&self) -> NamespaceHandle {
        NamespaceHandle { io: self.io(), state: self.state().clone() }
    }
}
