//! HTTP exchanges: the requests that open and feed connections, their answers, and upgraded streams

use std::any::Any;
use std::borrow::Cow;
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

use crate::{BoxError, ResponseBody};

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
