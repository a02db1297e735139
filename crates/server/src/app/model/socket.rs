//! Socket: one client in one namespace.

mod control;
mod early;
mod sending;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use roomcast_core::{
    AckId, AckTable, Args, ByteString, CloseReason, Heard, JoinOutcome, Member, MemberControl, MemberKey,
    Namespace, Overflow, Room, SocketId, TransportName,
};
use roomcast_recovery::{Acting, Order, Owner, PendingRecovery, RecoveryError, SessionInit, SharedData};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

pub(crate) use self::sending::one;
use crate::app::into_rooms::{IntoRooms, into_rooms};
use crate::app::model::event_input::{HandlerRegistry, Listeners};
use crate::app::model::io::{Io, SessionShared};
use crate::app::model::listeners::ListenerKind;
use crate::app::model::namespace_state::NamespaceState;
use crate::app::model::turns::Turns;
use crate::app::model::user_data::{DataError, UserData, read};
use crate::host::limit::{Limit, limit_exceeded};
use crate::host::metrics::{Metrics, count};
use crate::session::mailbox::{SessionCommand, TakeOver};
use crate::session::recovery::{self, Recoverable};
use crate::session::shared::ClientKind;
use crate::util::log_limit::log_limited;
use crate::web::handshake::Handshake;

/// One client in one namespace; clones refer to the same socket.
///
/// Sockets of all kinds of clients have the same API. A handle may be kept after the client has disconnected: emits are
/// then discarded, and joins fail.
///
/// With [recovery](crate::Config::recovery) enabled, a handle from before the connection broke also refers to the
/// recovered client: emits reach it or are stored for it, `broadcast` excludes it, and its rooms and data are shared.
/// Only [`is_connected`](Self::is_connected), handlers and acknowledgements belong to the old connection.
#[derive(Clone)]
pub struct Socket(Arc<Inner>);

struct Inner {
    member: Member,
    namespace: Arc<NamespaceState>,
    session: Arc<SessionShared>,
    /// Boxed, since it is `None` while recovery is off.
    recovery: Option<Box<Recoverable>>,
    lifecycle: SocketState,
    /// Set once the handlers and listeners of the application have been dropped.
    cleared: AtomicBool,
    /// Set once no acknowledgement can arrive.
    acks_closed: AtomicBool,
    /// Whether an event waits for the handlers of the previous one.
    serial: AtomicBool,
    /// State that most sockets do not need.
    extras: OnceLock<Box<RareState>>,
}

// Together with the two reference counts it fits a block of 144 bytes, of which malloc takes eight.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
const _: () = assert!(size_of::<Inner>() <= 120, "one field more would cost each socket 16 bytes");

/// Lifecycle state of a socket in its namespace; it only moves forward.
struct SocketState(AtomicU8);

impl SocketState {
    /// Connect middlewares are still running, or the router is about to attach the socket.
    const PENDING: u8 = 0;
    const IN: u8 = 1;
    /// Disconnected by the application and detached from the router; disconnect handlers may not have run yet.
    const DISCONNECTED: u8 = 2;
    /// Disconnected for another reason; the client may recover its session.
    const LEFT: u8 = 3;
    /// Disconnected for a reason after which the session cannot be recovered, or never attached to the router.
    const GONE: u8 = 4;
    /// Disconnected by the application after the client had left, so the client cannot recover the session.
    const BARRED: u8 = 5;

    fn get(&self) -> u8 {
        self.0.load(Ordering::Acquire)
    }

