//! Log of numbered events.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::time::Instant;

use bytestring::ByteString;
use roomcast_core::{Event, MemberKey, Room};

use crate::RecoveryConfig;
use crate::owner::{Owner, share};
use crate::retained::{RetainedSession, RoomHistory};

/// Log of recent events, by ascending number.
///
/// Numbers start at 1 and have no gaps, except where an owner exceeded its share or events did not come here.
#[derive(Debug, Default)]
pub(crate) struct Log {
    slots: VecDeque<Slot>,
    /// Slots that hold an event.
    len: usize,
    owners: HashMap<Owner, Holding>,
    /// Number of the last event.
    head: u64,
    bytes: usize,
    lost: Lost,
    /// Last event dropped because of its age.
    last_expired: Option<Mark>,
    /// Numbers of the events with an offset from outside, by offset. Empty in a log without any.
    outside: HashMap<ByteString, u64>,
    /// Newest event with an offset from outside that is not in the log.
    outside_dropped: Option<Mark>,
    /// Whether an offset ever came from outside.
    takes_outside: bool,
    /// Last offset from outside.
    last_outside: Option<ByteString>,
}

/// Slot of an event, which may be removed before its neighbors.
#[derive(Debug)]
struct Slot {
    number: u64,
    at: Instant,
    entry: Option<Entry>,
}

/// Event with its recipients.
#[derive(Debug)]
pub(crate) struct Entry {
    number: u64,
    at: Instant,
    pub(crate) event: Event,
    rooms: Box<[Room]>,
    except: Box<[Room]>,
    skip: Option<MemberKey>,
    /// Sole recipient, which excludes other members of a room with its id.
    only: Option<MemberKey>,
    owner: Option<Owner>,
}

/// Events of one owner in the log.
#[derive(Debug, Default)]
struct Holding {
    /// Oldest first.
    numbers: VecDeque<u64>,
    bytes: usize,
}

/// Event before it gets its number.
pub(crate) struct Draft<'a> {
    pub(crate) event: &'a Event,
    pub(crate) rooms: &'a [Room],
    pub(crate) except: &'a [Room],
    pub(crate) skip: Option<MemberKey>,
    pub(crate) only: Option<MemberKey>,
    /// Client that caused it, if any.
    pub(crate) owner: Option<Owner>,
}

impl Log {
    /// Returns the number of the last event; 0 if there is none.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Returns the number up to which no event is retained.
    pub(crate) fn dropped(&self) -> u64 {
        self.slots.front().map_or(self.head, |slot| slot.number - 1)
    }

    /// Returns the last offset from outside.
    pub(crate) fn last_outside(&self) -> Option<&ByteString> {
        self.last_outside.as_ref()
    }

    /// Returns the last offset from outside of an event that arrived before this time, if the log has it.
    pub(crate) fn outside_before(&self, time: Instant) -> Option<&ByteString> {
        let at = self.slots.partition_point(|slot| slot.at < time);
        self.slots.range(..at).rev().find_map(|slot| slot.entry.as_ref()?.event.offset.as_ref())
    }

