//! Channels by name and by pattern: the engine of clusters of Node servers.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use bytestring::ByteString;
use foldhash::fast::RandomState;
use roomcast_node_adapter::{DroppedMessages, PubSub, PubSubCommand, PubSubEvent};

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
    recent: RecentNames,
    /// Commands without all their confirmations.
    pending: VecDeque<Pending>,
}

/// Subscription and channel of a message.
#[derive(Debug, Clone)]
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
            recent: RecentNames::default(),
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
        self.recent.clear();
        Some(if is_refused { PubSubEvent::Refused { token } } else { PubSubEvent::Done { token } })
    }

    fn handle(&mut self, event: PairEvent<Names>) -> Option<PubSubEvent> {
        match event {
            PairEvent::Connected => Some(PubSubEvent::Connected),
            PairEvent::Disconnected => Some(PubSubEvent::Disconnected),
            PairEvent::Unsubscribed => {
                self.names.clear();
                self.recent.clear();
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
            let (names, recent) = (&self.names, &mut self.recent);
            let mut resolve = |pattern: Option<&[u8]>, name: &[u8]| match pattern {
                Some(pattern) => recent.get(pattern, name, |pattern, name| {
                    let (subscription, _) = names.get_key_value(pattern)?;
                    Some(Names { subscription: subscription.clone(), channel: name.into() })
                }),
                None => {
                    let (name, _) = names.get_key_value(std::str::from_utf8(name).ok()?)?;
                    Some(Names { subscription: name.clone(), channel: name.clone() })
                }
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
                return self.publish(&channel, &payload);
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

    fn publish(&mut self, channel: &str, payload: &[u8]) {
        self.connections.publish(channel.as_bytes(), payload);
    }

    fn count_other_kind(&mut self, channel: &ByteString, token: u64) -> bool {
        self.connections.count(channel.as_bytes(), token, true);
        true
    }

    fn drop_own(&mut self, prefix: Bytes) {
        self.connections.messages().drop_own(prefix);
    }

    fn take_dropped(&mut self) -> DroppedMessages {
        self.connections.messages().take_own()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.connections.poll_flush(cx)
    }

    fn lost(&self) -> u64 {
        self.counters.refused.load(Ordering::Relaxed) + self.counters.unconfirmed.load(Ordering::Relaxed)
    }
}

/// Channels of messages by patterns, of which the next message often has the same.
///
/// An entry is a subscription that was in effect when it was added, so changes of subscriptions clear them.
#[derive(Debug, Default)]
struct RecentNames {
    /// Each channel has one place, by its hash; empty, or of a fixed length.
    places: Vec<Option<Names>>,
    hasher: RandomState,
}

impl RecentNames {
    /// Returns the names of a message; finds them by `find` if they are not among the recent ones.
    fn get(
        &mut self,
        pattern: &[u8],
        channel: &[u8],
        find: impl FnOnce(&str, &str) -> Option<Names>,
    ) -> Option<Names> {
        let is_same = |names: &Names| {
            names.channel.as_bytes()[..] == *channel && names.subscription.as_bytes()[..] == *pattern
        };
        let place = self.hasher.hash_one(channel) as usize % RECENT_CHANNELS;
        if let Some(Some(names)) = self.places.get(place)
            && is_same(names)
        {
            return Some(names.clone());
        }
        let names = find(std::str::from_utf8(pattern).ok()?, std::str::from_utf8(channel).ok()?)?;
        if channel.len() <= RECENT_BYTES {
            self.places.resize(RECENT_CHANNELS, None);
            self.places[place] = Some(names.clone());
        }
        Some(names)
    }

    fn clear(&mut self) {
        self.places.clear();
    }
}

/// Number of recent channels.
const RECENT_CHANNELS: usize = 256;
/// Longest name of a recent channel.
const RECENT_BYTES: usize = 256;

/// Forgets one subscription to a name; another one may be in effect, or on its way.
fn forget(names: &mut HashMap<ByteString, usize, RandomState>, name: &ByteString) {
    if let Some(count) = names.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            names.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_names_are_found_once() {
        let mut recent = RecentNames::default();
        let mut found = 0;
        let mut get = |recent: &mut RecentNames, pattern: &str, channel: &str| {
            let names = recent.get(pattern.as_bytes(), channel.as_bytes(), |pattern, channel| {
                found += 1;
                Some(Names { subscription: pattern.into(), channel: channel.into() })
            });
            let names = names.expect("found");
            assert_eq!((&*names.subscription, &*names.channel), (pattern, channel));
            found
        };
        assert_eq!(get(&mut recent, "a*", "ab"), 1);
        assert_eq!(get(&mut recent, "a*", "ab"), 1);
        // Another pattern with the same channel.
        assert_eq!(get(&mut recent, "*b", "ab"), 2);
        // More channels than places.
        for number in 0..4 * RECENT_CHANNELS {
            get(&mut recent, "a*", &format!("a{number}"));
        }
        let long = "a".repeat(RECENT_BYTES + 1);
        let before = get(&mut recent, "a*", &long);
        assert_eq!(get(&mut recent, "a*", &long), before + 1);
        recent.clear();
        assert!(recent.get(b"a*", b"ab", |_, _| None).is_none());
        assert!(recent.get(b"a*", b"\xff", |_, _| panic!("not UTF-8")).is_none());
    }
}
