//! Members of one room on this node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::PresenceMember;

use crate::body::{DeltaWriter, Keyed, Op};

/// Members of one room on this node, and what other nodes know of them.
#[derive(Debug, Default)]
pub(crate) struct LocalRoom {
    members: BTreeMap<u64, Entry>,
    /// Number of present members.
    present: usize,
    /// Members whose present state may not be published.
    dirty: BTreeSet<u64>,
    /// Number of published members.
    published: usize,
    /// Version of the last publication; 0 if the room is empty for other nodes.
    version: u64,
}

#[derive(Debug)]
struct Entry {
    member: Arc<PresenceMember>,
    is_present: bool,
    is_published: bool,
    /// The data differs from that of the last publication.
    has_new_data: bool,
}

impl LocalRoom {
    /// Adds a member, or sets its data.
    pub(crate) fn join(&mut self, key: u64, member: PresenceMember) {
        let Some(entry) = self.members.get_mut(&key) else {
            let member = Arc::new(member);
            let entry = Entry { member, is_present: true, is_published: false, has_new_data: false };
            self.members.insert(key, entry);
            self.dirty.insert(key);
            self.present += 1;
            return;
        };
        if !entry.is_present {
            entry.is_present = true;
            self.present += 1;
        }
        self.set_data(key, member.data);
    }

    /// Sets the data of a member; returns whether that changes it.
    pub(crate) fn set_data(&mut self, key: u64, data: Option<ByteString>) -> bool {
        let Some(entry) = self.members.get_mut(&key) else { return false };
        if data.is_none() || entry.member.data == data {
            return false;
        }
        entry.member = Arc::new(PresenceMember { id: entry.member.id.clone(), data });
        entry.has_new_data = true;
        self.dirty.insert(key);
        true
    }

    /// Removes a member; returns whether it was present.
    pub(crate) fn leave(&mut self, key: u64, data: Option<ByteString>) -> bool {
        if !self.members.get(&key).is_some_and(|entry| entry.is_present) {
            return false;
        }
        self.set_data(key, data);
        self.present -= 1;
        if let Some(entry) = self.members.get_mut(&key)
            && entry.is_published
        {
            entry.is_present = false;
            self.dirty.insert(key);
        } else {
            self.members.remove(&key);
            self.dirty.remove(&key);
        }
        true
    }

    pub(crate) fn present(&self) -> usize {
        self.present
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Returns whether there is nothing to publish, now or later.
    pub(crate) fn is_over(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns the version that other nodes have; 0 if the room is empty for them.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Returns the published members.
    pub(crate) fn published(&self) -> Vec<Keyed> {
        let published = self.members.iter().filter(|(_, entry)| entry.is_published);
        published.map(|(key, entry)| (*key, entry.member.clone())).collect()
    }

    /// Encodes changes up to about `max` bytes, and records them as published; `None` if there are none.
    ///
    /// `clock` becomes the version.
    pub(crate) fn publish(&mut self, clock: &mut u64, max: usize) -> Option<Bytes> {
        let mut out = DeltaWriter::new();
        let mut has_ops = false;
        while let Some(key) = self.dirty.pop_first() {
            let Some(entry) = self.members.get_mut(&key) else { continue };
            let op = match (entry.is_present, entry.is_published) {
                (true, false) => {
                    self.published += 1;
                    Op::Put((key, entry.member.clone()))
                }
                (true, true) if entry.has_new_data => Op::Put((key, entry.member.clone())),
                // It left and came back.
                (true, true) => continue,
                (false, _) => {
                    self.published -= 1;
                    Op::Remove(key, entry.member.data.clone().filter(|_| entry.has_new_data))
                }
            };
            (entry.is_published, entry.has_new_data) = (true, false);
            if !entry.is_present {
                self.members.remove(&key);
            }
            out.push(&op);
            has_ops = true;
            if out.len() >= max {
                break;
            }
        }
        if !has_ops {
            return None;
        }
        *clock += 1;
        let from = self.version;
        // A room that is empty starts again from nothing, so that it can be forgotten.
        self.version = if self.published == 0 { 0 } else { *clock };
        Some(out.finish(from, *clock))
    }

    /// Encodes the version alone; `None` if the room is empty for other nodes.
    pub(crate) fn announce(&self) -> Option<Bytes> {
        (self.version > 0).then(|| DeltaWriter::new().finish(self.version, self.version))
    }
}
