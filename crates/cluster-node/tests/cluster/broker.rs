//! Redis in memory: channels, patterns and counts, without delay, and its outages.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use roomcast_core::{ByteString, Bytes};
use roomcast_node_adapter::{PubSub, PubSubCommand, PubSubEvent, SubscriberCount};

/// Broker of all connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Broker(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    connections: Vec<Connection>,
    is_down: bool,
    is_frozen: bool,
    refuses_counts: bool,
    /// Number of subscribe commands to refuse.
    refused_subscriptions: usize,
    /// Subscribers of channels of the other kind.
    others: Option<(String, u64)>,
    /// Commands for subscriptions.
    commands: usize,
    /// Everything that was published.
    published: Vec<(String, Bytes)>,
}

#[derive(Debug, Default)]
struct Connection {
    is_connected: bool,
    events: VecDeque<PubSubEvent>,
    channels: Vec<ByteString>,
    patterns: Vec<ByteString>,
    /// Commands that a frozen broker has not read.
    unread: VecDeque<PubSubCommand>,
    lost: u64,
    is_dropped: bool,
    waker: Option<Waker>,
}

/// Connection of one node.
#[derive(Debug)]
pub(crate) struct MemoryPubSub {
    broker: Broker,
    index: usize,
}

impl Broker {
    pub(crate) fn connect(&self) -> MemoryPubSub {
        let mut state = self.lock();
        let index = state.connections.len();
        let is_connected = !state.is_down;
        let events = is_connected.then_some(PubSubEvent::Connected).into_iter().collect();
        state.connections.push(Connection { is_connected, events, ..Connection::default() });
        MemoryPubSub { broker: self.clone(), index }
    }

    /// Ends all connections, and refuses new ones.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        (state.is_down, state.is_frozen) = (true, false);
        state.connections.iter_mut().for_each(Connection::disconnect);
    }

    pub(crate) fn start(&self) {
        let mut state = self.lock();
        state.is_down = false;
        for connection in state.connections.iter_mut().filter(|connection| !connection.is_dropped) {
            connection.is_connected = true;
            connection.push(PubSubEvent::Connected);
        }
    }

    /// Stops reading commands; [`thaw`](Self::thaw) reads them.
    pub(crate) fn freeze(&self) {
        self.lock().is_frozen = true;
    }

    pub(crate) fn thaw(&self) {
        let mut state = self.lock();
        state.is_frozen = false;
        for index in 0..state.connections.len() {
            while let Some(command) = state.connections[index].unread.pop_front() {
                state.apply(index, command);
            }
            state.connections[index].wake();
        }
    }

    pub(crate) fn refuse_counts(&self) {
        self.lock().refuses_counts = true;
    }

    pub(crate) fn refuse_subscriptions(&self, number: usize) {
        self.lock().refused_subscriptions = number;
    }

    /// Sets the subscribers of a channel of the other kind.
    pub(crate) fn set_other_kind(&self, channel: &str, subscribers: u64) {
        self.lock().others = Some((channel.to_owned(), subscribers));
    }

    /// Returns the number of commands for subscriptions since the last call.
    pub(crate) fn take_commands(&self) -> usize {
        std::mem::take(&mut self.lock().commands)
    }

    /// Returns the number of subscribers of a channel.
    pub(crate) fn subscribers(&self, channel: &str) -> usize {
        self.lock().count(channel)
    }

    /// Returns the number of subscriptions to patterns.
    pub(crate) fn patterns(&self) -> usize {
        self.lock().connections.iter().map(|connection| connection.patterns.len()).sum()
    }

    /// Returns the number of connections that their nodes have not dropped.
    pub(crate) fn connections(&self) -> usize {
        self.lock().connections.iter().filter(|connection| !connection.is_dropped).count()
    }

    /// Publishes a message from outside.
    pub(crate) fn publish(&self, channel: &str, payload: impl Into<Bytes>) {
        self.lock().publish(&channel.into(), &payload.into());
    }

    /// Subscribes a node that does nothing, as if it was frozen.
    pub(crate) fn subscribe_frozen(&self, channels: &[&str]) {
        let channels = channels.iter().map(|channel| ByteString::from(*channel)).collect();
        self.lock().connections.push(Connection { is_connected: true, channels, ..Connection::default() });
    }

    /// Returns the messages since the last call, without heartbeats.
    pub(crate) fn take_published(&self) -> Vec<(String, Bytes)> {
        let mut published = std::mem::take(&mut self.lock().published);
        published.retain(|(channel, _)| channel != HEARTBEATS);
        published
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn count(&self, channel: &str) -> usize {
        self.connections
            .iter()
            .flat_map(|connection| &connection.channels)
            .filter(|name| **name == channel)
            .count()
    }

    fn publish(&mut self, channel: &ByteString, payload: &Bytes) {
        self.published.push((channel.to_string(), payload.clone()));
        for connection in &mut self.connections {
            let exact = connection.channels.iter().filter(|name| *name == channel);
            let matching = connection.patterns.iter().filter(|pattern| matches(pattern, channel));
            let subscriptions: Vec<_> = exact.chain(matching).cloned().collect();
            for subscription in subscriptions {
                let (channel, payload) = (channel.clone(), payload.clone());
                connection.push(PubSubEvent::Message { subscription, channel, payload });
            }
        }
    }

    fn apply(&mut self, index: usize, command: PubSubCommand) {
        let is_change =
            matches!(command, PubSubCommand::Subscribe { .. } | PubSubCommand::Unsubscribe { .. });
        self.commands += usize::from(is_change);
        match command {
            PubSubCommand::Publish { channel, payload } => self.publish(&channel, &payload),
            PubSubCommand::Subscribe { token, channels, .. }
                if self.refused_subscriptions > 0 && channels != [HEARTBEATS] =>
            {
                self.refused_subscriptions -= 1;
                self.connections[index].push(PubSubEvent::Refused { token });
            }
            PubSubCommand::Subscribe { channels, patterns, token } => {
                let connection = &mut self.connections[index];
                for (new, known) in
                    [(channels, &mut connection.channels), (patterns, &mut connection.patterns)]
                {
                    for name in new {
                        // A room may have the channel of another namespace.
                        let may_repeat = name.contains("#/n#");
                        assert!(may_repeat || !known.contains(&name), "{name} is subscribed already");
                        if !known.contains(&name) {
                            known.push(name);
                        }
                    }
                }
                connection.push(PubSubEvent::Done { token });
            }
            PubSubCommand::Unsubscribe { channels, patterns, token } => {
                let connection = &mut self.connections[index];
                connection.channels.retain(|name| !channels.contains(name));
                connection.patterns.retain(|name| !patterns.contains(name));
                connection.push(PubSubEvent::Done { token });
            }
            PubSubCommand::Count { channel, token } => {
                let count = match self.refuses_counts {
                    true => SubscriberCount::Refused,
                    false => SubscriberCount::Known(self.count(&channel) as u64),
                };
                self.connections[index].push(PubSubEvent::Counted { token, count });
            }
        }
    }
}

