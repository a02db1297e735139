//! Frame writer: one unmasked frame for each message.

use bytes::BufMut;
use roomcast_core::Message;

use super::{
    MAX_CONTROL_PAYLOAD, Opcode,
    header::{COMPRESSED, LENGTH_16, LENGTH_64},
};
use crate::close;

/// Returns the header length for a payload in bytes: 2, 4 or 10.
pub fn header_len(payload_len: usize) -> usize {
    match payload_len {
        ..LEAST_16_BIT_LENGTH => 2,
        LEAST_16_BIT_LENGTH..=MAX_16_BIT_LENGTH => 4,
        _ => 10,
    }
}

/// Returns the length of a whole frame in bytes, to reserve exactly what [`put_message`] writes.
pub fn frame_len(payload_len: usize) -> usize {
    header_len(payload_len) + payload_len
}

/// Appends the header of an unfragmented frame; the caller appends the payload.
///
/// # Panics
///
/// If `out` is a slice with less than [`header_len`] bytes of room. Vectors and `BytesMut` grow.
pub fn put_header(out: &mut impl BufMut, opcode: Opcode, payload_len: usize) {
    put_header_with(out, FIN | opcode as u8, payload_len);
}

#[inline]
fn put_header_with(out: &mut impl BufMut, first: u8, payload_len: usize) {
    // One write for each header, since each checks the room. Each match arm bounds the length that it casts.
    match payload_len {
        ..LEAST_16_BIT_LENGTH => out.put_slice(&[first, payload_len as u8]),
        LEAST_16_BIT_LENGTH..=MAX_16_BIT_LENGTH => {
            let [high, low] = (payload_len as u16).to_be_bytes();
            out.put_slice(&[first, LENGTH_16, high, low]);
        }
        _ => {
            out.put_slice(&[first, LENGTH_64]);
            out.put_u64(payload_len as u64);
        }
    }
}

/// Appends a message as one text or binary frame.
#[inline]
pub fn put_message(out: &mut impl BufMut, message: &Message) {
    let opcode = if message.is_text() { Opcode::Text } else { Opcode::Binary };
    put_frame(out, opcode, message.as_bytes());
}

/// Appends a compressed message as one frame with RSV1 set (RFC 7692 section 6).
pub(crate) fn put_compressed(out: &mut impl BufMut, opcode: Opcode, payload: &[u8]) {
    put_header_with(out, FIN | COMPRESSED | opcode as u8, payload.len());
    out.put_slice(payload);
}

/// Appends a ping. The payload is truncated to 125 bytes.
pub fn put_ping(out: &mut impl BufMut, payload: &[u8]) {
    put_frame(out, Opcode::Ping, cut(payload));
}

/// Appends a pong with the payload of the ping that it answers, truncated to 125 bytes.
pub fn put_pong(out: &mut impl BufMut, payload: &[u8]) {
    put_frame(out, Opcode::Pong, cut(payload));
}

/// Appends a close frame with a code and a reason, truncated at a character boundary to 123 bytes.
///
/// Without a code, or with a code that must not be sent ([`close::is_sendable`]; for example 1005), the payload is
/// empty and the client sees 1005.
pub fn put_close(out: &mut impl BufMut, code: Option<u16>, reason: &str) {
    match code.filter(|&code| close::is_sendable(code)) {
        Some(code) => {
            let reason = close::cut(reason).as_bytes();
            put_header(out, Opcode::Close, size_of_val(&code) + reason.len());
            out.put_u16(code);
            out.put_slice(reason);
        }
        None => put_header(out, Opcode::Close, 0),
    }
}

#[inline]
fn put_frame(out: &mut impl BufMut, opcode: Opcode, payload: &[u8]) {
    put_header(out, opcode, payload.len());
    out.put_slice(payload);
}

fn cut(payload: &[u8]) -> &[u8] {
    &payload[..payload.len().min(MAX_CONTROL_PAYLOAD)]
}

const FIN: u8 = 0x80;
const LEAST_16_BIT_LENGTH: usize = LENGTH_16 as usize;
const MAX_16_BIT_LENGTH: usize = u16::MAX as usize;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tungstenite::protocol::frame::FrameHeader;

    use super::*;

    #[test]
    fn writes_headers_like_tungstenite() {
        for len in [0, 1, 125, 126, 127, 65535, 65536, 1 << 33] {
            for opcode in [Opcode::Text, Opcode::Binary, Opcode::Ping] {
                let mut ours = Vec::new();
                put_header(&mut ours, opcode, len);
                let reference = FrameHeader { opcode: (opcode as u8).into(), ..FrameHeader::default() };
                let mut theirs = Vec::new();
                reference.format(len as u64, &mut theirs).unwrap();
                assert_eq!(ours, theirs);
                assert_eq!(ours.len(), header_len(len));
                assert_eq!(frame_len(len), header_len(len) + len);
            }
        }
    }

    #[test]
    fn messages_are_single_frames() {
        let mut out = Vec::new();
        put_message(&mut out, &Message::from("hi"));
        put_message(&mut out, &Message::from(Bytes::from_static(&[0xff])));
        assert_eq!(out, b"\x81\x02hi\x82\x01\xff");
    }

    #[test]
    fn control_frames_stay_within_125_bytes() {
        let mut out = Vec::new();
        put_ping(&mut out, b"");
        put_pong(&mut out, b"ab");
        assert_eq!(out, b"\x89\x00\x8a\x02ab");

        out.clear();
        put_pong(&mut out, &[7; 200]);
        assert_eq!(out[..2], [0x8a, 125]);
        assert_eq!(out.len(), 2 + 125);
    }

    #[test]
    fn encodes_close_code_and_reason() {
        let close = |code, reason: &str| {
            let mut out = Vec::new();
            put_close(&mut out, code, reason);
            out
        };
        assert_eq!(close(Some(1000), ""), b"\x88\x02\x03\xe8");
        assert_eq!(close(Some(4000), "bye"), b"\x88\x05\x0f\xa0bye");
        assert_eq!(close(None, "unheard"), b"\x88\x00");
        assert_eq!(close(Some(1005), "unheard"), b"\x88\x00");
        let long = close(Some(1001), &"é".repeat(80));
        assert_eq!(long[1], 124);
        assert_eq!(long[4..], *"é".repeat(61).as_bytes());
    }
}
