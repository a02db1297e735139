//! Stream of a node: its position, and entries on their way.

use std::collections::VecDeque;
use std::ops::Range;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytestring::ByteString;
use roomcast_cluster_task::clock;
use roomcast_node_adapter::{
    AppendQueue, AppendState, Entries, EntryFields, EntryId, LogCommand, LogEvent, StreamEntry, StreamLog,
    StreamReader,
};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::health::STALL;
use super::trimming::Trimming;
use crate::input::Key;
use crate::shared::StreamStats;

/// Stream of a node, shared by its namespaces.
pub(super) struct Stream {
    log: Box<dyn StreamLog>,
    max_len: u64,
    reader: StreamReader,
    /// Entries that were read and not yet handled.
    read: VecDeque<StreamEntry>,
    /// Whether the answer of which they are a part is complete.
    is_read: bool,
    appends: AppendQueue<Key>,
    is_connected: bool,
    is_reading: bool,
    /// Time since which the stream cannot be appended to, or not be read.
    away_since: Option<Instant>,
    /// Whether own events are delivered without the stream.
    is_bypassed: bool,
    last_token: u64,
    /// Whether the stream is empty, and needs an entry to which clients can refer.
    needs_begin: bool,
    /// Pending inspection.
    inspection: Option<u64>,
    /// Questions for the end of the stream, for the pending inspection and the next one.
    ends: [Vec<EndReply>; 2],
    inspects_at: Instant,
    trimming: Trimming,
    /// Refused entries: mark behind the entry, and reason.
    refusals: VecDeque<(u64, ByteString)>,
    stats: StreamStats,
}

/// Answer to a question for the end of the stream; `None` if it is not known.
type EndReply = oneshot::Sender<Option<EntryId>>;

/// Event of a stream for the driver.
#[derive(Debug)]
pub(super) enum StreamEvent {
    /// Entry in the order of the stream.
    Entry(StreamEntry),
    /// Entries before the next one were, or may have been, lost.
    Missed,
    /// An entry of a namespace was not stored.
    Refused(Key, u64),
    /// Entries of a range.
    Range { token: u64, entries: Entries, is_end: bool },
    /// A range was not read.
    RangeFailed { token: u64 },
}

impl Stream {
    pub(super) fn new(log: Box<dyn StreamLog>, max_len: u64, now: Instant) -> Self {
        Self {
            log,
            max_len,
            reader: StreamReader::new(),
            read: VecDeque::new(),
            is_read: false,
            appends: AppendQueue::new(),
            is_connected: false,
            is_reading: false,
            away_since: Some(now),
            is_bypassed: false,
            last_token: 0,
            needs_begin: false,
            inspection: None,
            ends: [Vec::new(), Vec::new()],
            inspects_at: now,
            trimming: Trimming::default(),
            refusals: VecDeque::new(),
            stats: StreamStats::default(),
        }
    }

