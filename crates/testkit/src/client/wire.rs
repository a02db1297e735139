//! Client side of a WebSocket over an in-memory stream.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use http::{HeaderName, HeaderValue};
use roomcast_core::Message;
use tokio::io::{AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{Mutex, mpsc};

use super::outcome::{Disconnected, Heard, NotConnected};
use super::protocol::{Meaning, Protocol};
use crate::wire::{BINARY, CLOSE, PING, PONG, Reader, TEXT, UPGRADE, client_frame, close_reason};

type Incoming = Reader<ReadHalf<DuplexStream>>;

/// Write half; clones share it.
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

    /// Writes one frame; the reader detects a closed server.
    async fn frame(&self, opcode: u8, payload: &[u8]) {
        let _ = self.0.lock().await.write_all(&client_frame(opcode, payload)).await;
    }
}

/// Requests a WebSocket upgrade.
pub(super) async fn open(
    stream: DuplexStream,
    target: &str,
    subprotocols: &str,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<(Writer, Incoming), NotConnected> {
    let (read, mut write) = tokio::io::split(stream);
    let mut request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}").into_bytes();
    if !subprotocols.is_empty() {
        request.extend_from_slice(format!("Sec-WebSocket-Protocol: {subprotocols}\r\n").as_bytes());
    }
    for (name, value) in headers {
        request.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    request.extend_from_slice(b"\r\n");
    let mut read = Reader::new(read);
    let exchange = async {
        write.write_all(&request).await?;
        read.answer().await
    };
    let closed = |_| NotConnected::Closed(Disconnected { code: None, reason: String::new() });
    let answer = exchange.await.map_err(closed)?;
    if answer.status == 101 {
        return Ok((Writer(Arc::new(Mutex::new(write))), read));
    }
    Err(NotConnected::Http { status: answer.status, body: answer.body })
}

/// Reads until the end, answers pings, and forwards the remaining messages.
pub(super) async fn listen(
    mut read: Incoming,
    writer: Writer,
    protocol: Protocol,
    sender: mpsc::Sender<Heard>,
) {
    let mut waiting = VecDeque::new();
    let mut end = Disconnected { code: None, reason: String::new() };
    while let Ok((opcode, payload)) = read.frame().await {
        let heard = match opcode {
            TEXT | BINARY => {
                waiting.push_back(message(opcode, payload));
                match protocol.decode(&mut waiting) {
                    Meaning::Heard(heard) => heard,
                    Meaning::Answer(packet) => {
                        writer.send(vec![packet.into()]).await;
                        continue;
                    }
                    Meaning::NoMessage => continue,
                }
            }
            PING => {
                writer.frame(PONG, &payload).await;
                continue;
            }
            PONG => Heard::Pong,
            CLOSE => {
                (end.code, end.reason) = close_reason(&payload);
                writer.frame(CLOSE, &payload).await;
                break;
            }
            other => panic!("unknown frame opcode {other} from the server"),
        };
        if sender.send(heard).await.is_err() {
            return;
        }
    }
    // The receiver may have been dropped.
    let _ = sender.send(Heard::Ended(end)).await;
}

fn message(opcode: u8, payload: Bytes) -> Message {
    if opcode == BINARY {
        return payload.into();
    }
    ByteString::try_from(payload).expect("text frames are UTF-8").into()
}
