//! Keys of the router's tables, hashed by a field of the member behind them.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use dashmap::DashMap;
use roomcast_core::MemberKey;

use crate::Entry;

/// Entry in the table of keys. It borrows the key of its member, so it is one pointer.
pub(crate) struct ByMemberKey(pub(crate) Arc<Entry>);

impl Borrow<MemberKey> for ByMemberKey {
    fn borrow(&self) -> &MemberKey {
        &self.0.member.key
    }
}

impl Hash for ByMemberKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.member.key.hash(state);
    }
}

impl PartialEq for ByMemberKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.member.key == other.0.member.key
    }
}

impl Eq for ByMemberKey {}

/// Entry in the table of ids. It borrows the id of its member as the key, so it is one pointer.
pub(crate) struct ById(pub(crate) Arc<Entry>);

impl ById {
    /// Inserts a member, replacing another with the same id. The key is part of the member, so both are exchanged.
    pub(crate) fn insert(table: &DashMap<Self, ()>, entry: &Arc<Entry>) {
        match table.entry(Self(entry.clone())) {
            dashmap::Entry::Vacant(free) => _ = free.insert(()),
            dashmap::Entry::Occupied(taken) => _ = taken.replace_entry(()),
        }
    }
}

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        self.0.member.id.as_str()
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.member.id.as_str().hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.member.id == other.0.member.id
    }
}

impl Eq for ById {}

pub(crate) type KeySet = HashSet<MemberKey, ByKey>;

pub(crate) type ByKey = BuildHasherDefault<KeyHasher>;

/// Hasher for keys of this process, which no client can choose to collide.
#[derive(Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write_u64(&mut self, key: u64) {
        // Consecutive numbers spread over the upper bits, and stay distinct in the lower ones.
        self.0 = key.wrapping_mul(GOLDEN_RATIO);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// 2^64 divided by the golden ratio, to the next odd number (Knuth, "Sorting and Searching", section 6.4).
const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
