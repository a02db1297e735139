//! Channels that a node wants to hear, and their subscriptions.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::ordered::{Expectation, Ordered, Ready};
use super::outputs::Outputs;
use super::streams::InStreams;
use crate::envelope::{Frame, Position, Tail};
use crate::mutation::Mutation;
use crate::{BackplaneCommand, Channel, ClusterAction, ClusterConfig, JoinResult, JoinTicket, NodeRef};
use foldhash::fast::RandomState;

/// Wanted channels, their subscriptions, pending joins, and the streams that arrive on them.
#[derive(Debug)]
pub(super) struct Interest {
    config: Arc<ClusterConfig>,
    entries: HashMap<Channel, Entry, RandomState>,
    /// Channels by the digest that heartbeats name them with.
    digests: HashMap<u64, Channel>,
    streams: InStreams,
    /// Channels to subscribe to with the next command; may contain some that were left again.
    to_subscribe: Vec<Channel>,
    to_unsubscribe: Vec<Channel>,
    /// Time of the next commands.
    flush_at: Option<Instant>,
    /// Unconfirmed subscriptions by time of the next attempt, in order.
    retries: VecDeque<(Instant, Channel, u64)>,
    /// Channels without members by time of their unsubscription, in order.
    lingering: VecDeque<(Instant, Channel)>,
    /// Pending joins by deadline, in order.
    joins: VecDeque<(Instant, Channel, JoinTicket)>,
    last_token: u64,
    degraded: usize,
    /// Time of the first confirmation of a channel.
    heard_since: Option<Instant>,
    /// Time since which heartbeats of other nodes arrive.
    nodes_since: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    /// Number of rooms with members, or 1 for the namespace or a channel of the node itself.
    rooms: usize,
    subscription: Subscription,
    /// A command for it was queued, so that it has to be unsubscribed.
    is_requested: bool,
    /// Token of the first command since the channel was unsubscribed last; earlier confirmations are void.
    first_token: u64,
    /// Time of the unsubscription, if there are no rooms.
    lingers_until: Option<Instant>,
    joins: Vec<JoinTicket>,
    /// A join timed out, and the subscription has not been confirmed since.
    degraded: bool,
    /// The subscription was confirmed once, and lost.
    lost: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subscription {
    /// To be requested with the next command.
    Queued,
    Requested {
        token: u64,
    },
    Confirmed {
        at: Instant,
    },
}

impl Entry {
    fn confirmed_at(&self) -> Option<Instant> {
        match self.subscription {
            Subscription::Confirmed { at } => Some(at),
            _ => None,
        }
    }
}

impl Interest {
    pub(super) fn new(config: Arc<ClusterConfig>) -> Self {
        Self {
            streams: InStreams::new(config.clone()),
            config,
            entries: HashMap::default(),
            digests: HashMap::new(),
            to_subscribe: Vec::new(),
            to_unsubscribe: Vec::new(),
            flush_at: None,
            retries: VecDeque::new(),
            lingering: VecDeque::new(),
            joins: VecDeque::new(),
            last_token: 0,
            degraded: 0,
            heard_since: None,
            nodes_since: None,
        }
    }

    /// Returns the time of the first confirmed subscription; no earlier message can be missed.
    pub(super) fn heard_since(&self) -> Option<Instant> {
        self.heard_since
    }

    /// Returns the time since which heartbeats of other nodes arrive, if they do.
    pub(super) fn nodes_since(&self) -> Option<Instant> {
        self.nodes_since
    }

