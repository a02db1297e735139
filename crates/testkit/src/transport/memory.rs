//! In-memory transport.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::StatusCode;
use roomcast_core::{
    Capabilities, CloseReason, Connection, ConnectionError, Exchange, Frame, FrameSink, Message, Outbox,
    Readiness, Received, RejectedExchange, Rejection, Transport, TransportName, WireKey,
};

use crate::ExchangeBuilder;

/// In-memory transport, whose messages never leave the process.
///
/// [`MemoryClient::connect`] creates its clients. It may have any name and capabilities, to simulate
/// another transport.
#[derive(Debug, Clone)]
pub struct MemoryTransport {
    name: TransportName,
    capabilities: Capabilities,
    max_message: usize,
}

impl MemoryTransport {
    /// Creates a transport of this name on which sessions may start, and from and to which they may upgrade.
    pub fn new(name: &'static str) -> Self {
        let capabilities =
            Capabilities { begins: true, upgrades_from: true, upgrades_to: true, polled: false };
        Self { name: TransportName(name), capabilities, max_message: 1_000_000 }
    }

    /// Sets the session capabilities.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Sets the maximum size of a client message, in bytes. Default: 1,000,000.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }
}

impl Default for MemoryTransport {
    fn default() -> Self {
        Self::new("memory")
    }
}

impl Transport for MemoryTransport {
    fn name(&self) -> TransportName {
        self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn open(&self, mut exchange: Exchange) -> Result<Box<dyn Connection>, RejectedExchange> {
        let Some(link) = Arc::make_mut(&mut exchange.request).extensions.remove::<Link>() else {
            let text = "this is no request of a MemoryClient";
            return Err(RejectedExchange::new(exchange, Rejection::new(StatusCode::BAD_REQUEST, text)));
        };
        // The link shows whether the client is still connected.
        let _ = exchange.respond.send(http::Response::default());
        Ok(Box::new(MemoryConnection { link, max_message: self.max_message }))
    }
}

/// Client end of an in-memory connection.
///
/// Dropping it breaks the connection.
#[derive(Debug)]
pub struct MemoryClient {
    link: Link,
}

impl MemoryClient {
    /// Returns the exchange that opens a connection, and the client at its other end.
    ///
    /// `capacity` is the number of messages it accepts before it must read some.
    pub fn connect(capacity: usize) -> (Exchange, Self) {
        let link = Link(Arc::new(Mutex::new(Shared { capacity, ..Shared::default() })));
        let (exchange, _) = ExchangeBuilder::get("/").extension(link.clone()).build();
        (exchange, Self { link })
    }

    /// Sends a message.
    pub fn send(&self, message: impl Into<Message>) {
        self.link.change(|shared| shared.to_server.push_back(message.into()));
    }

    /// Returns the next message, or `None` once the server has closed; it then answers the close.
    ///
    /// Cancel safe.
    pub async fn recv(&mut self) -> Option<Message> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Returns the next message if one has arrived.
    pub fn try_recv(&mut self) -> Option<Message> {
        match self.poll_recv(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(message) => message,
            Poll::Pending => None,
        }
    }

    /// Polls for the next message; see [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let mut shared = self.link.lock();
        let message = shared.to_client.pop_front();
        if message.is_none() {
            if !shared.server_closed {
                shared.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            shared.client = Peer::Closed;
        }
        drop(shared);
        self.link.change(|_| {});
        Poll::Ready(message)
    }

    /// Returns whether the server has closed or dropped the connection.
    pub fn is_closed(&self) -> bool {
        self.link.lock().server_closed
    }

    /// Returns the number of heartbeats from the server.
    ///
    /// Each was answered immediately.
    pub fn pings(&self) -> usize {
        self.link.lock().pings
    }

