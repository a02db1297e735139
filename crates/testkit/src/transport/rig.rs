//! Connection driven as by a server, without a protocol.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use roomcast_core::{
    CloseReason, Connection, ConnectionError, Delivery, Exchange, FlushList, Flusher, Frame, Message, Outbox,
    Overflow, PushOutcome, Received, Transport,
};
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::Requests;

/// Connection driven as by a server, with an outbox but without a protocol.
///
/// Received messages are queued for [`recv`](Self::recv); a task on the runtime that created the rig
/// performs all other work.
#[derive(Debug)]
pub struct Rig {
    /// Outbound queue; the rig flushes a frame pushed here, unless created without a flusher.
    pub outbox: Outbox,
    /// Flush list of the outbox.
    pub flush: FlushList,
    shared: Arc<Mutex<Shared>>,
}

/// How a connection ended.
#[derive(Debug)]
pub enum End {
    /// The client closed.
    Closed,
    /// The transport failed, or the client misused it.
    Broken(ConnectionError),
    /// A request was out of turn, and fatal to the session.
    UnexpectedRequest,
    /// The server closed.
    ByServer,
    /// The outbox was closed, by its sink or by an overflow.
    Outbox(CloseReason),
}

/// Time limit of a close, in the runtime's time.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

impl Rig {
    /// Opens a connection and drives it.
    ///
    /// Without `flushes`, the caller must flush the list. `outbox_limit` is in bytes.
    ///
    /// # Panics
    ///
    /// Panics if the transport refuses the exchange, or outside of a tokio runtime.
    pub fn open(
        transport: &dyn Transport,
        connect: impl FnOnce(Requests) -> Exchange,
        outbox_limit: usize,
        flushes: bool,
    ) -> Self {
        let (sender, requests) = mpsc::channel(16);
        let connection = match transport.open(connect(Requests(sender))) {
            Ok(connection) => connection,
            Err(refused) => panic!("transport refused the exchange: {:?}", refused.rejection),
        };
        let flush = FlushList::new();
        let outbox = Outbox::new(outbox_limit, flush.clone());
        let rig = Self { outbox, flush, shared: Arc::default() };
        let mut driver = Driver {
            connection,
            outbox: rig.outbox.clone(),
            flusher: flushes.then(|| Flusher::new(rig.flush.clone())),
            requests,
            shared: rig.shared.clone(),
            batch: Vec::new(),
            phase: Phase::Opening,
            end: None,
        };
        tokio::spawn(async move {
            let end = poll_fn(|cx| driver.poll(cx)).await;
            let shared = driver.shared.clone();
            drop(driver);
            shared.lock().unwrap_or_else(PoisonError::into_inner).end(end);
        });
        rig
    }

    /// Pushes a frame that must be accepted.
    pub fn push(&self, frame: impl Into<Frame>) -> PushOutcome {
        self.outbox.push(frame.into(), Delivery::Reliable, Overflow::Close)
    }

    /// Returns the next message received, or `None` once the connection has ended.
    ///
    /// Cancel safe.
    pub async fn recv(&self) -> Option<Message> {
        poll_fn(|cx| {
            let mut shared = self.shared();
            if let Some(message) = shared.received.pop_front() {
                return Poll::Ready(Some(message));
            }
            if shared.end.is_some() || shared.ended {
                return Poll::Ready(None);
            }
            shared.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until the connection has ended and returns how it ended; `None` if already returned.
    ///
    /// Cancel safe.
    pub async fn ended(&self) -> Option<End> {
        poll_fn(|cx| {
            let mut shared = self.shared();
            if shared.ended {
                return Poll::Ready(shared.end.take());
            }
            shared.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Closes the connection from the server side.
    pub fn close(&self, reason: CloseReason) {
        let mut shared = self.shared();
        shared.close = Some(reason);
        let driver = shared.driver.take();
        drop(shared);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Shared {
    received: VecDeque<Message>,
    end: Option<End>,
    ended: bool,
    close: Option<CloseReason>,
    reader: Option<Waker>,
    driver: Option<Waker>,
}

impl Shared {
    fn end(&mut self, end: End) {
        self.end = Some(end);
        self.ended = true;
        self.wake_reader();
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

struct Driver {
    connection: Box<dyn Connection>,
    outbox: Outbox,
    flusher: Option<Flusher>,
    requests: mpsc::Receiver<Exchange>,
    shared: Arc<Mutex<Shared>>,
    batch: Vec<Message>,
    phase: Phase,
    end: Option<End>,
}

enum Phase {
    Opening,
    Open,
    Closing { drained: bool, bound: Pin<Box<Sleep>> },
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.take_requests(cx);
        if matches!(self.phase, Phase::Opening) {
            match ready!(self.connection.poll_open(cx)) {
                Ok(sink) => {
                    self.outbox.set_sink(sink);
                    self.phase = Phase::Open;
                }
                Err(error) => return Poll::Ready(End::Broken(error)),
            }
        }
        if matches!(self.phase, Phase::Open) {
            self.poll_open(cx);
        }
        if let Some(flusher) = &mut self.flusher {
            while flusher.poll_ready(cx).is_ready() {
                flusher.write_all();
            }
        }
        self.poll_closing(cx)
    }

    fn take_requests(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(exchange)) = self.requests.poll_recv(cx) {
            let Err(refused) = self.connection.accept(exchange) else { continue };
            let _ = refused.exchange.respond.send(refused.rejection.response());
            if refused.rejection.fatal {
                self.start_close(CloseReason::TransportError, End::UnexpectedRequest);
            }
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) {
        let close = {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.driver = Some(cx.waker().clone());
            shared.close.take()
        };
        if let Some(reason) = close {
            return self.start_close(reason, End::ByServer);
        }
        loop {
            let outcome = self.connection.poll_recv(cx, &self.outbox, &mut self.batch);
            if !self.batch.is_empty() {
                let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
                shared.received.extend(self.batch.drain(..));
                shared.wake_reader();
            }
            match outcome {
                Poll::Pending => break,
                Poll::Ready(Ok(Received::Activity | Received::Pong(_))) => {}
                Poll::Ready(Ok(Received::Closed | Received::Leaving)) => {
                    return self.start_close(CloseReason::TransportClose, End::Closed);
                }
                Poll::Ready(Err(error)) => return self.start_close(error.reason(), End::Broken(error)),
            }
        }
        if let Poll::Ready(reason) = self.outbox.poll_owner(cx) {
            self.start_close(reason, End::Outbox(reason));
        }
    }

    fn start_close(&mut self, reason: CloseReason, end: End) {
        if self.end.is_some() {
            return;
        }
        self.connection.start_close(reason, &self.outbox);
        self.outbox.finish();
        self.phase = Phase::Closing { drained: false, bound: Box::pin(tokio::time::sleep(CLOSE_WAIT)) };
        self.end = Some(end);
    }

    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Phase::Closing { drained, bound } = &mut self.phase else { return Poll::Pending };
        if bound.as_mut().poll(cx).is_pending() {
            if !*drained {
                ready!(self.outbox.poll_drained(cx));
                *drained = true;
                // Drops the write half too, which signals the end of the stream to the client.
                self.outbox.close(CloseReason::TransportClose);
            }
            ready!(self.connection.poll_closed(cx));
        }
        Poll::Ready(self.end.take().unwrap_or(End::ByServer))
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("connection", &self.connection).finish_non_exhaustive()
    }
}
