//! What becomes of rooms, for whoever watches

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roomcast_core::{ChangeQueue, Member, PresentMember, Room, RoomChange, RoomWatcher};

/// The changes of rooms on their way to a watcher, and which rooms there are
///
/// Its lock is taken under that of a list, so that changes stand in the order in which they were made; under it only
/// maps are looked into.
pub(crate) struct Watch {
    changes: ChangeQueue,
    names: Mutex<HashMap<Room, Name>>,
}

/// Why there is a room of this name: it is gone with the last reason
#[derive(Default)]
struct Name {
    /// A member that is attached has it as its id
    owned: bool,
    /// Its list has members
    listed: bool,
}

impl Watch {
    pub(crate) fn new(watcher: Arc<dyn RoomWatcher>) -> Self {
        Self { changes: ChangeQueue::new(watcher), names: Mutex::default() }
    }

    /// Tells what was noted; under no lock
    pub(crate) fn tell(&self) {
        self.changes.tell();
    }

    /// There is such a list, with members, from before anybody watched
    pub(crate) fn was_listed(&self, room: &Room) {
        self.names().entry(room.clone()).or_default().listed = true;
    }

    /// These ids were attached before anybody watched; looked up under the lock, lest one be detached meanwhile
    pub(crate) fn were_attached(&self, ids: impl FnOnce() -> Vec<Room>) {
        let mut names = self.names();
        for id in ids() {
            names.entry(id).or_default().owned = true;
        }
    }

    /// A member was entered into a list; under the lock of the list
    pub(crate) fn entered(&self, room: &Room, member: &Member) {
        let mut names = self.names();
        let name = names.entry(room.clone()).or_default();
        let created = !name.owned && !name.listed;
        name.listed = true;
        self.push_joined(created, room, member);
    }

    /// A member was taken out of a list, perhaps as its last; under the lock of the list
    pub(crate) fn exited(&self, room: &Room, member: &Member, last: bool) {
        let mut names = self.names();
        let owned = names.get(room).is_some_and(|name| name.owned);
        if last && let Some(name) = names.get_mut(room) {
            name.listed = false;
        }
        self.push_left(&mut names, last && !owned, room, member);
    }

    /// These are the members of a list; under the lock of the list
    pub(crate) fn present(&self, room: &Room, members: Vec<PresentMember>) {
        self.changes.push(RoomChange::Present { room: room.clone(), members });
    }

    /// A member is attached, by `enter`, so that from now on its id is a room
    pub(crate) fn attached(&self, member: &Member, enter: impl FnOnce()) {
        let mut names = self.names();
        enter();
        let room = Room::from(&member.id);
        let name = names.entry(room.clone()).or_default();
        // A second member of the same id takes over a room that is there.
        if !std::mem::replace(&mut name.owned, true) {
            let created = !name.listed;
            self.push_joined(created, &room, member);
        }
    }

    /// A member is detached, by `exit`, which tells whether the id was still its own
    pub(crate) fn detached(&self, member: &Member, exit: impl FnOnce() -> bool) {
        let mut names = self.names();
        if !exit() {
            return;
        }
        let room = Room::from(&member.id);
        if let Some(name) = names.get_mut(&room)
            && std::mem::take(&mut name.owned)
        {
            let deleted = !name.listed;
            self.push_left(&mut names, deleted, &room, member);
        }
    }

    fn push_joined(&self, created: bool, room: &Room, member: &Member) {
        if created {
            self.changes.push(RoomChange::Created { room: room.clone() });
        }
        let (room, socket, control) = (room.clone(), member.id.clone(), member.control.clone());
        self.changes.push(RoomChange::Joined { room, socket, key: member.key, control });
    }

    fn push_left(&self, names: &mut HashMap<Room, Name>, deleted: bool, room: &Room, member: &Member) {
        let (socket, key) = (member.id.clone(), member.key);
        self.changes.push(RoomChange::Left { room: room.clone(), socket, key });
        if deleted {
            names.remove(room);
            self.changes.push(RoomChange::Deleted { room: room.clone() });
        }
    }

    fn names(&self) -> MutexGuard<'_, HashMap<Room, Name>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
