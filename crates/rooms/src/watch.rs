//! Recording of room changes for a watcher.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roomcast_core::{ChangeQueue, Member, PresentMember, Room, RoomChange, RoomWatcher};

/// Pending changes for a watcher, and the names of existing rooms.
///
/// Its lock is taken under that of a list, so that changes keep the order in which they were made. Only map look-ups
/// run under it.
pub(crate) struct Watch {
    changes: ChangeQueue,
    names: Mutex<HashMap<Room, Name>>,
}

/// Reasons for the existence of a room; it is deleted with the last one.
#[derive(Default)]
struct Name {
    /// An attached member has the name as its id.
    owned: bool,
    /// The list of the room has members.
    listed: bool,
}

impl Watch {
    pub(crate) fn new(watcher: Arc<dyn RoomWatcher>) -> Self {
        Self { changes: ChangeQueue::new(watcher), names: Mutex::default() }
    }

    /// Delivers the recorded changes; runs under no lock.
    pub(crate) fn notify(&self) {
        self.changes.notify();
    }

    /// Records a list with members that existed before the watcher.
    pub(crate) fn add_existing_room(&self, room: &Room) {
        self.names().entry(room.clone()).or_default().listed = true;
    }

    /// Records ids attached before the watcher; `ids` runs under the lock, so that none is detached meanwhile.
    pub(crate) fn add_existing_ids(&self, ids: impl FnOnce() -> Vec<Room>) {
        let mut names = self.names();
        for id in ids() {
            names.entry(id).or_default().owned = true;
        }
    }

    /// Records that a member joined a list; runs under the lock of the list.
    pub(crate) fn member_joined(&self, room: &Room, member: &Member) {
        let mut names = self.names();
        let name = names.entry(room.clone()).or_default();
        let created = !name.owned && !name.listed;
        name.listed = true;
        self.push_joined(created, room, member);
    }

    /// Records that a member left a list, as its last one or not; runs under the lock of the list.
    pub(crate) fn member_left(&self, room: &Room, member: &Member, last: bool) {
        let mut names = self.names();
        let owned = names.get(room).is_some_and(|name| name.owned);
        if last && let Some(name) = names.get_mut(room) {
            name.listed = false;
        }
        self.push_left(&mut names, last && !owned, room, member);
    }

    /// Records the members of a list; runs under the lock of the list.
    pub(crate) fn present(&self, room: &Room, members: Vec<PresentMember>) {
        self.changes.push(RoomChange::Present { room: room.clone(), members });
    }

    /// Attaches a member by `enter`, and records its own room.
    pub(crate) fn attached(&self, member: &Member, enter: impl FnOnce()) {
        let mut names = self.names();
        enter();
        let room = Room::from(&member.id);
        let name = names.entry(room.clone()).or_default();
        // A second member with the same id takes over an existing room.
        if !std::mem::replace(&mut name.owned, true) {
            let created = !name.listed;
            self.push_joined(created, &room, member);
        }
    }

    /// Detaches a member by `exit`, which returns whether the id was still its own.
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
