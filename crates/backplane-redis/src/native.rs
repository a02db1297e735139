//! Native mode: the channels and messages of Roomcast's own clusters.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::task::{Context, Poll};

use foldhash::fast::RandomState;
use roomcast_cluster::{Backplane, BackplaneCommand, BackplaneEvent, Channel};

use crate::connection::{Pair, PairEvent, Verb};
use crate::metrics::Counters;
use crate::{RedisConfig, RedisMetrics};

/// Message engine of a cluster of Roomcast nodes on Redis pub/sub.
///
/// See the [crate documentation](crate) for guarantees and limits. It connects when it is polled first. It spawns no
/// task, and its polls need a tokio runtime with I/O and time.
#[derive(Debug)]
pub struct RedisBackplane {
    connections: Pair<Channel>,
    channels: Channels,
    /// Subscribe commands without a confirmation.
    pending: VecDeque<Pending>,
    counters: Counters,
    name: String,
    subscribe: Verb,
    unsubscribe: Verb,
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
        Self::with_counters(config, Counters::default())
    }

    pub(crate) fn with_counters(config: RedisConfig, counters: Counters) -> Self {
        let prefix = config.prefix.clone();
        let (subscribe, unsubscribe) = match config.sharded_channels {
            true => (Verb::ShardedSubscribe, Verb::ShardedUnsubscribe),
            false => (Verb::Subscribe, Verb::Unsubscribe),
        };
        Self {
            connections: Pair::new(Arc::new(config), &counters),
            channels: Channels { prefix, by_name: HashMap::default() },
            pending: VecDeque::new(),
            counters,
            name: String::new(),
            subscribe,
            unsubscribe,
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

    fn handle(&mut self, event: PairEvent<Channel>) -> Option<BackplaneEvent> {
        match event {
            PairEvent::Message(channel, payload) => Some(BackplaneEvent::Message { channel, payload }),
            PairEvent::Oversized(channel) => Some(BackplaneEvent::Missed { channels: vec![channel] }),
            PairEvent::Done(number) => {
                let command = self.answered(number)?;
                Some(BackplaneEvent::Subscribed { channels: command.channels, token: command.token })
            }
            PairEvent::Refused(number) => {
                // Without a confirmation, the node subscribes again.
                self.answered(number);
                None
            }
            PairEvent::Unsubscribed => {
                self.channels.by_name.clear();
                self.pending.clear();
                Some(BackplaneEvent::Unsubscribed { channels: Vec::new() })
            }
            PairEvent::Connected | PairEvent::Disconnected | PairEvent::Counted(..) => None,
        }
    }

    /// Removes the first pending command if it has this number.
    fn answered(&mut self, number: u64) -> Option<Pending> {
        self.pending.front().filter(|command| command.number == number)?;
        self.pending.pop_front()
    }
}

impl Channels {
    fn name(&self, channel: &Channel) -> Box<[u8]> {
        format!("{}{channel}", self.prefix).into_bytes().into()
    }
}

impl Backplane for RedisBackplane {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.connections.poll_ready(cx)
    }

    fn send(&mut self, command: BackplaneCommand) {
        match command {
            BackplaneCommand::Publish { channel, payload } => {
                self.name.clear();
                self.name.push_str(&self.channels.prefix);
                // Formatting to a string cannot fail.
                let _ = write!(self.name, "{channel}");
                self.connections.publish(self.name.as_bytes(), &payload);
            }
            BackplaneCommand::Subscribe { channels, token } => {
                let names: Vec<_> = channels.iter().map(|channel| self.channels.name(channel)).collect();
                let iter = names.iter().map(|name| &**name);
                let Some(number) = self.connections.command(self.subscribe, iter) else { return };
                self.channels.by_name.extend(names.into_iter().zip(channels.iter().cloned()));
                self.pending.push_back(Pending { number, channels, token });
            }
            BackplaneCommand::Unsubscribe { channels } => {
                let names: Vec<_> = channels.iter().map(|channel| self.channels.name(channel)).collect();
                let iter = names.iter().map(|name| &**name);
                self.connections.command(self.unsubscribe, iter);
                names.iter().for_each(|name| _ = self.channels.by_name.remove(name));
            }
            other => tracing::warn!(command = ?other, "unknown command to the message engine"),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.connections.poll_flush(cx)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<BackplaneEvent> {
        loop {
            let by_name = &self.channels.by_name;
            let mut resolve = |_: Option<&[u8]>, name: &[u8]| by_name.get(name).cloned();
            let event = std::task::ready!(self.connections.poll_event(cx, &mut resolve));
            if let Some(event) = self.handle(event) {
                return Poll::Ready(event);
            }
        }
    }
}
