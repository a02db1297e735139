//! State machines of the Redis Streams adapter.

mod appends;
mod missed;
mod offset;
mod own;
mod reader;
mod restore;
mod senders;
mod writer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{Args, Event, Membership, Namespace, Target};

pub use self::appends::{AppendQueue, AppendState, entry_bytes};
pub use self::missed::MissedReader;
pub use self::offset::{InvalidStreamOffset, ReleasedEntries, StreamOffset};
use self::own::OwnEntries;
pub use self::reader::{ReadRequest, StreamReader};
pub use self::restore::{RestoreError, RestoreStep, Restored, SessionRestore};
use self::senders::Senders;
pub use self::writer::StreamsWriter;
use super::action::{Action, Asker, PublishRefused, Query, QueryRefused, RequestNumber};
use super::adapter::{AdapterMetrics, AdapterNamespace};
use super::cluster_core::{ClusterCore, CoreConfig};
use super::set_options;
use crate::{
    ClusterBody, ClusterChannels, ClusterEncoding, CodecLimits, EncodeError, EntryFields, EntryId, Flags,
    Recipients, Response, StreamEntry, encode_entry, push_number,
};

/// Settings that all namespaces of a node share.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StreamsConfig {
    /// Prefix of all channels, Node's option `channelPrefix`. Default: `socket.io`.
    pub prefix: ByteString,
    /// Name of the stream, Node's option `streamName` with `streamCount` 1. Default: `socket.io`.
    pub stream: ByteString,
    /// Approximate number of entries at which this node trims the stream, Node's option `maxLen`. Default: 10,000.
    ///
    /// The smallest number of any writer, emitters included, applies to all. All entries count, so 10,000 are two
    /// seconds at 5000 entries a second. Clients whose offset is trimmed cannot be recovered.
    pub max_len: u64,
    /// Whether binary is written as Node's `Buffer` is in JSON, Node's option `onlyPlaintext`. Default: `false`.
    pub plaintext_only: bool,
    /// Whether requests and answers use sharded channels, Node's option `useShardedPubSub`. Default: `false`.
    ///
    /// It must be the same on all servers, since servers with another setting are neither asked nor counted. The engine
    /// needs sharded channels.
    pub sharded_requests: bool,
    /// Limits of received messages.
    pub limits: CodecLimits,
    /// Maximum number of pending requests in one namespace. Default: 10,000.
    pub max_requests: usize,
    /// Maximum number of own entries in one namespace not yet read back from the stream. Default: 10,000.
    pub max_unconfirmed: usize,
    /// Maximum time in which an own entry comes back from the stream. Then it takes effect here without an offset.
    /// Default: 5 seconds.
    pub confirm_timeout: Duration,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        Self {
            prefix: ByteString::from_static("socket.io"),
            stream: ByteString::from_static("socket.io"),
            max_len: 10_000,
            plaintext_only: false,
            sharded_requests: false,
            limits: CodecLimits::default(),
            max_requests: 10_000,
            max_unconfirmed: 10_000,
            confirm_timeout: Duration::from_secs(5),
        }
    }
}

/// One namespace of a node in a cluster of Node's Redis Streams adapter (`@socket.io/redis-streams-adapter` 0.3).
///
/// Broadcasts, changes of rooms and disconnects are entries of a stream; requests and answers are messages of pub/sub.
/// The driver appends the entries of [`Action::Append`], in order on one connection, and passes the entries that a
/// [`StreamReader`] reads to [`handle_entry`](Self::handle_entry). Otherwise [`AdapterNamespace`] applies.
///
/// # Own entries
///
/// [`broadcast`](AdapterNamespace::broadcast), [`update`](AdapterNamespace::update) and
/// [`disconnect`](AdapterNamespace::disconnect) have no local effect at first, unlike with the other adapters. The
/// namespace returns [`Action::Deliver`], [`Action::Update`] or [`Action::Disconnect`] for this node too, once the
/// entry comes back from the stream. So all nodes apply all entries in the same order, and the offset of an event never
/// precedes that of an earlier one. Node instead delivers its own events as soon as the entry is stored, and a client
/// may receive a later offset first.
///
/// Each takes effect here exactly once, in the order of the calls: an entry that is not stored takes effect without an
/// offset, and one that does not come back in time with a [provisional](StreamOffset) one. To exclude the sender of an
/// event, exclude the room of its id.
///
/// # Limits of the protocol
///
/// Requests overtake the entries of the stream, and events with acknowledgements have no offset.
#[derive(Debug)]
pub struct StreamsNamespace {
    config: Arc<StreamsConfig>,
    core: ClusterCore,
    own: OwnEntries,
    senders: Senders,
    /// Last entry up to which those of this namespace were handled.
    position: Option<EntryId>,
    is_closed: bool,
}

