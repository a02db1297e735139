//! Publishing connection: commands are pipelined, and their replies counted as they arrive.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Buf;
use roomcast_node_adapter::SubscriberCount;

use super::LinkChange;
use super::dial::text_of;
use super::link::{Link, LinkEvent, SendQueue};
use super::resp::{self, Reply};
use crate::config::{Address, RedisConfig};
use crate::metrics::{Counters, add};

/// Publishing connection.
///
/// Commands that were not sent when the connection is lost are sent by the next one. Commands that were sent without a
/// reply are counted as unconfirmed, and not repeated.
#[derive(Debug)]
pub(crate) struct Publisher {
    link: Link,
    queue: SendQueue,
    counters: Counters,
    limit: usize,
    /// Whether the channels are sharded.
    is_sharded: bool,
    /// Replies that arrived, of all commands that were completed.
    replied: u64,
    /// Commands without a reply that are no publications, by their index.
    others: VecDeque<(u64, Other)>,
    /// Results of counts.
    counted: VecDeque<(u64, SubscriberCount)>,
    /// Positions in the queue behind which commands wait, with the number that ends each.
    barriers: VecDeque<(u64, usize)>,
    has_logged_refusal: bool,
}

/// Command that is no publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    Ping,
    Count(u64),
}

impl Publisher {
    pub(crate) fn new(config: Arc<RedisConfig>, counters: Counters) -> Self {
        Self {
            limit: config.send_buffer,
            is_sharded: config.sharded_channels,
            link: Link::new("publish", config, counters.clone()),
            queue: SendQueue::default(),
            counters,
            replied: 0,
            others: VecDeque::new(),
            counted: VecDeque::new(),
            barriers: VecDeque::new(),
            has_logged_refusal: false,
        }
    }

    /// Returns whether the connection is established and its queue has room.
    ///
    /// A connection that does not reply takes no more: if it is lost, all that it was sent is unconfirmed.
    pub(crate) fn is_ready(&self) -> bool {
        let is_stalled = self.link.is_silent() && self.replied != self.queue.completed;
        self.link.is_up() && self.queue.len() < self.limit && !is_stalled
    }

    pub(crate) fn address(&self) -> Option<&Address> {
        self.link.address()
    }

    /// Returns whether each command was sent and has its reply.
    pub(crate) fn is_flushed(&self) -> bool {
        self.queue.len() == 0 && self.replied == self.queue.completed
    }

    /// Queues a publication.
    pub(crate) fn publish(&mut self, name: &[u8], payload: &[u8]) {
        self.queue.push(|out| resp::encode_publish(out, self.is_sharded, name, payload));
        add(&self.counters.accepted, 1);
    }

    /// Queues a count of the subscribers of a channel, which is sharded like the channels of messages unless
    /// `of_other_kind`.
    pub(crate) fn count(&mut self, name: &[u8], token: u64, of_other_kind: bool) {
        self.others.push_back((self.queue.next_index(), Other::Count(token)));
        let count = if self.is_sharded == of_other_kind { &b"NUMSUB"[..] } else { b"SHARDNUMSUB" };
        self.queue.push(|out| resp::encode(out, b"PUBSUB", [count, name].into_iter()));
    }

    /// Returns the next result of a count.
    pub(crate) fn next_count(&mut self) -> Option<(u64, SubscriberCount)> {
        self.counted.pop_front()
    }

    /// Delays later commands until [`release`](Self::release) is called with this number or a later one.
    pub(crate) fn hold(&mut self, number: u64) {
        // The positions count from the first waiting byte, see `poll`.
        self.barriers.push_back((number, self.queue.len()));
        self.queue.allowed = self.barriers.front().map(|(_, position)| *position);
    }

    /// Ends the barriers up to this number.
    pub(crate) fn release(&mut self, number: u64) {
        while self.barriers.front().is_some_and(|(barrier, _)| *barrier <= number) {
            self.barriers.pop_front();
        }
        self.queue.allowed = self.barriers.front().map(|(_, position)| *position);
    }

    /// Closes the connection, which is then established again.
    pub(crate) fn reconnect(&mut self, reason: &'static str) {
        if self.link.is_up() {
            self.link.fail(&reason);
            self.account_loss();
        }
    }

