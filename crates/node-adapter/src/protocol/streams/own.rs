//! Own entries not yet read back from the stream.

use std::collections::VecDeque;
use std::time::Instant;

use super::super::action::Action;

/// Local effects of own entries, in the order of the calls.
#[derive(Debug, Default)]
pub(super) struct OwnEntries {
    entries: VecDeque<OwnEntry>,
    last: u64,
    /// Bytes of the events.
    bytes: usize,
    /// Numbers of entries that took effect before they were read back.
    released: VecDeque<u64>,
}

#[derive(Debug)]
struct OwnEntry {
    number: u64,
    local: Action,
    deadline: Option<Instant>,
    /// Whether it takes effect without coming back, as soon as all earlier ones have.
    has_failed: bool,
    /// Whether it is not stored, so that it never comes back.
    is_refused: bool,
}

impl OwnEntries {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn next_number(&self) -> u64 {
        self.last + 1
    }

    /// Adds an entry, which is forgotten at once if it has no local effect.
    pub(super) fn push(&mut self, number: u64, local: Option<Action>, deadline: Option<Instant>) {
        self.last = number;
        self.bytes += local.as_ref().map_or(0, bytes_of);
        self.entries.extend(local.map(|local| OwnEntry {
            number,
            local,
            deadline,
            has_failed: false,
            is_refused: false,
        }));
    }

    /// Returns whether an entry took effect without coming back.
    pub(super) fn was_released(&self, number: u64) -> bool {
        self.released.binary_search(&number).is_ok()
    }

    /// Returns the last entry that took effect without coming back so far.
    pub(super) fn last_released(&self) -> Option<u64> {
        self.released.back().copied()
    }

    /// Expects none of the entries any more that took effect without coming back.
    pub(super) fn forget_released(&mut self) {
        self.released.clear();
    }

    /// Notes that an entry is not stored.
    pub(super) fn refuse(&mut self, number: u64) {
        if let Ok(index) = self.entries.binary_search_by_key(&number, |entry| entry.number) {
            self.entries[index].has_failed = true;
            self.entries[index].is_refused = true;
        }
    }

    pub(super) fn fail_due(&mut self, now: Instant) {
        // Deadlines are in the order of the entries.
        let due = |entry: &&mut OwnEntry| entry.deadline.is_some_and(|deadline| deadline <= now);
        self.entries.iter_mut().take_while(due).for_each(|entry| entry.has_failed = true);
    }

    pub(super) fn fail_all(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.has_failed = true);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.entries.front()?.deadline
    }

    /// Removes the first entry if it has failed; returns its number if it may come back.
    pub(super) fn pop_failed(&mut self) -> Option<(Option<u64>, Action)> {
        self.entries.front().filter(|entry| entry.has_failed)?;
        let front = self.entries.pop_front()?;
        self.bytes -= bytes_of(&front.local);
        let released = (!front.is_refused).then_some(front.number);
        self.released.extend(released);
        Some((released, front.local))
    }

    /// Removes an entry that came back, and all before it; returns for each whether it is the one.
    ///
    /// Returns none if the entry took effect before.
    pub(super) fn confirm(&mut self, number: u64) -> Vec<(bool, Action)> {
        while self.released.front().is_some_and(|released| *released <= number) {
            self.released.pop_front();
        }
        let Ok(index) = self.entries.binary_search_by_key(&number, |entry| entry.number) else {
            return Vec::new();
        };
        let confirmed: Vec<_> = self.entries.drain(..=index).collect();
        self.bytes -= confirmed.iter().map(|entry| bytes_of(&entry.local)).sum::<usize>();
        confirmed.into_iter().map(|entry| (entry.number == number, entry.local)).collect()
    }
}

fn bytes_of(local: &Action) -> usize {
    let event = match local {
        Action::Deliver { event, .. } => event.name.len() + event.args.byte_len(),
        _ => 0,
    };
    event + ENTRY_BYTES
}

/// Memory of an entry without its event.
const ENTRY_BYTES: usize = 256;
