//! Router of a single node: rooms and fan-out in one process, built on DashMap.
//!
//! [`Rooms`] is the [`Router`] of one namespace on one node. It never blocks on I/O, spawns nothing, reads no clock and
//! knows no transport. The server connects it to other nodes.
//!
//! # Locks
//!
//! There are four kinds, always taken in this order, and never two of one kind at a time:
//!
//! 1. the joined rooms of a member, held during a whole attach, join, leave or detach, so that these are serialized for
//!    each member;
//! 2. a shard of a map, only to look up, insert or remove. It is released before the next lock is taken;
//! 3. the members of one room, held for reading during a broadcast to it. A broadcast delays joins and leaves of this
//!    room only. Only [`Codec::encode`](roomcast_core::Codec::encode), the look-up of the member and its
//!    [`AckTable`](roomcast_core::AckTable), an entry in it and [`Outbox::push`](roomcast_core::Outbox::push) run under
//!    it, and a record of the change if rooms are watched. The watcher is notified after all locks are released;
//! 4. the lock inside an outbox.
//!
//! Two rooms are never locked at once, not even for reading. A waiting writer blocks new readers, so two broadcasts
//! that each read one room and wait for the other's would deadlock if a join waits at both.

mod all_members;
mod attached;
mod fanout;
mod members;
mod tables;
mod watch;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use roomcast_core::{
    Delivery, Dispatched, Event, JoinOutcome, Member, MemberKey, MemberLimit, Membership, Overflow, Receipt,
    Room, RoomWatcher, Router, RouterStats, SocketInfo, Target, WatchFilter,
};

use crate::all_members::{AllMembers, SlotIndex};
use crate::attached::Attached;
use crate::fanout::Fanout;
use crate::members::{MemberList, Recipient, RecipientRef};
use crate::tables::{ById, ByKey, ByMemberKey, KeySet};
use crate::watch::{Watch, Watches};

/// Members and rooms of one namespace, in one process.
///
/// # Names
///
/// The room of a socket's own id is only an address: it exists from attach to detach, costs no entry, and its owner can
/// neither join nor leave it. If another member joins a room with the id of a socket, the name means that socket *and*
/// the members of the room, in targets, exceptions and counts. If a second member is attached under the same id, the id
/// means the second one from then on. The first keeps the rooms that it joined until it is detached by its own key.
///
/// # Consistency
///
/// A broadcast reaches every member that matches throughout it. A member that joins or leaves during the broadcast may
/// receive it or not.
///
/// # Cost
///
/// A broadcast iterates over one dense list for each room in its target, and touches each recipient's outbox. It
/// allocates for itself and its codecs, and nothing per recipient. Several rooms cost a set of the members already
/// served, exceptions a set of the excluded ones. Joining and leaving take constant time.
///
/// ```
/// use roomcast_core::{Args, Event, Namespace, Room, Router, Target};
/// use roomcast_rooms::Rooms;
///
/// let rooms = Rooms::default();
/// let target = Target { rooms: vec![Room::from("lobby")], ..Target::default() };
/// let event = Event::new(Namespace::main(), "hello", Args::empty());
/// assert_eq!(rooms.broadcast(&target, &event).receipt.queued, 0);
/// ```
#[derive(Default)]
pub struct Rooms {
    members: DashMap<ByMemberKey, (), ByKey>,
    ids: DashMap<ById, ()>,
    rooms: DashMap<Room, Arc<MemberList>>,
    all_members: AllMembers,
    watches: Watches,
}

/// Attached member.
struct Entry {
    member: Attached,
    joined: Mutex<Joined>,
    /// Set under the lock of `joined`; as its field it would take eight bytes.
    detached: AtomicBool,
    slot: SlotIndex,
}

// Together with the two reference counts it fits a block of 64 bytes, of which malloc takes eight.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
const _: () = assert!(size_of::<Entry>() <= 40, "one field more would cost each member 16 bytes");

/// Rooms that a member has joined besides its own; boxed, since many members are in none.
#[allow(clippy::box_collection, reason = "one word when empty, which is nearly always")]
type Joined = Option<Box<HashSet<Room>>>;

impl Router for Rooms {
    fn attach(&self, member: Member) -> MemberKey {
        let key = member.key;
        let entry = Arc::new(Entry {
            member: Attached::new(member),
            joined: Mutex::default(),
            detached: AtomicBool::new(false),
            slot: SlotIndex::default(),
        });
        {
            // A thread that finds the entry before attach is complete waits here to join, leave or detach it.
            let _joined = entry.joined();
            self.members.insert(ByMemberKey(entry.clone()), ());
            self.all_members.insert(&entry);
            let enter = || ById::insert(&self.ids, &entry);
            self.watches.attached(&entry.member, enter);
        }
        self.notify();
        key
    }

