//! Members of one room, with fast iteration, insertion and removal.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use indexmap::IndexMap;
use roomcast_core::{Codec, Member, MemberKey, Outbox, PresentMember};

use crate::Entry;
use crate::attached::Attached;
use crate::tables::ByKey;

/// Fields of a member for a broadcast, copied into each list on join.
///
/// The loop over a list reads only the list and the outboxes, and the entry only if an acknowledgement is requested.
pub(crate) struct Recipient {
    pub(crate) codec: Arc<dyn Codec>,
    pub(crate) outbox: Outbox,
    pub(crate) entry: Arc<Entry>,
}

impl Recipient {
    pub(crate) fn of(entry: &Arc<Entry>) -> Self {
        let Member { codec, outbox, .. } = &*entry.member;
        Self { codec: codec.clone(), outbox: outbox.clone(), entry: entry.clone() }
    }

    fn as_ref(&self) -> RecipientRef<'_> {
        RecipientRef { codec: &self.codec, outbox: &self.outbox, entry: &self.entry }
    }
}

/// References to the fields of a [`Recipient`].
#[derive(Clone, Copy)]
pub(crate) struct RecipientRef<'a> {
    pub(crate) codec: &'a Arc<dyn Codec>,
    pub(crate) outbox: &'a Outbox,
    pub(crate) entry: &'a Arc<Entry>,
}

impl<'a> RecipientRef<'a> {
    pub(crate) fn of(entry: &'a Arc<Entry>) -> Self {
        let Member { codec, outbox, .. } = &*entry.member;
        Self { codec, outbox, entry }
    }

    pub(crate) fn member(self) -> &'a Attached {
        &self.entry.member
    }
}

/// Members of one room.
#[derive(Default)]
pub(crate) struct MemberList(RwLock<List>);

#[derive(Default)]
struct List {
    // Dense and unordered: the last member takes the place of a removed one.
    members: IndexMap<MemberKey, Recipient, ByKey>,
    closed: bool,
    /// Number of watchers, the earliest ones, for which changes are recorded.
    watched: usize,
}

impl MemberList {
    /// Creates an empty list.
    pub(crate) fn new(watched: usize) -> Self {
        Self(RwLock::new(List { watched, ..List::default() }))
    }

    /// Adds a member; returns `false` if the list is closed.
    #[cfg(test)]
    pub(crate) fn insert(&self, key: MemberKey, recipient: Recipient) -> bool {
        self.insert_and_record(key, recipient, |_| {})
    }

    /// Adds a member; returns `false` if the list is closed.
    ///
    /// If the list is watched, `record` gets the number of watchers, under the lock.
    pub(crate) fn insert_and_record(
        &self,
        key: MemberKey,
        recipient: Recipient,
        record: impl FnOnce(usize),
    ) -> bool {
        let mut list = self.write();
        if list.closed {
            return false;
        }
        list.members.insert(key, recipient);
        if list.watched > 0 {
            record(list.watched);
        }
        true
    }

    /// Records changes for one more watcher; calls `seed` under the lock if the list has members.
    ///
    /// Does nothing if the list was created after the watcher was added.
    pub(crate) fn watch(&self, watchers: usize, seed: impl FnOnce()) {
        let mut list = self.write();
        if list.watched >= watchers {
            return;
        }
        list.watched = watchers;
        if !list.members.is_empty() {
            seed();
        }
    }

    /// Reports the members under the lock, so that no change comes between; skips an empty list.
    pub(crate) fn survey(&self, report: impl FnOnce(Vec<PresentMember>)) {
        let list = self.read();
        if !list.members.is_empty() {
            let present = |recipient: &Recipient| {
                let member = &recipient.entry.member;
                PresentMember {
                    key: member.key,
                    socket: member.id.clone(),
                    control: member.control().cloned(),
                }
            };
            report(list.members.values().map(present).collect());
        }
    }

    /// Removes a member, and closes the list if it was the last; returns whether the list is closed.
    ///
    /// If the list is watched, `record` gets the number of watchers and the same value, under the lock.
    pub(crate) fn remove_or_close(&self, key: MemberKey, record: impl FnOnce(usize, bool)) -> bool {
        let mut list = self.write();
        let removed = list.members.swap_remove(&key);
        list.closed = list.members.is_empty();
        if list.watched > 0 && removed.is_some() {
            record(list.watched, list.closed);
        }
        list.shrink_if_sparse();
        let closed = list.closed;
        drop(list);
        drop(removed);
        closed
    }

    pub(crate) fn len(&self) -> usize {
        self.read().members.len()
    }

    /// Visits each member, under the lock of the list.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(MemberKey, RecipientRef<'_>)) {
        let list = self.read();
        let all = list.members.as_slice();
        // A short list is done before another thread can collide.
        let begin = if all.len() > PREFETCH_DISTANCE { start_offset(all.len()) } else { 0 };
        let (later, first) = all.split_at(begin);
        for part in [first, later] {
            let mut ahead = part.values().map(|recipient| &recipient.outbox);
            ahead.by_ref().take(PREFETCH_DISTANCE).for_each(Outbox::prefetch);
            for (key, recipient) in part {
                ahead.next().into_iter().for_each(Outbox::prefetch);
                visit(*key, recipient.as_ref());
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, List> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, List> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    /// Shrinks at a quarter of the capacity, so that a formerly long list releases its memory.
    fn shrink_if_sparse(&mut self) {
        let (len, capacity) = (self.members.len(), self.members.capacity());
        if capacity > RETAINED_CAPACITY && len < capacity / 4 {
            self.members.shrink_to(len * 2);
        }
    }
}

/// Returns the index at which this thread starts to iterate over `many` items.
///
/// Threads start at different places. Two broadcasts to the same members that start together would otherwise contend
/// for every outbox along the way.
pub(crate) fn start_offset(many: usize) -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        // Place of this thread among all, drawn once. `Router::broadcast` has no parameter for it, and a draw per
        // broadcast would be an atomic write to memory shared by all threads. Bounded: one number a thread.
        static SHARE: usize = THREADS.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN) % PARTS;
    }
    // A thread that is exiting starts at index 0.
    SHARE.try_with(|share| many / PARTS * share + many % PARTS * share / PARTS).unwrap_or_default()
}

/// Multiples of this spread the starting points of any number of threads.
const GOLDEN: usize = 0x9e37;
const PARTS: usize = 1 << 16;

/// Number of recipients by which outboxes are prefetched early.
pub(crate) const PREFETCH_DISTANCE: usize = 16;
/// Capacity below which a list is not shrunk.
const RETAINED_CAPACITY: usize = 32;

#[cfg(test)]
mod tests {
    use roomcast_testkit::{MemberProbe, TextCodec};

    use super::*;
    use crate::Rooms;

    #[test]
    fn shrinks_list_after_removals() {
        use roomcast_core::Router;

        let rooms = Rooms::default();
        let key = rooms.attach(MemberProbe::new("a", &TextCodec::new("t")).member());
        let entry = rooms.entry(key).expect("it is attached");
        let list = MemberList::default();
        for key in 0..10_000 {
            assert!(list.insert(MemberKey(key), Recipient::of(&entry)));
        }
        assert!(list.read().members.capacity() >= 10_000);
        for key in 5..10_000 {
            assert!(!list.remove_or_close(MemberKey(key), |_, _| {}));
            let List { members, .. } = &*list.read();
            assert!(members.capacity() <= RETAINED_CAPACITY.max(members.len() * 8), "{}", members.capacity());
        }
        assert_eq!(list.len(), 5);
    }
}
