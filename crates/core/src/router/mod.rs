//! Router of a namespace: its members, their rooms, and the delivery of events.

mod control;
mod watch;

use std::fmt;
use std::ops::{Add, AddAssign};
use std::sync::Arc;

pub use self::control::{MemberControl, MemberLimit, SocketInfo};
pub use self::watch::{ChangeQueue, PresentMember, RoomChange, RoomWatcher, WatchFilter};
use crate::{
    AckTable, Backlog, Codec, Delivery, Event, MemberKey, Outbox, Overflow, Published, Room, SocketId,
};

/// Members and rooms of one namespace on this node, and delivery of events to them.
///
/// An adapter of Node corresponds to this and a [`Cluster`](crate::Cluster), which knows the other nodes. For each socket
/// the server calls [`attach`](Self::attach), any number of the other methods on any threads, and
/// [`detach`](Self::detach) once.
///
/// No method blocks. Handlers and watchers call them, so a router must not hold its own lock while it calls a
/// [`MemberControl`] or a [`RoomWatcher`]. Events that one task emits in sequence reach every common recipient in that
/// order. A broadcast only queues: its result names the outboxes that the caller has to
/// [flush](Dispatched::flush_backlog).
///
/// `roomcast_testkit::router_conformance!` checks these rules. A custom router usually wraps another, such as
/// `roomcast_rooms::Rooms`.
///
/// # Examples
///
/// A router that counts broadcasts and delegates the rest to the router inside:
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// use roomcast_core::{
///     Args, Delivery, Dispatched, Event, JoinOutcome, Member, MemberKey, Membership, Namespace, Overflow, Room,
///     RoomWatcher, Router, SocketInfo, Target, WatchFilter,
/// };
///
/// #[derive(Debug, Default)]
/// struct Counting<R>(R, AtomicUsize);
///
/// #[rustfmt::skip]
/// impl<R: Router> Router for Counting<R> {
///     fn broadcast(&self, target: &Target, event: &Event) -> Dispatched {
///         self.1.fetch_add(1, Ordering::Relaxed);
///         self.0.broadcast(target, event)
///     }
///
///     fn attach(&self, member: Member) -> MemberKey { self.0.attach(member) }
///     fn detach(&self, key: MemberKey) -> bool { self.0.detach(key) }
///     fn join(&self, key: MemberKey, room: &Room) -> JoinOutcome { self.0.join(key, room) }
///     fn leave(&self, key: MemberKey, room: &Room) -> bool { self.0.leave(key, room) }
///     fn rooms_of(&self, key: MemberKey) -> Vec<Room> { self.0.rooms_of(key) }
///     fn count(&self, room: &Room) -> usize { self.0.count(room) }
///     fn send(&self, to: &Member, how: Delivery, full: Overflow, event: &mut Event) -> Dispatched {
///         self.0.send(to, how, full, event)
///     }
///     fn update(&self, target: &Target, change: &Membership) -> usize { self.0.update(target, change) }
///     fn find(&self, target: &Target) -> Vec<SocketInfo> { self.0.find(target) }
///     fn disconnect(&self, target: &Target, close: bool) -> usize { self.0.disconnect(target, close) }
///     fn watch(&self, watcher: Arc<dyn RoomWatcher>, filter: WatchFilter) { self.0.watch(watcher, filter) }
///     fn survey(&self) { self.0.survey() }
/// }
///
/// let router = Counting(roomcast_testkit::MemoryRouter::default(), AtomicUsize::new(0));
/// let event = Event::new(Namespace::main(), "hello", Args::empty());
/// assert_eq!(router.broadcast(&Target::default(), &event).flush_backlog().queued, 0);
/// assert_eq!(router.1.into_inner(), 1);
/// ```
pub trait Router: Send + Sync + fmt::Debug + 'static {
    /// Attaches a member and returns its [key](Member::key).
    ///
    /// The member starts in no room except the one named by its own id. Its key must not be attached already. The key
    /// is valid before any other code can see the member: a [`RoomWatcher`] notified by this call, or another thread
    /// that finds the member, may join it to rooms or detach it. If a member with the same id is still attached, it
    /// keeps its rooms until it is detached by its own key, but the id now names the new member.
    fn attach(&self, member: Member) -> MemberKey;

    /// Detaches a member from every room; returns `false` if it was detached already.
    ///
    /// After this returns, no new broadcast reaches the member and no count includes it.
    fn detach(&self, key: MemberKey) -> bool;

    /// Adds a member to a room, and creates the room if it does not exist.
    ///
    /// At the member's [limit of rooms](MemberControl::max_rooms) the join is rejected and the member's control is
    /// notified. Concurrent joins do not exceed the limit.
    fn join(&self, key: MemberKey, room: &Room) -> JoinOutcome;

    /// Removes a member from a room; returns `false` if it was not in it.
    fn leave(&self, key: MemberKey, room: &Room) -> bool;

    /// Returns the rooms of a member, its own first.
    fn rooms_of(&self, key: MemberKey) -> Vec<Room>;

    /// Returns the number of members in a room on this node; the room of a socket's id has one.
    fn count(&self, room: &Room) -> usize;

    /// Queues an event once for every member that matches the target.
    ///
    /// Writes nothing. The caller flushes the backlog of the result once it holds none of its locks.
    fn broadcast(&self, target: &Target, event: &Event) -> Dispatched;

    /// Queues an event for one member.
    ///
    /// The member is the only recipient, so the arguments may be moved out of the event. As for
    /// [`broadcast`](Self::broadcast), the caller flushes the backlog.
    fn send(&self, member: &Member, delivery: Delivery, overflow: Overflow, event: &mut Event) -> Dispatched;

    /// Changes the rooms of all members that match the target; returns how many members on this node changed.
    ///
    /// A member at its limit of rooms stays as it is, as with [`join`](Self::join). The target's delivery and overflow
    /// policy are ignored.
    fn update(&self, target: &Target, change: &Membership) -> usize;

    /// Returns the numbers of members and rooms on this node, for monitoring.
    ///
    /// Default: zeros.
    fn stats(&self) -> RouterStats {
        RouterStats::default()
    }

    /// Returns the sockets on this node that match the target.
    fn find(&self, target: &Target) -> Vec<SocketInfo>;

    /// Disconnects all members that match the target; returns how many on this node were notified.
    ///
    /// Calls [`MemberControl::disconnect`] under no lock, since the controls detach their members before they return.
    /// The target's delivery and overflow policy are ignored.
    fn disconnect(&self, target: &Target, close: bool) -> usize;

    /// Adds a watcher of room changes on this node.
    ///
    /// Costs nothing until the first call. Existing rooms and members are not reported as created or joined, but all
    /// later changes are, as far as the filter allows. The room of a member's own id is created and joined when the
    /// member is attached, and left and deleted when it is detached. A watcher is never removed.
    fn watch(&self, watcher: Arc<dyn RoomWatcher>, filter: WatchFilter);

    /// Reports the members of each room to the watchers of members, as [`RoomChange::Present`](crate::RoomChange::Present).
    ///
    /// The report of a room is ordered among the changes of that room: it reflects all earlier changes and none of the
    /// later ones. Rooms that no member has joined are not reported, nor is a member in the room named by its id. Does
    /// nothing if there is no such watcher.
    fn survey(&self);
}

