use std::sync::Arc;

use tungstenite::handshake::derive_accept_key;

use super::Kind;
use super::inflate::Inflater;
use super::msgpack;
use super::settings::Server;
use super::violation::{FaultMessage, no_http, refused, unexpected};
use super::wire_protocol::WireProtocol;
use crate::websocket::{
    FrameHeader, MAX_HEAD, Opcode, append_frame, append_header, apply_mask, head_len, header,
};

/// Sans-IO WebSocket client.
pub(super) struct Session {
    kind: Kind,
    wire_protocol: Arc<WireProtocol>,
    phase: Phase,
    /// Number of messages that the server sent on its own.
    others: u64,
    /// Number of answered heartbeats.
    heartbeats: u64,
    /// Whether compression is required; otherwise it is a violation.
    deflate: bool,
    inflater: Option<Box<Inflater>>,
    /// Incomplete frame.
    partial: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for the response to the upgrade request.
    Upgrading,
    /// Waits for the Engine.IO handshake.
    Opening,
    /// Waits for the namespace.
    Connecting,
    Ready,
}

impl Session {
    pub(super) fn new(kind: Kind, wire_protocol: Arc<WireProtocol>, deflate: bool) -> Self {
        let (phase, partial) = (Phase::Upgrading, Vec::new());
        Self { kind, wire_protocol, phase, others: 0, heartbeats: 0, deflate, inflater: None, partial }
    }

    /// Returns the number of messages that the server sent on its own.
    pub(super) fn others(&self) -> u64 {
        self.others
    }

    /// Returns the number of answered heartbeats.
    pub(super) fn heartbeats(&self) -> u64 {
        self.heartbeats
    }

    pub(super) fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// Handles received bytes; appends required answers and passes on each payload.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        answer: &mut Vec<u8>,
        deliver: &mut impl FnMut(&[u8]),
    ) -> Result<(), FaultMessage> {
        if self.partial.is_empty() {
            let taken = self.take(bytes, answer, deliver)?;
            self.partial.extend_from_slice(&bytes[taken..]);
        } else {
            let mut input = std::mem::take(&mut self.partial);
            input.extend_from_slice(bytes);
            let taken = self.take(&input, answer, deliver)?;
            input.drain(..taken);
            self.partial = input;
        }
        Ok(())
    }

    fn take(
        &mut self,
        input: &[u8],
        answer: &mut Vec<u8>,
        deliver: &mut impl FnMut(&[u8]),
    ) -> Result<usize, FaultMessage> {
        let mut taken = 0;
        if self.phase == Phase::Upgrading {
            if !b"HTTP/1.".starts_with(&input[..input.len().min(7)]) {
                return Err(no_http(input));
            }
            let Some(length) = head_len(input) else {
                return if input.len() > MAX_HEAD { Err("an oversized response head".into()) } else { Ok(0) };
            };
            self.inflater = check_upgrade(&input[..length], self.deflate)?.map(Box::new);
            self.phase = if self.kind == Kind::Plain { Phase::Ready } else { Phase::Opening };
            taken = length;
        }
        while let Some(frame) = FrameHeader::parse(&input[taken..]).map_err(|error| error.to_string())? {
            let Some(payload) = input.get(taken + frame.header_len..taken + frame.frame_len()) else { break };
            if frame.mask.is_some() {
                return Err("a masked frame".into());
            }
            match frame.opcode {
                Opcode::Text if frame.compressed => {
                    let mut inflater =
                        self.inflater.take().ok_or("a compressed frame without negotiation")?;
                    self.text(inflater.inflate(payload)?, answer, deliver)?;
                    self.inflater = Some(inflater);
                }
                Opcode::Text => self.text(payload, answer, deliver)?,
                Opcode::Ping => {
                    append_frame(answer, Opcode::Pong, Some(MASK), payload);
                    self.heartbeats += 1;
                }
                Opcode::Pong => {}
                Opcode::Binary if self.kind == Kind::Msgpack && !frame.compressed => {
                    self.packet(payload, deliver)?;
                }
                Opcode::Binary if self.wire_protocol.is_lenient() => self.others += 1,
                Opcode::Binary => return Err("a binary frame".into()),
                Opcode::Close => {
                    return Err(format!("a close frame: {:?}", String::from_utf8_lossy(payload)));
                }
            }
            taken += frame.frame_len();
        }
        Ok(taken)
    }

    /// Handles a Socket.IO packet in MessagePack.
    fn packet(&mut self, packet: &[u8], deliver: &mut impl FnMut(&[u8])) -> Result<(), FaultMessage> {
        match self.phase {
            Phase::Ready if self.wire_protocol.take(packet, &mut self.others, deliver) => Ok(()),
            Phase::Connecting if msgpack::is_connected(packet) => {
                self.phase = Phase::Ready;
                Ok(())
            }
            Phase::Connecting if msgpack::is_rejected(packet) => Err(refused(packet)),
            _ => Err(unexpected(packet)),
        }
    }

    fn text(
        &mut self,
        text: &[u8],
        answer: &mut Vec<u8>,
        deliver: &mut impl FnMut(&[u8]),
    ) -> Result<(), FaultMessage> {
        let is_message = self.kind != Kind::Msgpack && self.phase == Phase::Ready;
        if is_message && self.wire_protocol.take(text, &mut self.others, deliver) {
            return Ok(());
        }
        match (self.phase, text) {
            (_, b"2") => {
                append_frame(answer, Opcode::Text, Some(MASK), b"3");
                self.heartbeats += 1;
            }
            (Phase::Opening, [b'0', ..]) => {
                append_frame(answer, self.kind.opcode(), Some(MASK), self.wire_protocol.connect());
                self.phase = Phase::Connecting;
            }
            (Phase::Connecting | Phase::Ready, _) if self.kind == Kind::Msgpack => {
                return Err(unexpected(text));
            }
            (Phase::Connecting, _) if self.wire_protocol.is_connected(text) => self.phase = Phase::Ready,
            (Phase::Connecting, [b'4', b'4', ..]) => return Err(refused(text)),
            _ => return Err(unexpected(text)),
        }
        Ok(())
    }
}

