//! Router wrapper that numbers and retains events.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use bytestring::ByteString;
use roomcast_core::{
    ChangeQueue, Delivery, Dispatched, Event, EventLog, JoinOutcome, Member, MemberKey, Membership, Overflow,
    Room, RoomChange, RoomWatcher, Router, RouterStats, SocketId, SocketInfo, Target, WatchFilter,
};

use crate::log::{Draft, Entry, Log, Seen, is_epoch};
use crate::owner::Acting;
use crate::pending_recovery::ClaimedSession;
use crate::present::Present;
use crate::recovery::{Claim, ClaimResult, Recovery, SessionInit};
use crate::retained::{Absent, RetainedSession, RoomHistory, SharedData};
use crate::shared_log::{Origin, SharedClaim};
use crate::{RecoveryConfig, RecoveryError, StoredSession};

/// Router that wraps another one, numbers the events, retains them for a while, and replays missed ones.
///
/// Numbered events are neither volatile nor request an acknowledgement, as on Node: volatile events need no retention,
/// and the acknowledgement of a replayed event would have no receiver. All other events go to the inner
/// router unchanged.
///
/// # The lock
///
/// Each namespace has one lock. An event gets its number, enters the log and goes to the inner router, which only
/// pushes, under it. Members are attached, detached, retained and recovered under it too. So each member receives
/// numbers in ascending order, for any number of threads, and no event is emitted during a replay. It is taken before
/// any lock of the inner router. Events without a number do not take it.
///
/// # Offsets from outside
///
/// An event that arrives with an [`offset`](Event::offset) keeps it, such as the id of an entry in a stream that
/// several nodes read. Its position is that of its arrival, after all events that were numbered before, so events with
/// offsets of both kinds may be mixed. An offset from outside must be unique in the namespace; if it is repeated, it
/// refers to the last event with it. An offset that belongs to this log's epoch is replaced. The offset of an event
/// that is not numbered is removed, since a client could not return with it.
///
/// Once an event has left the log, its offset from outside cannot be distinguished from others. A client that returns
/// with such an offset is treated as one without an offset if all events of this kind that left the log are known to
/// have arrived. Otherwise it is refused.
///
/// # Shared log
///
/// With a [log that all nodes share](Recovery::use_event_log), only events with an offset are numbered, which that log
/// has. A claim reads the missed events from it, and adds later ones that arrived here. It treats the offset of a
/// client as that log does, and a client without an offset as one that has received all events before it was attached.
/// Events to a room that the client joined after its last event are replayed from there on, as on Node.
///
/// # Replayed events
///
/// The events after the client's last one, for all members, for a room that it was in when it disconnected, or for the
/// client alone. Excluded are events emitted before it joined, and events that excluded the client or a room it was in
/// at that time. Events that it missed in a room it had already left are not replayed.
///
/// # Gaps
///
/// The log is bounded. If an event dropped from a full log may concern a client, that client is refused rather than
/// recovered with a gap. An event dropped because of its age is older than the [grace](RecoveryConfig::grace) period
/// allows, so it matters only for a client that was far behind. Such a client is refused as well.
pub struct Sequencer {
    pub(crate) router: Arc<dyn Router>,
    pub(crate) config: RecoveryConfig,
    epoch: Box<str>,
    pub(crate) clock: Clock,
    /// Log that all nodes share, if events are ordered by one.
    pub(crate) shared_log: OnceLock<Arc<dyn EventLog>>,
    state: Mutex<State>,
}

type Clock = Box<dyn Fn() -> Instant + Send + Sync>;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) log: Log,
    present: Present,
    pub(crate) absent: Absent,
    /// Members with a pending recovery.
    pub(crate) claimed: HashMap<MemberKey, SocketId>,
    /// Room changes for each watcher, delivered when the lock is released.
    changes: Vec<Arc<ChangeQueue>>,
    /// Position of the shared log when the last event arrived, which it did not include yet.
    position: Option<ByteString>,
}

/// Numbers of retained events and sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Events in the log.
    pub events: usize,
    /// Bytes of these events.
    pub bytes: usize,
    /// Retained sessions.
    pub sessions: usize,
}