    /// Closes the connection cleanly.
    pub fn close(&self) {
        self.link.change(|shared| shared.client = Peer::Closed);
    }
}

impl Drop for MemoryClient {
    fn drop(&mut self) {
        self.link.change(|shared| {
            if shared.client == Peer::Here {
                shared.client = Peer::Gone;
            }
        });
    }
}

#[derive(Debug, Clone)]
struct Link(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    capacity: usize,
    to_server: VecDeque<Message>,
    to_client: VecDeque<Message>,
    client: Peer,
    server_closed: bool,
    pings: usize,
    pongs: usize,
    /// Waker of the client's task.
    reader: Option<Waker>,
    /// Waker of the task that owns the connection.
    owner: Option<Waker>,
    /// Waker of a blocked writer; a flusher's waker does nothing, so it must not replace the owner's.
    writer: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Peer {
    #[default]
    Here,
    Closed,
    Gone,
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes both ends.
    fn change(&self, change: impl FnOnce(&mut Shared)) {
        let mut shared = self.lock();
        change(&mut shared);
        let wakers = [shared.reader.take(), shared.owner.take(), shared.writer.take()];
        drop(shared);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

#[derive(Debug)]
struct MemoryConnection {
    link: Link,
    max_message: usize,
}

/// Placeholder encoding for the ping and the final close, which are not messages.
struct Control;

const PING: Bytes = Bytes::from_static(b"ping");
const CLOSE: Bytes = Bytes::from_static(b"close");

impl Connection for MemoryConnection {
    fn accept(&mut self, exchange: Exchange) -> Result<(), RejectedExchange> {
        let text = "a connection in memory takes no HTTP requests";
        Err(RejectedExchange::new(exchange, Rejection::new(StatusCode::BAD_REQUEST, text)))
    }

    fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<Result<Box<dyn FrameSink>, ConnectionError>> {
        Poll::Ready(Ok(Box::new(MemorySink { link: self.link.clone() })))
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        _: &Outbox,
        messages: &mut Vec<Message>,
    ) -> Poll<Result<Received, ConnectionError>> {
        let mut shared = self.link.lock();
        let mut active = std::mem::take(&mut shared.pongs) > 0;
        while let Some(message) = shared.to_server.pop_front() {
            if message.len() > self.max_message {
                return Poll::Ready(Err(ConnectionError::TooBig { limit: self.max_message }));
            }
            messages.push(message);
            active = true;
        }
        match shared.client {
            _ if active => Poll::Ready(Ok(Received::Activity)),
            Peer::Here => {
                shared.owner = Some(cx.waker().clone());
                Poll::Pending
            }
            Peer::Closed => Poll::Ready(Ok(Received::Closed)),
            Peer::Gone => Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionReset).into())),
        }
    }

    fn ping(&mut self, outbox: &Outbox, _: u32) -> bool {
        let _ = outbox.push_heartbeat(Frame::of_wire(WireKey::of::<Control>(0), PING));
        true
    }

    fn start_close(&mut self, _: CloseReason, outbox: &Outbox) {
        let _ = outbox.push_protocol(Frame::of_wire(WireKey::of::<Control>(0), CLOSE));
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut shared = self.link.lock();
        if shared.client == Peer::Here {
            shared.owner = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl Drop for MemoryConnection {
    fn drop(&mut self) {
        self.link.change(|shared| shared.server_closed = true);
    }
}

#[derive(Debug)]
struct MemorySink {
    link: Link,
}

impl FrameSink for MemorySink {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError> {
        let mut shared = self.link.lock();
        if shared.client != Peer::Here && !batch.is_empty() {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        }
        let mut readiness = Readiness::Ready;
        while let Some(frame) = batch.front() {
            if let Some(control) = frame.rendered(WireKey::of::<Control>(0)) {
                if *control == PING {
                    shared.pings += 1;
                    shared.pongs += 1;
                } else {
                    shared.server_closed = true;
                }
            } else if shared.to_client.len() < shared.capacity {
                shared.to_client.extend(frame.messages().iter().cloned());
            } else {
                shared.writer = Some(cx.waker().clone());
                readiness = Readiness::Blocked;
                break;
            }
            batch.pop_front();
        }
        let reader = shared.reader.take();
        let owner = if shared.pongs > 0 { shared.owner.take() } else { None };
        drop(shared);
        [reader, owner].into_iter().flatten().for_each(Waker::wake);
        Ok(readiness)
    }
}
