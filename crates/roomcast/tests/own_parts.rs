//! Tests the transport and the router of the example `own_parts` by the suites and under the server

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use roomcast::{Io, Server, Value, json};
use roomcast_core::{CloseReason, Exchange, Message, Transport};
use roomcast_testkit::ExchangeBuilder;
use roomcast_testkit::transport::{Oversized, Requests, TransportClient, TransportHarness};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::net::TcpStream;

#[allow(dead_code, reason = "of the example only its server is used, and not its command line")]
#[path = "../examples/own_parts/main.rs"]
mod example;

mod lines {
    roomcast_testkit::transport_conformance!(super::LineHarness);
}

mod retained {
    roomcast_testkit::router_conformance!(|| super::example::Retained::new("state"));
}

#[derive(Debug, Clone)]
struct LineHarness;

impl TransportHarness for LineHarness {
    type Client = LineClient<DuplexStream>;

    const MAX_MESSAGE: usize = 10_000;

    fn transport(&self) -> Box<dyn Transport> {
        Box::new(example::Lines::new().max_message(Self::MAX_MESSAGE))
    }

    fn connect(&self, _: Requests) -> (Exchange, Self::Client) {
        let (server, client) = duplex(1_000);
        let builder = ExchangeBuilder::get("/socket.io/?EIO=4&transport=lines");
        let (exchange, _) = builder.header("upgrade", "lines").upgrade(server, "").build();
        (exchange, LineClient(BufReader::new(client)))
    }

    fn oversized(&self) -> Oversized {
        Oversized::Ends(CloseReason::MessageTooBig)
    }
}

struct LineClient<S>(BufReader<S>);

impl TransportClient for LineClient<DuplexStream> {
    async fn send(&mut self, message: Message) {
        let line = match message {
            Message::Text(text) => json!(&*text),
            Message::Binary(bytes) => json!({ "base64": BASE64.encode(bytes) }),
        };
        // The server may have closed.
        let _ = self.0.write_all(format!("{line}\n").as_bytes()).await;
    }

    async fn recv(&mut self) -> Option<Message> {
        let mut line = String::new();
        self.0.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        Some(match serde_json::from_str(&line).expect("JSON") {
            Value::String(text) => text.into(),
            other => {
                let encoded = other["base64"].as_str().expect("text or bytes");
                Message::Binary(BASE64.decode(encoded).expect("base64").into())
            }
        })
    }

    async fn vanish(self) {}
}

/// Socket.IO client over newline-delimited TCP
struct Terminal(BufReader<TcpStream>);

impl Terminal {
    async fn connect(address: std::net::SocketAddr) -> Self {
        let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
        let request = "GET /socket.io/?EIO=4&transport=lines HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n\
                       Upgrade: lines\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut head).await.unwrap(), 0, "closed after {head}");
        }
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let mut terminal = Self(stream);
        assert!(terminal.read().await.starts_with("0{\"sid\":"));
        terminal.send("40").await;
        assert!(terminal.read().await.starts_with("40{\"sid\":"));
        terminal
    }

    async fn send(&mut self, packet: &str) {
        self.0.write_all(format!("{}\n", json!(packet)).as_bytes()).await.unwrap();
    }

    async fn read(&mut self) -> String {
        let mut line = String::new();
        let read = tokio::time::timeout(Duration::from_secs(30), self.0.read_line(&mut line)).await;
        assert_ne!(read.expect("in time").unwrap(), 0, "the server closed");
        serde_json::from_str(&line).expect("a JSON string")
    }
}

async fn serve(io: Io) -> std::net::SocketAddr {
    let bound = Server::new(io).bind("127.0.0.1:0").unwrap();
    let address = bound.address();
    tokio::spawn(bound.serve());
    address
}

#[tokio::test]
async fn sends_room_state_to_late_joiners() {
    let address = serve(example::server()).await;
    let (mut early, mut late) = (Terminal::connect(address).await, Terminal::connect(address).await);
    early.send(r#"420["join","red"]"#).await;
    assert_eq!(early.read().await, "430[true]");
    for light in ["on", "off"] {
        early.send(&format!(r#"42["set","red",{{"light":"{light}"}}]"#)).await;
        assert_eq!(early.read().await, format!(r#"42["state",{{"light":"{light}"}}]"#));
    }
    late.send(r#"421["join","red"]"#).await;
    assert_eq!(late.read().await, r#"42["state",{"light":"off"}]"#);
    assert_eq!(late.read().await, "431[true]");
}

#[tokio::test]
async fn empty_rooms_forget_their_state() {
    let address = serve(example::server()).await;
    let mut early = Terminal::connect(address).await;
    early.send(r#"420["join","red"]"#).await;
    assert_eq!(early.read().await, "430[true]");
    early.send(r#"42["set","red",1]"#).await;
    assert_eq!(early.read().await, r#"42["state",1]"#);
    early.send("41").await;
    early.send("40").await;
    assert!(early.read().await.starts_with("40{"));
    early.send(r#"420["join","red"]"#).await;
    assert_eq!(early.read().await, "430[true]", "nothing is kept of a room that nobody was in");
}

#[tokio::test]
async fn rejects_request_without_upgrade() {
    let address = serve(example::server()).await;
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let request = "GET /socket.io/?EIO=4&transport=lines HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 ") && answer.ends_with("ask with `Upgrade: lines`"), "{answer}");
}
