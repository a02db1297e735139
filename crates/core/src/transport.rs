//! Where bytes come from and go to: transports, their connections, and the HTTP exchanges that open them

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use crate::{CloseReason, FrameSink, Message, Outbox, ResponseBody};

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

/// Why a connection can go on no longer
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The carrier broke
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The client broke the rules of the transport
    #[error("the client broke the rules of its transport: {0}")]
    Misused(&'static str),
    /// The client sent what is not of the transport's grammar
    #[error("the client sent a malformed {0}")]
    Malformed(&'static str),
    /// The client sent a message over the limit
    #[error("the client sent a message over the limit of {limit} bytes")]
    TooBig {
        /// The limit, in bytes
        limit: usize,
    },
}

impl ConnectionError {
    /// Why a session ends that had only this connection
    pub fn reason(&self) -> CloseReason {
        match self {
            // As on Node: a peer that resets its connection, or drops it without a goodbye, has gone away.
            Self::Io(error) if is_gone(error) => CloseReason::TransportClose,
            Self::Io(_) | Self::Misused(_) => CloseReason::TransportError,
            Self::Malformed(_) => CloseReason::ParseError,
            Self::TooBig { .. } => CloseReason::MessageTooBig,
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected | UnexpectedEof)
}

/// An HTTP request, and the one chance to answer it
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "servers build it, transports take it apart")]
pub struct Exchange {
    /// Method, URI and headers
    pub request: http::request::Parts,
    /// The body as it arrives; it ends with an error when the client goes away before it is whole
    pub body: RequestBody,
    /// Answers it
    pub respond: Responder,
    /// The byte stream behind it, for a request that asks to leave HTTP
    pub upgrade: Option<Upgrade>,
    /// The subprotocol the server chose from what the client offers, if it chose one
    pub subprotocol: Option<Cow<'static, str>>,
}

/// The body of a request, as it arrives
pub type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// Any error
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The one chance to answer an [`Exchange`]
///
/// Dropping it unanswered closes the HTTP connection.
#[derive(Debug)]
pub struct Responder(oneshot::Sender<http::Response<ResponseBody>>);

impl Responder {
    /// A responder, and where its answer arrives
    pub fn new() -> (Self, oneshot::Receiver<http::Response<ResponseBody>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Answers
    ///
    /// # Errors
    /// Gives the response back if the client is gone.
    pub fn send(
        self,
        response: http::Response<ResponseBody>,
    ) -> Result<(), Box<http::Response<ResponseBody>>> {
        self.0.send(response).map_err(Box::new)
    }

    /// Ready once the client is gone and no answer will reach it
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_closed(cx)
    }

    /// Whether the client is gone
    pub fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

/// A duplex byte stream, of which a transport may ask what it really is
///
/// `Any` is there for a transport that knows a better way to use a particular kind, such as a TCP socket.
pub trait ByteStream: AsyncRead + AsyncWrite + Any + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Any + Send + Unpin> ByteStream for T {}

/// What is left of an HTTP connection after the 101
#[allow(clippy::exhaustive_structs, reason = "servers build it, transports take it apart")]
pub struct Upgraded {
    /// The stream
    pub stream: Box<dyn ByteStream>,
    /// What arrived together with the request and is not HTTP any more
    pub read_buffer: Bytes,
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").field("read_buffer", &self.read_buffer.len()).finish_non_exhaustive()
    }
}

/// Yields the byte stream once the 101 has been sent
pub struct Upgrade(Pin<Box<dyn Future<Output = io::Result<Upgraded>> + Send>>);

impl Upgrade {
    /// Wraps what resolves once the HTTP library has let go of the stream
    pub fn new(future: impl Future<Output = io::Result<Upgraded>> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }
}

impl Future for Upgrade {
    type Output = io::Result<Upgraded>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upgrade")
    }
}

/// An exchange that was not taken, and what is to be told
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "transports build it")]
pub struct Refused {
    /// The exchange, unanswered
    pub exchange: Box<Exchange>,
    /// What is to be told
    pub rejection: Rejection,
}

impl Refused {
    /// Refuses an exchange
    pub fn new(exchange: Exchange, rejection: Rejection) -> Self {
        Self { exchange: Box::new(exchange), rejection }
    }
}

/// An HTTP answer that refuses an exchange
#[derive(Debug, Clone)]
#[allow(clippy::exhaustive_structs, reason = "transports build it")]
pub struct Rejection {
    /// Status of the answer
    pub status: StatusCode,
    /// What is wrong and how to mend it, for the body; empty for none
    pub text: Cow<'static, str>,
    /// Further headers
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether the session that the request belongs to has to end
    pub fatal: bool,
}

impl Rejection {
    /// A refusal with this status, and a text that says what is wrong
    pub fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, text: text.into(), headers: Vec::new(), fatal: false }
    }

    /// Says that the session has to end
    #[must_use]
    pub fn fatal(mut self) -> Self {
        self.fatal = true;
        self
    }

    /// Adds a header
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The answer
    pub fn response(&self) -> http::Response<ResponseBody> {
        let body = match &self.text {
            Cow::Borrowed(text) => ResponseBody::from(*text),
            Cow::Owned(text) => ResponseBody::from(text.clone()),
        };
        let mut response = http::Response::new(body);
        *response.status_mut() = self.status;
        if !self.text.is_empty() {
            response
                .headers_mut()
                .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        }
        for (name, value) in &self.headers {
            response.headers_mut().append(name, value.clone());
        }
        response
    }
}
