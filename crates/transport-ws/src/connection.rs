//! Read half of an open WebSocket.

use std::fmt;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use roomcast_core::{
    CloseReason, Connection, ConnectionError, Exchange, Frame, FrameSink, Message, Outbox, Received,
    RejectedExchange, Rejection, Upgrade,
};
use tokio::io::ReadBuf;

use crate::deflate::{Agreement, Compression, Context as DeflateContext, DeflateWire, Reservation};
use crate::frame::{FrameReader, Incoming, Items, ReadLimits, Violation, put_close, put_ping, put_pong};
use crate::scratch::{ReadBuffers, with_read_buffers};
use crate::sink::{Compressor, WsSink};
use crate::stream::{self, ReadHalf};
use crate::wire::WsWire;

/// Settings that the transport passes to each connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionSettings {
    pub(crate) limits: ReadLimits,
    /// Whether close frames omit the code where a Socket.IO server on Node does.
    pub(crate) bare_close: bool,
    /// Close code for server shutdown.
    pub(crate) shutdown_code: u16,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self { limits: ReadLimits::default(), bare_close: false, shutdown_code: GOING_AWAY }
    }
}

/// WebSocket connection of a client (RFC 6455).
///
/// An idle connection owns no buffer: bytes are read into a per-thread buffer, and only incomplete messages are
/// retained.
pub(crate) struct WsConnection {
    state: State,
    reader: FrameReader,
    rare: Option<Box<Rare>>,
    close_sent: bool,
    bare_close: bool,
    shutdown_code: u16,
    /// Whether the current message was already incomplete at the last ping.
    is_slow: bool,
    /// Whether the last read was pending: an incomplete message then waits for the client and not for the server.
    is_read_pending: bool,
}

/// Parts that few connections have at a time.
#[derive(Default)]
struct Rare {
    /// Bytes received together with the request.
    early: Bytes,
    /// How the client ended the connection, while earlier messages are delivered.
    end: Option<End>,
    compressed: Option<Compressed>,
}

// It fits a block of 96 bytes, of which malloc takes eight.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
const _: () = assert!(size_of::<WsConnection>() <= 88, "one field more would cost each connection 16 bytes");

/// Compression state of a client that negotiated it.
struct Compressed {
    compression: Compression,
    /// For the sink, until it is created.
    compressor: Option<Compressor>,
    _inflate_context: Option<Reservation>,
}

enum End {
    Closed {
        code: Option<u16>,
    },
    Broken(Violation),
    /// A message was not completed in time.
    TimedOut,
}

enum State {
    /// Boxed, so that an open connection is smaller.
    Opening(Box<Upgrade>),
    Open(ReadHalf),
    Over,
}

/// Maximum bytes of one read; also the size of the per-thread read buffer.
///
/// All messages of a read are handled before other clients are served; this many bytes hold two thousand of the
/// smallest messages.
const MAX_READ: usize = 16 * 1024;
/// The same with compression: messages may inflate a thousandfold.
const MAX_COMPRESSED_READ: usize = 4 * 1024;

/// Reads on a closing connection before it yields to other tasks.
const MAX_DISCARDING_READS: usize = 16;

impl WsConnection {
    pub(crate) fn new(upgrade: Upgrade, settings: ConnectionSettings) -> Self {
        let ConnectionSettings { limits, bare_close, shutdown_code } = settings;
        Self {
            state: State::Opening(Box::new(upgrade)),
            reader: FrameReader::new(limits),
            rare: None,
            close_sent: false,
            bare_close,
            shutdown_code,
            is_slow: false,
            is_read_pending: false,
        }
    }

    /// Enables negotiated compression; must be called before the connection opens.
    pub(crate) fn compress(&mut self, compression: &Compression, agreement: Agreement) {
        let Agreement { window_bits, deflate_context, inflate_context, .. } = agreement;
        let compressor = match deflate_context {
            Some(memory) => Compressor::Exclusive(DeflateContext::new(compression, window_bits, memory)),
            None => Compressor::Shared(DeflateWire::new(compression, window_bits)),
        };
        let reader = std::mem::take(&mut self.reader);
        self.reader = reader.inflating(inflate_context.is_some());
        self.rare.get_or_insert_default().compressed = Some(Compressed {
            compression: compression.clone(),
            compressor: Some(compressor),
            _inflate_context: inflate_context,
        });
    }

