//! Appending connection of a stream: commands are pipelined, and their replies read as they arrive.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Buf;
use roomcast_node_adapter::{AppendResult, EntryId, LogCommand, LogEvent};

use super::LinkChange;
use super::dial::text_of;
use super::entries::{EntryParser, Form, Part};
use super::link::{Link, LinkEvent, SendQueue};
use super::log_entries::Collected;
use super::resp::{self, InvalidReply, Reply};
use crate::config::{Address, RedisConfig};
use crate::metrics::{Counters, add};

/// Appending connection of a stream.
///
/// All commands without a reply end with the connection, whether they were sent or not: the caller knows which of
/// them to repeat, and in which order.
#[derive(Debug)]
pub(crate) struct LogWriter {
    stream: Arc<str>,
    link: Link,
    queue: SendQueue,
    counters: Counters,
    limit: usize,
    parser: EntryParser,
    /// Replies to come.
    expected: VecDeque<Expected>,
    /// Number of replies that arrived on this connection.
    replied: u64,
    collected: Collected,
    inspected: Inspected,
    events: VecDeque<LogEvent>,
    has_logged_refusal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Append(u64),
    Range(u64),
    /// `XRANGE - + COUNT 1`.
    First(u64),
    /// `XREVRANGE + - COUNT 1`.
    Last(u64),
    /// `XLEN`, the last command of an inspection.
    Len(u64),
    Ping,
}

/// Replies of an inspection so far; `None` after a refusal.
#[derive(Debug, Default)]
struct Inspected {
    is_refused: bool,
    first: Option<EntryId>,
    last: Option<EntryId>,
}

impl LogWriter {
    pub(crate) fn new(stream: Arc<str>, config: Arc<RedisConfig>, counters: Counters) -> Self {
        Self {
            stream,
            limit: config.send_buffer,
            parser: EntryParser::new(config.max_message),
            link: Link::new("append", config, counters.clone()),
            queue: SendQueue::default(),
            counters,
            expected: VecDeque::new(),
            replied: 0,
            collected: Collected::default(),
            inspected: Inspected::default(),
            events: VecDeque::new(),
            has_logged_refusal: false,
        }
    }

    /// Returns whether the connection is established and its queue has room.
    pub(crate) fn is_ready(&self) -> bool {
        self.link.is_up() && self.queue.len() < self.limit
    }

    pub(crate) fn address(&self) -> Option<&Address> {
        self.link.address()
    }

    pub(crate) fn next_event(&mut self) -> Option<LogEvent> {
        self.events.pop_front()
    }

