//! Common interface of the state machines.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{Args, Event, Membership};

use super::action::{Action, Asker, PublishRefused, Query, QueryRefused, RequestNumber};
use crate::{EncodeError, Flags, Recipients, Response};

/// Counters of a namespace since it was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdapterMetrics {
    /// Messages and stream entries received.
    pub messages_in: u64,
    /// Messages published, and entries for the stream.
    pub messages_out: u64,
    /// Messages dropped because they are malformed or exceed a limit.
    pub unreadable: u64,
    /// Messages of the node itself, received back. The classic adapter counts requests only.
    pub own: u64,
    /// Broadcasts to a room without members here, dropped unread.
    pub unwanted: u64,
    /// Answers to other nodes, and messages of another namespace or of an unknown type. The classic adapter also counts
    /// broadcasts of the node itself.
    pub ignored: u64,
    /// Entries of the stream that were stored twice, ignored the second time.
    pub repeated: u64,
    /// Answers to own requests that have ended.
    pub late: u64,
    /// Requests that ended without the answers of some nodes.
    pub partial: u64,
}

impl AddAssign for AdapterMetrics {
    fn add_assign(&mut self, other: Self) {
        self.messages_in += other.messages_in;
        self.messages_out += other.messages_out;
        self.unreadable += other.unreadable;
        self.own += other.own;
        self.unwanted += other.unwanted;
        self.ignored += other.ignored;
        self.repeated += other.repeated;
        self.late += other.late;
        self.partial += other.partial;
    }
}

/// Counters of a [`ClassicNamespace`](crate::ClassicNamespace).
pub type ClassicMetrics = AdapterMetrics;

/// One namespace of a node in a cluster of Node servers, with any of their adapters.
///
/// The driver subscribes to channels, calls [`handle_message`](Self::handle_message) for each message, the methods
/// named by verbs for its own needs, and [`handle_timeout`](Self::handle_timeout) when
/// [`poll_timeout`](Self::poll_timeout) is due. After each of these, and at the start, it performs the actions of
/// [`poll_action`](Self::poll_action), in order. Methods do not block.
pub trait AdapterNamespace {
    /// Returns the id of the node in this namespace.
    fn uid(&self) -> &ByteString;

    /// Returns the channel whose subscribers are the nodes of the namespace.
    ///
    /// A driver subscribes to it exactly once, on one connection, and only while it performs actions: every request in
    /// the cluster waits for as many answers as the channel has subscribers.
    fn counted_channel(&self) -> &ByteString;

    /// Returns the counters.
    fn metrics(&self) -> AdapterMetrics;

    /// Returns the number of pending requests.
    fn pending_requests(&self) -> usize;

    /// Returns the next action.
    fn poll_action(&mut self) -> Option<Action>;

    /// Returns the time of the next [`handle_timeout`](Self::handle_timeout), if any.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Ends the requests whose deadline has passed, and performs other due work.
    fn handle_timeout(&mut self, now: Instant);

    /// Handles a message of a channel.
    ///
    /// The classic adapter drops a broadcast to a room unread unless `has_room` returns `true`. Unreadable messages are
    /// dropped and counted.
    fn handle_message(
        &mut self,
        channel: &str,
        payload: &Bytes,
        now: Instant,
        has_room: &dyn Fn(&str) -> bool,
    );

    /// Publishes an event to the sockets of other nodes.
    ///
    /// # Errors
    /// Returns an error if the event could harm a Node server or its clients, or if a queue is full.
    fn broadcast(
        &mut self,
        recipients: &Recipients,
        flags: &Flags,
        event: &Event,
        now: Instant,
    ) -> Result<(), PublishRefused>;

    /// Publishes a change to the rooms of matching sockets on other nodes.
    ///
    /// # Errors
    /// Returns an error if a queue is full.
    fn update(
        &mut self,
        recipients: Recipients,
        change: Membership,
        now: Instant,
    ) -> Result<(), PublishRefused>;

    /// Disconnects matching sockets on other nodes; with `close`, also closes their clients' connections.
    ///
    /// # Errors
    /// Returns an error if a queue is full.
    fn disconnect(&mut self, recipients: Recipients, close: bool, now: Instant)
    -> Result<(), PublishRefused>;

    /// Emits to the servers of all other nodes.
    ///
    /// # Errors
    /// Returns an error if the event could harm a Node server.
    fn server_side_emit(&mut self, name: &ByteString, args: &Args) -> Result<(), EncodeError>;

    /// Begins a request to all other nodes, which ends with [`Action::Done`].
    ///
    /// # Errors
    /// Returns an error if the event could harm a Node server, or too many requests are pending.
    fn begin(&mut self, query: Query, timeout: Duration, now: Instant)
    -> Result<RequestNumber, QueryRefused>;

    /// Continues a request with the number of subscribers of the counted channel, this node included.
    ///
    /// `None` if the number is not known: the request is sent, and ends at its deadline. With no other node it ends at
    /// once.
    fn handle_node_count(&mut self, request: RequestNumber, subscribers: Option<u64>, now: Instant);

    /// Withdraws a request; no action follows for it.
    fn cancel(&mut self, request: RequestNumber);

    /// Sends an answer to the request of another node.
    ///
    /// # Errors
    /// Returns an error if arguments are nested too deeply for Node; the answer is not sent then.
    fn answer(&mut self, asker: &Asker, response: &Response) -> Result<(), EncodeError>;

    /// Ends all requests, as before the node unsubscribes. The adapters have no goodbye.
    fn close(&mut self, now: Instant);
}