impl Sequencer {
    /// Creates a sequencer around a router, with an empty log.
    ///
    /// `epoch` distinguishes this log from all others, of this server and of others, at any time: 20 random characters
    /// of base64url. `clock` returns the time, and must not go back.
    ///
    /// # Panics
    /// Panics if `epoch` does not have this form, since offsets would be ambiguous.
    pub fn new(
        router: Arc<dyn Router>,
        config: RecoveryConfig,
        epoch: &str,
        clock: impl Fn() -> Instant + Send + Sync + 'static,
    ) -> Self {
        assert!(is_epoch(epoch), "epoch must be 20 characters of base64url");
        Self {
            router,
            config,
            epoch: epoch.into(),
            clock: Box::new(clock),
            shared_log: OnceLock::new(),
            state: Mutex::default(),
        }
    }

    /// Returns the limits.
    pub fn config(&self) -> &RecoveryConfig {
        &self.config
    }

    fn claim_now(self: Arc<Self>, secret: &str, offset: Option<&str>, budget: usize) -> ClaimResult {
        let mut state = self.state();
        let now = (self.clock)();
        let retained = state.absent.take(secret, &self.config).ok_or(RecoveryError::Unknown)?;
        state.absent.forget(now, &self.config);
        state.log.forget(now, &self.config);
        let seen = match offset.map(|offset| state.log.find(offset, &self.epoch)) {
            None | Some(Seen::OtherEpoch) => None,
            Some(Seen::UpTo(number)) if number <= state.log.head() => Some(number),
            Some(Seen::Dropped) if state.log.has_dropped_offsets_received(&retained) => None,
            Some(Seen::Dropped) => return Err(RecoveryError::Overflow),
            Some(Seen::UpTo(_) | Seen::Invalid) => {
                state.absent.insert(retained, now, &self.config);
                return Err(RecoveryError::Offset);
            }
        };
        self.missed(&state, &retained, seen, budget, now)?;
        state.claimed.insert(retained.key(), retained.id().clone());
        drop(state);
        Ok(Box::new(ClaimedSession::new(self, retained, seen, budget)))
    }

    /// Returns whether an event gets a number. With a shared log, only an event of that log does.
    fn is_numbered(&self, delivery: Delivery, event: &Event) -> bool {
        delivery == Delivery::Reliable
            && event.ack.is_none()
            && (event.offset.is_some() || self.shared_log.get().is_none())
    }

    /// Returns the missed events of a session, oldest first.
    pub(crate) fn missed<'a>(
        &'a self,
        state: &'a State,
        retained: &'a RetainedSession,
        seen: Option<u64>,
        budget: usize,
        now: Instant,
    ) -> Result<Vec<&'a Entry>, RecoveryError> {
        if retained.is_expired(now, &self.config) {
            return Err(RecoveryError::Expired);
        }
        let missed = state.log.missed(retained, seen);
        let mut left = budget;
        let mut entries = Vec::new();
        for entry in missed.ok_or(RecoveryError::Overflow)? {
            let bytes = entry.body_bytes() + entry.event.namespace.as_str().len() + FRAME_COST;
            left = left.checked_sub(bytes).ok_or(RecoveryError::TooLarge)?;
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Numbers and retains an event, and passes it to `deliver`.
    fn sequence(
        &self,
        event: &Event,
        target: Addressed<'_>,
        deliver: impl FnOnce(&mut Event) -> Dispatched,
    ) -> Dispatched {
        let Addressed { rooms, except, skip, only } = target;
        let mut state = self.state();
        let draft = Draft { event, rooms, except, skip, only, owner: Acting::owner() };
        if let Some(log) = self.shared_log.get() {
            state.position = log.position();
        }
        let mut numbered = state.log.append(draft, &self.epoch, (self.clock)(), &self.config);
        deliver(&mut numbered)
    }

    /// Returns the offset of the shared log before all events that members attached now will receive.
    fn start_now(&self, state: &State) -> Option<ByteString> {
        let position = self.shared_log.get()?.position();
        match state.log.last_outside() {
            // The event has arrived, but the position does not include it yet.
            Some(last) if position == state.position => Some(last.clone()),
            _ => position,
        }
    }

    /// Claims a retained session whose missed events are read from the shared log.
    fn claim_shared(
        self: Arc<Self>,
        log: &Arc<dyn EventLog>,
        secret: &str,
        offset: Option<&str>,
        budget: usize,
    ) -> Claim {
        let mut state = self.state();
        state.absent.forget((self.clock)(), &self.config);
        let Some(retained) = state.absent.take(secret, &self.config) else {
            return Claim::Ready(Err(RecoveryError::Unknown));
        };
        state.claimed.insert(retained.key(), retained.id().clone());
        let from = state.log.head();
        drop(state);
        let claim = SharedClaim::new(self, retained, Origin::Here, from, budget);
        Claim::Pending(Box::pin(claim.read(log.clone(), offset.map(ByteString::from))))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases the lock, and delivers the room changes made under it to the watchers.
    pub(crate) fn unlock_and_notify(&self, state: MutexGuard<'_, State>) {
        let changes = state.changes.clone();
        drop(state);
        changes.iter().for_each(|changes| changes.notify());
    }
}

struct Addressed<'a> {
    rooms: &'a [Room],
    except: &'a [Room],
    skip: Option<MemberKey>,
    only: Option<MemberKey>,
}