    fn detach(&self, key: MemberKey) -> bool {
        let Some((ByMemberKey(entry), ())) = self.members.remove(&key) else { return false };
        // A join that found the entry earlier fails from here on.
        let mut joined = entry.joined();
        entry.detached.store(true, Ordering::Relaxed);
        let rooms = joined.take();
        let exit = || {
            let is_newest = |newest: &ById, _: &()| newest.0.member.key == key;
            self.ids.remove_if(entry.member.id.as_str(), is_newest).is_some()
        };
        self.watches.detached(&entry.member, exit);
        for room in rooms.into_iter().flat_map(|rooms| *rooms) {
            self.exit(&entry, &room);
        }
        self.all_members.remove(&entry);
        drop(joined);
        self.notify();
        true
    }

    fn join(&self, key: MemberKey, room: &Room) -> JoinOutcome {
        let joined = self.entry(key).map_or(JoinOutcome::Detached, |entry| self.join_entry(&entry, room));
        self.notify();
        joined
    }

    fn leave(&self, key: MemberKey, room: &Room) -> bool {
        let left = self.entry(key).is_some_and(|entry| self.leave_entry(&entry, room));
        self.notify();
        left
    }

    fn rooms_of(&self, key: MemberKey) -> Vec<Room> {
        self.entry(key).map_or_else(Vec::new, |entry| entry.rooms())
    }

    fn count(&self, room: &Room) -> usize {
        // The list of an id's name never contains its owner, so no member is counted twice.
        usize::from(self.by_id(room).is_some()) + self.list(room).map_or(0, |list| list.len())
    }

    fn broadcast(&self, target: &Target, event: &Event) -> Dispatched {
        let mut fanout = Fanout::new(event, target.delivery, target.overflow);
        self.for_each(target, |_, recipient| {
            fanout.deliver(recipient.member(), recipient.codec, recipient.outbox)
        });
        fanout.finish()
    }

    fn send(&self, member: &Member, delivery: Delivery, overflow: Overflow, event: &mut Event) -> Dispatched {
        if event.ack.is_some() {
            let mut fanout = Fanout::new(event, delivery, overflow);
            fanout.deliver(member, &member.codec, &member.outbox);
            return fanout.finish();
        }
        // The frame is unshared, and no notification follows.
        match event.frame_for_one(&*member.codec) {
            Ok(frame) => Dispatched::of_one(member.outbox.push(frame, delivery, overflow), &member.outbox),
            Err(_) => Receipt { unsupported: 1, ..Receipt::default() }.into(),
        }
    }

    fn update(&self, target: &Target, change: &Membership) -> usize {
        let recipients = self.recipients(target);
        let changes = |entry: &Arc<Entry>| match change {
            Membership::Join(rooms) => {
                let joined = rooms.iter().filter(|room| self.join_entry(entry, room) == JoinOutcome::Joined);
                joined.count() != 0
            }
            Membership::Leave(rooms) => {
                rooms.iter().filter(|room| self.leave_entry(entry, room)).count() != 0
            }
        };
        let changed = |entry: &&Arc<Entry>| {
            let changed = changes(entry);
            // After each member, so that only one member's changes are pending at a time.
            self.notify();
            changed
        };
        recipients.iter().filter(changed).count()
    }

    fn stats(&self) -> RouterStats {
        RouterStats::new(self.member_count(), self.room_count())
    }

    fn find(&self, target: &Target) -> Vec<SocketInfo> {
        let found = |entry: Arc<Entry>| SocketInfo {
            key: Some(entry.member.key),
            id: entry.member.id.clone(),
            rooms: entry.rooms(),
            control: entry.member.control().cloned(),
        };
        self.recipients(target).into_iter().map(found).collect()
    }

    fn disconnect(&self, target: &Target, close: bool) -> usize {
        let recipients = self.recipients(target);
        let controls = recipients.iter().filter_map(|entry| entry.member.control());
        controls.map(|control| control.disconnect(close)).count()
    }

    fn watch(&self, watcher: Arc<dyn RoomWatcher>, filter: WatchFilter) {
        self.watches.add(watcher, filter, |watch, watchers| {
            let ids = || self.ids.iter().map(|by_id| Room::from(&by_id.key().0.member.id)).collect();
            watch.add_existing_ids(ids);
            // Lists created from now on are watched from the start.
            for (room, list) in self.lists() {
                list.watch(watchers, || watch.add_existing_room(&room));
            }
        });
    }

