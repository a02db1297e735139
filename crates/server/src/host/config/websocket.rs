//! Settings of WebSocket connections.

use roomcast_transport_ws::{Compression, WebSocket};

use super::limits::Limits;
use super::setters::setters;

/// Settings of WebSocket connections.
///
/// Set with [`Config::websocket`](crate::Config::websocket). Applies to the WebSocket transport that the server
/// creates; a [`WebSocket`] passed to [`IoBuilder::transport`](crate::config::IoBuilder::transport) has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct WebSocketConfig {
    pub(crate) compression: Option<Compression>,
    pub(crate) drain_close_code: u16,
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self { compression: None, drain_close_code: 1001 }
    }
}

setters! {
    WebSocketConfig {
        /// Sets the close code used when the server [drains](crate::Io::drain). Default: 1001, going away.
        ///
        /// Use 1012, service restart, for clients that do not reconnect after 1001 because they treat it as a page
        /// unload.
        drain_close_code: u16,
    }
}

impl WebSocketConfig {
    /// Compresses messages for clients that offer permessage-deflate; `None` turns it off. Default: off, as on Node.
    ///
    /// By default messages of 1,024 bytes and more are compressed, a broadcast once for all recipients. See
    /// [`Compression`] for the cost. `compress(false)` exempts a single message. A [`WebSocket`] passed to the builder
    /// may share the same value and its statistics.
    ///
    /// # Examples
    ///
    /// ```
    /// use roomcast_server::transport::Compression;
    /// use roomcast_server::Config;
    ///
    /// let config =
    ///     Config::new().websocket(|websocket| websocket.compression(Compression::new().threshold(512)));
    /// ```
    pub fn compression(mut self, compression: impl Into<Option<Compression>>) -> Self {
        self.compression = compression.into();
        self
    }

    /// Returns the transport with these settings and the limits of a message.
    pub(crate) fn transport(&self, limits: &Limits) -> WebSocket {
        let websocket = WebSocket::new()
            .max_message(limits.max_payload)
            .max_fragments(limits.max_fragments)
            .shutdown_code(self.drain_close_code);
        match &self.compression {
            Some(compression) => websocket.compression(compression.clone()),
            None => websocket,
        }
    }
}
