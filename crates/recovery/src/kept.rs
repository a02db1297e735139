//! Members that went away and may come back

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytestring::ByteString;
use roomcast_core::{MemberKey, Room, SocketId};

use crate::RecoveryConfig;
use crate::owner::{Owner, share};

/// Since when somebody has been where: events before that are not for it
#[derive(Debug, Clone)]
pub(crate) struct Stay {
    pub(crate) key: MemberKey,
    pub(crate) id: SocketId,
    /// The number of the last event before it came
    pub(crate) since: u64,
    /// The same for each room besides its own, where it is known
    joined: HashMap<Room, u64>,
    /// Stays in rooms that it has left, oldest first: events that left out such a room at that time are not for it
    left: VecDeque<Past>,
    /// Up to this number stays may be missing from `left`
    forgotten: u64,
    pub(crate) caught_up: Option<CaughtUp>,
    pub(crate) owner: Option<Owner>,
}

/// A stay in a room, from behind one event up to another
#[derive(Debug, Clone)]
struct Past {
    room: Room,
    since: u64,
    until: u64,
}

/// Stays in rooms that are remembered for a member after it has left
///
/// A member that leaves more rooms while events that left out some room are kept is refused if one of them may matter.
const MAX_LEFT: usize = 64;

/// When somebody was recovered last
#[derive(Debug, Clone, Copy)]
pub(crate) struct CaughtUp {
    /// Up to this number it has heard everything, or was not concerned
    pub(crate) settled: u64,
    /// Up to this number everything was replayed, and may have been lost once more
    pub(crate) head: u64,
    pub(crate) at: Instant,
}

impl Stay {
    pub(crate) fn new(key: MemberKey, id: SocketId, since: u64) -> Self {
        let (joined, left) = (HashMap::new(), VecDeque::new());
        Self { key, id, since, joined, left, forgotten: 0, caught_up: None, owner: None }
    }

    /// It is in a room now
    pub(crate) fn join(&mut self, room: &Room, since: u64) {
        self.joined.insert(room.clone(), since);
    }

    /// It leaves a room behind the event `until`; the log has no events up to `dropped`
    pub(crate) fn leave(&mut self, room: &Room, until: u64, dropped: u64) {
        let Some(since) = self.joined.remove(room) else { return };
        self.remember(Past { room: room.clone(), since, until }, dropped);
    }

    fn remember(&mut self, past: Past, dropped: u64) {
        self.left.retain(|past| past.until > dropped);
        // Nothing was emitted meanwhile that could have left it out.
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

    /// Whether it was in a room, or its own, when the event with this number was emitted
    pub(crate) fn was_in(&self, room: &Room, number: u64) -> bool {
        self.since_in(room).is_some_and(|since| number > since)
            || self.left.iter().any(|past| past.room == *room && past.since < number && number <= past.until)
    }

    /// Whether it may have been in rooms, at the time of this event, that are no longer known
    pub(crate) fn has_forgotten(&self, number: u64) -> bool {
        number <= self.forgotten
    }

    /// Makes its rooms those that the router knows; one that it was put into by others counts from its beginning
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

    /// Up to which number it has heard everything, or was not concerned, at least
    pub(crate) fn settled(&self) -> u64 {
        self.caught_up.map_or(self.since, |caught_up| caught_up.settled.max(self.since))
    }

    /// Since when it has been in a room, its own included
    pub(crate) fn since_in(&self, room: &Room) -> Option<u64> {
        if room.as_str() == self.id.as_str() {
            return Some(self.since);
        }
        self.joined.get(room).copied()
    }

    /// All rooms, its own included, with since when it has been there
    pub(crate) fn rooms(&self) -> impl Iterator<Item = (&str, u64)> {
        let joined = self.joined.iter().map(|(room, since)| (room.as_str(), *since));
        std::iter::once((self.id.as_str(), self.since)).chain(joined)
    }

    /// The rooms besides its own
    pub(crate) fn joined(&self) -> impl Iterator<Item = &Room> {
        self.joined.keys()
    }
}

/// JSON text that belongs to a member, over all its recoveries; clones share it
///
/// So a handle from before the connection broke, and one from after, keep and see the same.
#[derive(Clone, Default)]
pub struct SharedData(Arc<Mutex<ByteString>>);

impl SharedData {
    /// Returns the text; empty if none was set
    pub fn get(&self) -> ByteString {
        self.text().clone()
    }

