//! Publications that wait for a subscription or for the master of their slot, without I/O and time.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use bytestring::ByteString;

use super::slots::{SLOTS, slot_of};

/// Publication to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Publication {
    pub(super) channel: ByteString,
    pub(super) payload: Bytes,
    pub(super) slot: u16,
}

impl Publication {
    pub(super) fn new(channel: ByteString, payload: Bytes) -> Self {
        Self { slot: slot_of(channel.as_bytes()), channel, payload }
    }

    /// Returns the bytes that count for limits.
    pub(super) fn len(&self) -> usize {
        self.channel.len() + self.payload.len() + OVERHEAD
    }
}

/// Publications of slots whose master cannot take them, in the order of each slot.
///
/// At most one master has publications of a slot that it has not answered. So a channel keeps its order when its slot
/// moves.
#[derive(Debug)]
pub(super) struct Outbox {
    held: BTreeMap<u16, Held>,
    /// Publications of each slot that a master has not answered.
    unanswered: Vec<u32>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Held {
    /// Publications that a master did not take. They are before the unanswered ones.
    returned: VecDeque<Publication>,
    /// Publications after the unanswered ones.
    later: VecDeque<Publication>,
    /// Whether the master has to be given time.
    is_delayed: bool,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { held: BTreeMap::new(), unanswered: vec![0; usize::from(SLOTS)], bytes: 0 }
    }

    /// Returns the bytes of the held publications.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Returns whether publications of a slot have to be held, since there are earlier ones.
    pub(super) fn is_held(&self, slot: u16) -> bool {
        self.held.contains_key(&slot)
    }

    /// Holds a publication behind all others of its slot.
    pub(super) fn hold(&mut self, publication: Publication) {
        self.bytes += publication.len();
        self.held.entry(publication.slot).or_default().later.push_back(publication);
    }

    /// Holds all further publications of a slot until its former master has answered all earlier ones.
    pub(super) fn move_slot(&mut self, slot: u16) {
        if self.unanswered[usize::from(slot)] > 0 {
            self.held.entry(slot).or_default();
        }
    }

    pub(super) fn note_sent(&mut self, slot: u16) {
        self.unanswered[usize::from(slot)] += 1;
    }

    /// Notes that a publication was executed, refused for good, or lost. Returns the number of dropped
    /// publications, which were returned before it and would arrive after it.
    pub(super) fn complete(&mut self, slot: u16) -> u64 {
        self.unanswered[usize::from(slot)] -= 1;
        let Some(held) = self.held.get_mut(&slot) else { return 0 };
        let dropped = std::mem::take(&mut held.returned);
        self.bytes -= dropped.iter().map(Publication::len).sum::<usize>();
        self.tidy(slot);
        dropped.len() as u64
    }

    /// Takes back a publication that was not executed, to be tried again.
    pub(super) fn give_back(&mut self, publication: Publication, is_delayed: bool) {
        let slot = publication.slot;
        self.unanswered[usize::from(slot)] -= 1;
        self.bytes += publication.len();
        let held = self.held.entry(slot).or_default();
        held.is_delayed |= is_delayed;
        held.returned.push_back(publication);
    }

    /// Ends all delays.
    pub(super) fn end_delays(&mut self) {
        self.held.values_mut().for_each(|held| held.is_delayed = false);
    }

    /// Passes on publications in the order of each slot, as far as `send` does not return them.
    pub(super) fn release(&mut self, mut send: impl FnMut(Publication) -> Option<Publication>) {
        let Self { held, unanswered, bytes } = self;
        held.retain(|slot, held| {
            let unanswered = &mut unanswered[usize::from(*slot)];
            if *unanswered > 0 || held.is_delayed {
                return true;
            }
            while let Some(publication) = held.returned.pop_front().or_else(|| held.later.pop_front()) {
                let len = publication.len();
                if let Some(publication) = send(publication) {
                    held.returned.push_front(publication);
                    break;
                }
                *bytes -= len;
                *unanswered += 1;
            }
            // A partly sent queue is before its rest.
            if *unanswered > 0 && !held.returned.is_empty() {
                held.returned.append(&mut held.later);
                std::mem::swap(&mut held.returned, &mut held.later);
            }
            !held.is_empty()
        });
    }

    fn tidy(&mut self, slot: u16) {
        if self.unanswered[usize::from(slot)] == 0 && self.held.get(&slot).is_some_and(Held::is_empty) {
            self.held.remove(&slot);
        }
    }
}

impl Held {
    fn is_empty(&self) -> bool {
        self.returned.is_empty() && self.later.is_empty()
    }
}

/// Bytes of a command and of its place in a queue, without channel and payload.
const OVERHEAD: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(text: &'static str) -> Publication {
        Publication::new("a".into(), Bytes::from_static(text.as_bytes()))
    }

    fn released(outbox: &mut Outbox) -> Vec<Bytes> {
        let mut sent = Vec::new();
        outbox.release(|publication| {
            sent.push(publication.payload);
            None
        });
        sent
    }

    #[test]
    fn returned_publications_precede_later_ones() {
        let (mut outbox, slot) = (Outbox::new(), publication("").slot);
        outbox.note_sent(slot);
        outbox.note_sent(slot);
        outbox.give_back(publication("1"), false);
        assert!(outbox.is_held(slot));
        outbox.hold(publication("3"));
        // The second one may still be executed.
        assert!(released(&mut outbox).is_empty());
        outbox.give_back(publication("2"), false);
        assert_eq!(released(&mut outbox), ["1", "2", "3"]);
        assert!(outbox.is_empty() && outbox.bytes() == 0);
    }

    #[test]
    fn overtaken_publications_are_dropped() {
        let (mut outbox, slot) = (Outbox::new(), publication("").slot);
        outbox.note_sent(slot);
        outbox.note_sent(slot);
        outbox.give_back(publication("1"), true);
        outbox.hold(publication("3"));
        assert_eq!(outbox.complete(slot), 1);
        assert!(released(&mut outbox).is_empty(), "the delay is not over");
        outbox.end_delays();
        assert_eq!(released(&mut outbox), ["3"]);
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn moved_slots_wait_for_former_master() {
        let (mut outbox, slot) = (Outbox::new(), publication("").slot);
        outbox.move_slot(slot);
        assert!(!outbox.is_held(slot));
        outbox.note_sent(slot);
        outbox.move_slot(slot);
        assert!(outbox.is_held(slot));
        outbox.hold(publication("2"));
        assert!(released(&mut outbox).is_empty());
        assert_eq!(outbox.complete(slot), 0);
        assert_eq!(released(&mut outbox), ["2"]);
    }
}
