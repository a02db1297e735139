//! Engine that is made of several.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::agreement::{Agreement, Listened, Step};
use super::control::{Control, Numbers};
use super::handover::Handover;
use super::interest::{Entry, Interest};
use super::metrics::{ServerCounters, add};
use super::note::{Header, Note};
use super::servers::{ServerId, ServerSet, is_control};
use super::shard::{QUEUE_BYTES, Shard};
use super::{MAX_SLOTS, Server, ServersError, Shards, Shared, check, lock};
use crate::{Backplane, BackplaneCommand, BackplaneEvent, Channel, NodeRef};

/// Engine that is made of several independent servers, among which it divides the channels.
///
/// Each channel of a namespace, room or node's socket ids is on one server, by rendezvous hashing of its name. The
/// channels of membership and requests are on all servers: their messages are sent to each, and the copies are
/// dropped. So two nodes know each other while they share one server.
///
/// # Loss of a server
///
/// The loss of a server affects its channels only. It is reported for these, as
/// [`Unsubscribed`](BackplaneEvent::Unsubscribed), and so is their return. Publications to it wait, up to 8 MiB; above
/// that the oldest are dropped and [counted](super::ShardsMetrics), and receivers report the gaps. The channels of a
/// server that does not return move to the others when it is removed.
///
/// # Changing the servers
///
/// [`Shards::set`] adds and removes servers at run time, node by node in any order. Only the channels of an added or
/// removed server move. Nodes announce in their heartbeats by which set of servers they publish, and to which they
/// listen:
///
/// 1. A node with a new set subscribes each channel on its server in both sets, and announces that it listens to both.
/// 2. A node publishes by the new set once all others have announced to listen to it. Before its first message on a
///    channel by the new server, it sends a mark by the old one. Receivers deliver messages by the new server after
///    that mark, so they keep their order, and none is lost.
/// 3. A node unsubscribes from the old set four heartbeats after no other publishes by it.
///
/// A change of all nodes thus takes about seven heartbeats. A node whose configuration is older or newer than that of
/// the others publishes by a set to which all listen. It needs connections to all servers of that set, so a node that
/// starts while others may still use a server that is being removed has that as a [retired](Server::retired) one.
/// Nodes that publish by unknown servers are counted as [strangers](super::ShardsMetrics::strangers), and losses of
/// their messages are reported. An added server that does not respond delays the change, without other effects. If a
/// mark is lost with its server, messages by the new one wait for three heartbeats.
///
/// A node that has just started cannot know the servers of the others. Its first publications wait for their
/// announcements, for three heartbeats at most.
///
/// A node whose engine is one server of the set, without shards, is understood, so that a cluster on one server can
/// get more.
///
/// # Flushing
///
/// [`poll_flush`](Backplane::poll_flush) does not wait for a lost server: publications that wait for it count as passed
/// on.
#[derive(Debug)]
pub struct ShardedBackplane<B> {
    shared: Arc<Shared<B>>,
    /// Servers by the number of their bit.
    shards: Vec<Option<Shard<B>>>,
    agreement: Agreement,
    /// Servers that are used only with nodes that publish by them.
    retired: ServerSet,
    interest: Interest,
    control: Control,
    handover: Handover,
    events: VecDeque<BackplaneEvent>,
    /// This node, and its last heartbeat.
    own: Option<(NodeRef, u64)>,
    /// Numbers of messages to all servers.
    numbers: Numbers,
    last_command: u64,
    /// Channels whose old way was ended since the last change of servers.
    marked: HashSet<Channel>,
    early: Option<Early>,
    /// Server whose events are polled first.
    next: usize,
    waker: Option<Waker>,
}

/// Publications of a node that does not know the servers of the others yet.
#[derive(Debug, Default)]
struct Early {
    queue: VecDeque<(Channel, Bytes)>,
    bytes: usize,
    /// Heartbeats at which a server was up, and another node heard.
    up_at: Option<u64>,
    heard_at: Option<u64>,
}

