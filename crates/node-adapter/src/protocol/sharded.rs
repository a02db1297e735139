//! State machine of the sharded adapter.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{Args, Event, Membership, Namespace, Room};

use super::action::{Action, Asker, PublishRefused, Query, QueryRefused, RequestNumber};
use super::adapter::{AdapterMetrics, AdapterNamespace};
use super::cluster_core::{ClusterCore, CoreConfig};
use super::modes;
use crate::{
    Channels, ClusterBody, ClusterChannels, ClusterEncoding, CodecLimits, EncodeError, Flags, Recipients,
    Response,
};

/// Settings that all namespaces of a node share.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ShardedConfig {
    /// Prefix of all channels, Node's option `channelPrefix`. Default: `socket.io`.
    pub prefix: ByteString,
    /// Use of channels for rooms, Node's option `subscriptionMode`. Default: [`SubscriptionMode::Dynamic`].
    pub mode: SubscriptionMode,
    /// Limits of received messages.
    pub limits: CodecLimits,
    /// Maximum number of pending requests in one namespace. Default: 10,000.
    pub max_requests: usize,
}

impl Default for ShardedConfig {
    fn default() -> Self {
        Self {
            prefix: ByteString::from_static("socket.io"),
            mode: SubscriptionMode::default(),
            limits: CodecLimits::default(),
            max_requests: 10_000,
        }
    }
}

/// Rooms that have a separate channel, for broadcasts to exactly one room without acknowledgements.
///
/// **All nodes must have the same mode**: a node in another mode misses broadcasts to rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SubscriptionMode {
    /// None: every node receives all messages.
    Static,
    /// All rooms except those whose name is a string of 20 characters, the form of socket ids.
    #[default]
    Dynamic,
    /// All rooms, including the rooms of socket ids: a subscription for each client. Since version 8.3 of the
    /// adapter.
    DynamicPrivate,
}

impl SubscriptionMode {
    /// Returns the name of the mode, that of Node's option.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Dynamic => "dynamic",
            Self::DynamicPrivate => "dynamic-private",
        }
    }

    /// Returns whether a broadcast to this room alone uses the room's channel.
    pub(super) fn publishes_to(self, room: &str) -> bool {
        match self {
            Self::Static => false,
            Self::Dynamic => !has_form_of_id(room),
            Self::DynamicPrivate => true,
        }
    }

    /// Returns whether the channel of a room with members here may be used by a Node server.
    pub(super) fn subscribes_to(self, room: &str) -> bool {
        // A numeric room of Node has a channel, with any number of digits.
        self.publishes_to(room) || (self == Self::Dynamic && room.parse::<f64>().is_ok())
    }

    /// Returns the channel of a broadcast without acknowledgements.
    pub(super) fn channel(self, channels: &ClusterChannels, rooms: &[Room]) -> ByteString {
        match rooms {
            [room] if self.publishes_to(room.as_str()) => channels.room(room.as_str()),
            _ => channels.common().clone(),
        }
    }
}

/// Returns whether Node takes a room for that of a socket id.
fn has_form_of_id(room: &str) -> bool {
    room.encode_utf16().count() == 20
}