/// Upper bound of a frame's cost in an outbox besides its body.
pub(crate) const FRAME_COST: usize = 128;

impl State {
    pub(crate) fn insert(&mut self, history: RoomHistory) {
        self.present.insert(history);
    }

    /// Returns whether a member with this recovery token is attached.
    pub(crate) fn is_attached(&self, secret: &str) -> bool {
        self.present.by_secret(secret).is_some()
    }

    /// Records the rooms that these members joined or left.
    ///
    /// `rooms_of` returns the rooms of a member after the change, in case a limit rejected some of them.
    fn note(&mut self, found: &[SocketInfo], change: &Membership, rooms_of: impl Fn(MemberKey) -> Vec<Room>) {
        let (since, dropped) = (self.log.head(), self.log.dropped());
        for SocketInfo { key, rooms, control, .. } in found {
            let Some(key) = *key else { continue };
            let Some(history) = self.present.get_mut(key) else { continue };
            match change {
                Membership::Join(joined) => {
                    let max = control.as_ref().map_or(usize::MAX, |control| control.max_rooms());
                    let all_fit = rooms.len().saturating_add(joined.len()) <= max;
                    let there = if all_fit { None } else { Some(rooms_of(key)) };
                    joined
                        .iter()
                        .filter(|room| !rooms.contains(room))
                        .filter(|room| there.as_ref().is_none_or(|there| there.contains(room)))
                        .for_each(|room| history.join(room, since));
                }
                Membership::Leave(left) => left.iter().for_each(|room| history.leave(room, since, dropped)),
            }
        }
    }
}

impl Recovery for Sequencer {
    fn attach_recoverable(&self, member: Member, session: SessionInit) -> MemberKey {
        let SessionInit { secret, owner, data: _ } = session;
        let mut state = self.state();
        let mut history = RoomHistory::new(member.key, member.id.clone(), state.log.head());
        history.secret = secret;
        history.owner = owner;
        history.start = self.start_now(&state);
        history.attached_at = self.shared_log.get().map(|_| (self.clock)());
        let key = self.router.attach(member);
        state.insert(history);
        self.unlock_and_notify(state);
        key
    }

    fn detach_and_retain(&self, key: MemberKey, data: SharedData, delivered_until: Option<Instant>) -> bool {
        let mut state = self.state();
        let rooms = self.router.rooms_of(key);
        let was_there = self.router.detach(key);
        if let Some(mut history) = state.present.remove(key).filter(|history| !history.secret.is_empty()) {
            history.settle(rooms, state.log.head(), state.log.dropped());
            // Events sent when it was attached have arrived only if the proof is later.
            let proof = delivered_until.filter(|until| history.attached_at.is_some_and(|at| at < *until));
            if let Some(proven) = proof.and_then(|until| state.log.outside_before(until)) {
                history.start = Some(proven.clone());
            }
            let now = (self.clock)();
            let retained = RetainedSession::new(history, data, now, delivered_until);
            state.absent.insert(retained, now, &self.config);
        }
        self.unlock_and_notify(state);
        was_there
    }

