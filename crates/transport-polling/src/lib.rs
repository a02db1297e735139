//! The HTTP long-polling transport of Roomcast: GETs that wait and POSTs that deliver
//!
//! A session begins here with a GET. Each later GET waits until there is something to be sent and is answered with
//! a [`Payload`]: messages joined by the separator `0x1e`, binary ones as `b` and standard base64 (Engine.IO
//! protocol, v4). A POST brings such a payload, and is answered once its messages have been handled.
//!
//! This framing has no escapes: a text that begins with `b` reads as binary, and one with `0x1e` in it as two. The
//! protocol above keeps clear of both, as its packets begin with a digit and JSON escapes control characters.
//!
//! What every answer of a server has, such as cookies and the headers of CORS, is added by the server.

mod connection;
mod payload;
mod post;
mod sink;

use http::{Method, StatusCode};
use roomcast_core::{Capabilities, Connection, Exchange, Refused, Rejection, Transport, TransportName};

use self::connection::PollingConnection;
pub use self::payload::{Payload, PayloadError, PollingWire};

/// Makes connections out of GETs that wait and POSTs that deliver
#[derive(Debug, Clone)]
#[must_use]
pub struct Polling {
    max_payload: usize,
}

impl Polling {
    /// The value of `?transport=`
    pub const NAME: TransportName = TransportName("polling");

    /// A transport with the default limit
    pub fn new() -> Self {
        Self { max_payload: 1_000_000 }
    }

    /// Bytes that the body of one POST or of one answer may have
    ///
    /// A POST with more is answered with 413 and closes the connection; its bytes are counted as they arrive. An answer
    /// may have more only if a single frame has. Each client can make the server hold this much. Default: 1,000,000.
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

    fn open(&self, exchange: Exchange) -> Result<Box<dyn Connection>, Refused> {
        if exchange.request.method != Method::GET {
            let rejection = Rejection::new(StatusCode::BAD_REQUEST, "a polling client begins with a GET");
            return Err(Refused::new(exchange, rejection));
        }
        Ok(Box::new(PollingConnection::new(exchange, self.max_payload)))
    }
}
