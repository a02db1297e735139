//! The transport suite detects injected faults.

use std::collections::VecDeque;
use std::panic::catch_unwind;
use std::task::{Context, Poll};

use bytes::Bytes;
use roomcast_core::{
    Capabilities, CloseReason, Connection, ConnectionError, Exchange, Frame, FrameSink, Message, Outbox,
    Readiness, Received, Refused, Transport, TransportName,
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
fn each_fault_is_found() {
    type Case = fn(Fault);
    let cases: [(Fault, Case); 14] = [
        (Fault::LosesAFrame, suite::frames_arrive_whole_and_in_order),
        (Fault::SendsTwiceWhenBlocked, suite::frames_that_wait_are_sent_once_there_is_room),
        (Fault::SwapsFrames, suite::both_directions_flow_at_once),
        (Fault::TearsFrames, suite::an_event_and_its_attachments_stay_together),
        (Fault::KeepsWhatItWasLentBack, suite::readers_that_stop_and_go_lose_nothing),
        (Fault::CutsMessages, suite::a_message_at_the_limit_arrives),
        (Fault::SwallowsEmptyMessages, suite::messages_arrive_whole_and_in_order),
        (Fault::TakesTextForBinary, suite::messages_arrive_whole_and_in_order),
        (Fault::HasNoLimit, suite::a_message_over_the_limit_harms_nobody_else),
        (Fault::NoticesNothing, suite::a_client_that_vanishes_is_noticed),
        (Fault::ForgetsWhatWaits, suite::what_waits_is_sent_before_the_close),
        (Fault::NeverLetsGo, suite::a_closed_connection_ends_for_the_client),
        (Fault::OpensForAnybody, suite::a_request_that_opens_nothing_is_handed_back),
        (Fault::BreaksOnForeignRequests, suite::a_request_of_a_foreign_kind_harms_nothing),
    ];
    for (fault, case) in cases {
        case(Fault::None);
        assert!(catch_unwind(|| case(fault)).is_err(), "{fault:?} is not found");
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

    fn open(&self, exchange: Exchange) -> Result<Box<dyn Connection>, Refused> {
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
    fn accept(&mut self, exchange: Exchange) -> Result<(), Refused> {
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
    batch.insert(behind, Frame::of_all(messages[1..].to_vec()));
}
