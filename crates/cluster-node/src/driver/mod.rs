//! Task of a cluster: owns the namespaces and the engine.

mod actions;
mod adapter;
mod entry;
mod health;
mod inputs;
mod modes;
mod nodes;
mod occupied;
mod queue;
mod replay;
mod rooming;
mod rooms;
mod stream;
mod streaming;
mod subscribing;
mod subscriptions;
mod trimming;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use bytestring::ByteString;
use roomcast_cluster_task::{AckSinks, Handlers, Timer, clock};
use roomcast_core::{ClusterStatus, DeferredWakes, FlushList};
use roomcast_node_adapter::{
    Composed, PubSub, PubSubCommand, PubSubEvent, RequestNumber, StreamLog, broadcast_prefix,
};
use tokio::sync::oneshot;
use tracing::{info, warn};

use self::entry::Entry;
use self::health::Health;
use self::nodes::Nodes;
use self::occupied::OccupiedChannels;
use self::queue::{Command, Outgoing, Taken};
use self::replay::Replays;
use self::rooms::RoomChannels;
use self::stream::Stream;
use self::subscriptions::Subscriptions;
use crate::config::NodeClusterConfig;
use crate::input::{ConfirmStart, Confirmation, Input, Key};
use crate::shared::{RoomStats, Shared, Stats};

/// Task of a cluster: owns the namespaces and the engine, without a lock.
///
/// Each poll is one turn: a limited number of inputs, events and commands. A turn that leaves work wakes the task, so
/// other tasks run in between, and neither inputs nor events can keep the others waiting.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    config: NodeClusterConfig,
    engine: Box<dyn PubSub>,
    /// With the streams adapter.
    stream: Option<Stream>,
    replays: Replays,
    /// Whether it is known where the node begins in the stream, or there is none.
    has_position: bool,
    /// Namespaces with own entries that took effect and are not read back yet.
    released: HashSet<Key>,
    /// Inputs taken from the inlet.
    inputs: VecDeque<(Input, usize)>,
    namespaces: BTreeMap<Key, Entry>,
    /// Namespaces by their names, for entries of the stream.
    by_namespace: HashMap<ByteString, Key>,
    subscriptions: Subscriptions,
    nodes: Nodes,
    occupied: OccupiedChannels,
    /// Recipients of all events that were delivered here.
    recipients: u64,
    queue: Outgoing,
    /// Bytes of requests that wait for the number of nodes.
    held_bytes: usize,
    /// Whether the next publication is a request, whose bytes were counted before.
    publishes_request: bool,
    /// Bytes of own events that were not read back from the stream.
    unconfirmed_bytes: usize,
    /// Counts without a result.
    counts: HashMap<u64, Count>,
    last_count: u64,
    /// Namespaces in which servers with another adapter are searched, with the time of the next search.
    searches: VecDeque<(Instant, Key)>,
    /// Searches without a result.
    searching: HashMap<u64, Key>,
    /// First deadline of each namespace's requests.
    deadlines: BTreeSet<(Instant, Key)>,
    /// Confirmations that began, in this order, some of which have ended.
    confirming: VecDeque<Weak<OnceLock<ConfirmStart>>>,
    confirms: VecDeque<Confirm>,
    /// Broadcasts of other nodes whose recipients have not all answered.
    sinks: AckSinks,
    handlers: Handlers,
    stats: Stats,
    health: Health,
    timer: Timer,
    /// Holds the wake-ups of connections until the events of a turn are delivered.
    wakes: FlushList,
    /// Refused and lost publications when the engine was last in order.
    losses_before: (u64, u64),
    /// Whether subscriptions were lost with the last connection.
    was_unsubscribed: bool,
    /// Time until which the queue waits for other nodes that reconnect.
    resumes_at: Option<Instant>,
    has_left: bool,
    /// Time at which the task ends although its queue is not empty.
    ends_at: Option<Instant>,
}

/// Count of the subscribers for a request: of its namespace, or whether a silent node is among them.
struct Count {
    key: Key,
    request: RequestNumber,
    silent: Option<ByteString>,
}

