//! Channels by name and by pattern: the engine of clusters of Node servers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytestring::ByteString;
use foldhash::fast::RandomState;
use roomcast_node_adapter::{PubSub, PubSubCommand, PubSubEvent};

use crate::connection::{Pair, PairEvent, Verb};
use crate::metrics::Counters;
use crate::{RedisConfig, RedisMetrics};

/// Message engine of a cluster of Node servers on Redis pub/sub, sharded or not.
///
/// See the [crate documentation](crate) for guarantees and limits; the connections are the same as with
/// [`RedisBackplane`](crate::RedisBackplane). The [prefix](RedisConfig::prefix) is not used, since the cluster names
/// its channels. The user needs the commands `PSUBSCRIBE`, `PUNSUBSCRIBE` and `PUBSUB` in addition, or with sharded
/// channels instead `SSUBSCRIBE`, `SUNSUBSCRIBE`, `SPUBLISH` and `PUBSUB`.
#[derive(Debug)]
pub struct RedisPubSub {
    connections: Pair<Names>,
    /// Whether the channels are sharded.
    is_sharded: bool,
    counters: Counters,
    /// Channels and patterns, with the number of subscriptions. Messages share the names.
    names: HashMap<ByteString, usize, RandomState>,
    /// Commands without all their confirmations.
    pending: VecDeque<Pending>,
}

/// Subscription and channel of a message.
#[derive(Debug)]
struct Names {
    subscription: ByteString,
    channel: ByteString,
}

#[derive(Debug)]
struct Pending {
    token: u64,
    /// Numbers of the commands on the connection.
    numbers: Vec<u64>,
    is_refused: bool,
    /// Subscriptions that end.
    ended: Vec<ByteString>,
}

impl RedisPubSub {
    /// Creates an engine, which connects when it is polled.
    #[must_use]
    pub fn new(config: RedisConfig) -> Self {
        Self::with_kind(config, false)
    }

    /// Creates an engine whose channels are sharded, on one server of Redis 7 or later.
    ///
    /// A server that is not in a Redis Cluster has these channels besides the others, without any difference but the
    /// commands.
    #[must_use]
    pub fn sharded(config: RedisConfig) -> Self {
        Self::with_kind(config, true)
    }

    fn with_kind(config: RedisConfig, is_sharded: bool) -> Self {
        let counters = Counters::default();
        Self {
            // Node's classic adapter uses plain channels.
            connections: Pair::new(Arc::new(config.sharded_channels(is_sharded)), &counters),
            is_sharded,
            counters,
            names: HashMap::default(),
            pending: VecDeque::new(),
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

    fn command(&mut self, token: u64, verbs: [(Verb, &[ByteString]); 2]) -> Pending {
        let numbers = verbs.into_iter().filter_map(|(verb, names)| {
            self.connections.command(verb, names.iter().map(|name| name.as_bytes().as_ref()))
        });
        Pending { token, numbers: numbers.collect(), is_refused: false, ended: Vec::new() }
    }

    /// Records the end of a command on the connection; returns an event with that of the last one.
    fn settle(&mut self, number: u64, is_refused: bool) -> Option<PubSubEvent> {
        let index = self.pending.iter().position(|pending| pending.numbers.contains(&number))?;
        let pending = &mut self.pending[index];
        pending.is_refused |= is_refused;
        pending.numbers.retain(|other| *other != number);
        if !pending.numbers.is_empty() {
            return None;
        }
        let Pending { token, is_refused, ended, .. } = self.pending.remove(index)?;
        ended.iter().for_each(|name| forget(&mut self.names, name));
        Some(if is_refused { PubSubEvent::Refused { token } } else { PubSubEvent::Done { token } })
    }

    fn handle(&mut self, event: PairEvent<Names>) -> Option<PubSubEvent> {
        match event {
            PairEvent::Connected => Some(PubSubEvent::Connected),
            PairEvent::Disconnected => Some(PubSubEvent::Disconnected),
            PairEvent::Unsubscribed => {
                self.names.clear();
                self.pending.clear();
                Some(PubSubEvent::Unsubscribed)
            }
            PairEvent::Done(number) => self.settle(number, false),
            PairEvent::Refused(number) => self.settle(number, true),
            PairEvent::Message(Names { subscription, channel }, payload) => {
                Some(PubSubEvent::Message { subscription, channel, payload })
            }
            PairEvent::Oversized(Names { subscription, .. }) => Some(PubSubEvent::Oversized { subscription }),
            PairEvent::Counted(token, count) => Some(PubSubEvent::Counted { token, count }),
        }
    }
}

impl PubSub for RedisPubSub {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<PubSubEvent> {
        loop {
            let names = &self.names;
            let mut resolve = |pattern: Option<&[u8]>, name: &[u8]| {
                let name = std::str::from_utf8(name).ok()?;
                let subscription = pattern.map_or(Ok(name), std::str::from_utf8).ok()?;
                let (subscription, _) = names.get_key_value(subscription)?;
                let channel = if pattern.is_some() { name.into() } else { subscription.clone() };
                Some(Names { subscription: subscription.clone(), channel })
            };
            let event = std::task::ready!(self.connections.poll_event(cx, &mut resolve));
            if let Some(event) = self.handle(event) {
                return Poll::Ready(event);
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.connections.poll_ready(cx)
    }

    fn send(&mut self, command: PubSubCommand) {
        let pending = match command {
            PubSubCommand::Publish { channel, payload } => {
                return self.connections.publish(channel.as_bytes(), &payload);
            }
            PubSubCommand::Count { channel, token } => {
                return self.connections.count(channel.as_bytes(), token, false);
            }
            PubSubCommand::Subscribe { channels, patterns, token } => {
                for name in channels.iter().chain(&patterns) {
                    *self.names.entry(name.clone()).or_default() += 1;
                }
                let verb = if self.is_sharded { Verb::ShardedSubscribe } else { Verb::Subscribe };
                self.command(token, [(Verb::PatternSubscribe, &patterns), (verb, &channels)])
            }
            PubSubCommand::Unsubscribe { channels, patterns, token } => {
                let verb = if self.is_sharded { Verb::ShardedUnsubscribe } else { Verb::Unsubscribe };
                let verbs = [(verb, &channels[..]), (Verb::PatternUnsubscribe, &patterns[..])];
                let pending = self.command(token, verbs);
                Pending { ended: channels.into_iter().chain(patterns).collect(), ..pending }
            }
        };
        // Without a number, the connection is away, and all subscriptions end.
        if !pending.numbers.is_empty() {
            self.pending.push_back(pending);
        }
    }

    fn count_other_kind(&mut self, channel: &ByteString, token: u64) -> bool {
        self.connections.count(channel.as_bytes(), token, true);
        true
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.connections.poll_flush(cx)
    }

    fn lost(&self) -> u64 {
        self.counters.refused.load(Ordering::Relaxed) + self.counters.unconfirmed.load(Ordering::Relaxed)
    }
}

/// Forgets one subscription to a name; another one may be in effect, or on its way.
fn forget(names: &mut HashMap<ByteString, usize, RandomState>, name: &ByteString) {
    if let Some(count) = names.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            names.remove(name);
        }
    }
}
