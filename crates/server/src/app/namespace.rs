//! Handle to a namespace.

use std::fmt;
use std::sync::Arc;

use roomcast_core::{Namespace, Overflow, Room, Router};

use crate::app::model::event_input::HandlerRegistry;
use crate::app::model::io::Io;
use crate::app::model::namespace_state::NamespaceState;
use crate::app::model::socket::Socket;

/// Handle to a namespace, to register handlers and to emit; clones refer to the same namespace.
///
/// Handlers registered here serve all sockets of the namespace and need no memory per client. A
/// [`Socket`](crate::Socket) may have additional handlers.
#[derive(Clone)]
pub struct NamespaceHandle {
    pub(crate) io: Io,
    pub(crate) state: Arc<NamespaceState>,
}

impl NamespaceHandle {
    /// Returns the name.
    pub fn name(&self) -> &Namespace {
        &self.state.name
    }

    /// Sets whether the events of a socket are handled one at a time, each after the handlers of the previous one.
    ///
    /// Default: off. Handlers then start in the order of the events, but a pending handler does not delay the next
    /// event. With serial handling, a handler must not wait for another event of the same client: it would never arrive.
    /// Waiting for an acknowledgement is fine.
    pub fn serial(&self, serial: bool) -> &Self {
        self.state.set_serial(serial);
        self
    }

    /// Sets the overflow policy of a room: the fate of an event that does not fit a member's outbox.
    ///
    /// A policy set per emit takes precedence; the room's policy takes precedence over the socket's. For an event to
    /// several rooms, the first room with a policy decides. [`Overflow::Inherit`] removes the policy.
    pub fn set_room_overflow(&self, room: impl Into<Room>, overflow: Overflow) -> &Self {
        self.state.set_room_overflow(room.into(), overflow);
        self
    }

    /// Returns the number of sockets in a room on this node.
    pub fn count(&self, room: impl Into<Room>) -> usize {
        self.state.router.count(&room.into())
    }

    /// Returns the number of clients in the namespace on this node.
    ///
    /// [`fetch_sockets`](Self::fetch_sockets) includes sockets of other nodes. [`Io::client_count`] counts connected
    /// clients across all namespaces.
    pub fn client_count(&self) -> usize {
        self.state.router.stats().members
    }

    /// Returns the router of the namespace.
    pub fn router(&self) -> &Arc<dyn Router> {
        &self.state.router
    }

    /// Returns the server.
    pub fn io(&self) -> &Io {
        &self.io
    }

    pub(crate) fn registry(&self) -> &HandlerRegistry {
        &self.state.registry
    }
}

impl fmt::Debug for NamespaceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NamespaceHandle").field(&self.state.name).finish()
    }
}

impl Io {
    /// Returns the namespace of this name and creates it if needed; clients can connect to it from then on.
    ///
    /// A leading `/` is added if missing, as on Node. A new namespace that matches [`of_pattern`](Self::of_pattern) or
    /// [`of_matching`](Self::of_matching) starts with the handlers of that parent.
    ///
    /// # Panics
    /// Panics if the name contains a comma, since clients could not connect to it; [`try_of`](Self::try_of) returns an
    /// error instead. Panics inside the [router factory](crate::config::IoBuilder::router) of the same namespace.
    #[track_caller]
    pub fn of(&self, namespace: impl Into<Namespace>) -> NamespaceHandle {
        self.try_of(namespace).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Returns the main namespace, `/`.
    pub fn main(&self) -> NamespaceHandle {
        NamespaceHandle { io: self.clone(), state: self.app().main.clone() }
    }

    /// Returns the number of sockets in a room of the main namespace on this node.
    pub fn count(&self, room: impl Into<Room>) -> usize {
        self.main().count(room)
    }
}

impl Socket {
    /// Returns the namespace of the socket.
    pub fn namespace(&self) -> NamespaceHandle {
        NamespaceHandle { io: self.io(), state: self.state().clone() }
    }
}
