//! Recovery of a session that any node stored.

use bytestring::ByteString;
use roomcast_core::{Event, Namespace, Room};

use crate::{
    ClusterBody, CodecLimits, EntryId, Recipients, StoredSession, StreamEntry, decode_session, session_key,
};

/// Next command of a recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestoreStep {
    /// Take the session and check the offset, and call [`SessionRestore::handle_session`].
    ///
    /// `MULTI`, `GET key`, `DEL key`, `EXEC`, and `XRANGE stream offset offset`. The session is deleted even if the
    /// recovery fails, so it is recovered at most once.
    Take {
        /// Key of the session.
        key: ByteString,
        /// Last offset of the client.
        offset: EntryId,
    },
    /// Read the entries from an id on, `XRANGE stream from + COUNT count`, and call
    /// [`SessionRestore::handle_entries`].
    Range {
        /// First id.
        from: EntryId,
        /// Maximum number of entries.
        count: usize,
    },
}

/// Reason why a client has to begin a new session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The offset does not have the form of an entry id.
    #[error("offset is not valid")]
    Offset,
    /// There is no session with this secret: it expired, was recovered, or never ended in order.
    #[error("no stored session for this recovery token")]
    Session,
    /// The entry of the offset was trimmed.
    #[error("offset is no longer in the stream")]
    Trimmed,
    /// The stored session cannot be read.
    #[error("stored session is not readable")]
    Unreadable,
    /// The missed events exceed a limit.
    #[error("missed events exceed the limit of {0} bytes")]
    TooLarge(usize),
    /// The stream grew faster than it was read.
    #[error("stream was not read to its end in {0} steps")]
    TooLong(usize),
}

/// Session with the events that its client missed.
#[derive(Debug, Clone)]
#[allow(clippy::exhaustive_structs, reason = "drivers take it apart")]
pub struct Restored {
    /// Session.
    pub session: StoredSession,
    /// Missed events with their offsets, in order.
    pub missed: Vec<Event>,
    /// Last entry that was considered. The client must receive later ones from the stream.
    pub until: EntryId,
}

/// Recovery of one session, as `restoreSession` of `@socket.io/redis-streams-adapter` 0.3 does it.
///
/// Sessions that Node stored are recovered here, and the reverse. Broadcasts to all, or to a room of the session, that
/// exclude none of its rooms are replayed, also volatile ones, as on Node. The rooms are those at the disconnect.
#[derive(Debug)]
pub struct SessionRestore {
    namespace: Namespace,
    limits: CodecLimits,
    key: ByteString,
    offset: EntryId,
    session: Option<StoredSession>,
    missed: Vec<Event>,
    /// Bytes of the missed events.
    bytes: usize,
    budget: usize,
    steps: usize,
}

/// Entries of one step.
const COUNT: usize = 1000;
/// Maximum number of steps. Node reads without a count, 100 times.
const MAX_STEPS: usize = 1000;

impl SessionRestore {
    /// Begins a recovery with what the client presents; `budget` is the number of bytes that its outbox can take.
    ///
    /// `prefix` is Node's option `sessionKeyPrefix`.
    ///
    /// # Errors
    /// Returns an error if the offset does not have the form of an entry id.
    pub fn new(
        prefix: &str,
        namespace: Namespace,
        secret: &str,
        offset: &str,
        budget: usize,
        limits: CodecLimits,
    ) -> Result<Self, RestoreError> {
        Ok(Self {
            namespace,
            limits,
            key: session_key(prefix, secret),
            offset: offset.parse().map_err(|_| RestoreError::Offset)?,
            session: None,
            missed: Vec::new(),
            bytes: 0,
            budget,
            steps: 0,
        })
    }

    /// Returns the command to send.
    #[must_use]
    pub fn next_step(&self) -> RestoreStep {
        match self.session {
            None => RestoreStep::Take { key: self.key.clone(), offset: self.offset },
            Some(_) => RestoreStep::Range { from: self.offset.next(), count: COUNT },
        }
    }

    /// Handles the stored session, if there is one, and whether the entry of the offset exists.
    ///
    /// # Errors
    /// Returns an error if the client has to begin a new session.
    pub fn handle_session(&mut self, stored: Option<&str>, has_offset: bool) -> Result<(), RestoreError> {
        let stored = stored.ok_or(RestoreError::Session)?;
        if !has_offset {
            return Err(RestoreError::Trimmed);
        }
        let session = decode_session(stored, &self.limits).map_err(|_| RestoreError::Unreadable)?;
        self.session = Some(session);
        Ok(())
    }

    /// Handles the entries of a step, the id of the last one read, and whether there are fewer than the count.
    ///
    /// Returns the session once the end of the stream is reached. Entries that cannot be read are skipped, as on
    /// arrival.
    ///
    /// # Errors
    /// Returns an error if the client has to begin a new session.
    pub fn handle_entries(
        &mut self,
        entries: &[StreamEntry],
        last: Option<EntryId>,
        is_end: bool,
    ) -> Result<Option<Restored>, RestoreError> {
        let session = self.session.as_ref().ok_or(RestoreError::Session)?;
        for entry in entries.iter().filter(|entry| entry.is_broadcast()) {
            let Ok(Some(message)) = entry.message(&self.namespace, &self.limits) else { continue };
            let ClusterBody::Broadcast(recipients, flags, mut event) = message.body else { continue };
            if message.id.is_empty() && is_for(&recipients, &session.rooms) {
                super::set_options(&mut event, &flags);
                event.offset = Some(entry.id.to_string().into());
                self.bytes += event.name.len() + event.args.byte_len();
                if self.bytes > self.budget {
                    return Err(RestoreError::TooLarge(self.budget));
                }
                self.missed.push(event);
            }
        }
        self.offset = last.unwrap_or(self.offset);
        self.steps += 1;
        if !is_end {
            return if self.steps < MAX_STEPS { Ok(None) } else { Err(RestoreError::TooLong(MAX_STEPS)) };
        }
        let missed = std::mem::take(&mut self.missed);
        let session = self.session.take().ok_or(RestoreError::Session)?;
        Ok(Some(Restored { session, missed, until: self.offset }))
    }
}

/// Returns whether a broadcast is for a socket in these rooms.
pub(super) fn is_for(recipients: &Recipients, rooms: &[Room]) -> bool {
    let is_in = |names: &[Room]| rooms.iter().any(|room| names.contains(room));
    (recipients.rooms.is_empty() || is_in(&recipients.rooms)) && !is_in(&recipients.except)
}
