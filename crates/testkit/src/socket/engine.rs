//! Engine.IO client over polling, over WebSocket, and upgrading between them.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::PATIENCE;
use super::dial::Dial;
use super::http::{Answer, Http};
use super::ws::{Ended, Message, Ws};

/// Engine.IO client that answers pings automatically.
#[derive(Debug)]
pub struct Engine {
    carrier: Carrier,
    arrived: VecDeque<Message>,
    /// Handshake data from the server.
    pub opened: Value,
    /// Number of pings received.
    pub pings: usize,
}

#[derive(Debug)]
enum Carrier {
    Polling(Polling),
    WebSocket(Ws),
}

impl Engine {
    /// Opens a session on a WebSocket.
    pub fn websocket(dial: &Dial, path: &str) -> Self {
        Self::websocket_with(dial, path, "")
    }

    /// Opens a session with additional query parameters, each prefixed with `&`.
    pub fn websocket_with(dial: &Dial, path: &str, query: &str) -> Self {
        let mut ws = Ws::open(dial, &format!("{path}?EIO=4&transport=websocket{query}"), None);
        let Ok(Message::Text(open)) = ws.receive() else { panic!("expected an open packet") };
        Self::new(Carrier::WebSocket(ws), &open)
    }

    /// Opens a session by long-polling.
    pub fn polling(dial: &Dial, path: &str) -> Self {
        let (polling, open) = Polling::open(dial, path);
        Self::new(Carrier::Polling(polling), &open)
    }

    fn new(carrier: Carrier, open: &str) -> Self {
        let opened =
            serde_json::from_str(open.strip_prefix('0').expect("open packet")).expect("handshake is JSON");
        Self { carrier, arrived: VecDeque::new(), opened, pings: 0 }
    }

    /// Sends a message.
    pub fn send(&mut self, message: Message) {
        self.send_all(vec![message]);
    }

    /// Sends messages at once: in one request, or in as few writes as possible.
    pub fn send_all(&mut self, messages: Vec<Message>) {
        let packets = messages.into_iter().map(|message| match message {
            Message::Text(text) => Message::Text(format!("4{text}")),
            binary => binary,
        });
        self.send_packets(packets.collect());
    }

    /// Sends Engine.IO packets at once.
    pub fn send_packets(&mut self, packets: Vec<Message>) {
        match &mut self.carrier {
            Carrier::WebSocket(ws) => {
                packets.into_iter().for_each(|packet| ws.queue(packet));
                ws.flush();
            }
            Carrier::Polling(polling) => {
                let answer = polling.post(&packets);
                assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
            }
        }
    }

    /// Returns the next message.
    pub fn receive(&mut self) -> Result<Message, Ended> {
        let from = now();
        loop {
            // Pings continue indefinitely and are not the expected message.
            assert!(from.elapsed() < PATIENCE, "timed out; received only {} pings", self.pings);
            let packet = self.next_packet()?;
            if let Some(message) = self.handle(packet)? {
                return Ok(message);
            }
        }
    }

    fn next_packet(&mut self) -> Result<Message, Ended> {
        loop {
            match (self.arrived.pop_front(), &mut self.carrier) {
                (Some(packet), _) => return Ok(packet),
                (None, Carrier::WebSocket(ws)) => return ws.receive(),
                (None, Carrier::Polling(polling)) => self.arrived.extend(polling.get()?),
            }
        }
    }

    /// Handles a packet and returns the message that it may carry.
    fn handle(&mut self, packet: Message) -> Result<Option<Message>, Ended> {
        let text = match packet {
            Message::Text(text) => text,
            binary => return Ok(Some(binary)),
        };
        match text.split_at_checked(1) {
            Some(("4", message)) => return Ok(Some(message.into())),
            Some(("2", "")) => {
                self.pings += 1;
                self.send_packets(vec!["3".into()]);
            }
            Some(("1", "")) => return Err(Ended::default()),
            Some(("6", "")) => {}
            _ => panic!("invalid Engine.IO packet: {text}"),
        }
        Ok(None)
    }

    /// Returns when the server has handled everything sent so far.
    pub fn sync(&mut self) {
        match &mut self.carrier {
            Carrier::WebSocket(ws) => ws.sync(),
            // The server accepts a POST once it has handled the previous one. The session may be over.
            Carrier::Polling(polling) => _ = polling.post(&[Message::Text("6".into())]),
        }
    }

