//! One namespace: its router, its handlers, its answer numbers

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use roomcast_core::{AckId, IntoArgs, Namespace, Overflow, Receipt, Room, Router, Target};

use crate::ack::Answers;
use crate::emit::{Emit, IntoRooms};
use crate::error::EmitError;
use crate::handler::{AnyHandler, Handler, erase};
use crate::io::Io;

/// A namespace, for registering handlers and for emitting; cloning gives another handle
///
/// Handlers are registered for the namespace, not for each socket: they cost nothing per client. One that is
/// registered later takes the place of the one before it, for events that come from then on.
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

    /// Called when a client has joined the namespace, before any of its events
    #[doc = include_str!("../docs/handler.md")]
    pub fn on_connect<M: 'static>(&self, handler: impl Handler<M>) -> &Self {
        self.state.register(|handlers| handlers.connect = Some(erase(handler)));
        self
    }

    /// Called when a client is about to leave the namespace, while it is still in its rooms
    ///
    /// It may take [`CloseReason`](roomcast_core::CloseReason). Only what it does before its first wait finds the
    /// socket in its rooms.
    #[doc = include_str!("../docs/handler.md")]
    pub fn on_disconnecting<M: 'static>(&self, handler: impl Handler<M>) -> &Self {
        self.state.register(|handlers| handlers.disconnecting = Some(erase(handler)));
        self
    }

    /// Called when a client has left the namespace and all its rooms
    ///
    /// It may take [`CloseReason`](roomcast_core::CloseReason).
    #[doc = include_str!("../docs/handler.md")]
    pub fn on_disconnect<M: 'static>(&self, handler: impl Handler<M>) -> &Self {
        self.state.register(|handlers| handlers.disconnect = Some(erase(handler)));
        self
    }

    /// Called for each event of this name
    #[doc = include_str!("../docs/handler.md")]
    pub fn on<M: 'static>(&self, event: &str, handler: impl Handler<M>) -> &Self {
        self.state.register(|handlers| {
            handlers.events.insert(event.into(), erase(handler));
        });
        self
    }

    /// Called for each event that has no handler of its own
    ///
    /// [`EventName`](crate::EventName) tells which one it was.
    #[doc = include_str!("../docs/handler.md")]
    pub fn on_other<M: 'static>(&self, handler: impl Handler<M>) -> &Self {
        self.state.register(|handlers| handlers.other = Some(erase(handler)));
        self
    }

    /// Asked whether a client may join, before it has; several are asked in the order of their registration
    ///
    /// The first that fails refuses the client, which gets the message of its error, and the data if it is a
    /// [`ConnectError`](crate::ConnectError). It may take [`Auth`](crate::Auth) and the socket, which is in no
    /// room yet. Until all have answered, events of the client wait.
    #[doc = include_str!("../docs/handler.md")]
    pub fn middleware<M: 'static>(&self, middleware: impl Handler<M>) -> &Self {
        self.state.register(|handlers| handlers.middleware.push(erase(middleware)));
        self
    }

    /// Whether an event of a socket waits until the handler of the one before it has ended
    ///
    /// Default: off. Handlers then start in the order of the events, but one that waits does not hold up the next.
    /// With it on, a handler must not wait for an event of its own client, which would come to nothing; waiting
    /// for an answer is fine.
    pub fn serial(&self, serial: bool) -> &Self {
        self.state.serial.store(serial, Ordering::Relaxed);
        self
    }

    /// What happens to an event for this room that the full outbox of a member does not take
    ///
    /// Holds unless the emit says otherwise, and goes before what a socket was told. An event for several rooms
    /// goes by the first that was told anything. [`Overflow::Inherit`] forgets it.
    pub fn set_room_overflow(&self, room: impl Into<Room>, overflow: Overflow) -> &Self {
        let mut rooms = self.state.room_overflow.write().unwrap_or_else(PoisonError::into_inner);
        if overflow == Overflow::Inherit {
            rooms.remove(&room.into());
        } else {
            rooms.insert(room.into(), overflow);
        }
        self.state.has_room_overflow.store(!rooms.is_empty(), Ordering::Relaxed);
        self
    }

    /// Emits to everybody in the namespace
    ///
    /// # Errors
    /// See [`Emit::emit`].
    pub fn emit(&self, event: &str, args: impl IntoArgs) -> Result<Receipt, EmitError> {
        self.target().emit(event, args)
    }

    /// Emits to everybody in the namespace and collects their answers
    ///
    /// # Errors
    /// See [`Emit::emit_with_ack`].
    pub async fn emit_with_ack(&self, event: &str, args: impl IntoArgs) -> Result<Answers, EmitError> {
        self.target().emit_with_ack(event, args).await
    }

    #[doc = include_str!("../docs/to.md")]
    pub fn to(&self, rooms: impl IntoRooms) -> Emit {
        self.target().to(rooms)
    }

    #[doc = include_str!("../docs/to.md")]
    pub fn within(&self, rooms: impl IntoRooms) -> Emit {
        self.target().to(rooms)
    }

    #[doc = include_str!("../docs/except.md")]
    pub fn except(&self, rooms: impl IntoRooms) -> Emit {
        self.target().except(rooms)
    }

    /// Everybody in the namespace, for setting how it is emitted
    pub fn target(&self) -> Emit {
        Emit::new(self.state.clone(), Target::default())
    }

    /// How many sockets are in a room on this node
    pub fn count(&self, room: impl Into<Room>) -> usize {
        self.state.router.count(&room.into())
    }

    /// The router of the namespace
    pub fn router(&self) -> &Arc<dyn Router> {
        &self.state.router
    }

    /// The server it belongs to
    pub fn io(&self) -> &Io {
        &self.io
    }
}

