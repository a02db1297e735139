//! One client in one namespace

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use roomcast_core::{
    AckId, Args, ByteString, CloseReason, Delivery, Dispatched, Event, Joined, Member, MemberControl,
    MemberKey, MemberLimit, Namespace, Overflow, Receipt, Room, SocketId, TransportName,
};
use roomcast_recovery::{Claim, Order, Refused};
use serde::de::DeserializeOwned;

use crate::breach::{Breach, breach};
use crate::data::{DataError, Kept, read};
use crate::emit::{IntoRooms, into_rooms};
use crate::error::EmitError;
use crate::handshake::Handshake;
use crate::inbox::Visit;
use crate::io::Io;
use crate::listeners::{Board, Listeners, Topic};
use crate::listening::listening;
use crate::namespace::{NamespaceHandle, NamespaceState};
use crate::pace;
use crate::recovery::Recoverable;
use crate::serial::Turns;
use crate::session::{ClientKind, SessionShared};

/// One client in one namespace; cloning gives another handle to the same socket
///
/// It is the same for every kind of client. It may be kept beyond the end of its connection: what is emitted then
/// reaches nobody, and what it joins is refused.
#[derive(Clone)]
pub struct Socket(Arc<Inner>);

struct Inner {
    member: Member,
    /// Set when the router has let it in, which is when its middlewares have agreed
    key: Key,
    namespace: Arc<NamespaceState>,
    session: Arc<SessionShared>,
    /// Boxed, since it is nothing where recovery is off
    recovery: Option<Box<Recoverable>>,
    /// The application takes it out of its namespace
    put_out: AtomicBool,
    /// It has left its namespace; its client may still be there
    left: AtomicBool,
    /// Whether an event waits for the handlers of the one before it
    serial: AtomicBool,
    /// What few sockets have
    extras: OnceLock<Box<Extras>>,
}

// With its two counts it lies in a block of 144 bytes, of which malloc takes eight.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Inner>() <= 120, "one field more would cost each socket 16 bytes");

/// The key that a router gave, once it has; set by the task of the session alone
struct Key(AtomicU64);

impl Key {
    /// Keys are numbers that no two members get, so the last of all is one that none gets
    const NONE: u64 = u64::MAX;

    fn get(&self) -> Option<MemberKey> {
        let key = self.0.load(Ordering::Acquire);
        (key != Self::NONE).then_some(MemberKey(key))
    }

    fn set(&self, key: MemberKey) {
        self.0.store(key.0, Ordering::Release);
    }
}

impl Default for Key {
    fn default() -> Self {
        Self(AtomicU64::new(Self::NONE))
    }
}

