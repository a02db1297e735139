//! Blocking WebSocket client.

use std::collections::VecDeque;
use std::fmt;
use std::io::ErrorKind;

use tungstenite::client::ClientRequestBuilder;
use tungstenite::error::Error;
use tungstenite::protocol::{WebSocket, WebSocketConfig};

use super::dial::{Dial, Stream};

/// WebSocket message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

/// How a connection ended: code and reason of the close frame, or `None` without one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ended {
    /// Code of the close frame.
    pub code: Option<u16>,
    /// Its reason.
    pub reason: String,
}

/// Blocking WebSocket.
pub struct Ws {
    socket: WebSocket<Box<dyn Stream>>,
    /// Messages received but not yet requested.
    early: VecDeque<Message>,
    pongs: usize,
    ended: Ended,
    /// Subprotocol that the server chose.
    pub protocol: Option<String>,
}

impl Ws {
    /// Connects.
    pub fn open(dial: &Dial, target: &str, protocol: Option<&str>) -> Self {
        Self::try_open(dial, target, protocol).expect("server accepts WebSockets")
    }

    /// Connects; returns the response status if the server refuses.
    pub fn try_open(dial: &Dial, target: &str, protocol: Option<&str>) -> Result<Self, u16> {
        let uri = format!("ws://test{target}").parse().expect("valid path");
        let mut request = ClientRequestBuilder::new(uri);
        if let Some(protocol) = protocol {
            request = request.with_sub_protocol(protocol);
        }
        let config = WebSocketConfig::default().read_buffer_size(dial.read_ahead());
        match tungstenite::client::client_with_config(request, dial.open(), Some(config)) {
            Ok((socket, response)) => {
                let protocol = response.headers().get("sec-websocket-protocol");
                let protocol = protocol.map(|name| name.to_str().expect("subprotocol is text").to_owned());
                Ok(Self { socket, early: VecDeque::new(), pongs: 0, ended: Ended::default(), protocol })
            }
            Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => {
                Err(response.status().as_u16())
            }
            Err(error) => panic!("handshake failed: {error}"),
        }
    }

    /// Sends a message.
    pub fn send(&mut self, message: Message) {
        self.queue(message);
        self.flush();
    }

    /// Queues a message to be written with others.
    pub fn queue(&mut self, message: Message) {
        let message = match message {
            Message::Text(text) => tungstenite::Message::text(text),
            Message::Binary(bytes) => tungstenite::Message::binary(bytes),
        };
        self.socket.write(message).expect("connection is open");
    }

    /// Writes the queued messages.
    pub fn flush(&mut self) {
        self.socket.flush().expect("connection is open");
    }

    /// Returns the next message, or how the connection ended.
    pub fn receive(&mut self) -> Result<Message, Ended> {
        if let Some(message) = self.early.pop_front() {
            return Ok(message);
        }
        loop {
            if let Some(message) = self.read()? {
                return Ok(message);
            }
        }
    }

    /// Returns when the server has handled everything sent so far.
    pub fn sync(&mut self) {
        // The pong to the first ping may leave while messages read together with it are still being handled.
        for _ in 0..2 {
            self.socket
                .send(tungstenite::Message::Ping(tungstenite::Bytes::new()))
                .expect("connection is open");
            self.pongs = 0;
            while self.pongs == 0 {
                let message = self.read().expect("connection is open");
                self.early.extend(message);
            }
        }
    }

    /// Reads one frame and returns it if it is a message.
    fn read(&mut self) -> Result<Option<Message>, Ended> {
        match self.socket.read() {
            Ok(tungstenite::Message::Text(text)) => return Ok(Some(Message::Text(text.to_string()))),
            Ok(tungstenite::Message::Binary(bytes)) => return Ok(Some(Message::Binary(bytes.to_vec()))),
            Ok(tungstenite::Message::Close(Some(frame))) => {
                self.ended = Ended { code: Some(frame.code.into()), reason: frame.reason.to_string() };
            }
            Ok(tungstenite::Message::Pong(_)) => self.pongs += 1,
            Ok(_) => {}
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("timed out waiting for a message")
            }
            Err(_) => return Err(self.ended.clone()),
        }
        Ok(None)
    }

    /// Sends a close frame and disconnects without waiting for the answer.
    pub fn close(mut self) {
        // The server may have disconnected first.
        let _ = self.socket.close(None);
        let _ = self.socket.flush();
    }
}

impl fmt::Debug for Ws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ws").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
