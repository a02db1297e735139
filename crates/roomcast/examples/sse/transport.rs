//! Custom transport over HTTP: server-sent events to the client, POST requests to the server.
//!
//! A session begins with a GET request; its response is a stream with one message per event. Text is sent verbatim,
//! binary as `b` and base64, and text that an event cannot carry, such as text with a line break, as `t` and base64.
//! The client sends each message as a POST, one request at a time: binary if its `Content-Type` is
//! `application/octet-stream`, text otherwise.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use roomcast_core::{
    BoxError, ByteString, Capabilities, CloseReason, Connection, ConnectionError, Exchange, Frame, FrameSink,
    Message, Outbox, Readiness, Received, RejectedExchange, Rejection, RequestBody, Responder, ResponseBody,
    Transport, TransportName, Wire, WireKey,
};

/// Transport over a streaming response and POST requests.
#[derive(Debug, Clone)]
pub(crate) struct Sse {
    max_payload: usize,
}

impl Sse {
    /// The value of `?transport=`.
    pub(crate) const NAME: TransportName = TransportName("sse");

    /// Creates a transport with the default limit.
    pub(crate) fn new() -> Self {
        Self { max_payload: 1_000_000 }
    }

    /// Sets the maximum size of a POST body in bytes; larger ones are rejected with 413. Default: 1,000,000.
    #[cfg_attr(not(test), allow(dead_code, reason = "the example uses the default"))]
    pub(crate) fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }
}

impl Transport for Sse {
    fn name(&self) -> TransportName {
        Self::NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { begins: true, upgrades_from: false, upgrades_to: false, polled: false }
    }

    fn open(&self, exchange: Exchange) -> Result<Box<dyn Connection>, RejectedExchange> {
        if exchange.request.method != Method::GET {
            let rejection = Rejection::new(StatusCode::BAD_REQUEST, "a stream of events begins with a GET");
            return Err(RejectedExchange::new(exchange, rejection));
        }
        let pipe = Pipe::default();
        let mut response = Response::new(ResponseBody::Stream(UnsyncBoxBody::new(Events(pipe.clone()))));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // A send error means that the client disconnected: dropping the body ends the connection.
        let _ = exchange.respond.send(response);
        let sink = Some(SseSink(pipe.clone()));
        Ok(Box::new(SseConnection { pipe, sink, post: None, max_payload: self.max_payload }))
    }
}

#[derive(Debug)]
struct SseConnection {
    pipe: Pipe,
    sink: Option<SseSink>,
    post: Option<Post>,
    max_payload: usize,
}

impl Connection for SseConnection {
    fn accept(&mut self, exchange: Exchange) -> Result<(), RejectedExchange> {
        let refuse = |exchange, why| {
            Err(RejectedExchange::new(exchange, Rejection::new(StatusCode::BAD_REQUEST, why)))
        };
        if exchange.request.method != Method::POST {
            return refuse(exchange, "a session has one stream of events, and takes POSTs besides");
        }
        if self.post.is_some() {
            return refuse(exchange, "the POST before this one has not been answered");
        }
        let is_binary = is_binary(&exchange.request.headers);
        self.post =
            Some(Post { body: exchange.body, respond: exchange.respond, is_binary, came: BytesMut::new() });
        Ok(())
    }

    fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<Result<Box<dyn FrameSink>, ConnectionError>> {
        match self.sink.take() {
            Some(sink) => Poll::Ready(Ok(Box::new(sink))),
            None => Poll::Pending,
        }
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        _: &Outbox,
        messages: &mut Vec<Message>,
    ) -> Poll<Result<Received, ConnectionError>> {
        let outcome = self.post.as_mut().map(|post| post.poll(cx, self.max_payload));
        if let Some(Poll::Ready(outcome)) = outcome {
            let status = match outcome? {
                Step::Piece => return Poll::Ready(Ok(Received::Activity)),
                Step::Whole(message) => {
                    messages.push(message);
                    StatusCode::NO_CONTENT
                }
                Step::TooBig => StatusCode::PAYLOAD_TOO_LARGE,
            };
            self.post.take().into_iter().for_each(|post| post.answer(status));
            return Poll::Ready(Ok(Received::Activity));
        }
        self.pipe.poll_disconnected(cx).map(|()| Ok(Received::Closed))
    }

    fn ping(&mut self, _: &Outbox, _: u32) -> bool {
        false
    }

    fn start_close(&mut self, _: CloseReason, _: &Outbox) {
        // Dropping the write half ends the stream after the buffered events.
        self.post.take().into_iter().for_each(|post| post.answer(StatusCode::BAD_REQUEST));
    }

