//! Recovery that stores the sessions of another one.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytestring::ByteString;
use roomcast_core::{
    Delivery, Dispatched, Event, EventLog, JoinOutcome, Member, MemberKey, Membership, Namespace, Overflow,
    Room, RoomWatcher, Router, RouterStats, SocketId, SocketInfo, Target, WatchFilter,
};

use super::claim::SessionClaim;
use super::queue::{SessionQueue, SessionSource};
use super::{Epoch, SessionId, StoredSession};
use crate::recovery::{Claim, Flushed, Recovery, SessionInit};
use crate::retained::SharedData;
use crate::sequencer::Usage;

/// Recovery that wraps another one, and stores its sessions outside the process as they change.
///
/// A session is marked when it is attached, when its rooms or data change, and when it disconnects; the task that
/// writes the [queue](SessionQueue) stores it. It is removed when its client or the application ends it.
///
/// A claim asks the store first, so a client is never recovered from a state that another node has taken over. If the
/// store fails, the client starts a new session. Sessions of other processes are recovered if all nodes share a [log of
/// events](Recovery::use_event_log); otherwise only sessions of this process, since the wrapped recovery has no missed
/// events of others.
///
/// If the store refuses a session because another node has claimed it, its member is
/// [displaced](roomcast_core::MemberControl::displace).
pub struct StoredSessions {
    inner: Arc<dyn Recovery>,
    queue: Arc<SessionQueue>,
    namespace: Namespace,
    source: Weak<dyn SessionSource>,
    /// Whether all nodes share a log of events, so that sessions of other nodes can be recovered.
    is_shared: AtomicBool,
}

impl StoredSessions {
    /// Wraps the recovery of a namespace.
    pub fn new(namespace: Namespace, inner: Arc<dyn Recovery>, queue: Arc<SessionQueue>) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| {
            let (source, is_shared) = (this.clone(), AtomicBool::new(false));
            Self { inner, queue, namespace, source, is_shared }
        })
    }

    fn id(&self, secret: &str) -> SessionId {
        SessionId { namespace: self.namespace.clone(), secret: secret.into() }
    }
}

impl SessionSource for StoredSessions {
    fn state(&self, key: MemberKey, socket: &SocketId) -> Option<StoredSession> {
        let target = Target { rooms: vec![Room::from(socket)], ..Target::default() };
        let found = self.inner.find(&target).into_iter().find(|found| found.key == Some(key))?;
        let own = Room::from(socket);
        let control = found.control;
        Some(StoredSession {
            socket: socket.clone(),
            rooms: found.rooms.into_iter().filter(|room| *room != own).collect(),
            data: control.as_ref().map(|control| control.data()).unwrap_or_default(),
            handled: control.as_ref().map(|control| control.handled_events()).unwrap_or_default(),
            handshake: control.map(|control| control.handshake()).unwrap_or_default(),
            connected: true,
            offset: self.inner.start(key).unwrap_or_default(),
        })
    }

    fn displaced(&self, key: MemberKey, socket: &SocketId) {
        let target = Target { rooms: vec![Room::from(socket)], ..Target::default() };
        let found = self.inner.find(&target).into_iter().find(|found| found.key == Some(key));
        match found.and_then(|found| found.control) {
            Some(control) => control.displace(),
            None => {
                self.inner.forget(key);
                self.inner.detach(key);
            }
        }
    }
}

impl Recovery for StoredSessions {
    fn attach_recoverable(&self, member: Member, session: SessionInit) -> MemberKey {
        let (id, socket) = (self.id(&session.secret), member.id.clone());
        let key = self.inner.attach_recoverable(member, session);
        self.queue.add(key, id, socket, Epoch::FIRST, self.source.clone());
        key
    }

    fn detach_and_retain(&self, key: MemberKey, data: SharedData, delivered_until: Option<Instant>) -> bool {
        let last = self.queue.last(key);
        let session = last.as_ref().and_then(|last| self.state(key, &last.socket));
        let (json, handled) = (data.get(), data.handled());
        let detached = self.inner.detach_and_retain(key, data, delivered_until);
        if let Some((last, session)) = last.zip(session)
            && detached
        {
            let offset = self.inner.start(key).unwrap_or(session.offset);
            let session = StoredSession { data: json, handled, connected: false, offset, ..session };
            self.queue.disconnected(key, last, session);
        }
        detached
    }