impl StreamsNamespace {
    /// Creates a namespace with an id that no other node has; see
    /// [`cluster_uid`](crate::cluster_uid).
    #[must_use]
    pub fn new(config: Arc<StreamsConfig>, namespace: Namespace, uid: &str) -> Self {
        let core = CoreConfig {
            prefix: &config.prefix,
            encoding: ClusterEncoding::MessagePack,
            limits: config.limits,
            max_requests: config.max_requests,
        };
        let core = ClusterCore::new(&core, namespace, uid);
        let (own, senders) = (OwnEntries::default(), Senders::default());
        Self { config, core, own, senders, position: None, is_closed: false }
    }

    /// Returns the channels.
    #[must_use]
    pub fn channels(&self) -> &ClusterChannels {
        &self.core.channels
    }

    /// Returns the namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.core.namespace
    }

    /// Returns the limits of received messages.
    #[must_use]
    pub fn limits(&self) -> CodecLimits {
        self.core.limits
    }

    /// Returns the counters since the last call.
    pub fn take_metrics(&mut self) -> AdapterMetrics {
        std::mem::take(&mut self.core.metrics)
    }

    /// Returns whether an entry was written by this node.
    #[must_use]
    pub fn is_own(&self, entry: &StreamEntry) -> bool {
        entry.sender == self.core.uid
    }

    /// Returns the number of own entries not yet read back from the stream.
    #[must_use]
    pub fn unconfirmed_entries(&self) -> usize {
        self.own.len()
    }

    /// Returns the bytes of these entries in memory, approximately.
    #[must_use]
    pub fn unconfirmed_bytes(&self) -> usize {
        self.own.bytes()
    }

    /// Handles the failure of [`Action::Append`]: the entry was not stored.
    ///
    /// It takes effect here after all earlier ones have, without an offset, and is ignored if it comes back later. The
    /// success needs no call.
    pub fn handle_append_failure(&mut self, number: u64) {
        self.own.refuse(number);
        self.perform_settled();
    }

    /// Appends an entry of a [`StreamsWriter`] with the id of this namespace, and returns its number.
    ///
    /// `local` takes effect here as described [above](Self#own-entries); `None` if the entry has none. The caller
    /// limits the number of entries.
    pub fn append(&mut self, mut fields: EntryFields, local: Option<(Target, Event)>, now: Instant) -> u64 {
        let number = self.own.next_number();
        push_number(&mut fields, number);
        let local = local.map(|(target, event)| Action::Deliver { target, event });
        self.own.push(number, local, now.checked_add(self.config.confirm_timeout));
        self.core.metrics.messages_out += 1;
        let (stream, max_len) = (self.config.stream.clone(), self.config.max_len);
        self.core.actions.push_back(Action::Append { stream, max_len, fields, number });
        number
    }

    /// Returns whether an own entry took effect before it came back from the stream.
    #[must_use]
    pub fn was_released(&self, number: u64) -> bool {
        self.own.was_released(number)
    }

    /// Returns whether own entries took effect that may come back from the stream.
    #[must_use]
    pub fn has_released(&self) -> bool {
        self.own.last_released().is_some()
    }

    /// Notes the last id up to which all entries were handled, if it is known. Own entries that do not come back then
    /// have [provisional](StreamOffset) offsets; otherwise they have none.
    pub fn note_position(&mut self, position: Option<EntryId>) {
        self.position = self.position.max(position);
    }

    /// Lets all own entries take effect here, as when the stream cannot be reached.
    pub fn release_unconfirmed(&mut self) {
        self.own.fail_all();
        self.perform_settled();
    }

    /// Handles a loss of entries, after which own ones may never come back.
    pub fn handle_gap(&mut self) {
        self.own.forget_released();
    }

    /// Handles an entry of the stream, which the driver passes to the namespace that it names.
    ///
    /// An entry that was stored twice is ignored the second time.
    pub fn handle_entry(&mut self, entry: &StreamEntry, now: Instant) {
        self.core.metrics.messages_in += 1;
        self.position = Some(entry.id);
        if self.senders.is_repeated(entry) {
            self.core.metrics.repeated += 1;
            return;
        }
        if entry.sender == self.core.uid {
            self.core.metrics.own += 1;
            if let Some(number) = entry.number {
                self.handle_own(number, entry.id);
            }
            return;
        }
        match entry.message(&self.core.namespace, &self.core.limits) {
            Ok(Some(message)) => {
                let offset = self.offset(entry.id);
                self.core.accept(message, Some(offset), now);
            }
            Ok(None) => self.core.metrics.ignored += 1,
            Err(_) => self.core.metrics.unreadable += 1,
        }
    }

    /// Performs an own operation. Earlier ones will not come back any more, since the stream has their order.
    fn handle_own(&mut self, number: u64, id: EntryId) {
        for (confirmed, action) in self.own.confirm(number) {
            let offset = confirmed.then(|| self.offset(id));
            self.perform(action, offset);
        }
        self.perform_settled();
    }

    fn perform_settled(&mut self) {
        while let Some((released, action)) = self.own.pop_failed() {
            let id = self.position.filter(|_| released.is_some());
            let offset = id.map(|id| self.offset(id));
            self.perform(action, offset);
        }
    }

    fn perform(&mut self, mut action: Action, offset: Option<ByteString>) {
        if let Action::Deliver { target, event } = &mut action
            && target.delivery != roomcast_core::Delivery::Volatile
        {
            event.offset = offset;
        }
        self.core.actions.push_back(action);
    }

    /// Returns the offset of a client that has received all events up to an entry, and the released ones.
    fn offset(&self, id: EntryId) -> ByteString {
        let sender = &self.core.uid;
        let released =
            self.own.last_released().map(|number| ReleasedEntries { sender: sender.clone(), number });
        StreamOffset { id, released }.to_string().into()
    }

    fn append_body(&mut self, body: &ClusterBody, local: Action, now: Instant) -> Result<(), PublishRefused> {
        if self.own.len() >= self.config.max_unconfirmed {
            return Err(PublishRefused::QueueFull);
        }
        let number = self.own.next_number();
        let Self { config, core, .. } = self;
        let mut fields = encode_entry(&core.uid, &core.namespace, body, config.plaintext_only)?;
        push_number(&mut fields, number);
        let deadline = now.checked_add(config.confirm_timeout);
        self.own.push(number, Some(local), deadline);
        core.metrics.messages_out += 1;
        let (stream, max_len) = (config.stream.clone(), config.max_len);
        core.actions.push_back(Action::Append { stream, max_len, fields, number });
        Ok(())
    }
}

