//! Log of events that all nodes of a cluster share.

use std::fmt;

use async_trait::async_trait;
use bytestring::ByteString;

use crate::{Event, Room};

/// Log of the events of a namespace that all nodes of a cluster share, such as a stream in a database.
///
/// An event's [`offset`](Event::offset) is the id of its entry. The log is limited: its oldest entries are trimmed.
///
/// # Position
///
/// Each node passes the entries of the log to its [`ClusterHost`](crate::ClusterHost), in order. A namespace passes
/// each event to its host, also those to rooms without members on this node. The [position](Self::position) is the
/// entry up to which this has been done. It is advanced after the calls of the host have returned.
///
/// A recovery reads [missed](Self::missed) events and [waits](Self::reached) until the position has reached the end of
/// the read entries. It has not read the events that the host gets after that.
#[async_trait]
pub trait EventLog: Send + Sync + fmt::Debug + 'static {
    /// Returns the offset up to which all entries were passed to this node's host.
    ///
    /// Entries from before the node started count as passed. `None` if it is not known yet where the node begins.
    fn position(&self) -> Option<ByteString>;

    /// Waits until the position has reached an offset.
    ///
    /// # Errors
    /// Returns an error if the node cannot read the log at present, or if the offset is invalid. Callers limit the
    /// time.
    async fn reached(&self, offset: &str) -> Result<(), EventLogError>;

    /// Waits until the log has all events that this node's host got without it, as during an outage. Default: returns
    /// at once, for logs without which no event is delivered.
    ///
    /// # Errors
    /// Returns an error if the log does not have them in a short time.
    async fn settled(&self) -> Result<(), EventLogError> {
        Ok(())
    }

    /// Returns whether an offset is that of an event that was delivered while the log did not have all events that
    /// this node's host got. Default: `false`.
    ///
    /// The text of the offset differs from that of the same event in the log.
    fn is_provisional(&self, _offset: &str) -> bool {
        false
    }

    /// Returns the offset of the latest entry, in the log itself. If the log is empty, an offset before all later
    /// entries.
    ///
    /// # Errors
    /// Returns an error if the log does not respond.
    async fn latest(&self) -> Result<ByteString, EventLogError>;

    /// Returns the events after an offset that members of rooms have missed, oldest first, with their offsets.
    ///
    /// An event is missed if it is for all members or for one of the rooms, and excludes none of them. Volatile events
    /// are left out where the log knows them.
    ///
    /// # Errors
    /// Returns an error if not all of these events can be returned.
    async fn missed(&self, query: &LogQuery<'_>) -> Result<MissedEvents, EventLogError>;
}

/// Question for missed events.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::exhaustive_structs, reason = "servers build it, clusters take it apart")]
pub struct LogQuery<'a> {
    /// Offset of the last event that was received.
    pub after: &'a str,
    /// Rooms of the member, the room of its id included.
    pub rooms: &'a [Room],
    /// Maximum bytes of the events: names, arguments and offsets.
    pub max_bytes: usize,
}

/// Events that a member has missed.
#[derive(Debug, Clone)]
#[allow(clippy::exhaustive_structs, reason = "clusters build it, servers take it apart")]
pub struct MissedEvents {
    /// Events, oldest first.
    pub events: Vec<Event>,
    /// Offset up to which the log was read: its latest entry when it was read, or a later one.
    pub until: ByteString,
}

/// Reason why a shared log cannot return events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventLogError {
    /// The offset is not one of this log.
    #[error("offset is not from this log")]
    InvalidOffset,
    /// Entries after the offset were trimmed, or the log was lost and starts again.
    #[error("entries after the offset were trimmed from the log")]
    Trimmed,
    /// The events exceed the limit of the question.
    #[error("missed events exceed the limit")]
    TooLarge,
    /// The log does not respond, or responded with an error.
    #[error("log does not respond: {0}")]
    Unavailable(String),
}
