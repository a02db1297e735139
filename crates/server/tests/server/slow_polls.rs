//! Polling clients that read a long answer slowly, or not at all.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use roomcast_server::socket::CloseReason;
use roomcast_server::{Config, Io, Socket};
use serde_json::Value;

use crate::support::PATIENCE;
use crate::support::http::Http;
use crate::support::recorder::{Recorder, ear};
use crate::support::serve::{Running, serve};

const POLL: &str = "/socket.io/?EIO=4&transport=polling";
const STALL_TIMEOUT: Duration = Duration::from_secs(1);
/// Length of a text whose answer exceeds the kernel buffers.
const LONG: usize = 16 << 20;
/// Bytes that a slow reader reads slowly; by then much of the rest has left the server.
const SLOWLY: usize = 10 << 20;
/// Bytes that a slow reader reads at once, followed by a pause.
const PIECE: usize = 200 * 1024;
const PAUSE: Duration = Duration::from_millis(50);

const _: () = assert!(
    (SLOWLY / PIECE) as u128 * PAUSE.as_millis() > 2 * STALL_TIMEOUT.as_millis(),
    "a slow reader takes longer than the stall timeout"
);

/// Client with a long answer in progress and a backlog over its limit.
struct Slow {
    server: Running,
    reasons: Recorder<CloseReason>,
    poll: String,
    stream: TcpStream,
}

impl Slow {
    fn open() -> Self {
        let (sockets, arrived) = ear();
        let (ended, reasons) = ear();
        let config = Config::new()
            .limits(|limits| limits.outbox_limit(64 * 1024))
            .timeouts(|timeouts| timeouts.stall_timeout(STALL_TIMEOUT));
        let io = Io::builder().config(config).build();
        io.on_connect(move |socket: Socket| {
            let _ = sockets.send(socket);
            async {}
        });
        io.on_disconnect(move |reason: CloseReason| {
            let _ = ended.send(reason);
            async {}
        });
        let server = serve(&io);
        let mut http = Http::open(&server.dial);
        let open: Value = serde_json::from_str(&http.get(POLL).body[1..]).expect("JSON");
        let poll = format!("{POLL}&sid={}", open["sid"].as_str().expect("an id"));
        assert_eq!(http.post(&poll, b"40").status, 200);
        assert!(http.get(&poll).body.starts_with("40{"));

        let mut stream = TcpStream::connect(server.address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        write!(stream, "GET {poll} HTTP/1.1\r\nHost: test\r\n\r\n").expect("it takes requests");
        let socket: Socket = arrived.next();
        socket.emit("long", "a".repeat(LONG)).expect("below the limit");
        socket.emit("next", "b".repeat(200_000)).expect("below the limit");
        Self { server, reasons, poll, stream }
    }

    /// Reads the head of the long answer and returns the length of its body.
    fn head(&mut self) -> usize {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("a head");
            head.extend(byte);
        }
        let head = String::from_utf8(head).expect("text").to_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let len = head.split_once("content-length: ").and_then(|(_, rest)| rest.split_once("\r\n"));
        len.and_then(|(len, _)| len.parse().ok()).expect("a length")
    }

    /// Reads the next `len` bytes of the body.
    fn read(&mut self, len: usize) {
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body).expect("the body comes whole");
    }

    /// Polls for the session's next packets.
    fn next(&self) -> (u16, String) {
        let answer = Http::open(&self.server.dial).get(&self.poll);
        (answer.status, answer.body)
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the client reads at its own pace")]
fn keeps_slow_reader_of_long_answer() {
    let mut client = Slow::open();
    let mut left = client.head();
    while left > LONG - SLOWLY {
        client.read(PIECE);
        left -= PIECE;
        std::thread::sleep(PAUSE);
    }
    client.read(left);
    assert_eq!(client.reasons.all(), []);
    let (status, body) = client.next();
    let is_next = body == format!("42[\"next\",\"{}\"]", "b".repeat(200_000));
    assert!(status == 200 && is_next, "{status}, {} bytes: {:.20}", body.len(), body);
}

#[test]
fn reports_close_after_unread_answer() {
    let mut client = Slow::open();
    assert_eq!(client.reasons.next(), CloseReason::SlowConsumer);
    let left = client.head();
    client.read(left);
    let (status, body) = client.next();
    assert_eq!((status, body.as_str()), (200, "1"));
}