    /// Moves from one state to another; `false` if the socket was in a different state.
    fn advance(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// State of a socket that is allocated only when needed.
#[derive(Default)]
pub(crate) struct RareState {
    pub(crate) registry: HandlerRegistry,
    pub(crate) user_data: UserData,
    turns: Turns,
    /// Made by the first request.
    acks: OnceLock<AckTable>,
    parting: Mutex<DisconnectedRooms>,
    /// Rooms joined before the socket was attached to the router.
    early: Mutex<Vec<Room>>,
    /// Sockets of the same client, if it is in several namespaces.
    siblings: OnceLock<Arc<Siblings>>,
}

/// Rooms of a socket at its forced disconnect, for its `disconnecting` handlers.
#[derive(Default)]
struct DisconnectedRooms {
    rooms: Vec<Room>,
    /// Whether those handlers are running.
    shown: bool,
}

/// Sockets of one client in all its namespaces, so that they can be disconnected together.
#[derive(Default)]
struct Siblings(Mutex<Vec<Weak<Inner>>>);

impl Siblings {
    fn add(&self, socket: &Arc<Inner>) {
        let mut all = lock(&self.0);
        all.retain(|sibling| sibling.strong_count() > 0);
        all.push(Arc::downgrade(socket));
    }

    fn all(&self) -> Vec<Arc<Inner>> {
        lock(&self.0).iter().filter_map(Weak::upgrade).collect()
    }
}

impl Socket {
    pub(crate) fn new(
        member: Member,
        namespace: Arc<NamespaceState>,
        session: Arc<SessionShared>,
        recovery: Option<Box<Recoverable>>,
    ) -> Self {
        Self(Arc::new(Inner {
            member,
            namespace,
            session,
            recovery,
            lifecycle: SocketState(AtomicU8::new(SocketState::PENDING)),
            cleared: AtomicBool::new(false),
            acks_closed: AtomicBool::new(false),
            serial: AtomicBool::new(false),
            extras: OnceLock::new(),
        }))
    }

    /// Returns the public id, which is also the name of the socket's own room.
    pub fn id(&self) -> &SocketId {
        &self.0.member.id
    }

    /// Returns the server.
    pub fn io(&self) -> Io {
        self.0.session.io.clone()
    }

    /// Returns the handshake request of the session.
    pub fn handshake(&self) -> &Handshake {
        &self.0.session.handshake
    }

    /// Returns the current transport of the client.
    pub fn transport(&self) -> TransportName {
        self.0.session.transport()
    }

    /// Returns the protocol of the client.
    pub fn kind(&self) -> ClientKind {
        self.0.session.kind
    }

    /// Returns whether the socket is connected; `false` as soon as the application disconnects it.
    pub fn is_connected(&self) -> bool {
        let is_in = match self.0.lifecycle.get() {
            SocketState::IN => true,
            // Room hooks may see the socket while the router attaches it.
            SocketState::PENDING => !self.0.namespace.router.rooms_of(self.key()).is_empty(),
            _ => false,
        };
        is_in && !self.is_disconnected_by_server() && self.0.member.outbox.closed().is_none()
    }

    /// Returns whether the client recovered its session after its connection broke.
    ///
    /// A recovered socket has its previous id, rooms and data, and the client receives the events it missed. Always
    /// `false` when [recovery](crate::Config::recovery) is off.
    pub fn recovered(&self) -> bool {
        self.0.recovery.as_ref().is_some_and(|recovery| recovery.recovered)
    }

    /// Returns the number of bytes queued for the client.
    pub fn waiting_bytes(&self) -> usize {
        self.0.member.outbox.waiting().bytes
    }

    /// Sets the overflow policy of the client: the fate of events that do not fit its full outbox.
    ///
    /// It applies to all namespaces of the client, from now on; the policies of an emit and of a room take precedence.
    /// Default: [`Overflow::Close`].
    pub fn set_overflow(&self, overflow: Overflow) {
        self.0.member.outbox.set_overflow(overflow);
    }

    /// Joins one or several rooms; returns `false` if a join failed.
    ///
    /// A join fails if the socket has disconnected, the room name is too long, or the socket is in the [maximum number
    /// of rooms](crate::config::Limits::max_rooms). Rooms before the first failed one stay joined. Rooms joined in a
    /// middleware of the namespace take effect when the client is accepted, before the connect handlers run; a rejected
    /// client never enters them.
    pub fn join(&self, rooms: impl IntoRooms) -> bool {
        let join = |room: &Room| {
            if !self.0.namespace.fits(room) {
                let (io, socket) = (self.io(), self.id());
                let value = io.config().limits.max_name_bytes;
                limit_exceeded!(io, Limit::NameSize, %socket, value, "join refused: room name too long");
                return false;
            }
            if self.0.lifecycle.get() == SocketState::PENDING {
                return self.join_early(room);
            }
            let joined = self.0.namespace.router.join(self.key(), room);
            matches!(joined, JoinOutcome::Joined | JoinOutcome::Already)
        };
        into_rooms(rooms).iter().all(join)
    }

    /// Joins one or several rooms, and waits until events of other nodes to them arrive; returns `false` if a join
    /// failed.
    ///
    /// An event that another node emits to such a room after this returns `true` reaches the socket, or the loss is
    /// reported in the cluster's metrics. Waits for a second at most, by default; a cluster that does not respond in
    /// that time counts as a failure, but the socket stays joined, and hears the room as soon as the cluster responds.
    /// Without a cluster, this is [`join`](Self::join). Call it once the client is accepted: rooms joined in a
    /// middleware of the namespace take effect only then.
    ///
    /// # Cancel safety
    /// If the future is dropped, the socket stays in the rooms.
    pub async fn join_confirmed(&self, rooms: impl IntoRooms) -> bool {
        let rooms = into_rooms(rooms);
        if !self.join(rooms.clone()) {
            return false;
        }
        let mut is_heard = true;
        for room in &rooms {
            is_heard &= self.0.namespace.heard_in(room).await == Heard::Confirmed;
        }
        is_heard
    }

    /// Leaves a room; returns `false` if the socket was not in it.
    pub fn leave(&self, room: impl Into<Room>) -> bool {
        let room = room.into();
        self.leave_early(&room) || self.0.namespace.router.leave(self.key(), &room)
    }

    /// Returns whether the socket is in a room; `false` once it has disconnected.
    pub fn is_in(&self, room: impl Into<Room>) -> bool {
        self.rooms().contains(&room.into())
    }

    /// Returns the rooms of the socket, its own room first; empty once it has disconnected.
    ///
    /// In a middleware of the namespace, these are the rooms joined so far; the socket enters its own room when it is
    /// accepted. In an [`on_disconnecting`](Self::on_disconnecting) handler, up to its first pending `.await`, these
    /// are the rooms that the socket leaves.
    pub fn rooms(&self) -> Vec<Room> {
        let mut rooms = self.0.namespace.router.rooms_of(self.key());
        if self.0.lifecycle.get() == SocketState::PENDING
            && let Some(extras) = self.extras()
        {
            let early = lock(&extras.early).clone();
            rooms.extend(early);
            return rooms;
        }
        let Some(extras) = self.extras().filter(|_| rooms.is_empty()) else { return rooms };
        let parting = lock(&extras.parting);
        if parting.shown { parting.rooms.clone() } else { rooms }
    }

    /// Returns the auth payload of the client; this is `socket.handshake.auth` on Node.
    ///
    /// The payload is an empty object if the client sent none. Handlers and middlewares can also extract it with
    /// [`Auth`](crate::Auth), which describes the payload of each kind of client.
    ///
    /// # Errors
    /// Returns an error if the payload is not a `T`.
    pub fn auth<T: DeserializeOwned>(&self) -> Result<T, DataError> {
        read(&self.0.auth_json())
    }

    /// Sets whether the events of this socket are handled one at a time, each after the handlers of the previous one.
    ///
    /// Default: the setting of the [namespace](crate::namespace::NamespaceHandle::serial). A handler must then not wait
    /// for another event of the same client: it would never arrive. Waiting for an acknowledgement is fine.
    pub fn serial(&self, serial: bool) {
        self.0.serial.store(serial, Ordering::Relaxed);
    }

    /// Disconnects the client from this namespace; its other namespaces and its connection stay open.
    ///
    /// When this method returns, the socket has left all rooms, later emits do not reach it, and it cannot be
    /// [recovered](Self::recovered). Disconnect handlers receive
    /// [`ServerNamespaceDisconnect`](CloseReason::ServerNamespaceDisconnect). The call has no effect while the
    /// middlewares of the namespace are running. It may be made from any thread, hook or handler.
    ///
    /// Handlers that are running continue; further events of the client are ignored.
    pub fn disconnect(&self) {
        MemberControl::disconnect(&*self.0, false);
    }

    /// Closes the connection of the client, with all its namespaces.
    ///
    /// Each of its sockets is disconnected as by [`disconnect`](Self::disconnect). If this socket has already left its
    /// namespace, the call does only what [`disconnect`](Self::disconnect) does.
    ///
    /// Handlers that are running continue; further events of the client are ignored.
    pub fn disconnect_client(&self) {
        MemberControl::disconnect(&*self.0, true);
    }

    /// Returns whether both handles refer to the same socket, and not just to the same id.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns an identifier that is unique for as long as a handle to the socket exists.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Returns whether the application has disconnected the socket; it may not have left yet.
    #[inline]
    pub(crate) fn is_disconnected_by_server(&self) -> bool {
        let lifecycle = self.0.lifecycle.0.load(Ordering::Relaxed);
        lifecycle == SocketState::DISCONNECTED
            || lifecycle == SocketState::BARRED
            || self.0.session.has_disconnected.load(Ordering::Relaxed)
    }

    /// Returns whether the socket has left, for any reason.
    pub(crate) fn has_left(&self) -> bool {
        self.0.lifecycle.get() > SocketState::IN
    }

    /// Returns whether the client may still be connected, or may recover its session.
    pub(crate) fn may_return(&self) -> bool {
        self.0.recovery.is_some() && matches!(self.0.lifecycle.get(), SocketState::IN | SocketState::LEFT)
    }

    /// Returns whether new handlers and listeners are dropped at once.
    pub(crate) fn is_cleared(&self) -> bool {
        self.0.cleared.load(Ordering::Acquire)
    }

    /// Returns the close reason; a disconnect by the application takes precedence over `reason`.
    pub(crate) fn reason_over(&self, reason: CloseReason) -> CloseReason {
        if self.0.lifecycle.get() == SocketState::DISCONNECTED {
            CloseReason::ServerNamespaceDisconnect
        } else {
            reason
        }
    }

    pub(crate) fn is_serial(&self) -> bool {
        self.0.serial.load(Ordering::Relaxed) || self.0.namespace.is_serial()
    }

    /// Returns whether any `on_error` handler exists for this socket.
    #[inline]
    pub(crate) fn has_error_listeners(&self) -> bool {
        self.0.namespace.registry.has_error_listeners()
            || self.extras().is_some_and(|extras| extras.registry.has_error_listeners())
    }

    /// Returns whether the socket has its own handlers.
    pub(crate) fn has_listeners(&self) -> bool {
        self.extras().is_some_and(|extras| extras.registry.is_used())
    }

    /// Returns the optional state, if allocated.
    pub(crate) fn extras(&self) -> Option<&RareState> {
        self.0.extras.get().map(AsRef::as_ref)
    }

    pub(crate) fn registry(&self) -> &HandlerRegistry {
        let registry = &self.0.extras.get_or_init(Box::default).registry;
        // Either this thread sees the flag, or `clear` sees the new registry.
        fence(Ordering::SeqCst);
        if self.is_cleared() {
            registry.close();
        }
        registry
    }

    /// Returns the listeners of a kind, namespace listeners first.
    pub(crate) fn listening_to(&self, topic: ListenerKind) -> [Listeners; 2] {
        let own = self.extras().map(|extras| extras.registry.topic(topic)).unwrap_or_default();
        [self.0.namespace.registry.topic(topic), own]
    }

    /// Returns the listeners of an event, namespace listeners first; removes those registered by `once`.
    ///
    /// Falls back to the listeners for other events if there are none.
    pub(crate) fn take_event(&self, name: &str) -> [Listeners; 2] {
        let own = self.extras().map(|extras| extras.registry.take_event(name)).unwrap_or_default();
        let all = self.0.namespace.registry.take_event(name);
        if all.is_empty() && own.is_empty() {
            return self.listening_to(ListenerKind::Other);
        }
        [all, own]
    }

    /// Drops the handlers and listeners of a closed socket, which may hold the socket itself.
    pub(crate) fn clear(&self) {
        // A socket that is still pending must not be attached later.
        self.0.lifecycle.advance(SocketState::PENDING, SocketState::GONE);
        self.0.cleared.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        let let_go = AssertUnwindSafe(|| {
            self.0.namespace.outgoing.clear(self);
            self.extras().into_iter().for_each(|extras| {
                extras.registry.close();
                lock(&extras.early).clear();
            });
        });
        if catch_unwind(let_go).is_err() {
            count::handlers_panicked(self.metrics());
            log_limited!(ERROR, (), socket = %self.id(), "handler panicked when it was dropped");
        }
    }

    /// Returns the auth payload as JSON text; an empty object if there is none.
    pub(crate) fn auth_json(&self) -> ByteString {
        self.0.auth_json()
    }

    pub(crate) fn name_of_namespace(&self) -> &Namespace {
        &self.0.namespace.name
    }

    pub(crate) fn state(&self) -> &Arc<NamespaceState> {
        &self.0.namespace
    }

    /// Returns the counters of the server, without a reference count.
    #[inline]
    pub(crate) fn metrics(&self) -> &Metrics {
        self.0.session.io.metrics()
    }

    /// Attaches the socket to the router, so that broadcasts reach it.
    pub(crate) fn attach(&self) {
        match &self.0.recovery {
            Some(recovery) => {
                let (secret, owner) = (recovery.secret.clone(), Some(self.owner()));
                let data = self.extras().and_then(|extras| extras.user_data.existing_data());
                recovery.retainer.attach_recoverable(self.member(), SessionInit { secret, owner, data });
            }
            None => _ = self.0.namespace.router.attach(self.member()),
        }
        self.settle_in();
    }

    /// Marks the socket as attached, unless a hook or another thread has disconnected it in the meantime.
    fn settle_in(&self) {
        self.0.lifecycle.advance(SocketState::PENDING, SocketState::IN);
        // Either a thread in `join_early` sees the new state, or this thread sees its room.
        fence(Ordering::SeqCst);
        self.enter_early();
        // The client may have been disconnected in the meantime through another namespace.
        if self.0.session.has_disconnected.load(Ordering::SeqCst) {
            self.0.mark_disconnected();
        }
    }

    /// Links two sockets of one client, so that either can disconnect both.
    pub(crate) fn join_siblings(&self, other: &Self) {
        let siblings = other.0.extras.get_or_init(Box::default).siblings.get_or_init(|| {
            let siblings = Siblings::default();
            siblings.add(&other.0);
            Arc::new(siblings)
        });
        if self.0.extras.get_or_init(Box::default).siblings.set(siblings.clone()).is_ok() {
            siblings.add(&self.0);
        }
    }

    /// Returns the owner whose quota the retained session counts against.
    fn owner(&self) -> Owner {
        recovery::owner(self.handshake(), self.id())
    }

    /// Attributes the emits of the handlers about to run to this client, if recovery is enabled.
    #[inline]
    pub(crate) fn acting(&self) -> Option<Acting> {
        self.0.namespace.recovery.as_ref().map(|_| Acting::begin(self.owner()))
    }

    /// Returns the router's member with its control handle, which it holds until it is detached.
    pub(crate) fn member(&self) -> Member {
        let control: Arc<dyn MemberControl> = self.0.clone();
        Member { control: Some(control), ..self.0.member.clone() }
    }

    /// Returns the socket behind a control handle, if it belongs to this node.
    pub(crate) fn from_control(control: Arc<dyn MemberControl>) -> Option<Self> {
        let any: Arc<dyn Any + Send + Sync> = control;
        any.downcast().ok().map(Self)
    }

    /// Returns the key of the member, which is unique and survives recovery.
    pub(crate) fn key(&self) -> MemberKey {
        self.0.member.key
    }

    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.member.outbox.poll_writable(cx)
    }

    /// Returns whether acknowledgements of the client are outstanding.
    pub(crate) fn owes_answers(&self) -> bool {
        self.0.known_acks().is_some_and(|acks| !acks.is_empty())
    }

    /// Returns the turns of the serial handlers.
    pub(crate) fn turns(&self) -> &Turns {
        &self.0.extras.get_or_init(Box::default).turns
    }

    pub(crate) fn user_data(&self) -> &UserData {
        &self.0.extras.get_or_init(Box::default).user_data
    }

    /// Shares the application data with the handles from before the connection broke.
    pub(crate) fn restore_data(&self, data: SharedData) {
        self.user_data().share_data(data);
    }

    /// Returns whether other processes may recover the client's session.
    pub(crate) fn has_shared_session(&self) -> bool {
        self.0.recovery.as_ref().is_some_and(|recovery| recovery.retainer.shares_sessions())
    }

    /// Changes the handled events of the client, which are stored with its session.
    pub(crate) fn update_handled_events(&self, update: impl FnOnce(&str) -> ByteString) {
        self.user_data().data().update_handled(update);
        if let Some(recovery) = &self.0.recovery {
            recovery.retainer.data_changed(self.key(), self.user_data().data());
        }
    }

    /// Reports a change of the application data to the recovery, if it is enabled, and to the presence of other nodes.
    pub(crate) fn report_data(&self) {
        self.0.namespace.report_data(self.key(), || self.user_data().data_json());
        // A socket that is still pending attaches with its data.
        if let Some(recovery) =
            self.0.recovery.as_ref().filter(|_| self.0.lifecycle.get() != SocketState::PENDING)
        {
            recovery.retainer.data_changed(self.key(), self.user_data().data());
        }
    }

    /// Stores the auth payload, if there is one.
    pub(crate) fn set_auth(&self, auth: &str) {
        if !auth.is_empty() {
            self.user_data().set_auth(auth.into());
        }
    }

    /// Attaches the recovered socket to the router, and queues `welcome` in order with the missed events.
    pub(crate) fn resume(
        &self,
        claim: Box<dyn PendingRecovery>,
        order: Order,
        welcome: &mut dyn FnMut(),
    ) -> Result<(), RecoveryError> {
        claim.resume(self.member(), Some(self.owner()), order, welcome)?;
        self.settle_in();
        Ok(())
    }

    /// Requests the session from its current connection, for another one; `None` if it is the same.
    ///
    /// The receiver ends once the socket has left.
    pub(crate) fn take_over(&self, by: &Arc<SessionShared>) -> Option<oneshot::Receiver<()>> {
        if Arc::ptr_eq(&self.0.session, by) {
            return None;
        }
        let (left, receiver) = oneshot::channel();
        let request = SessionCommand::TakeOver(TakeOver { key: self.key(), left });
        // Rejected if the session has ended, and dropped with its sender.
        let _ = self.0.session.mailbox.push(request);
        Some(receiver)
    }

    /// Returns the recovery token, if recovery is enabled.
    pub(crate) fn recovery_secret(&self) -> Option<ByteString> {
        self.0.recovery.as_ref().map(|recovery| recovery.secret.clone())
    }

    /// Sets whether [`rooms`](Self::rooms) returns the rooms left at a forced disconnect.
    pub(crate) fn expose_left_rooms(&self, shown: bool) {
        if let Some(extras) = self.extras() {
            let mut parting = lock(&extras.parting);
            parting.shown = shown;
            if !shown {
                parting.rooms = Vec::new();
            }
        }
    }

    /// Detaches the socket from all rooms and closes its acknowledgements; retains it if it may be recovered.
    ///
    /// Every event emitted before `delivered_until` is known to have reached the client.
    pub(crate) fn detach(&self, may_come_back: bool, delivered_until: Option<Instant>) {
        let (inner, key) = (&self.0, self.key());
        let recovery = inner.recovery.as_ref().filter(|_| may_come_back);
        let left = if recovery.is_some() { SocketState::LEFT } else { SocketState::GONE };
        if inner.lifecycle.advance(SocketState::IN, left) {
            match recovery {
                Some(recovery) => {
                    let data = self.user_data().shared_data();
                    recovery.retainer.detach_and_retain(key, data, delivered_until);
                    // A concurrent disconnect may have run before the session was retained.
                    if inner.lifecycle.get() == SocketState::BARRED {
                        recovery.retainer.forget(key);
                    }
                }
                None => {
                    inner.namespace.router.detach(key);
                }
            }
        } else if inner.lifecycle.get() == SocketState::DISCONNECTED {
            // The thread that disconnected it may not have detached it yet.
            inner.namespace.router.detach(key);
        }
        inner.close_acks();
    }

    /// Delivers an acknowledgement from the client; `false` if none with this id is outstanding.
    pub(crate) fn answered(&self, id: AckId, args: Args) -> bool {
        self.0.known_acks().is_some_and(|acks| acks.answer(&self.0.member.id, id, args))
    }
}

impl Inner {
    /// Detaches the socket from the router; `false` if it was not attached.
    ///
    /// If the socket has already left, recovery is prevented.
    fn mark_disconnected(&self) -> bool {
        let router = &self.namespace.router;
        let key = self.member.key;
        loop {
            match self.lifecycle.get() {
                SocketState::PENDING => {
                    // A hook or another thread may see the socket while the router attaches it.
                    self.note_parting(router.rooms_of(key));
                    let was_in = router.detach(key);
                    let mark_disconnected =
                        |lifecycle| (lifecycle <= SocketState::IN).then_some(SocketState::DISCONNECTED);
                    if was_in {
                        let _ = self.lifecycle.0.fetch_update(
                            Ordering::SeqCst,
                            Ordering::SeqCst,
                            mark_disconnected,
                        );
                        break;
                    }
                    if self.lifecycle.get() == SocketState::PENDING {
                        return false;
                    }
                }
                SocketState::IN => {
                    if self.lifecycle.advance(SocketState::IN, SocketState::DISCONNECTED) {
                        self.note_parting(router.rooms_of(key));
                        router.detach(key);
                        break;
                    }
                }
                left @ (SocketState::LEFT | SocketState::GONE) => {
                    self.lifecycle.advance(left, SocketState::BARRED);
                }
                _ => {
                    // The session's driver task or another thread may be about to detach it.
                    if self.successor().is_none() {
                        router.detach(key);
                    }
                    self.forget();
                    return false;
                }
            }
        }
        self.close_acks();
        true
    }

