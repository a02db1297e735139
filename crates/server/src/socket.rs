//! One client in one namespace

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytestring::ByteString;
use roomcast_core::{
    AckId, AckRequest, Args, CloseReason, Delivery, IntoArgs, Joined, Member, MemberKey, Namespace, Overflow,
    Pushed, Receipt, Room, SocketId, Target, TransportName,
};
use roomcast_recovery::{Claim, Order, Refused};

use crate::ack::Collector;
use crate::emit::{ACK_TIMEOUT, Emit, IntoRooms, event};
use crate::error::{AckError, EmitError};
use crate::handshake::Handshake;
use crate::inbox::Visit;
use crate::io::Io;
use crate::listeners::{Board, Listeners, Topic, listening};
use crate::namespace::{NamespaceHandle, NamespaceState};
use crate::recovery::Recoverable;
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
    key: OnceLock<MemberKey>,
    namespace: Arc<NamespaceState>,
    session: Arc<SessionShared>,
    /// Boxed, since it is nothing where recovery is off
    recovery: Option<Box<Recoverable>>,
    /// It has left its namespace; its client may still be there
    left: AtomicBool,
    /// Whether an event waits for the handlers of the one before it
    serial: AtomicBool,
    /// What few sockets have
    extras: OnceLock<Box<Extras>>,
}

/// What a socket has only if the application wants it to
#[derive(Default)]
pub(crate) struct Extras {
    pub(crate) board: Board,
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
            key: OnceLock::new(),
            namespace,
            session,
            recovery,
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