    fn compressed(&self) -> Option<&Compressed> {
        self.rare.as_ref()?.compressed.as_ref()
    }

    /// Ends the connection once earlier messages are delivered.
    fn end_with(&mut self, end: End) {
        self.rare.get_or_insert_default().end = Some(end);
    }

    fn take_end(&mut self) -> Option<End> {
        self.rare.as_mut()?.end.take()
    }

    fn push_close(&mut self, outbox: &Outbox, code: Option<u16>, reason: &str) {
        if !std::mem::replace(&mut self.close_sent, true) {
            // A failed push means that the client has disconnected.
            let _ = outbox.push_last(control(|out| put_close(out, code, reason)));
        }
    }

    /// Reads once; resolves to `false` at the end of the stream.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut ReadBuffers,
        messages: &mut Vec<Message>,
    ) -> Poll<Result<bool, ReadError>> {
        let most = if self.compressed().is_some() { MAX_COMPRESSED_READ } else { MAX_READ };
        let State::Open(stream) = &mut self.state else { return Poll::Ready(Ok(false)) };
        let mut items = Separated { messages, others: &mut buffers.others };
        if let Some(rare) = self.rare.as_mut().filter(|rare| !rare.early.is_empty()) {
            // Bounded like later reads, since these bytes may inflate as much.
            let mut left = std::mem::take(&mut rare.early);
            let mut first = BytesMut::from(left.split_to(left.len().min(most)));
            if !left.is_empty() {
                rare.early = left;
            } else if rare.end.is_none() && rare.compressed.is_none() {
                self.rare = None;
            }
            let outcome = self.reader.read_into(&mut first, &mut items);
            self.count_inflated();
            outcome?;
            return Poll::Ready(Ok(true));
        }
        buffers.bytes.resize(MAX_READ, 0);
        let mut buf = ReadBuf::new(&mut buffers.bytes[..most]);
        ready!(stream.poll_read(cx, &mut buf))?;
        let filled = buf.filled_mut();
        if filled.is_empty() {
            return Poll::Ready(Ok(false));
        }
        let outcome = self.reader.read_into(filled, &mut items);
        self.count_inflated();
        outcome?;
        Poll::Ready(Ok(true))
    }

    fn count_inflated(&mut self) {
        if let Some(compressed) = self.rare.as_ref().and_then(|rare| rare.compressed.as_ref())
            && let Some((from, to)) = self.reader.take_inflated()
            && from > 0
        {
            compressed.compression.totals().inflated(from, to);
        }
    }

    /// Handles frames other than messages; returns the mark of the last pong, or 0.
    fn handle_others(&mut self, others: &mut Vec<Incoming>, outbox: &Outbox) -> u32 {
        let mut mark = 0;
        for item in others.drain(..) {
            match item {
                // Messages are separate.
                Incoming::Message(_) => {}
                Incoming::Ping(payload) => push_control(outbox, |out| put_pong(out, &payload)),
                Incoming::Pong(payload) => mark = (*payload).try_into().map_or(0, u32::from_be_bytes),
                Incoming::Close { code, .. } => self.end_with(End::Closed { code }),
            }
        }
        mark
    }

    /// Answers and reports the end of the connection.
    fn finish(&mut self, end: End, outbox: &Outbox) -> Result<Received, ConnectionError> {
        match end {
            End::Closed { code } => {
                self.push_close(outbox, code, "");
                Ok(Received::Closed)
            }
            End::Broken(violation) => {
                // A server on Node sends the code alone.
                let reason = if self.bare_close { String::new() } else { violation.to_string() };
                self.push_close(outbox, Some(violation.close_code().into()), &reason);
                Err(broken_by(violation))
            }
            End::TimedOut => {
                let reason = if self.bare_close { "" } else { TOO_LATE };
                self.push_close(outbox, Some(1008), reason);
                Err(ConnectionError::Misused(TOO_LATE))
            }
        }
    }
}