impl<B: Backplane> ShardedBackplane<B> {
    /// Creates an engine of these servers, and a handle to change them.
    ///
    /// # Errors
    /// Returns an error if there is no server or more than 16, or if two have the same name.
    pub fn new(servers: Vec<Server<B>>) -> Result<(Self, Shards<B>), ServersError> {
        check(&servers)?;
        let (goal, retired) = sets(&servers);
        let shared = Arc::new(Shared::default());
        let mut engine = Self {
            shared: shared.clone(),
            shards: Vec::new(),
            agreement: Agreement::new(goal),
            retired,
            interest: Interest::default(),
            control: Control::default(),
            handover: Handover::default(),
            events: VecDeque::new(),
            own: None,
            numbers: Numbers::default(),
            last_command: 0,
            marked: HashSet::new(),
            early: Some(Early::default()),
            next: 0,
            waker: None,
        };
        servers.into_iter().for_each(|server| engine.add_server(server));
        Ok((engine, Shards(shared)))
    }

    fn add_server(&mut self, server: Server<B>) {
        let id = ServerId::of(&server.name);
        let counters = Arc::new(ServerCounters::new(&server.name));
        lock(&self.shared.counters).push(counters.clone());
        let shard = Shard::new(id, (server.connect)(), counters);
        match self.shards.iter().position(Option::is_none) {
            Some(slot) => self.shards[slot] = Some(shard),
            None => self.shards.push(Some(shard)),
        }
    }

    /// Takes the servers of the last call of [`Shards::set`].
    fn take_servers(&mut self) {
        let Some(servers) = lock(&self.shared.servers).take() else { return };
        let is_new = |server: &&Server<B>| self.slot(ServerId::of(&server.name)).is_none();
        let new = servers.iter().filter(is_new).count();
        if self.shards.iter().flatten().count() + new > MAX_SLOTS {
            // Servers of earlier changes are still in use.
            lock(&self.shared.servers).get_or_insert(servers);
            return;
        }
        self.shared.is_changed.store(false, Relaxed);
        (self.agreement.goal, self.retired) = sets(&servers);
        for server in servers {
            if self.slot(ServerId::of(&server.name)).is_none() {
                self.add_server(server);
            }
        }
        self.update();
        self.remove_unused();
    }

    fn slot(&self, id: ServerId) -> Option<usize> {
        self.shards.iter().position(|shard| shard.as_ref().is_some_and(|shard| shard.id == id))
    }

    fn shard(&mut self, slot: usize) -> Option<&mut Shard<B>> {
        self.shards.get_mut(slot)?.as_mut()
    }

    fn home(&self, set: &ServerSet, digest: u64) -> Option<usize> {
        self.slot(set.home(digest)?)
    }

    /// Returns the servers whose messages arrive.
    fn up(&self) -> u32 {
        self.bits(|shard| shard.is_up)
    }

    fn bits(&self, matches: impl Fn(&Shard<B>) -> bool) -> u32 {
        let is_match = |shard: &Option<Shard<B>>| shard.as_ref().is_some_and(&matches);
        self.shards
            .iter()
            .enumerate()
            .filter(|(_, shard)| is_match(shard))
            .fold(0, |bits, (slot, _)| bits | 1 << slot)
    }

    /// Returns the servers of a channel in the sets for which `matches` holds.
    fn homes(&self, channel: &Channel, digest: u64, matches: impl Fn(&Listened) -> bool) -> u32 {
        let sets = self.agreement.listened.iter().filter(|listened| matches(listened));
        if is_control(channel) {
            let ids: BTreeSet<_> = sets.flat_map(|listened| listened.set.iter()).collect();
            return self.bits(|shard| ids.contains(&shard.id));
        }
        sets.filter_map(|listened| self.home(&listened.set, digest)).fold(0, |bits, slot| bits | 1 << slot)
    }

    /// Returns the servers by which messages on a channel may arrive now.
    fn used(&self, channel: &Channel, digest: u64) -> u32 {
        let publishes = &self.agreement.publishes;
        self.homes(channel, digest, |listened| listened.is_ready || listened.set == *publishes)
    }

