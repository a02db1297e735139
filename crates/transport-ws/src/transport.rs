//! WebSocket transport: turns upgrade requests into connections.

use http::header::SEC_WEBSOCKET_EXTENSIONS;
use roomcast_core::{
    Capabilities, Connection, Exchange, RejectedExchange, Rejection, Transport, TransportName,
};

use crate::close;
use crate::connection::{ConnectionSettings, GOING_AWAY, WsConnection};
use crate::deflate::{Compression, negotiate};
use crate::handshake;

/// Opens WebSocket connections (RFC 6455).
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct WebSocket {
    connection: ConnectionSettings,
    compression: Option<Compression>,
}

impl WebSocket {
    /// Name in `?transport=` and in `upgrades`.
    pub const NAME: TransportName = TransportName("websocket");

    /// Creates a transport with the default limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the maximum size of a message in bytes, all fragments together. Default: 1,000,000.
    ///
    /// A larger message closes the connection with 1009. The declared length counts, before anything is read or
    /// allocated.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.connection.limits.max_message = bytes;
        self
    }

    /// Sets the maximum number of frames in a message, empty ones included. Default: 16,384.
    ///
    /// More frames close the connection with 1008.
    pub fn max_fragments(mut self, frames: u32) -> Self {
        self.connection.limits.max_fragments = frames;
        self
    }

    /// Omits the close code where a Socket.IO server on Node does. Default: off.
    ///
    /// Clients then see the 1005 that they expect. When off, every close frame carries a code.
    pub fn bare_close(mut self, bare: bool) -> Self {
        self.connection.bare_close = bare;
        self
    }

    /// Sets the close code for server shutdown. Default: 1001 (going away).
    ///
    /// The code must be [sendable](crate::close::is_sendable); otherwise 1001 is used. 1012 (service restart) suits
    /// clients that treat 1001 as leaving a page and do not reconnect.
    pub fn shutdown_code(mut self, code: u16) -> Self {
        self.connection.shutdown_code = if close::is_sendable(code) { code } else { GOING_AWAY };
        self
    }

    /// Enables compression for clients that offer permessage-deflate (RFC 7692). Default: offers are declined.
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

    fn open(&self, mut exchange: Exchange) -> Result<Box<dyn Connection>, RejectedExchange> {
        let accepted = match handshake::check(&exchange.request) {
            Ok(accepted) => accepted,
            Err(refused) => return Err(RejectedExchange::new(exchange, refused.into())),
        };
        let Some(upgrade) = exchange.upgrade.take() else {
            let rejection = Rejection::new(
                http::StatusCode::INTERNAL_SERVER_ERROR,
                "this server cannot take the connection over from HTTP here",
            );
            return Err(RejectedExchange::new(exchange, rejection));
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
        // If the client has disconnected, the upgrade fails, and with it the connection.
        let _ = exchange.respond.send(response);
        Ok(Box::new(connection))
    }
}
