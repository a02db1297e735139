//! Position of a node in the stream.

use std::collections::VecDeque;

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
    /// Ask for one entry, `XRANGE stream id id`, and call [`StreamReader::handle_check`].
    Check {
        /// Entry that was read before.
        id: EntryId,
    },
}

/// Reader of one stream, for all namespaces of a node: its position, and whether entries were lost.
///
/// A stream whose last id is smaller than before was either replaced, and is read from its start, or it lost its last
/// entries, as after a failover or a restart with `appendfsync everysec`. Then it is read from its end on, since the
/// other entries were read before. Entries that were read earlier and still exist tell the two apart.
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
    /// Entries that were seen, at least a second of the server's clock apart, the latest last.
    seen: VecDeque<EntryId>,
    /// Entry that decides whether a stream with a smaller last id, the second one, is the same as before.
    check: Option<(EntryId, EntryId)>,
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
        if let Some((id, _)) = self.check {
            return ReadRequest::Check { id };
        }
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

    /// Returns whether the position belongs to the stream on the current connection.
    #[must_use]
    pub fn is_located(&self) -> bool {
        self.is_located && self.check.is_none()
    }

    /// Handles the id of the last entry, `None` if the stream is empty; returns whether there is a gap.
    pub fn handle_last(&mut self, last: Option<EntryId>) -> bool {
        self.is_located = true;
        match (self.after, last) {
            (None, last) => {
                self.after = Some(last.unwrap_or(EntryId::ZERO));
                self.is_anchored = last.is_some();
                last.into_iter().for_each(|last| self.note_seen(last));
                false
            }
            (Some(after), last) if last.is_none_or(|last| last < after) => {
                let had_entries = self.is_anchored;
                let known = self.seen.iter().rev().find(|seen| last.is_some_and(|last| **seen <= last));
                self.check = known.copied().zip(last);
                if self.check.is_none() {
                    self.begin_anew();
                }
                had_entries
            }
            // The next read checks the anchor.
            _ => false,
        }
    }

    /// Handles the answer to [`ReadRequest::Check`]: whether the entry exists.
    pub fn handle_check(&mut self, exists: bool) {
        let Some((_, last)) = self.check.take() else { return };
        if exists {
            (self.after, self.is_anchored) = (Some(last), true);
            self.seen.retain(|seen| *seen <= last);
        } else {
            self.begin_anew();
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
                self.note_seen(last);
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
        self.check = None;
    }

    /// Everything in the stream, if anything, was added after the stream was replaced.
    fn begin_anew(&mut self) {
        self.after = Some(EntryId::ZERO);
        self.is_anchored = false;
        self.seen.clear();
    }

    fn note_seen(&mut self, id: EntryId) {
        if self.seen.back().is_some_and(|seen| id.milliseconds() < seen.milliseconds() + SEEN_INTERVAL) {
            return;
        }
        if self.seen.len() == SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(id);
    }
}

/// Entries that are remembered. Redis loses at most the last two seconds when it restarts; failovers may lose more.
const SEEN: usize = 64;
/// Milliseconds between them.
const SEEN_INTERVAL: u64 = 1000;
