//! Events that a client has missed, from ranges of the stream.

use bytestring::ByteString;
use roomcast_core::{Event, EventLogError, MissedEvents, Namespace, Room};

use super::restore::is_for;
use super::senders::Senders;
use super::{ReleasedEntries, StreamOffset, set_options};
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
    /// Later entries whose events were received.
    released: Option<ReleasedEntries>,
    /// Whether the last one of them was found.
    has_released: bool,
    /// Last entry that was considered, and has to be the next one that is read.
    last: EntryId,
    is_anchored: bool,
    senders: Senders,
    events: Vec<Event>,
    bytes: usize,
}

impl MissedReader {
    /// Creates a reader for the events after an offset.
    #[must_use]
    pub fn new(
        namespace: Namespace,
        limits: CodecLimits,
        after: StreamOffset,
        rooms: Vec<Room>,
        max_bytes: usize,
    ) -> Self {
        let StreamOffset { id: last, released } = after;
        Self {
            namespace,
            limits,
            rooms,
            max_bytes,
            has_released: released.is_none(),
            released,
            last,
            is_anchored: false,
            senders: Senders::default(),
            events: Vec::new(),
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
        let was_received = self.released.as_ref().is_some_and(|released| {
            let is_before = |number| number <= released.number;
            entry.sender == released.sender && entry.number.is_some_and(is_before)
        });
        if let Some(released) = &self.released
            && entry.sender == released.sender
            && entry.number.is_some_and(|number| number >= released.number)
        {
            self.has_released = true;
        }
        if !entry.is_broadcast() || was_received {
            return Ok(());
        }
        let Ok(Some(message)) = entry.message(&self.namespace, &self.limits) else { return Ok(()) };
        let ClusterBody::Broadcast(recipients, flags, mut event) = message.body else { return Ok(()) };
        if !message.id.is_empty() || flags.volatile || !is_for(&recipients, &self.rooms) {
            return Ok(());
        }
        set_options(&mut event, &flags);
        // Before the last of them, a plain offset would lack the later ones.
        let released = self.released.clone().filter(|_| !self.has_released);
        let offset = ByteString::from(StreamOffset { id: entry.id, released }.to_string());
        self.bytes += event.name.len() + event.args.byte_len() + offset.len();
        if self.bytes > self.max_bytes {
            return Err(EventLogError::TooLarge);
        }
        event.offset = Some(offset);
        self.events.push(event);
        Ok(())
    }

    /// Handles the end of a range that is followed by another one.
    pub fn handle_range_end(&mut self) {
        self.is_anchored = false;
    }

    /// Returns the events once the end of the stream was read.
    ///
    /// # Errors
    /// Returns an error if the offset is not in the stream, or if events that the client has are not yet there: they
    /// would be delivered again when they are.
    pub fn finish(self) -> Result<MissedEvents, EventLogError> {
        if !self.is_anchored {
            return Err(EventLogError::Trimmed);
        }
        if !self.has_released {
            let reason = "the client has events that are not in the stream yet";
            return Err(EventLogError::Unavailable(reason.to_owned()));
        }
        Ok(MissedEvents { events: self.events, until: self.last.to_string().into() })
    }
}