impl fmt::Debug for NamespaceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NamespaceHandle").field(&self.state.name).finish()
    }
}

/// What the server keeps of a namespace
pub(crate) struct NamespaceState {
    pub(crate) name: Namespace,
    pub(crate) router: Arc<dyn Router>,
    handlers: RwLock<Handlers>,
    next_ack: AtomicU64,
    serial: AtomicBool,
    has_room_overflow: AtomicBool,
    room_overflow: RwLock<HashMap<Room, Overflow>>,
}

#[derive(Default)]
struct Handlers {
    middleware: Vec<AnyHandler>,
    connect: Option<AnyHandler>,
    disconnecting: Option<AnyHandler>,
    disconnect: Option<AnyHandler>,
    events: HashMap<Box<str>, AnyHandler>,
    other: Option<AnyHandler>,
}

impl NamespaceState {
    pub(crate) fn new(name: Namespace, router: Arc<dyn Router>) -> Self {
        Self {
            name,
            router,
            handlers: RwLock::default(),
            next_ack: AtomicU64::new(0),
            serial: AtomicBool::new(false),
            has_room_overflow: AtomicBool::new(false),
            room_overflow: RwLock::default(),
        }
    }

    pub(crate) fn middleware(&self) -> Vec<AnyHandler> {
        self.with_handlers(|handlers| handlers.middleware.clone())
    }

    pub(crate) fn connect_handler(&self) -> Option<AnyHandler> {
        self.with_handlers(|handlers| handlers.connect.clone())
    }

    pub(crate) fn disconnecting_handler(&self) -> Option<AnyHandler> {
        self.with_handlers(|handlers| handlers.disconnecting.clone())
    }

    pub(crate) fn disconnect_handler(&self) -> Option<AnyHandler> {
        self.with_handlers(|handlers| handlers.disconnect.clone())
    }

    pub(crate) fn event_handler(&self, name: &str) -> Option<AnyHandler> {
        self.with_handlers(|handlers| handlers.events.get(name).or(handlers.other.as_ref()).cloned())
    }

    /// What the rooms of a target were told about full outboxes
    pub(crate) fn overflow_of(&self, rooms: &[Room]) -> Overflow {
        if rooms.is_empty() || !self.has_room_overflow.load(Ordering::Relaxed) {
            return Overflow::Inherit;
        }
        let told = self.room_overflow.read().unwrap_or_else(PoisonError::into_inner);
        rooms.iter().find_map(|room| told.get(room)).copied().unwrap_or_default()
    }

    pub(crate) fn is_serial(&self) -> bool {
        self.serial.load(Ordering::Relaxed)
    }

    /// A number that no other event of this namespace that waits for answers has
    ///
    /// One counter for all sockets, so that an event that asks all of them is encoded once.
    pub(crate) fn next_ack(&self) -> AckId {
        AckId(self.next_ack.fetch_add(1, Ordering::Relaxed))
    }

    fn register(&self, change: impl FnOnce(&mut Handlers)) {
        change(&mut self.handlers.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn with_handlers<T>(&self, read: impl FnOnce(&Handlers) -> T) -> T {
        read(&self.handlers.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for NamespaceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamespaceState").field("name", &self.name).finish_non_exhaustive()
    }
}