    fn forget(&self, key: MemberKey) -> bool {
        let was_retained = self.inner.forget(key);
        if was_retained {
            self.queue.ended(key);
        }
        was_retained
    }

    fn queue_for_absent(&self, key: MemberKey, delivery: Delivery, event: &Event) -> bool {
        self.inner.queue_for_absent(key, delivery, event)
    }

    fn data_changed(&self, key: MemberKey, data: &SharedData) {
        self.inner.data_changed(key, data);
        self.queue.data_changed(key, data);
    }

    fn shares_sessions(&self) -> bool {
        self.is_shared.load(Ordering::Relaxed)
    }

    fn missed(&self, room: Option<&Room>) {
        self.inner.missed(room);
    }

    fn attached(&self, secret: &str) -> Option<(MemberKey, SocketId)> {
        self.inner.attached(secret)
    }

    fn claim(self: Arc<Self>, secret: &str, offset: Option<&str>, budget: usize) -> Claim {
        let id = self.id(secret);
        let held = self.queue.held(&id);
        if held.is_none() && !self.is_shared.load(Ordering::Relaxed) {
            // Neither of this node nor known to the wrapped recovery.
            return self.inner.clone().claim(secret, offset, budget);
        }
        let claim = SessionClaim {
            inner: self.inner.clone(),
            queue: self.queue.clone(),
            source: self.source.clone(),
            id,
            offset: offset.map(ByteString::from),
            budget,
        };
        Claim::Pending(Box::pin(claim.run(held)))
    }

    fn claim_stored(
        self: Arc<Self>,
        secret: &str,
        session: &StoredSession,
        offset: Option<&str>,
        budget: usize,
    ) -> Claim {
        self.inner.clone().claim_stored(secret, session, offset, budget)
    }

    fn start(&self, key: MemberKey) -> Option<ByteString> {
        self.inner.start(key)
    }

    fn use_event_log(&self, log: Arc<dyn EventLog>) {
        self.inner.use_event_log(log);
        self.is_shared.store(true, Ordering::Relaxed);
    }

    fn flush(&self) -> Flushed<'_> {
        Box::pin(async {
            self.inner.flush().await;
            self.queue.flush().await;
        })
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}

impl Router for StoredSessions {
    fn attach(&self, member: Member) -> MemberKey {
        self.inner.attach(member)
    }

    fn detach(&self, key: MemberKey) -> bool {
        let was_there = self.inner.detach(key);
        if was_there {
            self.queue.ended(key);
        }
        was_there
    }

    fn join(&self, key: MemberKey, room: &Room) -> JoinOutcome {
        let joined = self.inner.join(key, room);
        if joined == JoinOutcome::Joined {
            self.queue.changed(key);
        }
        joined
    }

    fn leave(&self, key: MemberKey, room: &Room) -> bool {
        let left = self.inner.leave(key, room);
        if left {
            self.queue.changed(key);
        }
        left
    }

    fn rooms_of(&self, key: MemberKey) -> Vec<Room> {
        self.inner.rooms_of(key)
    }

    fn count(&self, room: &Room) -> usize {
        self.inner.count(room)
    }

    fn broadcast(&self, target: &Target, event: &Event) -> Dispatched {
        self.inner.broadcast(target, event)
    }

    fn send(&self, member: &Member, delivery: Delivery, overflow: Overflow, event: &mut Event) -> Dispatched {
        self.inner.send(member, delivery, overflow, event)
    }

    fn update(&self, target: &Target, change: &Membership) -> usize {
        let found = self.inner.find(target);
        let changed = self.inner.update(target, change);
        if changed > 0 {
            found.iter().filter_map(|found| found.key).for_each(|key| self.queue.changed(key));
        }
        changed
    }

    fn stats(&self) -> RouterStats {
        self.inner.stats()
    }

    fn find(&self, target: &Target) -> Vec<SocketInfo> {
        self.inner.find(target)
    }

    fn disconnect(&self, target: &Target, close: bool) -> usize {
        self.inner.disconnect(target, close)
    }

    fn watch(&self, watcher: Arc<dyn RoomWatcher>, filter: WatchFilter) {
        self.inner.watch(watcher, filter);
    }

    fn survey(&self) {
        self.inner.survey();
    }
}

impl fmt::Debug for StoredSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredSessions")
            .field("inner", &self.inner)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}