    /// Whether the client may still be reached
    pub fn is_connected(&self) -> bool {
        self.0.key.get().is_some() && !self.has_left() && self.0.member.outbox.closed().is_none()
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

    /// Joins a room; `false` if the socket is gone
    pub fn join(&self, room: impl Into<Room>) -> bool {
        let Some(&key) = self.0.key.get() else { return false };
        self.0.namespace.router.join(key, &room.into()) != Joined::Detached
    }

    /// Leaves a room; `false` if it was not in it
    pub fn leave(&self, room: impl Into<Room>) -> bool {
        self.0.key.get().is_some_and(|&key| self.0.namespace.router.leave(key, &room.into()))
    }

    /// The rooms it is in, its own first; none once it is gone
    pub fn rooms(&self) -> Vec<Room> {
        self.0.key.get().map_or_else(Vec::new, |&key| self.0.namespace.router.rooms_of(key))
    }

    /// Emits to this client
    ///
    /// # Errors
    /// See [`Emit::emit`].
    pub fn emit(&self, name: &str, args: impl IntoArgs) -> Result<Receipt, EmitError> {
        let event = event(&self.0.namespace, name, args.into_args()?, None)?;
        if self.has_left() {
            return Ok(Receipt { closed: 1, ..Receipt::default() });
        }
        Ok(self.0.namespace.router.send(&self.0.member, Delivery::Reliable, &event))
    }

    /// Emits to this client and waits for its answer, 5 seconds at most
    ///
    /// Handlers may wait here: the client is read on meanwhile.
    ///
    /// Cancel safe: dropped before its end, the event is sent and the answer is ignored.
    ///
    /// # Errors
    /// When the event cannot be emitted, the client went away or cannot answer, or the time is over.
    pub async fn emit_with_ack(&self, name: &str, args: impl IntoArgs) -> Result<Args, AckError> {
        self.emit_with_ack_in(name, args, ACK_TIMEOUT).await
    }

    /// Emits to this client and waits for its answer, at most this long
    ///
    /// # Errors
    /// As [`emit_with_ack`](Self::emit_with_ack).
    pub async fn emit_with_ack_in(
        &self,
        name: &str,
        args: impl IntoArgs,
        timeout: Duration,
    ) -> Result<Args, AckError> {
        let args = args.into_args().map_err(EmitError::from)?;
        let mut event = event(&self.0.namespace, name, args, None)?;
        let answers = Collector::new();
        event.ack = Some(AckRequest { id: self.0.namespace.next_ack(), answers: answers.clone() });
        let receipt = self.0.namespace.router.send(&self.0.member, Delivery::Reliable, &event);
        if receipt.unsupported > 0 {
            return Err(AckError::Unsupported);
        }
        if receipt.queued == 0 {
            return Err(AckError::Disconnected);
        }
        tokio::time::timeout(timeout, answers.wait()).await.map_err(|_| AckError::Timeout)?;
        match answers.take().answers.pop() {
            Some((_, args)) => Ok(args),
            None => Err(AckError::Disconnected),
        }
    }

    #[doc = include_str!("../docs/to.md")]
    pub fn to(&self, rooms: impl IntoRooms) -> Emit {
        self.broadcast().to(rooms)
    }

    /// Addresses the sockets in these rooms, this one included if it is in one of them
    pub fn within(&self, rooms: impl IntoRooms) -> Emit {
        self.namespace().to(rooms)
    }

    #[doc = include_str!("../docs/except.md")]
    pub fn except(&self, rooms: impl IntoRooms) -> Emit {
        self.broadcast().except(rooms)
    }

    /// Everybody in the namespace but this socket
    pub fn broadcast(&self) -> Emit {
        let target = Target { skip: self.0.key.get().copied(), ..Target::default() };
        Emit::new(self.0.namespace.clone(), target)
    }

    /// This socket alone, for setting how it is emitted
    pub fn target(&self) -> Emit {
        let target = Target { rooms: vec![self.id().into()], ..Target::default() };
        Emit::new(self.0.namespace.clone(), target)
    }

    /// Whether an event of this socket waits until the handlers of the one before it have ended
    ///
    /// Default: what its [namespace](NamespaceHandle::serial) was told. A handler must then not wait for an event of
    /// its own client, which would come to nothing; waiting for an answer is fine.
    pub fn serial(&self, serial: bool) {
        self.0.serial.store(serial, Ordering::Relaxed);
    }

    /// Takes the client out of this namespace; its other namespaces and its connection stay
    pub fn disconnect(&self) {
        // If the session is over already there is nothing left to do.
        let visit = Visit::Disconnect(self.0.namespace.name.clone(), self.id().clone());
        let _ = self.0.session.inbox.push(visit);
    }

    /// Closes the connection of the client, with all its namespaces
    pub fn disconnect_client(&self) {
        let _ = self.0.session.inbox.push(Visit::Close(CloseReason::ForcedServerClose));
    }

    fn has_left(&self) -> bool {
        self.0.left.load(Ordering::Acquire)
    }

    pub(crate) fn is_serial(&self) -> bool {
        self.0.serial.load(Ordering::Relaxed) || self.0.namespace.is_serial()
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
        if let Some(extras) = self.extras()
            && catch_unwind(AssertUnwindSafe(|| extras.board.close())).is_err()
        {
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
        self.0.key.get_or_init(|| self.0.namespace.router.attach(self.0.member.clone()));
    }

    /// Lets it into the router as who it was, with `welcome` where it belongs among what it missed
    pub(crate) fn resume(&self, claim: Claim, order: Order, welcome: impl FnOnce()) -> Result<(), Refused> {
        let key = claim.resume(self.0.member.clone(), order, welcome)?;
        self.0.key.get_or_init(|| key);
        Ok(())
    }

    /// By what it may come back, where that is on
    pub(crate) fn recovery_secret(&self) -> Option<ByteString> {
        self.0.recovery.as_ref().map(|recovery| recovery.secret.clone())
    }

    /// Takes it out of all rooms, and tells those who wait for its answers; if it may come back, it is kept
    pub(crate) fn detach(&self, may_come_back: bool) {
        self.0.left.store(true, Ordering::Release);
        if let Some(&key) = self.0.key.get() {
            match self.0.recovery.as_ref().filter(|_| may_come_back) {
                Some(recovery) => {
                    recovery.sequencer.keep(key, recovery.secret.clone(), ByteString::new());
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

    /// Answers an event of the client; `false` if it cannot be told
    pub(crate) fn answer(&self, id: AckId, args: &Args) -> bool {
        let member = &self.0.member;
        if self.has_left() {
            return false;
        }
        match member.codec.encode_answer(&self.0.namespace.name, id, args) {
            Ok(frame) => member.outbox.push_protocol(frame) != Pushed::Closed,
            Err(error) => {
                tracing::debug!(socket = %member.id, %error, "an answer could not be put for this client");
                false
            }
        }
    }
}

listening!(Socket);

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", self.id())
            .field("namespace", &self.0.namespace.name)
            .finish_non_exhaustive()
    }
}
