//! Transports and their connections.

mod answer;
mod http;

use std::fmt;
use std::task::{Context, Poll};

pub use self::answer::{FixedHeaders, RepeatedResponse, RepeatedResponses};
pub use self::http::{
    ByteStream, Exchange, PollSlot, PollSlotCell, RejectedExchange, Rejection, RequestBody, Responder,
    Upgrade, Upgraded,
};
use crate::{CloseReason, ConnectionError, FrameSink, Message, Outbox};

/// Opens connections of one kind.
///
/// A server holds one, shared by all sessions. A transport carries [`Message`]s without interpreting them. It consists
/// of the transport itself, a [`Connection`] for each client, the connection's [`FrameSink`], and a
/// [`Wire`](crate::Wire) that renders frames once for all recipients. `roomcast_testkit::transport_conformance!` checks
/// the rules of all four.
///
/// # Examples
///
/// A transport for clients that only listen, with a GET whose response is held until there is something to send:
///
/// ```
/// use roomcast_core::{Capabilities, Connection, Exchange, RejectedExchange, Rejection, Transport, TransportName};
/// # use std::task::{Context, Poll};
/// # use roomcast_core::{CloseReason, ConnectionError, FrameSink, Message, Outbox, Received};
///
/// #[derive(Debug)]
/// struct Listen;
///
/// impl Transport for Listen {
///     fn name(&self) -> TransportName {
///         TransportName("listen") // `?transport=listen`
///     }
///
///     fn capabilities(&self) -> Capabilities {
///         Capabilities { begins: true, upgrades_from: false, upgrades_to: false, polled: true }
///     }
///
///     fn open(&self, exchange: Exchange) -> Result<Box<dyn Connection>, RejectedExchange> {
///         if exchange.request.method != http::Method::GET {
///             let rejection = Rejection::new(http::StatusCode::METHOD_NOT_ALLOWED, "listen with a GET");
///             return Err(RejectedExchange::new(exchange, rejection)); // unanswered: the server answers
///         }
///         Ok(Box::new(Held(exchange))) // a `Connection`, see there
///     }
/// }
/// # #[derive(Debug)]
/// # struct Held(Exchange);
/// # impl Connection for Held {
/// #     fn accept(&mut self, next: Exchange) -> Result<(), RejectedExchange> {
/// #         self.0 = next;
/// #         Ok(())
/// #     }
/// #     fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<Result<Box<dyn FrameSink>, ConnectionError>> {
/// #         Poll::Pending
/// #     }
/// #     fn poll_recv(
/// #         &mut self,
/// #         cx: &mut Context<'_>,
/// #         _: &Outbox,
/// #         _: &mut Vec<Message>,
/// #     ) -> Poll<Result<Received, ConnectionError>> {
/// #         self.0.respond.poll_disconnected(cx).map(|()| Ok(Received::Closed))
/// #     }
/// #     fn ping(&mut self, _: &Outbox, _: u32) -> bool {
/// #         false
/// #     }
/// #     fn start_close(&mut self, _: CloseReason, _: &Outbox) {}
/// #     fn poll_closed(&mut self, _: &mut Context<'_>) -> Poll<()> {
/// #         Poll::Ready(())
/// #     }
/// # }
/// let (get, _) = roomcast_testkit::ExchangeBuilder::get("/").build();
/// assert!(Listen.open(get).is_ok());
/// let (post, _) = roomcast_testkit::ExchangeBuilder::post("/").build();
/// assert_eq!(Listen.open(post).unwrap_err().rejection.status, 405);
/// ```
///
/// Complete transports are `examples/own_parts/transport.rs` and `examples/sse/transport.rs` of the crate `roomcast`.
pub trait Transport: Send + Sync + fmt::Debug + 'static {
    /// Returns the value of `?transport=`, also listed among `upgrades`.
    fn name(&self) -> TransportName;

    /// Returns the operations that a session may use on this transport.
    fn capabilities(&self) -> Capabilities;

    /// Opens a connection for the request.
    ///
    /// The exchange may be answered at once (the 101 of a WebSocket) or held (a waiting GET).
    ///
    /// # Errors
    /// Returns the unanswered exchange and a rejection if the request does not open such a connection.
    fn open(&self, exchange: Exchange) -> Result<Box<dyn Connection>, RejectedExchange>;
}