/// One namespace of a node in a cluster of Node's sharded adapter (`createShardedAdapter` of
/// `@socket.io/redis-adapter` 8.3), on the sharded pub/sub of Redis 7.
///
/// The driver uses `SSUBSCRIBE`, `SUNSUBSCRIBE`, `SPUBLISH` and `PUBSUB SHARDNUMSUB`, and calls
/// [`room_created`](Self::room_created) and [`room_deleted`](Self::room_deleted) besides the methods of
/// [`AdapterNamespace`]. Local delivery is not part of it: the driver's host does that at once.
///
/// Node does not wait for subscriptions. A broadcast of another node to a room may be missed until the server has
/// confirmed the subscription to the room's channel.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use std::time::Instant;
///
/// use roomcast_core::{Args, Event, Namespace};
/// use roomcast_node_adapter::{
///     Action, AdapterNamespace, Flags, Recipients, ShardedConfig, ShardedNamespace, cluster_uid,
/// };
///
/// let config = Arc::new(ShardedConfig::default());
/// let mut node = ShardedNamespace::new(config, Namespace::main(), &cluster_uid(7));
/// let Some(Action::Subscribe { channel }) = node.poll_action() else { panic!("subscribes") };
/// assert_eq!(channel, "socket.io#/#0000000000000007#");
/// let Some(Action::Subscribe { channel }) = node.poll_action() else { panic!("subscribes") };
/// assert_eq!(channel, "socket.io#/#");
///
/// let event = Event::new(Namespace::main(), "hi", Args::empty());
/// let recipients = Recipients { rooms: vec!["a".into()], except: vec![] };
/// node.broadcast(&recipients, &Flags::default(), &event, Instant::now())?;
/// let Some(Action::Publish { channel, .. }) = node.poll_action() else { panic!("publishes") };
/// assert_eq!(channel, "socket.io#/#a#");
/// # Ok::<(), roomcast_node_adapter::PublishRefused>(())
/// ```
#[derive(Debug)]
pub struct ShardedNamespace {
    mode: SubscriptionMode,
    core: ClusterCore,
    classic_channel: ByteString,
    /// Channels of rooms.
    rooms: BTreeSet<ByteString>,
    is_closed: bool,
}

impl ShardedNamespace {
    /// Creates a namespace with an id that no other node has; see
    /// [`cluster_uid`](crate::cluster_uid).
    #[must_use]
    pub fn new(config: Arc<ShardedConfig>, namespace: Namespace, uid: &str) -> Self {
        let core = CoreConfig {
            prefix: &config.prefix,
            encoding: ClusterEncoding::JsonUnlessBinary,
            limits: config.limits,
            max_requests: config.max_requests,
        };
        Self {
            mode: config.mode,
            classic_channel: Channels::new(&config.prefix, &namespace, uid).request().clone(),
            core: ClusterCore::new(&core, namespace, uid),
            rooms: BTreeSet::new(),
            is_closed: false,
        }
    }

    /// Returns the counters since the last call.
    pub fn take_metrics(&mut self) -> AdapterMetrics {
        std::mem::take(&mut self.core.metrics)
    }

    /// Returns the channels that all namespaces have.
    #[must_use]
    pub fn channels(&self) -> &ClusterChannels {
        &self.core.channels
    }

    /// Returns the channel by which nodes of the classic adapter count each other, which is not sharded.
    ///
    /// Such nodes on the same prefix do not understand this one.
    #[must_use]
    pub fn classic_channel(&self) -> &ByteString {
        &self.classic_channel
    }

    /// Returns all channels to which the node should be subscribed now, for a new connection.
    ///
    /// A slot that moves to another server ends its subscriptions; they are made again at its new owner.
    pub fn subscriptions(&self) -> impl Iterator<Item = &ByteString> {
        let common = [self.core.channels.own(), self.core.channels.common()];
        common.into_iter().chain(&self.rooms).filter(|_| !self.is_closed)
    }

    /// Returns the channel of a room, if nodes in this mode use it.
    #[must_use]
    pub fn room_channel(&self, room: &Room) -> Option<ByteString> {
        self.mode.subscribes_to(room.as_str()).then(|| self.core.channels.room(room.as_str()))
    }

    /// Subscribes to the channel of a room that got its first member on this node, if it has one.
    ///
    /// In the mode [`SubscriptionMode::DynamicPrivate`], and if socket ids do not have 20 characters, it is also called
    /// for the rooms that are named by socket ids.
    pub fn room_created(&mut self, room: &Room) {
        let Some(channel) = self.room_channel(room) else { return };
        // A room with the name of this node shares its channel.
        let is_new = channel != *self.core.channels.own() && self.rooms.insert(channel.clone());
        if is_new && !self.is_closed {
            self.core.actions.push_back(Action::Subscribe { channel });
        }
    }

    /// Tells other nodes of Roomcast the mode of this node; they answer if theirs is another one.
    ///
    /// A driver calls it when the counted channel is subscribed. Node ignores the message.
    pub fn announce_mode(&mut self) {
        self.publish_mode(true);
    }

    fn publish_mode(&mut self, is_first: bool) {
        let payload = modes::encode(&self.core.uid, &self.core.namespace, self.mode.as_str(), is_first);
        self.core.publish(self.core.channels.common().clone(), payload);
    }