    /// Returns the events after a number for all members or one of these rooms; `None` if some were dropped.
    pub(crate) fn arrived_after<'a>(
        &'a self,
        from: u64,
        rooms: &'a [Room],
    ) -> Option<impl Iterator<Item = &'a Event>> {
        let is_newer = |mark: &Mark| mark.number > from;
        let lost = rooms.iter().filter_map(|room| self.lost.rooms.get(room));
        if lost.chain(&self.lost.all_members).chain(&self.last_expired).any(is_newer) {
            return None;
        }
        let at = self.slots.partition_point(|slot| slot.number <= from);
        let is_in = move |named: &[Room]| named.iter().any(|room| rooms.contains(room));
        let entries = self.slots.range(at..).filter_map(|slot| slot.entry.as_ref());
        let addressed = entries
            .filter(move |entry| (entry.rooms.is_empty() || is_in(&entry.rooms)) && !is_in(&entry.except));
        Some(addressed.map(|entry| &entry.event))
    }

    /// Returns the number of events, and their bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.len, self.bytes)
    }

    /// Numbers and retains an event; returns it with its offset.
    pub(crate) fn append(
        &mut self,
        draft: Draft<'_>,
        epoch: &str,
        now: Instant,
        config: &RecoveryConfig,
    ) -> Event {
        self.head += 1;
        let mut event = draft.event.clone();
        let outside = event.offset.take().filter(|outside| !is_own(outside, epoch));
        self.takes_outside |= outside.is_some();
        let is_outside = outside.is_some();
        if is_outside {
            self.last_outside.clone_from(&outside);
        }
        event.offset = Some(outside.unwrap_or_else(|| offset(epoch, self.head)));
        let entry = Entry {
            number: self.head,
            at: now,
            event: event.clone(),
            rooms: draft.rooms.into(),
            except: draft.except.into(),
            skip: draft.skip,
            only: draft.only,
            owner: draft.owner,
        };
        self.forget(now, config);
        if entry.owner.is_some() && entry.bytes() > share(config.max_log_bytes) {
            // Events above the share are not retained, and evict none.
            if is_outside {
                self.outside_dropped = Some(entry.mark());
            }
            self.lost.note(entry, now, config);
            return event;
        }
        if let Some(outside) = event.offset.as_ref().filter(|_| is_outside) {
            self.outside.insert(outside.clone(), self.head);
        }
        self.push(entry);
        while let Some(entry) = draft.owner.and_then(|owner| self.take_oldest_over_quota(owner, config)) {
            self.lost.note(entry, now, config);
        }
        while self.len > config.max_log_events || self.bytes > config.max_log_bytes {
            let Some(entry) = self.pop() else { break };
            self.lost.note(entry, now, config);
        }
        event
    }

    /// Records that events to a room, or to all members, were lost before they came here. They take a number.
    pub(crate) fn miss(&mut self, room: Option<&Room>, now: Instant, config: &RecoveryConfig) {
        self.head += 1;
        let mark = Mark { number: self.head, at: now };
        self.lost.note_mark(mark, room.cloned().into_iter().collect(), now, config);
    }

    /// Drops the events that no client can miss any more.
    pub(crate) fn forget(&mut self, now: Instant, config: &RecoveryConfig) {
        while let Some(front) = self.slots.front() {
            match &front.entry {
                Some(entry) if entry.is_older(now, config) => {
                    self.last_expired = self.pop().map(|entry| entry.mark()).or(self.last_expired);
                }
                Some(_) => return,
                None => _ = self.slots.pop_front(),
            }
        }
    }

    fn push(&mut self, entry: Entry) {
        let bytes = entry.bytes();
        self.len += 1;
        self.bytes += bytes;
        if let Some(owner) = entry.owner {
            let holding = self.owners.entry(owner).or_default();
            holding.numbers.push_back(entry.number);
            holding.bytes += bytes;
        }
        self.slots.push_back(Slot { number: entry.number, at: entry.at, entry: Some(entry) });
    }

    /// Removes the oldest event.
    fn pop(&mut self) -> Option<Entry> {
        loop {
            if let Some(entry) = self.slots.pop_front()?.entry {
                self.uncount(&entry);
                return Some(entry);
            }
        }
    }

    /// Removes the oldest event of an owner that exceeds its share.
    fn take_oldest_over_quota(&mut self, owner: Owner, config: &RecoveryConfig) -> Option<Entry> {
        let holding = self.owners.get(&owner)?;
        let is_over = holding.numbers.len() > share(config.max_log_events)
            || holding.bytes > share(config.max_log_bytes);
        let oldest = *holding.numbers.front().filter(|_| is_over)?;
        let at = self.slots.binary_search_by_key(&oldest, |slot| slot.number).ok()?;
        let entry = self.slots.get_mut(at)?.entry.take()?;
        self.uncount(&entry);
        if self.slots.len() > 2 * self.len + COMPACT_FROM {
            self.slots.retain(|slot| slot.entry.is_some());
        }
        Some(entry)
    }

    /// Updates the counters for a removed entry, which is the oldest of its owner.
    fn uncount(&mut self, entry: &Entry) {
        let bytes = entry.bytes();
        self.len -= 1;
        self.bytes -= bytes;
        self.forget_offset(entry);
        let Some(owner) = entry.owner else { return };
        if let Some(holding) = self.owners.get_mut(&owner) {
            holding.numbers.pop_front();
            holding.bytes -= bytes;
            if holding.numbers.is_empty() {
                self.owners.remove(&owner);
            }
        }
    }

    fn forget_offset(&mut self, entry: &Entry) {
        let Some(offset) = entry.event.offset.as_ref().filter(|_| self.takes_outside) else { return };
        match self.outside.get(offset) {
            None => return,
            Some(number) if *number == entry.number => _ = self.outside.remove(offset),
            // The offset was repeated, and refers to a later event.
            Some(_) => {}
        }
        self.outside_dropped =
            self.outside_dropped.filter(|mark| mark.number > entry.number).or_else(|| Some(entry.mark()));
    }

    /// Finds the event of an offset that a client sent.
    pub(crate) fn find(&self, text: &str, epoch: &str) -> Seen {
        if let Some(number) = self.outside.get(text) {
            return Seen::UpTo(*number);
        }
        match Seen::parse(text, epoch) {
            Seen::OtherEpoch | Seen::Invalid if self.takes_outside && !is_own(text, epoch) => Seen::Dropped,
            seen => seen,
        }
    }

    /// Returns whether all events with an offset from outside that left the log are known to have arrived.
    ///
    /// A client that has received one of them has then received no event that is not known to have arrived.
    pub(crate) fn has_dropped_offsets_received(&self, retained: &RetainedSession) -> bool {
        self.outside_dropped.is_none_or(|mark| {
            mark.number <= retained.history.settled() || retained.has_received(mark.number, mark.at)
        })
    }

    /// Returns the missed events of a session, oldest first; `None` if some of them were dropped.
    ///
    /// `seen` is the last number that the client received. A client without an offset passes `None`; it missed the
    /// events that are not known to have arrived.
    pub(crate) fn missed<'a>(
        &'a self,
        retained: &'a RetainedSession,
        seen: Option<u64>,
    ) -> Option<impl Iterator<Item = &'a Entry>> {
        let (history, settled) = (&retained.history, retained.history.settled());
        let from = seen.unwrap_or(settled).max(settled);
        if self.lost.affects(retained, from) {
            return None;
        }
        // Only a client that was far behind, or lost a replay, misses an event this old. The log no longer knows the
        // recipients of the event, so the client is refused.
        if self.last_expired.is_some_and(|last_expired| {
            last_expired.number > from && !retained.has_received(last_expired.number, last_expired.at)
        }) {
            return None;
        }
        let at = self.slots.partition_point(|slot| slot.number <= from);
        let missed = self.slots.range(at..).filter_map(|slot| slot.entry.as_ref()).filter(move |entry| {
            // An offset from the client is more exact than the answered ping.
            entry.is_for(history) && (seen.is_some() || !retained.has_received(entry.number, entry.at))
        });
        let is_unsure = |entry: &Entry| !entry.except.is_empty() && history.has_forgotten(entry.number);
        (!missed.clone().any(is_unsure)).then_some(missed)
    }
}

