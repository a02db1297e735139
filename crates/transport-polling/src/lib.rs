//! HTTP long-polling transport of Roomcast: waiting GETs and POSTs with messages.
//!
//! A session begins with a GET. Each later GET waits for outgoing messages and is answered with a [`Payload`]: messages
//! joined by the separator `0x1e`, binary ones as `b` and standard base64 (Engine.IO protocol, v4). A POST carries such
//! a payload, and is answered once its body is complete.
//!
//! This framing has no escapes: a text that begins with `b` reads as binary, and a text containing `0x1e` as two. The
//! protocol above avoids both, as its packets begin with a digit and JSON escapes control characters.
//!
//! The server adds the headers common to all responses, such as cookies and CORS.

mod connection;
mod payload;
mod post;
mod sink;

use http::{Method, StatusCode};
use roomcast_core::{
    Capabilities, Connection, Exchange, RejectedExchange, Rejection, Transport, TransportName,
};

use self::connection::PollingConnection;
pub use self::payload::{Payload, PayloadError, PollingWire};

/// HTTP long-polling transport.
#[derive(Debug, Clone)]
#[must_use]
pub struct Polling {
    max_payload: usize,
}

impl Polling {
    /// Value of `?transport=`.
    pub const NAME: TransportName = TransportName("polling");

    /// Creates a transport with the default limit.
    pub fn new() -> Self {
        Self { max_payload: 1_000_000 }
    }

    /// Sets the maximum body size of one POST or one response in bytes. Default: 1,000,000.
    ///
    /// A larger POST is answered with 413 and closes the connection; its bytes are counted as they arrive. A response
    /// is larger only if a single frame is. Each client can make the server hold this much.
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }
}

impl Default for Polling {
    fn default() -> Self {
        Self::new()
    }
}

impl Transport for Polling {
    fn name(&self) -> TransportName {
        Self::NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { begins: true, upgrades_from: true, upgrades_to: false, polled: true }
    }

    fn open(&self, exchange: Exchange) -> Result<Box<dyn Connection>, RejectedExchange> {
        if exchange.request.method != Method::GET {
            let rejection = Rejection::new(StatusCode::BAD_REQUEST, "a polling client begins with a GET");
            return Err(RejectedExchange::new(exchange, rejection));
        }
        Ok(Box::new(PollingConnection::new(exchange, self.max_payload)))
    }
}