    /// Writes and reads until the connection changes.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkChange> {
        loop {
            let before = self.queue.len();
            let event = self.link.poll_io(cx, &mut self.queue);
            self.shift_barriers(before - self.queue.len());
            match event {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(LinkEvent::Up) => {
                    self.counters.publisher_up.store(true, Ordering::Relaxed);
                    self.has_logged_refusal = false;
                    return Poll::Ready(LinkChange::Up);
                }
                Poll::Ready(LinkEvent::Down) => {
                    self.account_loss();
                    return Poll::Ready(LinkChange::Down);
                }
                Poll::Ready(LinkEvent::Tick) if self.link.is_silent() => self.send_ping(),
                Poll::Ready(LinkEvent::Tick) => {}
                Poll::Ready(LinkEvent::Data) => {
                    if !self.read_replies() {
                        self.link.fail(&"invalid reply");
                        self.account_loss();
                        return Poll::Ready(LinkChange::Down);
                    }
                }
            }
        }
    }

    fn shift_barriers(&mut self, count: usize) {
        if count > 0 {
            self.barriers.iter_mut().for_each(|(_, position)| *position = position.saturating_sub(count));
        }
    }

    fn send_ping(&mut self) {
        // Pending replies, or commands that wait, test the connection as well.
        if self.is_flushed() && self.barriers.is_empty() {
            self.others.push_back((self.queue.next_index(), Other::Ping));
            self.queue.push(|out| resp::encode(out, b"PING", [].into_iter()));
        }
    }

    /// Counts the replies; returns `false` if one is invalid.
    fn read_replies(&mut self) -> bool {
        let mut at = 0;
        let (mut confirmed, mut refused) = (0, 0);
        let mut refusal = None;
        let is_valid = loop {
            let other = self.others.front().map_or(u64::MAX, |(index, _)| *index);
            // Nearly all replies acknowledge publications.
            while self.replied < self.queue.completed.min(other)
                && let Some(len) = resp::count_len(&self.link.input[at..])
            {
                (at, confirmed, self.replied) = (at + len, confirmed + 1, self.replied + 1);
            }
            match resp::parse(&self.link.input[at..]) {
                Ok(None) => break true,
                Err(_) => break false,
                Ok(Some((reply, len))) => {
                    at += len;
                    if self.replied == self.queue.completed {
                        // A server may send an error before it closes a connection.
                        break false;
                    }
                    let is_other = self.others.front().is_some_and(|(index, _)| *index == self.replied);
                    match (is_other.then(|| self.others.pop_front()).flatten(), &reply) {
                        (Some((_, Other::Ping)), _) => {}
                        (Some((_, Other::Count(token))), reply) => {
                            self.counted.push_back((token, count_of(reply)));
                        }
                        (None, Reply::Error(text)) => {
                            refused += 1;
                            refusal.get_or_insert_with(|| text_of(text));
                        }
                        (None, _) => confirmed += 1,
                    }
                    self.replied += 1;
                }
            }
        };
        self.link.input.advance(at);
        add(&self.counters.confirmed, confirmed);
        add(&self.counters.refused, refused);
        if let Some(reason) = refusal
            && !std::mem::replace(&mut self.has_logged_refusal, true)
        {
            tracing::warn!(reason, "redis refused publications; `refused` counts them");
        }
        is_valid
    }

    /// Counts the commands that were sent without a reply.
    fn account_loss(&mut self) {
        self.counters.publisher_up.store(false, Ordering::Relaxed);
        let before = self.queue.len();
        self.queue.drop_partial();
        self.shift_barriers(before - self.queue.len());
        let mut lost = self.queue.completed - self.replied;
        let completed = self.queue.completed;
        while self.others.front().is_some_and(|(index, _)| *index < completed)
            && let Some((_, other)) = self.others.pop_front()
        {
            lost -= 1;
            if let Other::Count(token) = other {
                self.counted.push_back((token, SubscriberCount::Lost));
            }
        }
        self.replied = completed;
        add(&self.counters.unconfirmed, lost);
        self.release(0);
    }
}

/// Returns the number in the reply to `PUBSUB NUMSUB` or `SHARDNUMSUB` with one channel.
fn count_of(reply: &Reply<'_>) -> SubscriberCount {
    if let Reply::Array(parts) = reply
        && let [_, Reply::Integer(number)] = &parts[..]
        && let Ok(number) = u64::try_from(*number)
    {
        return SubscriberCount::Known(number);
    }
    SubscriberCount::Refused
}
