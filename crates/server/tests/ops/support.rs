//! Server under test, and clients that control every byte they send.
//!
//! The clients of [`roomcast_testkit::socket`] block and write whole requests; these are asynchronous, write parts of
//! requests and frames, and see when a connection is quiet.

use std::net::SocketAddr;
use std::time::Duration;

use roomcast_server::{Config, Io, Server};
pub(crate) use roomcast_testkit::wire::{Answer, UPGRADE, client_frame};
use roomcast_testkit::wire::{CLOSE, Reader, TEXT, close_reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// Longer than any step here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Server on its own port until dropped.
pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) io: Io,
    task: JoinHandle<()>,
}

impl Rig {
    pub(crate) fn start(io: &Io, server: Server) -> Self {
        let bound = server.bind("127.0.0.1:0").expect("a free port");
        let address = bound.address();
        let task = tokio::spawn(async move {
            let _ = bound.serve().await;
        });
        Self { address, io: io.clone(), task }
    }

    pub(crate) fn with_config(config: Config) -> Self {
        let io = Io::builder().config(config).build();
        Self::start(&io, Server::new(io.clone()))
    }

    /// Returns access to a server that the test runs itself.
    pub(crate) fn of_running(address: SocketAddr, io: &Io) -> Self {
        Self { address, io: io.clone(), task: tokio::spawn(async {}) }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Repeats the request until the answer has this status.
    pub(crate) async fn until_status(&self, target: &str, status: u16) {
        let asked = tokio::time::timeout(PATIENCE, async {
            while self.get(target, "").await.status != status {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        asked.await.expect("the status in time");
    }

    /// Connects, sends a request, and returns the answer.
    pub(crate) async fn get(&self, target: &str, headers: &str) -> Answer {
        let mut client = self.connect().await;
        client.send(&get(target, headers)).await;
        client.answer().await
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
pub(crate) const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// Returns a request; each header ends with its line break.
pub(crate) fn get(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: chat.example\r\n{headers}\r\n")
}

pub(crate) struct Client {
    reader: Reader<TcpStream>,
}

impl Client {
    pub(crate) async fn connect(to: SocketAddr) -> Self {
        Self::connect_from("127.0.0.1", to).await
    }

    /// Connects from another local address.
    pub(crate) async fn connect_from(from: &str, to: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(format!("{from}:0").parse().expect("an address")).expect("an address of this machine");
        let stream = socket.connect(to).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        Self { reader: Reader::new(stream) }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes()).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.reader.stream.write_all(bytes).await.expect("sent");
    }

    /// Closes the sending half; reading still works.
    pub(crate) async fn finish(&mut self) {
        self.reader.stream.shutdown().await.expect("an open connection");
    }

    /// Sends bytes that may find the connection closed.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.reader.stream.write_all(bytes).await.is_ok()
    }

    async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.reader.fill()).await;
        read.expect("data in time").is_ok()
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        self.answer_or_end().await.expect("an answer before the end of the connection")
    }

    /// Returns the next answer, or `None` if the connection ends before one begins.
    pub(crate) async fn answer_or_end(&mut self) -> Option<Answer> {
        let answer = tokio::time::timeout(PATIENCE, self.reader.answer()).await;
        let answer = answer.expect("an answer in time").ok();
        let rest = &self.reader.buffer;
        assert!(answer.is_some() || rest.is_empty(), "closed with {:?}", String::from_utf8_lossy(rest));
        answer
    }

    /// Reads at most `most` bytes and returns their number.
    pub(crate) async fn take(&mut self, most: usize) -> usize {
        let mut buffer = vec![0; most];
        let read = tokio::time::timeout(PATIENCE, self.reader.stream.read(&mut buffer)).await;
        let read = read.expect("data in time").expect("an open connection");
        assert!(read > 0, "connection closed");
        read
    }

    /// Waits for the end of the connection and returns the remaining bytes.
    pub(crate) async fn end(&mut self) -> String {
        while self.fill().await {}
        String::from_utf8_lossy(&self.reader.buffer.split()).into_owned()
    }

    /// Returns whether the connection stays open and silent for this time.
    pub(crate) async fn is_quiet_for(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.reader.fill()).await.is_err()
    }

    /// Opens a WebSocket.
    pub(crate) async fn upgrade(mut self, target: &str) -> WebSocket {
        self.send(&get(target, UPGRADE)).await;
        assert_eq!(self.answer().await.status, 101);
        WebSocket(self)
    }
}

pub(crate) struct WebSocket(pub(crate) Client);

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(String),
    Close(u16, String),
}

impl WebSocket {
    /// Opens a plain WebSocket.
    pub(crate) async fn plain(to: SocketAddr) -> Self {
        Client::connect(to).await.upgrade("/ws").await
    }

    /// Opens a Socket.IO session and joins the main namespace.
    pub(crate) async fn socket_io(to: SocketAddr) -> Self {
        let mut socket = Client::connect(to).await.upgrade(WEBSOCKET).await;
        assert!(matches!(socket.next().await, Frame::Text(open) if open.starts_with("0{")));
        socket.text("40").await;
        assert!(matches!(socket.next().await, Frame::Text(connected) if connected.starts_with("40{")));
        socket
    }

    pub(crate) async fn text(&mut self, text: &str) {
        self.0.send_bytes(&client_frame(TEXT, text.as_bytes())).await;
    }

    pub(crate) async fn next(&mut self) -> Frame {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.0.reader.frame()).await;
            let (opcode, payload) = frame.expect("a frame in time").expect("a close frame before the end");
            match opcode {
                TEXT => return Frame::Text(String::from_utf8(payload.into()).expect("text")),
                CLOSE => {
                    let (code, reason) = close_reason(&payload);
                    return Frame::Close(code.unwrap_or(1005), reason);
                }
                _ => {}
            }
        }
    }
}

/// Waits until the condition holds.
pub(crate) async fn until(what: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("the condition holds in time");
}
