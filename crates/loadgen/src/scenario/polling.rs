//! Sans-IO Socket.IO client over long-polling: one connection polls, a sender's second connection posts.

use std::sync::Arc;

use super::settings::Server;
use super::violation::{FaultMessage, no_http, refused, unexpected};
use super::wire_protocol::WireProtocol;
use crate::websocket::{MAX_HEAD, MAX_PAYLOAD, head_len, header};

/// Polling connection of a client; always has a GET pending.
pub(super) struct Poller {
    server: Arc<Server>,
    wire_protocol: Arc<WireProtocol>,
    /// Number of messages that the server sent on its own.
    others: u64,
    phase: Phase,
    sid: String,
    /// Whether the server has sent a ping that is not answered.
    pinged: bool,
    partial: Vec<u8>,
    /// Number of polls, up to overflow.
    polls: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for the Engine.IO handshake.
    Opening,
    /// Waits for the response to the POST that connects to the namespace.
    Posting,
    /// Waits for the namespace.
    Connecting,
    Ready,
}

impl Poller {
    pub(super) fn new(server: Arc<Server>, wire_protocol: Arc<WireProtocol>) -> Self {
        let (sid, partial) = (String::new(), Vec::new());
        Self {
            server,
            wire_protocol,
            others: 0,
            phase: Phase::Opening,
            sid,
            pinged: false,
            partial,
            polls: 0,
        }
    }

    /// Returns the number of messages that the server sent on its own.
    pub(super) fn others(&self) -> u64 {
        self.others
    }

    pub(super) fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// Returns the POST connection of this client, once it is ready.
    pub(super) fn poster(&self) -> Poster {
        Poster {
            server: Arc::clone(&self.server),
            path: self.session_path(),
            posting: false,
            queue: Vec::new(),
            partial: Vec::new(),
        }
    }

    /// Returns whether a heartbeat from the server must be answered by a POST; resets the flag.
    pub(super) fn take_ping(&mut self) -> bool {
        std::mem::take(&mut self.pinged)
    }

    pub(super) fn request(&self) -> Vec<u8> {
        get_request(&self.server, &self.server.path)
    }

    /// Handles received bytes; appends the next request and passes on each payload.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        answer: &mut Vec<u8>,
        deliver: &mut impl FnMut(&[u8]),
    ) -> Result<(), FaultMessage> {
        self.partial.extend_from_slice(bytes);
        while let Some((head, length)) = response(&self.partial)? {
            let input = std::mem::take(&mut self.partial);
            self.body(&input[head..length], answer, deliver)?;
            self.partial = input;
            self.partial.drain(..length);
        }
        Ok(())
    }

    fn body(
        &mut self,
        body: &[u8],
        answer: &mut Vec<u8>,
        deliver: &mut impl FnMut(&[u8]),
    ) -> Result<(), FaultMessage> {
        match self.phase {
            Phase::Opening => {
                let open = body.strip_prefix(b"0").ok_or_else(|| unexpected(body))?;
                let open: Open<'_> = serde_json::from_slice(open).map_err(|_| unexpected(body))?;
                self.sid = open.sid.to_owned();
                answer.extend_from_slice(&post_request(
                    &self.server,
                    &self.session_path(),
                    self.wire_protocol.connect(),
                ));
                self.phase = Phase::Posting;
                return Ok(());
            }
            Phase::Posting if body == b"ok" => self.phase = Phase::Connecting,
            Phase::Posting => return Err(unexpected(body)),
            Phase::Connecting | Phase::Ready => {
                for packet in body.split(|&byte| byte == SEPARATOR) {
                    self.packet(packet, deliver)?;
                }
            }
        }
        // Official clients use a value of `t` only once, against caches.
        self.polls = self.polls.wrapping_add(1);
        let path = format!("{}&t={:08x}", self.session_path(), self.polls);
        answer.extend_from_slice(&get_request(&self.server, &path));
        Ok(())
    }

    fn packet(&mut self, packet: &[u8], deliver: &mut impl FnMut(&[u8])) -> Result<(), FaultMessage> {
        if self.phase == Phase::Ready && self.wire_protocol.take(packet, &mut self.others, deliver) {
            return Ok(());
        }
        match (self.phase, packet) {
            (_, b"2") => self.pinged = true,
            (Phase::Connecting, _) if self.wire_protocol.is_connected(packet) => self.phase = Phase::Ready,
            (Phase::Connecting, [b'4', b'4', ..]) => return Err(refused(packet)),
            // Noop: ends a poll before an upgrade or a close.
            (_, b"6") if self.wire_protocol.is_lenient() => {}
            _ => return Err(unexpected(packet)),
        }
        Ok(())
    }

    fn session_path(&self) -> String {
        format!("{}&sid={}", self.server.path, self.sid)
    }
}

#[derive(serde::Deserialize)]
struct Open<'a> {
    sid: &'a str,
}

/// POST connection of a client; one request at a time.
pub(super) struct Poster {
    server: Arc<Server>,
    path: String,
    posting: bool,
    /// Packets for the next request.
    queue: Vec<u8>,
    partial: Vec<u8>,
}

