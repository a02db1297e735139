//! Position of a node in the stream.

use crate::EntryId;

/// Next command of a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadRequest {
    /// Ask for the last entry, `XREVRANGE stream + - COUNT 1`, and call [`StreamReader::handle_last`].
    Locate,
    /// Read the entries after an id, and call [`StreamReader::handle_read`].
    ///
    /// Two commands in one write: `XRANGE stream anchor anchor`, if there is an anchor, and
    /// `XREAD COUNT … BLOCK … STREAMS stream after`. Entries are trimmed from the oldest on, so nothing after an anchor
    /// that exists was trimmed unread. Redis processes both commands together: XREAD either returns at once, or waits
    /// with the anchor as the last entry, and then returns after the first command that adds one. Only a transaction
    /// that adds entries and trims them again would not be noticed; adapters and emitters have none.
    Read {
        /// Entry that was read before, and has to exist.
        anchor: Option<EntryId>,
        /// Last id that was read.
        after: EntryId,
    },
}

/// Reader of one stream, for all namespaces of a node: its position, and whether entries were lost.
///
/// Node 0.3 begins with the id `$` and goes on from the last id that it received. It notices neither that entries were
/// trimmed before it read them, nor that the stream was replaced by one with smaller ids, as after a restart of Redis
/// without persistence and a step of its clock: then it receives nothing until the clock has caught up. This reader
/// does.
///
/// The driver sends the command of [`next_request`](Self::next_request), calls the method that it names, and calls
/// [`handle_reconnect`](Self::handle_reconnect) when the connection was lost. A method that returns `true` reports a
/// gap: entries were or may have been lost, and the driver tells all namespaces' hosts, as with
/// [`ClusterHost::missed`](roomcast_core::ClusterHost::missed).
///
/// # Examples
///
/// ```
/// use roomcast_node_adapter::{EntryId, ReadRequest, StreamReader};
///
/// let (first, second) = (EntryId::new(5, 0), EntryId::new(6, 0));
/// let mut reader = StreamReader::new();
/// assert_eq!(reader.next_request(), ReadRequest::Locate);
/// assert!(!reader.handle_last(Some(first)));
/// assert_eq!(reader.next_request(), ReadRequest::Read { anchor: Some(first), after: first });
/// assert!(!reader.handle_read(true, Some(second)));
/// assert_eq!(reader.next_request(), ReadRequest::Read { anchor: Some(second), after: second });
/// // The anchor is gone: the stream was trimmed or deleted.
/// assert!(reader.handle_read(false, None));
/// assert_eq!(reader.next_request(), ReadRequest::Locate);
/// ```
#[derive(Debug, Clone, Default)]
pub struct StreamReader {
    /// Last id that was read, or that existed at the start.
    after: Option<EntryId>,
    /// Whether an entry with this id was seen.
    is_anchored: bool,
    is_located: bool,
}

impl StreamReader {
    /// Creates a reader that begins after the last entry of the stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the command to send.
    #[must_use]
    pub fn next_request(&self) -> ReadRequest {
        match self.after {
            Some(after) if self.is_located => {
                ReadRequest::Read { anchor: self.is_anchored.then_some(after), after }
            }
            _ => ReadRequest::Locate,
        }
    }

    /// Returns the last id that was read, once the reader has a position.
    #[must_use]
    pub fn position(&self) -> Option<EntryId> {
        self.after
    }

    /// Handles the id of the last entry, `None` if the stream is empty; returns whether there is a gap.
    pub fn handle_last(&mut self, last: Option<EntryId>) -> bool {
        self.is_located = true;
        match (self.after, last) {
            (None, last) => {
                self.after = Some(last.unwrap_or(EntryId::ZERO));
                self.is_anchored = last.is_some();
                false
            }
            // Everything in the stream, if anything, was added after the stream was replaced.
            (Some(after), last) if last.is_none_or(|last| last < after) => {
                let had_entries = self.is_anchored;
                self.after = Some(EntryId::ZERO);
                self.is_anchored = false;
                had_entries
            }
            // The next read checks the anchor.
            _ => false,
        }
    }

    /// Handles the answer to [`ReadRequest::Read`]: whether the anchor exists, and the id of the last entry that was
    /// read, if any. Returns whether there is a gap before these entries.
    ///
    /// `has_anchor` is ignored if the request had none.
    pub fn handle_read(&mut self, has_anchor: bool, last: Option<EntryId>) -> bool {
        let has_gap = self.is_anchored && !has_anchor;
        match last {
            Some(last) => {
                self.after = Some(last);
                self.is_anchored = true;
            }
            // Without its anchor and without new entries, the stream may have smaller ids now.
            None if has_gap => {
                self.is_anchored = false;
                self.is_located = false;
            }
            None => {}
        }
        has_gap
    }

    /// Handles the loss of the connection: the position is compared with the stream again.
    pub fn handle_reconnect(&mut self) {
        self.is_located = false;
    }
}
