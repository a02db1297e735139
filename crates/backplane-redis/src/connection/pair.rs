//! Both connections of an engine.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use roomcast_node_adapter::SubscriberCount;

use super::{LinkChange, Messages, Publisher, Subscriber, SubscriberEvent, Verb};
use crate::RedisConfig;
use crate::metrics::Counters;

/// Publishing and subscribing connection to one server. `N` is the caller's type for a subscription and channel.
#[derive(Debug)]
pub(crate) struct Pair<N> {
    publisher: Publisher,
    subscriber: Subscriber,
    last_number: u64,
    events: VecDeque<PairEvent<N>>,
    is_connected: bool,
    waker: Option<Waker>,
}

/// Event of both connections.
#[derive(Debug)]
pub(crate) enum PairEvent<N> {
    /// Both are established.
    Connected,
    /// One of them was lost.
    Disconnected,
    /// All subscriptions and pending commands have ended.
    Unsubscribed,
    /// The command with this number is in effect.
    Done(u64),
    /// The command with this number has no effect.
    Refused(u64),
    Message(N, Bytes),
    /// A message was dropped.
    Oversized(N),
    /// Result of the count with this number.
    Counted(u64, SubscriberCount),
}

impl<N> Pair<N> {
    pub(crate) fn new(config: Arc<RedisConfig>, counters: &Counters) -> Self {
        Self {
            publisher: Publisher::new(config.clone(), counters.clone()),
            subscriber: Subscriber::new(config, counters.clone()),
            last_number: 0,
            events: VecDeque::new(),
            is_connected: false,
            waker: None,
        }
    }

    fn is_ready(&self) -> bool {
        self.publisher.is_ready() && self.subscriber.is_ready()
    }

    /// Completes when both connections are established and their queues have room.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_ready() {
            // The connections wake the task that polled them last, so a lost subscription is noticed as well.
            self.keep_waker(cx);
            self.drive_publisher(cx);
        }
        if self.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Completes when each command has its reply.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.keep_waker(cx);
        self.drive_publisher(cx);
        if self.publisher.is_flushed() && self.subscriber.is_flushed() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Queues a publication.
    pub(crate) fn publish(&mut self, name: &[u8], payload: &[u8]) {
        self.publisher.publish(name, payload);
        // All commands of one visit of the task are written together, at its next one.
        self.wake();
    }

    /// Returns the reader of messages.
    pub(crate) fn messages(&mut self) -> &mut Messages {
        self.subscriber.messages()
    }

    /// Queues a count of the subscribers of a channel.
    pub(crate) fn count(&mut self, name: &[u8], number: u64, of_other_kind: bool) {
        self.publisher.count(name, number, of_other_kind);
        self.wake();
    }

    /// Queues a subscribe or unsubscribe command; returns its number, unless it has no names or the connection is away.
    pub(crate) fn command<'a>(
        &mut self,
        verb: Verb,
        names: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> Option<u64> {
        self.last_number += 1;
        if !self.subscriber.command(verb, names, self.last_number) {
            return None;
        }
        if matches!(verb, Verb::Subscribe | Verb::PatternSubscribe | Verb::ShardedSubscribe) {
            // A command takes effect before later ones, but publications have another connection.
            self.publisher.hold(self.last_number);
        }
        self.wake();
        Some(self.last_number)
    }

    /// Writes and reads until there is an event.
    pub(crate) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        resolve: &mut impl FnMut(Option<&[u8]>, &[u8]) -> Option<N>,
    ) -> Poll<PairEvent<N>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            let event = match self.subscriber.buffered_event(resolve) {
                Some(event) => event,
                None => match self.subscriber.poll_event(cx, resolve) {
                    Poll::Ready(event) => event,
                    Poll::Pending => {
                        self.drive_publisher(cx);
                        if self.events.is_empty() {
                            self.keep_waker(cx);
                            return Poll::Pending;
                        }
                        continue;
                    }
                },
            };
            match event {
                SubscriberEvent::Message(name, payload) => {
                    return Poll::Ready(PairEvent::Message(name, payload));
                }
                SubscriberEvent::Oversized(name) => return Poll::Ready(PairEvent::Oversized(name)),
                SubscriberEvent::Done(number) => {
                    self.publisher.release(number);
                    return Poll::Ready(PairEvent::Done(number));
                }
                SubscriberEvent::Refused(number) => {
                    self.publisher.release(number);
                    return Poll::Ready(PairEvent::Refused(number));
                }
                SubscriberEvent::Changed(LinkChange::Up) => self.compare_servers(),
                SubscriberEvent::Changed(LinkChange::Down) => self.lose_subscriptions(),
            }
            self.note_connected();
        }
    }

    /// Writes publications and reads their replies.
    fn drive_publisher(&mut self, cx: &mut Context<'_>) {
        let before = self.events.len();
        while let Poll::Ready(change) = self.publisher.poll(cx) {
            if change == LinkChange::Up {
                self.compare_servers();
            }
            self.note_connected();
        }
        while let Some((number, count)) = self.publisher.next_count() {
            self.events.push_back(PairEvent::Counted(number, count));
        }
        if self.events.len() > before {
            // This may be called for another reason than to poll for events.
            self.wake();
        }
    }

    /// After a failover, both connections must be to the same server.
    fn compare_servers(&mut self) {
        if let (Some(one), Some(other)) = (self.publisher.address(), self.subscriber.address())
            && one != other
        {
            // Either may be out of date; the next attempts ask the sentinels again.
            self.publisher.reconnect("the master has changed");
            self.subscriber.reconnect("the master has changed");
            self.lose_subscriptions();
        }
    }

    fn lose_subscriptions(&mut self) {
        self.publisher.release(self.last_number);
        self.events.push_back(PairEvent::Unsubscribed);
        self.wake();
    }

    fn note_connected(&mut self) {
        let is_connected = self.publisher.address().is_some() && self.subscriber.address().is_some();
        if is_connected != self.is_connected {
            self.is_connected = is_connected;
            let event = if is_connected { PairEvent::Connected } else { PairEvent::Disconnected };
            self.events.push_back(event);
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn keep_waker(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }
}
