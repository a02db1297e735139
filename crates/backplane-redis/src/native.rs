//! Native mode: the channels and messages of Roomcast's own clusters.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use foldhash::fast::RandomState;
use roomcast_cluster::{Backplane, BackplaneCommand, BackplaneEvent, Channel};

use crate::connection::{LinkChange, Publisher, Subscriber, SubscriberEvent, Verb};
use crate::metrics::Counters;
use crate::{RedisConfig, RedisMetrics};

/// Message engine of a cluster of Roomcast nodes on Redis pub/sub.
///
/// See the [crate documentation](crate) for guarantees and limits. It connects when it is polled first. It spawns no
/// task, and its polls need a tokio runtime with I/O and time.
#[derive(Debug)]
pub struct RedisBackplane {
    publisher: Publisher,
    subscriber: Subscriber,
    channels: Channels,
    /// Subscribe commands without a confirmation.
    pending: VecDeque<Pending>,
    last_number: u64,
    events: VecDeque<BackplaneEvent>,
    counters: Counters,
    name: String,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Pending {
    number: u64,
    channels: Vec<Channel>,
    token: u64,
}

/// Subscribed channels by their names.
#[derive(Debug)]
struct Channels {
    prefix: String,
    by_name: HashMap<Box<[u8]>, Channel, RandomState>,
}

impl RedisBackplane {
    /// Creates an engine, which connects when it is polled.
    #[must_use]
    pub fn new(config: RedisConfig) -> Self {
        let counters = Counters::default();
        let prefix = config.prefix.clone();
        let config = Arc::new(config);
        Self {
            publisher: Publisher::new(config.clone(), counters.clone()),
            subscriber: Subscriber::new(config, counters.clone()),
            channels: Channels { prefix, by_name: HashMap::default() },
            pending: VecDeque::new(),
            last_number: 0,
            events: VecDeque::new(),
            counters,
            name: String::new(),
            waker: None,
        }
    }

    /// Returns the counters.
    #[must_use]
    pub fn metrics(&self) -> RedisMetrics {
        self.counters.snapshot()
    }

    /// Returns a function that returns the counters, for another task.
    pub fn metrics_reader(&self) -> impl Fn() -> RedisMetrics + Send + Sync + 'static {
        let counters = self.counters.clone();
        move || counters.snapshot()
    }

    fn is_ready(&self) -> bool {
        self.publisher.is_ready() && self.subscriber.is_ready()
    }

    /// Writes publications and reads their replies.
    fn drive_publisher(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(change) = self.publisher.poll(cx) {
            if change == LinkChange::Up {
                self.compare_servers();
            }
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
        self.channels.by_name.clear();
        self.pending.clear();
        self.publisher.release(self.last_number);
        self.events.push_back(BackplaneEvent::Unsubscribed { channels: Vec::new() });
        self.wake();
    }

    fn handle(&mut self, event: SubscriberEvent<Channel>) -> Option<BackplaneEvent> {
        match event {
            SubscriberEvent::Message(channel, payload) => Some(BackplaneEvent::Message { channel, payload }),
            SubscriberEvent::Oversized(channel) => Some(BackplaneEvent::Missed { channels: vec![channel] }),
            SubscriberEvent::Done(number) => {
                self.publisher.release(number);
                let command = self.pending.pop_front_if(|command| command.number == number)?;
                Some(BackplaneEvent::Subscribed { channels: command.channels, token: command.token })
            }
            SubscriberEvent::Refused(number) => {
                self.publisher.release(number);
                // Without a confirmation, the node subscribes again.
                self.pending.pop_front_if(|command| command.number == number);
                None
            }
            SubscriberEvent::Changed(LinkChange::Up) => {
                self.compare_servers();
                None
            }
            SubscriberEvent::Changed(LinkChange::Down) => {
                self.lose_subscriptions();
                None
            }
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

impl Channels {
    fn name(&self, channel: &Channel) -> Box<[u8]> {
        format!("{}{channel}", self.prefix).into_bytes().into()
    }
}

impl Backplane for RedisBackplane {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_ready() {
            // The connections wake the task that polled them last, so a lost subscription is noticed as well.
            self.keep_waker(cx);
            self.drive_publisher(cx);
        }
        if self.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn send(&mut self, command: BackplaneCommand) {
        match command {
            BackplaneCommand::Publish { channel, payload } => {
                self.name.clear();
                self.name.push_str(&self.channels.prefix);
                // Formatting to a string cannot fail.
                let _ = write!(self.name, "{channel}");
                self.publisher.publish(self.name.as_bytes(), &payload);
            }
            BackplaneCommand::Subscribe { channels, token } => {
                self.last_number += 1;
                let number = self.last_number;
                let names: Vec<_> = channels.iter().map(|channel| self.channels.name(channel)).collect();
                let iter = names.iter().map(|name| &**name);
                if !self.subscriber.command(Verb::Subscribe, iter, number) {
                    return;
                }
                self.channels.by_name.extend(names.into_iter().zip(channels.iter().cloned()));
                // A command takes effect before later ones, but publications have another connection.
                self.publisher.hold(number);
                self.pending.push_back(Pending { number, channels, token });
            }
            BackplaneCommand::Unsubscribe { channels } => {
                self.last_number += 1;
                let names: Vec<_> = channels.iter().map(|channel| self.channels.name(channel)).collect();
                let iter = names.iter().map(|name| &**name);
                self.subscriber.command(Verb::Unsubscribe, iter, self.last_number);
                names.iter().for_each(|name| _ = self.channels.by_name.remove(name));
            }
            other => tracing::warn!(command = ?other, "unknown command to the message engine"),
        }
        // All commands of one visit of the task are written together, at its next one.
        self.wake();
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.keep_waker(cx);
        self.drive_publisher(cx);
        if self.publisher.is_flushed() && self.subscriber.is_flushed() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<BackplaneEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            let by_name = &self.channels.by_name;
            let mut resolve = |name: &[u8]| by_name.get(name).cloned();
            let event = match self.subscriber.buffered_event(&mut resolve) {
                Some(event) => event,
                None => match self.subscriber.poll_event(cx, &mut resolve) {
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
            if let Some(event) = self.handle(event) {
                return Poll::Ready(event);
            }
        }
    }
}
