//! Interface between the transport suite and a transport's clients.

use std::future::Future;

use roomcast_core::{CloseReason, Exchange, Message, Transport};
use tokio::sync::mpsc;

/// Transport under test, and a factory for its clients.
///
/// A crate implements it to run [`transport_conformance!`](crate::transport_conformance).
pub trait TransportHarness: Clone + Send + Sync + 'static {
    /// Client type.
    type Client: TransportClient;

    /// Maximum message size in bytes on the transports of this harness.
    ///
    /// At least 4,096, so that the suite can test sizes below it.
    const MAX_MESSAGE: usize;

    /// Returns a transport that accepts messages up to [`MAX_MESSAGE`](Self::MAX_MESSAGE).
    fn transport(&self) -> Box<dyn Transport>;

    /// Returns the exchange that opens a connection, and the client at its other end.
    ///
    /// A client sends further requests through `requests`.
    fn connect(&self, requests: Requests) -> (Exchange, Self::Client);

    /// Effect of a message over the limit on its connection.
    fn oversized(&self) -> Oversized;

    /// Whether tests may run in virtual time; `false` where bytes pass through the kernel.
    fn virtual_time(&self) -> bool {
        true
    }
}

/// Effect of a message over the limit on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oversized {
    /// The message is refused; the connection continues.
    Refused,
    /// The connection ends, for this reason.
    Ends(CloseReason),
}

/// Client of a transport under test.
pub trait TransportClient: Send + 'static {
    /// Sends a message; completes once the server has accepted or refused it, or the connection has ended.
    fn send(&mut self, message: Message) -> impl Future<Output = ()> + Send;

    /// Returns the next message, or `None` once the server has closed the connection.
    ///
    /// A polling client polls only while this runs, so that a test can make the server wait.
    fn recv(&mut self) -> impl Future<Output = Option<Message>> + Send;

    /// Drops the connection without a close, in a way that a server can detect.
    fn vanish(self) -> impl Future<Output = ()> + Send;
}

/// Channel that passes a client's further requests to the connection.
#[derive(Debug, Clone)]
pub struct Requests(pub(crate) mpsc::Sender<Exchange>);

impl Requests {
    /// Sends a request; it is dropped without a response once the connection has ended.
    pub async fn send(&self, exchange: Exchange) {
        let _ = self.0.send(exchange).await;
    }
}