/// Socket as a router sees it.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "servers build it, routers read it")]
pub struct Member {
    /// Key that is unique among all members, also among members with the same id.
    pub key: MemberKey,
    /// Public id, unique within its namespace.
    pub id: SocketId,
    /// Codec of its events.
    pub codec: Arc<dyn Codec>,
    /// Outbox of its session.
    pub outbox: Outbox,
    /// Pending acknowledgements; `None` if its control [makes them](MemberControl::acks) when they are needed.
    pub acks: Option<AckTable>,
    /// Further queries and commands; without it, the member can only be sent to.
    pub control: Option<Arc<dyn MemberControl>>,
}

impl Member {
    /// Returns its pending acknowledgements, from itself or its control.
    ///
    /// Without both, the table is closed: events that ask for an acknowledgement are not sent to the member.
    pub fn acks(&self) -> &AckTable {
        let of_control = || self.control.as_ref()?.acks();
        match self.acks.as_ref().or_else(of_control) {
            Some(acks) => acks,
            None => AckTable::closed(),
        }
    }
}

/// Recipients and delivery options of a broadcast.
///
/// No rooms means all members. The id of a socket, as a room, addresses that socket.
#[derive(Debug, Clone, Default)]
#[allow(clippy::exhaustive_structs, reason = "servers build it, routers read it")]
pub struct Target {
    /// Rooms whose members are included; empty for all members.
    pub rooms: Vec<Room>,
    /// Rooms whose members are excluded.
    pub except: Vec<Room>,
    /// Member to exclude, usually the sender.
    pub skip: Option<MemberKey>,
    /// Delivery guarantee.
    pub delivery: Delivery,
    /// Policy for a recipient whose outbox is full.
    pub overflow: Overflow,
    /// Nodes to which it is sent; routers ignore it.
    pub scope: Scope,
}

/// Nodes to which a broadcast is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::exhaustive_enums, reason = "servers match every scope")]
pub enum Scope {
    /// All nodes.
    #[default]
    Cluster,
    /// This node only.
    Node,
}

/// Numbers of members and rooms of a router on its own node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RouterStats {
    /// Attached members.
    pub members: usize,
    /// Rooms that members have joined, except the rooms named by member ids.
    pub rooms: usize,
}