    pub(super) fn channels(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn degraded(&self) -> usize {
        self.degraded
    }

    pub(super) fn reassembly_bytes(&self) -> usize {
        self.streams.bytes()
    }

    /// Returns whether local members or the node itself want the messages of a channel.
    pub(super) fn is_wanted(&self, channel: &Channel) -> bool {
        self.entries.get(channel).is_some_and(|entry| entry.rooms > 0)
    }

    /// Adds a room of a channel, or a channel of the node itself.
    pub(super) fn add(&mut self, channel: Channel, now: Instant, out: &mut Outputs) {
        if let Some(entry) = self.entries.get_mut(&channel) {
            entry.rooms += 1;
            if entry.rooms == 1 {
                self.streams.begin_order(&channel);
            }
            if !self.config.has(Mutation::UnsubscribeRejoined) {
                entry.lingers_until = None;
            }
            if entry.subscription == Subscription::Queued {
                // It may have been skipped while it had no rooms.
                self.to_subscribe.push(channel);
                self.flush_soon(now);
            }
            return;
        }
        let entry = Entry {
            rooms: 1,
            subscription: Subscription::Queued,
            is_requested: false,
            first_token: self.last_token + 1,
            lingers_until: None,
            joins: Vec::new(),
            degraded: false,
            lost: false,
        };
        self.digests.insert(channel.digest(), channel.clone());
        self.entries.insert(channel.clone(), entry);
        self.to_subscribe.push(channel);
        self.flush_soon(now);
        if self.config.has(Mutation::SubscribeEachJoin) {
            self.flush(now, out);
        }
    }

    /// Removes a room of a channel.
    pub(super) fn remove(&mut self, channel: &Channel, now: Instant, out: &mut Outputs) {
        let Some(entry) = self.entries.get_mut(channel) else { return };
        entry.rooms = entry.rooms.saturating_sub(1);
        if entry.rooms > 0 || self.config.has(Mutation::NeverUnsubscribe) {
            return;
        }
        let left = std::mem::take(&mut entry.joins);
        left.into_iter().for_each(|ticket| heard(ticket, JoinResult::Left, out));
        if std::mem::take(&mut entry.degraded) {
            self.degraded -= 1;
        }
        if !entry.is_requested {
            self.forget_channel(channel);
            return;
        }
        let until = now + self.config.unsubscribe_delay;
        entry.lingers_until = Some(until);
        self.lingering.push_back((until, channel.clone()));
    }

    /// Registers a pending join, which completes with an action.
    pub(super) fn await_join(
        &mut self,
        channel: &Channel,
        ticket: JoinTicket,
        now: Instant,
        out: &mut Outputs,
    ) {
        match self.entries.get_mut(channel) {
            Some(entry) if entry.rooms > 0 => {
                if entry.confirmed_at().is_some() || self.config.has(Mutation::ConfirmJoinsEarly) {
                    return heard(ticket, JoinResult::Confirmed, out);
                }
                entry.joins.push(ticket);
                if !self.config.has(Mutation::JoinsWaitForever) {
                    self.joins.push_back((now + self.config.join_timeout, channel.clone(), ticket));
                }
            }
            _ => heard(ticket, JoinResult::Left, out),
        }
    }

    /// Handles confirmed subscriptions.
    pub(super) fn confirm(&mut self, channels: &[Channel], token: u64, now: Instant, out: &mut Outputs) {
        for channel in channels {
            let Some(entry) = self.entries.get_mut(channel) else { continue };
            // It may be queued again, since it was not confirmed in time.
            let is_pending = entry.is_requested && entry.confirmed_at().is_none();
            if !is_pending || token < entry.first_token {
                continue;
            }
            entry.subscription = Subscription::Confirmed { at: now };
            self.heard_since.get_or_insert(now);
            if *channel == Channel::Nodes {
                self.nodes_since = Some(now);
            }
            let joins = std::mem::take(&mut entry.joins);
            joins.into_iter().for_each(|ticket| heard(ticket, JoinResult::Confirmed, out));
            let was_deaf = std::mem::take(&mut entry.lost);
            if !was_deaf {
                self.streams.begin_order(channel);
            }
            let was_degraded = std::mem::take(&mut entry.degraded);
            if was_degraded {
                self.degraded -= 1;
            }
            if (was_deaf || was_degraded) && !self.config.has(Mutation::HideLostSubscriptions) {
                out.gap(Some(channel.clone()), None, None);
            }
        }
    }

    /// Handles lost subscriptions; all if `channels` is empty.
    pub(super) fn lose(&mut self, channels: &[Channel], now: Instant, out: &mut Outputs) {
        let mut lost: Vec<Channel> =
            if channels.is_empty() { self.entries.keys().cloned().collect() } else { channels.to_vec() };
        // The map has no order, and the outputs must not depend on it.
        lost.sort_unstable();
        let hides = self.config.has(Mutation::HideLostSubscriptions);
        if channels.is_empty() && !hides {
            out.gap(None, None, None);
        }
        for channel in lost {
            let Some(entry) = self.entries.get_mut(&channel) else { continue };
            if entry.rooms == 0 {
                // A command may still be queued, so it is taken back all the same.
                self.forget_channel(&channel);
                self.to_unsubscribe.push(channel);
                continue;
            }
            entry.lost |= entry.confirmed_at().is_some();
            if channel == Channel::Nodes {
                self.nodes_since = None;
            }
            if entry.subscription == Subscription::Queued || self.config.has(Mutation::NeverResubscribe) {
                continue;
            }
            entry.subscription = Subscription::Queued;
            // A confirmation that was under way is void.
            entry.first_token = self.last_token + 1;
            if !channels.is_empty() && !hides {
                out.gap(Some(channel.clone()), None, None);
            }
            self.to_subscribe.push(channel);
        }
        self.flush_soon(now);
    }

    /// Takes a frame of another node; returns it if it is to be handled, after all parts of a split one.
    pub(super) fn receive(
        &mut self,
        channel: &Channel,
        from: NodeRef,
        position: Position,
        frame: Frame,
        now: Instant,
        out: &mut Outputs,
    ) -> Option<Frame> {
        let Some(entry) = self.entries.get(channel) else {
            out.metrics.unwanted += 1;
            return None;
        };
        self.streams.receive(channel, entry.confirmed_at(), from, position, frame, now, out)
    }

    /// Takes a publication that is next in its stream; it becomes [ready](Self::pop_ready) once its order is known.
    pub(super) fn order(
        &mut self,
        channel: &Channel,
        from: NodeRef,
        ordered: Ordered,
        now: Instant,
        out: &mut Outputs,
    ) {
        let expect = |channel: &Channel| expectation(&self.entries, channel);
        self.streams.order(channel, from, ordered, &expect, now, out);
    }

    /// Returns the next publication to deliver.
    pub(super) fn pop_ready(&mut self) -> Option<Ready> {
        self.streams.ready.pop_front()
    }

    /// Compares the end of a stream, as listed by its publisher, with the frames that arrived.
    pub(super) fn compare_tail(&mut self, from: NodeRef, tail: Tail, now: Instant) {
        let Some(channel) = self.digests.get(&tail.digest) else { return };
        let Some(entry) = self.entries.get(channel).filter(|entry| entry.rooms > 0) else { return };
        self.streams.compare_tail(channel, entry.confirmed_at(), from, tail, now);
    }

    /// Forgets the streams of a node that is no longer in the cluster, and reports the missing frames.
    pub(super) fn forget_node(&mut self, node: NodeRef, out: &mut Outputs) {
        self.streams.forget_node(node, out);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outputs) {
        while self.joins.front().is_some_and(|(at, ..)| *at <= now)
            && let Some((_, channel, ticket)) = self.joins.pop_front()
        {
            let Some(entry) = self.entries.get_mut(&channel) else { continue };
            let Some(index) = entry.joins.iter().position(|pending| *pending == ticket) else { continue };
            entry.joins.remove(index);
            if !std::mem::replace(&mut entry.degraded, true) {
                self.degraded += 1;
            }
            out.metrics.degraded_joins += 1;
            heard(ticket, JoinResult::Degraded, out);
        }
        while self.retries.front().is_some_and(|(at, ..)| *at <= now)
            && let Some((_, channel, token)) = self.retries.pop_front()
        {
            let Some(entry) = self.entries.get_mut(&channel) else { continue };
            if entry.subscription != (Subscription::Requested { token }) {
                continue;
            }
            entry.subscription = Subscription::Queued;
            out.metrics.subscribe_retries += 1;
            self.to_subscribe.push(channel);
            self.flush_soon(now);
        }
        while self.lingering.front().is_some_and(|(at, _)| *at <= now)
            && let Some((until, channel)) = self.lingering.pop_front()
        {
            let is_due = |entry: &Entry| entry.lingers_until == Some(until);
            if self.entries.get(&channel).is_some_and(is_due) {
                self.forget_channel(&channel);
                self.to_unsubscribe.push(channel);
                self.flush_soon(now);
            }
        }
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush_at = None;
            self.flush(now, out);
        }
        self.streams.handle_timeout(now, out);
        self.streams.end_waits(&|channel| expectation(&self.entries, channel), now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let joins = self.joins.front().map(|(at, ..)| *at);
        let retries = self.retries.front().map(|(at, ..)| *at);
        let lingering = self.lingering.front().map(|(at, _)| *at);
        [joins, retries, lingering, self.flush_at, self.streams.poll_timeout()].into_iter().flatten().min()
    }

    /// Unsubscribes from all channels, and ends pending joins.
    pub(super) fn close(&mut self, out: &mut Outputs) {
        let mut channels: Vec<_> = self.entries.keys().cloned().collect();
        channels.sort_unstable();
        for channel in &channels {
            let joins = self.entries.remove(channel).map(|entry| entry.joins).unwrap_or_default();
            joins.into_iter().for_each(|ticket| heard(ticket, JoinResult::Left, out));
        }
        *self = Self::new(self.config.clone());
        out.commands.push_back(BackplaneCommand::Unsubscribe { channels });
    }

    fn flush_soon(&mut self, now: Instant) {
        self.flush_at.get_or_insert(now + self.config.subscribe_delay);
    }

    /// Queues the commands for all channels that have changed since the last ones.
    ///
    /// The unsubscriptions come first: a channel may have been joined again since.
    fn flush(&mut self, now: Instant, out: &mut Outputs) {
        let unsubscribed = std::mem::take(&mut self.to_unsubscribe);
        let late = self.config.has(Mutation::UnsubscribeLate);
        if !late {
            self.unsubscribe(&unsubscribed, out);
        }
        let mut channels = Vec::new();
        let token = self.last_token + 1;
        for channel in std::mem::take(&mut self.to_subscribe) {
            // It may have been left, or be in the list twice.
            let Some(entry) = self.entries.get_mut(&channel) else { continue };
            if entry.subscription != Subscription::Queued || entry.rooms == 0 {
                continue;
            }
            entry.is_requested = true;
            entry.subscription = Subscription::Requested { token };
            if !self.config.has(Mutation::NeverRetrySubscribe) {
                self.retries.push_back((now + self.config.subscribe_retry, channel.clone(), token));
            }
            channels.push(channel);
        }
        if !channels.is_empty() {
            self.last_token = token;
        }
        for batch in channels.chunks(self.config.subscribe_batch.max(1)) {
            out.metrics.subscribe_commands += 1;
            out.commands.push_back(BackplaneCommand::Subscribe { channels: batch.to_vec(), token });
        }
        if late {
            self.unsubscribe(&unsubscribed, out);
        }
    }

    fn unsubscribe(&self, channels: &[Channel], out: &mut Outputs) {
        for batch in channels.chunks(self.config.subscribe_batch.max(1)) {
            out.metrics.subscribe_commands += 1;
            out.commands.push_back(BackplaneCommand::Unsubscribe { channels: batch.to_vec() });
        }
    }

    fn forget_channel(&mut self, channel: &Channel) {
        self.entries.remove(channel);
        self.digests.remove(&channel.digest());
        self.streams.forget_channel(channel);
    }
}

/// Returns whether the copy of a publication on a channel is to be expected.
fn expectation(entries: &HashMap<Channel, Entry, RandomState>, channel: &Channel) -> Expectation {
    match entries.get(channel) {
        Some(entry) if entry.rooms == 0 => Expectation::None,
        Some(entry) if entry.confirmed_at().is_some() => Expectation::Awaited,
        Some(entry) if entry.lost => Expectation::Lost,
        Some(_) => Expectation::Possible,
        None => Expectation::None,
    }
}

fn heard(ticket: JoinTicket, outcome: JoinResult, out: &mut Outputs) {
    out.act(ClusterAction::Heard { ticket, outcome });
}
