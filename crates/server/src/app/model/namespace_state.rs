//! State of a namespace: router, handlers, and acknowledgement ids.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Once, PoisonError, RwLock};
use std::time::Duration;

use roomcast_core::{
    AckId, Args, Dispatched, Event, MemberKey, Membership, Namespace, Overflow, Published, Receipt, Room,
    Router, SocketId, Target,
};
use roomcast_recovery::Recovery;

use crate::app::error::EmitError;
use crate::app::model::children::{self, Child};
use crate::app::model::cluster_link::{ClusterHandle, ClusterLink};
use crate::app::model::event_input::HandlerRegistry;
use crate::app::model::outgoing_listeners::OutgoingListeners;
use crate::app::model::room_hooks::RoomHooks;
use crate::app::model::server_side_handlers::ServerSideHandlers;
use crate::app::model::socket::Socket;
use crate::host::budget::Budget;
use crate::host::config::Config;
use crate::host::pace;
use crate::session::recovery;

/// Child namespaces of one parent.
pub(crate) type Children = children::Children<NamespaceState>;

/// Parent of a namespace, and the number of its occupants.
pub(crate) type Family = children::Family<NamespaceState>;

/// State of a namespace.
pub(crate) struct NamespaceState {
    pub(crate) name: Namespace,
    /// Router of this node, with recovery around it if that is enabled.
    pub(crate) router: Arc<dyn Router>,
    /// The same router, if recovery is enabled.
    pub(crate) recovery: Option<Arc<dyn Recovery>>,
    pub(crate) registry: HandlerRegistry,
    /// Shared by the children of one parent, which emits to all of them with one acknowledgement id.
    next_ack: Arc<AtomicU64>,
    serial: AtomicBool,
    max_attachments: usize,
    max_name_bytes: usize,
    has_room_overflow: AtomicBool,
    room_overflow: RwLock<HashMap<Room, Overflow>>,
    /// Completed once the new-namespace hooks have run.
    pub(crate) announced: Once,
    /// Set when such a hook panicked: it may have failed to register a middleware, so no client may join.
    sealed: AtomicBool,
    pub(crate) outgoing: OutgoingListeners,
    /// Parent, if the namespace is dynamic.
    family: Option<Family>,
    /// Children, if the namespace is a parent.
    children: Option<Arc<Children>>,
    /// Other nodes.
    pub(crate) link: Arc<ClusterLink>,
    /// Value of [`Timeouts::stall_timeout`](crate::config::Timeouts::stall_timeout).
    pub(crate) stall_timeout: Duration,
    pub(crate) budget: Arc<Budget>,
    /// Hooks for room changes.
    pub(crate) room_hooks: Arc<RoomHooks>,
    /// Handlers of events from other servers.
    pub(crate) servers: ServerSideHandlers,
}

impl NamespaceState {
    pub(crate) fn new(
        name: Namespace,
        router: Arc<dyn Router>,
        config: &Config,
        budget: &Arc<Budget>,
        cluster: Option<ClusterHandle>,
    ) -> Self {
        let recovery = recovery::recovery(&name, &router, config);
        let recovering = recovery.clone().map(|recovery| recovery as Arc<dyn Router>);
        let link = Arc::new(ClusterLink::new(cluster));
        Self { recovery, ..Self::routed_by(name, recovering.unwrap_or(router), config, budget, link) }
    }

    /// Creates the state of a parent; its children retain the sessions of recoverable clients themselves.
    pub(crate) fn parent(
        name: Namespace,
        children: Arc<Children>,
        config: &Config,
        budget: &Arc<Budget>,
    ) -> Self {
        let link = Arc::default();
        Self { children: Some(children.clone()), ..Self::routed_by(name, children, config, budget, link) }
    }

    fn routed_by(
        name: Namespace,
        router: Arc<dyn Router>,
        config: &Config,
        budget: &Arc<Budget>,
        link: Arc<ClusterLink>,
    ) -> Self {
        Self {
            room_hooks: RoomHooks::new(name.clone(), &router, link.clone()),
            servers: ServerSideHandlers::default(),
            name,
            router,
            recovery: None,
            registry: HandlerRegistry::default(),
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
            children: None,
            link,
            budget: budget.clone(),
            stall_timeout: config.timeouts.stall_timeout,
        }
    }