impl Entry {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    fn mark(&self) -> Mark {
        Mark { number: self.number, at: self.at }
    }

    fn is_older(&self, now: Instant, config: &RecoveryConfig) -> bool {
        now.saturating_duration_since(self.at) > config.retention()
    }

    fn is_for(&self, history: &RoomHistory) -> bool {
        if let Some(only) = self.only {
            return only == history.key && self.number > history.since;
        }
        let addressed = |room: &Room| history.since_in(room).is_some_and(|since| self.number > since);
        let included = if self.rooms.is_empty() {
            self.number > history.since
        } else {
            self.rooms.iter().any(addressed)
        };
        let excluded = |room: &Room| history.was_in(room, self.number);
        included && self.skip != Some(history.key) && !self.except.iter().any(excluded)
    }

    fn bytes(&self) -> usize {
        let rooms = self.rooms.iter().chain(&self.except);
        size_of::<Self>()
            + self.body_bytes()
            + rooms.map(|room| room.as_str().len() + size_of::<Room>()).sum::<usize>()
    }

    /// Returns the approximate cost in an outbox, without the namespace.
    pub(crate) fn body_bytes(&self) -> usize {
        event_bytes(&self.event)
    }
}

/// Returns the approximate cost of an event in an outbox, without the namespace.
pub(crate) fn event_bytes(event: &Event) -> usize {
    let Event { name, args, offset, .. } = event;
    name.len() + args.byte_len() + offset.as_deref().map_or(0, str::len)
}

