//! One client in one namespace

mod control;
mod early;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use roomcast_core::{
    AckId, Args, ByteString, CloseReason, Delivery, Dispatched, Event, Joined, Member, MemberControl,
    MemberKey, Namespace, Overflow, Receipt, Room, SocketId, Target, TransportName,
};
use roomcast_recovery::{Acting, Claim, Order, Refused, SharedData};
use serde::de::DeserializeOwned;

use crate::app::error::EmitError;
use crate::app::into_rooms::{IntoRooms, into_rooms};
use crate::app::model::event_input::{Board, Listeners};
use crate::app::model::io::{Io, SessionShared};
use crate::app::model::listeners::Topic;
use crate::app::model::namespace_state::NamespaceState;
use crate::app::model::turns::Turns;
use crate::app::model::user_data::{DataError, Kept, read};
use crate::host::breach::{Breach, breach};
use crate::host::metrics::count;
use crate::host::pace;
use crate::session::recovery::{self, Recoverable};
use crate::session::shared::ClientKind;
use crate::util::log_limit::log_limited;
use crate::web::handshake::Handshake;

/// One client in one namespace; cloning gives another handle to the same socket
///
/// It is the same for every kind of client. It may be kept beyond the end of its connection: what is emitted then
/// reaches nobody, and what it joins is refused. Where
/// [recovery](crate::Config::recovery) is on, a handle from before the connection broke stands for
/// the client that came back: what is emitted reaches it, or is kept for it, `broadcast` leaves it out, and rooms and
/// data are its own. Only [`is_connected`](Self::is_connected), handlers and answers concern the connection that broke.
#[derive(Clone)]
pub struct Socket(Arc<Inner>);

struct Inner {
    member: Member,
    namespace: Arc<NamespaceState>,
    session: Arc<SessionShared>,
    /// Boxed, since it is nothing where recovery is off
    recovery: Option<Box<Recoverable>>,
    standing: Standing,
    /// What the application gave it was let go of
    cleared: AtomicBool,
    /// Whether an event waits for the handlers of the one before it
    serial: AtomicBool,
    /// What few sockets have
    extras: OnceLock<Box<Extras>>,
}

// With its two counts it lies in a block of 144 bytes, of which malloc takes eight.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Inner>() <= 120, "one field more would cost each socket 16 bytes");

/// How far a socket is on its way through its namespace; it only goes on
struct Standing(AtomicU8);

impl Standing {
    /// Its middlewares have not agreed, or the router is just about to let it in
    const PENDING: u8 = 0;
    const IN: u8 = 1;
    /// Disconnected by the application, and out of the router; its handlers may not have been told yet
    const PUT_OUT: u8 = 2;
    /// Left for another reason; its client may come back where recovery is on
    const LEFT: u8 = 3;
    /// Disconnected by the application after it had left, so its client does not come back
    const BARRED: u8 = 4;

    fn get(&self) -> u8 {
        self.0.load(Ordering::Acquire)
    }