    /// Replaces the text
    pub fn set(&self, json: ByteString) {
        *self.text() = json;
    }

    fn text(&self) -> MutexGuard<'_, ByteString> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SharedData {
    // It may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedData").field("len", &self.text().len()).finish()
    }
}

impl From<&str> for SharedData {
    fn from(json: &str) -> Self {
        Self(Arc::new(Mutex::new(json.into())))
    }
}

/// What is kept of a member that went away
#[derive(Clone)]
pub struct Kept {
    pub(crate) secret: ByteString,
    pub(crate) stay: Stay,
    pub(crate) data: SharedData,
    pub(crate) gone_at: Instant,
    /// Time before which every event is known to have arrived; see [`Sequencer::keep`](crate::Sequencer::keep).
    heard_at: Option<Instant>,
    /// Its bytes when it was counted; its data may have been changed since
    bytes: usize,
    /// Tells apart those that went at the same time
    turn: u64,
}

impl Kept {
    pub(crate) fn new(
        secret: ByteString,
        stay: Stay,
        data: SharedData,
        gone_at: Instant,
        heard_at: Option<Instant>,
    ) -> Self {
        Self { secret, stay, data, gone_at, heard_at, bytes: 0, turn: 0 }
    }

    /// Returns whether an event emitted at `at` is known to have arrived, if it was for this member.
    pub(crate) fn has_heard(&self, number: u64, at: Instant) -> bool {
        let sent = match self.stay.caught_up {
            // A replayed event was sent again at the recovery, so only later answers prove its arrival.
            Some(caught_up) if number <= caught_up.head => at.max(caught_up.at),
            _ => at,
        };
        self.heard_at.is_some_and(|heard_at| sent < heard_at)
    }

    /// The secret it was kept under
    pub fn secret(&self) -> &ByteString {
        &self.secret
    }

    /// What tells it from every other member, before and after it comes back
    pub fn key(&self) -> MemberKey {
        self.stay.key
    }

    /// Its public id
    pub fn id(&self) -> &SocketId {
        &self.stay.id
    }

    /// The rooms it was in, besides its own
    pub fn rooms(&self) -> impl Iterator<Item = &Room> {
        self.stay.joined()
    }

    /// What was kept with it
    pub fn data(&self) -> &SharedData {
        &self.data
    }

    pub(crate) fn is_expired(&self, now: Instant, config: &RecoveryConfig) -> bool {
        now.saturating_duration_since(self.gone_at) > config.max_disconnection
    }

    fn count_bytes(&self) -> usize {
        let rooms = self.stay.joined().map(|room| room.as_str().len() + ROOM_COST);
        let left = self.stay.left.iter().map(|past| past.room.as_str().len() + size_of::<Past>());
        size_of::<Self>()
            + INDEX_COST
            + self.secret.len()
            + self.data.get().len()
            + rooms.chain(left).sum::<usize>()
    }
}

impl fmt::Debug for Kept {
    // Whoever knows the secret can speak for the client.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("id", self.id()).field("gone_at", &self.gone_at).finish_non_exhaustive()
    }
}

/// What a room costs besides its name, and a member in the three indexes
const ROOM_COST: usize = 48;
const INDEX_COST: usize = 128;

/// Members that went away, found by their secrets
#[derive(Default)]
pub(crate) struct Absent {
    by_secret: HashMap<ByteString, Kept>,
    by_time: BTreeMap<(Instant, u64), ByteString>,
    by_key: HashMap<MemberKey, ByteString>,
    owners: HashMap<Option<Owner>, Holding>,
    /// Owners by what they hold, the largest last
    by_cost: BTreeSet<(u64, Option<Owner>)>,
    bytes: usize,
    turns: u64,
}

