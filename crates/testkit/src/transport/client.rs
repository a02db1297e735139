//! What a suite has to know about a kind of transport and its clients

use std::future::Future;

use roomcast_core::{CloseReason, Exchange, Message, Transport};
use tokio::sync::mpsc;

/// A kind of transport, and how to make clients for it
///
/// All a crate has to provide in order to run [`transport_conformance!`](crate::transport_conformance).
pub trait TransportHarness: Clone + Send + Sync + 'static {
    /// A client
    type Client: TransportClient;

    /// The most bytes a message may have on the transports of this harness
    ///
    /// At least 4,096, so that there is room to try what lies below.
    const MAX_MESSAGE: usize;

    /// A transport that takes in messages up to [`MAX_MESSAGE`](Self::MAX_MESSAGE)
    fn transport(&self) -> Box<dyn Transport>;

    /// The exchange that opens a connection, and the client at its other end
    ///
    /// A client that makes further requests makes them through `requests`.
    fn connect(&self, requests: Requests) -> (Exchange, Self::Client);

    /// What becomes of a connection on which a message over the limit arrives
    fn oversized(&self) -> Oversized;

    /// Whether tests may run in virtual time; not so where bytes pass through the kernel
    fn virtual_time(&self) -> bool {
        true
    }
}

/// What becomes of a connection on which a message over the limit arrives
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oversized {
    /// The message is refused, the connection goes on
    Refused,
    /// The connection ends, for this reason
    Ends(CloseReason),
}

/// A client of a transport under test
pub trait TransportClient: Send + 'static {
    /// Sends a message; done once the server has taken it or refused it, or the connection has ended
    fn send(&mut self, message: Message) -> impl Future<Output = ()> + Send;

    /// The next message, or `None` once the server has closed the connection
    ///
    /// A client that asks for messages asks only while this runs, so that a test can let the server wait.
    fn recv(&mut self) -> impl Future<Output = Option<Message>> + Send;

    /// Goes away without a word, in such a way that a server can see it
    fn vanish(self) -> impl Future<Output = ()> + Send;
}

/// Where a client's further requests go: to the connection, as the server hands them over
#[derive(Debug, Clone)]
pub struct Requests(pub(crate) mpsc::Sender<Exchange>);

impl Requests {
    /// Makes a request; it is dropped unanswered once the connection is gone
    pub async fn send(&self, exchange: Exchange) {
        let _ = self.0.send(exchange).await;
    }
}
