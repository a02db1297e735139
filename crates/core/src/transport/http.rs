//! HTTP exchanges: requests that open and feed connections, their responses, and upgraded streams.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::answer::{self, FixedHeaders, RepeatedResponse, RepeatedResponses};
use crate::{BoxError, ResponseBody};

/// HTTP request with its pending response.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "servers build it, transports take it apart")]
pub struct Exchange {
    /// Method, URI and headers of the request.
    ///
    /// Shared, since a polling client's requests are alike; [`Arc::make_mut`] gives access to its extensions.
    pub request: Arc<http::request::Parts>,
    /// Body as it arrives; yields an error if the client disconnects before its end.
    pub body: RequestBody,
    /// Sender of the response.
    pub respond: Responder,
    /// Underlying byte stream, for a request that asks for an upgrade.
    pub upgrade: Option<Upgrade>,
    /// Subprotocol that the server selected from the client's offer, if any.
    pub subprotocol: Option<Cow<'static, str>>,
}

/// Body of a request, as it arrives.
pub type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// Sender of the one response to an [`Exchange`].
///
/// Dropping it unanswered closes the HTTP connection.
#[derive(Debug)]
pub struct Responder(Sender);

#[derive(Debug)]
enum Sender {
    Once(oneshot::Sender<http::Response<ResponseBody>>),
    Repeated(answer::Sender),
}

impl Responder {
    /// Creates a responder, and the receiver of its response.
    pub fn new() -> (Self, oneshot::Receiver<http::Response<ResponseBody>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Sender::Once(sender)), receiver)
    }

    /// Creates a responder for the next request of a client that repeats it.
    ///
    /// A request before that is still unanswered is given up, as if its client had disconnected.
    pub fn repeated(responses: &mut RepeatedResponses) -> Self {
        Self(Sender::Repeated(responses.begin()))
    }

    /// Sends the response.
    ///
    /// # Errors
    /// Returns the response if the client has disconnected.
    pub fn send(
        self,
        response: http::Response<ResponseBody>,
    ) -> Result<(), Box<http::Response<ResponseBody>>> {
        match self.0 {
            Sender::Once(sender) => sender.send(response).map_err(Box::new),
            Sender::Repeated(sender) => sender
                .send(RepeatedResponse::Whole(Box::new(response)))
                .map_err(|response| Box::new(response.into_response())),
        }
    }

    /// Sends a response with status 200 and these headers, which a server encodes once for a client that repeats its
    /// request.
    ///
    /// # Errors
    /// Returns the response if the client has disconnected.
    pub fn send_fixed(
        self,
        headers: FixedHeaders,
        body: ResponseBody,
    ) -> Result<(), Box<http::Response<ResponseBody>>> {
        let response = RepeatedResponse::Fixed(headers, body);
        match self.0 {
            Sender::Once(sender) => sender.send(response.into_response()).map_err(Box::new),
            Sender::Repeated(sender) => {
                sender.send(response).map_err(|response| Box::new(response.into_response()))
            }
        }
    }

    /// Completes once the client has disconnected, so that no response can reach it.
    pub fn poll_disconnected(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Sender::Once(sender) => sender.poll_closed(cx),
            Sender::Repeated(sender) => sender.poll_closed(cx),
        }
    }

    /// Returns whether the client has disconnected.
    pub fn is_disconnected(&self) -> bool {
        match &self.0 {
            Sender::Once(sender) => sender.is_closed(),
            Sender::Repeated(sender) => sender.is_closed(),
        }
    }
}

/// Slot of a polling client's pending request.
///
/// A transport whose clients repeat one request over and over offers it through a [`PollSlotCell`]. The server then
/// parks a repetition without the driver of the session, while the driver has nothing else to do.
pub trait PollSlot: Send + Sync {
    /// Parks a repetition, as [`Connection::accept`](crate::Connection::accept) does.
    ///
    /// The transport watches its client for the driver, which is not polled. The server calls
    /// [`Outbox::unpark`](crate::Outbox::unpark) afterwards.
    ///
    /// # Errors
    /// Returns the responder if only the driver can decide about the request, such as while another is pending.
    fn park(&self, respond: Responder) -> Result<(), Responder>;
}

/// Cell for a [`PollSlot`], in the extensions of a request that its client repeats.
///
/// The server inserts an empty one and passes the request to the session. A transport that supports it sets the cell
/// when it accepts the request; others ignore it.
#[derive(Clone, Default)]
pub struct PollSlotCell(Arc<OnceLock<Weak<dyn PollSlot>>>);

impl PollSlotCell {
    /// Creates an empty cell.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the slot; does nothing if there is one.
    pub fn set(&self, slot: impl FnOnce() -> Weak<dyn PollSlot>) {
        self.0.get_or_init(slot);
    }

    /// Parks a repetition in the slot.
    ///
    /// # Errors
    /// Returns the responder if there is no slot, or its connection has ended, or [`PollSlot::park`] returns it.
    pub fn park(&self, respond: Responder) -> Result<(), Responder> {
        match self.0.get().and_then(Weak::upgrade) {
            Some(slot) => slot.park(respond),
            None => Err(respond),
        }
    }
}

impl fmt::Debug for PollSlotCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollSlotCell").field("is_set", &self.0.get().is_some()).finish()
    }
}

/// Duplex byte stream that can be downcast to its concrete type.
///
/// `Any` lets a transport optimize for a particular type, such as a TCP socket.
pub trait ByteStream: AsyncRead + AsyncWrite + Any + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Any + Send + Unpin> ByteStream for T {}