    fn survey(&self) {
        if self.watches.is_empty() {
            return;
        }
        for (room, list) in self.lists() {
            list.survey(|members| self.watches.iter().for_each(|watch| watch.present(&room, &members)));
            // After each room, so that only one report is pending at a time.
            self.notify();
        }
    }
}

impl Rooms {
    /// Returns the names of the rooms that members have joined, in no particular order.
    ///
    /// The rooms of sockets' own ids are not included. A room whose last member leaves during the call may be.
    pub fn room_names(&self) -> Vec<Room> {
        self.rooms.iter().map(|room| room.key().clone()).collect()
    }

    /// Returns the number of rooms that members have joined, except rooms named by socket ids.
    pub fn room_count(&self) -> usize {
        self.rooms.len()
    }

    /// Returns the number of attached members.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    fn join_entry(&self, entry: &Arc<Entry>, room: &Room) -> JoinOutcome {
        let control = entry.member.control();
        let max = control.map_or(usize::MAX, |control| control.max_rooms());
        let outcome = self.join_within_limit(max, entry, room);
        if outcome == JoinOutcome::Full {
            control.into_iter().for_each(|control| control.limited(MemberLimit::Rooms));
        }
        outcome
    }

    fn join_within_limit(&self, max: usize, entry: &Arc<Entry>, room: &Room) -> JoinOutcome {
        let mut joined = entry.joined();
        if entry.is_detached() {
            return JoinOutcome::Detached;
        }
        if entry.member.id.as_str() == room.as_str() {
            return JoinOutcome::Already;
        }
        if joined.as_ref().map_or(0, |joined| joined.len()) >= max {
            let has = joined.as_ref().is_some_and(|joined| joined.contains(room));
            return if has { JoinOutcome::Already } else { JoinOutcome::Full };
        }
        if !joined.get_or_insert_default().insert(room.clone()) {
            return JoinOutcome::Already;
        }
        self.enter(entry, room);
        JoinOutcome::Joined
    }

    fn leave_entry(&self, entry: &Entry, room: &Room) -> bool {
        let mut joined = entry.joined();
        let left = joined.as_mut().is_some_and(|joined| joined.remove(room));
        if left {
            self.exit(entry, room);
        }
        left
    }

    /// Adds a member to the list of a room, also while other threads create or remove the room.
    ///
    /// The list is not locked while the shard is: a join that waits for a broadcast to its room must not block other
    /// rooms of the same shard. So a list may become empty between look-up and insertion. It is closed then, rejects
    /// the member, and is replaced by a new one.
    fn enter(&self, entry: &Arc<Entry>, room: &Room) {
        loop {
            let list = match self.list(room) {
                Some(list) => list,
                // Checked under the shard's lock: a new watcher finds the list, or the list is watched already.
                None => {
                    let make = || Arc::new(MemberList::new(self.watches.len()));
                    self.rooms.entry(room.clone()).or_insert_with(make).clone()
                }
            };
            let record = |watchers| self.record(watchers, |watch| watch.member_joined(room, &entry.member));
            if list.insert_and_record(entry.member.key, Recipient::of(entry), record) {
                return;
            }
            self.remove_list(room, &list);
        }
    }

    fn exit(&self, entry: &Entry, room: &Room) {
        let record = |watchers, last| {
            self.record(watchers, |watch| watch.member_left(room, &entry.member, last));
        };
        if let Some(list) = self.list(room)
            && list.remove_or_close(entry.member.key, record)
        {
            self.remove_list(room, &list);
        }
    }

    /// Records a change of a list for its watchers, under its lock.
    fn record(&self, watchers: usize, record: impl FnMut(&Watch)) {
        self.watches.iter().take(watchers).for_each(record);
    }

    /// Delivers the recorded changes to the watchers; runs under no lock.
    fn notify(&self) {
        self.watches.notify();
    }

    fn lists(&self) -> Vec<(Room, Arc<MemberList>)> {
        self.rooms.iter().map(|list| (list.key().clone(), list.value().clone())).collect()
    }

    fn recipients(&self, target: &Target) -> Vec<Arc<Entry>> {
        let mut recipients = Vec::new();
        self.for_each(target, |_, recipient| recipients.push(recipient.entry.clone()));
        recipients
    }

    /// Removes a closed list from the map, unless a new one has replaced it.
    fn remove_list(&self, room: &Room, closed: &Arc<MemberList>) {
        self.rooms.remove_if(room, |_, list| Arc::ptr_eq(list, closed));
    }

    /// Visits each member that matches the target, once.
    ///
    /// `visit` runs under the lock of a list, so it must neither block nor call back.
    fn for_each(&self, target: &Target, mut visit: impl FnMut(MemberKey, RecipientRef<'_>)) {
        // Collected first, since two lists are never locked at once.
        let mut excluded = KeySet::default();
        for room in &target.except {
            excluded.reserve(self.count(room));
            self.for_each_in(room, |key, _| _ = excluded.insert(key));
        }
        let mut visit = |key, recipient: RecipientRef<'_>| {
            if target.skip != Some(key) && !excluded.contains(&key) {
                visit(key, recipient);
            }
        };
        match target.rooms.as_slice() {
            [] => self.all_members.for_each(visit),
            [room] => self.for_each_in(room, visit),
            rooms => {
                let mut seen = KeySet::default();
                for room in rooms {
                    seen.reserve(self.count(room));
                    self.for_each_in(room, |key, recipient| {
                        if seen.insert(key) {
                            visit(key, recipient);
                        }
                    });
                }
            }
        }
    }

    fn for_each_in(&self, room: &Room, mut visit: impl FnMut(MemberKey, RecipientRef<'_>)) {
        if let Some(entry) = self.by_id(room) {
            visit(entry.member.key, RecipientRef::of(&entry));
        }
        if let Some(list) = self.list(room) {
            list.for_each(visit);
        }
    }

    // Map guards are held only inside these three functions.

    fn entry(&self, key: MemberKey) -> Option<Arc<Entry>> {
        self.members.get(&key).map(|by_key| Arc::clone(&by_key.key().0))
    }

    fn by_id(&self, room: &Room) -> Option<Arc<Entry>> {
        self.ids.get(room.as_str()).map(|by_id| Arc::clone(&by_id.key().0))
    }

    fn list(&self, room: &Room) -> Option<Arc<MemberList>> {
        self.rooms.get(room).map(|list| Arc::clone(&list))
    }
}

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (members, rooms) = (self.member_count(), self.room_count());
        f.debug_struct("Rooms").field("members", &members).field("rooms", &rooms).finish()
    }
}

