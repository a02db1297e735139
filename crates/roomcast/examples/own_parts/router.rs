//! Router that retains the last event of one name in each room for sockets that join later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roomcast_core::{
    ByteString, Delivery, Dispatched, Event, JoinOutcome, Member, MemberKey, Membership, Overflow, Room,
    RoomWatcher, Router, RouterStats, SocketInfo, Target, WatchFilter,
};
use roomcast_rooms::Rooms;

/// Maximum number of rooms with a retained event; events of further rooms are sent but not retained.
const MAX_ROOMS: usize = 10_000;

/// Router that wraps [`Rooms`] and retains the last event of one name in each room until its last member leaves.
///
/// A socket that joins a room receives the retained event. It may receive the same event twice, but never an older
/// event after a newer one.
#[derive(Debug)]
pub(crate) struct Retained {
    rooms: Rooms,
    name: ByteString,
    kept: Mutex<RetainedEvent>,
}

#[derive(Debug, Default)]
struct RetainedEvent {
    members: HashMap<MemberKey, Member>,
    events: HashMap<Room, (u64, Arc<Event>)>,
    /// Number of the last event.
    last: u64,
}

impl Retained {
    /// Creates an empty router that retains events of this name.
    pub(crate) fn new(name: &'static str) -> Self {
        Self { rooms: Rooms::default(), name: ByteString::from_static(name), kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, RetainedEvent> {
        // The state is consistent after every statement, so a poisoned lock is usable.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the retained event of a room to a new member.
    fn catch_up(&self, key: MemberKey, room: &Room) {
        let mut sent = 0;
        loop {
            // Release the lock before sending: the member's code may call this router again.
            let (number, event, member) = {
                let kept = self.kept();
                let Some((number, event)) = kept.events.get(room) else { return };
                let Some(member) = kept.members.get(&key) else { return };
                if *number == sent {
                    return;
                }
                (*number, event.clone(), member.clone())
            };
            self.rooms
                .send(&member, Delivery::Reliable, Overflow::Inherit, &mut Event::clone(&event))
                .flush_backlog();
            // A newer event may have been broadcast before this send; the loop then sends the newer event again.
            sent = number;
        }
    }

    /// Removes the retained event of an empty room.
    fn forget_if_empty(&self, room: &Room) {
        if self.rooms.count(room) == 0 {
            self.kept().events.remove(room);
        }
    }
}

impl Router for Retained {
    fn attach(&self, member: Member) -> MemberKey {
        self.kept().members.insert(member.key, member.clone());
        self.rooms.attach(member)
    }

    fn detach(&self, key: MemberKey) -> bool {
        let rooms = self.rooms.rooms_of(key);
        let detached = self.rooms.detach(key);
        self.kept().members.remove(&key);
        rooms.iter().for_each(|room| self.forget_if_empty(room));
        detached
    }

    fn join(&self, key: MemberKey, room: &Room) -> JoinOutcome {
        let joined = self.rooms.join(key, room);
        if joined == JoinOutcome::Joined {
            self.catch_up(key, room);
        }
        joined
    }

    fn leave(&self, key: MemberKey, room: &Room) -> bool {
        let left = self.rooms.leave(key, room);
        self.forget_if_empty(room);
        left
    }

    fn broadcast(&self, target: &Target, event: &Event) -> Dispatched {
        if event.name == self.name {
            let mut kept = self.kept();
            for room in target.rooms.iter().filter(|room| self.rooms.count(room) > 0) {
                if kept.events.len() < MAX_ROOMS || kept.events.contains_key(room) {
                    kept.last += 1;
                    let entry = (kept.last, Arc::new(event.clone()));
                    kept.events.insert(room.clone(), entry);
                }
            }
        }
        self.rooms.broadcast(target, event)
    }

    fn update(&self, target: &Target, change: &Membership) -> usize {
        let found = match change {
            Membership::Join(_) => self.rooms.find(target),
            Membership::Leave(_) => Vec::new(),
        };
        let changed = self.rooms.update(target, change);
        match change {
            Membership::Join(rooms) => {
                for member in found {
                    let Some(key) = member.key else { continue };
                    rooms
                        .iter()
                        .filter(|room| !member.rooms.contains(room))
                        .for_each(|room| self.catch_up(key, room));
                }
            }
            Membership::Leave(rooms) => rooms.iter().for_each(|room| self.forget_if_empty(room)),
        }
        changed
    }

    // The remaining methods delegate to `Rooms`.

    fn rooms_of(&self, key: MemberKey) -> Vec<Room> {
        self.rooms.rooms_of(key)
    }

    fn count(&self, room: &Room) -> usize {
        self.rooms.count(room)
    }

    fn send(&self, member: &Member, delivery: Delivery, overflow: Overflow, event: &mut Event) -> Dispatched {
        self.rooms.send(member, delivery, overflow, event)
    }

    fn stats(&self) -> RouterStats {
        self.rooms.stats()
    }

    fn find(&self, target: &Target) -> Vec<SocketInfo> {
        self.rooms.find(target)
    }

    fn disconnect(&self, target: &Target, close: bool) -> usize {
        self.rooms.disconnect(target, close)
    }

    fn watch(&self, watcher: Arc<dyn RoomWatcher>, filter: WatchFilter) {
        self.rooms.watch(watcher, filter);
    }

    fn survey(&self) {
        self.rooms.survey();
    }
}