    /// Returns whether a subscription is in effect for the node.
    fn is_complete(&self, channel: &Channel, entry: &Entry) -> bool {
        if is_control(channel) {
            return entry.confirmed != 0;
        }
        // A server that was added and does not respond is not waited for.
        let needed = self.used(channel, entry.digest) | entry.wanted & self.up();
        needed & !entry.confirmed == 0
    }

    /// Performs the steps towards an agreement on the servers.
    fn update(&mut self) {
        loop {
            let up = self.up();
            let shards = &self.shards;
            let find =
                |id| shards.iter().position(|shard| shard.as_ref().is_some_and(|shard| shard.id == id));
            for listened in self.agreement.listened.iter_mut().filter(|listened| !listened.is_ready) {
                let is_up = |id| find(id).is_some_and(|slot| up & 1 << slot != 0);
                listened.is_ready = listened.missing.is_empty() && listened.set.iter().all(is_up);
            }
            match self.agreement.next_step(|set| set.iter().all(|id| find(id).is_some())) {
                Some(Step::Listen(set)) => self.listen(set),
                Some(Step::Unlisten(set)) => self.unlisten(&set),
                Some(Step::Publish(set)) => self.publish_by(set),
                None => break,
            }
        }
        let is_changing = self.agreement.is_moving() || self.agreement.publishes != self.agreement.goal;
        self.shared.is_changing.store(is_changing, Relaxed);
        self.shared.strangers.store(self.agreement.strangers(), Relaxed);
        self.shared.changes.store(self.agreement.changes, Relaxed);
    }

    /// Subscribes each channel on its server in a set.
    fn listen(&mut self, set: ServerSet) {
        self.agreement.listen(set.clone(), BTreeSet::new());
        let mut missing = BTreeSet::new();
        for channel in self.interest.sorted(|_, _| true) {
            let Some(entry) = self.interest.get(&channel) else { continue };
            let wanted = self.homes(&channel, entry.digest, |listened| listened.set == set);
            let new = wanted & !entry.wanted;
            if wanted & !entry.confirmed != 0 {
                missing.insert(channel.clone());
            }
            self.want(&channel, new);
        }
        if let Some(listened) = self.agreement.listened.last_mut() {
            listened.missing = missing;
        }
    }

    /// Subscribes a channel on these servers.
    fn want(&mut self, channel: &Channel, servers: u32) {
        if let Some(entry) = self.interest.entries.get_mut(channel) {
            entry.wanted |= servers;
        }
        for slot in slots(servers) {
            if let Some(shard) = self.shard(slot) {
                shard.subscribe(channel);
            }
        }
    }

    /// Unsubscribes what no other set needs.
    fn unlisten(&mut self, set: &ServerSet) {
        self.agreement.unlisten(set);
        for channel in self.interest.sorted(|_, _| true) {
            let Some(entry) = self.interest.get(&channel) else { continue };
            let wanted = self.homes(&channel, entry.digest, |_| true);
            let (old, confirmed) = (entry.wanted & !wanted, entry.confirmed);
            for slot in slots(old) {
                if let Some(shard) = self.shard(slot) {
                    shard.unsubscribe(&channel, confirmed & 1 << slot != 0);
                }
            }
            if let Some(entry) = self.interest.entries.get_mut(&channel) {
                entry.wanted = wanted;
                entry.confirmed &= wanted;
            }
        }
        self.remove_unused();
        self.control.pass_on(self.up(), self.agreement.tick, &mut self.events);
        if !self.agreement.is_moving() {
            self.handover.close(&mut self.events);
        }
    }

    /// Ends the connections to servers that are no longer needed.
    fn remove_unused(&mut self) {
        for slot in 0..self.shards.len() {
            let Some(shard) = &mut self.shards[slot] else { continue };
            let is_listened = |listened: &Listened| listened.set.contains(shard.id);
            let is_used = [&self.agreement.goal, &self.agreement.publishes, &self.retired]
                .iter()
                .any(|set| set.contains(shard.id));
            if is_used || self.agreement.listened.iter().any(is_listened) {
                continue;
            }
            let queue = shard.take_queue();
            let counters = shard.counters.clone();
            self.shards[slot] = None;
            lock(&self.shared.counters).retain(|kept| !Arc::ptr_eq(kept, &counters));
            add(&self.shared.dropped, counters.dropped.load(Relaxed));
            self.control.forget_server(slot);
            self.publish_again(queue);
        }
    }

