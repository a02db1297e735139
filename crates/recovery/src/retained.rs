//! Sessions of disconnected members, retained for recovery.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytestring::ByteString;
use roomcast_core::{MemberKey, Room, SocketId};

use crate::RecoveryConfig;
use crate::owner::{Owner, share};

/// Rooms of a member, with the event numbers at which it joined and left them.
#[derive(Debug, Clone)]
pub(crate) struct RoomHistory {
    pub(crate) key: MemberKey,
    pub(crate) id: SocketId,
    /// Number of the last event before the member was attached.
    pub(crate) since: u64,
    /// The same for each joined room besides its own, where known.
    joined: HashMap<Room, u64>,
    /// Former rooms, oldest first; events that excluded such a room at that time are not replayed.
    left: VecDeque<FormerRoom>,
    /// Highest event number for which `left` may be incomplete.
    forgotten: u64,
    pub(crate) caught_up: Option<CaughtUp>,
    pub(crate) owner: Option<Owner>,
    /// Recovery token; empty if the session cannot be retained.
    pub(crate) secret: ByteString,
    /// Offset in the shared log after which events may have been missed, if there is such a log.
    pub(crate) start: Option<ByteString>,
    /// Time at which it was attached, if there is such a log.
    pub(crate) attached_at: Option<Instant>,
}

/// Past membership of a room, after event `since` up to event `until`.
#[derive(Debug, Clone)]
struct FormerRoom {
    room: Room,
    since: u64,
    until: u64,
}

/// Maximum number of past memberships per member.
///
/// A member that leaves more rooms is refused if a retained event with an exclusion may concern one of them.
const MAX_LEFT: usize = 64;

/// Last recovery of a member.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CaughtUp {
    /// All events up to this number were received, or were not for the member.
    pub(crate) settled: u64,
    /// All events up to this number were replayed, and may have been lost again.
    pub(crate) head: u64,
    pub(crate) at: Instant,
}

impl RoomHistory {
    pub(crate) fn new(key: MemberKey, id: SocketId, since: u64) -> Self {
        let (joined, left) = (HashMap::new(), VecDeque::new());
        Self {
            key,
            id,
            since,
            joined,
            left,
            forgotten: 0,
            caught_up: None,
            owner: None,
            secret: ByteString::new(),
            start: None,
            attached_at: None,
        }
    }

    /// Records that the member joined a room.
    pub(crate) fn join(&mut self, room: &Room, since: u64) {
        self.joined.insert(room.clone(), since);
    }

    /// Records that the member left a room after event `until`; the log has no events up to `dropped`.
    pub(crate) fn leave(&mut self, room: &Room, until: u64, dropped: u64) {
        let Some(since) = self.joined.remove(room) else { return };
        self.remember(FormerRoom { room: room.clone(), since, until }, dropped);
    }

    fn remember(&mut self, past: FormerRoom, dropped: u64) {
        self.left.retain(|past| past.until > dropped);
        // No event in between could have excluded the room.
        if past.since.max(dropped) == past.until {
            return;
        }
        if self.left.len() == MAX_LEFT
            && let Some(oldest) = self.left.pop_front()
        {
            self.forgotten = self.forgotten.max(oldest.until);
        }
        self.left.push_back(past);
    }

    /// Returns whether the member was in a room when the event with this number was emitted.
    pub(crate) fn was_in(&self, room: &Room, number: u64) -> bool {
        self.since_in(room).is_some_and(|since| number > since)
            || self.left.iter().any(|past| past.room == *room && past.since < number && number <= past.until)
    }

    /// Returns whether a past membership at the time of this event may be missing.
    pub(crate) fn has_forgotten(&self, number: u64) -> bool {
        number <= self.forgotten
    }

    /// Replaces the rooms by the router's; unrecorded joins count from the member's attachment.
    pub(crate) fn settle(&mut self, rooms: Vec<Room>, head: u64, dropped: u64) {
        let own = Room::from(&self.id);
        let gone: Vec<_> = self.joined.keys().filter(|room| !rooms.contains(room)).cloned().collect();
        gone.iter().for_each(|room| self.leave(room, head, dropped));
        let since = |room: &Room| self.joined.get(room).copied().unwrap_or(self.since);
        self.joined = rooms
            .into_iter()
            .filter(|room| *room != own)
            .map(|room| {
                let since = since(&room);
                (room, since)
            })
            .collect();
    }

    /// Returns a number up to which all events were received, or were not for the member.
    pub(crate) fn settled(&self) -> u64 {
        self.caught_up.map_or(self.since, |caught_up| caught_up.settled.max(self.since))
    }

    /// Returns the event number after which the member is in a room, its own included.
    pub(crate) fn since_in(&self, room: &Room) -> Option<u64> {
        if room.as_str() == self.id.as_str() {
            return Some(self.since);
        }
        self.joined.get(room).copied()
    }