    /// Returns the pending acknowledgements, if any was ever requested.
    fn known_acks(&self) -> Option<&AckTable> {
        self.extras.get()?.acks.get()
    }

    /// Closes the pending acknowledgements, and rejects further requests.
    fn close_acks(&self) {
        self.acks_closed.store(true, Ordering::Release);
        // Either this thread sees the table, or `acks` sees the flag.
        fence(Ordering::SeqCst);
        self.known_acks().into_iter().for_each(|acks| acks.close(&self.member.id));
    }

    /// Prevents the recovery of a client that has left.
    fn forget(&self) {
        self.recovery.iter().for_each(|recovery| _ = recovery.retainer.forget(self.member.key));
    }

    fn note_parting(&self, rooms: Vec<Room>) {
        if !rooms.is_empty() {
            lock(&self.extras.get_or_init(Box::default).parting).rooms = rooms;
        }
    }

    /// Returns the connected socket of the recovered client.
    fn successor(&self) -> Option<Socket> {
        self.recovery.as_ref()?;
        let attached = self.namespace.attached(self.member.key, &self.member.id);
        attached.filter(|socket| !std::ptr::eq(&*socket.0, self))
    }

    fn auth_json(&self) -> ByteString {
        or_empty(match self.session.kind {
            // Parsed on each call, since the handshake already holds it.
            ClientKind::Plain | ClientKind::Json => Some(self.session.handshake.plain_auth()),
            ClientKind::SocketIo | ClientKind::EngineIo => {
                self.extras.get().map(|extras| extras.user_data.auth_json())
            }
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn or_empty(json: Option<ByteString>) -> ByteString {
    json.filter(|json| !json.is_empty()).unwrap_or_else(|| ByteString::from_static("{}"))
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("id", &self.member.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", self.id())
            .field("namespace", &self.0.namespace.name)
            .finish_non_exhaustive()
    }
}