/// What a socket has only if the application wants it to
#[derive(Default)]
pub(crate) struct Extras {
    pub(crate) board: Board,
    pub(crate) kept: Kept,
    turns: Turns,
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
            key: Key::default(),
            namespace,
            session,
            recovery,
            put_out: AtomicBool::new(false),
            left: AtomicBool::new(false),
            serial: AtomicBool::new(false),
            extras: OnceLock::new(),
        }))
    }

    /// Its public id, which is also the name of its own room
    pub fn id(&self) -> &SocketId {
        &self.0.member.id
    }

    /// The namespace it is in
    pub fn namespace(&self) -> NamespaceHandle {
        NamespaceHandle { io: self.io(), state: self.0.namespace.clone() }
    }

    /// The server
    pub fn io(&self) -> Io {
        self.0.session.io.clone()
    }

    /// The request that its session began with
    pub fn handshake(&self) -> &Handshake {
        &self.0.session.handshake
    }

    /// The transport it is on now
    pub fn transport(&self) -> TransportName {
        self.0.session.transport()
    }

    /// Which protocol the client speaks
    pub fn kind(&self) -> ClientKind {
        self.0.session.kind
    }

    /// Whether the client may still be reached; `false` as soon as the application disconnects it
    pub fn is_connected(&self) -> bool {
        let is_in = self.0.key.get().is_some() && !self.has_left() && !self.is_put_out();
        is_in && self.0.member.outbox.closed().is_none()
    }

    /// Whether its connection had broken, and it came back with its id, its rooms and its data, and is sent what it
    /// missed
    ///
    /// Never where [recovery](crate::Config::connection_state_recovery) is off.
    pub fn recovered(&self) -> bool {
        self.0.recovery.as_ref().is_some_and(|recovery| recovery.recovered)
    }

    /// Bytes that wait to be sent to the client
    pub fn waiting_bytes(&self) -> usize {
        self.0.member.outbox.waiting().bytes
    }

    /// What happens from now on to events for this client that its full outbox does not take
    ///
    /// Holds for all namespaces of the client, unless the emit or the room says otherwise. Default:
    /// [`Overflow::Close`].
    pub fn set_overflow(&self, overflow: Overflow) {
        self.0.member.outbox.set_overflow(overflow);
    }

    /// Joins one room or several; `false` if the socket is gone, or not in yet, or in
    /// [as many rooms](crate::Config::max_rooms) as it may be
    ///
    /// Of several rooms it has then joined those before the first that was too many.
    pub fn join(&self, rooms: impl IntoRooms) -> bool {
        let Some(key) = self.key() else { return false };
        let join = |room| matches!(self.0.namespace.router.join(key, room), Joined::Joined | Joined::Already);
        into_rooms(rooms).iter().all(join)
    }

    /// Leaves a room; `false` if it was not in it
    pub fn leave(&self, room: impl Into<Room>) -> bool {
        self.0.key.get().is_some_and(|key| self.0.namespace.router.leave(key, &room.into()))
    }

    /// The rooms it is in, its own first; none once it is gone
    pub fn rooms(&self) -> Vec<Room> {
        self.0.key.get().map_or_else(Vec::new, |key| self.0.namespace.router.rooms_of(key))
    }

    /// What the client showed when it asked to join the namespace; it is `socket.handshake.auth` on Node
    ///
    /// An empty object if it showed nothing, or more than 64 KiB; middlewares and connect handlers get that too, by
    /// [`Auth`](crate::Auth).
    ///
    /// # Errors
    /// When it is not of this type.
    pub fn auth<T: DeserializeOwned>(&self) -> Result<T, DataError> {
        read(&self.0.auth_json())
    }

    /// Whether an event of this socket waits until the handlers of the one before it have ended
    ///
    /// Default: what its [namespace](NamespaceHandle::serial) was told. A handler must then not wait for an event of
    /// its own client, which would come to nothing; waiting for an answer is fine.
    pub fn serial(&self, serial: bool) {
        self.0.serial.store(serial, Ordering::Relaxed);
    }

    /// Takes the client out of this namespace; its other namespaces and its connection stay
    ///
    /// No handler hears any more of what it has sent; those that were called go on.
    pub fn disconnect(&self) {
        MemberControl::disconnect(&*self.0, false);
    }

    /// Closes the connection of the client, with all its namespaces
    ///
    /// No handler hears any more of what it has sent; those that were called go on.
    pub fn disconnect_client(&self) {
        MemberControl::disconnect(&*self.0, true);
    }

    /// Whether it is the very same, and not just one of the same id
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What tells it from every other socket for as long as a handle to it is kept
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Whether the application has disconnected it; it may not have left yet
    pub(crate) fn is_put_out(&self) -> bool {
        self.0.put_out.load(Ordering::Relaxed) || self.0.session.put_out.load(Ordering::Relaxed)
    }

    pub(crate) fn has_left(&self) -> bool {
        self.0.left.load(Ordering::Acquire)
    }

    pub(crate) fn is_serial(&self) -> bool {
        self.0.serial.load(Ordering::Relaxed) || self.0.namespace.is_serial()
    }

    /// Whether it has handlers of its own
    pub(crate) fn has_listeners(&self) -> bool {
        self.extras().is_some_and(|extras| extras.board.is_used())
    }

    /// What it has beyond others, if anything
    pub(crate) fn extras(&self) -> Option<&Extras> {
        self.0.extras.get().map(AsRef::as_ref)
    }

    fn board(&self) -> &Board {
        let board = &self.0.extras.get_or_init(Box::default).board;
        // Either this sees that it has left, or `clear` sees that there is something to let go of.
        fence(Ordering::SeqCst);
        if self.has_left() {
            board.close();
        }
        board
    }

    /// Those that listen to something, of the namespace first
    pub(crate) fn listening_to(&self, topic: Topic) -> [Listeners; 2] {
        let own = self.extras().map(|extras| extras.board.topic(topic)).unwrap_or_default();
        [self.0.namespace.board.topic(topic), own]
    }

    /// Those that listen to an event by its name, of the namespace first, or else those that listen to others; those
    /// that do so once do so no longer
    pub(crate) fn take_event(&self, name: &str) -> [Listeners; 2] {
        let own = self.extras().map(|extras| extras.board.take_event(name)).unwrap_or_default();
        let all = self.0.namespace.board.take_event(name);
        if all.is_empty() && own.is_empty() {
            return self.listening_to(Topic::Other);
        }
        [all, own]
    }

    /// Lets go of what the application gave it, which may hold the socket itself; for when it is over
    pub(crate) fn clear(&self) {
        self.0.left.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        let let_go = AssertUnwindSafe(|| {
            self.0.namespace.outgoing.clear(self);
            self.extras().into_iter().for_each(|extras| extras.board.close());
        });
        if catch_unwind(let_go).is_err() {
            tracing::error!(socket = %self.id(), "what a handler held panicked when it was dropped");
        }
    }

    pub(crate) fn name_of_namespace(&self) -> &Namespace {
        &self.0.namespace.name
    }

    pub(crate) fn state(&self) -> &Arc<NamespaceState> {
        &self.0.namespace
    }

    /// Lets it into the router; from now on broadcasts reach it
    pub(crate) fn attach(&self) {
        if self.key().is_none() {
            self.0.key.set(self.0.namespace.router.attach(self.member()));
        }
    }

    /// As a router gets it: with the handle by which it is asked and disconnected, until it is detached
    pub(crate) fn member(&self) -> Member {
        let control: Arc<dyn MemberControl> = self.0.clone();
        Member { control: Some(control), ..self.0.member.clone() }
    }

    /// The socket behind such a handle, if it is one of this node
    pub(crate) fn from_control(control: Arc<dyn MemberControl>) -> Option<Self> {
        let any: Arc<dyn Any + Send + Sync> = control;
        any.downcast().ok().map(Self)
    }

    pub(crate) fn key(&self) -> Option<MemberKey> {
        self.0.key.get()
    }

    /// Hands an event to this socket alone
    pub(crate) fn hand(&self, delivery: Delivery, overflow: Overflow, event: &mut Event) -> Receipt {
        if self.has_left() {
            return Receipt { closed: 1, ..Receipt::default() };
        }
        if self.0.namespace.outgoing.is_used() {
            self.0.namespace.outgoing.tell_one(self, event);
        }
        let router = &self.0.namespace.router;
        let dispatched = match event.ack {
            None => router.send(&self.0.member, delivery, overflow, event),
            // Only with its handle is it told that the client owes too many answers.
            Some(_) => router.send(&self.member(), delivery, overflow, event),
        };
        pace::settle(dispatched, &event.name)
    }

    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.member.outbox.poll_writable(cx)
    }

    /// Whether the client owes answers that somebody may wait for
    pub(crate) fn owes_answers(&self) -> bool {
        !self.0.member.acks.is_empty()
    }

    /// Whose turn it is at its serial handlers
    pub(crate) fn turns(&self) -> &Turns {
        &self.0.extras.get_or_init(Box::default).turns
    }

    pub(crate) fn kept(&self) -> &Kept {
        &self.0.extras.get_or_init(Box::default).kept
    }

    /// Puts back what was kept with it before its connection broke, if that is anything
    pub(crate) fn restore_data(&self, json: ByteString) {
        if !json.is_empty() {
            self.kept().set_data_json(json);
        }
    }

    /// Keeps what the client showed at the door, if that is anything
    pub(crate) fn set_auth(&self, auth: &str) {
        if !auth.is_empty() && auth.len() <= MAX_AUTH {
            self.kept().set_auth(auth.into());
        }
    }

    /// Lets it into the router as who it was, with `welcome` where it belongs among what it missed
    pub(crate) fn resume(&self, claim: Claim, order: Order, welcome: impl FnOnce()) -> Result<(), Refused> {
        let key = claim.resume(self.member(), order, welcome)?;
        self.0.key.set(key);
        Ok(())
    }

    /// By what it may come back, where that is on
    pub(crate) fn recovery_secret(&self) -> Option<ByteString> {
        self.0.recovery.as_ref().map(|recovery| recovery.secret.clone())
    }

    /// Takes it out of all rooms, and tells those who wait for its answers; if it may come back, it is kept
    pub(crate) fn detach(&self, may_come_back: bool) {
        self.0.left.store(true, Ordering::Release);
        if let Some(key) = self.0.key.get() {
            match self.0.recovery.as_ref().filter(|_| may_come_back) {
                Some(recovery) => {
                    let data = self.extras().map(|extras| extras.kept.data_json()).unwrap_or_default();
                    recovery.sequencer.keep(key, recovery.secret.clone(), data);
                }
                None => {
                    self.0.namespace.router.detach(key);
                }
            }
        }
        self.0.member.acks.close(&self.0.member.id);
    }

    /// Hands an answer of the client to whoever waits for it
    pub(crate) fn answered(&self, id: AckId, args: Args) -> bool {
        self.0.member.acks.answer(&self.0.member.id, id, args)
    }

    /// Answers an event of the client
    pub(crate) fn answer(&self, id: AckId, args: &Args) -> Result<(), EmitError> {
        let member = &self.0.member;
        if self.has_left() {
            return Err(EmitError::Disconnected);
        }
        self.0.namespace.budget.admit()?;
        let frame = member.codec.encode_answer(&self.0.namespace.name, id, args).map_err(|error| {
            tracing::debug!(socket = %member.id, %error, "an answer could not be put for this client");
            EmitError::Unsupported
        })?;
        let mut dispatched = Dispatched::default();
        dispatched.record(member.outbox.push_protocol(frame), &member.outbox);
        one(pace::settle(dispatched, "an acknowledgement"))
    }
}

