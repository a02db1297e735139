//! A connection, driven by hand

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use roomcast_core::{
    Bounds, Connection, ConnectionError, Delivery, Exchange, FlushList, Flusher, Frame, Message, Outbox,
    Overflow, Pushed, Received, Transport, Upgrade,
};
use roomcast_testkit::ExchangeBuilder;
use roomcast_transport_ws::WebSocket;

use crate::wire::Wire;

/// An open connection on a [`Wire`], with its outbox; nothing happens but what the test calls for
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

    /// With these bytes come together with the request
    pub(crate) fn open_with(transport: &WebSocket, early: impl Into<Bytes>) -> Self {
        Self::open_by(transport, ExchangeBuilder::websocket("/"), early)
    }

    /// To a client that offers these extensions
    pub(crate) fn offering(transport: &WebSocket, extensions: &str) -> Self {
        let request = ExchangeBuilder::websocket("/").header("sec-websocket-extensions", extensions);
        Self::open_by(transport, request, "")
    }

    /// To a client that offers these extensions, and sends these bytes together with the request
    pub(crate) fn offering_with(transport: &WebSocket, extensions: &str, early: impl Into<Bytes>) -> Self {
        let request = ExchangeBuilder::websocket("/").header("sec-websocket-extensions", extensions);
        Self::open_by(transport, request, early)
    }

    fn open_by(transport: &WebSocket, request: ExchangeBuilder, early: impl Into<Bytes>) -> Self {
        let wire = Wire::default();
        let (exchange, mut answer) = request.upgrade(wire.clone(), early).build();
        let mut connection = transport.open(exchange).expect("it is a handshake");
        assert_eq!(answer.now().expect("answered at once").status, 101);

        let list = FlushList::new();
        let outbox = Outbox::new(Bounds::new(1 << 20, 1 << 20), list.clone());
        let woken = Arc::new(Woken::default());
        let Poll::Ready(Ok(sink)) = connection.poll_open(&mut Context::from_waker(Waker::noop())) else {
            panic!("the stream is there");
        };
        outbox.set_sink(sink);
        let mut served = Self { wire, connection, outbox, list, woken };
        assert!(served.poll_owner().is_pending());
        served
    }

    /// Puts a frame into the outbox, where it waits
    pub(crate) fn push(&self, frame: impl Into<Frame>) -> Pushed {
        self.outbox.push(frame.into(), Delivery::Reliable, Overflow::Close)
    }

    /// Writes what waits, as a flusher
    pub(crate) fn flush(&self) {
        Flusher::new(self.list.clone()).write_all();
    }

    /// Writes what waits, as the owner; ready with why the outbox was closed
    pub(crate) fn poll_owner(&mut self) -> Poll<roomcast_core::CloseReason> {
        let waker = Waker::from(self.woken.clone());
        self.outbox.poll_owner(&mut Context::from_waker(&waker))
    }

    /// Whether the owner was woken since the last call
    pub(crate) fn was_woken(&self) -> bool {
        self.woken.0.swap(false, Ordering::Relaxed)
    }

    /// Reads once: what came of it, and the messages
    pub(crate) fn recv(&mut self) -> (Poll<Result<Received, ConnectionError>>, Vec<Message>) {
        let waker = Waker::from(self.woken.clone());
        let mut messages = Vec::new();
        let outcome =
            self.connection.poll_recv(&mut Context::from_waker(&waker), &self.outbox, &mut messages);
        (outcome, messages)
    }

    /// Reads what was made to arrive at once, without an error and before the end
    pub(crate) fn read(&mut self) -> Vec<Message> {
        let (outcome, messages) = self.recv();
        assert!(matches!(outcome, Poll::Ready(Ok(Received::Activity))), "{outcome:?}");
        messages
    }

    pub(crate) fn poll_closed(&mut self) -> Poll<()> {
        let waker = Waker::from(self.woken.clone());
        self.connection.poll_closed(&mut Context::from_waker(&waker))
    }

    /// All bytes that have gone out once whatever waits is flushed
    pub(crate) fn sent(&self) -> Vec<u8> {
        self.flush();
        self.wire.written()
    }
}

/// An exchange whose stream never comes
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
