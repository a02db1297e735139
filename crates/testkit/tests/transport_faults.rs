//! The transport suite detects injected faults.

use std::collections::VecDeque;
use std::panic::catch_unwind;
use std::task::{Context, Poll};

use bytes::Bytes;
use roomcast_core::{
    Capabilities, CloseReason, Connection, ConnectionError, Exchange, Frame, FrameSink, Message, Outbox,
    Readiness, Received, RejectedExchange, Transport, TransportName,
};
use roomcast_testkit::transport::{
    MemoryClient, MemoryTransport, Oversized, Requests, TransportClient, TransportHarness,
    conformance as suite,
};

/// Fault of the transport under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    LosesAFrame,
    SendsTwiceWhenBlocked,
    SwapsFrames,
    TearsFrames,
    KeepsWhatItWasLentBack,
    CutsMessages,
    SwallowsEmptyMessages,
    TakesTextForBinary,
    HasNoLimit,
    NoticesNothing,
    ForgetsWhatWaits,
    NeverLetsGo,
    OpensForAnybody,
    BreaksOnForeignRequests,
}

#[test]
fn suite_detects_each_fault() {
    type Case = fn(Fault);
    let cases: [(Fault, Case); 14] = [
        (Fault::LosesAFrame, suite::sends_frames_in_order),
        (Fault::SendsTwiceWhenBlocked, suite::sends_queued_frames_after_stall),
        (Fault::SwapsFrames, suite::sends_and_receives_concurrently),
        (Fault::TearsFrames, suite::keeps_attachments_with_their_event),
        (Fault::KeepsWhatItWasLentBack, suite::loses_nothing_to_slow_readers),
        (Fault::CutsMessages, suite::accepts_message_at_limit),
        (Fault::SwallowsEmptyMessages, suite::receives_messages_in_order),
        (Fault::TakesTextForBinary, suite::receives_messages_in_order),
        (Fault::HasNoLimit, suite::rejects_message_over_limit),
        (Fault::NoticesNothing, suite::detects_vanished_client),
        (Fault::ForgetsWhatWaits, suite::sends_queued_frames_before_close),
        (Fault::NeverLetsGo, suite::close_ends_client_wait),
        (Fault::OpensForAnybody, suite::returns_refused_exchange),
        (Fault::BreaksOnForeignRequests, suite::refuses_unsupported_request),
    ];
    for (fault, case) in cases {
        case(Fault::None);
        assert!(catch_unwind(|| case(fault)).is_err(), "{fault:?} is not detected");
    }
}

impl TransportHarness for Fault {
    type Client = Client;

    const MAX_MESSAGE: usize = 10_000;

    fn transport(&self) -> Box<dyn Transport> {
        let limit = if *self == Self::HasNoLimit { usize::MAX } else { Self::MAX_MESSAGE };
        Box::new(Faulty { fault: *self, memory: MemoryTransport::default().max_message(limit) })
    }

    fn connect(&self, _: Requests) -> (Exchange, Client) {
        let (exchange, client) = MemoryClient::connect(3);
        (exchange, Client(client))
    }

    fn oversized(&self) -> Oversized {
        Oversized::Ends(CloseReason::MessageTooBig)
    }
}

#[derive(Debug)]
struct Client(MemoryClient);

impl TransportClient for Client {
    async fn send(&mut self, message: Message) {
        self.0.send(message);
    }

    async fn recv(&mut self) -> Option<Message> {
        self.0.recv().await
    }

    async fn vanish(self) {}
}

#[derive(Debug)]
struct Faulty {
    fault: Fault,
    memory: MemoryTransport,
}

impl Transport for Faulty {
    fn name(&self) -> TransportName {
        self.memory.name()
    }

    fn capabilities(&self) -> Capabilities {
        Transport::capabilities(&self.memory)
    }

    fn open(&self, exchange: Exchange) -> Result<Box<dyn Connection>, RejectedExchange> {
        let connection = match self.memory.open(exchange) {
            Err(_) if self.fault == Fault::OpensForAnybody => {
                let (exchange, _) = MemoryClient::connect(1);
                self.memory.open(exchange)?
            }
            opened => opened?,
        };
        Ok(Box::new(FaultyConnection { fault: self.fault, connection, broken: false }))
    }
}