/// Remains of an HTTP connection after the 101.
#[allow(clippy::exhaustive_structs, reason = "servers build it, transports take it apart")]
pub struct Upgraded {
    /// The stream.
    pub stream: Box<dyn ByteStream>,
    /// Bytes that arrived after the request's end; no longer HTTP.
    pub read_buffer: Bytes,
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").field("read_buffer", &self.read_buffer.len()).finish_non_exhaustive()
    }
}

/// Future of the byte stream; completes once the 101 has been sent.
///
/// A transport that can send the 101 together with its first bytes uses [`poll_released`](Self::poll_released) instead.
pub struct Upgrade(UpgradeState);

/// The stream when it is released, and the bytes of the response that are still to be sent.
type Released = io::Result<(Upgraded, Bytes)>;

// Boxed, so that the connection that waits for it is not larger than an open one.
enum UpgradeState {
    Waiting(Pin<Box<dyn Future<Output = Released> + Send>>),
    Sending(Box<Sending>),
}

/// Released stream, until the rest of the response is sent.
struct Sending {
    /// `None` once the future has completed.
    released: Option<Upgraded>,
    unsent: Bytes,
}

impl Upgrade {
    /// Wraps a future that completes when the HTTP library releases the stream, with the 101 sent.
    pub fn new(future: impl Future<Output = io::Result<Upgraded>> + Send + 'static) -> Self {
        Self::with_unsent(async move { Ok((future.await?, Bytes::new())) })
    }

    /// Wraps a future that completes when the HTTP library releases the stream, with the bytes of the 101 that are
    /// still to be sent.
    pub fn with_unsent(future: impl Future<Output = io::Result<(Upgraded, Bytes)>> + Send + 'static) -> Self {
        Self(UpgradeState::Waiting(Box::pin(future)))
    }

    /// Completes when the stream is released, with the bytes that have to be written to it first, if any.
    ///
    /// Must not be called after the future was polled, or after it has completed.
    ///
    /// # Errors
    /// Returns an error if the client has disconnected.
    pub fn poll_released(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Upgraded, Bytes)>> {
        match &mut self.0 {
            UpgradeState::Waiting(future) => future.as_mut().poll(cx),
            UpgradeState::Sending(..) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Future for Upgrade {
    type Output = io::Result<Upgraded>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.0 {
                UpgradeState::Waiting(future) => {
                    let (upgraded, unsent) = ready!(future.as_mut().poll(cx))?;
                    self.0 = UpgradeState::Sending(Box::new(Sending { released: Some(upgraded), unsent }));
                }
                UpgradeState::Sending(sending) => {
                    let Sending { released, unsent } = &mut **sending;
                    let Some(upgraded) = released else { break };
                    let stream = Pin::new(&mut *upgraded.stream);
                    if unsent.is_empty() {
                        ready!(stream.poll_flush(cx))?;
                        return Poll::Ready(
                            released.take().ok_or_else(|| io::ErrorKind::NotConnected.into()),
                        );
                    }
                    match ready!(stream.poll_write(cx, unsent))? {
                        0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                        written => unsent.advance(written),
                    }
                }
            }
        }
        // It has completed before.
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upgrade")
    }
}

/// Exchange that a transport rejected, with the rejection.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "transports build it")]
pub struct RejectedExchange {
    /// The exchange, without a response.
    pub exchange: Box<Exchange>,
    /// Rejection to respond with.
    pub rejection: Rejection,
}

impl RejectedExchange {
    /// Rejects an exchange.
    pub fn new(exchange: Exchange, rejection: Rejection) -> Self {
        Self { exchange: Box::new(exchange), rejection }
    }
}

/// HTTP response that refuses an exchange.
#[derive(Debug, Clone)]
#[allow(clippy::exhaustive_structs, reason = "transports build it")]
pub struct Rejection {
    /// Status of the response.
    pub status: StatusCode,
    /// Body that states the problem and its fix; empty for none.
    pub text: Cow<'static, str>,
    /// Additional headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether the session of the request has to end.
    pub fatal: bool,
}

impl Rejection {
    /// Creates a rejection with a status and a text that states the problem.
    pub fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, text: text.into(), headers: Vec::new(), fatal: false }
    }

    /// Marks the rejection as one that ends the session.
    #[must_use]
    pub fn fatal(mut self) -> Self {
        self.fatal = true;
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Builds the HTTP response.
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Returns the client's end of a pipe of 4 bytes, and an upgrade to the other end.
    fn upgrade(unsent: &'static str) -> (tokio::io::DuplexStream, Upgrade) {
        let (client, stream) = tokio::io::duplex(4);
        let upgraded = Upgraded { stream: Box::new(stream), read_buffer: Bytes::new() };
        (client, Upgrade::with_unsent(async move { Ok((upgraded, unsent.into())) }))
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(future)
    }

    #[test]
    fn upgrade_first_sends_rest_of_response() {
        let sent = block_on(async {
            let (mut client, upgrade) = upgrade("HTTP/1.1 101 \r\n\r\n");
            tokio::spawn(async move {
                let mut upgraded = upgrade.await.expect("an open stream");
                upgraded.stream.write_all(b"frame").await.expect("an open stream");
            });
            let mut sent = String::new();
            client.read_to_string(&mut sent).await.expect("all bytes");
            sent
        });
        assert_eq!(sent, "HTTP/1.1 101 \r\n\r\nframe");
    }

    #[test]
    fn released_stream_comes_with_unsent_bytes() {
        let (_client, mut upgrade) = upgrade("HTTP/1.1 101 ");
        let released = block_on(std::future::poll_fn(|cx| upgrade.poll_released(cx)));
        assert_eq!(released.expect("an open stream").1, "HTTP/1.1 101 ");
    }
}