    /// Queues a command.
    pub(crate) fn send(&mut self, command: LogCommand) {
        let stream = self.stream.clone();
        match command {
            LogCommand::Append { fields, max_len, token } => {
                let max_len = max_len.to_string();
                let head = [stream.as_bytes(), b"MAXLEN", b"~", max_len.as_bytes(), b"*"];
                let fields = fields.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
                let args: Vec<&[u8]> = head.into_iter().chain(fields).collect();
                self.command(Expected::Append(token), b"XADD", &args);
            }
            LogCommand::Range { from, count, token } => {
                let (from, count) = (from.to_string(), count.to_string());
                let args = [stream.as_bytes(), from.as_bytes(), b"+", b"COUNT", count.as_bytes()];
                self.command(Expected::Range(token), b"XRANGE", &args);
            }
            LogCommand::Inspect { token } => {
                let stream = stream.as_bytes();
                self.command(Expected::First(token), b"XRANGE", &[stream, b"-", b"+", b"COUNT", b"1"]);
                self.command(Expected::Last(token), b"XREVRANGE", &[stream, b"+", b"-", b"COUNT", b"1"]);
                self.command(Expected::Len(token), b"XLEN", &[stream]);
            }
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

    /// Writes and reads until the connection changes.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkChange> {
        loop {
            match std::task::ready!(self.link.poll_io(cx, &mut self.queue)) {
                LinkEvent::Up => {
                    self.counters.publisher_up.store(true, Ordering::Relaxed);
                    self.has_logged_refusal = false;
                    self.events.push_back(LogEvent::Connected);
                    return Poll::Ready(LinkChange::Up);
                }
                LinkEvent::Down => {
                    self.lose();
                    return Poll::Ready(LinkChange::Down);
                }
                LinkEvent::Tick => {
                    if self.link.is_silent() && self.expected.is_empty() {
                        self.command(Expected::Ping, b"PING", &[]);
                    }
                }
                LinkEvent::Data => {
                    if let Err(reason) = self.read_replies() {
                        self.reconnect(&reason);
                        return Poll::Ready(LinkChange::Down);
                    }
                }
            }
        }
    }

    /// Reads all complete replies.
    fn read_replies(&mut self) -> Result<(), Broken> {
        while !self.link.input.is_empty() {
            // A server may send an error before it closes a connection.
            let expected = *self.expected.front().ok_or(InvalidReply)?;
            let form = match expected {
                Expected::Append(_) | Expected::Len(_) | Expected::Ping => None,
                _ => Some(Form::Range),
            };
            let is_complete = match form {
                None => self.read_value(expected)?,
                Some(form) => self.read_entries(expected, form)?,
            };
            if !is_complete {
                break;
            }
            self.expected.pop_front();
            self.replied += 1;
        }
        // A range is passed on in parts, so that its memory is bounded.
        if let Some(Expected::Range(token)) = self.expected.front()
            && !self.collected.is_empty()
        {
            let (token, entries) = (*token, self.collected.take());
            self.events.push_back(LogEvent::Range { token, entries, is_end: false });
        }
        Ok(())
    }

    /// Reads a reply without entries; returns `false` if it is incomplete.
    fn read_value(&mut self, expected: Expected) -> Result<bool, Broken> {
        let Some((reply, len)) = resp::parse(&self.link.input)? else { return Ok(false) };
        match (expected, &reply) {
            (Expected::Append(token), Reply::Bulk(Some(id))) => {
                let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).ok_or(InvalidReply)?;
                add(&self.counters.confirmed, 1);
                self.events.push_back(LogEvent::Appended { token, result: AppendResult::Stored(id) });
            }
            (Expected::Append(token), Reply::Error(text)) => {
                // A former master; the next attempt finds the new one.
                if text.starts_with(b"READONLY") {
                    return Err(Broken::NotMaster);
                }
                let reason = text_of(text);
                add(&self.counters.refused, 1);
                if !std::mem::replace(&mut self.has_logged_refusal, true) {
                    tracing::warn!(
                        reason,
                        "redis refused an entry of the stream; further ones are only counted"
                    );
                }
                let result = AppendResult::Refused(reason.into());
                self.events.push_back(LogEvent::Appended { token, result });
            }
            (Expected::Len(token), Reply::Integer(len)) => {
                let Inspected { is_refused, first, last } = std::mem::take(&mut self.inspected);
                self.events.push_back(match (u64::try_from(*len), is_refused) {
                    (Ok(len), false) => LogEvent::Inspected { token, first, last, len },
                    _ => LogEvent::Failed { token },
                });
            }
            (Expected::Len(token), Reply::Error(_)) => {
                self.inspected = Inspected::default();
                self.events.push_back(LogEvent::Failed { token });
            }
            (Expected::Ping, _) => {}
            _ => return Err(InvalidReply.into()),
        }
        self.link.input.advance(len);
        Ok(true)
    }

    /// Reads entries; returns `false` if the reply is incomplete.
    fn read_entries(&mut self, expected: Expected, form: Form) -> Result<bool, Broken> {
        loop {
            let Some(part) = self.parser.next(&mut self.link.input, form)? else { return Ok(false) };
            match part {
                Part::Entry(id, fields) => self.collected.push(id, fields),
                Part::Oversized(id) => self.collected.push_oversized(id),
                Part::Error(_) => {
                    self.collected.take();
                    match expected {
                        Expected::Range(token) => self.events.push_back(LogEvent::Failed { token }),
                        _ => self.inspected.is_refused = true,
                    }
                    return Ok(true);
                }
                Part::End => {
                    let entries = self.collected.take();
                    match expected {
                        Expected::Range(token) => {
                            self.events.push_back(LogEvent::Range { token, entries, is_end: true });
                        }
                        Expected::First(_) => self.inspected.first = entries.last,
                        _ => self.inspected.last = entries.last,
                    }
                    return Ok(true);
                }
            }
        }
    }

    /// Ends all commands with the connection.
    fn lose(&mut self) {
        self.counters.publisher_up.store(false, Ordering::Relaxed);
        let mut unanswered = self.queue.sent_commands() - self.replied;
        for expected in self.expected.drain(..) {
            let was_sent = unanswered > 0;
            unanswered = unanswered.saturating_sub(1);
            match expected {
                Expected::Append(token) => {
                    add(&self.counters.unconfirmed, u64::from(was_sent));
                    let result = AppendResult::Lost { was_sent };
                    self.events.push_back(LogEvent::Appended { token, result });
                }
                Expected::Range(token) | Expected::Len(token) => {
                    self.events.push_back(LogEvent::Failed { token });
                }
                Expected::First(_) | Expected::Last(_) | Expected::Ping => {}
            }
        }
        self.queue.clear();
        self.replied = 0;
        self.parser.reset();
        self.collected = Collected::default();
        self.inspected = Inspected::default();
        self.events.push_back(LogEvent::Disconnected);
    }
}

/// Reason to close a connection.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Invalid(#[from] InvalidReply),
    #[error("the server is not a master any more")]
    NotMaster,
}