    /// Creates a child with the current handlers and settings of its parent.
    pub(crate) fn child(
        name: Namespace,
        router: Arc<dyn Router>,
        config: &Config,
        parent: &Self,
        family: Family,
        cluster: Option<ClusterHandle>,
    ) -> Self {
        // Cloned, since the code below calls into the application.
        let told = parent.room_overflow.read().unwrap_or_else(PoisonError::into_inner).clone();
        let child = Self {
            registry: parent.registry.copy(),
            next_ack: parent.next_ack.clone(),
            serial: AtomicBool::new(parent.is_serial()),
            has_room_overflow: AtomicBool::new(!told.is_empty()),
            room_overflow: RwLock::new(told),
            family: Some(family),
            ..Self::new(name, router, config, &parent.budget, cluster)
        };
        child.room_hooks.copy_from(&parent.room_hooks);
        child.servers.copy_from(&parent.servers);
        child
    }

    /// Rejects all clients from now on.
    pub(crate) fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// Returns whether all clients are rejected because a new-namespace hook panicked.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Returns whether the name of a room is within the size limit.
    pub(crate) fn fits(&self, room: &Room) -> bool {
        room.as_str().len() <= self.max_name_bytes
    }

    /// Checks the number of attachments of an event or acknowledgement against the limit.
    ///
    /// Client parsers have a limit too, and close the connection if a packet exceeds it.
    pub(crate) fn check_attachments(&self, args: &Args) -> Result<(), EmitError> {
        let (count, limit) = (args.attachments().len(), self.max_attachments);
        if count > limit { Err(EmitError::TooManyAttachments { count, limit }) } else { Ok(()) }
    }

    pub(crate) fn set_serial(&self, serial: bool) {
        self.serial.store(serial, Ordering::Relaxed);
    }

    /// Sets or removes the overflow policy of a room.
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

    pub(crate) fn children(&self) -> Option<&Children> {
        self.children.as_deref()
    }

    /// Emits an event to every recipient of the target.
    pub(crate) fn broadcast(&self, target: &Target, event: &Event) -> Receipt {
        pace::settle(self.dispatch(target, event), &event.name)
    }

    /// Queues an event for every recipient of the target, and for the other nodes; the caller settles.
    ///
    /// An event that the cluster orders is delivered when it returns from there.
    pub(crate) fn dispatch(&self, target: &Target, event: &Event) -> Dispatched {
        if let Some(published) = self.order(target, event) {
            if published == Published::Accepted {
                let receipt = Receipt { published, ..Receipt::default() };
                return Dispatched { receipt, ..Dispatched::default() };
            }
            let mut dispatched = self.dispatch_here(target, event);
            dispatched.receipt.published += published;
            return dispatched;
        }
        let mut dispatched = self.dispatch_here(target, event);
        // With a request for acknowledgements, the caller asks them.
        if event.ack.is_none()
            && let Some(others) = self.link.others(target.scope)
        {
            dispatched.receipt.published += self.publish(others, target, event);
        }
        dispatched
    }

    /// Queues an event for every recipient on this node; the caller settles.
    pub(crate) fn dispatch_here(&self, target: &Target, event: &Event) -> Dispatched {
        if self.outgoing.is_used() {
            self.outgoing.notify(&*self.router, target, event);
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

    /// Returns the overflow policy of the first room that has one.
    fn overflow_of(&self, rooms: &[Room]) -> Overflow {
        if rooms.is_empty() || !self.has_room_overflow.load(Ordering::Relaxed) {
            return Overflow::Inherit;
        }
        let told = self.room_overflow.read().unwrap_or_else(PoisonError::into_inner);
        rooms.iter().find_map(|room| told.get(room)).copied().unwrap_or_default()
    }

    /// Returns the socket with this key, if it is attached to this node.
    pub(crate) fn attached(&self, key: MemberKey, id: &SocketId) -> Option<Socket> {
        let target = Target { rooms: vec![Room::from(id)], ..Target::default() };
        let found = self.router.find(&target).into_iter().find(|found| found.key == Some(key))?;
        Socket::from_control(found.control?)
    }

    pub(crate) fn is_serial(&self) -> bool {
        self.serial.load(Ordering::Relaxed)
    }

    /// Returns an acknowledgement id that is unique within the namespace.
    ///
    /// All sockets share one counter, so that a broadcast with acknowledgement is encoded once.
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

    fn update(&self, target: &Target, change: &Membership) -> usize {
        self.update(target, change)
    }

    fn disconnect(&self, target: &Target, close: bool) -> usize {
        self.disconnect(target, close)
    }
}

impl fmt::Debug for NamespaceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamespaceState").field("name", &self.name).finish_non_exhaustive()
    }
}
