//! WebSocket frame reader.

use bytes::Bytes;
use roomcast_core::Message;
use roomcast_transport_ws::close::is_sendable;
use roomcast_transport_ws::frame::{
    FrameReader, Incoming, MAX_CONTROL_PAYLOAD, Opcode, ReadLimits, Violation, put_message,
};

/// The same bytes decode to the same messages in any chunks, within the limits, and messages survive a round trip.
///
/// The first byte selects the limits, the second the chunks of the rest.
pub fn ws_frames(data: &[u8]) {
    let [limits, cuts, stream @ ..] = data else { return };
    let limits = ReadLimits::new()
        .max_message([16, 125, 70_000, 1 << 20][usize::from(limits & 3)])
        .max_fragments([1, 3, 1000, u32::MAX][usize::from(limits >> 2 & 3)]);
    reads_alike(limits, None, stream, *cuts);
}

/// The same with negotiated compression, for any bytes as frames and for any bytes as a compressed message.
///
/// The first byte selects the limits, context takeover, and the kind of input; the second selects the chunks.
pub fn ws_inflate(data: &[u8]) {
    let [choice, cuts, bytes @ ..] = data else { return };
    let limits = ReadLimits::new()
        .max_message([16, 1000, 70_000, 1 << 20][usize::from(choice & 3)])
        .max_fragments(1000);
    let keeps_context = Some(choice & 4 != 0);
    if choice & 8 != 0 {
        return reads_alike(limits, keeps_context, bytes, *cuts);
    }
    // Twice, the second time in the context of the first, in fragments of one size.
    let size = usize::from(choice >> 4) * 16 + 1;
    let opcode = if choice & 4 != 0 { Opcode::Text } else { Opcode::Binary };
    let chunks = bytes.chunks(size).enumerate();
    let mut message: Vec<u8> = chunks
        .flat_map(|(at, chunk)| {
            let first = if at == 0 { RSV1 | opcode as u8 } else { Opcode::Continuation as u8 };
            let fin = if (at + 1) * size >= bytes.len() { FIN } else { 0 };
            masked(fin | first, chunk)
        })
        .collect();
    message.extend_from_within(..);
    reads_alike(limits, keeps_context, &message, *cuts);
}

/// Reads the stream whole, byte by byte and in uneven chunks; `keeps_context` is set if messages may be compressed.
fn reads_alike(limits: ReadLimits, keeps_context: Option<bool>, stream: &[u8], cuts: u8) {
    let whole = read(limits, keeps_context, stream, |_| usize::MAX);
    assert_eq!(whole, read(limits, keeps_context, stream, |_| 1), "read byte by byte");
    let mut state = u32::from(cuts);
    let uneven = read(limits, keeps_context, stream, |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (state >> 24) as usize % (usize::from(cuts) + 1)
    });
    assert_eq!(whole, uneven, "cut by {cuts}");
    whole.items.iter().for_each(|item| is_lawful(item, limits));
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ ..=125 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

#[derive(Debug, PartialEq)]
struct Outcome {
    items: Vec<Incoming>,
    violation: Option<Violation>,
    ended: bool,
    idle: bool,
}

fn read(
    limits: ReadLimits,
    keeps_context: Option<bool>,
    stream: &[u8],
    mut cut: impl FnMut(usize) -> usize,
) -> Outcome {
    let mut reader = FrameReader::new(limits);
    if let Some(keeps_context) = keeps_context {
        reader = reader.inflating(keeps_context);
    }
    let mut stream = stream.to_vec();
    let mut rest = &mut stream[..];
    let mut items = Vec::new();
    let mut violation = None;
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at_mut(cut(rest.len()).min(rest.len()));
        rest = behind;
        let (ended, before) = (reader.is_ended(), items.len());
        let outcome = reader.read(chunk, &mut items);
        if ended {
            assert_eq!((items.len(), outcome), (before, Ok(())), "nothing follows the end");
        } else if let Err(error) = outcome {
            assert!(reader.is_ended(), "a violation ends the stream");
            violation = Some(error);
        }
    }
    Outcome { items, violation, ended: reader.is_ended(), idle: reader.is_idle() }
}

fn is_lawful(item: &Incoming, limits: ReadLimits) {
    match item {
        Incoming::Message(message) => {
            assert!(message.len() <= limits.max_message);
            comes_back(message);
        }
        Incoming::Ping(payload) | Incoming::Pong(payload) => assert!(payload.len() <= MAX_CONTROL_PAYLOAD),
        Incoming::Close { code, reason } => {
            assert!(code.is_none_or(is_sendable));
            assert!(code.is_some() || reason.is_empty());
            assert!(reason.len() + 2 <= MAX_CONTROL_PAYLOAD);
        }
    }
}

/// Server frames, masked as a client would, decode to the same message.
fn comes_back(message: &Message) {
    let mut frame = Vec::new();
    put_message(&mut frame, message);
    let header = frame.len() - message.len();
    let mut masked = frame[..header].to_vec();
    masked[1] |= 0x80;
    masked.extend_from_slice(&KEY);
    masked.extend(frame[header..].iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    assert_eq!(frame[0] & 0x0f, if message.is_text() { Opcode::Text as u8 } else { Opcode::Binary as u8 });
    let mut items = Vec::new();
    let limits = ReadLimits::new().max_message(message.len()).max_fragments(1);
    assert_eq!(FrameReader::new(limits).read(&mut masked, &mut items), Ok(()));
    let copy = match message {
        Message::Text(text) => Message::Text(text.clone()),
        Message::Binary(bytes) => Message::Binary(Bytes::copy_from_slice(bytes)),
    };
    assert_eq!(items, [Incoming::Message(copy)]);
}
