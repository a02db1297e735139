//! A polling client whose connection is driven step by step.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use roomcast_core::{
    CloseReason, Connection, ConnectionError, Delivery, Exchange, FlushList, Flusher, Frame, FrameSink,
    Message, Outbox, Overflow, PushOutcome, Received, Rejection, Transport,
};
use roomcast_testkit::{Answer, Answered, BodyFeed, ExchangeBuilder};
use roomcast_transport_polling::Polling;

pub(crate) const URI: &str = "/socket.io/?EIO=4&transport=polling&sid=secret";

/// A connection with its outbox, driven step by step.
pub(crate) struct Client {
    pub(crate) connection: Box<dyn Connection>,
    pub(crate) outbox: Outbox,
    pub(crate) flush: Flusher,
    pub(crate) woken: Arc<Woken>,
}

#[derive(Default)]
pub(crate) struct Woken(pub(crate) AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Client {
    /// Creates a client whose first GET is pending.
    pub(crate) fn open() -> (Self, Answer) {
        Self::open_with(&Polling::new(), |sink| sink)
    }

    pub(crate) fn open_with(
        polling: &Polling,
        wrap: impl FnOnce(Box<dyn FrameSink>) -> Box<dyn FrameSink>,
    ) -> (Self, Answer) {
        let (exchange, answer) = ExchangeBuilder::get(URI).build();
        let mut connection = polling.open(exchange).expect("a GET opens");
        let list = FlushList::new();
        let flush = Flusher::new(list.clone());
        let outbox = Outbox::new(1 << 20, list);
        let Poll::Ready(Ok(sink)) = connection.poll_open(&mut Context::from_waker(Waker::noop())) else {
            panic!("expected an open connection");
        };
        outbox.set_sink(wrap(sink));
        (Self { connection, outbox, flush, woken: Arc::default() }, answer)
    }

    /// Creates a client whose first GET was answered.
    pub(crate) fn opened() -> Self {
        let (mut client, mut first) = Self::open();
        client.push("0{}");
        assert_eq!(client.step(&mut first).text(), (200, "0{}"));
        client
    }

    pub(crate) fn push(&self, message: impl Into<Message>) {
        let frame = Frame::new(message);
        assert_eq!(self.outbox.push(frame, Delivery::Reliable, Overflow::Close), PushOutcome::Queued);
    }

    /// Runs the owner and the flusher.
    pub(crate) fn settle(&mut self) {
        for _ in 0..4 {
            let waker = Waker::from(self.woken.clone());
            let _ = self.outbox.poll_owner(&mut Context::from_waker(&waker));
            self.flush.write_all();
        }
    }

    pub(crate) fn step(&mut self, answer: &mut Answer) -> Answered {
        self.settle();
        answer.now().expect("the request is answered")
    }

    pub(crate) fn get(&mut self) -> Answer {
        let (exchange, answer) = ExchangeBuilder::get(URI).build();
        self.connection.accept(exchange).expect("the GET is accepted");
        answer
    }

    pub(crate) fn post(&mut self, body: &'static str) -> Answer {
        let (exchange, answer) = ExchangeBuilder::post(URI).chunk(body).build();
        self.connection.accept(exchange).expect("the POST is accepted");
        answer
    }

    pub(crate) fn feed(&mut self) -> (Answer, BodyFeed) {
        let (exchange, answer, feed) = ExchangeBuilder::post(URI).unfinished().build_with_feed();
        self.connection.accept(exchange).expect("the POST is accepted");
        (answer, feed)
    }

    pub(crate) fn refused(&mut self, exchange: Exchange) -> Rejection {
        self.connection.accept(exchange).expect_err("the request is refused").rejection
    }

    pub(crate) fn recv(&mut self) -> (Poll<Result<Received, ConnectionError>>, Vec<Message>) {
        let mut messages = Vec::new();
        let waker = Waker::from(self.woken.clone());
        let polled = self.connection.poll_recv(&mut Context::from_waker(&waker), &self.outbox, &mut messages);
        (polled, messages)
    }

    pub(crate) fn received(&mut self) -> Vec<Message> {
        let (polled, messages) = self.recv();
        assert!(matches!(polled, Poll::Ready(Ok(Received::Activity))), "{polled:?}");
        messages
    }

    /// Reads the body of a POST, which answers it.
    pub(crate) fn take_in(&mut self) {
        assert_eq!(self.received(), [], "messages follow the written response");
    }

    pub(crate) fn assert_idle(&mut self) {
        let (polled, messages) = self.recv();
        assert!(polled.is_pending() && messages.is_empty(), "{polled:?} {messages:?}");
    }

    pub(crate) fn assert_leaving(&mut self) {
        let (polled, messages) = self.recv();
        assert!(matches!(polled, Poll::Ready(Ok(Received::Leaving))) && messages.is_empty(), "{polled:?}");
    }

    pub(crate) fn broken(&mut self) -> CloseReason {
        let (polled, _) = self.recv();
        let Poll::Ready(Err(error)) = polled else { panic!("{polled:?}") };
        error.reason()
    }

    pub(crate) fn close(&mut self) {
        self.connection.start_close(CloseReason::ForcedServerClose, &self.outbox);
        self.outbox.finish();
    }

    pub(crate) fn poll_closed(&mut self) -> Poll<()> {
        self.connection.poll_closed(&mut Context::from_waker(Waker::noop()))
    }

    pub(crate) fn woken(&self) -> usize {
        self.woken.0.load(Ordering::Relaxed)
    }
}

pub(crate) fn assert_refused(rejection: &Rejection, status: u16, fatal: bool) {
    let told = (rejection.status.as_u16(), &*rejection.text, rejection.fatal);
    assert_eq!(told, (status, "", fatal));
}