    /// Returns the next event.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<StreamEvent> {
        loop {
            if let Some(entry) = self.read.pop_front() {
                return Poll::Ready(StreamEvent::Entry(entry));
            }
            self.note_position();
            let event = std::task::ready!(self.log.poll_event(cx));
            if let Some(event) = self.handle(event, now) {
                return Poll::Ready(event);
            }
        }
    }

    /// Continues after all entries of an answer were handled.
    fn note_position(&mut self) {
        if std::mem::take(&mut self.is_read) {
            self.log.read(self.reader.next_request());
        }
        if self.reader.is_located()
            && let Some(position) = self.reader.position()
        {
            self.appends.handle_position(position);
        }
    }

    fn handle(&mut self, event: LogEvent, now: Instant) -> Option<StreamEvent> {
        match event {
            LogEvent::Connected => {
                self.is_connected = true;
                self.appends.handle_connect();
                // At once: it shows what happened to the stream meanwhile.
                self.inspects_at = now;
            }
            LogEvent::Disconnected => {
                self.is_connected = false;
                self.away_since.get_or_insert(now);
                self.stats.disconnects += 1;
                self.appends.handle_disconnect();
                self.answer_ends(None);
            }
            LogEvent::ReaderConnected => {
                self.is_reading = true;
                self.log.read(self.reader.next_request());
            }
            LogEvent::ReaderDisconnected => {
                self.is_reading = false;
                self.away_since.get_or_insert(now);
                self.reader.handle_reconnect();
                // The rest of the answer is read again by the next connection.
                self.is_read = false;
            }
            LogEvent::Located { last } => {
                self.needs_begin = last.is_none();
                let has_gap = self.reader.handle_last(last);
                self.log.read(self.reader.next_request());
                self.note_return(now);
                return has_gap.then(|| self.miss("it was replaced, or has lost its last entries"));
            }
            LogEvent::Checked { exists } => {
                self.reader.handle_check(exists);
                self.log.read(self.reader.next_request());
                self.note_return(now);
            }
            LogEvent::Read { has_anchor, entries, is_end } => {
                let Entries { entries, last, unreadable, oversized, .. } = entries;
                let has_gap = self.reader.handle_read(has_anchor, last);
                self.stats.unreadable += unreadable + oversized;
                self.read = entries.into();
                self.is_read = is_end;
                if has_gap {
                    return Some(self.miss("it was trimmed before they were read"));
                }
                return (oversized > 0).then(|| self.miss("they exceed the limit of a message"));
            }
            LogEvent::Appended { token: BEGIN_TOKEN, .. } => {}
            LogEvent::Appended { token, result } => {
                let (key, number, reason) = self.appends.handle_result(token, result)?;
                // The text is mostly the same.
                let known = self.refusals.back().map(|(_, known)| known.clone());
                let reason = known.filter(|known| *known == reason).unwrap_or(reason);
                self.refusals.push_back((self.appends.settled(), reason));
                return Some(StreamEvent::Refused(key, number));
            }
            LogEvent::Inspected { token, first, last, len } => self.inspected(token, first, last, len, now),
            LogEvent::Failed { token } if self.inspection == Some(token) => {
                self.inspection = None;
                self.inspects_at = clock::after(now, INSPECTION_RETRY);
                self.answer_ends(None);
            }
            LogEvent::Failed { token } => return Some(StreamEvent::RangeFailed { token }),
            LogEvent::Range { token, entries, is_end } => {
                return Some(StreamEvent::Range { token, entries, is_end });
            }
        }
        self.note_return(now);
        None
    }

    fn note_return(&mut self, now: Instant) {
        if self.is_connected && self.is_reading && self.reader.is_located() {
            let since = self.away_since.take();
            if let Some(since) = since
                && std::mem::take(&mut self.is_bypassed)
            {
                let outage_ms = u64::try_from((now - since).as_millis()).unwrap_or(u64::MAX);
                let waiting = self.appends.len();
                info!(outage_ms, waiting, "stream of the cluster is back; waiting entries follow");
            }
        }
    }

    fn miss(&mut self, reason: &str) -> StreamEvent {
        self.stats.gaps += 1;
        warn!(
            reason,
            "entries of the stream were lost; clients that missed them cannot be recovered, and begin anew"
        );
        StreamEvent::Missed
    }

    fn inspected(
        &mut self,
        token: u64,
        first: Option<EntryId>,
        last: Option<EntryId>,
        len: u64,
        now: Instant,
    ) {
        if self.inspection == Some(token) {
            self.inspection = None;
            self.inspects_at = clock::after(now, INSPECTION_INTERVAL);
        }
        self.appends.handle_end(last);
        match last {
            Some(_) => self.answer_ends(last),
            // Answered by the next inspection.
            None => {
                self.needs_begin = true;
                let waiting = std::mem::take(&mut self.ends[0]);
                self.ends[1].extend(waiting);
            }
        }
        self.stats.entries = len;
        let times = first.zip(last).map(|(first, last)| (first.milliseconds(), last.milliseconds()));
        self.stats.span =
            times.map_or(Duration::ZERO, |(first, last)| Duration::from_millis(last.saturating_sub(first)));
        if self.trimming.observe(first, last, len, self.max_len) {
            let (limit, own_limit) = (self.trimming.smallest().unwrap_or_default(), self.max_len);
            self.stats.smallest_max_len = limit;
            warn!(
                limit,
                own_limit,
                span_ms = u64::try_from(self.stats.span.as_millis()).unwrap_or(u64::MAX),
                "another server or emitter trims the stream to fewer entries; clients that return later than the \
                 span cannot be recovered: raise its option `maxLen`"
            );
        }
    }

    /// Passes commands to the engine; returns whether there are more that it may accept.
    ///
    /// `was_released` returns whether an entry took effect on this node already.
    pub(super) fn transmit(
        &mut self,
        cx: &mut Context<'_>,
        mut budget: usize,
        now: Instant,
        mut was_released: impl FnMut(Key, u64) -> bool,
    ) -> bool {
        loop {
            let needs_end = self.appends.state() == AppendState::Unknown && self.inspection.is_none();
            let is_asked = !self.ends[1].is_empty();
            let inspects = self.inspection.is_none() && (self.inspects_at <= now || needs_end || is_asked);
            // An entry that is stored before the position is known would not be read.
            let appends = self.reader.position().is_some() && self.appends.has_next();
            let begins = self.needs_begin && self.is_connected;
            if !self.is_connected || !(inspects || appends || begins) || self.log.poll_ready(cx).is_pending()
            {
                return false;
            }
            if budget == 0 {
                return true;
            }
            budget -= 1;
            if std::mem::take(&mut self.needs_begin) {
                // Other servers skip an entry without a namespace.
                let fields = vec![("roomcast", "begin".into())];
                self.log.send(LogCommand::Append { fields, max_len: self.max_len, token: BEGIN_TOKEN });
            } else if inspects {
                let token = self.next_token();
                self.inspection = Some(token);
                self.ends.swap(0, 1);
                self.log.send(LogCommand::Inspect { token });
            } else if let Some((key, number)) = self.appends.peek()
                && let Some((token, fields)) = self.appends.take_next()
            {
                self.stats.delivered_before += u64::from(was_released(key, number));
                self.stats.appended += 1;
                self.log.send(LogCommand::Append { fields, max_len: self.max_len, token });
            }
        }
    }

    /// Returns a number for a range or an inspection. Appends have numbers of their queue.
    fn next_token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }

    /// Asks for the id of the last entry.
    pub(super) fn ask_end(&mut self, reply: EndReply) {
        if self.is_connected {
            self.ends[1].push(reply);
        } else {
            let _ = reply.send(None);
        }
    }

    fn answer_ends(&mut self, last: Option<EntryId>) {
        self.ends[0].drain(..).for_each(|reply| _ = reply.send(last));
        if last.is_none() {
            self.ends[1].drain(..).for_each(|reply| _ = reply.send(None));
        }
    }

    /// Asks for a range of entries; returns its number, or `None` while the stream is away.
    pub(super) fn ask_range(&mut self, from: EntryId, count: usize) -> Option<u64> {
        if !self.is_connected {
            return None;
        }
        let token = self.next_token();
        self.log.send(LogCommand::Range { from, count, token });
        Some(token)
    }

    pub(super) fn push(&mut self, key: Key, number: u64, fields: EntryFields) {
        self.appends.push(key, number, fields);
    }

    /// Notes that an own entry came back.
    pub(super) fn note_own(&mut self, key: Key, number: u64) {
        self.appends.handle_entry(key, number);
    }

    pub(super) fn stats(&self) -> StreamStats {
        let (found, repeated) = self.appends.resolved();
        let (refused, waiting) = (self.appends.refused(), self.appends.len());
        StreamStats { refused, found, repeated, waiting, ..self.stats.clone() }
    }

    /// Returns the reason of the first refusal among the entries between two marks.
    pub(super) fn refusal(&self, marks: Range<u64>) -> Option<ByteString> {
        let is_it = |(behind, _): &&(u64, ByteString)| *behind > marks.start && *behind <= marks.end;
        self.refusals.iter().find(is_it).map(|(_, reason)| reason.clone())
    }

    /// Forgets the refusals of entries before a mark.
    pub(super) fn forget_refusals(&mut self, mark: u64) {
        while self.refusals.front().is_some_and(|(behind, _)| *behind <= mark) {
            self.refusals.pop_front();
        }
    }

    pub(super) fn appends(&self) -> &AppendQueue<Key> {
        &self.appends
    }

    /// Returns the last id that was read and handled; `None` before the first one is known, or while it is not.
    pub(super) fn position(&self) -> Option<EntryId> {
        self.reader.position().filter(|_| self.read.is_empty())
    }

    /// Returns whether own events must not wait for the stream; `true` once at the begin of an outage.
    pub(super) fn begins_outage(&mut self, now: Instant) -> bool {
        let is_away = self.away_since.is_some_and(|since| since + STALL <= now);
        if !is_away || self.is_bypassed {
            return false;
        }
        self.is_bypassed = true;
        warn!(
            "stream of the cluster cannot be reached; events reach the clients of this server at once and others \
             later; clients that return meanwhile begin anew"
        );
        true
    }

    pub(super) fn is_bypassed(&self) -> bool {
        self.is_bypassed
    }

    pub(super) fn away_since(&self) -> Option<Instant> {
        self.away_since
    }

    /// Returns the time of the next work that no event announces. Due work waits for the engine, which wakes the task.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let outage = self.away_since.filter(|_| !self.is_bypassed).map(|since| since + STALL);
        let inspection = (self.is_connected && self.inspection.is_none()).then_some(self.inspects_at);
        [outage, inspection].into_iter().flatten().filter(|at| *at > now).min()
    }
}

/// Time between inspections of the stream.
const INSPECTION_INTERVAL: Duration = Duration::from_secs(10);
const BEGIN_TOKEN: u64 = u64::MAX;
const INSPECTION_RETRY: Duration = Duration::from_secs(1);
