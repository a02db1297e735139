//! Events that a client has missed, from ranges of the stream.

use bytestring::ByteString;
use roomcast_core::{Event, EventLogError, MissedEvents, Namespace, Room};

use super::restore::is_for;
use super::senders::Senders;
use super::set_options;
use crate::{ClusterBody, CodecLimits, Entries, EntryId, StreamEntry};

/// Reader of the events of one namespace after an offset, for a client in some rooms.
///
/// The driver reads ranges of entries from [`from`](Self::from) on, each beginning with the last entry of the one
/// before: as long as that exists, nothing after it was trimmed.
#[derive(Debug)]
pub struct MissedReader {
    namespace: Namespace,
    limits: CodecLimits,
    rooms: Vec<Room>,
    max_bytes: usize,
    /// Node whose clients received the events that it could not write at once.
    node: ByteString,
    /// Last entry that was considered, and has to be the next one that is read.
    last: EntryId,
    is_anchored: bool,
    senders: Senders,
    events: Vec<Missed>,
    /// Events that the client has received from its node.
    received: Vec<ByteString>,
    bytes: usize,
}

#[derive(Debug)]
struct Missed {
    id: EntryId,
    /// Number of the entry, if it is of the client's node.
    number: Option<u64>,
    event: Event,
}

impl MissedReader {
    /// Creates a reader for the events after an offset. `node` is the node that the client was connected to, or empty.
    #[must_use]
    pub fn new(
        namespace: Namespace,
        limits: CodecLimits,
        after: EntryId,
        rooms: Vec<Room>,
        max_bytes: usize,
        node: ByteString,
    ) -> Self {
        Self {
            namespace,
            limits,
            rooms,
            max_bytes,
            node,
            last: after,
            is_anchored: false,
            senders: Senders::default(),
            events: Vec::new(),
            received: Vec::new(),
            bytes: 0,
        }
    }

    /// Returns the first id of the next range.
    #[must_use]
    pub fn from(&self) -> EntryId {
        self.last
    }

    /// Handles entries of a range, in one or more parts. Entries that cannot be read are skipped, as on arrival.
    ///
    /// # Errors
    /// Returns an error if the client has to begin a new session.
    pub fn handle_entries(&mut self, entries: &Entries) -> Result<(), EventLogError> {
        let mut rest = &entries.entries[..];
        if !self.is_anchored && entries.count > 0 {
            // The anchor may be an entry of others.
            if entries.first != Some(self.last) {
                return Err(EventLogError::Trimmed);
            }
            self.is_anchored = true;
            if let Some((first, others)) = rest.split_first()
                && first.id == self.last
            {
                rest = others;
            }
        }
        if entries.oversized > 0 {
            return Err(EventLogError::TooLarge);
        }
        rest.iter().try_for_each(|entry| self.handle_entry(entry))?;
        self.last = entries.last.unwrap_or(self.last);
        Ok(())
    }

    fn handle_entry(&mut self, entry: &StreamEntry) -> Result<(), EventLogError> {
        if entry.namespace != self.namespace.as_str() || self.senders.is_repeated(entry) {
            return Ok(());
        }
        let is_of_node = entry.sender == self.node;
        if is_of_node && !entry.delivered_numbers.is_empty() {
            self.leave_out(|missed| {
                missed.number.is_some_and(|number| entry.delivered_numbers.contains(&number))
            });
        }
        if !entry.is_broadcast() {
            return Ok(());
        }
        if entry.was_delivered && is_of_node {
            self.received.push(entry.id.to_string().into());
            return Ok(());
        }
        let Ok(Some(message)) = entry.message(&self.namespace, &self.limits) else { return Ok(()) };
        let ClusterBody::Broadcast(recipients, flags, mut event) = message.body else { return Ok(()) };
        if !message.id.is_empty() || flags.volatile || !is_for(&recipients, &self.rooms) {
            return Ok(());
        }
        set_options(&mut event, &flags);
        let offset = ByteString::from(entry.id.to_string());
        self.bytes += event.name.len() + event.args.byte_len() + offset.len();
        if self.bytes > self.max_bytes {
            return Err(EventLogError::TooLarge);
        }
        event.offset = Some(offset);
        let number = entry.number.filter(|_| is_of_node);
        self.events.push(Missed { id: entry.id, number, event });
        Ok(())
    }

    /// Leaves out events that the client has received.
    fn leave_out(&mut self, mut was_received: impl FnMut(&Missed) -> bool) {
        let Self { events, received, bytes, .. } = self;
        events.retain(|missed| {
            let is_left_out = was_received(missed);
            if is_left_out {
                let Event { name, args, offset, .. } = &missed.event;
                let offset = offset.clone().unwrap_or_default();
                *bytes -= name.len() + args.byte_len() + offset.len();
                received.push(offset);
            }
            !is_left_out
        });
    }

    /// Leaves out events of entries that the client's node has delivered before they came back, if this is that node.
    pub fn leave_out_delivered(&mut self, was_delivered: impl Fn(EntryId) -> bool) {
        self.leave_out(|missed| missed.number.is_some() && was_delivered(missed.id));
    }

    /// Handles the end of a range that is followed by another one.
    pub fn handle_range_end(&mut self) {
        self.is_anchored = false;
    }

    /// Returns the events once the end of the stream was read.
    ///
    /// # Errors
    /// Returns an error if the offset is not in the stream.
    pub fn finish(self) -> Result<MissedEvents, EventLogError> {
        if !self.is_anchored {
            return Err(EventLogError::Trimmed);
        }
        let events = self.events.into_iter().map(|missed| missed.event).collect();
        Ok(MissedEvents { events, received: self.received, until: self.last.to_string().into() })
    }
}
