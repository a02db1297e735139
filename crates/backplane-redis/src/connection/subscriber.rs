//! Subscribing connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};

use super::LinkChange;
use super::dial::text_of;
use super::incoming::{Incoming, Messages};
use super::link::{Link, LinkEvent, SendQueue};
use super::resp::{self, InvalidReply, Reply};
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
    incoming: Messages,
    /// Commands without all their replies.
    pending: VecDeque<Pending>,
    /// Intervals since the last reply to one of them.
    unanswered: u32,
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
            incoming: Messages::new(config.max_message),
            link: Link::new("subscribe", config, counters.clone()),
            queue: SendQueue::default(),
            counters,
            pending: VecDeque::new(),
            unanswered: 0,
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

    /// Returns the reader of messages.
    pub(crate) fn messages(&mut self) -> &mut Messages {
        &mut self.incoming
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
                LinkEvent::Tick => self.tick(),
                LinkEvent::Data => self.buffered_event(resolve),
            };
            if let Some(event) = event {
                return Poll::Ready(event);
            }
        }
    }

    /// Tests a silent connection, and closes one on which only messages arrive, as if commands were lost on the way.
    fn tick<N>(&mut self) -> Option<SubscriberEvent<N>> {
        if self.pending.is_empty() {
            if self.link.is_silent() {
                self.pending.push_back(Pending::Ping);
                self.queue.push(|out| resp::encode(out, b"PING", [].into_iter()));
            }
            return None;
        }
        self.unanswered += 1;
        if self.unanswered <= UNANSWERED_TICKS {
            return None;
        }
        self.link.fail(&"no reply to a command");
        self.clear();
        Some(SubscriberEvent::Changed(LinkChange::Down))
    }

    fn clear(&mut self) {
        self.counters.subscriber_up.store(false, Ordering::Relaxed);
        self.queue.clear();
        self.pending.clear();
        self.unanswered = 0;
        self.incoming.clear();
    }

    fn decode<N>(
        &mut self,
        resolve: &mut impl FnMut(Option<&[u8]>, &[u8]) -> Option<N>,
    ) -> Result<Option<SubscriberEvent<N>>, InvalidReply> {
        loop {
            match self.incoming.next(&mut self.link.input, &self.counters, resolve)? {
                Incoming::Incomplete => return Ok(None),
                Incoming::Message(name, payload) => return Ok(Some(SubscriberEvent::Message(name, payload))),
                Incoming::Oversized(name) => return Ok(Some(SubscriberEvent::Oversized(name))),
                Incoming::Reply => {}
            }
            let Some((reply, len)) = resp::parse(&self.link.input)? else { return Ok(None) };
            let event = read_reply(&reply, &mut self.pending, &self.counters)?;
            self.unanswered = 0;
            if let (Some(SubscriberEvent::Refused(_)), Reply::Error(text)) = (&event, &reply)
                && !std::mem::replace(&mut self.has_logged_refusal, true)
            {
                let reason = text_of(text);
                tracing::warn!(reason, "redis refused subscriptions; they are tried again");
            }
            self.link.input.advance(len);
            if event.is_some() {
                return Ok(event);
            }
        }
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

/// Intervals after which a connection without replies is closed although messages arrive.
///
/// Longer than for a silent one: a reply follows the messages that Redis has queued before it.
const UNANSWERED_TICKS: u32 = 9;
