//! In-memory HTTP exchanges: a request made by a test, and the response to it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body::{Body, Frame};
use roomcast_core::{
    BoxError, ByteStream, Exchange, RequestBody, Responder, ResponseBody, Upgrade, Upgraded,
};
use tokio::sync::oneshot;

/// Builder of an [`Exchange`] like those a server makes from requests.
///
/// By default the body is empty and complete.
#[derive(Debug)]
pub struct ExchangeBuilder {
    request: Request<()>,
    chunks: VecDeque<Bytes>,
    end: Option<BodyEnd>,
    upgrade: Option<Upgrade>,
    subprotocol: Option<&'static str>,
}

impl ExchangeBuilder {
    /// Creates a request.
    ///
    /// # Panics
    ///
    /// Panics if `uri` is invalid.
    pub fn new(method: Method, uri: &str) -> Self {
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse().expect("valid URI");
        let end = Some(BodyEnd::Whole);
        Self { request, chunks: VecDeque::new(), end, upgrade: None, subprotocol: None }
    }

    /// Creates a GET request.
    ///
    /// # Panics
    ///
    /// Panics if `uri` is invalid.
    pub fn get(uri: &str) -> Self {
        Self::new(Method::GET, uri)
    }

    /// Creates a POST request.
    ///
    /// # Panics
    ///
    /// Panics if `uri` is invalid.
    pub fn post(uri: &str) -> Self {
        Self::new(Method::POST, uri)
    }

    /// Creates a GET request for a WebSocket, as in RFC 6455 section 1.2.
    ///
    /// # Panics
    ///
    /// Panics if `uri` is invalid.
    pub fn websocket(uri: &str) -> Self {
        Self::get(uri)
            .header("host", "server.example.com")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-version", "13")
    }

    /// Adds a header.
    ///
    /// # Panics
    ///
    /// Panics if the name or value is invalid in HTTP.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("valid header value");
        self.request.headers_mut().append(HeaderName::from_static(name), value);
        self
    }

    /// Adds a request extension.
    #[must_use]
    pub fn extension<T: Clone + Send + Sync + 'static>(mut self, extension: T) -> Self {
        self.request.extensions_mut().insert(extension);
        self
    }

    /// Adds a chunk of the body, which arrives separately.
    #[must_use]
    pub fn chunk(mut self, chunk: impl Into<Bytes>) -> Self {
        self.chunks.push_back(chunk.into());
        self
    }

    /// Ends the body with an error, as when the client disconnects before it is complete.
    #[must_use]
    pub fn aborted(mut self) -> Self {
        self.end = Some(BodyEnd::Aborted);
        self
    }

    /// Keeps the body open until its [`BodyFeed`] continues or ends it.
    #[must_use]
    pub fn unfinished(mut self) -> Self {
        self.end = None;
        self
    }

    /// Sets the stream that remains after the 101, and the bytes read together with the request.
    #[must_use]
    pub fn upgrade(mut self, stream: impl ByteStream + 'static, read_buffer: impl Into<Bytes>) -> Self {
        let upgraded = Upgraded { stream: Box::new(stream), read_buffer: read_buffer.into() };
        self.upgrade = Some(Upgrade::new(std::future::ready(Ok(upgraded))));
        self
    }

    /// Sets the stream that remains after the 101, and the bytes of the 101 that are still to be sent.
    #[must_use]
    pub fn upgrade_with_unsent(
        mut self,
        stream: impl ByteStream + 'static,
        unsent: impl Into<Bytes>,
    ) -> Self {
        let upgraded = Upgraded { stream: Box::new(stream), read_buffer: Bytes::new() };
        let released = Ok((upgraded, unsent.into()));
        self.upgrade = Some(Upgrade::with_unsent(std::future::ready(released)));
        self
    }

    /// Sets the subprotocol selected by the server.
    #[must_use]
    pub fn subprotocol(mut self, subprotocol: &'static str) -> Self {
        self.subprotocol = Some(subprotocol);
        self
    }

    /// Returns the exchange and the receiver of its response.
    pub fn build(self) -> (Exchange, Answer) {
        let (exchange, answer, _) = self.build_with_feed();
        (exchange, answer)
    }

    /// Returns the exchange, the receiver of its response, and a handle to its body.
    pub fn build_with_feed(self) -> (Exchange, Answer, BodyFeed) {
        let shared = Arc::new(Mutex::new(Feed { chunks: self.chunks, end: self.end, ..Feed::default() }));
        let (respond, receiver) = Responder::new();
        let exchange = Exchange {
            request: Arc::new(self.request.into_parts().0),
            body: RequestBody::new(FedBody(shared.clone())),
            respond,
            upgrade: self.upgrade,
            subprotocol: self.subprotocol.map(Into::into),
        };
        (exchange, Answer { receiver, head: None, body: BytesMut::new() }, BodyFeed(shared))
    }
}

/// Receiver of the response to an exchange: `None` if it was dropped without one.
///
/// Dropping it simulates a client disconnect. Cancel safe.
#[derive(Debug)]
pub struct Answer {
    receiver: oneshot::Receiver<http::Response<ResponseBody>>,
    head: Option<http::Response<ResponseBody>>,
    body: BytesMut,
}

