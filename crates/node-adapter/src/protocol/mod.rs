//! State machines of one namespace, one for each adapter.

mod action;
mod adapter;
mod classic_adapter;
mod cluster_core;
mod modes;
mod requests;
mod sharded;
mod sharded_writer;
mod streams;
mod writer;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{Args, Event, Membership, Namespace};

pub use self::action::{
    Action, Answer, Asker, ClassicAction, PublishRefused, Query, QueryRefused, RequestNumber, Wanted,
};
pub use self::adapter::{AdapterMetrics, AdapterNamespace, ClassicMetrics};
use self::requests::{Expected, Requests};
pub use self::sharded::{ShardedConfig, ShardedNamespace, SubscriptionMode};
pub use self::sharded_writer::ShardedWriter;
pub use self::streams::{
    AppendQueue, AppendState, InvalidStreamOffset, MissedReader, ReadRequest, ReleasedEntries, RestoreError,
    RestoreStep, Restored, SessionRestore, StreamOffset, StreamReader, StreamsConfig, StreamsNamespace,
    StreamsWriter, entry_bytes,
};
pub use self::writer::{Broadcast, ClassicWriter, Composed};
use crate::codec::{RecentNames, read_broadcast};
use crate::{
    ChannelKind, Channels, CodecLimits, EncodeError, Flags, Recipients, Request, RequestMessage, Response,
    decode_request, decode_response, encode_request, encode_response,
};

/// Settings that all namespaces of a node share.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClassicConfig {
    /// Prefix of all channels, Node's option `key`. Default: `socket.io`.
    pub prefix: ByteString,
    /// Whether answers are published on the channel of the asking node, Node's option
    /// `publishOnSpecificResponseChannel`. Default: `false`.
    pub own_response_channels: bool,
    /// Limits of received messages.
    pub limits: CodecLimits,
    /// Maximum number of pending requests in one namespace. Default: 10,000.
    pub max_requests: usize,
}

impl Default for ClassicConfig {
    fn default() -> Self {
        Self {
            prefix: ByteString::from_static("socket.io"),
            own_response_channels: false,
            limits: CodecLimits::default(),
            max_requests: 10_000,
        }
    }
}

/// One namespace of a node in a cluster of Node's classic adapter.
///
/// The driver subscribes to the [channels](Self::channels), calls [`handle_message`](Self::handle_message) for each
/// message, the methods named by verbs for its own needs, and [`handle_timeout`](Self::handle_timeout) when
/// [`poll_timeout`](Self::poll_timeout) is due. After each of these it performs the actions of
/// [`poll_action`](Self::poll_action). Local delivery is not part of it: the driver's host does that at once.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use roomcast_core::{Args, Event, Namespace};
/// use roomcast_node_adapter::{ClassicAction, ClassicConfig, ClassicNamespace, Flags, Recipients, node_uid};
///
/// let config = Arc::new(ClassicConfig::default());
/// let mut node = ClassicNamespace::new(config, Namespace::main(), &node_uid(7));
/// let event = Event::new(Namespace::main(), "hi", Args::empty());
/// let recipients = Recipients { rooms: vec!["a".into()], except: vec![] };
/// node.broadcast(&recipients, &Flags::default(), &event)?;
/// let Some(ClassicAction::Publish { channel, .. }) = node.poll_action() else { panic!("publishes") };
/// assert_eq!(channel, "socket.io#/#a#");
/// # Ok::<(), roomcast_node_adapter::EncodeError>(())
/// ```
#[derive(Debug)]
pub struct ClassicNamespace {
    config: Arc<ClassicConfig>,
    writer: Arc<ClassicWriter>,
    requests: Requests,
    actions: VecDeque<ClassicAction>,
    metrics: ClassicMetrics,
    names: RecentNames,
}

impl ClassicNamespace {
    /// Creates a namespace with an id that no other node has; see [`node_uid`].
    #[must_use]
    pub fn new(config: Arc<ClassicConfig>, namespace: Namespace, uid: &str) -> Self {
        let writer = Arc::new(ClassicWriter::new(&config.prefix, namespace, uid));
        Self::with_writer(config, writer)
    }

