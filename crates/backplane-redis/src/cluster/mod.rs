//! Sharded channels of a Redis Cluster: the engine of clusters of Node servers with the sharded adapter.
//!
//! `interest.rs` decides which server gets which subscription, and `outbox.rs` which publication; both have no I/O.

mod interest;
mod metrics;
mod node;
mod outbox;
mod publisher;
mod slots;
mod subscriber;
mod topology;

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytestring::ByteString;
use foldhash::fast::RandomState;
use roomcast_node_adapter::{PubSub, PubSubCommand, PubSubEvent, SubscriberCount};
use tokio::time::{Instant, Sleep, sleep_until};

use self::interest::{Interest, NodeId};
use self::metrics::SharedCounters;
pub use self::metrics::{RedisClusterMetrics, RedisShardMetrics};
use self::node::{Node, servers_to_ask};
use self::outbox::{Outbox, Publication};
use self::publisher::{Answer, PublisherEvent};
use self::slots::{Range, Rejection};
use self::subscriber::SubscriberEvent;
use self::topology::Topology;
use crate::RedisConfig;
use crate::config::Address;
use crate::metrics::add;

/// Message engine on the sharded channels of a Redis Cluster, version 7 or later.
///
/// It knows the masters by `CLUSTER SLOTS`, and has two connections to each: one publishes by `SPUBLISH`, the other one
/// has the subscriptions of the master's slots. The settings name some servers of the cluster, see
/// [`RedisConfig::from_url`]; all servers have the same credentials and TLS settings.
///
/// # Guarantees
///
/// - **Subscriptions** are renewed after a lost connection, a slot that moved, and a failover. The engine reports them
///   by [`PubSubEvent::Missed`] once they are in effect again. Redis answers each of them, so none is lost unnoticed.
/// - **Order**: the messages of one node on one channel arrive in order of publication, also while its slot moves.
/// - **Loss**: a publication without a reply when its connection is lost is unconfirmed, and not repeated. One that a
///   server did not execute is sent to the new master of its slot.
/// - **Bounds**: publications wait for a server that cannot be reached up to [`send_buffer`](RedisConfig::send_buffer);
///   further ones to that server are refused and counted. The other servers go on.
///
/// Patterns are refused, since sharded channels have none. A user needs the commands `SPUBLISH`, `SSUBSCRIBE`,
/// `SUNSUBSCRIBE`, `PING`, `AUTH`, `CLUSTER` and `PUBSUB`; `CLIENT ID` and `CLIENT KILL` are optional.
#[derive(Debug)]
pub struct RedisClusterPubSub {
    config: Arc<RedisConfig>,
    counters: SharedCounters,
    nodes: HashMap<NodeId, Node, RandomState>,
    /// Nodes in the order in which they are polled.
    order: Vec<NodeId>,
    last_node: NodeId,
    /// Index of the node that is polled first.
    next: usize,
    interest: Interest,
    outbox: Outbox,
    /// Commands that wait for subscriptions, with the number of the last one.
    waiting: VecDeque<(u64, Waiting)>,
    waiting_bytes: usize,
    last_token: u64,
    topology: Topology,
    /// Slots whose master was named by a redirection, which other servers may not know yet.
    redirected: HashMap<u16, Instant>,
    /// Channels that a server refused for the time being.
    delayed: Vec<ByteString>,
    retry_at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether held publications may be sendable.
    has_release: bool,
    events: VecDeque<PubSubEvent>,
    is_connected: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
enum Waiting {
    Publish(Publication),
    Count(ByteString, u64),
}

impl Waiting {
    fn len(&self) -> usize {
        match self {
            Self::Publish(publication) => publication.len(),
            Self::Count(channel, _) => channel.len(),
        }
    }
}

impl RedisClusterPubSub {
    /// Creates an engine, which connects when it is polled.
    #[must_use]
    pub fn new(config: RedisConfig) -> Self {
        let config = Arc::new(config);
        Self {
            topology: Topology::new(config.clone()),
            config,
            counters: SharedCounters::default(),
            nodes: HashMap::default(),
            order: Vec::new(),
            last_node: 0,
            next: 0,
            interest: Interest::new(),
            outbox: Outbox::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            last_token: 0,
            redirected: HashMap::new(),
            delayed: Vec::new(),
            retry_at: None,
            timer: None,
            has_release: false,
            events: VecDeque::new(),
            is_connected: false,
            waker: None,
        }
    }

