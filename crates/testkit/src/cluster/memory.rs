//! Message engine in memory, in virtual time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future as _, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast_cluster::{Backplane, BackplaneCommand, BackplaneEvent, Channel};

use super::harness::{Fault, Harness};
use crate::rng::SeededRng;

/// Message engine in memory, in virtual time; its faults depend only on the seed.
///
/// Without faults, everything takes effect at once. Clones are the same engine.
#[derive(Debug, Clone)]
pub struct MemoryEngine(Arc<Mutex<State>>);

/// Connection of a node to a [`MemoryEngine`].
#[derive(Debug)]
pub struct MemoryBackplane {
    engine: MemoryEngine,
    node: usize,
    connection: u64,
}

#[derive(Debug)]
struct State {
    rng: SeededRng,
    now: Instant,
    nodes: BTreeMap<usize, Client>,
    /// Steps under way, by time and order.
    steps: BTreeMap<(Instant, u64), Step>,
    last_step: u64,
    /// Time of the last step of each sequence, so that steps do not overtake each other.
    last_at: BTreeMap<Sequence, Instant>,
    delay: Duration,
    loss: u64,
    heartbeat_loss: u64,
    duplicates: u64,
    partition: Vec<u8>,
    down: bool,
    forgets: bool,
    echoes: bool,
    /// Nodes with odd numbers speak a later version of the format.
    mixed: bool,
    /// Waker of [`MemoryEngine::run`].
    runner: Option<Waker>,
    /// Beginning of [`MemoryEngine::run`], by the clock of the runtime and of the engine.
    clock: Option<(tokio::time::Instant, Instant)>,
}

#[derive(Debug, Default)]
struct Client {
    connection: u64,
    subscribed: BTreeSet<Channel>,
    inbox: VecDeque<BackplaneEvent>,
    inbox_bytes: usize,
    missed: bool,
    slow: Duration,
    deaf: bool,
    waker: Option<Waker>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Sequence {
    /// Subscriptions of a node.
    Commands(usize),
    /// Messages of a node on a channel, to a node.
    Messages(usize, Channel, usize),
    /// Second deliveries, in any order.
    Duplicates,
}

#[derive(Debug)]
struct Step {
    node: usize,
    connection: u64,
    effect: Effect,
}

#[derive(Debug)]
enum Effect {
    Subscribe { channels: Vec<Channel>, token: u64 },
    Unsubscribe { channels: Vec<Channel> },
    Event(BackplaneEvent),
}

impl MemoryEngine {
    /// Creates an engine without faults.
    pub fn new(seed: u64) -> Self {
        let mut rng = SeededRng::new(seed);
        let (echoes, mixed) = (rng.below(2) == 0, rng.below(2) == 0);
        Self(Arc::new(Mutex::new(State {
            rng,
            now: start(),
            nodes: BTreeMap::new(),
            steps: BTreeMap::new(),
            last_step: 0,
            last_at: BTreeMap::new(),
            delay: Duration::ZERO,
            loss: 0,
            heartbeat_loss: 0,
            duplicates: 0,
            partition: Vec::new(),
            down: false,
            forgets: false,
            echoes,
            mixed,
            runner: None,
            clock: None,
        })))
    }

    /// Creates another engine with the same time, as a second server.
    #[must_use]
    pub fn beside(&self, seed: u64) -> Self {
        let other = Self::new(seed);
        other.lock().now = self.now();
        other
    }

    /// Returns the time of the next step under way.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.lock().steps.first_key_value().map(|((at, _), _)| *at)
    }