impl Entry {
    fn joined(&self) -> MutexGuard<'_, Joined> {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the member is detached; called under the lock of `joined`.
    fn is_detached(&self) -> bool {
        self.detached.load(Ordering::Relaxed)
    }

    /// Returns its rooms, its own first; none once it is detached.
    fn rooms(&self) -> Vec<Room> {
        let joined = self.joined();
        if self.is_detached() {
            return Vec::new();
        }
        let joined = joined.iter().flat_map(|joined| joined.iter().cloned());
        std::iter::once(Room::from(&self.member.id)).chain(joined).collect()
    }
}

#[cfg(test)]
mod tests {
    use roomcast_testkit::{MemberProbe, TextCodec};

    use super::*;

    #[test]
    fn rejects_join_after_concurrent_detach() {
        let (rooms, room) = (Rooms::default(), Room::from("r"));
        let key = rooms.attach(MemberProbe::new("a", &TextCodec::new("t")).member());
        let entry = rooms.entry(key).expect("it is attached");
        assert!(rooms.detach(key));
        assert_eq!(rooms.join_entry(&entry, &room), JoinOutcome::Detached);
        assert!(!rooms.leave_entry(&entry, &room));
        assert_eq!((rooms.room_count(), rooms.member_count()), (0, 0));
    }

    #[test]
    fn replaces_closed_list_on_join() {
        let (rooms, room, codec) = (Rooms::default(), Room::from("r"), TextCodec::new("t"));
        let [a, b] = ["a", "b"].map(|id| rooms.attach(MemberProbe::new(id, &codec).member()));
        rooms.join(a, &room);
        let old = rooms.list(&room).expect("somebody is there");
        let entry = rooms.entry(b).expect("it is attached");
        // Simulates `a` leaving while `b`, which holds the list, is about to enter it.
        assert!(old.remove_or_close(a, |_, _| {}));
        assert!(!old.insert(b, Recipient::of(&entry)));
        assert_eq!(rooms.join(b, &room), JoinOutcome::Joined);
        let new = rooms.list(&room).expect("somebody is there");
        assert!(!Arc::ptr_eq(&old, &new));
        // The thread that emptied the old list updates the map only now.
        rooms.remove_list(&room, &old);
        assert_eq!(rooms.count(&room), 1);
    }
}
