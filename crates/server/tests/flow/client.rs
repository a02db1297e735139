//! Raw clients on their own sockets: plain WebSocket, and Socket.IO over WebSocket and polling, with or without TLS.
//!
//! The clients of [`roomcast_testkit::socket`] block and are one object; these are asynchronous and have two halves, so
//! that a case decides when a client reads while it writes, and takes bytes off the stream one by one.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use roomcast_server::{Socket, Value};
use roomcast_testkit::wire::{Answer, CLOSE, Reader, TEXT, close_reason, push_frame, upgrade};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use crate::support::GUARD;

/// Protocol and transport of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Plain WebSocket.
    Plain,
    /// Socket.IO over WebSocket.
    SocketIo,
    /// Socket.IO over long-polling.
    Polling,
}

/// Opens connections to a server.
#[derive(Clone)]
pub(crate) struct Dial {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Dial {
    /// Connects; a small receive buffer limits what the kernel takes from the server.
    async fn open(&self, receive_buffer: Option<u32>) -> (Incoming, WriteHalf<Box<dyn Stream>>) {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).expect("an open socket");
        }
        let tcp = socket.connect(self.address).await.expect("the server listens");
        tcp.set_nodelay(true).expect("an open socket");
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = "localhost".try_into().expect("a valid name");
                let connector = TlsConnector::from(config.clone());
                Box::new(connector.connect(name, tcp).await.expect("a TLS handshake"))
            }
        };
        let (read, write) = split(stream);
        (Reader::new(read), write)
    }
}

type Incoming = Reader<ReadHalf<Box<dyn Stream>>>;

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    /// Code of the close frame, or status of a poll answer.
    pub(crate) code: Option<u16>,
    pub(crate) text: String,
}

impl End {
    fn new(code: Option<u16>, text: &str) -> Self {
        Self { code, text: text.to_owned() }
    }

    /// Returns the end of a connection that closed without a message.
    fn silent() -> Self {
        Self::new(None, "connection ended")
    }
}

/// Text of the [`End`] of a session whose client received the Engine.IO close packet.
pub(crate) const CLOSE_PACKET: &str = "close packet";

/// Receiving half of a client.
pub(crate) struct Input {
    incoming: Incoming,
    wire: Wire,
    /// For polling: the half that sends GETs, its target, and the packets of the last answer.
    polls: Option<(WriteHalf<Box<dyn Stream>>, String)>,
    packets: VecDeque<Bytes>,
}

impl Input {
    /// Returns the next message: the JSON array of an event, or any other packet unchanged.
    ///
    /// Plain clients receive the event `message` without its name. Pings are skipped, since no session here lives long
    /// enough to need an answer.
    pub(crate) async fn next(&mut self) -> Result<Bytes, End> {
        loop {
            let packet = self.packet().await?;
            if self.wire == Wire::Plain {
                return Ok(packet);
            }
            match &packet[..] {
                b"1" => return Err(End::new(None, CLOSE_PACKET)),
                b"2" | b"6" => {}
                [b'4', b'2', ..] => return Ok(packet.slice(2..)),
                _ => return Ok(packet),
            }
        }
    }

    pub(crate) fn wire(&self) -> Wire {
        self.wire
    }

    async fn packet(&mut self) -> Result<Bytes, End> {
        if self.polls.is_none() {
            return self.message().await;
        }
        loop {
            if let Some(packet) = self.packets.pop_front() {
                return Ok(packet);
            }
            self.poll().await?;
        }
    }

    async fn message(&mut self) -> Result<Bytes, End> {
        match self.incoming.frame().await {
            Ok((TEXT, payload)) => Ok(payload),
            Ok((CLOSE, payload)) => {
                let (code, reason) = close_reason(&payload);
                Err(End::new(code, &reason))
            }
            Ok((opcode, _)) => panic!("a frame of kind {opcode}"),
            Err(_) => Err(End::silent()),
        }
    }

    /// Sends a poll without reading its answer.
    pub(crate) async fn ask(&mut self) -> Result<(), End> {
        let (write, target) = self.polls.as_mut().expect("a polling client");
        let request = format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n");
        let sent = async {
            write.write_all(request.as_bytes()).await?;
            write.flush().await
        };
        sent.await.map_err(|_: std::io::Error| End::silent())
    }