impl Poster {
    /// Queues a packet.
    pub(super) fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.queue.is_empty() {
            self.queue.push(SEPARATOR);
        }
        write(&mut self.queue);
    }

    /// Appends a request with all queued packets, unless one is pending.
    pub(super) fn post(&mut self, out: &mut Vec<u8>) {
        if !self.posting && !self.queue.is_empty() {
            out.extend_from_slice(&post_request(&self.server, &self.path, &self.queue));
            self.queue.clear();
            self.posting = true;
        }
    }

    /// Handles received bytes and appends the next request.
    pub(super) fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), FaultMessage> {
        self.partial.extend_from_slice(bytes);
        while let Some((head, length)) = response(&self.partial)? {
            if !self.posting || &self.partial[head..length] != b"ok" {
                return Err(unexpected(&self.partial[head..length]));
            }
            self.partial.drain(..length);
            self.posting = false;
            self.post(out);
        }
        Ok(())
    }
}

/// Returns the length of the head, and of the whole HTTP response, at the start of `bytes`.
fn response(bytes: &[u8]) -> Result<Option<(usize, usize)>, FaultMessage> {
    if !b"HTTP/1.".starts_with(&bytes[..bytes.len().min(7)]) {
        return Err(no_http(bytes));
    }
    let Some(head_len) = head_len(bytes) else {
        return if bytes.len() > MAX_HEAD { Err("an oversized response head".into()) } else { Ok(None) };
    };
    let head = &bytes[..head_len];
    if !head.starts_with(b"HTTP/1.1 200") {
        return Err(format!("the response {:?}", String::from_utf8_lossy(head)));
    }
    let length: Option<usize> =
        header(head, "Content-Length").and_then(|length| str::from_utf8(length).ok()?.parse().ok());
    match length {
        None => Err("a response without Content-Length".into()),
        Some(length) if length > MAX_PAYLOAD => Err("a response that is too long".into()),
        Some(length) => Ok((bytes.len() >= head_len + length).then_some((head_len, head_len + length))),
    }
}

fn get_request(server: &Server, path: &str) -> Vec<u8> {
    let Server { host, headers, .. } = server;
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive\r\n{headers}\r\n").into_bytes()
}

fn post_request(server: &Server, path: &str, body: &[u8]) -> Vec<u8> {
    let Server { host, headers, .. } = server;
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive\r\n{headers}\
         Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

const SEPARATOR: u8 = 0x1e;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Kind, Scenario};

    fn poller() -> Poller {
        let server = Server::local(80, "/socket.io/?EIO=4&transport=polling", Kind::Poll);
        Poller::new(Arc::new(server), Arc::new(WireProtocol::strict(Kind::Poll, Scenario::Paced, 64)))
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn polls_with_input_in_any_pieces() {
        let input = [
            ok(r#"0{"sid":"abc","upgrades":[]}"#),
            ok("ok"),
            ok(r#"40{"sid":"d"}"#),
            ok("42[\"msg\",\"a\"]\x1e42[\"msg\",\"b\"]"),
        ]
        .concat();
        for step in 1..=input.len() {
            let (mut poller, mut answer, mut delivered) = (poller(), Vec::new(), Vec::new());
            for piece in input.as_bytes().chunks(step) {
                poller
                    .receive(piece, &mut answer, &mut |payload: &[u8]| delivered.push(payload.to_vec()))
                    .unwrap();
            }
            assert_eq!(delivered, [b"a", b"b"]);
            assert!(poller.is_ready());
            let answer = String::from_utf8(answer).unwrap();
            let requests: Vec<&str> = answer.split("/socket.io/?EIO=4&transport=polling&sid=abc").collect();
            assert_eq!(requests.len(), 5);
            assert_eq!(requests[0], "POST ");
            assert!(requests[1].starts_with(" HTTP/1.1\r\n") && requests[1].ends_with("\r\n\r\n40GET "));
            for (number, request) in requests[2..].iter().enumerate() {
                assert!(request.starts_with(&format!("&t={:08x} HTTP/1.1\r\n", number + 1)), "{request}");
            }
        }
    }

    #[test]
    fn reports_ping_once() {
        let mut poller = poller();
        for body in [r#"0{"sid":"abc"}"#, "ok", r#"40{"sid":"d"}"#, "2"] {
            poller.receive(ok(body).as_bytes(), &mut Vec::new(), &mut |_| ()).unwrap();
        }
        assert!(poller.take_ping() && !poller.take_ping());
    }

    #[test]
    fn posts_one_request_at_a_time() {
        let (mut poster, mut out) = (poller().poster(), Vec::new());
        poster.say(|out| out.extend_from_slice(b"one"));
        poster.post(&mut out);
        poster.say(|out| out.extend_from_slice(b"two"));
        poster.say(|out| out.extend_from_slice(b"three"));
        poster.post(&mut out);
        assert!(out.ends_with(b"\r\n\r\none"));
        out.clear();
        poster.receive(ok("ok").as_bytes(), &mut out).unwrap();
        assert!(out.ends_with(b"Content-Length: 9\r\n\r\ntwo\x1ethree"));
        assert!(poster.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n", &mut out).unwrap_err().contains("400"));
    }
}
