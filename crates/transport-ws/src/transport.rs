//! The transport: from an HTTP request that asks for a WebSocket to an open connection

use http::header::SEC_WEBSOCKET_EXTENSIONS;
use roomcast_core::{Capabilities, Connection, Exchange, Refused, Rejection, Transport, TransportName};

use crate::close;
use crate::connection::{ConnectionSettings, GOING_AWAY, WsConnection};
use crate::deflate::{Compression, negotiate};
use crate::handshake;

/// Opens WebSocket connections (RFC 6455)
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct WebSocket {
    connection: ConnectionSettings,
    compression: Option<Compression>,
}

impl WebSocket {
    /// The name in `?transport=` and among `upgrades`
    pub const NAME: TransportName = TransportName("websocket");

    /// A transport with the default limits
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes one message may have, all its fragments together; a larger one closes the connection with 1009
    ///
    /// The declared length counts, before anything is read or allocated. Default: 1,000,000.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.connection.limits.max_message = bytes;
        self
    }

    /// Frames one message may be cut into, empty ones included; more close the connection with 1008
    ///
    /// Default: 16,384.
    pub fn max_fragments(mut self, frames: u32) -> Self {
        self.connection.limits.max_fragments = frames;
        self
    }

    /// Closes without a code where a Socket.IO server on Node does, so that its clients see the 1005 they know
    ///
    /// Default: off; every close frame says why.
    pub fn bare_close(mut self, bare: bool) -> Self {
        self.connection.bare_close = bare;
        self
    }

    /// Close code for connections that end because the server shuts down, one that [may be
    /// sent](crate::close::is_sendable)
    ///
    /// 1012 (service restart) is for clients that take 1001 for a page that was left, and do not come back after it.
    /// Default: 1001 (going away), which also stands for a code that may not be sent.
    pub fn shutdown_code(mut self, code: u16) -> Self {
        self.connection.shutdown_code = if close::is_sendable(code) { code } else { GOING_AWAY };
        self
    }

    /// Compresses messages for clients that offer permessage-deflate (RFC 7692). Default: the offer is declined
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }
}

impl Transport for WebSocket {
    fn name(&self) -> TransportName {
        Self::NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { begins: true, upgrades_from: false, upgrades_to: true, polled: false }
    }

    fn open(&self, mut exchange: Exchange) -> Result<Box<dyn Connection>, Refused> {
        let accepted = match handshake::check(&exchange.request) {
            Ok(accepted) => accepted,
            Err(refused) => return Err(Refused::new(exchange, refused.into())),
        };
        let Some(upgrade) = exchange.upgrade.take() else {
            let rejection = Rejection::new(
                http::StatusCode::INTERNAL_SERVER_ERROR,
                "this server cannot take the connection over from HTTP here",
            );
            return Err(Refused::new(exchange, rejection));
        };
        let mut response =
            handshake::response(&accepted, exchange.subprotocol.as_deref()).map(|()| Default::default());
        let mut connection = WsConnection::new(upgrade, self.connection);
        if let Some(compression) = &self.compression
            && let Some(agreement) = negotiate(&accepted.extensions, compression)
        {
            response.headers_mut().insert(SEC_WEBSOCKET_EXTENSIONS, agreement.response.clone());
            connection.compress(compression, agreement);
        }
        // If the client is gone the upgrade fails, and with it the connection.
        let _ = exchange.respond.send(response);
        Ok(Box::new(connection))
    }
}
