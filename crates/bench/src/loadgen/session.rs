use std::net::SocketAddrV4;

use tungstenite::handshake::derive_accept_key;

use super::Kind;
use super::stamp::event_payload;
use crate::websocket::{
    FrameHeader, MAX_HEAD, Opcode, append_frame, append_header, apply_mask, head_len, header,
};

/// One WebSocket client, without its socket: bytes in, answers and payloads out
pub(super) struct Session {
    kind: Kind,
    phase: Phase,
    /// Input that is not yet a whole frame
    partial: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for the answer to its HTTP request
    Upgrading,
    /// Waits for the Engine.IO handshake
    Opening,
    /// Waits for its namespace
    Connecting,
    Ready,
}

/// How the peer broke the protocol
pub(super) type Violation = String;

impl Session {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, phase: Phase::Upgrading, partial: Vec::new() }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// Takes what the socket brought; appends what must be answered, and hands on each payload
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        answer: &mut Vec<u8>,
        deliver: &mut impl FnMut(&[u8]),
    ) -> Result<(), Violation> {
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
    ) -> Result<usize, Violation> {
        let mut taken = 0;
        if self.phase == Phase::Upgrading {
            let Some(length) = head_len(input) else {
                return if input.len() > MAX_HEAD { Err("an endless HTTP head".into()) } else { Ok(0) };
            };
            check_upgrade(&input[..length])?;
            self.phase = if self.kind == Kind::Plain { Phase::Ready } else { Phase::Opening };
            taken = length;
        }
        while let Some(frame) = FrameHeader::parse(&input[taken..]).map_err(|error| error.to_string())? {
            let Some(payload) = input.get(taken + frame.header_len..taken + frame.frame_len()) else { break };
            if frame.mask.is_some() {
                return Err("a server's frame was masked".into());
            }
            match frame.opcode {
                Opcode::Text => self.text(payload, answer, deliver)?,
                Opcode::Ping => append_frame(answer, Opcode::Pong, Some(MASK), payload),
                Opcode::Pong => {}
                Opcode::Binary => return Err("a binary frame".into()),
                Opcode::Close => {
                    return Err(format!("a close frame: {:?}", String::from_utf8_lossy(payload)));
                }
            }
            taken += frame.frame_len();
        }
        Ok(taken)
    }

    fn text(
        &mut self,
        text: &[u8],
        answer: &mut Vec<u8>,
        deliver: &mut impl FnMut(&[u8]),
    ) -> Result<(), Violation> {
        if self.kind == Kind::Plain {
            deliver(text);
            return Ok(());
        }
        match (self.phase, text) {
            (Phase::Ready, _) if let Some(payload) = event_payload(text) => deliver(payload),
            (_, b"2") => append_frame(answer, Opcode::Text, Some(MASK), b"3"),
            (Phase::Opening, [b'0', ..]) => {
                append_frame(answer, Opcode::Text, Some(MASK), b"40");
                self.phase = Phase::Connecting;
            }
            (Phase::Connecting, [b'4', b'0', ..]) => self.phase = Phase::Ready,
            _ => return Err(unexpected(text)),
        }
        Ok(())
    }
}

/// Appends a client's text frame around what `write` appends
pub(super) fn append_text(out: &mut Vec<u8>, scratch: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    scratch.clear();
    write(scratch);
    append_header(out, Opcode::Text, Some(MASK), scratch.len());
    let start = out.len();
    out.extend_from_slice(scratch);
    apply_mask(&mut out[start..], MASK);
}

/// The opening handshake as a current Chrome sends it, for a site with cookies and a user who is not to be tracked
pub(super) fn upgrade_request(server: SocketAddrV4, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\n\
         Host: {server}\r\n\
         Connection: Upgrade\r\n\
         Pragma: no-cache\r\n\
         Cache-Control: no-cache\r\n\
         User-Agent: {USER_AGENT}\r\n\
         Upgrade: websocket\r\n\
         Origin: http://{server}\r\n\
         Sec-WebSocket-Version: 13\r\n\
         Accept-Encoding: gzip, deflate, br, zstd\r\n\
         Accept-Language: en-US,en;q=0.9,de;q=0.8\r\n\
         Cookie: {COOKIE}\r\n\
         DNT: 1\r\n\
         Sec-WebSocket-Key: {KEY}\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    )
    .into_bytes()
}

pub(super) fn unexpected(packet: &[u8]) -> Violation {
    format!("an unexpected packet: {:?}", String::from_utf8_lossy(&packet[..packet.len().min(80)]))
}

fn check_upgrade(head: &[u8]) -> Result<(), Violation> {
    let status = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    if !status.starts_with(b"HTTP/1.1 101") {
        return Err(format!("the handshake was answered with {:?}", String::from_utf8_lossy(status)));
    }
    if header(head, "Sec-WebSocket-Accept") != Some(derive_accept_key(KEY.as_bytes()).as_bytes()) {
        return Err("the handshake's Sec-WebSocket-Accept is wrong".into());
    }
    if header(head, "Sec-WebSocket-Extensions").is_some() {
        return Err("it chose an extension; switch compression off to compare".into());
    }
    Ok(())
}

pub(super) const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
                                     Chrome/141.0.0.0 Safari/537.36";
pub(super) const COOKIE: &str = "session=4f9c2a7be81d4c0f9a63d5b2e7710c38; theme=dark; \
                                 consent=necessary.statistics; visitor=1029384756.1700000000";
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// A browser draws a new one for each frame; to a server's work it makes no difference
const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0xe9];

#[cfg(test)]
mod tests {
    use super::*;

    const UPGRADED: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

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

    /// What a session delivers and answers if its input comes in pieces of `step` bytes
    fn run(kind: Kind, input: &[u8], step: usize) -> (Vec<String>, Vec<(Opcode, String)>, bool) {
        let (mut session, mut answer, mut delivered) = (Session::new(kind), Vec::new(), Vec::new());
        for piece in input.chunks(step) {
            let mut deliver = |payload: &[u8]| delivered.push(String::from_utf8(payload.to_vec()).unwrap());
            session.receive(piece, &mut answer, &mut deliver).unwrap();
        }
        assert!(session.partial.is_empty());
        (delivered, unmasked(&answer), session.is_ready())
    }

    #[test]
    fn socket_io_is_opened_answered_and_unwrapped_however_the_bytes_are_cut() {
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
    fn plain_text_is_delivered_as_it_is() {
        let input = server_frames(&["2", r#"42["msg","a"]"#]);
        assert_eq!(run(Kind::Plain, &input, 7).0, ["2", r#"42["msg","a"]"#]);
    }

    #[test]
    fn violations_are_named() {
        let fails = |kind, input: &[u8]| {
            Session::new(kind).receive(input, &mut Vec::new(), &mut |_| ()).expect_err("must fail")
        };
        assert!(fails(Kind::Plain, b"HTTP/1.1 404 Not Found\r\n\r\n").contains("404"));
        assert!(fails(Kind::Plain, b"HTTP/1.1 101 OK\r\nSec-WebSocket-Accept: x\r\n\r\n").contains("Accept"));
        assert!(fails(Kind::Sio, &server_frames(&["0{}", "40{}", "41"])).contains("41"));
        assert!(fails(Kind::Sio, &server_frames(&["40{}"])).contains("40"));
        let mut closed = server_frames(&[]);
        append_frame(&mut closed, Opcode::Close, None, b"\x03\xe8bye");
        assert!(fails(Kind::Plain, &closed).contains("bye"));
    }
}