impl Answer {
    /// Returns the response if it has arrived.
    ///
    /// # Panics
    ///
    /// Panics if the exchange was dropped without a response.
    pub fn now(&mut self) -> Option<Answered> {
        match Pin::new(self).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(answered)) => Some(answered),
            Poll::Ready(None) => panic!("exchange dropped without a response"),
            Poll::Pending => None,
        }
    }
}

impl Future for Answer {
    type Output = Option<Answered>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.head.is_none() {
            match std::task::ready!(Pin::new(&mut this.receiver).poll(cx)) {
                Ok(head) => this.head = Some(head),
                Err(_) => return Poll::Ready(None),
            }
        }
        let Some(head) = &mut this.head else { return Poll::Ready(None) };
        while let Some(frame) = std::task::ready!(Pin::new(head.body_mut()).poll_frame(cx)) {
            let Ok(frame) = frame else { return Poll::Ready(None) };
            if let Some(data) = frame.data_ref() {
                this.body.extend_from_slice(data);
            }
        }
        // Matches the behavior of an HTTP library.
        *head.body_mut() = ResponseBody::Empty;
        Poll::Ready(Some(Answered {
            status: head.status(),
            headers: head.headers().clone(),
            body: std::mem::take(&mut this.body).freeze(),
        }))
    }
}

/// Response with its complete body.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answered {
    /// Returns status and body, for assertions.
    ///
    /// # Panics
    ///
    /// Panics if the body is not UTF-8.
    pub fn text(&self) -> (u16, &str) {
        (self.status.as_u16(), std::str::from_utf8(&self.body).expect("body is UTF-8"))
    }

    /// Returns a header, if present.
    ///
    /// # Panics
    ///
    /// Panics if the header is not text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("header is text"))
    }
}

/// Handle to the body of a request in progress.
#[derive(Debug, Clone)]
pub struct BodyFeed(Arc<Mutex<Feed>>);

#[derive(Debug, Default)]
struct Feed {
    chunks: VecDeque<Bytes>,
    end: Option<BodyEnd>,
    reader: Option<Waker>,
    read: usize,
    dropped: bool,
}

#[derive(Debug, Clone, Copy)]
enum BodyEnd {
    Whole,
    Aborted,
}

impl BodyFeed {
    /// Delivers another chunk.
    pub fn chunk(&self, chunk: impl Into<Bytes>) {
        self.change(|feed| feed.chunks.push_back(chunk.into()));
    }

    /// Ends the body.
    pub fn finish(&self) {
        self.change(|feed| feed.end = Some(BodyEnd::Whole));
    }

    /// Aborts the body, as a client disconnect would.
    pub fn abort(&self) {
        self.change(|feed| feed.end = Some(BodyEnd::Aborted));
    }

    /// Returns the number of bytes the server has read.
    pub fn read(&self) -> usize {
        self.lock().read
    }

    /// Returns whether the server has dropped the body.
    pub fn is_dropped(&self) -> bool {
        self.lock().dropped
    }

    fn change(&self, change: impl FnOnce(&mut Feed)) {
        let mut feed = self.lock();
        change(&mut feed);
        let reader = feed.reader.take();
        drop(feed);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Feed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct FedBody(Arc<Mutex<Feed>>);

impl Body for FedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut feed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chunk) = feed.chunks.pop_front() {
            feed.read += chunk.len();
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match feed.end {
            Some(BodyEnd::Whole) => Poll::Ready(None),
            Some(BodyEnd::Aborted) => Poll::Ready(Some(Err("client disconnected".into()))),
            None => {
                feed.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for FedBody {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).dropped = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_complete_answer_or_none() {
        let (exchange, mut answer) = ExchangeBuilder::get("/?EIO=4").build();
        assert_eq!(exchange.request.uri.query(), Some("EIO=4"));
        assert!(answer.now().is_none());
        exchange.respond.send(http::Response::new("hello".into())).unwrap();
        assert_eq!(answer.now().unwrap().text(), (200, "hello"));

        let (exchange, mut answer) = ExchangeBuilder::get("/").build();
        drop(exchange);
        let outcome = Pin::new(&mut answer).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(outcome, Poll::Ready(None)));
    }

    #[test]
    fn server_sees_client_disconnect() {
        let (mut exchange, answer) = ExchangeBuilder::get("/").build();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(exchange.respond.poll_disconnected(&mut cx).is_pending());
        drop(answer);
        assert!(exchange.respond.poll_disconnected(&mut cx).is_ready());
    }

    #[test]
    fn feeds_body_in_chunks() {
        let mut cx = Context::from_waker(Waker::noop());
        let (mut exchange, _answer, feed) =
            ExchangeBuilder::post("/").chunk("ab").unfinished().build_with_feed();
        let mut next = |exchange: &mut Exchange| Pin::new(&mut exchange.body).poll_frame(&mut cx);
        assert!(
            matches!(next(&mut exchange), Poll::Ready(Some(Ok(frame))) if frame.data_ref().unwrap() == "ab")
        );
        assert!(next(&mut exchange).is_pending());
        feed.chunk("c");
        assert!(matches!(next(&mut exchange), Poll::Ready(Some(Ok(_)))));
        feed.abort();
        assert!(matches!(next(&mut exchange), Poll::Ready(Some(Err(_)))));
        assert_eq!((feed.read(), feed.is_dropped()), (3, false));
        drop(exchange);
        assert!(feed.is_dropped());
    }
}
