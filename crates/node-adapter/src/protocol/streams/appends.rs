//! Entries on their way to the stream.

use std::collections::VecDeque;

use bytestring::ByteString;

use crate::{AppendResult, EntryFields, EntryId};

/// Entries of all namespaces of a node on their way to the stream, each stored once and in order.
///
/// `K` is the driver's key of a namespace. The driver sends the entries of [`take_next`](Self::take_next) over one
/// connection, and reports their answers. When the connection is lost, an entry without an answer may be stored. The
/// queue then sends no entry until the reader has read the stream up to its end on the new connection. Entries that came
/// back were stored; the others are sent again, before all later ones.
#[derive(Debug)]
pub struct AppendQueue<K> {
    /// Entries that were sent without an answer, followed by entries that wait.
    entries: VecDeque<Pending<K>>,
    /// Number of entries that were sent.
    sent: usize,
    bytes: usize,
    last_token: u64,
    state: AppendState,
    pushed: u64,
    settled: u64,
    refused: u64,
    /// Entries that were found in the stream after their answer was lost.
    found: u64,
    repeated: u64,
}

/// Whether an [`AppendQueue`] sends entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AppendState {
    /// It does.
    Open,
    /// The connection is lost.
    Disconnected,
    /// It needs the id of the last entry on the new connection; see [`AppendQueue::handle_end`].
    Unknown,
    /// It waits until the reader has read this id; see [`AppendQueue::handle_position`].
    Reading(Option<EntryId>),
}

#[derive(Debug)]
struct Pending<K> {
    key: K,
    number: u64,
    fields: EntryFields,
    bytes: usize,
    token: u64,
    /// Whether it was sent on a connection that was lost before the answer.
    is_uncertain: bool,
    /// Whether it came back from the stream.
    was_read: bool,
}

impl<K> Default for AppendQueue<K> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            sent: 0,
            bytes: 0,
            last_token: 0,
            state: AppendState::Disconnected,
            pushed: 0,
            settled: 0,
            refused: 0,
            found: 0,
            repeated: 0,
        }
    }
}

impl<K: Copy + Eq> AppendQueue<K> {
    /// Creates an empty queue without a connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry of a namespace with its [number](crate::StreamEntry::number).
    pub fn push(&mut self, key: K, number: u64, fields: EntryFields) {
        let bytes = entry_bytes(&fields);
        self.bytes += bytes;
        self.pushed += 1;
        let (token, is_uncertain, was_read) = (0, false, false);
        self.entries.push_back(Pending { key, number, fields, bytes, token, is_uncertain, was_read });
    }

    /// Returns whether there is an entry to send.
    #[must_use]
    pub fn has_next(&self) -> bool {
        self.state == AppendState::Open && self.sent < self.entries.len()
    }

    /// Returns the namespace and the number of the next entry to send.
    #[must_use]
    pub fn peek(&self) -> Option<(K, u64)> {
        let next = self.has_next().then(|| self.entries.get(self.sent))?;
        next.map(|entry| (entry.key, entry.number))
    }

    /// Takes the next entry to send, with the number for its answer.
    pub fn take_next(&mut self) -> Option<(u64, EntryFields)> {
        if !self.has_next() {
            return None;
        }
        let entry = self.entries.get_mut(self.sent)?;
        self.sent += 1;
        self.last_token += 1;
        entry.token = self.last_token;
        Some((entry.token, entry.fields.clone()))
    }

    /// Handles the answer to an entry. Returns the namespace and the number of one that the server refused, and its
    /// reason.
    pub fn handle_result(&mut self, token: u64, result: AppendResult) -> Option<(K, u64, ByteString)> {
        match result {
            AppendResult::Stored(_) => {
                self.pop(token)?;
                None
            }
            AppendResult::Refused(reason) => {
                let entry = self.pop(token)?;
                self.refused += 1;
                Some((entry.key, entry.number, reason))
            }
            AppendResult::Lost { was_sent } => {
                let sent = self.entries.iter_mut().take(self.sent);
                let mut lost = sent.filter(|entry| entry.token == token);
                if let Some(entry) = lost.next() {
                    entry.is_uncertain |= was_sent;
                }
                None
            }
        }
    }

    /// Answers are in the order of the entries.
    fn pop(&mut self, token: u64) -> Option<Pending<K>> {
        self.entries.front().filter(|entry| entry.token == token)?;
        let entry = self.entries.pop_front()?;
        self.sent -= 1;
        self.bytes -= entry.bytes;
        self.settled += 1;
        Some(entry)
    }

    /// Handles the loss of the connection, after the answers of its entries.
    pub fn handle_disconnect(&mut self) {
        self.sent = 0;
        self.state = AppendState::Disconnected;
    }

    /// Handles a new connection, which ended the one before at the server.
    pub fn handle_connect(&mut self) {
        // Uncertain entries were sent, so they are the first ones.
        let is_uncertain = self.entries.front().is_some_and(|entry| entry.is_uncertain);
        self.state = if is_uncertain { AppendState::Unknown } else { AppendState::Open };
    }

    /// Returns the state.
    #[must_use]
    pub fn state(&self) -> AppendState {
        self.state
    }

    /// Handles the id of the last entry in state [`AppendState::Unknown`]; `None` if the stream is empty.
    pub fn handle_end(&mut self, last: Option<EntryId>) {
        if self.state == AppendState::Unknown {
            self.state = AppendState::Reading(last);
        }
    }

    /// Notes that an own entry came back from the stream.
    pub fn handle_entry(&mut self, key: K, number: u64) {
        // Entries of one namespace have ascending numbers, and come back in order.
        let own = self.entries.iter_mut().find(|entry| entry.key == key && entry.number >= number);
        if let Some(entry) = own.filter(|entry| entry.number == number) {
            entry.was_read = true;
        }
    }

    /// Notes the last id that the reader has read, on its current connection.
    pub fn handle_position(&mut self, position: EntryId) {
        let AppendState::Reading(end) = self.state else { return };
        if end.is_some_and(|end| position < end) {
            return;
        }
        self.state = AppendState::Open;
        while self.entries.front().is_some_and(|entry| entry.is_uncertain && entry.was_read)
            && let Some(entry) = self.entries.pop_front()
        {
            self.bytes -= entry.bytes;
            self.settled += 1;
            self.found += 1;
        }
        for entry in self.entries.iter_mut().filter(|entry| entry.is_uncertain) {
            entry.is_uncertain = false;
            self.repeated += 1;
        }
    }

    /// Returns the number of entries that are not settled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether all entries are settled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the bytes of these entries.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns a mark behind the last entry.
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.pushed
    }

    /// Returns whether all entries before a mark were stored or refused.
    #[must_use]
    pub fn has_settled(&self, mark: u64) -> bool {
        self.settled >= mark
    }

    /// Returns the number of entries that were stored or refused, which is the [mark](Self::mark) behind the last of
    /// them.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// Returns the number of refused entries.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Returns the number of entries without an answer that were found in the stream, and of those appended again.
    #[must_use]
    pub fn resolved(&self) -> (u64, u64) {
        (self.found, self.repeated)
    }
}

/// Returns the bytes that an entry takes in memory.
#[must_use]
pub fn entry_bytes(fields: &EntryFields) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len() + 16).sum::<usize>() + ENTRY_BYTES
}

/// Memory of an entry without its fields.
const ENTRY_BYTES: usize = 128;
