//! Router of a namespace: its members, their rooms, and the delivery of events

mod control;
mod nodes;
mod watch;

use std::fmt;
use std::ops::{Add, AddAssign};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytestring::ByteString;

pub use self::control::{Found, MemberControl, MemberLimit};
pub use self::nodes::ServerSide;
pub use self::watch::{ChangeQueue, PresentMember, RoomChange, RoomWatcher};
use crate::{AckTable, Args, Backlog, Codec, Delivery, Event, MemberKey, Outbox, Overflow, Room, SocketId};

/// Knows the members and rooms of one namespace, and delivers events to them. On Node this is called an adapter.
///
/// The server calls [`watch`](Self::watch) and [`listen`](Self::listen) at most once each and before a member is attached, then for
/// each socket [`attach`](Self::attach), any number of the other calls on any threads, and [`detach`](Self::detach) once.
///
/// Methods that are not async return at once and wait for no other party. They are called from handlers and watchers, so they
/// must not hold a lock of their own while they call a [`MemberControl`], a [`RoomWatcher`] or [`ServerSide`]. Events that one task
/// emits one after the other reach each member that they have in common in that order. A broadcast only queues: the result names
/// the outboxes that the caller has to [relieve](Dispatched::relieve).
///
/// The async methods ask other nodes and are cancel safe: a future that is dropped withdraws the question.
///
/// `roomcast_testkit::router_conformance!` checks these rules. A router of your own usually stands around another, such as
/// `roomcast_rooms::Rooms`.
///
/// # Examples
///
/// A router that counts broadcasts and leaves all else to the one inside:
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use std::sync::{Arc, Weak};
///
/// use roomcast_core::{
///     Args, ByteString, Delivery, Dispatched, Event, Found, Joined, Member, MemberKey, Membership, Namespace, Overflow, Room,
///     RoomWatcher, Router, RouterError, ServerSide, Target,
/// };
///
/// #[derive(Debug, Default)]
/// struct Counting<R>(R, AtomicUsize);
///
/// #[async_trait::async_trait]
/// #[rustfmt::skip]
/// impl<R: Router> Router for Counting<R> {
///     fn broadcast(&self, target: &Target, event: &Event) -> Dispatched {
///         self.1.fetch_add(1, Ordering::Relaxed);
///         self.0.broadcast(target, event)
///     }
///
///     fn attach(&self, member: Member) -> MemberKey { self.0.attach(member) }
///     fn detach(&self, key: MemberKey) -> bool { self.0.detach(key) }
///     fn join(&self, key: MemberKey, room: &Room) -> Joined { self.0.join(key, room) }
///     fn leave(&self, key: MemberKey, room: &Room) -> bool { self.0.leave(key, room) }
///     fn rooms_of(&self, key: MemberKey) -> Vec<Room> { self.0.rooms_of(key) }
///     fn count(&self, room: &Room) -> usize { self.0.count(room) }
///     fn send(&self, to: &Member, how: Delivery, full: Overflow, event: &mut Event) -> Dispatched {
///         self.0.send(to, how, full, event)
///     }
///     fn update(&self, target: &Target, change: &Membership) -> usize { self.0.update(target, change) }
///     fn find(&self, target: &Target) -> Vec<Found> { self.0.find(target) }
///     fn disconnect(&self, target: &Target, close: bool) -> usize { self.0.disconnect(target, close) }
///     fn watch(&self, watcher: Arc<dyn RoomWatcher>) { self.0.watch(watcher) }
///     fn survey(&self) { self.0.survey() }
///     fn listen(&self, servers: Weak<dyn ServerSide>) { self.0.listen(servers) }
///     fn server_side_emit(&self, name: &ByteString, args: &Args) { self.0.server_side_emit(name, args) }
///     async fn fetch(&self, target: &Target) -> Result<Vec<Found>, RouterError<Found>> {
///         self.0.fetch(target).await
///     }
///     async fn server_side_ask(&self, name: &ByteString, args: &Args) -> Result<Vec<Args>, RouterError<Args>> {
///         self.0.server_side_ask(name, args).await
///     }
/// }
///
/// let router = Counting(roomcast_testkit::MemoryRouter::default(), AtomicUsize::new(0));
/// let event = Event::new(Namespace::main(), "hello", Args::empty());
/// assert_eq!(router.broadcast(&Target::default(), &event).relieve().queued, 0);
/// assert_eq!(router.1.into_inner(), 1);
/// ```
#[async_trait]
pub trait Router: Send + Sync + fmt::Debug + 'static {
    /// Attaches a member under its [key](Member::key), which is returned; it starts in no room except the one named
    /// by its own id
    ///
    /// The key must not be attached already. It is in force before anybody can learn of the member: a
    /// [`RoomWatcher`] that is told of it here, or another thread that finds it, may join it to rooms or detach it.
    /// A member with the same id that is still attached keeps its rooms until it is detached by its own key, but
    /// its id now means the new one.
    fn attach(&self, member: Member) -> MemberKey;

    /// Detaches a member from every room; returns `false` if it was detached already
    ///
    /// No broadcast that begins when this has returned reaches it, and no count includes it.
    fn detach(&self, key: MemberKey) -> bool;

    /// Puts a member into a room, making the room if there is none
    ///
    /// Not if it is in [as many as it may be](MemberControl::max_rooms), which its control is told. However many
    /// joins come at once, the limit is not passed.
    fn join(&self, key: MemberKey, room: &Room) -> Joined;

    /// Takes a member out of a room; `false` if it was not in it
    fn leave(&self, key: MemberKey, room: &Room) -> bool;

    /// The rooms a member is in, its own first
    fn rooms_of(&self, key: MemberKey) -> Vec<Room>;

    /// How many members a room has here; the room of an id has one
    fn count(&self, room: &Room) -> usize;

    /// Queues an event for every member the target names, once each.
    ///
    /// Writes nothing. The caller relieves the backlog of the result once it holds no lock of its own.
    fn broadcast(&self, target: &Target, event: &Event) -> Dispatched;

    /// Queues an event for one member.
    ///
    /// No other member gets it, so its arguments may be taken out. As for [`broadcast`](Self::broadcast), the caller
    /// relieves the backlog.
    fn send(&self, member: &Member, delivery: Delivery, overflow: Overflow, event: &mut Event) -> Dispatched;

    /// Puts everybody the target names into rooms, or takes them out of rooms; tells how many members here it
    /// changed
    ///
    /// A member that has reached its limit of rooms stays as it is, as with [`join`](Self::join). Of the target, its
    /// delivery and overflow mean nothing here.
    fn update(&self, target: &Target, change: &Membership) -> usize;

    /// How much there is on this node, for those who watch it
    ///
    /// Default: nothing is known.
    fn stats(&self) -> RouterStats {
        RouterStats::default()
    }

    /// Who is named by a target on this node
    fn find(&self, target: &Target) -> Vec<Found>;

    /// Who is named by a target, in the whole cluster unless it is local
    ///
    /// # Errors
    /// When other nodes did not answer in time; the error carries those that did.
    async fn fetch(&self, target: &Target) -> Result<Vec<Found>, RouterError<Found>>;

    /// Disconnects everybody the target names, by [`MemberControl::disconnect`]; returns how many members here were
    /// told
    ///
    /// The controls are called under no lock, since they detach their members before they return. The delivery and
    /// the overflow policy of the target mean nothing here.
    fn disconnect(&self, target: &Target, close: bool) -> usize;

    /// Tells this watcher what becomes of rooms on this node from now on; there is one, and further calls do nothing
    ///
    /// Until the first call it costs nothing. Rooms that are there already are not told of as created, nor
    /// their members as having joined; all that becomes of them from now on is. The room of a member's own id is
    /// created and joined when it is attached, and left and deleted when it is detached.
    fn watch(&self, watcher: Arc<dyn RoomWatcher>);

    /// Tells the watcher who is in each room now, as [`RoomChange::Present`](crate::RoomChange::Present)
    ///
    /// The report on a room takes its place among the changes of that room: it holds exactly the members that the
    /// changes before it leave, and the changes after it follow from it. Rooms without members that joined them are
    /// not reported, nor is a member reported in the room of its own id. Does nothing while there is no watcher.
    fn survey(&self);

    /// Where to hand what other nodes emit to servers; called once, before anybody is attached
    fn listen(&self, servers: Weak<dyn ServerSide>);

    /// Emits to the servers of all other nodes, not to their clients and not to this node
    fn server_side_emit(&self, name: &ByteString, args: &Args);

    /// Emits to the servers of all other nodes and collects what each answers, in the order in which answers come
    ///
    /// # Errors
    /// When other nodes did not answer in time; the error carries the answers of those that did.
    async fn server_side_ask(&self, name: &ByteString, args: &Args) -> Result<Vec<Args>, RouterError<Args>>;
}