    fn forget(&self, key: MemberKey) -> bool {
        let mut state = self.state();
        let was_claimed = state.claimed.remove(&key).is_some();
        state.absent.take_by_key(key, &self.config).is_some() || was_claimed
    }

    fn queue_for_absent(&self, key: MemberKey, delivery: Delivery, event: &Event) -> bool {
        if delivery != Delivery::Reliable || event.ack.is_some() {
            return false;
        }
        let mut state = self.state();
        let id = state.absent.id_of(key).cloned();
        let Some(id) = id.or_else(|| state.claimed.get(&key).cloned()) else { return false };
        if self.shared_log.get().is_some() {
            return true;
        }
        let rooms = [Room::from(&id)];
        let owner = Acting::owner();
        let draft = Draft { event, rooms: &rooms, except: &[], skip: None, only: Some(key), owner };
        _ = state.log.append(draft, &self.epoch, (self.clock)(), &self.config);
        true
    }

    fn data_changed(&self, key: MemberKey, _: &SharedData) {
        let mut state = self.state();
        if let Some(retained) = state.absent.take_by_key(key, &self.config) {
            state.absent.insert(retained, (self.clock)(), &self.config);
        }
    }

    fn missed(&self, room: Option<&Room>) {
        self.state().log.miss(room, (self.clock)(), &self.config);
    }

    fn attached(&self, secret: &str) -> Option<(MemberKey, SocketId)> {
        let state = self.state();
        let history = state.present.by_secret(secret)?;
        Some((history.key, history.id.clone()))
    }

    fn claim(self: Arc<Self>, secret: &str, offset: Option<&str>, budget: usize) -> Claim {
        match self.shared_log.get().cloned() {
            Some(log) => self.claim_shared(&log, secret, offset, budget),
            None => Claim::Ready(self.claim_now(secret, offset, budget)),
        }
    }

    fn claim_stored(
        self: Arc<Self>,
        secret: &str,
        session: &StoredSession,
        offset: Option<&str>,
        budget: usize,
    ) -> Claim {
        let Some(log) = self.shared_log.get().cloned() else {
            return Claim::Ready(Err(RecoveryError::Unknown));
        };
        let mut state = self.state();
        let from = state.log.head();
        let mut history = RoomHistory::new(MemberKey::next(), session.socket.clone(), from);
        history.secret = secret.into();
        history.start = Some(session.offset.clone()).filter(|offset| !offset.is_empty());
        session.rooms.iter().for_each(|room| history.join(room, from));
        let data = SharedData::from(&*session.data);
        data.update_handled(|_| session.handled.clone());
        // Its store limits the time for which it is retained.
        let retained = RetainedSession::new(history, data, (self.clock)(), None);
        state.claimed.insert(retained.key(), retained.id().clone());
        drop(state);
        let claim = SharedClaim::new(self, retained, Origin::Elsewhere, from, budget);
        Claim::Pending(Box::pin(claim.read(log, offset.map(ByteString::from))))
    }

    fn start(&self, key: MemberKey) -> Option<ByteString> {
        self.shared_log.get()?;
        let state = self.state();
        let offset = state.present.get(key).map(|history| history.start.clone());
        let offset = offset.or_else(|| state.absent.by_key(key).map(|kept| kept.history.start.clone()))?;
        Some(offset.unwrap_or_default())
    }

    fn use_event_log(&self, log: Arc<dyn EventLog>) {
        // A second call has no effect.
        let _ = self.shared_log.set(log);
    }

    fn usage(&self) -> Usage {
        let mut state = self.state();
        let now = (self.clock)();
        state.absent.forget(now, &self.config);
        state.log.forget(now, &self.config);
        let (events, bytes) = state.log.size();
        Usage { events, bytes, sessions: state.absent.len() }
    }
}

