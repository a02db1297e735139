//! Wanted channels and the connection that has each subscription, without I/O and time.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use bytestring::ByteString;
use foldhash::fast::RandomState;
use roomcast_node_adapter::PubSubEvent;

use super::slots::{SLOTS, slot_of};

/// Number of a master, never used again.
pub(super) type NodeId = u32;

/// Wanted channels and the state of their subscriptions.
///
/// A change of a channel queues it for its master, once; the command is chosen when the connection has room. So a
/// channel that is wanted and unwanted in turns costs at most one command for each time that the connection has room.
#[derive(Debug)]
pub(super) struct Interest {
    channels: HashMap<ByteString, Channel, RandomState>,
    owners: Vec<Option<NodeId>>,
    /// Slots without a master.
    unowned: usize,
    /// Channels of each slot.
    by_slot: Vec<Vec<ByteString>>,
    /// Channels to be compared with their subscription, by master.
    queues: HashMap<NodeId, VecDeque<ByteString>>,
    /// Commands without an answer.
    pending: HashMap<u64, Pending>,
    /// Pending commands that publications wait for.
    blocking: BTreeSet<u64>,
    /// Queued channels without a subscription of the driver.
    unwanted: usize,
    pub(super) events: VecDeque<PubSubEvent>,
    /// Channels that are subscribed again after a loss.
    restored: Vec<ByteString>,
    /// Numbers of subscriptions that are in effect.
    active: HashMap<NodeId, u64>,
    /// Subscriptions that ended although the channel was wanted.
    pub(super) lost: u64,
}

#[derive(Debug)]
struct Channel {
    slot: u16,
    /// Subscriptions of the driver.
    count: usize,
    state: State,
    /// Master in whose queue the channel is.
    queued: Option<NodeId>,
    /// Whether messages may have been lost since the subscription was in effect.
    has_gap: bool,
    /// Commands that wait for the subscription.
    waiters: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Off,
    Starting(NodeId),
    On(NodeId),
    Stopping(NodeId),
}

#[derive(Debug)]
struct Pending {
    channels: Vec<ByteString>,
    remaining: usize,
    is_refused: bool,
}

/// Commands for one connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// Channels of one slot in each part.
    pub(super) start: Vec<Vec<ByteString>>,
    pub(super) stop: Vec<Vec<ByteString>>,
}

impl Interest {
    pub(super) fn new() -> Self {
        Self {
            channels: HashMap::default(),
            owners: vec![None; usize::from(SLOTS)],
            unowned: usize::from(SLOTS),
            by_slot: vec![Vec::new(); usize::from(SLOTS)],
            queues: HashMap::new(),
            pending: HashMap::new(),
            blocking: BTreeSet::new(),
            unwanted: 0,
            events: VecDeque::new(),
            restored: Vec::new(),
            active: HashMap::new(),
            lost: 0,
        }
    }

    pub(super) fn owner(&self, slot: u16) -> Option<NodeId> {
        self.owners[usize::from(slot)]
    }

    pub(super) fn owners(&self) -> &[Option<NodeId>] {
        &self.owners
    }

    /// Returns the number of channels that are subscribed at a master.
    pub(super) fn active(&self, node: NodeId) -> u64 {
        self.active.get(&node).copied().unwrap_or_default()
    }

    /// Returns whether each slot has a master.
    pub(super) fn is_covered(&self) -> bool {
        self.unowned == 0
    }