    /// Returns the counters.
    #[must_use]
    pub fn metrics(&self) -> RedisClusterMetrics {
        self.counters.snapshot()
    }

    /// Returns a function that returns the counters, for another task.
    pub fn metrics_reader(&self) -> impl Fn() -> RedisClusterMetrics + Send + Sync + 'static {
        let counters = self.counters.clone();
        move || counters.snapshot()
    }

    fn is_ready(&self) -> bool {
        let limit = self.config.send_buffer;
        let has_room = |node: &Node| node.publisher.bytes() < limit || node.publisher.is_stalled();
        self.waiting_bytes < limit
            && self.nodes.values().any(|node| node.publisher.is_up())
            && self.nodes.values().all(has_room)
    }

    /// Sends a publication to the master of its slot, or holds it.
    fn publish(&mut self, publication: Publication) {
        let slot = publication.slot;
        let limit = self.config.send_buffer;
        let node = self.interest.owner(slot).and_then(|id| self.nodes.get_mut(&id));
        if let Some(node) = node
            && node.can_take(limit)
            && !self.outbox.is_held(slot)
        {
            self.outbox.note_sent(slot);
            node.publisher.publish(publication);
        } else if self.outbox.bytes() + publication.len() > limit {
            add(&self.counters.total.refused, 1);
        } else {
            self.outbox.hold(publication);
        }
    }

    fn count(&mut self, channel: &ByteString, token: u64) {
        let owner = self.interest.owner(slots::slot_of(channel.as_bytes()));
        match owner.and_then(|id| self.nodes.get_mut(&id)).filter(|node| node.publisher.is_up()) {
            Some(node) => node.publisher.count(channel, token),
            None => self.events.push_back(PubSubEvent::Counted { token, count: SubscriberCount::Lost }),
        }
    }

    /// Executes a command, after the subscriptions before it.
    fn queue(&mut self, command: Waiting) {
        self.waiting_bytes += command.len();
        self.waiting.push_back((self.last_token, command));
        self.pass_waiting();
    }

    fn pass_waiting(&mut self) {
        while self.waiting.front().is_some_and(|(token, _)| !self.interest.blocks(*token))
            && let Some((_, command)) = self.waiting.pop_front()
        {
            self.waiting_bytes -= command.len();
            match command {
                Waiting::Publish(publication) => self.publish(publication),
                Waiting::Count(channel, token) => self.count(&channel, token),
            }
        }
    }

    /// Passes commands to the connections that have room.
    fn pump(&mut self) {
        if std::mem::take(&mut self.has_release) {
            let limit = self.config.send_buffer;
            let (nodes, interest) = (&mut self.nodes, &self.interest);
            self.outbox.release(|publication| {
                let node = interest.owner(publication.slot).and_then(|id| nodes.get_mut(&id));
                match node.filter(|node| node.can_take(limit)) {
                    Some(node) => node.publisher.publish(publication),
                    None => return Some(publication),
                }
                None
            });
        }
        self.pass_waiting();
        for (id, node) in &mut self.nodes {
            while node.subscriber.is_ready() && self.interest.has_work(*id) {
                node.subscriber.command(self.interest.take(*id, BATCH));
            }
        }
    }

