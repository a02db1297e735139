//! Transport conformance of WebSocket on each kind of stream.

use std::any::TypeId;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

use bytes::{Bytes, BytesMut};
use roomcast_core::{ByteStream, CloseReason, Exchange, Message, Transport};
use roomcast_testkit::ExchangeBuilder;
use roomcast_testkit::transport::{Oversized, Requests, TransportClient, TransportHarness};
use roomcast_transport_ws::WebSocket;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter, DuplexStream, duplex};
use tokio::net::TcpStream;
use tungstenite::Message as Theirs;
use tungstenite::protocol::Role;

mod any_stream {
    roomcast_testkit::transport_conformance!(super::Harness(super::in_memory));
}

mod a_stream_that_holds_bytes_until_it_is_flushed {
    roomcast_testkit::transport_conformance!(super::Harness(super::held));
}

mod tcp {
    roomcast_testkit::transport_conformance!(super::Harness(super::over_loopback));
}

/// Constructor of both ends of a stream: server and client.
type Connect<S, C> = fn() -> (S, C);

struct Harness<S, C>(Connect<S, C>);

impl<S, C> Clone for Harness<S, C> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

fn in_memory() -> (DuplexStream, DuplexStream) {
    duplex(PIPE)
}

/// Connects through a buffering stream, like TLS.
fn held() -> (BufWriter<DuplexStream>, DuplexStream) {
    let (server, client) = duplex(PIPE);
    (BufWriter::with_capacity(3 * PIPE, server), client)
}

fn over_loopback() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("a bound listener");
    let client = std::net::TcpStream::connect(address).expect("a listening server");
    let (server, _) = listener.accept().expect("a connected client");
    // With the default buffer size writes would rarely block. The client's buffer keeps its default: with a window
    // below the segment size the sender waits for its timer.
    SockRef::from(&server).set_send_buffer_size(PIPE).expect("a size");
    let to_tokio = |stream: std::net::TcpStream| {
        stream.set_nonblocking(true).expect("a mode");
        TcpStream::from_std(stream).expect("a running runtime")
    };
    (to_tokio(server), to_tokio(client))
}

/// Bytes that a stream accepts before its peer must read: fewer than most frames have.
const PIPE: usize = 1_000;

impl<S, C> TransportHarness for Harness<S, C>
where
    S: ByteStream,
    C: ByteStream + Debug,
{
    type Client = WsClient<C>;

    // Above the limit for copying into one write.
    const MAX_MESSAGE: usize = 40_000;

    fn transport(&self) -> Box<dyn Transport> {
        Box::new(WebSocket::new().max_message(Self::MAX_MESSAGE))
    }

    fn connect(&self, _: Requests) -> (Exchange, Self::Client) {
        let (server, stream) = (self.0)();
        let (exchange, _) = ExchangeBuilder::websocket("/").upgrade(server, Bytes::new()).build();
        let socket = tungstenite::WebSocket::from_raw_socket(Pipe::default(), Role::Client, None);
        (exchange, WsClient { stream, socket, over: false })
    }

    fn oversized(&self) -> Oversized {
        Oversized::Ends(CloseReason::MessageTooBig)
    }

    fn virtual_time(&self) -> bool {
        TypeId::of::<S>() != TypeId::of::<TcpStream>()
    }
}

/// A tungstenite client, independent of the stream.
#[derive(Debug)]
struct WsClient<S> {
    stream: S,
    socket: tungstenite::WebSocket<Pipe>,
    over: bool,
}

/// Received and outgoing bytes, as tungstenite's I/O.
#[derive(Debug, Default)]
struct Pipe {
    arrived: VecDeque<u8>,
    leaving: BytesMut,
}

impl<S: ByteStream + Debug> TransportClient for WsClient<S> {
    async fn send(&mut self, message: Message) {
        let message = match message {
            Message::Text(text) => Theirs::text(&*text),
            Message::Binary(bytes) => Theirs::binary(bytes),
        };
        self.socket.send(message).expect("writes to memory succeed");
        self.send_out().await;
    }

    async fn recv(&mut self) -> Option<Message> {
        while !self.over {
            let message = match self.socket.read() {
                Ok(message) => message,
                Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.over = !self.read_in().await;
                    continue;
                }
                Err(error) => panic!("protocol violation of the server: {error}"),
            };
            match message {
                Theirs::Text(text) => return Some(text.as_str().to_owned().into()),
                Theirs::Binary(bytes) => return Some(bytes.into()),
                Theirs::Close(_) => self.hang_up().await,
                other => panic!("unexpected {other:?}"),
            }
        }
        None
    }

    async fn vanish(self) {}
}

impl<S: ByteStream> WsClient<S> {
    async fn send_out(&mut self) {
        let leaving = &mut self.socket.get_mut().leaving;
        while !leaving.is_empty() {
            if self.stream.write_buf(leaving).await.is_err() {
                leaving.clear();
            }
        }
    }

    /// Waits for input; returns `false` at the end.
    async fn read_in(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let read = self.stream.read(&mut bytes).await.unwrap_or(0);
        self.socket.get_mut().arrived.extend(&bytes[..read]);
        read > 0
    }

    /// Answers the server's close frame, waits for its hang-up, and hangs up.
    async fn hang_up(&mut self) {
        let _ = self.socket.flush();
        self.send_out().await;
        assert!(!self.read_in().await, "more after the close frame");
        let _ = self.stream.shutdown().await;
        self.over = true;
    }
}

impl io::Read for Pipe {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.arrived.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.arrived.read(bytes) }
    }
}

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.leaving.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