#[derive(Debug)]
struct FaultyConnection {
    fault: Fault,
    connection: Box<dyn Connection>,
    broken: bool,
}

impl Connection for FaultyConnection {
    fn accept(&mut self, exchange: Exchange) -> Result<(), RejectedExchange> {
        self.broken = self.fault == Fault::BreaksOnForeignRequests;
        self.connection.accept(exchange)
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn FrameSink>, ConnectionError>> {
        let fault = self.fault;
        let faulty = |sink| Box::new(FaultySink { fault, sink, taken: 0 }) as Box<dyn FrameSink>;
        self.connection.poll_open(cx).map_ok(faulty)
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &Outbox,
        messages: &mut Vec<Message>,
    ) -> Poll<Result<Received, ConnectionError>> {
        if self.broken {
            return Poll::Ready(Err(ConnectionError::Misused("a request")));
        }
        let outcome = self.connection.poll_recv(cx, outbox, messages);
        match self.fault {
            Fault::CutsMessages => messages.iter_mut().for_each(|message| {
                if let Message::Text(text) = message {
                    *message = text[..text.len() / 2].to_owned().into();
                }
            }),
            Fault::SwallowsEmptyMessages => messages.retain(|message| !message.is_empty()),
            Fault::TakesTextForBinary => messages.iter_mut().for_each(|message| {
                *message = Bytes::copy_from_slice(message.as_bytes()).into();
            }),
            Fault::NoticesNothing
                if matches!(outcome, Poll::Ready(Err(_) | Ok(Received::Closed | Received::Leaving))) =>
            {
                return Poll::Pending;
            }
            _ => {}
        }
        outcome
    }

    fn ping(&mut self, outbox: &Outbox, mark: u32) -> bool {
        self.connection.ping(outbox, mark)
    }

    fn start_close(&mut self, reason: CloseReason, outbox: &Outbox) {
        match self.fault {
            Fault::ForgetsWhatWaits => outbox.close(reason),
            Fault::NeverLetsGo => {}
            _ => self.connection.start_close(reason, outbox),
        }
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.connection.poll_closed(cx)
    }
}

impl Drop for FaultyConnection {
    fn drop(&mut self) {
        if self.fault == Fault::NeverLetsGo {
            // Its client is not notified: the real connection stays open.
            let (exchange, _) = MemoryClient::connect(1);
            if let Ok(other) = MemoryTransport::default().open(exchange) {
                std::mem::forget(std::mem::replace(&mut self.connection, other));
            }
        }
    }
}

#[derive(Debug)]
struct FaultySink {
    fault: Fault,
    sink: Box<dyn FrameSink>,
    taken: usize,
}

impl FrameSink for FaultySink {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError> {
        let before = batch.clone();
        match self.fault {
            Fault::LosesAFrame if self.taken > 5 => {
                self.taken = 0;
                batch.pop_front();
            }
            Fault::SwapsFrames if batch.len() > 1 => batch.swap(0, 1),
            Fault::TearsFrames => tear(batch),
            _ => {}
        }
        let outcome = self.sink.poll_send(cx, batch);
        let taken = before.len().saturating_sub(batch.len());
        self.taken += taken;
        if matches!(outcome, Ok(Readiness::Blocked)) && taken > 0 {
            match self.fault {
                Fault::SendsTwiceWhenBlocked => batch.push_front(before[taken - 1].clone()),
                Fault::KeepsWhatItWasLentBack => batch.clear(),
                _ => {}
            }
        }
        outcome
    }
}

/// Moves the attachments of the first frame after the second frame.
fn tear(batch: &mut VecDeque<Frame>) {
    let Some(at) = batch.iter().position(|frame| frame.messages().len() > 1) else { return };
    let messages = batch[at].messages().to_vec();
    batch[at] = Frame::new(messages[0].clone());
    let behind = (at + 2).min(batch.len());
    batch.insert(behind, Frame::from_messages(messages[1..].to_vec()));
}