struct Confirm {
    mark: u64,
    /// Mark in the queue of entries.
    entries: u64,
    /// State before the publications.
    since: Arc<OnceLock<ConfirmStart>>,
    reply: oneshot::Sender<Confirmation>,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        config: NodeClusterConfig,
        mut engine: Box<dyn PubSub>,
        log: Option<Box<dyn StreamLog>>,
    ) -> Self {
        if shared.is_classic() {
            engine.drop_own(broadcast_prefix(&shared.uid));
        }
        let max_len = shared.streams.as_ref().map_or(0, |streams| streams.max_len);
        let stream = log.map(|log| Stream::new(log, max_len, clock::now()));
        let rooms = shared.sharded.is_some().then(RoomStats::default);
        Self {
            has_position: stream.is_none(),
            released: HashSet::new(),
            stream,
            replays: Replays::default(),
            by_namespace: HashMap::new(),
            health: Health::new(config.join_timeout, clock::now()),
            handlers: Handlers::new(config.max_handlers),
            nodes: Nodes::new(shared.prefix(), &shared.uid),
            shared,
            config,
            engine,
            inputs: VecDeque::new(),
            namespaces: BTreeMap::new(),
            subscriptions: Subscriptions::default(),
            occupied: OccupiedChannels::new(),
            recipients: 0,
            queue: Outgoing::default(),
            held_bytes: 0,
            publishes_request: false,
            unconfirmed_bytes: 0,
            counts: HashMap::new(),
            last_count: 0,
            searches: VecDeque::new(),
            searching: HashMap::new(),
            deadlines: BTreeSet::new(),
            confirming: VecDeque::new(),
            confirms: VecDeque::new(),
            sinks: AckSinks::default(),
            stats: Stats { rooms, ..Stats::default() },
            timer: Timer::new(),
            wakes: FlushList::new(),
            losses_before: (0, 0),
            was_unsubscribed: false,
            resumes_at: None,
            has_left: false,
            ends_at: None,
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = clock::now();
        self.expire_requests(now);
        self.retry_subscriptions(now);
        let mut has_more = self.take_inputs(cx, now);
        has_more |= self.deliver_together(|driver| {
            let has_more = driver.receive(cx, now);
            driver.receive_entries(cx, now) | has_more
        });
        has_more |= self.transmit(cx, now);
        self.search(cx, now);
        has_more |= self.transmit_entries(cx, now);
        self.sinks.expire(now);
        self.handlers.reap(&self.shared.guard, cx);
        let has_stored = self.stream.as_ref().is_none_or(|stream| stream.appends().is_empty());
        let is_done =
            self.health.is_leaving() && self.namespaces.is_empty() && self.queue.is_empty() && has_stored;
        self.has_left = is_done && self.engine.poll_flush(cx).is_ready();
        self.report(now);
        if self.has_left || self.ends_at.is_some_and(|at| at <= now) {
            return Poll::Ready(());
        }
        let deadlines = [
            self.deadlines.first().map(|(at, _)| *at),
            self.sinks.next_deadline(),
            self.subscriptions.next_retry(),
            self.searches.front().map(|(at, _)| *at),
            self.health.poll_timeout(self.subscriptions.unconfirmed_since(), now),
            self.stream.as_ref().and_then(|stream| stream.poll_timeout(now)),
            self.resumes_at,
            self.nodes.poll_timeout(now),
            self.ends_at,
        ];
        if has_more || !self.timer.arm(deadlines.into_iter().flatten().min(), now, cx) {
            // Sockets are polled before the next turn, which a plain wake-up would not guarantee.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
        }
        Poll::Pending
    }

    /// Ends the requests whose deadline has passed.
    fn expire_requests(&mut self, now: Instant) {
        while self.deadlines.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.deadlines.pop_first() else { return };
            let Some(entry) = self.namespaces.get_mut(&key) else { continue };
            entry.deadline = None;
            if let Some(node) = entry.node.as_streams() {
                node.note_position(self.stream.as_ref().and_then(Stream::position));
            }
            entry.node.handle_timeout(now);
            self.note_release(key);
            self.perform(key, now);
        }
    }

    /// Delivers the events of other nodes; each client then gets them in one write.
    fn deliver_together<T>(&mut self, deliver: impl FnOnce(&mut Self) -> T) -> T {
        let _wakes = DeferredWakes::enter_if_none(&self.wakes);
        deliver(self)
    }

    /// Handles events of the engine; returns whether there may be more.
    fn receive(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut budget = TURN_WORK;
        while let Poll::Ready(event) = self.engine.poll_event(cx) {
            let work = match event {
                PubSubEvent::Message { subscription, payload, .. }
                    if subscription == *self.nodes.channel() =>
                {
                    self.nodes.receive(&payload);
                    0
                }
                PubSubEvent::Message { subscription, channel, payload } => {
                    self.receive_message(&subscription, &channel, &payload, now)
                }
                event => {
                    self.handle_change(event, now);
                    0
                }
            };
            budget = budget.saturating_sub(1 + work);
            if budget == 0 {
                return true;
            }
        }
        false
    }

    fn handle_change(&mut self, event: PubSubEvent, now: Instant) {
        match event {
            PubSubEvent::Connected => {
                let was_away = self.health.connect(now);
                if std::mem::take(&mut self.was_unsubscribed) || was_away {
                    self.resumes_at = Some(clock::after(now, self.config.resume_delay));
                }
            }
            PubSubEvent::Disconnected => {
                self.health.disconnect(now);
                self.stats.disconnects += 1;
            }
            PubSubEvent::Unsubscribed => {
                self.was_unsubscribed = true;
                self.nodes.lose();
                self.lose_subscriptions(now);
            }
            PubSubEvent::Done { token: nodes::TOKEN } => self.nodes.confirm(true, now),
            PubSubEvent::Refused { token: nodes::TOKEN } => self.nodes.confirm(false, now),
            PubSubEvent::Done { token } => self.confirm_subscription(token, now),
            PubSubEvent::Refused { token } => self.refuse_subscription(token, now),
            PubSubEvent::Counted { token, count } => {
                if !self.finish_search(token, count) {
                    self.continue_request(token, count, now);
                }
            }
            PubSubEvent::Oversized { subscription } => {
                self.stats.oversized += 1;
                self.report_missed(&subscription);
            }
            PubSubEvent::Missed { subscriptions } => {
                self.stats.interruptions += 1;
                subscriptions.iter().for_each(|subscription| self.report_missed(subscription));
            }
            PubSubEvent::Message { .. } => {}
        }
    }

    /// Passes commands to the engine; returns whether there are more that it may accept.
    fn transmit(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut budget = TURN_WORK;
        self.resumes_at.take_if(|at| *at <= now);
        let has_more = loop {
            if self.settle_confirms(cx).is_pending() {
                break false;
            }
            // A node that leaves publishes the rest of its queue first.
            let subscribes =
                self.subscriptions.has_changes() && (!self.health.is_leaving() || self.queue.is_empty());
            let is_leaving = self.health.is_leaving();
            let announces = self.nodes.has_command(is_leaving, now);
            if !subscribes && !announces && (self.queue.is_empty() || self.resumes_at.is_some()) {
                self.health.unblock();
                break false;
            }
            if self.engine.poll_ready(cx).is_pending() {
                self.health.block(now);
                break false;
            }
            self.health.unblock();
            if budget == 0 {
                break true;
            }
            budget -= 1;
            let command = match (subscribes, announces) {
                (true, _) => self.next_subscription(),
                (_, true) => self.nodes.next_command(is_leaving, now),
                _ => {
                    self.send_next();
                    continue;
                }
            };
            if let Some(command) = command {
                self.engine.send(command);
            }
        };
        self.queue.free_sent();
        self.settle(0);
        has_more
    }

    /// Passes the next command of the queue to the engine.
    fn send_next(&mut self) {
        let bytes = match self.queue.pop() {
            Some(Taken::Part(channel, payload)) => {
                self.engine.publish(channel, payload);
                payload.len()
            }
            Some(Taken::Command(Command::Publish(Composed { channel, payload }))) => {
                let bytes = payload.len();
                self.engine.send(PubSubCommand::Publish { channel, payload });
                bytes
            }
            Some(Taken::Command(Command::Count(key, request, silent))) => {
                return self.count(key, request, silent);
            }
            // The queue returns the publications of a batch one by one.
            Some(Taken::Command(Command::PublishAll(_))) | None => return,
        };
        self.stats.messages_out += 1;
        self.stats.bytes_out += bytes as u64;
    }

    fn count(&mut self, key: Key, request: RequestNumber, silent: Option<ByteString>) {
        // The request may have ended.
        let Some(entry) = self.namespaces.get(&key).filter(|entry| entry.requests.contains_key(&request))
        else {
            return;
        };
        self.last_count += 1;
        let token = self.last_count;
        let channel = match &silent {
            Some(uid) => entry.node.answers_to(uid),
            None => entry.node.counted_channel().clone(),
        };
        self.counts.insert(token, Count { key, request, silent });
        self.engine.send(PubSubCommand::Count { channel, token });
    }

    /// Completes confirmations whose publications were passed to the engine, after it has flushed.
    ///
    /// No command is sent while the flush is pending, so that it ends under continuous load too.
    fn settle_confirms(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // The future may have been dropped, or its time is over.
            while self.confirms.front().is_some_and(|first| first.reply.is_closed()) {
                self.confirms.pop_front();
            }
            while self.confirming.front().is_some_and(|first| first.strong_count() == 0) {
                self.confirming.pop_front();
            }
            if let Some(stream) = &mut self.stream {
                // The first one began before all others.
                let first = self.confirming.front().and_then(Weak::upgrade);
                let since = first.and_then(|first| first.get().copied());
                stream.forget_refusals(since.map_or(u64::MAX, |since| since.entries));
            }
            let Some(first) = self.confirms.front() else { return Poll::Ready(()) };
            let are_stored =
                |mark| self.stream.as_ref().is_none_or(|stream| stream.appends().has_settled(mark));
            if !self.queue.has_passed(first.mark) || !are_stored(first.entries) {
                return Poll::Ready(());
            }
            if self.engine.poll_flush(cx).is_pending() {
                return Poll::Pending;
            }
            let lost = self.confirm_start().lost;
            while self
                .confirms
                .front()
                .is_some_and(|next| self.queue.has_passed(next.mark) && are_stored(next.entries))
                && let Some(confirm) = self.confirms.pop_front()
            {
                let Some(since) = confirm.since.get() else { continue };
                let stream = self.stream.as_ref();
                let refused = stream.and_then(|stream| stream.refusal(since.entries..confirm.entries));
                let _ = confirm.reply.send(match refused {
                    Some(reason) => Confirmation::Refused(reason),
                    None if since.lost == lost => Confirmation::Accepted,
                    None => Confirmation::Lost,
                });
            }
        }
    }

    /// Returns the number of publications and entries that were accepted and not, or perhaps not, published.
    fn lost(&self) -> u64 {
        self.engine.lost() + self.stream.as_ref().map_or(0, |stream| stream.appends().refused())
    }

    /// Moves reserved bytes to the queues towards the engine.
    fn settle(&self, bytes: usize) {
        self.shared.inlet.settle(bytes, self.queued_bytes());
    }

    fn queued_bytes(&self) -> usize {
        let entries = self.stream.as_ref().map_or(0, |stream| stream.appends().bytes());
        self.queue.bytes() + self.held_bytes + entries + self.unconfirmed_bytes
    }

    /// Updates the status, the counters and the gauges.
    fn report(&mut self, now: Instant) {
        self.stats.namespaces = self.namespaces.len();
        self.stats.unconfirmed = self.subscriptions.unconfirmed.len();
        self.stats.queue_len = self.queue.len();
        self.stats.queue_bytes = self.queued_bytes();
        if std::mem::take(&mut self.subscriptions.have_rooms_changed) {
            let rooms = || self.namespaces.values().map(|entry| &entry.rooms);
            self.stats.rooms = Some(RoomStats {
                channels: rooms().map(RoomChannels::len).sum(),
                unconfirmed: rooms().map(RoomChannels::unconfirmed).sum(),
            });
        }
        self.stats.stream = self.stream.as_ref().map(Stream::stats);
        self.stats.handlers = self.handlers.len();
        self.stats.silent = self.nodes.silent().count();
        self.stats.lost = self.lost();
        let dropped = self.engine.take_dropped();
        self.stats.adapter.messages_in += dropped.messages;
        self.stats.adapter.ignored += dropped.messages;
        self.stats.bytes_in += dropped.bytes;
        self.shared.stats().clone_from(&self.stats);
        // It has left when the engine has flushed too.
        if self.health.is_leaving() {
            return;
        }
        let status = {
            let away = self.stream.as_ref().and_then(Stream::away_since);
            self.health.status(self.subscriptions.unconfirmed_since(), away, now)
        };
        let losses = (self.shared.inlet.refused(), self.stats.lost);
        if self.shared.status.set(status) {
            let (refused, lost) = (losses.0 - self.losses_before.0, losses.1 - self.losses_before.1);
            let (status, queue_bytes) = (status.as_str(), self.stats.queue_bytes);
            if status == ClusterStatus::Degraded.as_str() {
                warn!(status, queue_bytes, lost, "message engine of the cluster does not respond");
            } else {
                info!(status, queue_bytes, refused, lost, "connection to the cluster changed");
            }
        }
        if status == ClusterStatus::Connected {
            self.losses_before = losses;
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.get_mut().turn(cx)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.inlet.end();
        let bytes = self.inputs.iter().map(|(_, bytes)| bytes).sum();
        let waiting: usize = self.inputs.iter().map(|(input, _)| input.publications()).sum();
        let entries = self.stream.as_ref().map_or(0, |stream| stream.appends().len());
        self.shared.inlet.settle(bytes, 0);
        let dropped = (waiting + entries + self.queue.publications()) as u64;
        let mut stats = self.shared.stats();
        stats.dropped += dropped;
        (stats.namespaces, stats.unconfirmed, stats.queue_len, stats.queue_bytes) = (0, 0, 0, 0);
        drop(stats);
        if self.shared.status.set(ClusterStatus::Left) {
            info!(status = ClusterStatus::Left.as_str(), dropped, "connection to the cluster ended");
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("namespaces", &self.namespaces.len()).finish_non_exhaustive()
    }
}

/// Commands, and events with their deliveries, in one turn.
const TURN_WORK: usize = 256;