    /// Publishes by another set.
    fn publish_by(&mut self, set: ServerSet) {
        self.agreement.publish(set);
        self.marked.clear();
        // The publications that wait for a lost server are not lost if their channel moves.
        for slot in 0..self.shards.len() {
            let Some(shard) = self.shard(slot).filter(|shard| !shard.is_up) else { continue };
            let queue = shard.take_queue();
            self.publish_again(queue);
        }
    }

    fn publish_again(&mut self, queue: VecDeque<(Channel, Bytes)>) {
        for (channel, payload) in queue {
            if !is_control(&channel) {
                self.publish(channel, payload);
            }
        }
    }

    /// Publishes on the server of a channel.
    fn publish(&mut self, channel: Channel, payload: Bytes) {
        let digest = channel.digest();
        let home = self.home(&self.agreement.publishes, digest);
        if let (Some((old, _)), Some((node, heartbeat))) = (&self.agreement.previous, self.own)
            && let Some(old) = self.home(old, digest).filter(|old| Some(*old) != home)
            && self.marked.insert(channel.clone())
        {
            let mark = Note::handover(node, heartbeat, self.agreement.changes);
            if let Some(shard) = self.shard(old).filter(|shard| shard.is_up) {
                shard.publish(channel.clone(), mark);
            }
        }
        match home.and_then(|slot| self.shard(slot)) {
            Some(shard) => shard.publish(channel, payload),
            None => add(&self.shared.dropped, Header::read(&payload).map_or(1, |header| header.frames)),
        }
    }

    /// Publishes on all servers that are connected.
    fn publish_control(&mut self, channel: &Channel, payload: &Bytes) {
        let header = Header::read(payload);
        let mut announcement = None;
        if let Some(header) = header
            && *channel == Channel::Nodes
        {
            let is_heartbeat = self.own.is_none_or(|(_, last)| last != header.heartbeat);
            self.own = Some((header.node, header.heartbeat));
            if is_heartbeat {
                self.tick();
                announcement = Some(self.agreement.announcement());
            }
        }
        let note = Note { number: Some(self.numbers.next(channel)), announcement, handover: None };
        let payload = note.append(payload);
        for shard in self.shards.iter_mut().flatten() {
            if shard.is_up || shard.is_ready() {
                shard.publish(channel.clone(), payload.clone());
            }
        }
    }

    /// Notes a heartbeat of this node.
    fn tick(&mut self) {
        self.agreement.tick();
        let tick = self.agreement.tick;
        self.control.forget_silent(tick);
        self.control.pass_on(self.up(), tick, &mut self.events);
        self.shards.iter_mut().flatten().for_each(|shard| shard.retry(tick));
        self.update();
        self.end_early(false);
    }

    /// Sends the first publications once the servers of the other nodes must be known, or when the node leaves.
    fn end_early(&mut self, is_leaving: bool) {
        let (tick, up) = (self.agreement.tick, self.up());
        let Some(early) = &mut self.early else { return };
        if up != 0 {
            early.up_at.get_or_insert(tick);
        }
        if self.agreement.has_peers() {
            early.heard_at.get_or_insert(tick);
        }
        let is_over = |since: Option<u64>, ticks| since.is_some_and(|since| since + ticks <= tick);
        let is_known = is_over(early.heard_at, 1) && self.agreement.is_heard();
        if is_leaving || is_known || is_over(early.up_at, EARLY) {
            let queue = std::mem::take(&mut early.queue);
            self.early = None;
            self.publish_again(queue);
        }
    }