/// What is kept of the members of one owner, or of all that belong to nobody
#[derive(Default)]
struct Holding {
    by_time: BTreeMap<(Instant, u64), ByteString>,
    bytes: usize,
}

impl Holding {
    /// What it takes of both limits, so that holdings can be compared.
    fn cost(&self, config: &RecoveryConfig) -> u64 {
        let part = |held: usize, limit: usize| (held as u64).saturating_mul(1 << 20) / limit.max(1) as u64;
        part(self.by_time.len(), config.max_sessions)
            .saturating_add(part(self.bytes, config.max_session_bytes))
    }

    fn is_over_share(&self, config: &RecoveryConfig) -> bool {
        self.by_time.len() > share(config.max_sessions) || self.bytes > share(config.max_session_bytes)
    }
}

impl Absent {
    pub(crate) fn len(&self) -> usize {
        self.by_secret.len()
    }

    /// Keeps a member, unless it takes more than the share of one owner
    ///
    /// Those of an owner that holds more than its share are forgotten, oldest first; then, while there are too many in
    /// all, those of whoever holds most.
    pub(crate) fn insert(&mut self, mut kept: Kept, now: Instant, config: &RecoveryConfig) {
        self.turns += 1;
        kept.turn = self.turns;
        self.take(&kept.secret.clone(), config);
        kept.bytes = kept.count_bytes();
        let owner = kept.stay.owner;
        if owner.is_some() && kept.bytes > share(config.max_session_bytes) {
            return;
        }
        self.change(owner, config, |holding| {
            holding.by_time.insert((kept.gone_at, kept.turn), kept.secret.clone());
            holding.bytes += kept.bytes;
        });
        self.bytes += kept.bytes;
        self.by_time.insert((kept.gone_at, kept.turn), kept.secret.clone());
        self.by_key.insert(kept.key(), kept.secret.clone());
        self.by_secret.insert(kept.secret.clone(), kept);
        self.forget(now, config);
        while owner.is_some() && self.owners.get(&owner).is_some_and(|holding| holding.is_over_share(config))
        {
            self.take_oldest_of(owner, config);
        }
        while (self.len() > config.max_sessions || self.bytes > config.max_session_bytes)
            && let Some(&(_, largest)) = self.by_cost.last()
        {
            self.take_oldest_of(largest, config);
        }
    }

    pub(crate) fn take(&mut self, secret: &str, config: &RecoveryConfig) -> Option<Kept> {
        let kept = self.by_secret.remove(secret)?;
        let (at, bytes) = ((kept.gone_at, kept.turn), kept.bytes);
        self.by_time.remove(&at);
        self.by_key.remove(&kept.key());
        self.bytes -= bytes;
        self.change(kept.stay.owner, config, |holding| {
            holding.by_time.remove(&at);
            holding.bytes -= bytes;
        });
        Some(kept)
    }

    pub(crate) fn take_by_key(&mut self, key: MemberKey, config: &RecoveryConfig) -> Option<Kept> {
        let secret = self.by_key.get(&key)?.clone();
        self.take(&secret, config)
    }

    /// Changes what an owner holds.
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

    /// The id of a member that is away
    pub(crate) fn id_of(&self, key: MemberKey) -> Option<&SocketId> {
        let secret = self.by_key.get(&key)?;
        self.by_secret.get(secret).map(Kept::id)
    }

    /// Drops those whose time is over
    pub(crate) fn forget(&mut self, now: Instant, config: &RecoveryConfig) {
        while let Some((&(gone_at, _), secret)) = self.by_time.first_key_value()
            && now.saturating_duration_since(gone_at) > config.max_disconnection
        {
            self.take(&secret.clone(), config);
        }
    }
}