    fn poll_closed(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// POST request without a response yet.
#[derive(Debug)]
struct Post {
    body: RequestBody,
    respond: Responder,
    is_binary: bool,
    came: BytesMut,
}

enum Step {
    Piece,
    Whole(Message),
    TooBig,
}

impl Post {
    fn poll(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Result<Step, ConnectionError>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let piece = frame.into_data().unwrap_or_default();
                if self.came.len() + piece.len() > limit {
                    return Poll::Ready(Ok(Step::TooBig));
                }
                self.came.extend_from_slice(&piece);
                Poll::Ready(Ok(Step::Piece))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(aborted(error))),
            Poll::Ready(None) => Poll::Ready(self.message().map(Step::Whole)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn message(&mut self) -> Result<Message, ConnectionError> {
        let bytes = std::mem::take(&mut self.came).freeze();
        if self.is_binary {
            return Ok(Message::Binary(bytes));
        }
        let text = ByteString::try_from(bytes);
        text.map(Message::Text).map_err(|_| ConnectionError::Malformed("POST: text that is not UTF-8"))
    }

    fn answer(self, status: StatusCode) {
        let mut response = Response::default();
        *response.status_mut() = status;
        // A send error means that the client disconnected.
        let _ = self.respond.send(response);
    }
}

/// Write half, which renders frames into the pipe.
#[derive(Debug)]
struct SseSink(Pipe);

impl FrameSink for SseSink {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError> {
        let (readiness, reader) = {
            let mut flow = self.0.lock();
            if flow.is_gone {
                return Err(aborted("client disconnected from event stream"));
            }
            while flow.bytes < PIPE_ROOM
                && let Some(frame) = batch.pop_front()
            {
                let event = frame.wire(&SseWire);
                flow.bytes += event.len();
                flow.events.push_back(event);
            }
            if flow.bytes < PIPE_ROOM {
                (Readiness::Ready, flow.reader.take())
            } else {
                flow.writer = Some(cx.waker().clone());
                (Readiness::Blocked, flow.reader.take())
            }
        };
        wake(reader);
        Ok(readiness)
    }

    fn moved(&self) -> u64 {
        self.0.lock().moved
    }
}

impl Drop for SseSink {
    fn drop(&mut self) {
        let reader = {
            let mut flow = self.0.lock();
            flow.is_finished = true;
            flow.reader.take()
        };
        wake(reader);
    }
}

/// Body of the streaming response.
#[derive(Debug)]
struct Events(Pipe);

impl Body for Events {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        let (event, writer) = {
            let mut flow = self.0.lock();
            let Some(event) = flow.next_slice() else {
                if flow.is_finished {
                    return Poll::Ready(None);
                }
                flow.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            flow.bytes -= event.len();
            flow.moved = flow.moved.wrapping_add(event.len() as u64);
            let has_room = flow.bytes < PIPE_ROOM;
            (event, if has_room { flow.writer.take() } else { None })
        };
        wake(writer);
        Poll::Ready(Some(Ok(http_body::Frame::data(event))))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let (owner, writer) = {
            let mut flow = self.0.lock();
            flow.is_gone = true;
            flow.events.clear();
            (flow.owner.take(), flow.writer.take())
        };
        wake(owner);
        wake(writer);
    }
}

/// Buffer between the write half and the response body.
#[derive(Debug, Clone, Default)]
struct Pipe(Arc<Mutex<Flow>>);

#[derive(Debug, Default)]
struct Flow {
    events: VecDeque<Bytes>,
    bytes: usize,
    /// Total bytes taken by the HTTP server, which takes more only when the client reads.
    moved: u64,
    is_finished: bool,
    is_gone: bool,
    /// Response body waiting for events.
    reader: Option<Waker>,
    /// Write half waiting for room.
    writer: Option<Waker>,
    /// Connection waiting for the client to disconnect.
    owner: Option<Waker>,
}

impl Flow {
    /// Takes the next event, or the next slice of a long one.
    ///
    /// The HTTP server takes another slice only when its buffer has room, so `moved` reflects progress of the client.
    fn next_slice(&mut self) -> Option<Bytes> {
        let event = self.events.front_mut()?;
        if event.len() > ResponseBody::SLICE {
            return Some(event.split_to(ResponseBody::SLICE));
        }
        self.events.pop_front()
    }
}

impl Pipe {
    fn poll_disconnected(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut flow = self.lock();
        if flow.is_gone {
            return Poll::Ready(());
        }
        flow.owner = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Flow> {
        // The state is consistent after every statement, so a poisoned lock is usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wire format with one server-sent event per message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SseWire;

impl Wire for SseWire {
    fn key(&self) -> WireKey {
        WireKey::of::<Self>(1)
    }

    fn render(&self, messages: &[Message]) -> Bytes {
        let mut out = BytesMut::new();
        for message in messages {
            out.put_slice(b"data: ");
            match message {
                Message::Text(text) if fits_an_event(text) => out.put_slice(text.as_bytes()),
                Message::Text(text) => out.put_slice(format!("t{}", BASE64.encode(text)).as_bytes()),
                Message::Binary(bytes) => out.put_slice(format!("b{}", BASE64.encode(bytes)).as_bytes()),
            }
            out.put_slice(b"\n\n");
        }
        out.freeze()
    }
}

/// Returns whether an event preserves the text: browsers split it at CR, LF and CRLF, and ignore empty events.
fn fits_an_event(text: &str) -> bool {
    !text.is_empty() && !text.contains(['\r', '\n'])
}

fn is_binary(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    content_type.eq_ignore_ascii_case(b"application/octet-stream")
}

fn aborted(why: impl Into<BoxError>) -> ConnectionError {
    io::Error::new(io::ErrorKind::ConnectionAborted, why).into()
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Maximum bytes buffered in the pipe; further frames stay in the outbox, whose limits apply.
const PIPE_ROOM: usize = 64 * 1024;