impl RouterStats {
    /// Creates a value from the numbers of members and rooms.
    pub fn new(members: usize, rooms: usize) -> Self {
        Self { members, rooms }
    }
}

/// Change to the rooms of all members that match a target.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "routers match every outcome")]
pub enum Membership {
    /// Join these rooms.
    Join(Vec<Room>),
    /// Leave these rooms.
    Leave(Vec<Room>),
}

/// Outcome of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "routers match every outcome")]
pub enum JoinOutcome {
    /// The member joined.
    Joined,
    /// The member was in the room already.
    Already,
    /// The member is detached and can join no room.
    Detached,
    /// The member is at its [limit of rooms](MemberControl::max_rooms).
    Full,
}

/// Outcome of a broadcast: its recipients on this node, and whether other nodes receive it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[allow(clippy::exhaustive_structs, reason = "routers build it, applications compare it")]
pub struct Receipt {
    /// Members for which it was queued.
    pub queued: usize,
    /// Members for which it was dropped, as its delivery allows, plus older events dropped to make room.
    pub dropped: usize,
    /// Members whose codec cannot encode it.
    pub unsupported: usize,
    /// Members that were closed already, or were closed by this broadcast.
    pub closed: usize,
    /// Members among `closed` that this broadcast closed by exceeding the hard cap of their outbox.
    pub overflowed: usize,
    /// Whether it was queued for the other nodes of the cluster. Their recipients are not counted here.
    #[serde(skip_serializing_if = "Published::is_not_needed")]
    pub published: Published,
}

/// Receipt of an event, and the outboxes that its sender has to flush.
#[derive(Debug, Default)]
#[must_use = "its backlog has to be flushed"]
#[allow(clippy::exhaustive_structs, reason = "routers build it, servers take it apart")]
pub struct Dispatched {
    /// Outcome, counted by member.
    pub receipt: Receipt,
    /// Outboxes that had already reached high water.
    pub backlog: Backlog,
}

impl Dispatched {
    /// Creates the outcome of a push to a single member.
    #[inline]
    pub fn of_one(pushed: crate::PushOutcome, outbox: &Outbox) -> Self {
        // Nearly every push; a constant, unlike a counter, is not read back right after it was written.
        if pushed == crate::PushOutcome::Queued {
            return Receipt { queued: 1, ..Receipt::default() }.into();
        }
        let mut dispatched = Self::default();
        dispatched.record(pushed, outbox);
        dispatched
    }

    /// Counts the outcome of a push, and records the outbox if it is at high water.
    #[inline]
    pub fn record(&mut self, pushed: crate::PushOutcome, outbox: &Outbox) {
        match pushed {
            crate::PushOutcome::Queued => self.receipt.queued += 1,
            other => self.record_other(other, outbox),
        }
    }

    /// Separate, so that the outcome of nearly every push costs one comparison.
    #[cold]
    fn record_other(&mut self, pushed: crate::PushOutcome, outbox: &Outbox) {
        if pushed == crate::PushOutcome::Backlogged {
            self.backlog.add(outbox);
        }
        self.receipt.record(pushed);
    }

    /// Relieves the backlog once, and returns the receipt.
    ///
    /// The caller must hold no lock.
    pub fn flush_backlog(mut self) -> Receipt {
        if !self.backlog.is_empty() {
            self.backlog.flush_backlog();
        }
        self.receipt
    }
}

impl From<Receipt> for Dispatched {
    fn from(receipt: Receipt) -> Self {
        Self { receipt, backlog: Backlog::default() }
    }
}

impl AddAssign for Dispatched {
    fn add_assign(&mut self, other: Self) {
        self.receipt += other.receipt;
        self.backlog.append(other.backlog);
    }
}

impl Receipt {
    /// Counts the outcome of a push.
    pub fn record(&mut self, pushed: crate::PushOutcome) {
        match pushed {
            crate::PushOutcome::Queued | crate::PushOutcome::Backlogged => self.queued += 1,
            crate::PushOutcome::Displaced(older) => {
                self.queued += 1;
                self.dropped += older as usize;
            }
            crate::PushOutcome::Dropped => self.dropped += 1,
            crate::PushOutcome::Closed => self.closed += 1,
            crate::PushOutcome::Overflowed => {
                self.closed += 1;
                self.overflowed += 1;
            }
        }
    }
}

impl Add for Receipt {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl AddAssign for Receipt {
    fn add_assign(&mut self, other: Self) {
        self.queued += other.queued;
        self.dropped += other.dropped;
        self.unsupported += other.unsupported;
        self.closed += other.closed;
        self.overflowed += other.overflowed;
        self.published += other.published;
    }
}