    fn handle_notice(&mut self, notice: modes::Received) {
        if notice.mode == self.mode.as_str() {
            return;
        }
        if notice.is_first {
            self.publish_mode(false);
        }
        self.core.actions.push_back(Action::OtherMode { node: notice.node, mode: Some(notice.mode) });
    }

    /// Unsubscribes from the channel of a room that lost its last member on this node.
    pub fn room_deleted(&mut self, room: &Room) {
        let Some(channel) = self.room_channel(room) else { return };
        if self.rooms.remove(&channel) && !self.is_closed {
            self.core.actions.push_back(Action::Unsubscribe { channel });
        }
    }
}

impl AdapterNamespace for ShardedNamespace {
    fn uid(&self) -> &ByteString {
        &self.core.uid
    }

    fn counted_channel(&self) -> &ByteString {
        self.core.channels.common()
    }

    fn metrics(&self) -> AdapterMetrics {
        self.core.metrics
    }

    fn pending_requests(&self) -> usize {
        self.core.pending_requests()
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.core.actions.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.core.next_deadline()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.core.end_due_requests(now);
    }

    fn handle_message(&mut self, channel: &str, payload: &Bytes, now: Instant, _: &dyn Fn(&str) -> bool) {
        if let Some(notice) = modes::decode(payload, &self.core.namespace, &self.core.uid) {
            self.core.metrics.messages_in += 1;
            self.core.metrics.ignored += 1;
            return self.handle_notice(notice);
        }
        let before = self.core.actions.len();
        self.core.handle_message(payload, now);
        // A node in this mode had used the channel of the room.
        if self.core.actions.len() > before
            && let Some(Action::Deliver { target, .. }) = self.core.actions.back()
            && let [room] = &target.rooms[..]
            && self.mode.publishes_to(room.as_str())
            && *self.core.channels.common() == channel
        {
            self.core.actions.push_back(Action::OtherMode { node: ByteString::new(), mode: None });
        }
    }

    fn broadcast(
        &mut self,
        recipients: &Recipients,
        flags: &Flags,
        event: &Event,
        _: Instant,
    ) -> Result<(), PublishRefused> {
        let body = ClusterBody::Broadcast(recipients.clone(), flags.clone(), event.clone());
        let payload = self.core.encode("", &body)?;
        let channel = self.mode.channel(&self.core.channels, &recipients.rooms);
        self.core.publish(channel, payload);
        Ok(())
    }

    fn update(
        &mut self,
        recipients: Recipients,
        change: Membership,
        _: Instant,
    ) -> Result<(), PublishRefused> {
        Ok(self.core.tell(&ClusterBody::Update(recipients, change))?)
    }

    fn disconnect(&mut self, recipients: Recipients, close: bool, _: Instant) -> Result<(), PublishRefused> {
        Ok(self.core.tell(&ClusterBody::Disconnect(recipients, close))?)
    }

    fn server_side_emit(&mut self, name: &ByteString, args: &Args) -> Result<(), EncodeError> {
        self.core.tell(&ClusterBody::ServerSideEmit(name.clone(), args.clone()))
    }

    fn begin(
        &mut self,
        query: Query,
        timeout: Duration,
        now: Instant,
    ) -> Result<RequestNumber, QueryRefused> {
        self.core.begin(query, timeout, now)
    }

    fn handle_node_count(&mut self, request: RequestNumber, subscribers: Option<u64>, now: Instant) {
        self.core.handle_node_count(request, subscribers, now);
    }

    fn cancel(&mut self, request: RequestNumber) {
        self.core.cancel(request);
    }

    fn answer(&mut self, asker: &Asker, response: &Response) -> Result<(), EncodeError> {
        self.core.answer(asker, response)
    }

    /// Ends all requests and unsubscribes from all channels, first from the counted one.
    fn close(&mut self, now: Instant) {
        self.core.end_all_requests(now);
        if self.is_closed {
            return;
        }
        self.is_closed = true;
        let common = [self.core.channels.common().clone(), self.core.channels.own().clone()];
        let channels = common.into_iter().chain(std::mem::take(&mut self.rooms));
        self.core.actions.extend(channels.map(|channel| Action::Unsubscribe { channel }));
    }
}
