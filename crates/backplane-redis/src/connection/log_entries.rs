//! Entries of a reply, up to where it was read.

use bytes::Bytes;
use roomcast_node_adapter::{Entries, EntryId, StreamEntry};

/// Entries that were read and not yet passed on.
#[derive(Debug, Default)]
pub(super) struct Collected(Entries);

impl Collected {
    pub(super) fn push(&mut self, id: EntryId, fields: Vec<(Bytes, Bytes)>) {
        self.0.count += 1;
        self.0.first.get_or_insert(id);
        self.0.last = Some(id);
        match StreamEntry::from_fields(id, fields) {
            Ok(entry) => self.0.entries.extend(entry),
            Err(_) => self.0.unreadable += 1,
        }
    }

    pub(super) fn push_oversized(&mut self, id: EntryId) {
        self.0.count += 1;
        self.0.first.get_or_insert(id);
        self.0.last = Some(id);
        self.0.oversized += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.count == 0
    }

    pub(super) fn take(&mut self) -> Entries {
        std::mem::take(&mut self.0)
    }
}
