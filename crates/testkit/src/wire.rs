//! WebSocket frames and HTTP responses on the client side, for tests that check single bytes.
//!
//! The frames come from tungstenite. Clients here mask with a zero key, which leaves the payload
//! unchanged, and the server may neither fragment nor mask nor use an extension.

use std::io::{self, Cursor};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tungstenite::protocol::frame::FrameHeader;

/// Opcode of a text frame.
pub const TEXT: u8 = 1;
/// Opcode of a binary frame.
pub const BINARY: u8 = 2;
/// Opcode of a close frame.
pub const CLOSE: u8 = 8;
/// Opcode of a ping.
pub const PING: u8 = 9;
/// Opcode of a pong.
pub const PONG: u8 = 10;

/// Headers of a WebSocket request besides `Host`, each with its line end.
pub const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Returns a WebSocket upgrade request.
pub fn upgrade(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test\r\n{UPGRADE}\r\n")
}

/// Returns a client frame.
pub fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    push_frame(opcode, payload, &mut frame);
    frame
}

/// Appends a client frame.
pub fn push_frame(opcode: u8, payload: &[u8], bytes: &mut Vec<u8>) {
    let header = FrameHeader { opcode: opcode.into(), mask: Some([0; 4]), ..FrameHeader::default() };
    header.format(payload.len() as u64, bytes).expect("writing to memory succeeds");
    bytes.extend_from_slice(payload);
}

/// Returns code and reason of a close frame; no code if it is empty.
pub fn close_reason(payload: &[u8]) -> (Option<u16>, String) {
    match payload.split_first_chunk() {
        Some((code, reason)) => {
            (Some(u16::from_be_bytes(*code)), String::from_utf8_lossy(reason).into_owned())
        }
        None => (None, String::new()),
    }
}

/// HTTP response with its complete body.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Status line and headers, including the empty line.
    pub head: String,
    /// Body, of the length given by the head.
    pub body: String,
}

impl Answer {
    /// Returns a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// Returns the session id from an Engine.IO handshake response.
    ///
    /// # Panics
    ///
    /// Panics if there is no session id.
    pub fn sid(&self) -> String {
        let (_, rest) = self.body.split_once("\"sid\":\"").expect("body is a handshake");
        rest.split('"').next().expect("handshake has a session id").to_owned()
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Read half of a client connection, with buffered bytes.
#[derive(Debug)]
pub struct Reader<R> {
    /// Stream behind the buffer.
    pub stream: R,
    /// Buffered bytes.
    pub buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Creates a reader with an empty buffer.
    pub fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Reads once, at least a byte.
    ///
    /// # Errors
    ///
    /// Returns `UnexpectedEof` at the end of the stream, or the stream's error.
    pub async fn fill(&mut self) -> io::Result<()> {
        self.buffer.reserve(READ);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Reads a frame: its opcode and payload.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`fill`](Self::fill).
    ///
    /// # Panics
    ///
    /// Panics if the frame is a fragment, masked, or uses an extension.
    pub async fn frame(&mut self) -> io::Result<(u8, Bytes)> {
        let (header, length) = loop {
            let mut read = Cursor::new(&self.buffer[..]);
            let parsed = FrameHeader::parse(&mut read).expect("valid frame header");
            if let Some(parsed) = parsed {
                let at = usize::try_from(read.position()).expect("header length fits");
                self.buffer.advance(at);
                break parsed;
            }
            self.fill().await?;
        };
        let extended = header.rsv1 || header.rsv2 || header.rsv3;
        assert!(header.is_final && !extended && header.mask.is_none(), "invalid server frame: {header:?}");
        Ok((header.opcode.into(), self.take(usize::try_from(length).expect("length fits")).await?))
    }

    /// Reads an HTTP response.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`fill`](Self::fill); a partial response remains in the buffer.
    ///
    /// # Panics
    ///
    /// Panics if the response is malformed or not text.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill().await?;
        };
        let head = std::str::from_utf8(&self.buffer[..end]).expect("head is UTF-8");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("status code");
        let length =
            header(head, "content-length").map_or(0, |length| length.parse().expect("numeric length"));
        let mut head = String::from_utf8(self.take(end + length).await?.into()).expect("body is UTF-8");
        let body = head.split_off(end);
        Ok(Answer { status, head, body })
    }

    async fn take(&mut self, length: usize) -> io::Result<Bytes> {
        while self.buffer.len() < length {
            self.buffer.reserve(length - self.buffer.len());
            self.fill().await?;
        }
        Ok(self.buffer.split_to(length).freeze())
    }
}

/// Maximum bytes per read.
const READ: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_shortest_frame_header() {
        for (length, header) in [
            (0, &[0x81, 0x80, 0, 0, 0, 0][..]),
            (125, &[0x81, 0xfd, 0, 0, 0, 0]),
            (126, &[0x81, 0xfe, 0, 126, 0, 0, 0, 0]),
            (65_536, &[0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
        ] {
            let payload = vec![b'x'; length];
            assert_eq!(client_frame(TEXT, &payload), [header, &payload].concat());
        }
    }

    #[tokio::test]
    async fn reads_answers_and_frames_piecewise() {
        let sent = b"HTTP/1.1 200 OK\r\ncontent-Length: 2\r\n\r\nok\x81\x02hi\x88\x04\x03\xe9no";
        for pieces in 1..sent.len() {
            let mut stream = tokio_test_stream(sent, pieces);
            let mut reader = Reader::new(&mut stream);
            let answer = reader.answer().await.expect("complete");
            assert_eq!((answer.status, &*answer.body), (200, "ok"));
            assert_eq!(reader.frame().await.expect("complete"), (TEXT, Bytes::from_static(b"hi")));
            let (opcode, payload) = reader.frame().await.expect("complete");
            assert_eq!((opcode, close_reason(&payload)), (CLOSE, (Some(1001), "no".to_owned())));
            assert_eq!(reader.frame().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    /// Stream whose reads return at most the given number of bytes.
    fn tokio_test_stream(sent: &'static [u8], pieces: usize) -> tokio::io::DuplexStream {
        let (mut server, client) = tokio::io::duplex(pieces);
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut server, sent).await });
        client
    }
}
