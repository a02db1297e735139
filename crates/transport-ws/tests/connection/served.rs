//! A manually driven connection.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use roomcast_core::{
    Bounds, Connection, ConnectionError, Delivery, Exchange, FlushList, Flusher, Frame, Message, Outbox,
    Overflow, PushOutcome, Received, Transport, Upgrade,
};
use roomcast_testkit::ExchangeBuilder;
use roomcast_transport_ws::WebSocket;

use crate::wire::Wire;

/// An open connection on a [`Wire`], with its outbox; every step is explicit.
pub(crate) struct Served {
    pub(crate) wire: Wire,
    pub(crate) connection: Box<dyn Connection>,
    pub(crate) outbox: Outbox,
    list: FlushList,
    woken: Arc<Woken>,
}

impl Served {
    pub(crate) fn open() -> Self {
        Self::open_with(&WebSocket::new(), "")
    }

    /// Opens a connection that received these bytes together with the request.
    pub(crate) fn open_with(transport: &WebSocket, early: impl Into<Bytes>) -> Self {
        Self::open_by(transport, ExchangeBuilder::websocket("/"), early)
    }

    /// Opens a connection to a client that offers these extensions.
    pub(crate) fn offering(transport: &WebSocket, extensions: &str) -> Self {
        let request = ExchangeBuilder::websocket("/").header("sec-websocket-extensions", extensions);
        Self::open_by(transport, request, "")
    }

    /// Opens a connection to a client that offers these extensions, with bytes received at the request.
    pub(crate) fn offering_with(transport: &WebSocket, extensions: &str, early: impl Into<Bytes>) -> Self {
        let request = ExchangeBuilder::websocket("/").header("sec-websocket-extensions", extensions);
        Self::open_by(transport, request, early)
    }

    /// Opens a connection whose 101 is still to be sent; the wire takes `room` bytes of it.
    pub(crate) fn open_with_unsent(
        transport: &WebSocket,
        extensions: &str,
        unsent: impl Into<Bytes>,
        room: usize,
    ) -> Self {
        let wire = Wire::default();
        wire.grant(room);
        let request = ExchangeBuilder::websocket("/").header("sec-websocket-extensions", extensions);
        Self::open_on(wire.clone(), transport, request.upgrade_with_unsent(wire, unsent))
    }

    fn open_by(transport: &WebSocket, request: ExchangeBuilder, early: impl Into<Bytes>) -> Self {
        let wire = Wire::default();
        Self::open_on(wire.clone(), transport, request.upgrade(wire, early))
    }

    fn open_on(wire: Wire, transport: &WebSocket, request: ExchangeBuilder) -> Self {
        let (exchange, mut answer) = request.build();
        let mut connection = transport.open(exchange).expect("a valid handshake");
        assert_eq!(answer.now().expect("an immediate response").status, 101);

        let list = FlushList::new();
        let outbox = Outbox::new(Bounds::new(1 << 20, 1 << 20), list.clone());
        let woken = Arc::new(Woken::default());
        let Poll::Ready(Ok(sink)) = connection.poll_open(&mut Context::from_waker(Waker::noop())) else {
            panic!("expected an open stream");
        };
        outbox.set_sink(sink);
        let mut served = Self { wire, connection, outbox, list, woken };
        assert!(served.poll_owner().is_pending());
        served
    }

    /// Queues a frame in the outbox.
    pub(crate) fn push(&self, frame: impl Into<Frame>) -> PushOutcome {
        self.outbox.push(frame.into(), Delivery::Reliable, Overflow::Close)
    }

    /// Writes queued frames, as a flusher.
    pub(crate) fn flush(&self) {
        Flusher::new(self.list.clone()).write_all();
    }

    /// Writes queued frames, as the owner; ready with the close reason of the outbox.
    pub(crate) fn poll_owner(&mut self) -> Poll<roomcast_core::CloseReason> {
        let waker = Waker::from(self.woken.clone());
        self.outbox.poll_owner(&mut Context::from_waker(&waker))
    }

    /// Returns whether the owner was woken since the last call.
    pub(crate) fn was_woken(&self) -> bool {
        self.woken.0.swap(false, Ordering::Relaxed)
    }

    /// Reads once; returns the result and the messages.
    pub(crate) fn recv(&mut self) -> (Poll<Result<Received, ConnectionError>>, Vec<Message>) {
        let waker = Waker::from(self.woken.clone());
        let mut messages = Vec::new();
        let outcome =
            self.connection.poll_recv(&mut Context::from_waker(&waker), &self.outbox, &mut messages);
        (outcome, messages)
    }

    /// Reads the available input, which must contain no error and no end.
    pub(crate) fn read(&mut self) -> Vec<Message> {
        let (outcome, messages) = self.recv();
        assert!(matches!(outcome, Poll::Ready(Ok(Received::Activity))), "{outcome:?}");
        messages
    }

    pub(crate) fn poll_closed(&mut self) -> Poll<()> {
        let waker = Waker::from(self.woken.clone());
        self.connection.poll_closed(&mut Context::from_waker(&waker))
    }

    /// Flushes, and returns all bytes sent.
    pub(crate) fn sent(&self) -> Vec<u8> {
        self.flush();
        self.wire.written()
    }
}

/// Returns an exchange whose stream never arrives.
pub(crate) fn without_a_stream() -> Exchange {
    let (mut exchange, _) = ExchangeBuilder::websocket("/").build();
    exchange.upgrade = Some(Upgrade::new(async { Err(io::ErrorKind::UnexpectedEof.into()) }));
    exchange
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