    /// Creates a namespace whose writer is shared with other threads.
    ///
    /// The messages of the writer are published by the caller, and not counted here.
    #[must_use]
    pub fn with_writer(config: Arc<ClassicConfig>, writer: Arc<ClassicWriter>) -> Self {
        Self {
            config,
            writer,
            requests: Requests::default(),
            actions: VecDeque::new(),
            metrics: ClassicMetrics::default(),
            names: RecentNames::default(),
        }
    }

    /// Returns the channels to subscribe to.
    #[must_use]
    pub fn channels(&self) -> &Channels {
        self.writer.channels()
    }

    /// Returns the id of the node in this namespace.
    #[must_use]
    pub fn uid(&self) -> &ByteString {
        self.writer.uid()
    }

    /// Returns the counters.
    #[must_use]
    pub fn metrics(&self) -> ClassicMetrics {
        self.metrics
    }

    /// Returns the counters since the last call.
    pub fn take_metrics(&mut self) -> ClassicMetrics {
        std::mem::take(&mut self.metrics)
    }

    /// Returns the number of pending requests.
    #[must_use]
    pub fn pending_requests(&self) -> usize {
        self.requests.len()
    }

    /// Returns the next action.
    pub fn poll_action(&mut self) -> Option<ClassicAction> {
        self.actions.pop_front()
    }

    /// Publishes an event to the sockets of other nodes.
    ///
    /// # Errors
    /// Returns an error if the event could harm a Node server or its clients.
    pub fn broadcast(
        &mut self,
        recipients: &Recipients,
        flags: &Flags,
        event: &Event,
    ) -> Result<(), EncodeError> {
        let message = self.writer.broadcast(recipients, flags, event)?;
        self.send(message);
        Ok(())
    }

    /// Publishes a change to the rooms of matching sockets on other nodes.
    pub fn update(&mut self, recipients: Recipients, change: Membership) {
        self.send(self.writer.update(recipients, change));
    }

    /// Disconnects matching sockets on other nodes; with `close`, also closes their clients' connections.
    pub fn disconnect(&mut self, recipients: Recipients, close: bool) {
        self.send(self.writer.disconnect(recipients, close));
    }

    /// Emits to the servers of all other nodes. Binary arguments arrive as Node's `Buffer` is in JSON.
    ///
    /// # Errors
    /// Returns an error if the event could harm a Node server.
    pub fn server_side_emit(&mut self, name: &ByteString, args: &Args) -> Result<(), EncodeError> {
        let message = self.writer.server_side_emit(name, args)?;
        self.send(message);
        Ok(())
    }

    /// Begins a request to all other nodes, which ends with [`ClassicAction::Done`].
    ///
    /// First asks the driver for the number of nodes, with [`ClassicAction::CountNodes`].
    ///
    /// # Errors
    /// Returns an error if the event could harm a Node server, or too many requests are pending.
    pub fn begin(
        &mut self,
        query: Query,
        timeout: Duration,
        now: Instant,
    ) -> Result<RequestNumber, QueryRefused> {
        if self.requests.len() >= self.config.max_requests {
            return Err(QueryRefused::TooMany);
        }
        let number = self.requests.next_number();
        let (expected, request) = match query {
            // Nodes answer with ids alone, but only to rooms.
            Query::Count(Recipients { rooms, except }) if except.is_empty() => {
                (Expected::Count, Request::Sockets(rooms))
            }
            Query::Count(recipients) => (Expected::Count, Request::Fetch(recipients)),
            Query::Fetch(recipients) => (Expected::Sockets, Request::Fetch(recipients)),
            Query::ServerSide(name, args) => (Expected::ServerSide, Request::ServerSideEmit(name, args)),
            Query::Broadcast(recipients, mut flags, event) => {
                flags.timeout = Some(timeout);
                (Expected::Acks { counts: 0, recipients: 0 }, Request::Broadcast(recipients, flags, event))
            }
        };
        let payload = encode_request(self.writer.uid(), &self.id_of(number), &request)?;
        self.requests.begin(number, expected, payload, timeout, now);
        self.actions.push_back(ClassicAction::CountNodes { request: number });
        Ok(number)
    }

