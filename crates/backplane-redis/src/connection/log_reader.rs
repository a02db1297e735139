//! Reading connection of a stream.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use roomcast_node_adapter::{LogEvent, ReadRequest};
use tokio::time::{Sleep, sleep};

use super::LinkChange;
use super::entries::{EntryParser, Form, Part};
use super::link::{Link, LinkEvent, SendQueue};
use super::log_entries::Collected;
use super::resp::{self, InvalidReply};
use crate::config::{Address, RedisConfig};
use crate::metrics::{Counters, add};

/// Reading connection of a stream. A pending request ends with the connection.
#[derive(Debug)]
pub(crate) struct LogReader {
    stream: Arc<str>,
    link: Link,
    queue: SendQueue,
    counters: Counters,
    /// Milliseconds for which a request waits for an entry. Its end also shows that the server responds.
    block: String,
    parser: EntryParser,
    /// Replies to come.
    expected: VecDeque<Expected>,
    /// Whether the anchor of the current request exists; taken by the first part of the answer.
    has_anchor: bool,
    collected: Collected,
    events: VecDeque<LogEvent>,
    /// Pending request.
    request: Option<ReadRequest>,
    /// Whether the server refused a part of it.
    is_refused: bool,
    /// Time at which a refused request is sent again.
    retry: Option<Pin<Box<Sleep>>>,
    has_logged_refusal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Last,
    Check,
    Anchor,
    Read,
    Ping,
}

impl LogReader {
    pub(crate) fn new(stream: Arc<str>, config: Arc<RedisConfig>, counters: Counters) -> Self {
        Self {
            stream,
            block: config.ping_interval.as_millis().max(1).to_string(),
            parser: EntryParser::new(config.max_message),
            link: Link::new("read", config, counters.clone()),
            queue: SendQueue::default(),
            counters,
            expected: VecDeque::new(),
            has_anchor: true,
            collected: Collected::default(),
            events: VecDeque::new(),
            request: None,
            is_refused: false,
            retry: None,
            has_logged_refusal: false,
        }
    }

    pub(crate) fn address(&self) -> Option<&Address> {
        self.link.address()
    }

    pub(crate) fn next_event(&mut self) -> Option<LogEvent> {
        self.events.pop_front()
    }

    /// Sends a request; has no effect while the connection is away.
    pub(crate) fn request(&mut self, request: ReadRequest) {
        if !self.link.is_up() {
            return;
        }
        (self.request, self.is_refused) = (Some(request), false);
        let stream = self.stream.clone();
        let stream = stream.as_bytes();
        match request {
            ReadRequest::Read { anchor, after } => {
                self.has_anchor = true;
                if let Some(anchor) = anchor {
                    let anchor = anchor.to_string();
                    self.command(
                        Expected::Anchor,
                        b"XRANGE",
                        &[stream, anchor.as_bytes(), anchor.as_bytes()],
                    );
                }
                let (block, after) = (self.block.clone(), after.to_string());
                let head = [&b"COUNT"[..], READ_COUNT, b"BLOCK", block.as_bytes(), b"STREAMS"];
                let args: Vec<_> = head.into_iter().chain([stream, after.as_bytes()]).collect();
                self.command(Expected::Read, b"XREAD", &args);
            }
            ReadRequest::Check { id } => {
                let id = id.to_string();
                self.command(Expected::Check, b"XRANGE", &[stream, id.as_bytes(), id.as_bytes()]);
            }
            _ => self.command(Expected::Last, b"XREVRANGE", &[stream, b"+", b"-", b"COUNT", b"1"]),
        }
    }

    fn command(&mut self, expected: Expected, name: &[u8], args: &[&[u8]]) {
        self.expected.push_back(expected);
        self.queue.push(|out| resp::encode(out, name, args.iter().copied()));
    }

    /// Closes the connection, which is then established again.
    pub(crate) fn reconnect(&mut self, reason: &dyn std::fmt::Display) {
        if self.link.is_up() {
            self.link.fail(reason);
            self.lose();
        }
    }