    /// Returns whether each channel has the wanted subscription.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.queues.values().all(VecDeque::is_empty)
    }

    pub(super) fn has_work(&self, node: NodeId) -> bool {
        self.queues.get(&node).is_some_and(|queue| !queue.is_empty())
    }

    /// Returns the shared name of a channel that is subscribed at this master.
    pub(super) fn heard(&self, node: NodeId, name: &[u8]) -> Option<ByteString> {
        let (name, channel) = self.channels.get_key_value(std::str::from_utf8(name).ok()?)?;
        // A former master may still deliver what the present one delivers too.
        let is_heard = matches!(channel.state, State::On(on) | State::Starting(on) if on == node);
        (is_heard && channel.count > 0).then(|| name.clone())
    }

    /// Returns whether a publication after this command still has to wait for subscriptions before it.
    pub(super) fn blocks(&self, token: u64) -> bool {
        self.blocking.first().is_some_and(|first| *first <= token)
    }

    /// Begins subscriptions. Publications wait for them if the masters can be reached.
    pub(super) fn subscribe(&mut self, names: Vec<ByteString>, token: u64, is_up: impl Fn(NodeId) -> bool) {
        let (mut remaining, mut blocks) = (0, true);
        for name in &names {
            let channel = self.channels.entry(name.clone()).or_insert_with(|| {
                let slot = slot_of(name.as_bytes());
                self.by_slot[usize::from(slot)].push(name.clone());
                Channel {
                    slot,
                    count: 0,
                    state: State::Off,
                    queued: None,
                    has_gap: false,
                    waiters: Vec::new(),
                }
            });
            if channel.is_dead() {
                self.unwanted -= 1;
            }
            channel.count += 1;
            if !matches!(channel.state, State::On(_)) {
                channel.waiters.push(token);
                remaining += 1;
                blocks &= self.owners[usize::from(channel.slot)].is_some_and(&is_up);
                self.queue(name);
            }
        }
        if remaining == 0 {
            self.events.push_back(PubSubEvent::Done { token });
        } else {
            if blocks {
                self.blocking.insert(token);
            }
            self.pending.insert(token, Pending { channels: names, remaining, is_refused: false });
        }
    }

    /// Ends subscriptions. No message is reported afterwards, so the command is complete at once.
    pub(super) fn unsubscribe(&mut self, names: &[ByteString], token: u64) {
        names.iter().for_each(|name| self.release(name));
        self.events.push_back(PubSubEvent::Done { token });
    }

    fn release(&mut self, name: &ByteString) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        channel.count = channel.count.saturating_sub(1);
        if channel.count > 0 {
            return;
        }
        channel.has_gap = false;
        let waiters = std::mem::take(&mut channel.waiters);
        waiters.into_iter().for_each(|token| self.settle(token, false));
        self.queue(name);
        self.tidy(name);
    }

    /// Forgets a channel that is not wanted and not subscribed, unless it is queued.
    fn tidy(&mut self, name: &str) {
        let Some(channel) = self.channels.get(name) else { return };
        if channel.count > 0 || channel.state != State::Off {
            return;
        }
        if channel.queued.is_none() {
            self.remove(name);
            return;
        }
        self.unwanted += 1;
        // While a master is away, its queue is not emptied.
        if self.unwanted > MAX_SURPLUS && self.unwanted > self.channels.len() / 2 {
            self.unwanted = 0;
            let dead = self.channels.iter().filter(|(_, channel)| channel.is_dead());
            let dead: Vec<_> = dead.map(|(name, _)| name.clone()).collect();
            dead.iter().for_each(|name| self.remove(name));
            self.queues.values_mut().for_each(|queue| queue.retain(|name| self.channels.contains_key(name)));
        }
    }

    fn remove(&mut self, name: &str) {
        let Some(channel) = self.channels.remove(name) else { return };
        let names = &mut self.by_slot[usize::from(channel.slot)];
        if let Some(index) = names.iter().position(|other| other == name) {
            names.swap_remove(index);
        }
    }

    /// Queues a channel for the master that has to change its subscription.
    fn queue(&mut self, name: &ByteString) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        let node = match channel.state {
            State::On(node) => Some(node),
            State::Off if channel.count == 0 => None,
            State::Off => self.owners[usize::from(channel.slot)],
            // The answer queues it.
            State::Starting(_) | State::Stopping(_) => return,
        };
        let Some(node) = node.filter(|node| channel.queued != Some(*node)) else { return };
        channel.queued = Some(node);
        let queue = self.queues.entry(node).or_default();
        queue.push_back(name.clone());
        // A channel that went to another master and came back is there twice.
        if queue.len() > 2 * self.channels.len() + MAX_SURPLUS {
            let mut found = HashSet::new();
            let channels = &self.channels;
            queue.retain(|name| {
                let is_here = channels.get(name).is_some_and(|channel| channel.queued == Some(node));
                is_here && found.insert(name.clone())
            });
        }
    }

    /// Returns the next commands for a connection that is established.
    pub(super) fn take(&mut self, node: NodeId, max: usize) -> Batch {
        let (mut start, mut stop) = (Vec::new(), Vec::new());
        for _ in 0..max {
            let Some(name) = self.queues.get_mut(&node).and_then(VecDeque::pop_front) else { break };
            let Some(channel) = self.channels.get_mut(&name) else { continue };
            if channel.queued != Some(node) {
                continue;
            }
            channel.queued = None;
            let owner = self.owners[usize::from(channel.slot)];
            match channel.state {
                State::Off if channel.count > 0 && owner == Some(node) => {
                    channel.state = State::Starting(node);
                    start.push((channel.slot, name));
                }
                State::On(on) if on == node && channel.count == 0 => {
                    channel.state = State::Stopping(node);
                    self.active.entry(node).and_modify(|count| *count -= 1);
                    stop.push((channel.slot, name));
                }
                // It waits for another master.
                State::Off if channel.count > 0 => self.queue(&name),
                State::Off => {
                    self.unwanted = self.unwanted.saturating_sub(1);
                    self.tidy(&name);
                }
                _ => {}
            }
        }
        Batch { start: by_slot(start), stop: by_slot(stop) }
    }

    /// Notes that a subscription is in effect.
    pub(super) fn confirm(&mut self, node: NodeId, name: &str) {
        let Some((name, _)) = self.channels.get_key_value(name) else { return };
        let name = name.clone();
        let Some(channel) = self.channels.get_mut(&name) else { return };
        if channel.state != State::Starting(node) {
            return;
        }
        channel.state = State::On(node);
        *self.active.entry(node).or_default() += 1;
        if std::mem::take(&mut channel.has_gap) {
            self.restored.push(name.clone());
        }
        let is_wanted = channel.count > 0;
        let waiters = std::mem::take(&mut channel.waiters);
        waiters.into_iter().for_each(|token| self.settle(token, false));
        if !is_wanted {
            self.queue(&name);
        }
    }

    /// Notes that the commands to end subscriptions were executed, or refused since the slot has moved.
    pub(super) fn stopped(&mut self, node: NodeId, names: &[ByteString]) {
        for name in names {
            if let Some(channel) = self.channels.get_mut(name)
                && channel.state == State::Stopping(node)
            {
                channel.state = State::Off;
                self.queue(name);
                self.tidy(name);
            }
        }
    }

    /// Notes that the server ended a subscription; returns whether that was not asked for.
    pub(super) fn removed(&mut self, node: NodeId, name: &str) -> bool {
        let Some((name, channel)) = self.channels.get_key_value(name) else { return false };
        let is_lost = matches!(channel.state, State::On(on) | State::Starting(on) if on == node);
        let name = name.clone();
        if is_lost {
            self.blocking.clear();
            self.lose(&name);
        }
        is_lost
    }

    /// Notes that the server refused to subscribe; channels with `retry` stay wanted, and are not queued.
    pub(super) fn refused(&mut self, node: NodeId, names: &[ByteString], retry: bool) {
        for name in names {
            let Some(channel) = self.channels.get_mut(name) else { continue };
            if channel.state != State::Starting(node) {
                continue;
            }
            channel.state = State::Off;
            if retry {
                self.blocking.clear();
            } else {
                let waiters = std::mem::take(&mut channel.waiters);
                waiters.into_iter().for_each(|token| self.settle(token, true));
            }
            self.tidy(name);
        }
    }

    /// Queues channels that were refused.
    pub(super) fn retry(&mut self, names: &[ByteString]) {
        names.iter().for_each(|name| self.queue(name));
    }

    /// Sets the masters of slots; subscriptions at another one end.
    pub(super) fn assign(&mut self, changes: &[(u16, Option<NodeId>)]) {
        for (slot, owner) in changes {
            let former = std::mem::replace(&mut self.owners[usize::from(*slot)], *owner);
            self.unowned = self.unowned + usize::from(former.is_some()) - usize::from(owner.is_some());
        }
        // Commands and answers of a former master are ignored from now on.
        for (slot, _) in changes {
            for name in self.by_slot[usize::from(*slot)].clone() {
                self.lose(&name);
            }
        }
    }

    /// Notes that a connection was lost with all its subscriptions.
    pub(super) fn disconnected(&mut self, node: NodeId) {
        self.queues.remove(&node);
        self.blocking.clear();
        let mut concerned = Vec::new();
        for (name, channel) in &mut self.channels {
            if channel.queued == Some(node) {
                self.unwanted -= usize::from(channel.is_dead());
                channel.queued = None;
                concerned.push(name.clone());
            } else if channel.node() == Some(node) {
                concerned.push(name.clone());
            }
        }
        concerned.iter().for_each(|name| self.lose(name));
        self.active.remove(&node);
    }

    /// Notes that a channel has no subscription, and queues it.
    fn lose(&mut self, name: &ByteString) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        if channel.is_dead() {
            return;
        }
        if let State::On(node) = channel.state {
            self.active.entry(node).and_modify(|count| *count -= 1);
            if channel.count > 0 {
                channel.has_gap = true;
                self.lost += 1;
            }
        }
        channel.state = State::Off;
        self.queue(name);
        self.tidy(name);
    }

    fn settle(&mut self, token: u64, is_refused: bool) {
        let Some(pending) = self.pending.get_mut(&token) else { return };
        pending.is_refused |= is_refused;
        pending.remaining -= 1;
        if pending.remaining > 0 {
            return;
        }
        let Some(pending) = self.pending.remove(&token) else { return };
        self.blocking.remove(&token);
        if pending.is_refused {
            pending.channels.iter().for_each(|name| self.release(name));
            self.events.push_back(PubSubEvent::Refused { token });
        } else {
            self.events.push_back(PubSubEvent::Done { token });
        }
    }

    /// Reports the channels that are subscribed again after a loss.
    pub(super) fn report_restored(&mut self) {
        if !self.restored.is_empty() {
            let subscriptions = std::mem::take(&mut self.restored);
            self.events.push_back(PubSubEvent::Missed { subscriptions });
        }
    }
}

impl Channel {
    /// Returns whether only a queue has the channel.
    fn is_dead(&self) -> bool {
        self.count == 0 && self.state == State::Off && self.queued.is_some()
    }

    fn node(&self) -> Option<NodeId> {
        match self.state {
            State::Off => None,
            State::Starting(node) | State::On(node) | State::Stopping(node) => Some(node),
        }
    }
}

/// Splits channels by their slots, in parts of a limited size.
fn by_slot(mut channels: Vec<(u16, ByteString)>) -> Vec<Vec<ByteString>> {
    channels.sort_by_key(|(slot, _)| *slot);
    let parts = channels.chunk_by(|one, other| one.0 == other.0);
    parts
        .flat_map(|part| part.chunks(MAX_NAMES))
        .map(|part| part.iter().map(|(_, name)| name.clone()).collect())
        .collect()
}

/// Channels of one command, at most.
const MAX_NAMES: usize = 1000;
/// Surplus channels in the queues of masters that are away, at most, unless there are as many others.
const MAX_SURPLUS: usize = 1000;

#[cfg(test)]
mod tests;
