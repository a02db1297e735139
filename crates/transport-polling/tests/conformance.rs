//! Transport conformance of long-polling.

use std::collections::VecDeque;

use bytes::Bytes;
use roomcast_core::{CloseReason, Exchange, Message, Transport, Wire};
use roomcast_testkit::transport::{Oversized, Requests, TransportClient, TransportHarness};
use roomcast_testkit::{Answer, ExchangeBuilder};
use roomcast_transport_polling::{Payload, Polling, PollingWire};

#[derive(Debug, Clone)]
struct PollingHarness;

impl TransportHarness for PollingHarness {
    type Client = PollingClient;

    const MAX_MESSAGE: usize = 10_000;

    fn transport(&self) -> Box<dyn Transport> {
        Box::new(Polling::new().max_payload(Self::MAX_MESSAGE))
    }

    fn connect(&self, requests: Requests) -> (Exchange, PollingClient) {
        let (exchange, first) = ExchangeBuilder::get(URI).build();
        (exchange, PollingClient { requests, get: Some(first), inbox: VecDeque::new() })
    }

    fn oversized(&self) -> Oversized {
        Oversized::Ends(CloseReason::MessageTooBig)
    }
}

const URI: &str = "/socket.io/?EIO=4&transport=polling&sid=secret";
/// Size of the pieces of a body in bytes.
const PIECE: usize = 1_000;

#[derive(Debug)]
struct PollingClient {
    requests: Requests,
    get: Option<Answer>,
    inbox: VecDeque<Message>,
}

impl TransportClient for PollingClient {
    async fn send(&mut self, message: Message) {
        let body: Bytes = PollingWire.render(&[message]);
        let mut post = ExchangeBuilder::post(URI);
        for at in (0..body.len()).step_by(PIECE) {
            post = post.chunk(body.slice(at..body.len().min(at + PIECE)));
        }
        let (exchange, answer) = post.build();
        self.requests.send(exchange).await;
        if let Some(answered) = answer.await {
            let expected = if body.len() > PollingHarness::MAX_MESSAGE { (413, "") } else { (200, "ok") };
            assert_eq!(answered.text(), expected);
        }
    }

    async fn recv(&mut self) -> Option<Message> {
        while self.inbox.is_empty() {
            let answered = self.parked().await.await;
            self.get = None;
            let answered = answered.filter(|answered| answered.status == 200)?;
            self.inbox.extend(Payload::new(answered.body).map(|message| message.expect("well formed")));
        }
        self.inbox.pop_front()
    }

    async fn vanish(mut self) {
        self.parked().await;
    }
}

impl PollingClient {
    /// Returns the pending GET, sending one if none is pending.
    async fn parked(&mut self) -> &mut Answer {
        if self.get.is_none() {
            let (exchange, answer) = ExchangeBuilder::get(URI).build();
            self.requests.send(exchange).await;
            self.get = Some(answer);
        }
        self.get.as_mut().expect("parked above")
    }
}

roomcast_testkit::transport_conformance!(PollingHarness);
