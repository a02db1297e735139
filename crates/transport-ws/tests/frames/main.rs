//! Tests of the frame reader and the server's frames: rules, attacks, memory, splits, interoperability.

mod attacks;
mod deflate;
mod memory;
mod rules;
mod splits;
mod tungstenite;

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::Message;
use roomcast_transport_ws::frame::{FrameReader, Incoming, ReadLimits, Violation};

const KEY: [u8; 4] = [0x1d, 0x00, 0xfe, 0x77];

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// Builds a masked frame; `first` is the byte of FIN, reserved bits and opcode.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = declaration(first, payload.len() as u64);
    bytes.extend(KEY);
    bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// Builds a header up to its length, in the shortest form.
fn declaration(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | length as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes
}

/// Decodes a stream in pieces of these sizes, repeated.
fn read_in_pieces(
    mut reader: FrameReader,
    bytes: &[u8],
    sizes: &[usize],
) -> (Vec<Incoming>, Result<(), Violation>) {
    let mut items = Vec::new();
    let mut rest = bytes.to_vec();
    let mut rest = rest.as_mut_slice();
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, later) = rest.split_at_mut((*size).min(rest.len()));
        rest = later;
        if let Err(violation) = reader.read(piece, &mut items) {
            return (items, Err(violation));
        }
    }
    (items, Ok(()))
}

/// Decodes a stream in one piece with a new reader.
fn read(bytes: &[u8]) -> (Vec<Incoming>, Result<(), Violation>) {
    read_limited(ReadLimits::default(), bytes)
}

fn read_limited(limits: ReadLimits, bytes: &[u8]) -> (Vec<Incoming>, Result<(), Violation>) {
    let mut items = Vec::new();
    let outcome = FrameReader::new(limits).read(&mut bytes.to_vec(), &mut items);
    (items, outcome)
}

fn violation(bytes: &[u8]) -> Violation {
    let (items, outcome) = read(bytes);
    assert_eq!(items, []);
    outcome.unwrap_err()
}

fn text(text: impl Into<ByteString>) -> Incoming {
    Incoming::Message(Message::Text(text.into()))
}

fn binary(bytes: impl Into<Bytes>) -> Incoming {
    Incoming::Message(Message::Binary(bytes.into()))
}

fn close(code: u16, reason: &str) -> Incoming {
    Incoming::Close { code: Some(code), reason: reason.into() }
}