    /// Returns all rooms, its own included, with their event numbers.
    pub(crate) fn rooms(&self) -> impl Iterator<Item = (&str, u64)> {
        let joined = self.joined.iter().map(|(room, since)| (room.as_str(), *since));
        std::iter::once((self.id.as_str(), self.since)).chain(joined)
    }

    /// Returns the rooms besides its own.
    pub(crate) fn joined(&self) -> impl Iterator<Item = &Room> {
        self.joined.keys()
    }
}

/// JSON text of a member that survives recoveries, and its handled events; clones share them.
///
/// A handle from before a disconnect and one from after the recovery see the same text.
#[derive(Clone, Default)]
pub struct SharedData(Arc<Mutex<Texts>>);

#[derive(Default)]
struct Texts {
    data: ByteString,
    handled: ByteString,
}

impl SharedData {
    /// Returns the text; empty if none was set.
    pub fn get(&self) -> ByteString {
        self.texts().data.clone()
    }

    /// Replaces the text.
    pub fn set(&self, json: ByteString) {
        self.texts().data = json;
    }

    /// Returns the [handled events](crate::StoredSession::handled); empty if none were set.
    pub fn handled(&self) -> ByteString {
        self.texts().handled.clone()
    }

    /// Replaces the handled events by what a function makes of them.
    pub fn update_handled(&self, update: impl FnOnce(&str) -> ByteString) {
        let mut texts = self.texts();
        texts.handled = update(&texts.handled);
    }

    fn texts(&self) -> MutexGuard<'_, Texts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SharedData {
    // The data may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedData").field("len", &self.texts().data.len()).finish()
    }
}

impl From<&str> for SharedData {
    fn from(json: &str) -> Self {
        Self(Arc::new(Mutex::new(Texts { data: json.into(), handled: ByteString::new() })))
    }
}

/// Retained session of a disconnected member.
#[derive(Clone)]
pub(crate) struct RetainedSession {
    pub(crate) history: RoomHistory,
    pub(crate) data: SharedData,
    pub(crate) disconnected_at: Instant,
    /// Time before which all events are known to have arrived; see
    /// [`Recovery::detach_and_retain`](crate::Recovery::detach_and_retain).
    delivered_until: Option<Instant>,
    /// Size when it was counted; its data may have changed since.
    bytes: usize,
    /// Distinguishes sessions that disconnected at the same time.
    turn: u64,
}

impl RetainedSession {
    pub(crate) fn new(
        history: RoomHistory,
        data: SharedData,
        disconnected_at: Instant,
        delivered_until: Option<Instant>,
    ) -> Self {
        Self { history, data, disconnected_at, delivered_until, bytes: 0, turn: 0 }
    }

    /// Returns whether an event emitted at `at` is known to have arrived, if it was for this member.
    pub(crate) fn has_received(&self, number: u64, at: Instant) -> bool {
        let sent = match self.history.caught_up {
            // A replayed event was sent again at the recovery, so only later answers prove its arrival.
            Some(caught_up) if number <= caught_up.head => at.max(caught_up.at),
            _ => at,
        };
        self.delivered_until.is_some_and(|delivered_until| sent < delivered_until)
    }

    /// Returns the member's key, which stays the same after a recovery.
    pub(crate) fn key(&self) -> MemberKey {
        self.history.key
    }

    /// Returns the public id.
    pub(crate) fn id(&self) -> &SocketId {
        &self.history.id
    }

    pub(crate) fn is_expired(&self, now: Instant, config: &RecoveryConfig) -> bool {
        now.saturating_duration_since(self.disconnected_at) > config.max_disconnection
    }

    fn count_bytes(&self) -> usize {
        let rooms = self.history.joined().map(|room| room.as_str().len() + ROOM_COST);
        let left = self.history.left.iter().map(|past| past.room.as_str().len() + size_of::<FormerRoom>());
        size_of::<Self>()
            + INDEX_COST
            + self.history.secret.len()
            + self.data.get().len()
            + rooms.chain(left).sum::<usize>()
    }
}

impl fmt::Debug for RetainedSession {
    // The recovery token authenticates the client.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("id", self.id())
            .field("gone_at", &self.disconnected_at)
            .finish_non_exhaustive()
    }
}

/// Cost of a room besides its name, and of a session in the three indexes.
const ROOM_COST: usize = 48;
const INDEX_COST: usize = 128;

/// Retained sessions, indexed by token, time and key.
#[derive(Default)]
pub(crate) struct Absent {
    by_secret: HashMap<ByteString, RetainedSession>,
    by_time: BTreeMap<(Instant, u64), ByteString>,
    by_key: HashMap<MemberKey, ByteString>,
    owners: HashMap<Option<Owner>, Holding>,
    /// Owners by the cost of their sessions, the largest last.
    by_cost: BTreeSet<(u64, Option<Owner>)>,
    bytes: usize,
    turns: u64,
}

