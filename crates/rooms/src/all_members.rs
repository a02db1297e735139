//! All members of a namespace, in dense lists.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use roomcast_core::{Codec, MemberKey, Outbox};

use crate::Entry;
use crate::members::{PREFETCH_DISTANCE, RecipientRef, start_offset};

/// All attached members, spread over several lists to reduce contention of attaches and detaches.
///
/// Every client is in it, so a member takes one slot and the index of that slot, and no list has spare capacity for
/// more than a chunk.
#[derive(Default)]
pub(crate) struct AllMembers([RwLock<List>; LISTS]);

/// Members with the same codec are a group, of which there are few, since clients of one kind share their codec.
#[derive(Default)]
struct List(Vec<Group>);

struct Group {
    codec: Arc<dyn Codec>,
    /// Dense and unordered: the last member takes the place of a removed one. All chunks but the last are full.
    chunks: Vec<Vec<Slot>>,
}

/// Fields of a member that a broadcast reads without its entry.
struct Slot {
    key: MemberKey,
    outbox: Outbox,
    entry: Arc<Entry>,
}

/// Index of an entry's slot in its group; read and written under the lock of the list.
#[derive(Default)]
pub(crate) struct SlotIndex(AtomicU32);

impl SlotIndex {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed) as usize
    }

    fn set(&self, index: usize) {
        // Four billion clients do not fit into memory.
        self.0.store(u32::try_from(index).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}

impl AllMembers {
    /// Adds an entry, which must not be in the lists.
    pub(crate) fn insert(&self, entry: &Arc<Entry>) {
        self.write(entry.member.key).insert(entry);
    }

    /// Removes an entry, which must be in the lists.
    pub(crate) fn remove(&self, entry: &Entry) {
        let removed = self.write(entry.member.key).remove(entry);
        // Without the lock, since it may drop the entry.
        drop(removed);
    }

    /// Visits each member, one list at a time, each under its own lock.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(MemberKey, RecipientRef<'_>)) {
        let (later, first) = self.0.split_at(start_offset(LISTS));
        for list in first.iter().chain(later) {
            read(list).0.iter().for_each(|group| group.for_each(&mut visit));
        }
    }

    fn write(&self, key: MemberKey) -> RwLockWriteGuard<'_, List> {
        self.0[key.0 as usize % LISTS].write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(list: &RwLock<List>) -> RwLockReadGuard<'_, List> {
    list.read().unwrap_or_else(PoisonError::into_inner)
}

impl List {
    fn insert(&mut self, entry: &Arc<Entry>) {
        let codec = &entry.member.codec;
        let at = self.position(codec).unwrap_or_else(|| {
            self.0.push(Group { codec: codec.clone(), chunks: Vec::new() });
            self.0.len() - 1
        });
        self.0[at].push(entry);
    }

    fn remove(&mut self, entry: &Entry) -> Option<Slot> {
        let at = self.position(&entry.member.codec)?;
        let removed = self.0[at].remove(entry.slot.get());
        if self.0[at].chunks.is_empty() {
            self.0.swap_remove(at);
        }
        removed
    }

    fn position(&self, codec: &Arc<dyn Codec>) -> Option<usize> {
        self.0.iter().position(|group| Arc::ptr_eq(&group.codec, codec))
    }
}

impl Group {
    fn push(&mut self, entry: &Arc<Entry>) {
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            // The first one grows, since many namespaces have few members.
            let capacity = if self.chunks.is_empty() { 1 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let full = CHUNK * (self.chunks.len() - 1);
        let Some(last) = self.chunks.last_mut() else { return };
        entry.slot.set(full + last.len());
        let (key, outbox) = (entry.member.key, entry.member.outbox.clone());
        last.push(Slot { key, outbox, entry: entry.clone() });
    }

    fn remove(&mut self, index: usize) -> Option<Slot> {
        let last = self.chunks.last_mut()?.pop()?;
        if self.chunks.last().is_some_and(Vec::is_empty) {
            self.chunks.pop();
        }
        match self.chunks.get_mut(index / CHUNK).and_then(|chunk| chunk.get_mut(index % CHUNK)) {
            Some(place) => {
                last.entry.slot.set(index);
                Some(std::mem::replace(place, last))
            }
            // It was the last one.
            None => Some(last),
        }
    }

    fn for_each(&self, visit: &mut impl FnMut(MemberKey, RecipientRef<'_>)) {
        let (later, first) = self.chunks.split_at(start_offset(self.chunks.len()));
        let chunks = first.iter().chain(later);
        let mut ahead = chunks.clone().flatten().map(|slot| &slot.outbox);
        ahead.by_ref().take(PREFETCH_DISTANCE).for_each(Outbox::prefetch);
        for chunk in chunks {
            for Slot { key, outbox, entry } in chunk {
                ahead.next().into_iter().for_each(Outbox::prefetch);
                visit(*key, RecipientRef { codec: &self.codec, outbox, entry });
            }
        }
    }
}

/// Keeps a handful of threads apart; a broadcast to all members locks each list once.
const LISTS: usize = 8;
/// Slots of a chunk.
const CHUNK: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use roomcast_core::Router;
    use roomcast_testkit::{MemberProbe, TextCodec};

    use super::*;
    use crate::Rooms;

    fn keys(all: &AllMembers) -> Vec<MemberKey> {
        let mut keys = Vec::new();
        all.for_each(|key, recipient| {
            assert!(
                key == recipient.entry.member.key && Arc::ptr_eq(recipient.codec, &recipient.member().codec)
            );
            keys.push(key);
        });
        keys
    }

    #[test]
    fn holds_exactly_the_attached_members() {
        let rooms = Rooms::default();
        let codecs = [TextCodec::new("t"), TextCodec::new("u"), TextCodec::new("v")];
        let mut attached = Vec::new();
        let mut order = 1_usize;
        for round in 0..4 {
            for n in 0..2_000 {
                let probe = MemberProbe::new(&format!("{round}-{n}"), &codecs[n % 7 % 3]);
                attached.push(rooms.attach(probe.member()));
            }
            // Removed in an order that differs from that of the inserts.
            for _ in 0..1_500 {
                order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                assert!(rooms.detach(attached.swap_remove((order >> 33) % attached.len())));
            }
            let present = keys(&rooms.all_members);
            assert_eq!(present.len(), attached.len());
            assert_eq!(present.into_iter().collect::<HashSet<_>>(), attached.iter().copied().collect());
        }
        attached.drain(..).for_each(|key| assert!(rooms.detach(key)));
        assert!(rooms.all_members.0.iter().all(|list| read(list).0.is_empty()));
    }

    #[test]
    fn spare_capacity_stays_below_a_chunk() {
        let (rooms, codec) = (Rooms::default(), TextCodec::new("t"));
        let keys: Vec<_> =
            (0..10_000).map(|n| rooms.attach(MemberProbe::new(&n.to_string(), &codec).member())).collect();
        let capacity = || -> usize {
            let of = |list: &RwLock<List>| -> usize {
                read(list).0.iter().flat_map(|group| &group.chunks).map(Vec::capacity).sum()
            };
            rooms.all_members.0.iter().map(of).sum()
        };
        assert!(capacity() <= 10_000 + LISTS * CHUNK, "{}", capacity());
        keys[10..].iter().for_each(|key| assert!(rooms.detach(*key)));
        assert!(capacity() <= 10 + LISTS * CHUNK, "{}", capacity());
    }
}