    /// Polls once and stores the packets of the answer.
    pub(crate) async fn poll(&mut self) -> Result<(), End> {
        self.ask().await?;
        let answer = self.incoming.answer().await.map_err(|_| End::silent())?;
        if answer.status != 200 {
            return Err(End::new(Some(answer.status), &answer.body));
        }
        let body = Bytes::from(answer.body);
        let mut rest = std::str::from_utf8(&body).expect("packets of text");
        while let Some((packet, more)) = rest.split_once('\x1e') {
            self.packets.push_back(body.slice_ref(packet.as_bytes()));
            rest = more;
        }
        self.packets.push_back(body.slice_ref(rest.as_bytes()));
        Ok(())
    }

    /// Reads a single byte from the connection, past everything buffered.
    pub(crate) async fn trickle(&mut self) -> bool {
        self.incoming.stream.read_u8().await.is_ok()
    }

    /// Reads to the end of the connection, past everything buffered.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // An error counts as the end.
        let _ = self.incoming.stream.read_to_end(&mut rest).await;
        rest
    }

    /// Reads to the end, passing each message to `heard`.
    pub(crate) async fn drain(&mut self, mut heard: impl FnMut(&[u8])) -> End {
        loop {
            match self.next().await {
                Ok(message) => heard(&message),
                Err(end) => return end,
            }
        }
    }
}

/// Sending half of a client.
pub(crate) struct Output {
    stream: WriteHalf<Box<dyn Stream>>,
    wire: Wire,
    /// For polling: the half that reads answers, and the target of requests.
    posts: Option<(Incoming, String)>,
}

