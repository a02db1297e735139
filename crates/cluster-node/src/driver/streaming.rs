//! Entries of the stream: received, and on their way to it.

use std::task::{Context, Poll};
use std::time::Instant;

use roomcast_core::{Event, Heard, Target};
use roomcast_node_adapter::{EntryFields, StreamEntry, StreamsNamespace};

use super::entry::{Entry, Subscription};
use super::stream::{Stream, StreamEvent};
use super::{Driver, TURN_WORK};
use crate::input::{Key, LogInput, StreamPosition};

impl Driver {
    /// Numbers an entry of a namespace, and queues it. `local` takes effect when it comes back from the stream.
    pub(super) fn append(
        &mut self,
        key: Key,
        fields: EntryFields,
        local: Option<Box<(Target, Event)>>,
        now: Instant,
    ) {
        let Some(node) = self.namespaces.get_mut(&key).and_then(|entry| entry.node.as_streams()) else {
            // Opened after the node began to leave.
            self.stats.dropped += 1;
            return;
        };
        node.append(fields, local.map(|local| *local), now);
        if let Some(stream) = self.stream.as_ref().filter(|stream| stream.is_bypassed()) {
            node.note_position(stream.position());
            node.release_unconfirmed();
        }
        self.note_release(key);
        self.perform(key, now);
    }

    /// Handles events of the stream; returns whether there may be more.
    pub(super) fn receive_entries(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut budget = TURN_WORK;
        while let Some(stream) = &mut self.stream
            && let Poll::Ready(event) = stream.poll_event(cx, now)
        {
            let work = match event {
                StreamEvent::Entry(entry) => self.receive_entry(&entry, now),
                StreamEvent::Missed => {
                    self.miss_all();
                    0
                }
                StreamEvent::Refused(key, number) => {
                    self.refuse_entry(key, number, now);
                    0
                }
                StreamEvent::Range { token, entries, is_end } => {
                    let work = entries.count;
                    self.replays.handle_range(token, &entries, is_end, stream);
                    work
                }
                StreamEvent::RangeFailed { token } => {
                    self.replays.handle_failure(token);
                    0
                }
            };
            budget = budget.saturating_sub(1 + work);
            if budget == 0 {
                self.note_position();
                return true;
            }
        }
        self.note_position();
        if self.stream.as_mut().is_some_and(|stream| stream.begins_outage(now)) {
            self.release_unconfirmed(now);
        }
        false
    }

    /// Reports to all hosts that events may have been lost.
    fn miss_all(&mut self) {
        for key in std::mem::take(&mut self.released) {
            let node = self.namespaces.get_mut(&key).and_then(|entry| entry.node.as_streams());
            node.into_iter().for_each(StreamsNamespace::handle_gap);
        }
        for host in self.namespaces.values().filter_map(Entry::host) {
            self.shared.guard.call(|| host.missed(None));
        }
    }

    /// Handles an entry; returns the amount of work.
    fn receive_entry(&mut self, entry: &StreamEntry, now: Instant) -> usize {
        let Some(key) = self.by_namespace.get(&entry.namespace).copied() else { return 0 };
        let Some(node) = self.namespaces.get_mut(&key).and_then(|found| found.node.as_streams()) else {
            return 0;
        };
        self.stats.bytes_in += entry.data.len() as u64;
        let own = entry.number.filter(|_| node.is_own(entry));
        node.handle_entry(entry, now);
        if !self.released.is_empty() && !node.has_released() {
            self.released.remove(&key);
        }
        if let (Some(number), Some(stream)) = (own, &mut self.stream) {
            stream.note_own(key, number);
        }
        self.perform(key, now)
    }

    /// An entry that was not stored takes effect on this node only.
    fn refuse_entry(&mut self, key: Key, number: u64, now: Instant) {
        let Some(node) = self.namespaces.get_mut(&key).and_then(|entry| entry.node.as_streams()) else {
            return;
        };
        node.handle_append_failure(number);
        self.perform(key, now);
    }

    /// Lets the own entries of all namespaces take effect without the stream.
    fn release_unconfirmed(&mut self, now: Instant) {
        let keys: Vec<_> = self.namespaces.keys().copied().collect();
        for key in keys {
            if let Some(node) = self.namespaces.get_mut(&key).and_then(|entry| entry.node.as_streams()) {
                node.note_position(self.stream.as_ref().and_then(Stream::position));
                node.release_unconfirmed();
            }
            self.note_release(key);
            self.perform(key, now);
        }
    }

    /// Publishes that own entries of a namespace take effect before they come back, if any do, and before they do.
    pub(super) fn note_release(&mut self, key: Key) {
        let node = self.namespaces.get_mut(&key).and_then(|entry| entry.node.as_streams());
        if node.is_some_and(|node| node.has_released()) && self.released.insert(key) {
            self.note_position();
        }
    }

    /// Publishes the position, after the effects of all entries up to it.
    fn note_position(&mut self) {
        let Some(stream) = &self.stream else { return };
        let is_reading = stream.away_since().is_none();
        self.released.retain(|key| self.namespaces.contains_key(key));
        let has_released = !self.released.is_empty();
        // While entries wait, the position before them stays.
        let id = stream.position();
        if id.is_some() && !std::mem::replace(&mut self.has_position, true) {
            let is_active = |entry: &&mut Entry| entry.subscription == Subscription::Active;
            for entry in self.namespaces.values_mut().filter(is_active) {
                entry.complete_joins(Heard::Confirmed);
            }
        }
        self.shared.position.send_if_modified(|position| {
            let next = StreamPosition { id: id.or(position.id), is_reading, has_released };
            std::mem::replace(position, next) != next
        });
    }

    /// Passes entries and questions to the engine; returns whether there are more that it may accept.
    pub(super) fn transmit_entries(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Self { stream, replays, namespaces, .. } = self;
        let Some(stream) = stream else { return false };
        replays.begin(stream);
        let has_more = stream.transmit(cx, TURN_WORK, now, |key, number| {
            // The clients of a closed namespace received nothing more.
            let entry = namespaces.get_mut(&key).filter(|entry| !entry.is_closed());
            entry.and_then(|entry| entry.node.as_streams()).is_some_and(|node| node.was_released(number))
        });
        self.settle(0);
        has_more
    }

    pub(super) fn ask_log(&mut self, input: LogInput) {
        let Some(stream) = &mut self.stream else { return };
        match input {
            LogInput::Latest { reply } => stream.ask_end(reply),
            LogInput::Missed { key, question, reply } => {
                let Some(node) = self.namespaces.get_mut(&key).and_then(|entry| entry.node.as_streams())
                else {
                    return;
                };
                let (namespace, limits) = (node.namespace().clone(), node.limits());
                self.replays.ask(namespace, limits, question, reply);
            }
        }
    }
}
