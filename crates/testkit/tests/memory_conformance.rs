//! The in-memory transport passes its own conformance suite.

use roomcast_core::{CloseReason, Exchange, Message, Transport};
use roomcast_testkit::transport::{
    MemoryClient, MemoryTransport, Oversized, Requests, TransportClient, TransportHarness,
};

#[derive(Debug, Clone)]
struct MemoryHarness;

impl TransportHarness for MemoryHarness {
    type Client = Client;

    const MAX_MESSAGE: usize = 10_000;

    fn transport(&self) -> Box<dyn Transport> {
        Box::new(MemoryTransport::default().max_message(Self::MAX_MESSAGE))
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

roomcast_testkit::transport_conformance!(MemoryHarness);