    fn subscribe(&mut self, channels: Vec<Channel>, token: u64) {
        for channel in &channels {
            if let Some(entry) = self.interest.entries.get_mut(channel) {
                (entry.token, entry.is_owed) = (token, true);
                let missing = entry.wanted & !entry.confirmed;
                self.want(channel, missing);
                continue;
            }
            let digest = channel.digest();
            let wanted = self.homes(channel, digest, |_| true);
            let entry = Entry { digest, wanted: 0, confirmed: 0, token, is_owed: true, epoch: 0 };
            self.interest.entries.insert(channel.clone(), entry);
            self.want(channel, wanted);
            let up = self.up();
            for index in 0..self.agreement.listened.len() {
                let listened = &self.agreement.listened[index];
                let home = self.homes(channel, digest, |other| other.set == listened.set);
                if !listened.is_ready && home & !up != 0 {
                    self.agreement.listened[index].missing.insert(channel.clone());
                }
            }
        }
        self.report_complete(&channels);
    }

    fn unsubscribe(&mut self, channels: &[Channel]) {
        if channels.contains(&Channel::Nodes) {
            self.end_early(true);
        }
        for channel in channels {
            let Some(entry) = self.interest.entries.remove(channel) else { continue };
            for slot in slots(entry.wanted) {
                if let Some(shard) = self.shard(slot) {
                    shard.unsubscribe(channel, entry.confirmed & 1 << slot != 0);
                }
            }
            self.agreement.listened.iter_mut().for_each(|listened| _ = listened.missing.remove(channel));
        }
    }

    fn handle(&mut self, slot: usize, event: BackplaneEvent) {
        match event {
            BackplaneEvent::Message { channel, payload } => self.receive(slot, channel, payload),
            BackplaneEvent::Subscribed { channels, token } => self.confirm(slot, &channels, token),
            BackplaneEvent::Unsubscribed { channels } => self.lose(slot, &channels),
            BackplaneEvent::Missed { channels } => {
                let is_only = self.up() & !(1 << slot) == 0;
                let affected = self.affected(slot, &channels, is_only);
                if !affected.is_empty() {
                    self.events.push_back(BackplaneEvent::Missed { channels: affected });
                }
            }
        }
    }

    /// Returns the channels on which a loss of this server may lose messages; of all if `channels` is empty.
    fn affected(&self, slot: usize, channels: &[Channel], is_only: bool) -> Vec<Channel> {
        let is_affected = |channel: &Channel, entry: &Entry| {
            (is_only || !is_control(channel)) && self.used(channel, entry.digest) & 1 << slot != 0
        };
        if channels.is_empty() {
            return self.interest.sorted(is_affected);
        }
        let entry =
            |channel: &&Channel| self.interest.get(channel).is_some_and(|entry| is_affected(channel, entry));
        channels.iter().filter(entry).cloned().collect()
    }

    fn confirm(&mut self, slot: usize, channels: &[Channel], command: u64) {
        let mut confirmed = Vec::with_capacity(channels.len());
        for channel in channels {
            let Some(shard) = self.shard(slot) else { continue };
            if !shard.confirm(channel, command) {
                continue;
            }
            if *channel == Channel::Nodes {
                shard.is_up = true;
                shard.counters.is_up.store(true, Relaxed);
            }
            let Some(entry) = self.interest.entries.get_mut(channel) else { continue };
            entry.confirmed |= 1 << slot;
            confirmed.push(channel.clone());
        }
        let is_waiting = self.agreement.listened.iter().any(|listened| !listened.is_ready);
        if is_waiting {
            for channel in &confirmed {
                self.note_listening(channel);
            }
            self.update();
        }
        self.report_complete(&confirmed);
    }

    /// Notes that a channel is subscribed for the sets that are not ready.
    fn note_listening(&mut self, channel: &Channel) {
        let Some(entry) = self.interest.get(channel) else { return };
        let (digest, confirmed) = (entry.digest, entry.confirmed);
        for index in 0..self.agreement.listened.len() {
            let set = &self.agreement.listened[index].set;
            let homes = self.homes(channel, digest, |listened| listened.set == *set);
            if homes & !confirmed == 0 {
                self.agreement.listened[index].missing.remove(channel);
            }
        }
    }

