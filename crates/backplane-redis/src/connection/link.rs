//! One connection: reconnects, liveness, buffered I/O.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::dial::{DialError, Dialed, Identity, Stream, dial};
use crate::config::{Address, RedisConfig};
use crate::metrics::{Counters, add};

/// Commands that wait to be sent, as bytes.
///
/// The lengths of the commands are kept, so a lost connection ends at a known command.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    bytes: BytesMut,
    lens: VecDeque<usize>,
    /// Bytes of the first command that were sent.
    sent: usize,
    /// Commands that were sent, or lost in part.
    pub(crate) completed: u64,
    /// Bytes that may be sent; the rest waits.
    pub(crate) allowed: Option<usize>,
}

impl SendQueue {
    pub(crate) fn push(&mut self, encode: impl FnOnce(&mut BytesMut) -> usize) {
        let len = encode(&mut self.bytes);
        self.lens.push_back(len);
    }

    /// Returns the number of waiting bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn sendable(&self) -> usize {
        self.allowed.map_or(self.bytes.len(), |allowed| allowed.min(self.bytes.len()))
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some(allowed) = &mut self.allowed {
            *allowed -= count;
        }
        self.sent += count;
        while self.lens.front().is_some_and(|len| *len <= self.sent) {
            self.sent -= self.lens.pop_front().unwrap_or_default();
            self.completed += 1;
        }
    }

    /// Returns the number of the next command, counted from the first one.
    pub(crate) fn next_index(&self) -> u64 {
        self.completed + self.lens.len() as u64
    }

    /// Returns the number of commands that were sent, in part or in whole.
    pub(super) fn sent_commands(&self) -> u64 {
        self.completed + u64::from(self.sent > 0)
    }

    /// Returns the number of commands that were not sent, not even in part.
    pub(crate) fn unsent(&self) -> u64 {
        self.lens.len() as u64 - u64::from(self.sent > 0)
    }

    /// Drops the rest of a partly sent command, which then counts as sent.
    pub(crate) fn drop_partial(&mut self) {
        if self.sent == 0 {
            return;
        }
        let rest = self.lens.pop_front().unwrap_or_default() - self.sent;
        self.bytes.advance(rest);
        self.sent = 0;
        self.completed += 1;
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Result of [`Link::poll_io`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkEvent {
    Up,
    Down,
    /// Bytes were read.
    Data,
    /// An interval has passed.
    Tick,
}

/// One connection to the server, restored whenever it is lost.
pub(crate) struct Link {
    name: &'static str,
    config: Arc<RedisConfig>,
    counters: Counters,
    state: State,
    /// Bytes that were read and not yet consumed.
    pub(crate) input: BytesMut,
    /// Failed attempts in sequence.
    attempts: u32,
    outage_since: Option<Instant>,
    /// Whether a refusal of the server was logged in this outage.
    is_refusal_logged: bool,
    /// Identity of the last connection.
    identity: Option<Identity>,
}

enum State {
    Waiting(Pin<Box<Sleep>>),
    Connecting(Pin<Box<dyn Future<Output = Result<Dialed, DialError>> + Send>>),
    Up(Established),
}

struct Established {
    stream: Box<dyn Stream>,
    address: Address,
    tick: Pin<Box<Sleep>>,
    /// Ticks since the last byte.
    silent: u32,
    /// TLS keeps bytes that were written until it is flushed.
    needs_flush: bool,
}

impl Link {
    pub(crate) fn new(name: &'static str, config: Arc<RedisConfig>, counters: Counters) -> Self {
        let state = State::Connecting(Box::pin(dial(config.clone(), None)));
        Self {
            name,
            config,
            counters,
            state,
            input: BytesMut::new(),
            attempts: 0,
            outage_since: None,
            is_refusal_logged: false,
            identity: None,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Returns whether an established connection was silent for at least an interval.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(&self.state, State::Up(up) if up.silent > 1)
    }

    /// Returns whether an established connection has not answered a ping within an interval.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(&self.state, State::Up(up) if up.silent > PING_TICKS)
    }

    /// Returns the address of an established connection.
    pub(crate) fn address(&self) -> Option<&Address> {
        match &self.state {
            State::Up(up) => Some(&up.address),
            _ => None,
        }
    }

    /// Connects, writes the allowed commands, and reads.
    pub(crate) fn poll_io(&mut self, cx: &mut Context<'_>, queue: &mut SendQueue) -> Poll<LinkEvent> {
        loop {
            match &mut self.state {
                State::Waiting(delay) => {
                    ready!(delay.as_mut().poll(cx));
                    self.state =
                        State::Connecting(Box::pin(dial(self.config.clone(), self.identity.clone())));
                }
                State::Connecting(attempt) => match ready!(attempt.as_mut().poll(cx)) {
                    Ok(dialed) => {
                        self.establish(dialed);
                        return Poll::Ready(LinkEvent::Up);
                    }
                    Err(error) => {
                        add(&self.counters.connect_failures, 1);
                        self.log_failure(&error);
                        self.wait();
                    }
                },
                State::Up(_) => break,
            }
        }
        if let Poll::Ready(Err(error)) = self.poll_write(cx, queue) {
            self.fail(&error);
            return Poll::Ready(LinkEvent::Down);
        }
        match self.poll_read(cx) {
            Poll::Ready(Ok(())) => return Poll::Ready(LinkEvent::Data),
            Poll::Ready(Err(error)) => {
                self.fail(&error);
                return Poll::Ready(LinkEvent::Down);
            }
            Poll::Pending => {}
        }
        let State::Up(up) = &mut self.state else { return Poll::Pending };
        ready!(up.tick.as_mut().poll(cx));
        up.tick = Box::pin(sleep(self.config.ping_interval));
        up.silent += 1;
        if up.silent > DEAD_TICKS {
            self.fail(&"no answer to a ping");
            return Poll::Ready(LinkEvent::Down);
        }
        // The caller polls again, which registers the new timer.
        Poll::Ready(LinkEvent::Tick)
    }

    /// Writes the allowed commands; pending if bytes remain.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, queue: &mut SendQueue) -> Poll<io::Result<()>> {
        let State::Up(up) = &mut self.state else { return Poll::Pending };
        loop {
            let sendable = queue.sendable();
            if sendable == 0 {
                if up.needs_flush {
                    ready!(Pin::new(&mut up.stream).poll_flush(cx))?;
                    up.needs_flush = false;
                }
                return Poll::Ready(Ok(()));
            }
            match ready!(Pin::new(&mut up.stream).poll_write(cx, &queue.bytes[..sendable])) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => queue.advance(count),
                Err(error) => return Poll::Ready(Err(error)),
            }
            up.needs_flush = true;
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let State::Up(up) = &mut self.state else { return Poll::Pending };
        let mut chunk = [const { std::mem::MaybeUninit::uninit() }; READ_BYTES];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        ready!(Pin::new(&mut up.stream).poll_read(cx, &mut chunk))?;
        if chunk.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.input.extend_from_slice(chunk.filled());
        up.silent = 0;
        Poll::Ready(Ok(()))
    }

    fn establish(&mut self, dialed: Dialed) {
        add(&self.counters.connects, 1);
        self.attempts = 0;
        self.input.clear();
        self.is_refusal_logged = false;
        if let Some(since) = self.outage_since.take() {
            let metrics = self.counters.snapshot();
            tracing::info!(
                connection = self.name,
                server = %dialed.address,
                outage_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
                unconfirmed = metrics.unconfirmed,
                queued = metrics.queued,
                "redis connection restored"
            );
        }
        let Dialed { stream, address, identity } = dialed;
        self.identity = identity;
        let tick = Box::pin(sleep(self.config.ping_interval));
        self.state = State::Up(Established { stream, address, tick, silent: 0, needs_flush: false });
    }

    /// Closes an established connection.
    pub(crate) fn fail(&mut self, reason: &dyn fmt::Display) {
        add(&self.counters.disconnects, 1);
        self.log_outage(reason);
        self.input = BytesMut::new();
        self.wait();
    }

    fn wait(&mut self) {
        let longest = self.config.max_backoff;
        let delay = (longest / 8 * 2_u32.pow(self.attempts.min(3))).min(longest);
        self.attempts += 1;
        self.state = State::Waiting(Box::pin(sleep(delay.mul_f64(0.5 + fastrand::f64() / 2.0))));
    }

    /// Logs a failed attempt if it is the first failure of an outage, or the first refusal, as of a password.
    fn log_failure(&mut self, error: &DialError) {
        let is_refusal = matches!(error, DialError::Refused(..));
        if is_refusal && !self.is_refusal_logged && self.outage_since.is_some() {
            tracing::warn!(connection = self.name, reason = %error, "redis refuses the connection; retrying");
        }
        self.is_refusal_logged |= is_refusal;
        self.log_outage(error);
    }

    /// Logs the first failure of an outage.
    fn log_outage(&mut self, reason: &dyn fmt::Display) {
        if self.outage_since.is_some() {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "for a log message only")]
        let now = Instant::now();
        self.outage_since = Some(now);
        let server = self.address().map(ToString::to_string);
        tracing::warn!(connection = self.name, server, reason = %reason, "redis connection lost; retrying");
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("name", &self.name)
            .field("server", &self.address())
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.counters.publisher_up.store(false, Ordering::Relaxed);
        self.counters.subscriber_up.store(false, Ordering::Relaxed);
    }
}

/// Ticks without a byte after which a command is sent to test the connection.
const PING_TICKS: u32 = 2;
/// Ticks without a byte after which a connection is dead.
const DEAD_TICKS: u32 = 3;
const READ_BYTES: usize = 32 << 10;