/// A socket as a router sees it
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "servers build it, routers read it")]
pub struct Member {
    /// What tells it from every other member, whatever their ids
    pub key: MemberKey,
    /// Its public id, unique within its namespace
    pub id: SocketId,
    /// How events are put for it
    pub codec: Arc<dyn Codec>,
    /// Where they go
    pub outbox: Outbox,
    /// Who waits for its answers
    pub acks: AckTable,
    /// What else can be asked of it and done to it; without one it can only be sent to
    pub control: Option<Arc<dyn MemberControl>>,
}

/// Whom a broadcast addresses, and how
///
/// No rooms means everybody. A room that bears the id of a socket is that socket.
#[derive(Debug, Clone, Default)]
#[allow(clippy::exhaustive_structs, reason = "servers build it, routers read it")]
pub struct Target {
    /// In any of these
    pub rooms: Vec<Room>,
    /// But in none of these
    pub except: Vec<Room>,
    /// And not this one, which is how a sender leaves itself out
    pub skip: Option<MemberKey>,
    /// What may become of it
    pub delivery: Delivery,
    /// What happens to a member whose outbox is full
    pub overflow: Overflow,
    /// How far it goes
    pub scope: Scope,
}

/// How far a broadcast goes
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::exhaustive_enums, reason = "routers match every scope")]
pub enum Scope {
    /// To every node
    #[default]
    Cluster,
    /// To this one
    Node,
}

