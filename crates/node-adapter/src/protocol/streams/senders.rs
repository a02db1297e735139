//! Entries that were stored twice.

use std::collections::HashMap;

use bytestring::ByteString;

use crate::StreamEntry;

/// Last number of each sender.
///
/// A node that loses its connection before the answer looks for its entry in the stream, and appends it again only if
/// it is not there. That fails if the entry was trimmed meanwhile, or if Redis could not end the old connection: then
/// the entry is stored twice, with one number.
#[derive(Debug, Default)]
pub(super) struct Senders(HashMap<ByteString, u64>);

impl Senders {
    /// Returns whether an entry was seen before. Servers on Node do not number their entries.
    pub(super) fn is_repeated(&mut self, entry: &StreamEntry) -> bool {
        let Some(number) = entry.number else { return false };
        if let Some(last) = self.0.get_mut(&entry.sender) {
            let is_repeated = number <= *last;
            *last = number.max(*last);
            return is_repeated;
        }
        if self.0.len() == MAX_SENDERS {
            // Senders are nodes, which get a new id at each start. Active ones are added again.
            self.0.clear();
        }
        self.0.insert(entry.sender.clone(), number);
        false
    }
}

const MAX_SENDERS: usize = 4096;