    /// Writes and reads until the connection changes, or there is an event.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<LinkChange>> {
        loop {
            if !self.events.is_empty() {
                return Poll::Ready(None);
            }
            if let Some(retry) = &mut self.retry
                && retry.as_mut().poll(cx).is_ready()
            {
                self.retry = None;
                self.request.take().into_iter().for_each(|request| self.request(request));
            }
            match std::task::ready!(self.link.poll_io(cx, &mut self.queue)) {
                LinkEvent::Up => {
                    self.counters.subscriber_up.store(true, Ordering::Relaxed);
                    self.events.push_back(LogEvent::ReaderConnected);
                    return Poll::Ready(Some(LinkChange::Up));
                }
                LinkEvent::Down => {
                    self.lose();
                    return Poll::Ready(Some(LinkChange::Down));
                }
                LinkEvent::Tick => {
                    if self.link.is_silent() && self.expected.is_empty() {
                        self.command(Expected::Ping, b"PING", &[]);
                    }
                }
                LinkEvent::Data => {
                    if let Err(reason) = self.read_replies() {
                        self.reconnect(&reason);
                        return Poll::Ready(Some(LinkChange::Down));
                    }
                }
            }
        }
    }

    fn read_replies(&mut self) -> Result<(), Broken> {
        while !self.link.input.is_empty() {
            let expected = *self.expected.front().ok_or(InvalidReply)?;
            if !self.read_reply(expected)? {
                break;
            }
            self.expected.pop_front();
        }
        if self.expected.front() == Some(&Expected::Read) && !self.is_refused && !self.collected.is_empty() {
            self.pass_on(false);
        }
        Ok(())
    }

    /// Reads the parts of a reply; returns `false` if it is incomplete.
    fn read_reply(&mut self, expected: Expected) -> Result<bool, Broken> {
        let form = match expected {
            Expected::Ping => {
                let Some((_, len)) = resp::parse(&self.link.input)? else { return Ok(false) };
                self.link.input.advance(len);
                return Ok(true);
            }
            Expected::Read => Form::Read,
            Expected::Last | Expected::Check | Expected::Anchor => Form::Range,
        };
        loop {
            let Some(part) = self.parser.next(&mut self.link.input, form)? else { return Ok(false) };
            match part {
                Part::Entry(id, fields) => self.collected.push(id, fields),
                Part::Oversized(id) => self.collected.push_oversized(id),
                // Another server is the master, or will be; the next attempt finds it.
                Part::Error(reason)
                    if reason.starts_with("UNBLOCKED") || reason.starts_with("MASTERDOWN") =>
                {
                    return Err(Broken::Refused(reason));
                }
                Part::Error(reason) => {
                    if !std::mem::replace(&mut self.has_logged_refusal, true) {
                        tracing::warn!(reason, "redis refuses to read the stream; retrying");
                    }
                    self.is_refused = true;
                    if expected != Expected::Anchor {
                        self.retry = Some(Box::pin(sleep(RETRY)));
                    }
                    return Ok(true);
                }
                Part::End if self.is_refused => {
                    self.collected.take();
                    self.retry = Some(Box::pin(sleep(RETRY)));
                    return Ok(true);
                }
                Part::End => {
                    match expected {
                        Expected::Last => {
                            self.request = None;
                            let last = self.collected.take().last;
                            self.events.push_back(LogEvent::Located { last });
                        }
                        Expected::Check => {
                            self.request = None;
                            let exists = !std::mem::take(&mut self.collected).is_empty();
                            self.events.push_back(LogEvent::Checked { exists });
                        }
                        Expected::Anchor => self.has_anchor = !std::mem::take(&mut self.collected).is_empty(),
                        _ => {
                            (self.request, self.has_logged_refusal) = (None, false);
                            self.pass_on(true);
                        }
                    }
                    return Ok(true);
                }
            }
        }
    }

    fn pass_on(&mut self, is_end: bool) {
        let entries = self.collected.take();
        add(&self.counters.received, entries.count as u64);
        add(&self.counters.oversized, entries.oversized);
        let has_anchor = std::mem::replace(&mut self.has_anchor, true);
        self.events.push_back(LogEvent::Read { has_anchor, entries, is_end });
    }

    fn lose(&mut self) {
        self.counters.subscriber_up.store(false, Ordering::Relaxed);
        self.queue.clear();
        self.expected.clear();
        self.parser.reset();
        self.collected = Collected::default();
        (self.request, self.retry) = (None, None);
        self.events.push_back(LogEvent::ReaderDisconnected);
    }
}

/// Reason to close a connection.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Invalid(#[from] InvalidReply),
    #[error("refused to read the stream: {0}")]
    Refused(String),
}

/// Time after which a refused request is sent again, as by access rules.
const RETRY: Duration = Duration::from_secs(1);

/// Entries in one answer, as on Node.
const READ_COUNT: &[u8] = b"100";
