//! Transports and their connections

mod http;

use std::fmt;
use std::task::{Context, Poll};

pub use self::http::{ByteStream, Exchange, Refused, Rejection, RequestBody, Responder, Upgrade, Upgraded};
use crate::{CloseReason, ConnectionError, FrameSink, Message, Outbox};

/// Opens connections of one kind; held once by a server, shared by all sessions
///
/// A transport carries [`Message`]s and knows nothing of what they mean.
pub trait Transport: Send + Sync + fmt::Debug + 'static {
    /// The value of `?transport=`, and the name among `upgrades`
    fn name(&self) -> TransportName;

    /// What a session may do here
    fn capabilities(&self) -> Capabilities;

    /// Opens a connection with the request that asks for it
    ///
    /// The exchange may be answered at once (a WebSocket's 101) or held (a GET that waits).
    ///
    /// # Errors
    /// When the request is not one that opens such a connection: the exchange comes back unanswered, with what is
    /// to be told.
    fn open(&self, exchange: Exchange) -> Result<Box<dyn Connection>, Refused>;
}

/// One live carrier of a session: what arrives is read here, what leaves goes through its [`FrameSink`]
///
/// Owned and polled by one task.
pub trait Connection: Send + fmt::Debug {
    /// Hands over a later HTTP request of the same session: a GET or a POST of a polling client
    ///
    /// # Errors
    /// When this kind of connection takes none, or this one is out of turn; the session is closed if
    /// [`Rejection::fatal`] says so.
    fn accept(&mut self, exchange: Exchange) -> Result<(), Refused>;

    /// Ready once bytes can flow, with the write half; called until it is, and not again
    ///
    /// # Errors
    /// When the connection broke before it was open.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn FrameSink>, ConnectionError>>;

    /// Reads what has arrived and appends the messages in it to `messages`
    ///
    /// Ready when something arrived, even if it made no whole message: any sign of life counts. What the
    /// transport has to answer by itself (a pong, the echo of a close frame) goes into `outbox`, behind what
    /// waits there. Messages that came whole before an error are appended before it is returned.
    ///
    /// # Errors
    /// When the carrier broke or the client misused it. Not to be called again after that.
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &Outbox,
        messages: &mut Vec<Message>,
    ) -> Poll<Result<Received, ConnectionError>>;

    /// Returns whether the client knows messages to have arrived that [`poll_recv`](Self::poll_recv) has not returned yet.
    ///
    /// The owner moves a session away from this connection only once there are none, or they would be lost. The task
    /// that polled last is woken when that changes. Default: `false`.
    fn owes_messages(&self) -> bool {
        false
    }

    /// Sends the carrier's own sign of life, such as a WebSocket ping; tells whether it has one
    ///
    /// A `mark` other than 0 is sent along if the carrier supports that, and returned by the answer as
    /// [`Received::Pong`].
    fn ping(&mut self, outbox: &Outbox, mark: u32) -> bool;

    /// Begins to close: pushes what the carrier says at its end, such as a close frame
    ///
    /// What waits in the outbox before it is still sent.
    fn start_close(&mut self, reason: CloseReason, outbox: &Outbox);

    /// Begins to close as [`start_close`](Self::start_close) does, and says as much of `message` as the carrier can
    ///
    /// Default: the message is left out.
    fn start_close_saying(&mut self, reason: CloseReason, message: &str, outbox: &Outbox) {
        let _ = message;
        self.start_close(reason, outbox);
    }

    /// Ready once the peer has answered the close, or needs not; the owner bounds the wait
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// The name of a transport, as it stands in URLs
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "it is a name")]
pub struct TransportName(pub &'static str);

impl fmt::Display for TransportName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What a session may do on a transport
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "transports build it")]
pub struct Capabilities {
    /// It may begin there
    pub begins: bool,
    /// It may move on from there
    pub upgrades_from: bool,
    /// It may move to there
    pub upgrades_to: bool,
    /// The client fetches messages with requests of its own, as in long-polling.
    ///
    /// The end of such a session is announced by a packet, and its TCP connection stays with the HTTP server.
    pub polled: bool,
}

/// What came of a read
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "transports build it, drivers match it")]
pub enum Received {
    /// Something arrived
    Activity,
    /// Something arrived, including the answer to a [ping](Connection::ping) with this mark.
    Pong(u32),
    /// The peer closed; nothing more will come
    Closed,
    /// The peer hangs up and hears nothing more, but what it sent last may still be on its way, by another request.
    ///
    /// Returned once. The owner goes on reading for a moment of its choice, some 50 ms, and then treats the connection
    /// as broken. For a carrier of one request at a time, such as long-polling.
    Leaving,
}
