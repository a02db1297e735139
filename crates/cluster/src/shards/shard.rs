//! One server: its connection, and the commands that wait for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::metrics::ServerCounters;
use super::note::Header;
use super::servers::ServerId;
use crate::{Backplane, BackplaneCommand, Channel};

/// Connection to one server.
#[derive(Debug)]
pub(super) struct Shard<B> {
    pub(super) id: ServerId,
    pub(super) engine: B,
    /// Messages of the other nodes arrive: the channel of all nodes is subscribed.
    pub(super) is_up: bool,
    /// The engine takes one command.
    is_ready: bool,
    to_subscribe: BTreeSet<Channel>,
    to_unsubscribe: BTreeSet<Channel>,
    /// Requested channels by number of the command, and time.
    requested: BTreeMap<Channel, (u64, u64)>,
    queue: VecDeque<(Channel, Bytes)>,
    pub(super) counters: Arc<ServerCounters>,
}

impl<B: Backplane> Shard<B> {
    pub(super) fn new(id: ServerId, engine: B, counters: Arc<ServerCounters>) -> Self {
        Self {
            id,
            engine,
            is_up: false,
            is_ready: false,
            to_subscribe: BTreeSet::new(),
            to_unsubscribe: BTreeSet::new(),
            requested: BTreeMap::new(),
            queue: VecDeque::new(),
            counters,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Returns whether its queue is full while it works.
    pub(super) fn is_congested(&self) -> bool {
        self.is_up && self.counters.queue_bytes() >= QUEUE_BYTES
    }

    /// Passes on waiting commands as far as the engine takes them. Subscriptions come first.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>, last_command: &mut u64, tick: u64) {
        loop {
            self.is_ready = self.engine.poll_ready(cx).is_ready();
            if !self.is_ready {
                return;
            }
            let command = if !self.to_unsubscribe.is_empty() {
                BackplaneCommand::Unsubscribe { channels: take(&mut self.to_unsubscribe) }
            } else if !self.to_subscribe.is_empty() {
                *last_command += 1;
                let channels = take(&mut self.to_subscribe);
                let requested = channels.iter().cloned().map(|channel| (channel, (*last_command, tick)));
                self.requested.extend(requested);
                BackplaneCommand::Subscribe { channels, token: *last_command }
            } else if let Some((channel, payload)) = self.queue.pop_front() {
                self.counters.unqueue(payload.len());
                self.counters.add_published();
                BackplaneCommand::Publish { channel, payload }
            } else {
                return;
            };
            self.is_ready = false;
            self.engine.send(command);
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_up {
            return Poll::Ready(());
        }
        if self.queue.is_empty() { self.engine.poll_flush(cx) } else { Poll::Pending }
    }

    /// Queues a message. While the server is lost, the oldest ones are dropped above the limit.
    pub(super) fn publish(&mut self, channel: Channel, payload: Bytes) {
        let has_turn =
            self.queue.is_empty() && self.to_subscribe.is_empty() && self.to_unsubscribe.is_empty();
        if has_turn && std::mem::take(&mut self.is_ready) {
            self.counters.add_published();
            self.engine.send(BackplaneCommand::Publish { channel, payload });
            return;
        }
        self.counters.queue(payload.len());
        self.queue.push_back((channel, payload));
        while !self.is_up && self.counters.queue_bytes() > QUEUE_BYTES {
            let Some((_, dropped)) = self.queue.pop_front() else { return };
            self.counters.unqueue(dropped.len());
            self.count_dropped(&dropped);
        }
    }

    /// Counts the publications in a message that is not sent.
    pub(super) fn count_dropped(&self, payload: &Bytes) {
        self.counters.add_dropped(Header::read(payload).map_or(1, |header| header.frames));
    }

    /// Takes the messages that were not sent.
    pub(super) fn take_queue(&mut self) -> VecDeque<(Channel, Bytes)> {
        self.queue.iter().for_each(|(_, payload)| self.counters.unqueue(payload.len()));
        std::mem::take(&mut self.queue)
    }

    pub(super) fn subscribe(&mut self, channel: &Channel) {
        self.to_unsubscribe.remove(channel);
        self.to_subscribe.insert(channel.clone());
    }

    /// Unsubscribes a channel, whether its subscription was confirmed, requested or neither.
    pub(super) fn unsubscribe(&mut self, channel: &Channel, is_confirmed: bool) {
        self.to_subscribe.remove(channel);
        if self.requested.remove(channel).is_some() || is_confirmed {
            self.to_unsubscribe.insert(channel.clone());
        }
    }

    /// Returns whether a confirmation is that of a channel's last request.
    pub(super) fn confirm(&mut self, channel: &Channel, command: u64) -> bool {
        let is_last = self.requested.get(channel).is_some_and(|(last, _)| *last <= command);
        if is_last {
            self.requested.remove(channel);
        }
        is_last
    }

    /// Requests the subscriptions again that were not confirmed for two heartbeats.
    pub(super) fn retry(&mut self, tick: u64) {
        let late: Vec<_> = self
            .requested
            .iter()
            .filter(|(_, (_, at))| at + 2 <= tick)
            .map(|(channel, _)| channel.clone())
            .collect();
        self.to_subscribe.extend(late);
    }

    /// Forgets what the server no longer knows after the loss of all subscriptions.
    pub(super) fn lose_all(&mut self) {
        self.is_up = false;
        self.is_ready = false;
        self.to_unsubscribe.clear();
        self.to_subscribe.extend(std::mem::take(&mut self.requested).into_keys());
    }
}

/// Takes the channels of one command.
fn take(channels: &mut BTreeSet<Channel>) -> Vec<Channel> {
    let mut taken = Vec::with_capacity(channels.len().min(BATCH));
    while taken.len() < BATCH {
        let Some(channel) = channels.pop_first() else { break };
        taken.push(channel);
    }
    taken
}

/// Bytes of messages that wait for one server.
pub(super) const QUEUE_BYTES: usize = 8 << 20;
/// Channels in one command.
const BATCH: usize = 1000;