impl Connection for WsConnection {
    fn accept(&mut self, exchange: Exchange) -> Result<(), RejectedExchange> {
        Err(RejectedExchange::new(
            exchange,
            Rejection::new(StatusCode::BAD_REQUEST, "a WebSocket takes no HTTP requests"),
        ))
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn FrameSink>, ConnectionError>> {
        let State::Opening(upgrade) = &mut self.state else {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::NotConnected).into()));
        };
        let (upgraded, unsent) = match ready!(upgrade.poll_released(cx)) {
            Ok(released) => released,
            Err(error) => {
                self.state = State::Over;
                return Poll::Ready(Err(error.into()));
            }
        };
        let (read, write) = stream::split(upgraded.stream);
        // An empty slice would retain the whole buffer of the HTTP library.
        let early = upgraded.read_buffer;
        self.state = State::Open(read);
        if !early.is_empty() {
            self.rare.get_or_insert_default().early = early;
        }
        let compressed = self.rare.as_mut().and_then(|rare| rare.compressed.as_mut());
        let compressor = compressed.and_then(|compressed| compressed.compressor.take());
        Poll::Ready(Ok(Box::new(WsSink::new(write, compressor, unsent))))
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &Outbox,
        messages: &mut Vec<Message>,
    ) -> Poll<Result<Received, ConnectionError>> {
        if let Some(end) = self.take_end() {
            return Poll::Ready(self.finish(end, outbox));
        }
        let before = messages.len();
        let (outcome, mark) = with_read_buffers(|buffers| {
            let outcome = self.poll_fill(cx, buffers, messages);
            (outcome, self.handle_others(&mut buffers.others, outbox))
        });
        self.is_slow &= messages.len() == before;
        self.is_read_pending = outcome.is_pending();
        match ready!(outcome) {
            Ok(true) => {}
            Ok(false) => {
                self.state = State::Over;
                return Poll::Ready(Ok(Received::Closed));
            }
            Err(ReadError::Io(error)) => {
                self.state = State::Over;
                return Poll::Ready(Err(error.into()));
            }
            Err(ReadError::Violation(violation)) => self.end_with(End::Broken(violation)),
        }
        // No frame follows a close frame, so replies to earlier messages are flushed first.
        if messages.len() == before
            && let Some(end) = self.take_end()
        {
            return Poll::Ready(self.finish(end, outbox));
        }
        Poll::Ready(Ok(if mark == 0 { Received::Activity } else { Received::Pong(mark) }))
    }

    /// Sends a ping, and closes the connection if a message has been incomplete since the previous ping.
    ///
    /// A client that answers pings in the middle of a message could otherwise hold its buffer indefinitely. Pings are
    /// the only clock of this layer.
    fn ping(&mut self, outbox: &Outbox, mark: u32) -> bool {
        let is_unfinished = self.is_read_pending && !self.reader.is_idle();
        let is_ended = self.rare.as_ref().is_some_and(|rare| rare.end.is_some());
        if self.is_slow && is_unfinished && !is_ended {
            self.end_with(End::TimedOut);
        }
        self.is_slow = is_unfinished;
        if !self.close_sent {
            // A failed push means that the client has disconnected.
            let mark = mark.to_be_bytes();
            let payload = if mark == [0; 4] { &mark[..0] } else { &mark[..] };
            let _ = outbox.push_heartbeat(control(|out| put_ping(out, payload)));
        }
        true
    }

    fn start_close(&mut self, reason: CloseReason, outbox: &Outbox) {
        let (code, text) = close_frame(reason, self.bare_close, self.shutdown_code);
        self.push_close(outbox, code, text);
    }

    fn start_close_with_message(&mut self, reason: CloseReason, message: &str, outbox: &Outbox) {
        match close_frame(reason, self.bare_close, self.shutdown_code) {
            (Some(code), _) if !message.is_empty() => self.push_close(outbox, Some(code), message),
            (code, text) => self.push_close(outbox, code, text),
        }
    }

    /// Reads and discards until the peer hangs up.
    ///
    /// Closing a socket with unread bytes would reset it, and the reset could overtake the close frame. A peer that
    /// keeps sending does not starve other tasks.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let State::Open(stream) = &mut self.state else { return Poll::Ready(()) };
        if stream.poll_shutdown(cx).is_pending() {
            return Poll::Pending;
        }
        let outcome = with_read_buffers(|buffers| {
            buffers.bytes.resize(MAX_READ, 0);
            let mut outcome = Poll::Ready(false);
            for _ in 0..MAX_DISCARDING_READS {
                let mut buf = ReadBuf::new(&mut buffers.bytes);
                outcome = stream.poll_read(cx, &mut buf).map(|read| read.is_err() || buf.filled().is_empty());
                if outcome != Poll::Ready(false) {
                    break;
                }
            }
            outcome
        });
        if ready!(outcome) {
            self.state = State::Over;
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl fmt::Debug for WsConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsConnection")
            .field("open", &matches!(self.state, State::Open(..)))
            .field("compressed", &self.compressed().is_some())
            .field("close_sent", &self.close_sent)
            .field("ended_by_peer", &self.reader.is_ended())
            .finish_non_exhaustive()
    }
}