listening!(Socket, |socket: &Self, listener| socket.state().outgoing.remove(socket, listener));

impl Inner {
    fn data_json(&self) -> ByteString {
        or_empty(self.extras.get().map(|extras| extras.kept.data_json()))
    }

    fn auth_json(&self) -> ByteString {
        or_empty(self.extras.get().map(|extras| extras.kept.auth_json()))
    }
}

/// The outcome of an event for one socket: an error unless it was queued, or dropped as its sender allowed
pub(crate) fn one(receipt: Receipt) -> Result<(), EmitError> {
    match receipt {
        Receipt { overflowed: 1.., .. } => Err(EmitError::OutboxFull),
        Receipt { closed: 1.., .. } => Err(EmitError::Disconnected),
        Receipt { unsupported: 1.., .. } => Err(EmitError::Unsupported),
        _ => Ok(()),
    }
}

fn or_empty(json: Option<ByteString>) -> ByteString {
    json.filter(|json| !json.is_empty()).unwrap_or_else(|| ByteString::from_static("{}"))
}

impl MemberControl for Inner {
    fn handshake(&self) -> ByteString {
        self.session.handshake.to_json(&self.auth_json()).into()
    }

    fn data(&self) -> ByteString {
        self.data_json()
    }

    fn disconnect(&self, close: bool) {
        let visit = if close {
            self.session.put_out.store(true, Ordering::Relaxed);
            Visit::Close(CloseReason::ForcedServerClose)
        } else {
            // Who is not in cannot be taken out.
            self.put_out.store(self.key.get().is_some(), Ordering::Relaxed);
            Visit::Disconnect(self.namespace.name.clone(), self.member.id.clone())
        };
        // If the session is over already there is nothing left to do.
        let _ = self.session.inbox.push(visit);
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.member.outbox.poll_writable(cx)
    }

    fn max_rooms(&self) -> usize {
        self.session.io.config().max_rooms
    }

    fn limited(&self, limit: MemberLimit) {
        let (io, socket) = (&self.session.io, &self.member.id);
        match limit {
            MemberLimit::Rooms => {
                let max = io.config().max_rooms;
                breach!(io, Breach::Rooms, %socket, max, "did not put a socket into one more room");
            }
            MemberLimit::Answers => {
                let max = io.config().max_acks;
                breach!(io, Breach::Acks, %socket, max, "did not ask a client that owes too many answers");
            }
            other => tracing::error!(?other, "a router keeps a limit that this server does not know"),
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("id", &self.member.id).finish_non_exhaustive()
    }
}

/// Bytes of JSON text that a client may show at the door and that are kept for later
const MAX_AUTH: usize = 64 * 1024;

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", self.id())
            .field("namespace", &self.0.namespace.name)
            .finish_non_exhaustive()
    }
}