impl Connection {
    fn push(&mut self, event: PubSubEvent) {
        if self.is_connected || !matches!(event, PubSubEvent::Message { .. }) {
            self.events.push_back(event);
        }
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn disconnect(&mut self) {
        if !self.is_connected {
            return;
        }
        self.channels.clear();
        self.patterns.clear();
        self.events.clear();
        self.is_connected = false;
        for command in std::mem::take(&mut self.unread) {
            match command {
                PubSubCommand::Publish { .. } => self.lost += 1,
                PubSubCommand::Count { token, .. } => {
                    self.push(PubSubEvent::Counted { token, count: SubscriberCount::Lost });
                }
                _ => {}
            }
        }
        self.push(PubSubEvent::Unsubscribed);
        self.push(PubSubEvent::Disconnected);
    }
}

/// Returns whether a channel matches a pattern that ends with a star and has no other glob.
fn matches(pattern: &str, channel: &str) -> bool {
    let prefix = pattern.strip_suffix('*').expect("a star at the end");
    let mut literal = String::new();
    let mut characters = prefix.chars();
    while let Some(character) = characters.next() {
        assert!(!"*?[]^".contains(character), "an escaped glob");
        literal.push(if character == '\\' {
            characters.next().expect("an escaped character")
        } else {
            character
        });
    }
    channel.starts_with(&literal)
}

impl MemoryPubSub {
    fn with<T>(&self, act: impl FnOnce(&mut State, usize) -> T) -> T {
        act(&mut self.broker.lock(), self.index)
    }
}

impl PubSub for MemoryPubSub {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<PubSubEvent> {
        self.with(|state, index| {
            let connection = &mut state.connections[index];
            match connection.events.pop_front() {
                Some(event) => Poll::Ready(event),
                None => {
                    connection.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.with(|state, index| {
            let connection = &mut state.connections[index];
            if connection.is_connected && connection.unread.len() < BUFFER {
                return Poll::Ready(());
            }
            connection.waker = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    fn send(&mut self, command: PubSubCommand) {
        self.with(|state, index| {
            assert!(state.connections[index].is_connected, "poll_ready comes first");
            if state.is_frozen {
                state.connections[index].unread.push_back(command);
            } else {
                state.apply(index, command);
            }
        });
    }

    fn count_other_kind(&mut self, channel: &ByteString, token: u64) -> bool {
        self.with(|state, index| {
            let Some((name, subscribers)) = &state.others else { return false };
            let count = SubscriberCount::Known(if *channel == **name { *subscribers } else { 0 });
            state.connections[index].push(PubSubEvent::Counted { token, count });
            true
        })
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.with(|state, index| {
            let connection = &mut state.connections[index];
            if connection.unread.is_empty() {
                return Poll::Ready(());
            }
            connection.waker = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    fn lost(&self) -> u64 {
        self.with(|state, index| state.connections[index].lost)
    }
}

impl Drop for MemoryPubSub {
    fn drop(&mut self) {
        self.with(|state, index| {
            let connection = &mut state.connections[index];
            connection.disconnect();
            connection.events.clear();
            connection.is_dropped = true;
        });
    }
}

/// Commands that a frozen broker's connection takes.
pub(crate) const BUFFER: usize = 8;

/// Channel of heartbeats.
pub(crate) const HEARTBEATS: &str = "socket.io-roomcast#";