impl AdapterNamespace for StreamsNamespace {
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
        [self.core.next_deadline(), self.own.next_deadline()].into_iter().flatten().min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.core.end_due_requests(now);
        self.own.fail_due(now);
        self.perform_settled();
    }

    fn handle_message(&mut self, _: &str, payload: &Bytes, now: Instant, _: &dyn Fn(&str) -> bool) {
        self.core.handle_message(payload, now);
    }

    fn broadcast(
        &mut self,
        recipients: &Recipients,
        flags: &Flags,
        event: &Event,
        now: Instant,
    ) -> Result<(), PublishRefused> {
        let target = recipients.clone().target(flags);
        let body = ClusterBody::Broadcast(recipients.clone(), flags.clone(), event.clone());
        let mut event = event.clone();
        set_options(&mut event, flags);
        self.append_body(&body, Action::Deliver { target, event }, now)
    }

    fn update(
        &mut self,
        recipients: Recipients,
        change: Membership,
        now: Instant,
    ) -> Result<(), PublishRefused> {
        let target = recipients.clone().target(&Flags::default());
        let local = Action::Update { target, change: change.clone(), asker: None };
        self.append_body(&ClusterBody::Update(recipients, change), local, now)
    }

    fn disconnect(
        &mut self,
        recipients: Recipients,
        close: bool,
        now: Instant,
    ) -> Result<(), PublishRefused> {
        let target = recipients.clone().target(&Flags::default());
        let local = Action::Disconnect { target, close, asker: None };
        self.append_body(&ClusterBody::Disconnect(recipients, close), local, now)
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

    /// Ends all requests, lets all own entries take effect, and unsubscribes, first from the counted channel.
    fn close(&mut self, now: Instant) {
        self.core.end_all_requests(now);
        self.own.fail_all();
        self.perform_settled();
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        let channels = [self.core.channels.common().clone(), self.core.channels.own().clone()];
        self.core.actions.extend(channels.map(|channel| Action::Unsubscribe { channel }));
    }
}
