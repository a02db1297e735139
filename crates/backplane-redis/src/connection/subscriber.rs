//! Subscribing connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};

use super::LinkChange;
use super::dial::text_of;
use super::link::{Link, LinkEvent, SendQueue};
use super::resp::{self, Head, InvalidReply, Reply};
use crate::config::{Address, RedisConfig};
use crate::metrics::{Counters, add};

/// Command of a subscribing connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Subscribe,
    Unsubscribe,
    PatternSubscribe,
    PatternUnsubscribe,
    ShardedSubscribe,
    ShardedUnsubscribe,
}

impl Verb {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Subscribe => b"SUBSCRIBE",
            Self::Unsubscribe => b"UNSUBSCRIBE",
            Self::PatternSubscribe => b"PSUBSCRIBE",
            Self::PatternUnsubscribe => b"PUNSUBSCRIBE",
            Self::ShardedSubscribe => b"SSUBSCRIBE",
            Self::ShardedUnsubscribe => b"SUNSUBSCRIBE",
        }
    }
}

/// Event of a subscribing connection; `N` is the caller's type for a subscription and channel.
///
/// The caller resolves it from the pattern, if the subscription is one, and the name of the channel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SubscriberEvent<N> {
    Changed(LinkChange),
    /// A command with this number is in effect for all its channels.
    Done(u64),
    /// A command with this number has no effect.
    Refused(u64),
    Message(N, Bytes),
    /// A message was dropped.
    Oversized(N),
}

/// Subscribing connection. All subscriptions and pending commands end with the connection.
#[derive(Debug)]
pub(crate) struct Subscriber {
    link: Link,
    queue: SendQueue,
    counters: Counters,
    limit: usize,
    max_message: usize,
    /// Commands without all their replies.
    pending: VecDeque<Pending>,
    /// Bytes of a dropped message that are still to be skipped.
    skip: usize,
    has_logged_refusal: bool,
}

#[derive(Debug)]
enum Pending {
    Command { number: u64, replies: usize },
    Ping,
}

