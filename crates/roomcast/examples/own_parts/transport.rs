//! Line-based transport: after an HTTP upgrade, each line is one message in both directions.
//!
//! A line is a JSON string for text and `{"base64":"…"}` for binary.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Buf, Bytes};
use http::{HeaderValue, Response, StatusCode, header};
use roomcast_core::{
    ByteStream, Capabilities, CloseReason, Connection, ConnectionError, Exchange, Frame, FrameSink, Message,
    Outbox, Readiness, Received, RejectedExchange, Rejection, ResponseBody, Transport, TransportName,
    Upgrade, Wire, WireKey,
};
use tokio::io::ReadBuf;

/// Transport that carries one message per line.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    max_message: usize,
}

impl Lines {
    /// Creates a transport with the default limit.
    pub(crate) fn new() -> Self {
        Self { max_message: 1_000_000 }
    }

    /// Sets the maximum size of a message in bytes; a larger one closes the connection. Default: 1,000,000.
    #[cfg_attr(not(test), allow(dead_code, reason = "the example uses the default"))]
    pub(crate) fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }
}

impl Transport for Lines {
    fn name(&self) -> TransportName {
        TransportName("lines")
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { begins: true, upgrades_from: false, upgrades_to: false, polled: false }
    }

    fn open(&self, mut exchange: Exchange) -> Result<Box<dyn Connection>, RejectedExchange> {
        let asks = exchange.request.headers.get(header::UPGRADE).is_some_and(|name| name == "lines");
        let Some(upgrade) = exchange.upgrade.take_if(|_| asks) else {
            let rejection = Rejection::new(StatusCode::UPGRADE_REQUIRED, "ask with `Upgrade: lines`")
                .header(header::UPGRADE, HeaderValue::from_static("lines"));
            return Err(RejectedExchange::new(exchange, rejection));
        };
        let mut response = Response::new(ResponseBody::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("lines"));
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        // A send error means that the client disconnected: the upgrade then fails and ends the connection.
        let _ = exchange.respond.send(response);
        Ok(Box::new(LineConnection {
            upgrade,
            stream: None,
            came: Vec::new(),
            searched: 0,
            max_message: self.max_message,
        }))
    }
}

/// Upgraded stream, read by the connection and written by the sink.
#[derive(Clone)]
struct Stream(Arc<Mutex<Pin<Box<dyn ByteStream>>>>);

impl Stream {
    fn lock(&self) -> MutexGuard<'_, Pin<Box<dyn ByteStream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct LineConnection {
    upgrade: Upgrade,
    stream: Option<Stream>,
    /// Bytes received but not yet delivered as lines.
    came: Vec<u8>,
    /// Number of bytes already searched for a line feed.
    searched: usize,
    max_message: usize,
}

impl std::fmt::Debug for LineConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineConnection").field("came", &self.came.len()).finish_non_exhaustive()
    }
}

impl LineConnection {
    /// Parses complete lines into messages and returns whether there were any.
    fn take_lines(&mut self, messages: &mut Vec<Message>) -> Result<bool, ConnectionError> {
        let mut taken = 0;
        while let Some(length) = self.came[self.searched..].iter().position(|byte| *byte == b'\n') {
            let end = self.searched + length;
            let message = parse(&self.came[taken..end])?;
            if message.len() > self.max_message {
                return Err(ConnectionError::TooBig { limit: self.max_message });
            }
            messages.push(message);
            taken = end + 1;
            self.searched = taken;
        }
        self.came.drain(..taken);
        self.searched = self.came.len();
        // JSON escapes a byte of text with at most six bytes: `\u0000`.
        if self.came.len() > 6 * self.max_message + 16 {
            return Err(ConnectionError::TooBig { limit: self.max_message });
        }
        Ok(taken > 0)
    }
}

impl Connection for LineConnection {
    fn accept(&mut self, exchange: Exchange) -> Result<(), RejectedExchange> {
        let rejection = Rejection::new(StatusCode::BAD_REQUEST, "a connection of lines takes no requests");
        Err(RejectedExchange::new(exchange, rejection))
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn FrameSink>, ConnectionError>> {
        let upgraded = ready!(Pin::new(&mut self.upgrade).poll(cx))?;
        self.came.extend_from_slice(&upgraded.read_buffer);
        let stream = Stream(Arc::new(Mutex::new(upgraded.stream.into())));
        self.stream = Some(stream.clone());
        Poll::Ready(Ok(Box::new(LineSink { stream, rest: Bytes::new() })))
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        _: &Outbox,
        messages: &mut Vec<Message>,
    ) -> Poll<Result<Received, ConnectionError>> {
        if self.take_lines(messages)? {
            return Poll::Ready(Ok(Received::Activity));
        }
        let Some(stream) = &self.stream else { return Poll::Pending };
        let mut space = [0; 16 * 1024];
        let mut read = ReadBuf::new(&mut space);
        ready!(stream.lock().as_mut().poll_read(cx, &mut read))?;
        if read.filled().is_empty() {
            return Poll::Ready(Ok(Received::Closed));
        }
        self.came.extend_from_slice(read.filled());
        self.take_lines(messages)?;
        Poll::Ready(Ok(Received::Activity))
    }

    fn ping(&mut self, _: &Outbox, _: u32) -> bool {
        false
    }

    fn start_close(&mut self, _: CloseReason, _: &Outbox) {}

    fn poll_closed(&mut self, _: &mut Context<'_>) -> Poll<()> {
        // The end of the stream is the close signal; there is no closing handshake.
        Poll::Ready(())
    }
}

struct LineSink {
    stream: Stream,
    /// Unwritten part of the current frame.
    rest: Bytes,
}

impl std::fmt::Debug for LineSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineSink").field("rest", &self.rest.len()).finish_non_exhaustive()
    }
}

impl FrameSink for LineSink {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError> {
        let mut stream = self.stream.lock();
        loop {
            while !self.rest.is_empty() {
                match stream.as_mut().poll_write(cx, &self.rest)? {
                    Poll::Pending => return Ok(Readiness::Blocked),
                    Poll::Ready(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                    Poll::Ready(written) => self.rest.advance(written),
                }
            }
            // The rendered bytes are shared by all recipients of a broadcast.
            let Some(frame) = batch.pop_front() else { break };
            self.rest = frame.wire(&LineWire);
        }
        Ok(match stream.as_mut().poll_flush(cx)? {
            Poll::Ready(()) => Readiness::Ready,
            Poll::Pending => Readiness::Blocked,
        })
    }
}

/// Wire format with one line per message.
#[derive(Debug, Clone, Copy)]
struct LineWire;

impl Wire for LineWire {
    fn key(&self) -> WireKey {
        WireKey::of::<Self>(0)
    }

    fn render(&self, messages: &[Message]) -> Bytes {
        let mut lines = String::new();
        for message in messages {
            let line = match message {
                Message::Text(text) => serde_json::json!(&**text),
                Message::Binary(bytes) => serde_json::json!({ "base64": BASE64.encode(bytes) }),
            };
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        lines.into()
    }
}

fn parse(line: &[u8]) -> Result<Message, ConnectionError> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Line {
        Text(String),
        Binary { base64: String },
    }

    match serde_json::from_slice(line) {
        Ok(Line::Text(text)) => Ok(text.into()),
        Ok(Line::Binary { base64 }) => match BASE64.decode(base64) {
            Ok(bytes) => Ok(Message::Binary(bytes.into())),
            Err(_) => Err(ConnectionError::Malformed("line: not base64")),
        },
        Err(_) => Err(ConnectionError::Malformed("line: neither a JSON string nor an object with `base64`")),
    }
}