    /// Answers pings until this many have arrived; no message may arrive before.
    pub fn wait_for_ping(&mut self, pings: usize) {
        while self.pings < pings {
            let packet = self.next_packet().expect("session is open");
            assert!(self.handle(packet).expect("session is open").is_none(), "unexpected message");
        }
    }

    /// Sends a poll if none is pending, without waiting for the response.
    pub fn start_get(&mut self) {
        if let Carrier::Polling(polling) = &mut self.carrier {
            polling.start_get();
        }
    }

    /// Opens a WebSocket next to the polling requests and completes the probe.
    pub fn probe(&mut self) -> Ws {
        self.try_probe().expect("server accepts the probe")
    }

    /// Completes the probe; returns the response status or close code if the server refuses.
    pub fn try_probe(&mut self) -> Result<Ws, u16> {
        let Carrier::Polling(polling) = &mut self.carrier else { panic!("upgraded already") };
        polling.start_get();
        let target = polling.target("websocket");
        let mut ws = Ws::try_open(&polling.dial, &target, None)?;
        ws.send("2probe".into());
        match ws.receive() {
            Ok(answer) => assert_eq!(answer, "3probe".into()),
            Err(_) => return Err(1005),
        }
        Ok(ws)
    }

    /// Completes the upgrade once the pending poll is answered.
    pub fn move_to(&mut self, mut ws: Ws) {
        let Carrier::Polling(polling) = &mut self.carrier else { panic!("upgraded already") };
        let last = polling.get().expect("session is open");
        self.arrived.extend(last);
        ws.send("5".into());
        self.carrier = Carrier::WebSocket(ws);
    }

    /// Closes the session cleanly.
    pub fn close(mut self) {
        match self.carrier {
            Carrier::WebSocket(ws) => ws.close(),
            Carrier::Polling(_) => self.send_packets(vec!["1".into()]),
        }
    }

    /// Returns the secret session id.
    pub fn sid(&self) -> &str {
        self.opened["sid"].as_str().expect("handshake has a session id")
    }
}

#[allow(clippy::disallowed_methods, reason = "tests need a real timeout")]
fn now() -> Instant {
    Instant::now()
}

/// Polling requests of one session.
#[derive(Debug)]
struct Polling {
    dial: Dial,
    path: String,
    sid: String,
    gets: Http,
    posts: Http,
    waiting: bool,
}

impl Polling {
    fn open(dial: &Dial, path: &str) -> (Self, String) {
        let mut gets = Http::open(dial);
        let answer = gets.get(&format!("{path}?EIO=4&transport=polling"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let open: Value =
            serde_json::from_str(answer.body.get(1..).expect("open packet")).expect("handshake is JSON");
        let sid = open["sid"].as_str().expect("handshake has a session id").to_owned();
        let (dial, path, posts) = (dial.clone(), path.to_owned(), Http::open(dial));
        (Self { dial, path, sid, gets, posts, waiting: false }, answer.body)
    }

    fn target(&self, transport: &str) -> String {
        format!("{}?EIO=4&transport={transport}&sid={}", self.path, self.sid)
    }

    fn post(&mut self, packets: &[Message]) -> Answer {
        let mut body = String::new();
        for (at, packet) in packets.iter().enumerate() {
            let separator = if at > 0 { "\x1e" } else { "" };
            match packet {
                Message::Text(text) => write!(body, "{separator}{text}"),
                Message::Binary(bytes) => write!(body, "{separator}b{}", STANDARD.encode(bytes)),
            }
            .expect("writing to a string succeeds");
        }
        let target = self.target("polling");
        self.posts.post(&target, body.as_bytes())
    }

    fn start_get(&mut self) {
        if !std::mem::replace(&mut self.waiting, true) {
            let target = self.target("polling");
            self.gets.send("GET", &target, b"");
        }
    }

    /// Waits for the response to the pending request, or to a new one.
    fn get(&mut self) -> Result<Vec<Message>, Ended> {
        self.start_get();
        let answer = self.gets.answer();
        self.waiting = false;
        if answer.status != 200 {
            return Err(Ended { code: Some(answer.status), reason: answer.body });
        }
        let packet = |packet: &str| match packet.strip_prefix('b') {
            Some(encoded) => Message::Binary(STANDARD.decode(encoded).expect("valid base64")),
            None => packet.into(),
        };
        Ok(answer.body.split('\x1e').map(packet).collect())
    }
}
