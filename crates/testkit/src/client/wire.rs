//! A WebSocket over a stream in memory, as a client has it

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use http::{HeaderName, HeaderValue};
use roomcast_core::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{Mutex, mpsc};

use super::outcome::{Disconnected, Heard, NotConnected};
use super::protocol::{Meaning, Protocol};

/// The write half; cloning gives another handle
#[derive(Clone)]
pub(super) struct Writer(Arc<Mutex<WriteHalf<DuplexStream>>>);

impl Writer {
    pub(super) async fn send(&self, messages: Vec<Message>) {
        for message in messages {
            let opcode = if message.is_text() { TEXT } else { BINARY };
            self.frame(opcode, message.as_bytes()).await;
        }
    }

    pub(super) async fn ping(&self) {
        self.frame(PING, b"").await;
    }

    pub(super) async fn close(&self) {
        self.frame(CLOSE, &1000_u16.to_be_bytes()).await;
    }

    /// Writes one frame, masked with zeros; if the server has gone that is seen by reading
    async fn frame(&self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![FIN | opcode];
        match payload.len() {
            len @ 0..=125 => frame.push(MASKED | len as u8),
            len @ 126..=0xffff => {
                frame.push(MASKED | 126);
                frame.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                frame.push(MASKED | 127);
                frame.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        let _ = self.0.lock().await.write_all(&frame).await;
    }
}

/// Asks for a WebSocket
pub(super) async fn open(
    stream: DuplexStream,
    target: &str,
    subprotocols: &str,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<(Writer, ReadHalf<DuplexStream>), NotConnected> {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut request = format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    .into_bytes();
    if !subprotocols.is_empty() {
        request.extend_from_slice(format!("Sec-WebSocket-Protocol: {subprotocols}\r\n").as_bytes());
    }
    for (name, value) in headers {
        request.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    request.extend_from_slice(b"\r\n");
    let exchange = async {
        write.write_all(&request).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(read.read_u8().await?);
        }
        io::Result::Ok(String::from_utf8_lossy(&head).into_owned())
    };
    let closed = |_| NotConnected::Closed(Disconnected { code: None, reason: String::new() });
    let head = exchange.await.map_err(closed)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    if status == 101 {
        return Ok((Writer(Arc::new(Mutex::new(write))), read));
    }
    let len = head.lines().filter_map(|line| line.split_once(':'));
    let mut len = len.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let len = len.next().and_then(|(_, len)| len.trim().parse().ok()).unwrap_or(0);
    let mut body = vec![0; len];
    read.read_exact(&mut body).await.map_err(closed)?;
    Err(NotConnected::Http { status, body: String::from_utf8_lossy(&body).into_owned() })
}

/// Reads until the end, answers what answers itself, and tells the rest
pub(super) async fn listen(
    mut read: ReadHalf<DuplexStream>,
    writer: Writer,
    protocol: Protocol,
    tell: mpsc::Sender<Heard>,
) {
    let mut waiting = VecDeque::new();
    let mut end = Disconnected { code: None, reason: String::new() };
    while let Ok((opcode, payload)) = read_frame(&mut read).await {
        let heard = match opcode {
            TEXT | BINARY => {
                waiting.push_back(message(opcode, payload));
                match protocol.understand(&mut waiting) {
                    Meaning::Heard(heard) => heard,
                    Meaning::Answer(packet) => {
                        writer.send(vec![packet.into()]).await;
                        continue;
                    }
                    Meaning::Nothing => continue,
                }
            }
            PING => {
                writer.frame(PONG, &payload).await;
                continue;
            }
            PONG => Heard::Pong,
            CLOSE => {
                if let Some((code, reason)) = payload.split_first_chunk() {
                    end.code = Some(u16::from_be_bytes(*code));
                    end.reason = String::from_utf8_lossy(reason).into_owned();
                }
                writer.frame(CLOSE, &payload).await;
                break;
            }
            other => panic!("the server sent a frame of the unknown kind {other}"),
        };
        if tell.send(heard).await.is_err() {
            return;
        }
    }
    // Nobody may be listening any more.
    let _ = tell.send(Heard::Ended(end)).await;
}

fn message(opcode: u8, payload: Bytes) -> Message {
    if opcode == BINARY {
        return payload.into();
    }
    ByteString::try_from(payload).expect("text of the server is UTF-8").into()
}

/// The server cuts no message into pieces, and masks none
async fn read_frame(read: &mut ReadHalf<DuplexStream>) -> io::Result<(u8, Bytes)> {
    let first = read.read_u8().await?;
    assert_eq!(first & 0xf0, FIN, "the server sent a part of a message, or used an extension");
    let len = match read.read_u8().await? {
        126 => u64::from(read.read_u16().await?),
        127 => read.read_u64().await?,
        len => u64::from(len),
    };
    let mut payload = Vec::new();
    let arrived = read.take(len).read_to_end(&mut payload).await?;
    if (arrived as u64) < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((first & 0x0f, payload.into()))
}

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