    /// Writes and reads on all connections; returns whether anything happened.
    fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        let mut has_progress = self.poll_topology(cx) | self.end_delays();
        self.pump();
        for index in 0..self.order.len() {
            let Some(id) = self.order.get(index).copied() else { break };
            while let Some(Poll::Ready(event)) = self.nodes.get_mut(&id).map(|node| node.publisher.poll(cx)) {
                self.handle_publisher(id, event);
                has_progress = true;
            }
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            let interest = &self.interest;
            if let Poll::Ready(event) = node.subscriber.poll_event(cx, &|name| interest.heard(id, name)) {
                self.handle_subscriber(id, event);
                has_progress = true;
            }
        }
        self.note_silence();
        self.note_connected();
        has_progress || !self.arm_timer(cx)
    }

    /// Handles one event that was read already; returns whether there was one.
    fn take_buffered(&mut self) -> bool {
        for _ in 0..self.order.len() {
            self.next = (self.next + 1) % self.order.len();
            let id = self.order[self.next];
            let interest = &self.interest;
            let node = self.nodes.get_mut(&id);
            if let Some(event) =
                node.and_then(|node| node.subscriber.buffered_event(&|name| interest.heard(id, name)))
            {
                self.handle_subscriber(id, event);
                return true;
            }
        }
        false
    }

    fn handle_subscriber(&mut self, id: NodeId, event: SubscriberEvent) {
        match event {
            SubscriberEvent::Message(channel, payload) => {
                let subscription = channel.clone();
                self.events.push_back(PubSubEvent::Message { subscription, channel, payload });
            }
            SubscriberEvent::Oversized(subscription) => {
                self.events.push_back(PubSubEvent::Oversized { subscription });
            }
            SubscriberEvent::Started(name) => self.interest.confirm(id, &name),
            SubscriberEvent::Stopped(names) => self.interest.stopped(id, &names),
            SubscriberEvent::Removed(name) => {
                if self.interest.removed(id, &name) {
                    self.topology.request();
                }
            }
            SubscriberEvent::Rejected(names, rejection) => {
                let is_final = rejection == Rejection::Refused;
                let has_moved = match rejection {
                    // The channels of a slot that is known to have moved are queued already.
                    Rejection::Moved(slot, address) => {
                        self.redirect(slot, &address) || self.interest.owner(slot) != Some(id)
                    }
                    _ => false,
                };
                self.interest.refused(id, &names, !is_final);
                if has_moved {
                    self.interest.retry(&names);
                } else {
                    // The driver does not repeat a refused renewal.
                    self.delayed.extend(names);
                    self.delay();
                }
            }
            SubscriberEvent::Up => {}
            SubscriberEvent::Down => {
                self.interest.disconnected(id);
                self.topology.request();
            }
        }
        self.has_release |= self.outbox.bytes() > 0;
    }

    fn handle_publisher(&mut self, id: NodeId, event: PublisherEvent) {
        match event {
            PublisherEvent::Up => {}
            PublisherEvent::Answer(answer) => self.handle_answer(Some(id), answer),
            PublisherEvent::Down(answers) => {
                answers.into_iter().for_each(|answer| self.handle_answer(Some(id), answer));
                self.suspect(id);
            }
        }
        self.has_release |= !self.outbox.is_empty();
    }

    fn handle_answer(&mut self, id: Option<NodeId>, answer: Answer) {
        let counters = &self.counters.total;
        let slot = match answer {
            Answer::Executed(publication) => {
                add(&counters.confirmed, 1);
                if let Some(node) = id.and_then(|id| self.nodes.get(&id)) {
                    add(&node.counters.published, 1);
                }
                publication.slot
            }
            Answer::Unconfirmed(publication) => {
                add(&counters.unconfirmed, 1);
                publication.slot
            }
            Answer::Rejected(publication, Rejection::Refused) => {
                add(&counters.refused, 1);
                publication.slot
            }
            Answer::Unsent(publication) => return self.outbox.give_back(publication, false),
            Answer::Rejected(publication, rejection) => {
                let has_moved = match rejection {
                    Rejection::Moved(slot, address) => {
                        // A former master names the new one in each answer.
                        self.redirect(slot, &address) || id != self.interest.owner(slot)
                    }
                    _ => false,
                };
                if !has_moved {
                    self.delay();
                }
                return self.outbox.give_back(publication, !has_moved);
            }
            Answer::Counted(token, count) => {
                return self.events.push_back(PubSubEvent::Counted { token, count });
            }
        };
        let dropped = self.outbox.complete(slot);
        add(&counters.refused, dropped);
    }

    /// Tries again what a server refused for the time being, after a pause.
    fn delay(&mut self) {
        self.topology.request();
        let pause = topology::backoff(self.config.max_backoff, 1);
        self.retry_at.get_or_insert_with(|| topology::now() + pause);
    }

    fn end_delays(&mut self) -> bool {
        if self.retry_at.take_if(|at| *at <= topology::now()).is_none() {
            return false;
        }
        self.outbox.end_delays();
        self.has_release = true;
        let names = std::mem::take(&mut self.delayed);
        self.interest.retry(&names);
        true
    }

    /// Makes a server the master of a slot, as another one said; returns whether that is new.
    fn redirect(&mut self, slot: u16, address: &Address) -> bool {
        self.topology.request();
        let now = topology::now();
        // Servers that name each other, as during a failover, must not do so without end.
        if self.redirected.get(&slot).is_some_and(|at| now < *at + MIN_REDIRECTION) {
            return false;
        }
        let id = self.node_at(address);
        if self.interest.owner(slot) == Some(id) {
            return false;
        }
        self.redirected.insert(slot, now);
        self.interest.assign(&[(slot, Some(id))]);
        self.outbox.move_slot(slot);
        true
    }

    /// Returns the node with an address, which is connected if it is new.
    fn node_at(&mut self, address: &Address) -> NodeId {
        if let Some((id, _)) = self.nodes.iter().find(|(_, node)| node.address == *address) {
            return *id;
        }
        self.last_node += 1;
        let id = self.last_node;
        let counters = self.counters.add_shard(address);
        let node = Node::new(address, &self.config, counters);
        self.nodes.insert(id, node);
        self.order.push(id);
        id
    }

    fn poll_topology(&mut self, cx: &mut Context<'_>) -> bool {
        let nodes = &self.nodes;
        let Poll::Ready(ranges) = self.topology.poll(cx, || servers_to_ask(nodes.values())) else {
            return false;
        };
        if !ranges.is_empty() {
            let question = self.topology.questions();
            for node in self.nodes.values_mut() {
                node.check.take_if(|check| *check <= question);
            }
            self.adopt(&ranges);
        }
        true
    }

    /// Adopts the slots that a server told.
    fn adopt(&mut self, ranges: &[Range]) {
        let now = topology::now();
        self.redirected.retain(|_, at| now < *at + REDIRECTION);
        let mut changes = Vec::new();
        for range in ranges {
            let id = self.node_at(&range.master);
            for slot in range.first..=range.last {
                if self.interest.owner(slot) != Some(id) && !self.redirected.contains_key(&slot) {
                    changes.push((slot, Some(id)));
                }
            }
        }
        self.interest.assign(&changes);
        changes.iter().for_each(|(slot, _)| self.outbox.move_slot(*slot));
        self.has_release = true;
        self.remove_nodes();
    }

    /// Removes the nodes without slots, once they have answered.
    fn remove_nodes(&mut self) {
        let owners: std::collections::HashSet<_> = self.interest.owners().iter().flatten().collect();
        let is_removable = |node: &Node| node.publisher.is_flushed() || node.publisher.is_stalled();
        let removed = self.nodes.iter().filter(|(id, node)| !owners.contains(id) && is_removable(node));
        for id in removed.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(mut node) = self.nodes.remove(&id) else { continue };
            self.order.retain(|other| *other != id);
            self.interest.disconnected(id);
            node.publisher.lose().into_iter().for_each(|answer| self.handle_answer(None, answer));
            self.counters.remove_shard(&node.address);
        }
    }

    /// Notes that a server was away, so another one may be the master by now.
    fn suspect(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.check = Some(u64::MAX);
        }
        self.topology.request();
    }

    /// Notes which servers have stopped to answer, and which have returned.
    fn note_silence(&mut self) {
        for node in self.nodes.values_mut() {
            let is_away = node.publisher.is_stalled();
            if is_away && node.publisher.is_up() && node.check.is_none() {
                node.check = Some(u64::MAX);
                self.topology.request();
            } else if !is_away && node.check == Some(u64::MAX) {
                node.check = Some(self.topology.questions() + 1);
                node.returned = Some(topology::now());
                self.topology.request();
            }
        }
    }

    fn note_connected(&mut self) {
        let mut is_up = self.interest.is_covered();
        for (id, node) in &self.nodes {
            is_up &= node.publisher.is_up() && node.subscriber.is_up();
            node.counters.subscriptions.store(self.interest.active(*id), Ordering::Relaxed);
        }
        let total = &self.counters.total;
        total.publisher_up.store(is_up, Ordering::Relaxed);
        total.subscriber_up.store(is_up, Ordering::Relaxed);
        self.counters.lost.store(self.interest.lost, Ordering::Relaxed);
        self.topology.note_whole(is_up);
        if is_up != self.is_connected {
            self.is_connected = is_up;
            self.events.push_back(if is_up { PubSubEvent::Connected } else { PubSubEvent::Disconnected });
        }
    }

    /// Sets the timer for the next deadline; returns `false` if that has passed.
    fn arm_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = [self.retry_at, self.topology.deadline()].into_iter().flatten().min();
        let Some(deadline) = deadline else {
            self.timer = None;
            return true;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).is_pending()
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