/// Empty slots tolerated beyond the number of events.
const COMPACT_FROM: usize = 64;

/// Dropped events that a client may still miss: the last one of each room.
#[derive(Debug, Default)]
struct Lost {
    rooms: HashMap<Room, Mark>,
    all_members: Option<Mark>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    number: u64,
    at: Instant,
}

impl Lost {
    fn note(&mut self, entry: Entry, now: Instant, config: &RecoveryConfig) {
        self.note_mark(entry.mark(), entry.rooms, now, config);
    }

    fn note_mark(&mut self, mark: Mark, rooms: Box<[Room]>, now: Instant, config: &RecoveryConfig) {
        if rooms.is_empty() {
            self.all_members = Some(mark);
        }
        for room in rooms {
            self.rooms.insert(room, mark);
        }
        if self.rooms.len() > config.max_log_events.max(MIN_TRACKED_ROOMS) {
            let retention = config.retention();
            self.rooms.retain(|_, mark| now.saturating_duration_since(mark.at) <= retention);
            if self.rooms.len() > config.max_log_events.max(MIN_TRACKED_ROOMS) / 2 {
                // Too many to track: from here on, all clients count as having missed this event.
                self.rooms = HashMap::new();
                self.all_members = Some(mark);
            }
        }
    }

    fn affects(&self, retained: &RetainedSession, seen: u64) -> bool {
        let history = &retained.history;
        let counts = |mark: &Mark, since: u64| {
            mark.number > seen.max(since) && !retained.has_received(mark.number, mark.at)
        };
        self.all_members.as_ref().is_some_and(|mark| counts(mark, history.since))
            || history
                .rooms()
                .any(|(room, since)| self.rooms.get(room).is_some_and(|mark| counts(mark, since)))
    }
}

/// Minimum number of rooms tracked for losses, however short the log is.
const MIN_TRACKED_ROOMS: usize = 64;

/// Returns the offset that is sent to clients for an event number.
fn offset(epoch: &str, number: u64) -> ByteString {
    let mut text = String::with_capacity(epoch.len() + 1 + number.checked_ilog10().unwrap_or(0) as usize + 1);
    // Writing to a String cannot fail.
    let _ = write!(text, "{epoch}-{number}");
    text.into()
}

/// Returns whether an offset has the form of this log's own.
fn is_own(offset: &str, epoch: &str) -> bool {
    offset.strip_prefix(epoch).is_some_and(|rest| rest.starts_with('-'))
}

/// Offset as sent by a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// All events up to this number were received.
    UpTo(u64),
    /// The offset is from an earlier run of this server, or from another server.
    OtherEpoch,
    /// The offset is from outside, and its event is not in the log.
    Dropped,
    /// Not a valid offset.
    Invalid,
}

impl Seen {
    pub(crate) fn parse(text: &str, epoch: &str) -> Self {
        let parsed = text.rsplit_once('-').and_then(|(life, number)| {
            let plain = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
            Some((life, number.parse().ok().filter(|_| plain)?))
        });
        match parsed {
            Some((life, number)) if life == epoch => Self::UpTo(number),
            Some((life, _)) if is_epoch(life) => Self::OtherEpoch,
            _ => Self::Invalid,
        }
    }
}

/// Returns whether a text has the form of an epoch.
pub(crate) fn is_epoch(text: &str) -> bool {
    text.len() == EPOCH_LEN && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Length of an epoch in characters.
const EPOCH_LEN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: &str = "abcdefghij-_ABCDEFGH";

    #[test]
    fn parses_own_offsets() {
        for number in [1, 9, 10, 12_345, u64::MAX] {
            assert_eq!(Seen::parse(&offset(EPOCH, number), EPOCH), Seen::UpTo(number));
        }
    }

    #[test]
    fn distinguishes_foreign_from_malformed_offsets() {
        let other = offset(&EPOCH.to_lowercase(), 7);
        assert_eq!(Seen::parse(&other, EPOCH), Seen::OtherEpoch);
        let long = format!("{EPOCH}-99999999999999999999");
        for text in ["", "-", "7", "hello", "hello-7", &format!("{EPOCH}-"), &format!("{EPOCH}-+7"), &long] {
            assert_eq!(Seen::parse(text, EPOCH), Seen::Invalid, "{text}");
        }
    }
}