    /// Reports the subscriptions among these that are in effect.
    fn report_complete(&mut self, channels: &[Channel]) {
        let mut complete: BTreeMap<u64, Vec<Channel>> = BTreeMap::new();
        for channel in channels {
            let Some(entry) = self.interest.get(channel) else { continue };
            if entry.is_owed && self.is_complete(channel, entry) {
                complete.entry(entry.token).or_default().push(channel.clone());
            }
        }
        for (token, channels) in complete {
            for channel in &channels {
                if let Some(entry) = self.interest.entries.get_mut(channel) {
                    (entry.is_owed, entry.epoch) = (false, self.agreement.epoch);
                }
            }
            self.events.push_back(BackplaneEvent::Subscribed { channels, token });
        }
    }

    /// Handles the loss of subscriptions on a server; of all if `channels` is empty.
    fn lose(&mut self, slot: usize, channels: &[Channel]) {
        let bit = 1 << slot;
        let Some(shard) = self.shards.get_mut(slot).and_then(Option::as_mut) else { return };
        if channels.is_empty() || channels.contains(&Channel::Nodes) {
            shard.counters.add_loss();
            shard.counters.is_up.store(false, Relaxed);
            shard.is_up = false;
        }
        let lost = match channels {
            [] => {
                shard.lose_all();
                self.interest.sorted(|_, entry| entry.wanted & bit != 0)
            }
            channels => channels.to_vec(),
        };
        let is_only = self.up() == 0;
        let affected = self.affected(slot, channels, is_only);
        for channel in &lost {
            let Some(entry) = self.interest.entries.get_mut(channel).filter(|entry| entry.wanted & bit != 0)
            else {
                continue;
            };
            entry.confirmed &= !bit;
            if let Some(shard) = self.shard(slot) {
                shard.subscribe(channel);
            }
            let Some(digest) = self.interest.get(channel).map(|entry| entry.digest) else { continue };
            for index in 0..self.agreement.listened.len() {
                let listened = &self.agreement.listened[index];
                let homes = self.homes(channel, digest, |other| other.set == listened.set);
                if !listened.is_ready && homes & bit != 0 {
                    self.agreement.listened[index].missing.insert(channel.clone());
                }
            }
        }
        self.control.pass_on(self.up(), self.agreement.tick, &mut self.events);
        self.handover.release_all(&mut self.events);
        for channel in &affected {
            if let Some(entry) = self.interest.entries.get_mut(channel) {
                // The node subscribes again, with a new token.
                entry.is_owed = false;
            }
        }
        if is_only && channels.is_empty() {
            self.interest.entries.values_mut().for_each(|entry| entry.is_owed = false);
            self.events.push_back(BackplaneEvent::Unsubscribed { channels: Vec::new() });
        } else if !affected.is_empty() {
            self.events.push_back(BackplaneEvent::Unsubscribed { channels: affected });
        }
    }

    fn receive(&mut self, slot: usize, channel: Channel, payload: Bytes) {
        let Some(shard) = self.shard(slot) else { return };
        shard.counters.add_received();
        let server = shard.id;
        let is_control = is_control(&channel);
        let header = if is_control || self.agreement.is_moving() { Header::read(&payload) } else { None };
        let is_own = |header: &Header| self.own.is_some_and(|(own, _)| own.id == header.node.id);
        let Some(header) = header.filter(|header| !is_own(header)) else {
            self.events.push_back(BackplaneEvent::Message { channel, payload });
            return;
        };
        if is_control {
            self.receive_control(slot, server, &header, channel, payload);
        } else if let Some(change) = header.note.handover {
            self.handover.mark(header.node.id, channel, change, &mut self.events);
        } else if let Some(entry) = self.interest.get(&channel) {
            let is_up = |id| self.slot(id).is_some_and(|slot| self.up() & 1 << slot != 0);
            let way = self.agreement.way(&header, server, entry.digest, entry.epoch, is_up);
            self.handover.receive(way, header.node.id, channel, payload, &mut self.events);
        }
    }