/// Retained sessions of one owner, or of all members without an owner.
#[derive(Default)]
struct Holding {
    by_time: BTreeMap<(Instant, u64), ByteString>,
    bytes: usize,
}

impl Holding {
    /// Returns the part of both limits that it takes, as a comparable number.
    fn cost(&self, config: &RecoveryConfig) -> u64 {
        let part = |held: usize, limit: usize| (held as u64).saturating_mul(1 << 20) / limit.max(1) as u64;
        part(self.by_time.len(), config.max_sessions)
            .saturating_add(part(self.bytes, config.max_session_bytes))
    }

    fn is_over_quota(&self, config: &RecoveryConfig) -> bool {
        self.by_time.len() > share(config.max_sessions) || self.bytes > share(config.max_session_bytes)
    }
}

impl Absent {
    pub(crate) fn len(&self) -> usize {
        self.by_secret.len()
    }

    /// Retains a session, unless it exceeds the share of its owner.
    ///
    /// If the owner exceeds its share, its oldest sessions are dropped. If there are too many sessions in total,
    /// sessions of the owner with the highest cost are dropped.
    pub(crate) fn insert(&mut self, mut retained: RetainedSession, now: Instant, config: &RecoveryConfig) {
        self.turns += 1;
        retained.turn = self.turns;
        self.take(&retained.history.secret.clone(), config);
        retained.bytes = retained.count_bytes();
        let owner = retained.history.owner;
        if owner.is_some() && retained.bytes > share(config.max_session_bytes) {
            return;
        }
        self.change(owner, config, |holding| {
            holding
                .by_time
                .insert((retained.disconnected_at, retained.turn), retained.history.secret.clone());
            holding.bytes += retained.bytes;
        });
        self.bytes += retained.bytes;
        self.by_time.insert((retained.disconnected_at, retained.turn), retained.history.secret.clone());
        self.by_key.insert(retained.key(), retained.history.secret.clone());
        self.by_secret.insert(retained.history.secret.clone(), retained);
        self.forget(now, config);
        while owner.is_some() && self.owners.get(&owner).is_some_and(|holding| holding.is_over_quota(config))
        {
            self.take_oldest_of(owner, config);
        }
        while (self.len() > config.max_sessions || self.bytes > config.max_session_bytes)
            && let Some(&(_, largest)) = self.by_cost.last()
        {
            self.take_oldest_of(largest, config);
        }
    }

    pub(crate) fn take(&mut self, secret: &str, config: &RecoveryConfig) -> Option<RetainedSession> {
        let retained = self.by_secret.remove(secret)?;
        let (at, bytes) = ((retained.disconnected_at, retained.turn), retained.bytes);
        self.by_time.remove(&at);
        self.by_key.remove(&retained.key());
        self.bytes -= bytes;
        self.change(retained.history.owner, config, |holding| {
            holding.by_time.remove(&at);
            holding.bytes -= bytes;
        });
        Some(retained)
    }

    pub(crate) fn take_by_key(&mut self, key: MemberKey, config: &RecoveryConfig) -> Option<RetainedSession> {
        let secret = self.by_key.get(&key)?.clone();
        self.take(&secret, config)
    }

    /// Changes the sessions of an owner, and updates its cost.
    fn change(&mut self, owner: Option<Owner>, config: &RecoveryConfig, change: impl FnOnce(&mut Holding)) {
        let holding = self.owners.entry(owner).or_default();
        self.by_cost.remove(&(holding.cost(config), owner));
        change(holding);
        if holding.by_time.is_empty() {
            self.owners.remove(&owner);
        } else {
            self.by_cost.insert((holding.cost(config), owner));
        }
    }

    fn take_oldest_of(&mut self, owner: Option<Owner>, config: &RecoveryConfig) {
        let oldest = self.owners.get(&owner).and_then(|holding| holding.by_time.first_key_value());
        let secret = oldest.map(|(_, secret)| secret.clone());
        if let Some(secret) = secret {
            self.take(&secret, config);
        }
    }

    /// Returns the retained session of a member.
    pub(crate) fn by_key(&self, key: MemberKey) -> Option<&RetainedSession> {
        self.by_secret.get(self.by_key.get(&key)?)
    }

    /// Returns the id of a member whose session is retained.
    pub(crate) fn id_of(&self, key: MemberKey) -> Option<&SocketId> {
        self.by_key(key).map(RetainedSession::id)
    }

    /// Drops expired sessions.
    pub(crate) fn forget(&mut self, now: Instant, config: &RecoveryConfig) {
        while let Some((&(disconnected_at, _), secret)) = self.by_time.first_key_value()
            && now.saturating_duration_since(disconnected_at) > config.max_disconnection
        {
            self.take(&secret.clone(), config);
        }
    }
}