impl Subscriber {
    pub(crate) fn new(config: Arc<RedisConfig>, counters: Counters) -> Self {
        Self {
            limit: config.send_buffer,
            max_message: config.max_message,
            link: Link::new("subscribe", config, counters.clone()),
            queue: SendQueue::default(),
            counters,
            pending: VecDeque::new(),
            skip: 0,
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

    /// Returns whether each command has all its replies.
    pub(crate) fn is_flushed(&self) -> bool {
        self.pending.is_empty()
    }

    /// Queues a command; returns `false` if it has no names, or the connection is away.
    pub(crate) fn command<'a>(
        &mut self,
        verb: Verb,
        names: impl ExactSizeIterator<Item = &'a [u8]>,
        number: u64,
    ) -> bool {
        if names.len() == 0 || !self.link.is_up() {
            return false;
        }
        self.pending.push_back(Pending::Command { number, replies: names.len() });
        self.queue.push(|out| resp::encode(out, verb.name(), names));
        true
    }

    /// Closes the connection, which is then established again.
    pub(crate) fn reconnect(&mut self, reason: &'static str) {
        if self.link.is_up() {
            self.link.fail(&reason);
            self.clear();
        }
    }

    /// Returns the next event that was read already.
    pub(crate) fn buffered_event<N>(
        &mut self,
        resolve: &mut impl FnMut(Option<&[u8]>, &[u8]) -> Option<N>,
    ) -> Option<SubscriberEvent<N>> {
        if self.link.input.is_empty() {
            return None;
        }
        self.decode(resolve).unwrap_or_else(|InvalidReply| {
            self.link.fail(&InvalidReply);
            self.clear();
            Some(SubscriberEvent::Changed(LinkChange::Down))
        })
    }

    /// Writes, and reads until there is an event.
    pub(crate) fn poll_event<N>(
        &mut self,
        cx: &mut Context<'_>,
        resolve: &mut impl FnMut(Option<&[u8]>, &[u8]) -> Option<N>,
    ) -> Poll<SubscriberEvent<N>> {
        loop {
            let event = match std::task::ready!(self.link.poll_io(cx, &mut self.queue)) {
                LinkEvent::Up => {
                    self.counters.subscriber_up.store(true, Ordering::Relaxed);
                    self.has_logged_refusal = false;
                    Some(SubscriberEvent::Changed(LinkChange::Up))
                }
                LinkEvent::Down => {
                    self.clear();
                    Some(SubscriberEvent::Changed(LinkChange::Down))
                }
                LinkEvent::Silent => {
                    if self.pending.is_empty() {
                        self.pending.push_back(Pending::Ping);
                        self.queue.push(|out| resp::encode(out, b"PING", [].into_iter()));
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
        self.counters.subscriber_up.store(false, Ordering::Relaxed);
        self.queue.clear();
        self.pending.clear();
        self.skip = 0;
    }

    fn decode<N>(
        &mut self,
        resolve: &mut impl FnMut(Option<&[u8]>, &[u8]) -> Option<N>,
    ) -> Result<Option<SubscriberEvent<N>>, InvalidReply> {
        loop {
            let skipped = self.skip.min(self.link.input.len());
            self.link.input.advance(skipped);
            self.skip -= skipped;
            if self.link.input.is_empty() {
                return Ok(None);
            }
            let event = match resp::message_head(&self.link.input)? {
                Head::Incomplete => return Ok(None),
                Head::Message(head) => {
                    let (start, end) = (head.len, head.len + head.payload);
                    if head.payload > self.max_message {
                        let name = resolve(head.pattern, head.name);
                        self.link.input.advance(start);
                        self.skip = end + 2 - start;
                        add(&self.counters.oversized, 1);
                        name.map(SubscriberEvent::Oversized)
                    } else if self.link.input.len() < end + 2 {
                        return Ok(None);
                    } else {
                        // Messages on a channel that was unsubscribed may still arrive.
                        let name = resolve(head.pattern, head.name);
                        add(&self.counters.received, 1);
                        let payload = self.take_payload(start, end);
                        name.map(|name| SubscriberEvent::Message(name, payload))
                    }
                }
                Head::Other => match resp::parse(&self.link.input)? {
                    None => return Ok(None),
                    Some((reply, len)) => {
                        let event = read_reply(&reply, &mut self.pending, &self.counters)?;
                        if let (Some(SubscriberEvent::Refused(_)), Reply::Error(text)) = (&event, &reply)
                            && !std::mem::replace(&mut self.has_logged_refusal, true)
                        {
                            let reason = text_of(text);
                            tracing::warn!(reason, "redis refused subscriptions; they are tried again");
                        }
                        self.link.input.advance(len);
                        event
                    }
                },
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    fn take_payload(&mut self, start: usize, end: usize) -> Bytes {
        let input = &mut self.link.input;
        let payload = if end - start < SHARED_BYTES {
            let payload = Bytes::copy_from_slice(&input[start..end]);
            input.advance(end + 2);
            return payload;
        } else {
            input.advance(start);
            input.split_to(end - start).freeze()
        };
        input.advance(2);
        payload
    }
}

fn read_reply<N>(
    reply: &Reply<'_>,
    pending: &mut VecDeque<Pending>,
    counters: &Counters,
) -> Result<Option<SubscriberEvent<N>>, InvalidReply> {
    let first = pending.front_mut().ok_or(InvalidReply)?;
    match (first, reply) {
        // The reply to a ping has another form while there is a subscription, and may be an error.
        (Pending::Ping, _) => {
            pending.pop_front();
            Ok(None)
        }
        (Pending::Command { number, .. }, Reply::Error(_)) => {
            let number = *number;
            pending.pop_front();
            add(&counters.subscriptions_refused, 1);
            Ok(Some(SubscriberEvent::Refused(number)))
        }
        (Pending::Command { number, replies }, Reply::Array(_)) => {
            *replies -= 1;
            let (number, is_done) = (*number, *replies == 0);
            if is_done {
                pending.pop_front();
            }
            Ok(is_done.then_some(SubscriberEvent::Done(number)))
        }
        _ => Err(InvalidReply),
    }
}

/// Messages from this length on share the memory of the read buffer; smaller ones would keep much of it alive.
const SHARED_BYTES: usize = 16 << 10;