    /// Lets the engine's time follow the clock of the tokio runtime, which tests can pause; never completes.
    ///
    /// For nodes that run on tasks. [`Harness::advance`] must not be called meanwhile.
    #[expect(clippy::disallowed_methods, reason = "the nodes on tasks read the same clock")]
    pub async fn run(&self) {
        let (origin, start) = (tokio::time::Instant::now(), self.now());
        self.lock().clock = Some((origin, start));
        let mut timer = Box::pin(tokio::time::sleep_until(origin));
        poll_fn(|cx| {
            loop {
                let until = start + origin.elapsed();
                let mut state = self.lock();
                while state.steps.first_key_value().is_some_and(|((at, _), _)| *at <= until) {
                    state.advance(until);
                }
                state.advance(until);
                state.runner = Some(cx.waker().clone());
                let Some(((next, _), _)) = state.steps.first_key_value() else { return Poll::Pending };
                timer.as_mut().reset(origin + (*next - start));
                drop(state);
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Harness for MemoryEngine {
    type Backplane = MemoryBackplane;

    fn connect(&mut self, node: usize) -> MemoryBackplane {
        let mut state = self.lock();
        let old = state.nodes.remove(&node).unwrap_or_default();
        let connection = old.connection + 1;
        let client = Client { connection, slow: old.slow, deaf: old.deaf, ..Client::default() };
        state.nodes.insert(node, client);
        drop(state);
        MemoryBackplane { engine: self.clone(), node, connection }
    }

    fn now(&self) -> Instant {
        self.lock().now
    }

    fn advance(&mut self, until: Instant) {
        self.lock().advance(until);
    }

    fn inject(&mut self, fault: &Fault) -> bool {
        let mut state = self.lock();
        match fault {
            Fault::Delay(delay) => state.delay = *delay,
            Fault::Loss(loss) => state.loss = *loss,
            Fault::HeartbeatLoss(loss) => state.heartbeat_loss = *loss,
            Fault::Duplicates(duplicates) => state.duplicates = *duplicates,
            Fault::Partition(groups) => state.partition.clone_from(groups),
            Fault::Slow { node, delay } => {
                if let Some(client) = state.nodes.get_mut(node) {
                    client.slow = *delay;
                }
            }
            Fault::Deaf { node, on } => {
                if let Some(client) = state.nodes.get_mut(node) {
                    client.deaf = *on;
                }
            }
            Fault::Disconnect { node } => state.lose_subscriptions(*node),
            Fault::Down { on, forgets } => state.set_down(*on, *forgets),
        }
        true
    }

    fn subscriptions(&self, node: usize) -> Option<BTreeSet<Channel>> {
        self.lock().nodes.get(&node).map(|client| client.subscribed.clone())
    }
}

impl State {
    /// Returns the time from which delays count.
    fn time(&self) -> Instant {
        // Since the last step, only the runtime's clock has moved.
        self.clock.map_or(self.now, |(origin, start)| self.now.max(start + origin.elapsed()))
    }

    fn advance(&mut self, until: Instant) {
        let mut is_pending = false;
        while let Some(entry) = self.steps.first_entry() {
            let (at, _) = *entry.key();
            // All that happens at one time is handled together.
            if at > until || is_pending && at > self.now {
                break;
            }
            let step = entry.remove();
            self.now = self.now.max(at);
            is_pending |= self.perform(step);
        }
        if !is_pending {
            self.now = self.now.max(until);
        }
    }

    /// Performs a step; returns whether a node has an event.
    fn perform(&mut self, step: Step) -> bool {
        let Step { node, connection, effect } = step;
        let down = self.down;
        let Some(client) = self.nodes.get_mut(&node) else { return false };
        if client.connection != connection || down {
            return false;
        }
        match effect {
            Effect::Subscribe { channels, token } => {
                if client.deaf {
                    return false;
                }
                client.subscribed.extend(channels.iter().cloned());
                let event = BackplaneEvent::Subscribed { channels, token };
                self.schedule(Sequence::Commands(node), node, Effect::Event(event));
                false
            }
            Effect::Unsubscribe { channels } => {
                channels.iter().for_each(|channel| _ = client.subscribed.remove(channel));
                false
            }
            Effect::Event(event) => {
                if let BackplaneEvent::Message { channel, payload } = &event {
                    // It may have been unsubscribed while the message was under way.
                    if !client.subscribed.contains(channel) {
                        return false;
                    }
                    if client.inbox_bytes + payload.len() > INBOX_BYTES {
                        client.missed = true;
                        return true;
                    }
                    client.inbox_bytes += payload.len();
                }
                client.push(event);
                true
            }
        }
    }

    fn publish(&mut self, from: usize, channel: &Channel, payload: &Bytes) {
        let subscribers: Vec<usize> = self
            .nodes
            .iter()
            .filter(|(node, client)| client.subscribed.contains(channel) && (self.echoes || **node != from))
            .map(|(node, _)| *node)
            .collect();
        let loss = if *channel == Channel::Nodes { self.loss.max(self.heartbeat_loss) } else { self.loss };
        for node in subscribers {
            let side = |node: usize| self.partition.get(node).copied().unwrap_or_default();
            if side(from) != side(node) || self.happens(loss) {
                continue;
            }
            let event = BackplaneEvent::Message { channel: channel.clone(), payload: payload.clone() };
            let sequence = Sequence::Messages(from, channel.clone(), node);
            if self.happens(self.duplicates) {
                let extra = Duration::from_millis(self.rng.below(LATE_MILLIS) as u64);
                self.schedule_after(extra, Sequence::Duplicates, node, Effect::Event(event.clone()));
            }
            self.schedule(sequence, node, Effect::Event(event));
        }
    }

    /// Schedules a step behind the earlier ones of its sequence.
    fn schedule(&mut self, sequence: Sequence, node: usize, effect: Effect) {
        self.schedule_after(Duration::ZERO, sequence, node, effect);
    }

    fn schedule_after(&mut self, extra: Duration, sequence: Sequence, node: usize, effect: Effect) {
        let Some(client) = self.nodes.get(&node) else { return };
        let (connection, slow) = (client.connection, client.slow);
        // Whole milliseconds, so that much happens at the same time.
        let millis = u64::try_from(self.delay.as_millis()).unwrap_or(u64::MAX);
        let delay = extra + Duration::from_millis(self.rng.below(millis.saturating_add(1)) as u64);
        let is_message = matches!(effect, Effect::Event(BackplaneEvent::Message { .. }));
        let mut at = self.time() + delay + if is_message { slow } else { Duration::ZERO };
        if sequence != Sequence::Duplicates {
            at = self.last_at.get(&sequence).map_or(at, |last| at.max(*last));
            self.last_at.insert(sequence, at);
        }
        self.last_step += 1;
        self.steps.insert((at, self.last_step), Step { node, connection, effect });
        if let Some(runner) = self.runner.take() {
            runner.wake();
        }
    }

    fn lose_subscriptions(&mut self, node: usize) {
        let Some(client) = self.nodes.get_mut(&node) else { return };
        client.subscribed.clear();
        // Commands and messages under way end with the connection, and the event precedes later confirmations.
        let connection = client.connection;
        self.steps.retain(|_, step| step.node != node || step.connection != connection);
        if let Some(client) = self.nodes.get_mut(&node) {
            client.push(BackplaneEvent::Unsubscribed { channels: Vec::new() });
        }
    }

    fn set_down(&mut self, on: bool, forgets: bool) {
        if on == self.down {
            return;
        }
        if on {
            self.forgets = forgets;
            for step in std::mem::take(&mut self.steps).into_values() {
                // An unsubscription is lost only with the subscriptions.
                if matches!(step.effect, Effect::Unsubscribe { .. }) {
                    self.perform(step);
                }
            }
            self.down = true;
            return;
        }
        self.down = false;
        let nodes: Vec<usize> = self.nodes.keys().copied().collect();
        for node in nodes {
            if self.forgets {
                self.lose_subscriptions(node);
            } else if let Some(client) = self.nodes.get_mut(&node) {
                client.push(BackplaneEvent::Missed { channels: Vec::new() });
            }
        }
    }

    fn happens(&mut self, thousandths: u64) -> bool {
        thousandths > 0 && (self.rng.below(1000) as u64) < thousandths
    }
}

impl Client {
    fn push(&mut self, event: BackplaneEvent) {
        self.inbox.push_back(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl MemoryBackplane {
    /// Calls `with` unless the connection was replaced.
    fn client<R>(&self, with: impl FnOnce(&mut State) -> R) -> Option<R> {
        let mut state = self.engine.lock();
        let client = state.nodes.get(&self.node)?;
        (client.connection == self.connection).then(|| with(&mut state))
    }
}

impl Backplane for MemoryBackplane {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ready = self.client(|state| {
            if state.down {
                let client = state.nodes.get_mut(&self.node)?;
                client.waker = Some(cx.waker().clone());
                return None;
            }
            Some(())
        });
        if ready.flatten().is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn send(&mut self, command: BackplaneCommand) {
        let node = self.node;
        self.client(|state| match command {
            BackplaneCommand::Subscribe { channels, token } => {
                state.schedule(Sequence::Commands(node), node, Effect::Subscribe { channels, token });
            }
            BackplaneCommand::Unsubscribe { channels } => {
                state.schedule(Sequence::Commands(node), node, Effect::Unsubscribe { channels });
            }
            BackplaneCommand::Publish { channel, payload } => {
                let is_later = state.mixed && node % 2 == 1;
                let payload = if is_later { with_unknown_parts(&payload) } else { payload };
                state.publish(node, &channel, &payload);
            }
            other => panic!("unknown command {other:?}"),
        });
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<BackplaneEvent> {
        let event = self.client(|state| {
            let client = state.nodes.get_mut(&self.node)?;
            if let Some(event) = client.inbox.pop_front() {
                if let BackplaneEvent::Message { payload, .. } = &event {
                    client.inbox_bytes -= payload.len();
                }
                return Some(event);
            }
            if std::mem::take(&mut client.missed) {
                return Some(BackplaneEvent::Missed { channels: Vec::new() });
            }
            client.waker = Some(cx.waker().clone());
            None
        });
        event.flatten().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for MemoryBackplane {
    fn drop(&mut self) {
        self.client(|state| {
            if let Some(client) = state.nodes.get_mut(&self.node) {
                client.subscribed.clear();
                client.inbox.clear();
                client.inbox_bytes = 0;
                client.connection += 1;
            }
        });
    }
}

/// Time by which second deliveries are late, at most.
const LATE_MILLIS: u64 = 400;
/// Bytes of messages that wait for a node.
const INBOX_BYTES: usize = 1 << 20;

/// Adds the fields and the frame of a later version to an envelope.
///
/// An envelope ends with its last field, so they can be appended.
fn with_unknown_parts(payload: &[u8]) -> Bytes {
    const NUMBER: [u8; 2] = [60 << 1, 77];
    const TEXT: [u8; 5] = [61 << 1 | 1, 3, b'n', b'e', b'w'];
    // Field 4 of an envelope is a frame; field 1 of a frame is its kind.
    const FRAME: [u8; 6] = [4 << 1 | 1, 4, 1 << 1, 100, NUMBER[0], NUMBER[1]];
    [payload, &NUMBER[..], &TEXT, &FRAME].concat().into()
}

/// Arbitrary origin; all other times are offsets from it.
#[expect(clippy::disallowed_methods, reason = "an `Instant` has no other constructor")]
fn start() -> Instant {
    Instant::now()
}