    /// Continues a request with the number of subscribers of the request channel, this node included.
    ///
    /// `None` if the number is not known: the request is sent, and ends at its deadline. With no other node it ends at
    /// once.
    pub fn handle_node_count(&mut self, request: RequestNumber, subscribers: Option<u64>, now: Instant) {
        let others = subscribers.map(|count| usize::try_from(count.saturating_sub(1)).unwrap_or(usize::MAX));
        let Some(payload) = self.requests.set_nodes(request, others) else { return };
        if others != Some(0) {
            self.publish(self.writer.channels().request().clone(), payload);
        }
        self.end_if_complete(request, now);
    }

    /// Withdraws a request; no action follows for it.
    pub fn cancel(&mut self, request: RequestNumber) {
        self.requests.remove(request);
        self.actions.retain(|action| match action {
            ClassicAction::CountNodes { request: other }
            | ClassicAction::Answer { request: other, .. }
            | ClassicAction::Done { request: other, .. } => *other != request,
            _ => true,
        });
    }

    /// Returns the time of the next [`handle_timeout`](Self::handle_timeout), if any.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.requests.next_deadline()
    }

    /// Ends the requests whose deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(request) = self.requests.first_due(now) {
            self.end(request, now);
        }
    }

    /// Ends all requests, as before the node unsubscribes. The adapter has no goodbye.
    pub fn close(&mut self, now: Instant) {
        for request in self.requests.all() {
            self.end(request, now);
        }
    }

    /// Handles a message of any of the [channels](Self::channels).
    ///
    /// A broadcast to a room is dropped unread unless `has_room` returns `true`. Unreadable messages are dropped
    /// and counted.
    pub fn handle_message(
        &mut self,
        channel: &str,
        payload: &Bytes,
        now: Instant,
        has_room: impl FnOnce(&str) -> bool,
    ) {
        self.metrics.messages_in += 1;
        match self.writer.channels().classify(channel) {
            Some(ChannelKind::Broadcast(Some(room))) if !room.is_empty() && !has_room(room) => {
                self.metrics.unwanted += 1;
            }
            Some(ChannelKind::Broadcast(_)) => self.handle_broadcast(payload),
            Some(ChannelKind::Request) => self.handle_request(payload),
            Some(ChannelKind::Response) => self.handle_response(payload, now),
            None => self.metrics.ignored += 1,
        }
    }

    fn handle_broadcast(&mut self, payload: &Bytes) {
        let (writer, limits) = (&self.writer, &self.config.limits);
        match read_broadcast(payload, writer.namespace(), writer.uid(), limits, &mut self.names) {
            Ok(Some(message)) => {
                let mut event = message.event;
                set_options(&mut event, &message.flags);
                let target = message.recipients.target(&message.flags);
                self.actions.push_back(ClassicAction::Deliver { target, event });
            }
            Ok(None) => self.metrics.ignored += 1,
            Err(_) => self.metrics.unreadable += 1,
        }
    }

    fn handle_request(&mut self, payload: &Bytes) {
        let message = match decode_request(payload, self.writer.namespace(), &self.config.limits) {
            Ok(Some(message)) => message,
            Ok(None) => return self.metrics.ignored += 1,
            Err(_) => return self.metrics.unreadable += 1,
        };
        if message.sender == *self.writer.uid() {
            // The host has acted at once.
            self.metrics.own += 1;
            return;
        }
        let RequestMessage { sender, id, request } = message;
        let asker = Asker { id, node: sender };
        let wants_answer = !asker.id.is_empty();
        let answered = |asker: Asker| wants_answer.then_some(asker);
        let plain = Flags::default();
        let one = |socket: roomcast_core::SocketId| {
            Recipients { rooms: vec![(&socket).into()], except: Vec::new() }.target(&Flags::default())
        };
        let find = |asker, recipients: Recipients, wanted| {
            let target = recipients.target(&Flags::default());
            ClassicAction::Find { asker, target, wanted }
        };
        let action = match request {
            Request::Update(recipients, change) => {
                ClassicAction::Update { target: recipients.target(&plain), change, asker: None }
            }
            Request::Disconnect(recipients, close) => {
                ClassicAction::Disconnect { target: recipients.target(&plain), close, asker: None }
            }
            Request::UpdateOne(socket, change) => {
                ClassicAction::Update { target: one(socket), change, asker: answered(asker) }
            }
            Request::DisconnectOne(socket, close) => {
                ClassicAction::Disconnect { target: one(socket), close, asker: answered(asker) }
            }
            Request::ServerSideEmit(name, args) => {
                ClassicAction::ServerSide { name, args, asker: answered(asker) }
            }
            // The others are pointless without an answer.
            _ if !wants_answer => return self.metrics.unreadable += 1,
            Request::Sockets(rooms) => find(asker, Recipients { rooms, except: Vec::new() }, Wanted::Ids),
            Request::AllRooms => find(asker, Recipients::default(), Wanted::Rooms),
            Request::Fetch(recipients) => find(asker, recipients, Wanted::Sockets),
            Request::Broadcast(recipients, flags, mut event) => {
                set_options(&mut event, &flags);
                let target = recipients.target(&flags);
                ClassicAction::DeliverWithAck { asker, target, event, timeout: flags.timeout }
            }
        };
        self.actions.push_back(action);
    }

    /// Sends an answer to the request of another node.
    ///
    /// # Errors
    /// Returns an error if arguments are nested too deeply for Node; the answer is not sent then.
    pub fn answer(&mut self, asker: &Asker, response: &Response) -> Result<(), EncodeError> {
        let payload = encode_response(&asker.id, response)?;
        let is_shared = matches!(response, Response::ServerSide(_)) || asker.node.is_empty();
        let channel = if self.config.own_response_channels && !is_shared {
            self.writer.channels().response_to(&asker.node)
        } else {
            self.writer.channels().response().clone()
        };
        self.publish(channel, payload);
        Ok(())
    }

    fn handle_response(&mut self, payload: &Bytes, now: Instant) {
        let message = match decode_response(payload, &self.config.limits) {
            Ok(Some(message)) => message,
            Ok(None) => return self.metrics.ignored += 1,
            Err(_) => return self.metrics.unreadable += 1,
        };
        // Other ids are of requests of other nodes.
        let Some(number) = message.id.strip_prefix(&**self.writer.uid()) else {
            return self.metrics.ignored += 1;
        };
        let Ok(number) = number.parse().map(RequestNumber) else { return self.metrics.ignored += 1 };
        match self.requests.record(number, message.response) {
            Some(answer) => {
                self.actions.push_back(ClassicAction::Answer { request: number, answer });
                self.end_if_complete(number, now);
            }
            None => self.metrics.late += 1,
        }
    }

    fn end_if_complete(&mut self, request: RequestNumber, now: Instant) {
        if self.requests.is_complete(request) {
            self.end(request, now);
        }
    }

    fn end(&mut self, request: RequestNumber, now: Instant) {
        let Some(ended) = self.requests.remove(request) else { return };
        let missing = ended.missing();
        if missing != Some(0) {
            self.metrics.partial += 1;
        }
        let elapsed = now.saturating_duration_since(ended.started);
        self.actions.push_back(ClassicAction::Done { request, missing, elapsed });
    }

    fn id_of(&self, number: RequestNumber) -> String {
        format!("{}{}", self.writer.uid(), number.0)
    }

    fn send(&mut self, message: Composed) {
        self.publish(message.channel, message.payload);
    }

    fn publish(&mut self, channel: ByteString, payload: Bytes) {
        self.metrics.messages_out += 1;
        self.actions.push_back(ClassicAction::Publish { channel, payload });
    }
}

fn set_options(event: &mut Event, flags: &Flags) {
    event.compress = flags.compress.unwrap_or(true);
    event.key = flags.key.as_deref().map(Arc::from);
}

/// Composes an id in the form of Node's classic adapter from a random number: six characters of base64url.
#[must_use]
pub fn node_uid(random: u64) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..6).map(|index| char::from(ALPHABET[(random >> (6 * index)) as usize & 63])).collect()
}

/// Composes an id in the form of Node's newer adapters from a random number: sixteen hexadecimal digits.
#[must_use]
pub fn cluster_uid(random: u64) -> String {
    format!("{random:016x}")
}