impl Kind {
    /// Returns the type of the frames of messages.
    pub(super) fn opcode(self) -> Opcode {
        if self == Self::Msgpack { Opcode::Binary } else { Opcode::Text }
    }
}

/// Appends a masked frame with the payload that `write` appends.
pub(super) fn append_message(
    out: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
    opcode: Opcode,
    write: impl FnOnce(&mut Vec<u8>),
) {
    scratch.clear();
    write(scratch);
    append_header(out, opcode, Some(MASK), scratch.len());
    let start = out.len();
    out.extend_from_slice(scratch);
    apply_mask(&mut out[start..], MASK);
}

/// Returns the upgrade request.
pub(super) fn upgrade_request(server: &Server) -> Vec<u8> {
    let Server { host, path, headers, .. } = server;
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{headers}\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
    .into_bytes()
}

/// Appends a close frame with code 1000.
pub(super) fn append_close(out: &mut Vec<u8>) {
    append_frame(out, Opcode::Close, Some(MASK), &1000_u16.to_be_bytes());
}

/// Checks the upgrade response and returns the decompressor, if compression was negotiated.
fn check_upgrade(head: &[u8], deflate: bool) -> Result<Option<Inflater>, FaultMessage> {
    let status = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    if !status.starts_with(b"HTTP/1.1 101") {
        return Err(format!("the upgrade response {:?}", String::from_utf8_lossy(status)));
    }
    if header(head, "Sec-WebSocket-Accept") != Some(derive_accept_key(KEY.as_bytes()).as_bytes()) {
        return Err("a wrong Sec-WebSocket-Accept".into());
    }
    match (header(head, "Sec-WebSocket-Extensions"), deflate) {
        (Some(chosen), true) => Inflater::new(chosen).map(Some),
        (None, true) => Err("an upgrade response without compression".into()),
        (Some(_), false) => Err("an extension; disable compression on the server to compare".into()),
        (None, false) => Ok(None),
    }
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// Constant mask; browsers use a new one per frame, but the cost for the server is the same.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0xe9];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;
    use crate::scenario::stamp::Action;

    const UPGRADED: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    fn session(kind: Kind) -> Session {
        Session::new(kind, Arc::new(WireProtocol::strict(kind, Scenario::Paced, 64)), false)
    }

    fn server_frames(texts: &[&str]) -> Vec<u8> {
        let mut frames = UPGRADED.to_vec();
        for text in texts {
            append_frame(&mut frames, Opcode::Text, None, text.as_bytes());
        }
        frames
    }

    fn unmasked(mut frames: &[u8]) -> Vec<(Opcode, String)> {
        let mut texts = Vec::new();
        while let Some(frame) = FrameHeader::parse(frames).unwrap() {
            let mut payload = frames[frame.header_len..frame.frame_len()].to_vec();
            apply_mask(&mut payload, frame.mask.unwrap());
            texts.push((frame.opcode, String::from_utf8(payload).unwrap()));
            frames = &frames[frame.frame_len()..];
        }
        texts
    }

    /// Returns the payloads and answers of a session fed in pieces of `step` bytes.
    fn run(kind: Kind, input: &[u8], step: usize) -> (Vec<String>, Vec<(Opcode, String)>, bool) {
        let (mut session, mut answer, mut delivered) = (session(kind), Vec::new(), Vec::new());
        for piece in input.chunks(step) {
            let mut deliver = |payload: &[u8]| delivered.push(String::from_utf8(payload.to_vec()).unwrap());
            session.receive(piece, &mut answer, &mut deliver).unwrap();
        }
        assert!(session.partial.is_empty());
        (delivered, unmasked(&answer), session.is_ready())
    }

    #[test]
    fn speaks_socket_io_in_any_pieces() {
        let long = "x".repeat(300);
        let event = format!(r#"42["msg","{long}"]"#);
        let mut input =
            server_frames(&[r#"0{"sid":"x"}"#, r#"40{"sid":"y"}"#, r#"42["echo","a"]"#, "2", &event]);
        append_frame(&mut input, Opcode::Ping, None, b"hi");
        let answers =
            [(Opcode::Text, "40".into()), (Opcode::Text, "3".into()), (Opcode::Pong, "hi".into())].to_vec();
        for step in 1..=input.len() {
            let expected = (vec!["a".to_owned(), long.clone()], answers.clone(), true);
            assert_eq!(run(Kind::Sio, &input, step), expected, "in steps of {step}");
        }
    }

    #[test]
    fn speaks_msgpack_in_any_pieces() {
        let packet = |action, text: &[u8]| {
            let mut packet = Vec::new();
            msgpack::write(action, &mut packet, text.len(), |out| out.extend_from_slice(text));
            packet
        };
        let connected = b"\x83\xa4type\x00\xa4data\x81\xa3sid\xa1x\xa3nsp\xa1/";
        let mut input = server_frames(&[r#"0{"sid":"x"}"#]);
        append_frame(&mut input, Opcode::Binary, None, connected);
        append_frame(&mut input, Opcode::Binary, None, &packet(Action::Broadcast, b"one"));
        append_frame(&mut input, Opcode::Text, None, b"2");
        append_frame(&mut input, Opcode::Binary, None, &packet(Action::Echo, b"two"));
        for step in 1..=input.len() {
            let (mut session, mut answer, mut delivered) = (session(Kind::Msgpack), Vec::new(), Vec::new());
            for piece in input.chunks(step) {
                let mut deliver = |payload: &[u8]| delivered.push(payload.to_vec());
                session.receive(piece, &mut answer, &mut deliver).unwrap();
            }
            assert_eq!(delivered, [b"one", b"two"]);
            let mut expected = Vec::new();
            append_frame(&mut expected, Opcode::Binary, Some(MASK), msgpack::CONNECT);
            append_frame(&mut expected, Opcode::Text, Some(MASK), b"3");
            assert_eq!(answer, expected, "in steps of {step}");
        }
        let mut damaged = packet(Action::Broadcast, b"one");
        damaged.pop();
        let mut input = server_frames(&["0{}"]);
        append_frame(&mut input, Opcode::Binary, None, connected);
        append_frame(&mut input, Opcode::Binary, None, &damaged);
        let error = session(Kind::Msgpack).receive(&input, &mut Vec::new(), &mut |_| ()).unwrap_err();
        assert!(error.contains("an unexpected packet"), "{error}");
    }

    #[test]
    fn delivers_plain_text_unchanged() {
        let input = server_frames(&["2", r#"42["msg","a"]"#]);
        assert_eq!(run(Kind::Plain, &input, 7).0, ["2", r#"42["msg","a"]"#]);
    }

    #[test]
    fn names_protocol_violations() {
        let fails = |kind, input: &[u8]| {
            session(kind).receive(input, &mut Vec::new(), &mut |_| ()).expect_err("must fail")
        };
        assert!(fails(Kind::Plain, b"SSH-2.0-x").contains("SSH"));
        assert!(fails(Kind::Sio, &server_frames(&["0{}", r#"44{"message":"no"}"#])).contains("no"));
        assert!(fails(Kind::Plain, b"HTTP/1.1 404 Not Found\r\n\r\n").contains("404"));
        assert!(fails(Kind::Plain, b"HTTP/1.1 101 OK\r\nSec-WebSocket-Accept: x\r\n\r\n").contains("Accept"));
        assert!(fails(Kind::Sio, &server_frames(&["0{}", "40{}", "41"])).contains("41"));
        assert!(fails(Kind::Sio, &server_frames(&["40{}"])).contains("40"));
        let mut closed = server_frames(&[]);
        append_frame(&mut closed, Opcode::Close, None, b"\x03\xe8bye");
        assert!(fails(Kind::Plain, &closed).contains("bye"));
    }
}