impl PubSub for RedisClusterPubSub {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<PubSubEvent> {
        loop {
            if let Some(event) = self.events.pop_front().or_else(|| self.interest.events.pop_front()) {
                return Poll::Ready(event);
            }
            if self.take_buffered() {
                continue;
            }
            self.interest.report_restored();
            if self.interest.events.is_empty() && !self.drive(cx) && self.events.is_empty() {
                self.keep_waker(cx);
                return Poll::Pending;
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_ready() {
            // The connections wake the task that polled them last, so a lost subscription is noticed as well.
            self.keep_waker(cx);
            while self.drive(cx) {}
            if !self.events.is_empty() || !self.interest.events.is_empty() {
                cx.waker().wake_by_ref();
            }
        }
        if self.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn send(&mut self, command: PubSubCommand) {
        match command {
            PubSubCommand::Publish { channel, payload } => {
                add(&self.counters.total.accepted, 1);
                self.queue(Waiting::Publish(Publication::new(channel, payload)));
            }
            PubSubCommand::Count { channel, token } => self.queue(Waiting::Count(channel, token)),
            PubSubCommand::Subscribe { channels, patterns, token } => {
                self.last_token = token;
                if patterns.is_empty() {
                    let nodes = &self.nodes;
                    let is_up = |id| nodes.get(&id).is_some_and(|node| node.subscriber.is_up());
                    self.interest.subscribe(channels, token, is_up);
                } else {
                    tracing::warn!("sharded channels of redis have no patterns");
                    self.events.push_back(PubSubEvent::Refused { token });
                }
            }
            PubSubCommand::Unsubscribe { channels, patterns: _, token } => {
                self.last_token = token;
                self.interest.unsubscribe(&channels, token);
            }
        }
        // All commands of one visit of the task are written together, at its next one.
        self.wake();
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.keep_waker(cx);
        while self.drive(cx) {}
        if !self.events.is_empty() || !self.interest.events.is_empty() {
            cx.waker().wake_by_ref();
        }
        let is_flushed = |node: &Node| node.publisher.is_flushed() && node.subscriber.is_flushed();
        let is_done = self.waiting.is_empty() && self.outbox.is_empty() && self.interest.is_settled();
        if is_done && self.nodes.values().all(is_flushed) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn lost(&self) -> u64 {
        let total = &self.counters.total;
        total.refused.load(Ordering::Relaxed) + total.unconfirmed.load(Ordering::Relaxed)
    }
}

/// Channels whose commands are chosen at once.
const BATCH: usize = 512;
/// Time for which a redirection counts more than what a server says, which may not know it yet.
const REDIRECTION: Duration = Duration::from_secs(2);
/// Time before a slot is redirected again.
const MIN_REDIRECTION: Duration = Duration::from_millis(20);
