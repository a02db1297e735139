//! State of a namespace: its router, its handlers, its answer numbers

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Once, PoisonError, RwLock, Weak};
use std::time::Duration;

use roomcast_core::{
    AckId, Args, Dispatched, Event, Namespace, Overflow, Receipt, Room, Router, ServerSide, Target,
};
use roomcast_recovery::Sequencer;

use crate::app::error::EmitError;
use crate::app::model::children::{self, Child};
use crate::app::model::event_input::Board;
use crate::app::model::outgoing_listeners::OutgoingListeners;
use crate::app::model::room_hooks::RoomHooks;
use crate::app::model::server_side_handlers::ServerSideHandlers;
use crate::host::budget::Budget;
use crate::host::config::Config;
use crate::host::pace;
use crate::session::recovery;

/// The namespaces that were made from one parent.
pub(crate) type Children = children::Children<NamespaceState>;

/// The parent of a namespace, and its occupants.
pub(crate) type Family = children::Family<NamespaceState>;

/// What the server keeps of a namespace
pub(crate) struct NamespaceState {
    pub(crate) name: Namespace,
    pub(crate) router: Arc<dyn Router>,
    /// The same router, when recovery is on
    pub(crate) sequencer: Option<Arc<Sequencer>>,
    pub(crate) board: Board,
    /// Shared with the namespaces made from the same parent, which emits to all of them under one number
    next_ack: Arc<AtomicU64>,
    serial: AtomicBool,
    max_attachments: usize,
    max_name_bytes: usize,
    has_room_overflow: AtomicBool,
    room_overflow: RwLock<HashMap<Room, Overflow>>,
    /// Set when those who want to know of it have been told
    pub(crate) announced: Once,
    /// Set when one of those panicked: what it was to register may be what keeps clients out, so none may join.
    sealed: AtomicBool,
    pub(crate) outgoing: OutgoingListeners,
    /// Where it belongs, if it was made when a client asked for it
    family: Option<Family>,
    /// [`Timeouts::stall_timeout`](crate::config::Timeouts::stall_timeout)
    pub(crate) stall_timeout: Duration,
    pub(crate) budget: Arc<Budget>,
    /// What is done when its rooms change
    pub(crate) room_hooks: Arc<RoomHooks>,
    /// Who listens to other servers
    pub(crate) servers: Arc<ServerSideHandlers>,
}

impl NamespaceState {
    pub(crate) fn new(
        name: Namespace,
        router: Arc<dyn Router>,
        config: &Config,
        budget: &Arc<Budget>,
    ) -> Self {
        let sequencer = recovery::sequencer(&router, config);
        let sequenced = sequencer.clone().map(|sequencer| sequencer as Arc<dyn Router>);
        Self { sequencer, ..Self::routed_by(name, sequenced.unwrap_or(router), config, budget) }
    }

    /// The parent of these; whatever has to be kept for clients that may come back, they keep
    pub(crate) fn parent(
        name: Namespace,
        children: Arc<Children>,
        config: &Config,
        budget: &Arc<Budget>,
    ) -> Self {
        Self::routed_by(name, children, config, budget)
    }

    fn routed_by(name: Namespace, router: Arc<dyn Router>, config: &Config, budget: &Arc<Budget>) -> Self {
        let servers: Arc<ServerSideHandlers> = Arc::default();
        let listener: Weak<dyn ServerSide> = Arc::<ServerSideHandlers>::downgrade(&servers);
        router.listen(listener);
        Self {
            room_hooks: RoomHooks::new(name.clone(), &router),
            servers,
            name,
            router,
            sequencer: None,
            board: Board::default(),
            next_ack: Arc::default(),
            serial: AtomicBool::new(false),
            max_attachments: config.limits.max_attachments,
            max_name_bytes: config.limits.max_name_bytes,
            has_room_overflow: AtomicBool::new(false),
            room_overflow: RwLock::default(),
            announced: Once::new(),
            sealed: AtomicBool::new(false),
            outgoing: OutgoingListeners::default(),
            family: None,
            budget: budget.clone(),
            stall_timeout: config.timeouts.stall_timeout,
        }
    }

    /// One that begins as its parent is now
    pub(crate) fn child(
        name: Namespace,
        router: Arc<dyn Router>,
        config: &Config,
        parent: &Self,
        family: Family,
    ) -> Self {
        // Cloned, since what follows calls the application.
        let told = parent.room_overflow.read().unwrap_or_else(PoisonError::into_inner).clone();
        let child = Self {
            board: parent.board.copy(),
            next_ack: parent.next_ack.clone(),
            serial: AtomicBool::new(parent.is_serial()),
            has_room_overflow: AtomicBool::new(!told.is_empty()),
            room_overflow: RwLock::new(told),
            family: Some(family),
            ..Self::new(name, router, config, &parent.budget)
        };
        child.room_hooks.copy_from(&parent.room_hooks);
        child.servers.copy_from(&parent.servers);
        child
    }

    /// Keeps all clients out from now on.
    pub(crate) fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// Returns whether no client may join, because a hook for it panicked.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Returns whether the name of a room is short enough to be joined.
    pub(crate) fn fits(&self, room: &Room) -> bool {
        room.as_str().len() <= self.max_name_bytes
    }

    /// Checks that clients accept the attachments of an event or an acknowledgement.
    ///
    /// The parsers of clients have a limit too, and close the connection if a packet has more.
    pub(crate) fn check_attachments(&self, args: &Args) -> Result<(), EmitError> {
        let (count, limit) = (args.attachments().len(), self.max_attachments);
        if count > limit { Err(EmitError::TooManyAttachments { count, limit }) } else { Ok(()) }
    }

    pub(crate) fn set_serial(&self, serial: bool) {
        self.serial.store(serial, Ordering::Relaxed);
    }

    /// Sets the overflow policy of a room, or forgets it.
    pub(crate) fn set_room_overflow(&self, room: Room, overflow: Overflow) {
        let mut rooms = self.room_overflow.write().unwrap_or_else(PoisonError::into_inner);
        if overflow == Overflow::Inherit {
            rooms.remove(&room);
        } else {
            rooms.insert(room, overflow);
        }
        self.has_room_overflow.store(!rooms.is_empty(), Ordering::Relaxed);
    }

    pub(crate) fn family(&self) -> Option<&Family> {
        self.family.as_ref()
    }

    /// Emits an event to every member the target names
    pub(crate) fn broadcast(&self, target: &Target, event: &Event) -> Receipt {
        pace::settle(self.dispatch(target, event), &event.name)
    }

    /// Queues an event for every member the target names; the caller settles
    pub(crate) fn dispatch(&self, target: &Target, event: &Event) -> Dispatched {
        if self.outgoing.is_used() {
            self.outgoing.tell(&*self.router, target, event);
        }
        let overflow = match target.overflow {
            Overflow::Inherit => self.overflow_of(&target.rooms),
            told => told,
        };
        if overflow == target.overflow {
            return self.router.broadcast(target, event);
        }
        self.router.broadcast(&Target { overflow, ..target.clone() }, event)
    }

    /// What the rooms of a target were told about full outboxes
    fn overflow_of(&self, rooms: &[Room]) -> Overflow {
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
}

impl Child for NamespaceState {
    fn name(&self) -> &Namespace {
        &self.name
    }

    fn router(&self) -> &dyn Router {
        &*self.router
    }

    fn dispatch(&self, target: &Target, event: &Event) -> Dispatched {
        self.dispatch(target, event)
    }
}

impl fmt::Debug for NamespaceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamespaceState").field("name", &self.name).finish_non_exhaustive()
    }
}