impl Router for Sequencer {
    fn attach(&self, member: Member) -> MemberKey {
        let mut state = self.state();
        let history = RoomHistory::new(member.key, member.id.clone(), state.log.head());
        let key = self.router.attach(member);
        state.insert(history);
        self.unlock_and_notify(state);
        key
    }

    fn detach(&self, key: MemberKey) -> bool {
        let mut state = self.state();
        state.present.remove(key);
        let was_there = self.router.detach(key);
        self.unlock_and_notify(state);
        was_there
    }

    fn join(&self, key: MemberKey, room: &Room) -> JoinOutcome {
        let mut state = self.state();
        let joined = self.router.join(key, room);
        if joined == JoinOutcome::Joined {
            let since = state.log.head();
            if let Some(history) = state.present.get_mut(key) {
                history.join(room, since);
            }
        }
        self.unlock_and_notify(state);
        joined
    }

    fn leave(&self, key: MemberKey, room: &Room) -> bool {
        let mut state = self.state();
        let (head, dropped) = (state.log.head(), state.log.dropped());
        if let Some(history) = state.present.get_mut(key) {
            history.leave(room, head, dropped);
        }
        let left = self.router.leave(key, room);
        self.unlock_and_notify(state);
        left
    }

    fn rooms_of(&self, key: MemberKey) -> Vec<Room> {
        self.router.rooms_of(key)
    }

    fn count(&self, room: &Room) -> usize {
        self.router.count(room)
    }

    fn broadcast(&self, target: &Target, event: &Event) -> Dispatched {
        if !self.is_numbered(target.delivery, event) {
            // The log does not know its offset, which must not become the last one of a client.
            if event.offset.is_some() {
                return self.router.broadcast(target, &Event { offset: None, ..event.clone() });
            }
            return self.router.broadcast(target, event);
        }
        let Target { rooms, except, skip, .. } = target;
        let addressed = Addressed { rooms, except, skip: *skip, only: None };
        self.sequence(event, addressed, |event| self.router.broadcast(target, event))
    }

    fn send(&self, member: &Member, delivery: Delivery, overflow: Overflow, event: &mut Event) -> Dispatched {
        if !self.is_numbered(delivery, event) {
            event.offset = None;
            return self.router.send(member, delivery, overflow, event);
        }
        let rooms = [Room::from(&member.id)];
        let addressed = Addressed { rooms: &rooms, except: &[], skip: None, only: Some(member.key) };
        self.sequence(event, addressed, |event| self.router.send(member, delivery, overflow, event))
    }

    fn update(&self, target: &Target, change: &Membership) -> usize {
        let mut state = self.state();
        let found = self.router.find(target);
        let changed = self.router.update(target, change);
        state.note(&found, change, |key| self.router.rooms_of(key));
        self.unlock_and_notify(state);
        changed
    }

    fn stats(&self) -> RouterStats {
        self.router.stats()
    }

    fn find(&self, target: &Target) -> Vec<SocketInfo> {
        self.router.find(target)
    }

    fn disconnect(&self, target: &Target, close: bool) -> usize {
        self.router.disconnect(target, close)
    }

    fn watch(&self, watcher: Arc<dyn RoomWatcher>, filter: WatchFilter) {
        let changes = Arc::new(ChangeQueue::new(watcher));
        self.state().changes.push(changes.clone());
        self.router.watch(Arc::new(ChangeForwarder(changes)), filter);
    }

    fn survey(&self) {
        let state = self.state();
        self.router.survey();
        self.unlock_and_notify(state);
    }
}

/// Queues the room changes of the inner router under the lock, where no watcher may be called.
struct ChangeForwarder(Arc<ChangeQueue>);

impl RoomWatcher for ChangeForwarder {
    fn room_changed(&self, change: &RoomChange) {
        self.0.push(change.clone());
    }
}

impl fmt::Debug for Sequencer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequencer")
            .field("router", &self.router)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
