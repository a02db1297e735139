//! Ring of queued entries that owns no memory until it is used.

use std::collections::VecDeque;

use crate::memory;

/// Ring of entries behind the first one of a queue.
///
/// Most clients keep up and never need one.
#[allow(clippy::box_collection, reason = "an unused ring takes one word of the outbox instead of four")]
pub(super) struct Ring<T>(Option<Box<VecDeque<T>>>);

impl<T> Ring<T> {
    pub(super) fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |ring| ring.capacity())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flat_map(|ring| ring.iter())
    }

    #[inline]
    pub(super) fn back_mut(&mut self) -> Option<&mut T> {
        self.0.as_mut()?.back_mut()
    }

    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<T> {
        self.0.as_mut()?.pop_front()
    }

    #[inline]
    pub(super) fn push_back(&mut self, entry: T) {
        self.with_room().push_back(entry);
    }

    pub(super) fn push_front(&mut self, entry: T) {
        self.with_room().push_front(entry);
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        if let Some(ring) = &mut self.0 {
            ring.retain(keep);
        }
    }

    /// Returns the ring, with room for one more entry.
    #[inline]
    fn with_room(&mut self) -> &mut VecDeque<T> {
        if self.0.as_ref().is_none_or(|ring| ring.len() == ring.capacity()) {
            self.grow();
        }
        self.0.as_mut().expect("it has grown")
    }

    /// Grows the ring and charges its memory.
    #[cold]
    fn grow(&mut self) {
        let before = self.size();
        self.0.get_or_insert_default().reserve(1);
        memory::charge(self.size() - before);
    }

    /// Frees the ring and releases its memory charge.
    #[cold]
    pub(super) fn free(&mut self) {
        memory::release(self.size());
        self.0 = None;
    }

    /// Returns the bytes that are charged for the ring.
    fn size(&self) -> usize {
        self.0.as_ref().map_or(0, |ring| size_of::<VecDeque<T>>() + ring.capacity() * size_of::<T>())
    }
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.free();
        }
    }
}
