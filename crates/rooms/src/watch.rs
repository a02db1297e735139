//! Recording of room changes for watchers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use roomcast_core::{ChangeQueue, PresentMember, Room, RoomChange, RoomWatcher, WatchFilter};

use crate::attached::Attached;

/// Watchers of a router, in the order in which they were added; none is ever removed.
#[derive(Default)]
pub(crate) struct Watches {
    first: OnceLock<Box<Watch>>,
    adding: Mutex<()>,
}

impl Watches {
    /// Adds a watcher; `seed` records what exists, and gets the number of watchers. Runs for one watcher at a time.
    pub(crate) fn add(
        &self,
        watcher: Arc<dyn RoomWatcher>,
        filter: WatchFilter,
        seed: impl FnOnce(&Watch, usize),
    ) {
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let len = self.len();
        let slot = self.iter().last().map_or(&self.first, |last| &last.next);
        seed(slot.get_or_init(|| Box::new(Watch::new(watcher, filter))), len + 1);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.get().is_none()
    }

    pub(crate) fn len(&self) -> usize {
        self.iter().count()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Watch> {
        std::iter::successors(self.first.get().map(|watch| &**watch), |watch| watch.next())
    }

    /// Delivers the recorded changes; runs under no lock.
    pub(crate) fn notify(&self) {
        self.iter().for_each(|watch| watch.changes.notify());
    }

    /// Attaches a member by `enter`, and records its own room.
    pub(crate) fn attached(&self, member: &Attached, mut enter: impl FnMut()) {
        Watch::attached(self.iter().next(), member, &mut enter);
    }

    /// Detaches a member by `exit`, which returns whether the id was still its own.
    pub(crate) fn detached(&self, member: &Attached, mut exit: impl FnMut() -> bool) {
        Watch::detached(self.iter().next(), member, &mut exit);
    }
}

/// Pending changes for a watcher, and the names of existing rooms.
///
/// Its lock is taken under that of a list, so that changes keep the order in which they were made. Only map look-ups
/// run under it.
pub(crate) struct Watch {
    filter: WatchFilter,
    changes: ChangeQueue,
    names: Mutex<HashMap<Room, Name>>,
    next: OnceLock<Box<Self>>,
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
    fn new(watcher: Arc<dyn RoomWatcher>, filter: WatchFilter) -> Self {
        let changes = ChangeQueue::new(watcher);
        Self { filter, changes, names: Mutex::default(), next: OnceLock::new() }
    }

    fn next(&self) -> Option<&Self> {
        self.next.get().map(|next| &**next)
    }

    fn has_ids(&self) -> bool {
        self.filter != WatchFilter::JoinedRooms
    }

    fn has_members(&self) -> bool {
        self.filter == WatchFilter::Members
    }

    /// Records a list with members that existed before the watcher.
    pub(crate) fn add_existing_room(&self, room: &Room) {
        self.names().entry(room.clone()).or_default().listed = true;
    }

    /// Records ids attached before the watcher; `ids` runs under the lock, so that none is detached meanwhile.
    pub(crate) fn add_existing_ids(&self, ids: impl FnOnce() -> Vec<Room>) {
        if !self.has_ids() {
            return;
        }
        let mut names = self.names();
        for id in ids() {
            names.entry(id).or_default().owned = true;
        }
    }

    /// Records that a member joined a list; runs under the lock of the list.
    pub(crate) fn member_joined(&self, room: &Room, member: &Attached) {
        let mut names = self.names();
        let name = names.entry(room.clone()).or_default();
        let created = !name.owned && !name.listed;
        name.listed = true;
        self.push_joined(created, room, member);
    }

    /// Records that a member left a list, as its last one or not; runs under the lock of the list.
    pub(crate) fn member_left(&self, room: &Room, member: &Attached, last: bool) {
        let mut names = self.names();
        let owned = names.get(room).is_some_and(|name| name.owned);
        if last && let Some(name) = names.get_mut(room) {
            name.listed = false;
        }
        self.push_left(&mut names, last && !owned, room, member);
    }

    /// Records the members of a list; runs under the lock of the list.
    pub(crate) fn present(&self, room: &Room, members: &[PresentMember]) {
        if !self.has_members() {
            return;
        }
        let members = members.to_vec();
        self.changes.push(RoomChange::Present { room: room.clone(), members });
    }

    fn attached(this: Option<&Self>, member: &Attached, enter: &mut dyn FnMut()) {
        let Some(this) = this else { return enter() };
        if !this.has_ids() {
            return Self::attached(this.next(), member, enter);
        }
        let mut names = this.names();
        Self::attached(this.next(), member, enter);
        let room = Room::from(&member.id);
        let name = names.entry(room.clone()).or_default();
        // A second member with the same id takes over an existing room.
        if !std::mem::replace(&mut name.owned, true) {
            let created = !name.listed;
            this.push_joined(created, &room, member);
        }
    }

    fn detached(this: Option<&Self>, member: &Attached, exit: &mut dyn FnMut() -> bool) -> bool {
        let Some(this) = this else { return exit() };
        if !this.has_ids() {
            return Self::detached(this.next(), member, exit);
        }
        let mut names = this.names();
        if !Self::detached(this.next(), member, exit) {
            return false;
        }
        let room = Room::from(&member.id);
        if let Some(name) = names.get_mut(&room)
            && std::mem::take(&mut name.owned)
        {
            let deleted = !name.listed;
            this.push_left(&mut names, deleted, &room, member);
        }
        true
    }

    fn push_joined(&self, created: bool, room: &Room, member: &Attached) {
        if created {
            self.changes.push(RoomChange::Created { room: room.clone() });
        }
        if !self.has_members() {
            return;
        }
        let (room, socket, control) = (room.clone(), member.id.clone(), member.control().cloned());
        self.changes.push(RoomChange::Joined { room, socket, key: member.key, control });
    }

    fn push_left(&self, names: &mut HashMap<Room, Name>, deleted: bool, room: &Room, member: &Attached) {
        if self.has_members() {
            let (socket, key) = (member.id.clone(), member.key);
            self.changes.push(RoomChange::Left { room: room.clone(), socket, key });
        }
        if deleted {
            names.remove(room);
            self.changes.push(RoomChange::Deleted { room: room.clone() });
        }
    }

    fn names(&self) -> MutexGuard<'_, HashMap<Room, Name>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