/// Connection of a session: reads its messages here, and writes through its [`FrameSink`].
///
/// A single task, the driver, owns a connection and calls it in this order:
///
/// 1. [`poll_open`](Self::poll_open) until it is ready, and not again;
/// 2. [`poll_recv`](Self::poll_recv) whenever it may read, until it returns an error, [`Closed`](Received::Closed), or
///    the session ends. Under backpressure it is not called, and incoming data stays with the carrier;
/// 3. [`start_close`](Self::start_close) once, then [`poll_closed`](Self::poll_closed) until it is ready or the
///    driver's deadline passes.
///
/// [`accept`](Self::accept) and [`ping`](Self::ping) may be called at any time. Dropping a connection closes it at
/// once.
///
/// # Wakers
///
/// Each `poll_*` method registers the waker of its call, replacing the one before, and wakes it when another call can
/// make progress. One task polls all of them, so one place for the waker is enough. A connection that reads from a
/// socket may rely on the socket's registration.
///
/// # Cancel safety
///
/// No method holds messages that a later call does not return. A driver may stop polling at any point and resume later.
///
/// # Examples
///
/// A connection whose client sends messages through a channel in the same process:
///
/// ```
/// use std::task::{Context, Poll, ready};
///
/// use roomcast_core::{
///     CloseReason, Connection, ConnectionError, Exchange, FrameSink, Message, Outbox, Received, RejectedExchange, Rejection,
/// };
/// use tokio::sync::mpsc;
///
/// #[derive(Debug)]
/// struct Channel {
///     messages: mpsc::Receiver<Message>, // bounded, so the client waits while nothing is read
///     sink: Option<Box<dyn FrameSink>>,
/// }
///
/// impl Connection for Channel {
///     fn accept(&mut self, exchange: Exchange) -> Result<(), RejectedExchange> {
///         let rejection = Rejection::new(http::StatusCode::BAD_REQUEST, "this transport takes no requests");
///         Err(RejectedExchange::new(exchange, rejection))
///     }
///
///     fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<Result<Box<dyn FrameSink>, ConnectionError>> {
///         self.sink.take().map_or(Poll::Pending, |sink| Poll::Ready(Ok(sink)))
///     }
///
///     fn poll_recv(
///         &mut self,
///         cx: &mut Context<'_>,
///         _: &Outbox,
///         messages: &mut Vec<Message>,
///     ) -> Poll<Result<Received, ConnectionError>> {
///         Poll::Ready(Ok(match ready!(self.messages.poll_recv_many(cx, messages, 64)) {
///             0 => Received::Closed,
///             _ => Received::Activity,
///         }))
///     }
///
///     fn ping(&mut self, _: &Outbox, _: u32) -> bool {
///         false // a channel has no sign of life of its own
///     }
///
///     fn start_close(&mut self, _: CloseReason, _: &Outbox) {
///         self.messages.close();
///     }
///
///     fn poll_closed(&mut self, _: &mut Context<'_>) -> Poll<()> {
///         Poll::Ready(()) // the client need not answer
///     }
/// }
/// # let (client, messages) = mpsc::channel(8);
/// # let mut connection = Channel { messages, sink: None };
/// # client.try_send("hello".into()).unwrap();
/// # let outbox = Outbox::new(1024, roomcast_core::FlushList::new());
/// # let (mut cx, mut read) = (Context::from_waker(std::task::Waker::noop()), Vec::new());
/// # assert!(matches!(connection.poll_recv(&mut cx, &outbox, &mut read), Poll::Ready(Ok(Received::Activity))));
/// # assert_eq!(read, ["hello".into()]);
/// # drop(client);
/// # assert!(matches!(connection.poll_recv(&mut cx, &outbox, &mut read), Poll::Ready(Ok(Received::Closed))));
/// ```
pub trait Connection: Send + fmt::Debug {
    /// Passes on a later HTTP request of the same session: a GET or a POST of a polling client.
    ///
    /// # Errors
    /// Returns an error if this kind of connection takes no requests, or the request is out of turn.
    /// [`Rejection::fatal`] says whether the session is closed.
    fn accept(&mut self, exchange: Exchange) -> Result<(), RejectedExchange>;

    /// Completes with the write half once bytes can flow. Not called again after that.
    ///
    /// # Errors
    /// Returns an error if the connection failed before it was open.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn FrameSink>, ConnectionError>>;

    /// Reads incoming data, and appends the messages in it to `messages`.
    ///
    /// Completes when anything arrived, even less than a whole message: any byte is a sign of life. Replies of the
    /// transport itself (a pong, the echo of a close frame) go into `outbox`, behind the frames queued there. Messages
    /// completed before an error are appended before it is returned.
    ///
    /// # Errors
    /// Returns an error if the carrier failed or the client violated its protocol. Not called again after that.
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &Outbox,
        messages: &mut Vec<Message>,
    ) -> Poll<Result<Received, ConnectionError>>;

    /// Returns whether the client has delivered messages that [`poll_recv`](Self::poll_recv) has not returned yet.
    ///
    /// The owner moves the session away from this connection only when there are none, or they would be lost. A change
    /// wakes the task that polled last. Default: `false`.
    fn has_pending_messages(&self) -> bool {
        false
    }

    /// Sends the carrier's own ping, such as a WebSocket ping; returns whether the carrier has one.
    ///
    /// A `mark` other than 0 is sent with it if the carrier supports that. The answer returns it as [`Received::Pong`].
    fn ping(&mut self, outbox: &Outbox, mark: u32) -> bool;

    /// Starts to close: queues the carrier's closing handshake, such as a close frame.
    ///
    /// Frames queued in the outbox before it are still sent.
    fn start_close(&mut self, reason: CloseReason, outbox: &Outbox);

    /// Starts to close as [`start_close`](Self::start_close) does, with as much of `message` as the carrier can send.
    ///
    /// Default: omits the message.
    fn start_close_with_message(&mut self, reason: CloseReason, message: &str, outbox: &Outbox) {
        let _ = message;
        self.start_close(reason, outbox);
    }

    /// Completes once the peer has confirmed the close, or need not. The owner bounds the wait.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Name of a transport in URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "it is a name")]
pub struct TransportName(pub &'static str);

impl fmt::Display for TransportName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Operations that a session may use on a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "transports build it")]
pub struct Capabilities {
    /// A session may start on it.
    pub begins: bool,
    /// A session may upgrade from it.
    pub upgrades_from: bool,
    /// A session may upgrade to it.
    pub upgrades_to: bool,
    /// The client fetches messages with separate requests, as in long-polling.
    ///
    /// A packet announces the end of such a session, and its TCP connection stays with the HTTP server.
    pub polled: bool,
}

/// Outcome of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "transports build it, drivers match it")]
pub enum Received {
    /// Data arrived.
    Activity,
    /// Data arrived, including the answer to a [ping](Connection::ping) with this mark.
    Pong(u32),
    /// The peer closed the connection. No more data follows.
    Closed,
    /// The peer stopped listening, but its last data may still arrive by another request.
    ///
    /// Returned once. The owner continues to read for a moment of its choice, about 50 ms, and then treats the
    /// connection as broken. For a carrier of one request at a time, such as long-polling.
    Leaving,
}