/// How much there is in a router on its own node
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RouterStats {
    /// Members that are attached
    pub members: usize,
    /// Rooms that somebody has joined, those of members' own ids not counted
    pub rooms: usize,
}

impl RouterStats {
    /// This much
    pub fn new(members: usize, rooms: usize) -> Self {
        Self { members, rooms }
    }
}

/// A change to the rooms of everybody a target names
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "routers match every outcome")]
pub enum Membership {
    /// Be in these rooms too
    Join(Vec<Room>),
    /// Be in none of these rooms
    Leave(Vec<Room>),
}

/// What became of a join
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "routers match every outcome")]
pub enum Joined {
    /// It is in now
    Joined,
    /// It was in already
    Already,
    /// It is detached, so it can join nothing
    Detached,
    /// It is in as many rooms as it [may be](MemberControl::max_rooms)
    Full,
}

/// What became of a broadcast, on this node
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[allow(clippy::exhaustive_structs, reason = "routers build it, applications compare it")]
pub struct Receipt {
    /// Members it was queued for
    pub queued: usize,
    /// Members it was dropped for, as its delivery allows, and older events that were dropped to make room
    pub dropped: usize,
    /// Members whose kind of client cannot carry it
    pub unsupported: usize,
    /// Members that were gone, or were closed by this broadcast
    pub closed: usize,
    /// Those of `closed` that this broadcast closed, as more than the hard cap of their outbox would have waited
    pub overflowed: usize,
}

/// The receipt of an event, and the outboxes that its sender has to relieve.
#[derive(Debug, Default)]
#[must_use = "its backlog has to be relieved"]
#[allow(clippy::exhaustive_structs, reason = "routers build it, servers take it apart")]
pub struct Dispatched {
    /// The outcome, by member
    pub receipt: Receipt,
    /// Outboxes that were at high water already
    pub backlog: Backlog,
}

impl Dispatched {
    /// Counts the outcome of a push, and notes the outbox if it is at high water.
    #[inline]
    pub fn record(&mut self, pushed: crate::Pushed, outbox: &Outbox) {
        if pushed == crate::Pushed::Backlogged {
            self.backlog.add(outbox);
        }
        self.receipt.record(pushed);
    }

    /// Relieves the backlog once; returns the receipt. No lock must be held.
    pub fn relieve(mut self) -> Receipt {
        if !self.backlog.is_empty() {
            self.backlog.relieve();
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
    /// Counts one push
    pub fn record(&mut self, pushed: crate::Pushed) {
        match pushed {
            crate::Pushed::Queued | crate::Pushed::Backlogged => self.queued += 1,
            crate::Pushed::Displaced(older) => {
                self.queued += 1;
                self.dropped += older as usize;
            }
            crate::Pushed::Dropped => self.dropped += 1,
            crate::Pushed::Closed => self.closed += 1,
            crate::Pushed::Overflowed => {
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
    }
}

/// A question to the cluster was not answered by all
#[derive(Debug, Clone, thiserror::Error)]
#[error("{missing} nodes did not answer in time")]
#[allow(clippy::exhaustive_structs, reason = "routers build it, servers take it apart")]
pub struct RouterError<T> {
    /// How many nodes did not answer
    pub missing: usize,
    /// What the others said
    pub partial: Vec<T>,
}
