//! Subscribing connection to one master.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use bytestring::ByteString;

use super::interest::Batch;
use super::slots::{self, Rejection};
use crate::RedisConfig;
use crate::config::Address;
use crate::connection::{
    Incoming, InvalidReply, Link, LinkEvent, Messages, Reply, SendQueue, encode, parse, text_of,
};
use crate::metrics::{Counters, add};

/// Subscribing connection to one master.
///
/// A server ends subscriptions unasked when their slot moves, by the same message that answers a command to end them,
/// and then refuses that command. So replies are not counted: a ping with a number follows the commands to end
/// subscriptions, and its answer completes them.
#[derive(Debug)]
pub(super) struct Subscriber {
    link: Link,
    host: String,
    queue: SendQueue,
    counters: Counters,
    incoming: Messages,
    /// Commands that are not answered, the first one first.
    pending: VecDeque<Pending>,
    last_fence: u64,
    limit: usize,
    has_logged_refusal: bool,
}

#[derive(Debug)]
enum Pending {
    Start { names: Vec<ByteString>, confirmed: usize },
    Fence { number: u64, stopped: Vec<ByteString> },
}

/// Event of a subscribing connection.
#[derive(Debug)]
pub(super) enum SubscriberEvent {
    Up,
    Down,
    /// A subscription is in effect.
    Started(ByteString),
    /// The commands to end these subscriptions have ended.
    Stopped(Vec<ByteString>),
    /// The server ended a subscription, asked or not.
    Removed(ByteString),
    Rejected(Vec<ByteString>, Rejection),
    Message(ByteString, Bytes),
    /// A message was dropped.
    Oversized(ByteString),
}

impl Subscriber {
    pub(super) fn new(address: &Address, config: Arc<RedisConfig>, counters: &Counters) -> Self {
        Self {
            incoming: Messages::new(config.max_message),
            limit: config.send_buffer,
            link: Link::new("subscribe", config, counters.clone()),
            host: slots::host_of(address),
            queue: SendQueue::default(),
            counters: counters.clone(),
            pending: VecDeque::new(),
            last_fence: 0,
            has_logged_refusal: false,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.link.is_up()
    }

    /// Returns whether the connection is established and its queue has room.
    pub(super) fn is_ready(&self) -> bool {
        self.link.is_up() && self.queue.len() < self.limit && self.pending.len() < MAX_PENDING
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.pending.is_empty()
    }

    /// Queues commands; the connection is established.
    pub(super) fn command(&mut self, Batch { start, stop }: Batch) {
        for names in &stop {
            self.queue
                .push(|out| encode(out, b"SUNSUBSCRIBE", names.iter().map(|name| name.as_bytes().as_ref())));
        }
        if !stop.is_empty() {
            self.push_fence(stop.concat());
        }
        for names in start {
            self.queue
                .push(|out| encode(out, b"SSUBSCRIBE", names.iter().map(|name| name.as_bytes().as_ref())));
            self.pending.push_back(Pending::Start { names, confirmed: 0 });
        }
    }

    fn push_fence(&mut self, stopped: Vec<ByteString>) {
        self.last_fence += 1;
        let number = self.last_fence;
        self.queue.push(|out| encode(out, b"PING", [number.to_string().as_bytes()].into_iter()));
        self.pending.push_back(Pending::Fence { number, stopped });
    }

    /// Returns the next event that was read already.
    pub(super) fn buffered_event(
        &mut self,
        resolve: &impl Fn(&[u8]) -> Option<ByteString>,
    ) -> Option<SubscriberEvent> {
        if self.link.input.is_empty() {
            return None;
        }
        self.decode(resolve).unwrap_or_else(|InvalidReply| {
            self.link.fail(&InvalidReply);
            self.clear();
            Some(SubscriberEvent::Down)
        })
    }

    /// Writes, and reads until there is an event.
    pub(super) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        resolve: &impl Fn(&[u8]) -> Option<ByteString>,
    ) -> Poll<SubscriberEvent> {
        loop {
            let event = match std::task::ready!(self.link.poll_io(cx, &mut self.queue)) {
                LinkEvent::Up => {
                    self.has_logged_refusal = false;
                    Some(SubscriberEvent::Up)
                }
                LinkEvent::Down => {
                    self.clear();
                    Some(SubscriberEvent::Down)
                }
                LinkEvent::Tick => {
                    if self.link.is_silent() && self.pending.is_empty() {
                        self.push_fence(Vec::new());
                    }
                    None
                }
                LinkEvent::Data => self.buffered_event(resolve),
            };
            if let Some(event) = event {
                return Poll::Ready(event);
            }
        }
    }

