use roomcast_loadgen::websocket::{MAX_HEAD, MAX_PAYLOAD, head_len, header};

use super::Send;
use super::connection::{Connections, Gone};
use super::server::Service;

/// Long-polling Socket.IO service that broadcasts.
///
/// Supports the handshake, `40` and `42`, without pings. The HTTP response of a broadcast is encoded once for all
/// pending polls.
pub(super) struct Polling {
    send: Send,
    /// Sessions, up to `MAX_SESSIONS`; they are never removed.
    sessions: Vec<Session>,
    /// Packets of this turn for all sessions, with `Send::Batch`.
    turn: Vec<u8>,
    response: Vec<u8>,
    /// Packets sent right after a client's connect.
    greeting: &'static str,
}

/// Session with a pending poll on this connection.
#[derive(Default)]
pub(super) struct State {
    parked: Option<usize>,
}

#[derive(Default)]
struct Session {
    /// Connection of the pending poll, during which the queue is empty.
    parked: Option<usize>,
    queue: Vec<u8>,
    /// Whether the client is in the namespace and receives broadcasts.
    connected: bool,
}

impl Polling {
    pub(super) fn new(send: Send) -> Self {
        Self { send, sessions: Vec::new(), turn: Vec::new(), response: Vec::new(), greeting: "" }
    }

    /// Creates a server that sends each client a heartbeat right after its connect.
    pub(super) fn pinging() -> Self {
        Self { greeting: "\x1e2", ..Self::new(Send::Write) }
    }

    fn get(
        &mut self,
        connections: &mut Connections<State>,
        index: usize,
        sid: Option<usize>,
    ) -> Result<(), Gone> {
        let Some(sid) = sid else {
            if self.sessions.len() == MAX_SESSIONS {
                return Err(Gone);
            }
            let open = format!(
                r#"0{{"sid":"{:08x}","upgrades":[],"pingInterval":300000,"pingTimeout":300000,"maxPayload":{MAX_PAYLOAD}}}"#,
                self.sessions.len()
            );
            self.sessions.push(Session::default());
            return self.answer(connections, index, open.as_bytes());
        };
        let session = self.sessions.get_mut(sid).ok_or(Gone)?;
        if session.parked.is_some() {
            return Err(Gone);
        }
        if session.queue.is_empty() {
            session.parked = Some(index);
            connections.at(index).ok_or(Gone)?.state.parked = Some(sid);
            return Ok(());
        }
        let queue = std::mem::take(&mut session.queue);
        self.answer(connections, index, &queue)
    }

    fn post(&mut self, connections: &mut Connections<State>, sid: usize, body: &[u8]) -> Result<(), Gone> {
        for packet in body.split(|&byte| byte == SEPARATOR) {
            if packet == b"40" {
                let session = self.sessions.get_mut(sid).ok_or(Gone)?;
                session.connected = true;
                let connect = format!(r#"40{{"sid":"{sid:08x}"}}{}"#, self.greeting);
                encode(&mut self.response, connect.as_bytes());
                session.deliver(connections, connect.as_bytes(), &self.response);
            } else if packet.starts_with(b"42") {
                match self.send {
                    Send::Write => self.broadcast(connections, packet),
                    Send::Batch => append_packet(&mut self.turn, packet),
                }
            }
        }
        Ok(())
    }

    fn broadcast(&mut self, connections: &mut Connections<State>, packets: &[u8]) {
        encode(&mut self.response, packets);
        for session in &mut self.sessions {
            if session.connected {
                session.deliver(connections, packets, &self.response);
            }
        }
    }

    fn answer(
        &mut self,
        connections: &mut Connections<State>,
        index: usize,
        body: &[u8],
    ) -> Result<(), Gone> {
        encode(&mut self.response, body);
        connections.at(index).ok_or(Gone)?.write(&self.response)
    }
}

impl Service for Polling {
    type State = State;

    fn receive(
        &mut self,
        connections: &mut Connections<State>,
        index: usize,
        input: &[u8],
    ) -> Result<usize, Gone> {
        let mut taken = 0;
        while let Some(head) = head_len(&input[taken..]) {
            let (head, rest) = input[taken..].split_at(head);
            let length = match header(head, "Content-Length") {
                Some(length) => {
                    str::from_utf8(length).ok().and_then(|length| length.parse().ok()).ok_or(Gone)?
                }
                None => 0,
            };
            if length > MAX_PAYLOAD {
                return Err(Gone);
            }
            let Some(body) = rest.get(..length) else { return Ok(taken) };
            let sid = sid(head);
            if head.starts_with(b"GET ") {
                self.get(connections, index, sid)?;
            } else if head.starts_with(b"POST ") {
                self.post(connections, sid.ok_or(Gone)?, body)?;
                self.answer(connections, index, b"ok")?;
            } else {
                return Err(Gone);
            }
            taken += head.len() + length;
        }
        if input.len() - taken > MAX_HEAD { Err(Gone) } else { Ok(taken) }
    }

    fn is_collecting(&self) -> bool {
        !self.turn.is_empty()
    }

    fn end_turn(&mut self, connections: &mut Connections<State>) {
        if !self.turn.is_empty() {
            let packets = std::mem::take(&mut self.turn);
            self.broadcast(connections, &packets);
            self.turn = packets;
            self.turn.clear();
        }
    }

    fn left(&mut self, _index: usize, state: State) {
        if let Some(session) = state.parked {
            self.sessions[session].parked = None;
        }
    }
}

impl Session {
    /// Answers the pending poll with `response`, which encodes `packets`, or queues the packets for the next poll.
    fn deliver(&mut self, connections: &mut Connections<State>, packets: &[u8], response: &[u8]) {
        match self.parked.take() {
            Some(index) => connections.with(index, |connection| {
                connection.state.parked = None;
                connection.write(response)
            }),
            None if self.queue.len() + packets.len() < MAX_PAYLOAD => append_packet(&mut self.queue, packets),
            // The client has stopped polling.
            None => *self = Self::default(),
        }
    }
}

fn append_packet(packets: &mut Vec<u8>, packet: &[u8]) {
    if !packets.is_empty() {
        packets.push(SEPARATOR);
    }
    packets.extend_from_slice(packet);
}

fn encode(response: &mut Vec<u8>, body: &[u8]) {
    response.clear();
    response.extend_from_slice(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=UTF-8\r\nCache-Control: no-store\r\nContent-Length: ",
    );
    response.extend_from_slice(body.len().to_string().as_bytes());
    response.extend_from_slice(b"\r\n\r\n");
    response.extend_from_slice(body);
}

/// Returns the session id in a request's query.
fn sid(head: &[u8]) -> Option<usize> {
    let target = head.split(|&byte| byte == b' ').nth(1)?;
    let query = target.splitn(2, |&byte| byte == b'?').nth(1)?;
    let value = query.split(|&byte| byte == b'&').find_map(|pair| pair.strip_prefix(b"sid="))?;
    usize::from_str_radix(str::from_utf8(value).ok()?, 16).ok()
}

const SEPARATOR: u8 = 0x1e;
const MAX_SESSIONS: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_session_in_query() {
        assert_eq!(sid(b"GET /socket.io/?EIO=4&sid=0000001f&t=x HTTP/1.1\r\n"), Some(31));
        assert_eq!(sid(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\n"), None);
        assert_eq!(sid(b"GET /socket.io/ HTTP/1.1\r\n"), None);
    }
}