impl Output {
    /// Emits `message` with each text in one write; texts are not JSON-escaped.
    pub(crate) async fn emit_all(&mut self, texts: impl IntoIterator<Item = String>) -> Result<(), String> {
        let wire = self.wire;
        let packets = texts.into_iter().map(|text| match wire {
            Wire::Plain => text,
            _ => format!(r#"42["message","{text}"]"#),
        });
        self.send_all(packets).await
    }

    pub(crate) async fn say(&mut self, text: &str) -> Result<(), String> {
        self.emit_all([text.to_owned()]).await
    }

    pub(crate) async fn send(&mut self, packet: &str) -> Result<(), String> {
        self.send_all([packet.to_owned()]).await
    }

    /// Sends packets in one write, or in as few requests as possible.
    pub(crate) async fn send_all(&mut self, packets: impl IntoIterator<Item = String>) -> Result<(), String> {
        let mut bytes = Vec::new();
        if self.posts.is_none() {
            packets.into_iter().for_each(|packet| push_frame(TEXT, packet.as_bytes(), &mut bytes));
            return self.write(&bytes).await;
        }
        for packet in packets {
            if !bytes.is_empty() && bytes.len() + packet.len() > POST {
                self.post(&std::mem::take(&mut bytes)).await?;
            }
            if !bytes.is_empty() {
                bytes.push(0x1e);
            }
            bytes.extend_from_slice(packet.as_bytes());
        }
        self.post(&bytes).await
    }

    async fn post(&mut self, body: &[u8]) -> Result<(), String> {
        let (_, target) = self.posts.as_ref().expect("a polling client");
        let length = body.len();
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: test\r\nContent-Type: text/plain;charset=UTF-8\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        self.write(&[head.as_bytes(), body].concat()).await?;
        let (incoming, _) = self.posts.as_mut().expect("a polling client");
        match incoming.answer().await {
            Ok(Answer { status: 200, .. }) => Ok(()),
            other => Err(format!("a POST of {length} bytes was answered with {other:?}")),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        written.await.map_err(|error| format!("the server does not read: {error}"))
    }
}

/// Both halves of a session before its server socket is known.
pub(crate) struct Link {
    pub(crate) input: Input,
    pub(crate) output: Output,
    /// Welcome message; plain clients get none.
    pub(crate) welcome: Value,
    /// Messages received before the welcome.
    pub(crate) missed: Vec<Bytes>,
}

impl Link {
    /// Connects and joins the main namespace with this auth, if any.
    pub(crate) async fn open(dial: &Dial, wire: Wire, receive_buffer: Option<u32>, auth: &str) -> Self {
        let mut link = match wire {
            Wire::Polling => Self::polling(dial, receive_buffer).await,
            _ => Self::websocket(dial, wire, receive_buffer).await,
        };
        if wire != Wire::Plain {
            link.output.send(&format!("40{auth}")).await.expect("the server reads");
            loop {
                let message = link.input.next().await.expect("the client connects");
                if let Some(welcome) = message.strip_prefix(b"40") {
                    link.welcome = serde_json::from_slice(welcome).expect("a welcome is JSON");
                    break;
                }
                link.missed.push(message);
            }
        }
        link
    }

    async fn websocket(dial: &Dial, wire: Wire, receive_buffer: Option<u32>) -> Self {
        let target = if wire == Wire::Plain { "/ws" } else { "/socket.io/?EIO=4&transport=websocket" };
        let (mut incoming, mut stream) = dial.open(receive_buffer).await;
        stream.write_all(upgrade(target).as_bytes()).await.expect("the server reads");
        stream.flush().await.expect("the server reads");
        let answer = incoming.answer().await.expect("the server answers");
        assert_eq!(answer.status, 101, "{}", answer.head);
        let mut input = Input { incoming, wire, polls: None, packets: VecDeque::new() };
        if wire == Wire::SocketIo {
            let open = input.next().await.expect("an open packet");
            assert!(open.starts_with(b"0{"), "{open:?}");
        }
        Self::new(input, Output { stream, wire, posts: None })
    }

    async fn polling(dial: &Dial, receive_buffer: Option<u32>) -> Self {
        let target = "/socket.io/?EIO=4&transport=polling";
        let (incoming, stream) = dial.open(receive_buffer).await;
        let wire = Wire::Polling;
        let polls = Some((stream, target.to_owned()));
        let mut input = Input { incoming, wire, polls, packets: VecDeque::new() };
        let open = input.next().await.expect("an open packet");
        let open: Value = serde_json::from_slice(&open[1..]).expect("an open packet is JSON");
        let target = format!("{target}&sid={}", open["sid"].as_str().expect("an id"));
        input.polls.as_mut().expect("just made").1.clone_from(&target);
        let (answers, stream) = dial.open(None).await;
        Self::new(input, Output { stream, wire, posts: Some((answers, target)) })
    }

    fn new(input: Input, output: Output) -> Self {
        Self { input, output, welcome: Value::Null, missed: Vec::new() }
    }
}

/// Client and its socket on the server.
pub(crate) struct Client {
    pub(crate) input: Input,
    pub(crate) output: Output,
    pub(crate) welcome: Value,
    pub(crate) socket: Socket,
    /// Server thread that runs its connect handler.
    pub(crate) thread: ThreadId,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("socket", self.socket.id()).finish_non_exhaustive()
    }
}

/// Splits clients into their halves, so that one can write while all read.
pub(crate) fn halves(clients: &mut [Client]) -> (Vec<&mut Input>, Vec<&mut Output>) {
    clients.iter_mut().map(|client| (&mut client.input, &mut client.output)).unzip()
}

/// Reads `count` messages on each client concurrently and compares them with `expected`.
pub(crate) async fn hear_all(
    inputs: Vec<&mut Input>,
    count: usize,
    expected: impl Fn(Wire, usize) -> Vec<u8>,
) -> Result<(), String> {
    let heard: Vec<_> = inputs.iter().map(|_| Cell::new(0)).collect();
    let (expected, counters) = (&expected, &heard);
    let readers = inputs.into_iter().enumerate().map(|(reader, input)| async move {
        for number in 0..count {
            let wanted = expected(input.wire, number);
            match input.next().await {
                Ok(message) if message == wanted => counters[reader].set(number + 1),
                Ok(message) => {
                    let (wanted, message) = (shown(&wanted), shown(&message));
                    return Err(format!("message {number} should be {wanted} but is {message}"));
                }
                Err(End { code, text }) => {
                    return Err(format!("reader {reader} was closed: {code:?} {text:?}"));
                }
            }
        }
        Ok(())
    });
    let all = tokio::time::timeout(GUARD, try_join_all(readers)).await;
    let failed = match all {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(failed)) => failed,
        Err(_) => hang(GUARD),
    };
    let heard: Vec<_> = heard.iter().map(Cell::get).collect();
    Err(format!("{failed}; of {count} messages the readers received {heard:?}"))
}

/// Returns an event `message` with one text as a client receives it.
pub(crate) fn message(wire: Wire, text: &str) -> Vec<u8> {
    match wire {
        Wire::Plain => text.into(),
        _ => format!(r#"["message","{text}"]"#).into(),
    }
}

/// Message of a failed timeout guard.
pub(crate) fn hang(after: Duration) -> String {
    format!("hang: not done after {after:?}")
}

/// Returns the beginning of a message for display.
fn shown(message: &[u8]) -> String {
    let beginning = &message[..message.len().min(60)];
    format!("`{}` ({} bytes)", String::from_utf8_lossy(beginning), message.len())
}

/// Body bytes of a POST, below the server's default limit.
const POST: usize = 900_000;