    /// Goes on from one to another; `false` if it stood elsewhere
    fn advance(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// What a socket has only if the application wants it to
#[derive(Default)]
pub(crate) struct Extras {
    pub(crate) board: Board,
    pub(crate) kept: Kept,
    turns: Turns,
    parting: Mutex<Parting>,
    /// Rooms that it joined before it was let in
    early: Mutex<Vec<Room>>,
    /// The sockets of the same client, if it is in several namespaces
    siblings: OnceLock<Arc<Siblings>>,
}

/// The rooms that a socket was in when the application put it out, for its `disconnecting` handlers
#[derive(Default)]
struct Parting {
    rooms: Vec<Room>,
    /// Those handlers are being called
    shown: bool,
}

/// The sockets of one client, so that they can be disconnected at once
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
            standing: Standing(AtomicU8::new(Standing::PENDING)),
            cleared: AtomicBool::new(false),
            serial: AtomicBool::new(false),
            extras: OnceLock::new(),
        }))
    }

    /// Its public id, which is also the name of its own room
    pub fn id(&self) -> &SocketId {
        &self.0.member.id
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
        let is_in = match self.0.standing.get() {
            Standing::IN => true,
            // Hooks hear of it while the router lets it in.
            Standing::PENDING => !self.0.namespace.router.rooms_of(self.key()).is_empty(),
            _ => false,
        };
        is_in && !self.is_put_out() && self.0.member.outbox.closed().is_none()
    }

    /// Whether its connection had broken, and it came back with its id, its rooms and its data, and is sent what it
    /// missed
    ///
    /// Never where [recovery](crate::Config::recovery) is off.
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

    /// Joins one room or several; `false` if the socket is gone, or in [as many rooms](crate::config::Limits::max_rooms) as it
    /// may be
    ///
    /// Of several rooms it has then joined those before the first that was too many. What a middleware of the
    /// namespace joins takes effect when the client is let in, before the connect handlers; a client that is refused
    /// was never in the room.
    pub fn join(&self, rooms: impl IntoRooms) -> bool {
        let join = |room: &Room| {
            if !self.0.namespace.fits(room) {
                let (io, socket) = (self.io(), self.id());
                let value = io.config().limits.max_name_bytes;
                breach!(io, Breach::NameSize, %socket, value, "join refused: room name too long");
                return false;
            }
            if self.0.standing.get() == Standing::PENDING {
                return self.join_early(room);
            }
            let joined = self.0.namespace.router.join(self.key(), room);
            matches!(joined, Joined::Joined | Joined::Already)
        };
        into_rooms(rooms).iter().all(join)
    }

    /// Leaves a room; `false` if it was not in it
    pub fn leave(&self, room: impl Into<Room>) -> bool {
        let room = room.into();
        self.leave_early(&room) || self.0.namespace.router.leave(self.key(), &room)
    }

    /// Returns whether it is in a room; `false` once it is gone.
    pub fn is_in(&self, room: impl Into<Room>) -> bool {
        self.rooms().contains(&room.into())
    }

    /// The rooms it is in, its own first; none once it is gone
    ///
    /// In a middleware of the namespace, those that it joined so far: it is in its own once it is let in.
    /// In a handler of [`on_disconnecting`](Self::on_disconnecting), up to its first wait, those that it leaves.
    pub fn rooms(&self) -> Vec<Room> {
        let mut rooms = self.0.namespace.router.rooms_of(self.key());
        if self.0.standing.get() == Standing::PENDING
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

    /// What the client showed when it asked to join the namespace; it is `socket.handshake.auth` on Node
    ///
    /// An empty object if it showed nothing; handlers and middlewares get that too, by [`Auth`](crate::Auth), which
    /// tells what each kind of client shows.
    ///
    /// # Errors
    /// When it is not of this type.
    pub fn auth<T: DeserializeOwned>(&self) -> Result<T, DataError> {
        read(&self.0.auth_json())
    }

    /// Whether an event of this socket waits until the handlers of the one before it have ended
    ///
    /// Default: what its [namespace](crate::namespace::NamespaceHandle::serial) was told. A handler must then not wait for an event of
    /// its own client, which would come to nothing; waiting for an answer is fine.
    pub fn serial(&self, serial: bool) {
        self.0.serial.store(serial, Ordering::Relaxed);
    }

    /// Takes the client out of this namespace; its other namespaces and its connection stay
    ///
    /// When this returns the socket is in no room any more, nothing that is emitted afterwards reaches it, and it will
    /// not be [recovered](Self::recovered), whatever becomes of its connection. Handlers of `disconnect` see
    /// [`ServerNamespaceDisconnect`](CloseReason::ServerNamespaceDisconnect). Does nothing while the middlewares of
    /// the namespace have not agreed. May be called from any thread, and from hooks and handlers of every kind.
    ///
    /// No handler hears any more of what it has sent; those that were called go on.
    pub fn disconnect(&self) {
        MemberControl::disconnect(&*self.0, false);
    }

    /// Closes the connection of the client, with all its namespaces
    ///
    /// What [`disconnect`](Self::disconnect) says holds for each of its sockets. Does no more than that once this socket
    /// has left its namespace.
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
    #[inline]
    pub(crate) fn is_put_out(&self) -> bool {
        let standing = self.0.standing.0.load(Ordering::Relaxed);
        standing == Standing::PUT_OUT
            || standing == Standing::BARRED
            || self.0.session.put_out.load(Ordering::Relaxed)
    }

    /// Whether it is out, for whichever reason
    pub(crate) fn has_left(&self) -> bool {
        self.0.standing.get() > Standing::IN
    }

    /// Whether what the application gives it is let go of at once
    pub(crate) fn is_cleared(&self) -> bool {
        self.0.cleared.load(Ordering::Acquire)
    }

    /// Why it left: what the application did goes before whatever else came meanwhile
    pub(crate) fn reason_over(&self, reason: CloseReason) -> CloseReason {
        if self.0.standing.get() == Standing::PUT_OUT {
            CloseReason::ServerNamespaceDisconnect
        } else {
            reason
        }
    }

    pub(crate) fn is_serial(&self) -> bool {
        self.0.serial.load(Ordering::Relaxed) || self.0.namespace.is_serial()
    }

    /// Whether anything may have to be told of what goes wrong with its events
    #[inline]
    pub(crate) fn hears_errors(&self) -> bool {
        self.0.namespace.board.hears_errors()
            || self.extras().is_some_and(|extras| extras.board.hears_errors())
    }

    /// Whether it has handlers of its own
    pub(crate) fn has_listeners(&self) -> bool {
        self.extras().is_some_and(|extras| extras.board.is_used())
    }

    /// What it has beyond others, if anything
    pub(crate) fn extras(&self) -> Option<&Extras> {
        self.0.extras.get().map(AsRef::as_ref)
    }

    pub(crate) fn board(&self) -> &Board {
        let board = &self.0.extras.get_or_init(Box::default).board;
        // Either this sees that it is over, or `clear` sees that there is something to let go of.
        fence(Ordering::SeqCst);
        if self.is_cleared() {
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
        // One that was never let in will not be.
        self.0.standing.advance(Standing::PENDING, Standing::LEFT);
        self.0.cleared.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        let let_go = AssertUnwindSafe(|| {
            self.0.namespace.outgoing.clear(self);
            self.extras().into_iter().for_each(|extras| {
                extras.board.close();
                lock(&extras.early).clear();
            });
        });
        if catch_unwind(let_go).is_err() {
            count::handlers_panicked(self.io().metrics());
            log_limited!(ERROR, (), socket = %self.id(), "handler panicked when it was dropped");
        }
    }

    /// What the client showed, as JSON text; an empty object if nothing
    pub(crate) fn auth_json(&self) -> ByteString {
        self.0.auth_json()
    }

    pub(crate) fn name_of_namespace(&self) -> &Namespace {
        &self.0.namespace.name
    }

    pub(crate) fn state(&self) -> &Arc<NamespaceState> {
        &self.0.namespace
    }

    /// Lets it into the router; from now on broadcasts reach it
    pub(crate) fn attach(&self) {
        self.0.namespace.router.attach(self.member());
        self.set_owner();
        self.settle_in();
    }

    /// It is in the router now, unless a hook that heard of it, or another thread that found it, has put it out again
    fn settle_in(&self) {
        self.0.standing.advance(Standing::PENDING, Standing::IN);
        // Either a thread that keeps a room for later sees that it is in, or the room is seen here.
        fence(Ordering::SeqCst);
        self.enter_early();
        // Its client may have been disconnected meanwhile, by way of another namespace.
        if self.0.session.put_out.load(Ordering::SeqCst) {
            self.0.put_out();
        }
    }

    /// Makes two sockets of one client known to each other, so that one can be disconnected by way of the other
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

    /// Says whose share of what is kept it counts for, where it can come back
    fn set_owner(&self) {
        if let Some(recovery) = &self.0.recovery {
            recovery.sequencer.set_owner(self.key(), recovery::owner(self.handshake(), self.id()));
        }
    }

    /// Begins to emit on behalf of this client, where that matters: its handlers are about to run
    #[inline]
    pub(crate) fn acting(&self) -> Option<Acting> {
        self.0
            .namespace
            .sequencer
            .as_ref()
            .map(|_| Acting::begin(recovery::owner(self.handshake(), self.id())))
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

    /// What tells it from every other socket, and stays when its client comes back
    pub(crate) fn key(&self) -> MemberKey {
        self.0.member.key
    }

    /// Hands an event to this socket alone
    pub(crate) fn hand(&self, delivery: Delivery, overflow: Overflow, event: &mut Event) -> Receipt {
        if self.has_left() {
            return self.hand_on(delivery, overflow, event);
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

    /// Hands an event to the client that came back as this socket, or keeps it for when it does
    #[cold]
    fn hand_on(&self, delivery: Delivery, overflow: Overflow, event: &mut Event) -> Receipt {
        let closed = Receipt { closed: 1, ..Receipt::default() };
        let Some(recovery) = self.0.recovery.as_ref().filter(|_| self.0.standing.get() == Standing::LEFT)
        else {
            return closed;
        };
        // Twice, since it may come back in between.
        for _ in 0..2 {
            if let Some(successor) = self.0.successor() {
                return successor.hand(delivery, overflow, event);
            }
            if recovery.sequencer.send_later(self.key(), delivery, event) {
                return Receipt::default();
            }
        }
        closed
    }

    /// Whose turn it is at its serial handlers
    pub(crate) fn turns(&self) -> &Turns {
        &self.0.extras.get_or_init(Box::default).turns
    }

    pub(crate) fn kept(&self) -> &Kept {
        &self.0.extras.get_or_init(Box::default).kept
    }

    /// Shares what is kept with it with the handles from before its connection broke
    pub(crate) fn restore_data(&self, data: SharedData) {
        self.kept().share_data(data);
    }

    /// Counts what is kept with it anew, if it is kept for a client that is away
    pub(crate) fn recount_data(&self) {
        if let Some(recovery) = self.0.recovery.as_ref().filter(|_| self.has_left()) {
            recovery.sequencer.recount(self.key());
        }
    }

    /// Keeps what the client showed at the door, if that is anything
    pub(crate) fn set_auth(&self, auth: &str) {
        if !auth.is_empty() {
            self.kept().set_auth(auth.into());
        }
    }

    /// Lets it into the router as who it was, with `welcome` where it belongs among what it missed
    pub(crate) fn resume(&self, claim: Claim, order: Order, welcome: impl FnOnce()) -> Result<(), Refused> {
        claim.resume(self.member(), order, welcome)?;
        self.set_owner();
        self.settle_in();
        Ok(())
    }

    /// By what it may come back, where that is on
    pub(crate) fn recovery_secret(&self) -> Option<ByteString> {
        self.0.recovery.as_ref().map(|recovery| recovery.secret.clone())
    }

    /// Lets its `disconnecting` handlers see the rooms it was in when it was put out, or no longer
    pub(crate) fn show_parting(&self, shown: bool) {
        if let Some(extras) = self.extras() {
            let mut parting = lock(&extras.parting);
            parting.shown = shown;
            if !shown {
                parting.rooms = Vec::new();
            }
        }
    }

    /// Takes it out of all rooms, and tells those who wait for its answers; if it may come back, it is kept
    ///
    /// Every event emitted before `heard_at` is known to have arrived at the client.
    pub(crate) fn detach(&self, may_come_back: bool, heard_at: Option<Instant>) {
        let (inner, key) = (&self.0, self.key());
        if inner.standing.advance(Standing::IN, Standing::LEFT) {
            match inner.recovery.as_ref().filter(|_| may_come_back) {
                Some(recovery) => {
                    let data = self.kept().shared_data();
                    recovery.sequencer.keep(key, recovery.secret.clone(), data, heard_at);
                    // Whoever disconnected it meanwhile may have come too early to find it.
                    if inner.standing.get() == Standing::BARRED {
                        recovery.sequencer.forget(key);
                    }
                }
                None => {
                    inner.namespace.router.detach(key);
                }
            }
        } else if inner.standing.get() == Standing::PUT_OUT {
            // Whoever put it out is perhaps still about to.
            inner.namespace.router.detach(key);
        }
        inner.member.acks.close(&inner.member.id);
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
            tracing::debug!(socket = %member.id, %error, "acknowledgement not encodable for client");
            EmitError::Unsupported
        })?;
        let mut dispatched = Dispatched::default();
        dispatched.record(member.outbox.push_protocol(frame), &member.outbox);
        one(pace::settle(dispatched, "an acknowledgement")).map(drop)
    }
}

impl Inner {
    /// Takes it out of the router at once; returns `false` if it was not in, or is out already
    ///
    /// One that has left is kept from coming back.
    fn put_out(&self) -> bool {
        let router = &self.namespace.router;
        let key = self.member.key;
        loop {
            match self.standing.get() {
                Standing::PENDING => {
                    // A hook may hear of it, and another thread find it, while the router lets it in.
                    self.note_parting(router.rooms_of(key));
                    let was_in = router.detach(key);
                    let put_out = |standing| (standing <= Standing::IN).then_some(Standing::PUT_OUT);
                    if was_in {
                        let _ = self.standing.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, put_out);
                        break;
                    }
                    if self.standing.get() == Standing::PENDING {
                        return false;
                    }
                }
                Standing::IN => {
                    if self.standing.advance(Standing::IN, Standing::PUT_OUT) {
                        self.note_parting(router.rooms_of(key));
                        router.detach(key);
                        break;
                    }
                }
                Standing::LEFT => {
                    self.standing.advance(Standing::LEFT, Standing::BARRED);
                }
                _ => {
                    // The task of its session, or another thread, may be just about to detach it.
                    if self.successor().is_none() {
                        router.detach(key);
                    }
                    self.forget();
                    return false;
                }
            }
        }
        self.member.acks.close(&self.member.id);
        true
    }

    /// Keeps a client that is away from coming back
    fn forget(&self) {
        self.recovery.iter().for_each(|recovery| _ = recovery.sequencer.forget(self.member.key));
    }

    fn note_parting(&self, rooms: Vec<Room>) {
        if !rooms.is_empty() {
            lock(&self.extras.get_or_init(Box::default).parting).rooms = rooms;
        }
    }

    /// The socket as which the client of this one has come back and is here
    fn successor(&self) -> Option<Socket> {
        self.recovery.as_ref()?;
        let target = Target { rooms: vec![Room::from(&self.member.id)], ..Target::default() };
        let found = self.namespace.router.find(&target).into_iter();
        let control =
            found.filter(|found| found.key == Some(self.member.key)).find_map(|found| found.control)?;
        Socket::from_control(control).filter(|socket| !std::ptr::eq(&*socket.0, self))
    }

    fn auth_json(&self) -> ByteString {
        or_empty(match self.session.kind {
            // Read anew each time, since it is in the handshake already.
            ClientKind::Plain | ClientKind::Json => Some(self.session.handshake.plain_auth()),
            ClientKind::SocketIo | ClientKind::EngineIo => {
                self.extras.get().map(|extras| extras.kept.auth_json())
            }
        })
    }
}

/// The outcome of an event for one socket: an error unless it was queued, or dropped as its sender allowed
#[inline(always)]
pub(crate) fn one(receipt: Receipt) -> Result<Receipt, EmitError> {
    if receipt.queued > 0 { Ok(receipt) } else { not_queued(receipt) }
}

#[cold]
#[inline(never)]
fn not_queued(receipt: Receipt) -> Result<Receipt, EmitError> {
    match receipt {
        Receipt { overflowed: 1.., .. } => Err(EmitError::OutboxFull),
        Receipt { closed: 1.., .. } => Err(EmitError::Disconnected),
        Receipt { unsupported: 1.., .. } => Err(EmitError::Unsupported),
        _ => Ok(receipt),
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
