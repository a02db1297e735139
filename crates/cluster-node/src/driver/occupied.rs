//! Channels whose last message had recipients on this node.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use crate::input::Key;

/// Channels whose last message had recipients on this node, so that the next one need not be searched for members.
///
/// It may forget a channel, or confuse two. A message is then decoded although its room has no members, or the members
/// are counted again.
#[derive(Debug)]
pub(super) struct OccupiedChannels {
    hasher: RandomState,
    /// Hash of a channel, in the place that it determines.
    places: Box<[Option<u64>; PLACES]>,
}

impl OccupiedChannels {
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::default(), places: Box::new([None; PLACES]) }
    }

    pub(super) fn contains(&self, key: Key, channel: &str) -> bool {
        let hash = self.hash(key, channel);
        self.places[Self::place(hash)] == Some(hash)
    }

    pub(super) fn set(&mut self, key: Key, channel: &str, is_occupied: bool) {
        let hash = self.hash(key, channel);
        self.places[Self::place(hash)] = is_occupied.then_some(hash);
    }

    fn hash(&self, key: Key, channel: &str) -> u64 {
        self.hasher.hash_one((key, channel))
    }

    fn place(hash: u64) -> usize {
        hash as usize % PLACES
    }
}

const PLACES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_occupied_until_unset() {
        let mut occupied = OccupiedChannels::new();
        assert!(!occupied.contains(1, "a"));
        occupied.set(1, "a", true);
        assert!(occupied.contains(1, "a"));
        assert!(!occupied.contains(2, "a"));
        occupied.set(1, "a", false);
        assert!(!occupied.contains(1, "a"));
    }
}
