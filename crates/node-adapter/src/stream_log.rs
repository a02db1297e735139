//! Stream engine of a cluster.

use std::fmt;
use std::task::{Context, Poll};

use bytestring::ByteString;

use crate::{EntryFields, EntryId, ReadRequest, StreamEntry};

/// Connections to a server with one stream: one that appends and asks, and one that reads.
///
/// The driver polls it from one task. [`poll_event`](Self::poll_event) has to be called for the engine to work, and
/// each method that returns [`Poll::Pending`] registers the waker.
pub trait StreamLog: Send + fmt::Debug {
    /// Returns the next event.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LogEvent>;

    /// Completes when the engine takes a command. Pending while the appending connection is away, or its buffer is
    /// full.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Takes a command of the appending connection; [`poll_ready`](Self::poll_ready) was ready since the last one.
    ///
    /// Commands take effect in order. Each is answered, those in progress at the end of a connection by
    /// [`AppendResult::Lost`] and [`LogEvent::Failed`] before [`LogEvent::Disconnected`].
    fn send(&mut self, command: LogCommand);

    /// Reads the stream; the request before was answered, or ended by [`LogEvent::ReaderDisconnected`].
    ///
    /// Has no effect before [`LogEvent::ReaderConnected`].
    fn read(&mut self, request: ReadRequest);
}

/// Command of the appending connection of a [`StreamLog`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "engines handle each command")]
pub enum LogCommand {
    /// Append an entry; answered by [`LogEvent::Appended`].
    Append {
        /// Names and values of the fields.
        fields: EntryFields,
        /// Approximate number of entries that are kept.
        max_len: u64,
        /// Number for the answer.
        token: u64,
    },
    /// Read entries; answered by one or more [`LogEvent::Range`].
    Range {
        /// First id.
        from: EntryId,
        /// Maximum number of entries.
        count: usize,
        /// Number for the answer.
        token: u64,
    },
    /// Ask for the position and length of the stream; answered by [`LogEvent::Inspected`].
    Inspect {
        /// Number for the answer.
        token: u64,
    },
}

/// Event of a [`StreamLog`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "drivers handle each event")]
pub enum LogEvent {
    /// The appending connection is established. Commands of the one before have no effect any more.
    Connected,
    /// The appending connection was lost.
    Disconnected,
    /// The reading connection is established.
    ReaderConnected,
    /// The reading connection was lost.
    ReaderDisconnected,
    /// An append has ended.
    Appended {
        /// Number of the command.
        token: u64,
        /// Result.
        result: AppendResult,
    },
    /// Answer to [`ReadRequest::Locate`].
    Located {
        /// Id of the last entry; `None` if the stream is empty.
        last: Option<EntryId>,
    },
    /// Answer to [`ReadRequest::Check`].
    Checked {
        /// Whether the entry exists.
        exists: bool,
    },
    /// Entries of [`ReadRequest::Read`], in order.
    Read {
        /// Whether the anchor exists, in the first part of an answer; `true` in the others, and without an anchor.
        has_anchor: bool,
        /// Entries.
        entries: Entries,
        /// Whether the answer is complete.
        is_end: bool,
    },
    /// Entries of [`LogCommand::Range`], in order.
    Range {
        /// Number of the command.
        token: u64,
        /// Entries.
        entries: Entries,
        /// Whether the answer is complete.
        is_end: bool,
    },
    /// Answer to [`LogCommand::Inspect`].
    Inspected {
        /// Number of the command.
        token: u64,
        /// Id of the first entry; `None` if the stream is empty.
        first: Option<EntryId>,
        /// Id of the last entry.
        last: Option<EntryId>,
        /// Number of entries.
        len: u64,
    },
    /// A range or inspection was refused by the server, or lost with its connection.
    Failed {
        /// Number of the command.
        token: u64,
    },
}

/// Part of an answer with entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "engines build it")]
pub struct Entries {
    /// Entries of the adapter.
    pub entries: Vec<StreamEntry>,
    /// Id of the first entry that was read, also one of those below; `None` if there is none.
    pub first: Option<EntryId>,
    /// Id of the last entry that was read, also one of those below; `None` if there is none.
    pub last: Option<EntryId>,
    /// Number of entries read, those below included.
    pub count: usize,
    /// Entries that are malformed.
    pub unreadable: u64,
    /// Entries dropped because they exceed the engine's limit.
    pub oversized: u64,
}

/// Result of [`LogCommand::Append`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "drivers handle each result")]
pub enum AppendResult {
    /// Stored.
    Stored(EntryId),
    /// The server refused it, with its reason.
    Refused(ByteString),
    /// The connection was lost before the answer.
    Lost {
        /// Whether it was sent, in part or in whole, so that it may be stored.
        was_sent: bool,
    },
}