    fn clear(&mut self) {
        self.queue.clear();
        self.pending.clear();
        self.incoming.clear();
    }

    fn decode(
        &mut self,
        resolve: &impl Fn(&[u8]) -> Option<ByteString>,
    ) -> Result<Option<SubscriberEvent>, InvalidReply> {
        loop {
            let mut resolve = |_: Option<&[u8]>, name: &[u8]| resolve(name);
            match self.incoming.next(&mut self.link.input, &self.counters, &mut resolve)? {
                Incoming::Incomplete => return Ok(None),
                Incoming::Message(name, payload) => return Ok(Some(SubscriberEvent::Message(name, payload))),
                Incoming::Oversized(name) => return Ok(Some(SubscriberEvent::Oversized(name))),
                Incoming::Reply => {}
            }
            let Some((reply, len)) = parse(&self.link.input)? else { return Ok(None) };
            let event = read_reply(&reply, &mut self.pending, &self.host)?;
            if let Some(SubscriberEvent::Rejected(_, Rejection::Refused)) = &event {
                add(&self.counters.subscriptions_refused, 1);
                if let Reply::Error(text) = &reply
                    && !std::mem::replace(&mut self.has_logged_refusal, true)
                {
                    tracing::warn!(
                        reason = text_of(text),
                        "redis refused subscriptions; they are tried again"
                    );
                }
            }
            self.link.input.advance(len);
            if event.is_some() {
                return Ok(event);
            }
        }
    }
}

fn read_reply(
    reply: &Reply<'_>,
    pending: &mut VecDeque<Pending>,
    host: &str,
) -> Result<Option<SubscriberEvent>, InvalidReply> {
    match reply {
        Reply::Error(text) => match pending.pop_front().ok_or(InvalidReply)? {
            Pending::Start { names, .. } => {
                Ok(Some(SubscriberEvent::Rejected(names, Rejection::read(text, host))))
            }
            // Access rules without the ping.
            Pending::Fence { stopped, .. } if text.starts_with(b"NOPERM") && contains(text, b"'ping'") => {
                Ok(Some(SubscriberEvent::Stopped(stopped)))
            }
            // The slot has moved, or access rules have changed: the subscription has ended with that.
            fence @ Pending::Fence { .. } => {
                pending.push_front(fence);
                Ok(None)
            }
        },
        Reply::Array(parts) => match &parts[..] {
            [Reply::Bulk(Some(b"ssubscribe")), Reply::Bulk(Some(name)), _] => {
                if let Some(Pending::Start { names, confirmed }) = pending.front_mut() {
                    *confirmed += 1;
                    if *confirmed == names.len() {
                        pending.pop_front();
                    }
                }
                name_of(name).map(|name| Some(SubscriberEvent::Started(name)))
            }
            [Reply::Bulk(Some(b"sunsubscribe")), Reply::Bulk(Some(name)), _] => {
                name_of(name).map(|name| Some(SubscriberEvent::Removed(name)))
            }
            [Reply::Bulk(Some(b"pong")), Reply::Bulk(Some(number))] => end_fence(number, pending),
            _ => Err(InvalidReply),
        },
        // The form without a subscription.
        Reply::Bulk(Some(number)) => end_fence(number, pending),
        _ => Err(InvalidReply),
    }
}

fn end_fence(text: &[u8], pending: &mut VecDeque<Pending>) -> Result<Option<SubscriberEvent>, InvalidReply> {
    match pending.pop_front() {
        Some(Pending::Fence { number, stopped }) if number.to_string().as_bytes() == text => {
            Ok((!stopped.is_empty()).then_some(SubscriberEvent::Stopped(stopped)))
        }
        _ => Err(InvalidReply),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn name_of(name: &[u8]) -> Result<ByteString, InvalidReply> {
    std::str::from_utf8(name).map(ByteString::from).map_err(|_| InvalidReply)
}

/// Commands without an answer, at most.
const MAX_PENDING: usize = 4096;