/// Receiver of a read's messages, and of its other frames.
struct Separated<'a> {
    messages: &'a mut Vec<Message>,
    others: &'a mut Vec<Incoming>,
}

impl Items for Separated<'_> {
    #[inline]
    fn push(&mut self, item: Incoming) {
        match item {
            Incoming::Message(message) => self.messages.push(message),
            other => self.others.push(other),
        }
    }
}

enum ReadError {
    Io(io::Error),
    Violation(Violation),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Violation> for ReadError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

fn broken_by(violation: Violation) -> ConnectionError {
    match violation {
        Violation::MessageTooBig { limit } => ConnectionError::TooBig { limit },
        _ => ConnectionError::Misused("a WebSocket frame that violates RFC 6455"),
    }
}

fn push_control(outbox: &Outbox, put: impl FnOnce(&mut BytesMut)) {
    // A failed push means that the client has disconnected.
    let _ = outbox.push_protocol(control(put));
}

/// Builds a frame for this wire only.
fn control(put: impl FnOnce(&mut BytesMut)) -> Frame {
    let mut out = BytesMut::new();
    put(&mut out);
    Frame::of_wire(WsWire::wire_key(), out.freeze())
}

const TOO_LATE: &str = "a message was not whole within two pings";

/// Close code "going away" (RFC 6455 section 7.4.1).
pub(crate) const GOING_AWAY: u16 = 1001;

/// Returns the close code and reason text for a close reason.
///
/// With `bare`, only reasons that a Socket.IO server on Node does not have carry a code: its clients expect 1005 for
/// the others.
fn close_frame(reason: CloseReason, bare: bool, at_shutdown: u16) -> (Option<u16>, &'static str) {
    const NORMAL: u16 = 1000;
    const INVALID: u16 = 1007;
    const POLICY: u16 = 1008;
    const TOO_BIG: u16 = 1009;
    // From the range that RFC 6455 leaves to applications; ends like the HTTP status.
    const REFUSED: u16 = 4403;
    const TAKEN_OVER: u16 = 4409;
    match reason {
        CloseReason::SlowConsumer
        | CloseReason::OutboxFull
        | CloseReason::Overloaded
        | CloseReason::RateLimited => (Some(POLICY), reason.as_str()),
        CloseReason::MessageTooBig => (Some(TOO_BIG), ""),
        CloseReason::ServerShutdown => (Some(at_shutdown), reason.as_str()),
        _ if bare => (None, ""),
        CloseReason::Refused => (Some(REFUSED), "refused"),
        CloseReason::TakenOver => (Some(TAKEN_OVER), reason.as_str()),
        CloseReason::PingTimeout | CloseReason::IdleTimeout => (Some(GOING_AWAY), reason.as_str()),
        CloseReason::ParseError => (Some(INVALID), reason.as_str()),
        CloseReason::ForcedClose | CloseReason::ConnectTimeout => (Some(POLICY), reason.as_str()),
        _ => (Some(NORMAL), reason.as_str()),
    }
}