    fn receive_control(
        &mut self,
        slot: usize,
        server: ServerId,
        header: &Header,
        channel: Channel,
        payload: Bytes,
    ) {
        let beats = self.agreement.hear(header, server);
        self.handover.end_waits(header.node.id, beats, &mut self.events);
        match header.note.number {
            Some(number) => {
                let (up, tick) = (self.up(), self.agreement.tick);
                let message = (channel, payload);
                if !self.control.receive(header.node, number, slot, up, tick, message, &mut self.events) {
                    add(&self.shared.copies, 1);
                }
            }
            None => self.events.push_back(BackplaneEvent::Message { channel, payload }),
        }
        if header.note.announcement.is_some() || header.note.number.is_none() {
            self.update();
        }
    }

    /// Passes on waiting commands.
    fn flush(&mut self, cx: &mut Context<'_>) {
        if self.shared.is_changed.load(Relaxed) {
            self.take_servers();
        }
        let tick = self.agreement.tick;
        for shard in self.shards.iter_mut().flatten() {
            shard.flush(cx, &mut self.last_command, tick);
        }
    }

    fn keep_waker(&mut self, cx: &Context<'_>) {
        if self.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        let mut shared = lock(&self.shared.waker);
        if shared.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *shared = Some(cx.waker().clone());
        }
    }
}

impl<B: Backplane> Backplane for ShardedBackplane<B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.flush(cx);
        let mut shards = self.shards.iter().flatten();
        let is_ready = shards.clone().any(Shard::is_ready) && !shards.any(Shard::is_congested);
        if is_ready {
            return Poll::Ready(());
        }
        self.keep_waker(cx);
        Poll::Pending
    }

    fn send(&mut self, command: BackplaneCommand) {
        match command {
            BackplaneCommand::Publish { channel, payload } if is_control(&channel) => {
                self.publish_control(&channel, &payload);
            }
            BackplaneCommand::Publish { channel, payload } => match &mut self.early {
                Some(early) => {
                    early.bytes += payload.len();
                    early.queue.push_back((channel, payload));
                    while early.bytes > QUEUE_BYTES {
                        let Some((_, dropped)) = early.queue.pop_front() else { break };
                        early.bytes -= dropped.len();
                        let frames = Header::read(&dropped).map_or(1, |header| header.frames);
                        add(&self.shared.dropped, frames);
                    }
                }
                None => self.publish(channel, payload),
            },
            BackplaneCommand::Subscribe { channels, token } => self.subscribe(channels, token),
            BackplaneCommand::Unsubscribe { channels } => self.unsubscribe(&channels),
        }
        // Commands that wait are passed on at the next visit of the task.
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.flush(cx);
        self.keep_waker(cx);
        let pending = |shard: &mut Shard<B>| shard.poll_flush(cx).is_pending();
        let count = self.shards.iter_mut().flatten().map(pending).filter(|is_pending| *is_pending).count();
        if count == 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<BackplaneEvent> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        self.flush(cx);
        let mut idle = 0;
        while idle < self.shards.len() {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            let slot = self.next % self.shards.len();
            let event = self.shard(slot).map(|shard| shard.engine.poll_event(cx));
            if let Some(Poll::Ready(event)) = event {
                idle = 0;
                self.handle(slot, event);
                continue;
            }
            self.next = slot + 1;
            idle += 1;
        }
        match self.events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => {
                self.keep_waker(cx);
                // Events may have caused commands, and confirmations release publications.
                self.flush(cx);
                match self.events.pop_front() {
                    Some(event) => Poll::Ready(event),
                    None => Poll::Pending,
                }
            }
        }
    }

    fn is_degraded(&self) -> bool {
        self.shards.iter().flatten().any(|shard| !shard.is_up && self.agreement.goal.contains(shard.id))
    }
}

/// Returns the servers to publish by, and the retired ones.
fn sets<B>(servers: &[Server<B>]) -> (ServerSet, ServerSet) {
    let ids = |is_retired| {
        let servers = servers.iter().filter(move |server| server.is_retired == is_retired);
        ServerSet::new(servers.map(|server| ServerId::of(&server.name)))
    };
    (ids(false), ids(true))
}

/// Returns the numbers of the bits that are set.
fn slots(bits: u32) -> impl Iterator<Item = usize> {
    (0..MAX_SLOTS).filter(move |slot| bits & 1 << slot != 0)
}

/// Heartbeats after which the servers of all other nodes must be known.
const EARLY: u64 = 3;
