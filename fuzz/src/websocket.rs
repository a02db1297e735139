//! The WebSocket frame reader

use bytes::Bytes;
use roomcast_core::Message;
use roomcast_transport_ws::close::is_sendable;
use roomcast_transport_ws::frame::{
    FrameReader, Incoming, MAX_CONTROL_PAYLOAD, Opcode, ReadLimits, Violation, put_message,
};

/// The same bytes give the same messages however they are cut, within the limits, and messages come back
///
/// The first byte chooses the limits, the second how the rest is cut.
pub fn ws_frames(data: &[u8]) {
    let [limits, cuts, stream @ ..] = data else { return };
    let limits = ReadLimits {
        max_message: [16, 125, 70_000, 1 << 20][usize::from(limits & 3)],
        max_fragments: [1, 3, 1000, u32::MAX][usize::from(limits >> 2 & 3)],
    };
    let whole = read(limits, stream, |_| usize::MAX);
    assert_eq!(whole, read(limits, stream, |_| 1), "byte by byte");
    let mut state = u32::from(*cuts);
    let uneven = read(limits, stream, |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (state >> 24) as usize % (usize::from(*cuts) + 1)
    });
    assert_eq!(whole, uneven, "cut by {cuts}");
    whole.items.iter().for_each(|item| is_lawful(item, limits));
}

#[derive(Debug, PartialEq)]
struct Outcome {
    items: Vec<Incoming>,
    violation: Option<Violation>,
    ended: bool,
    idle: bool,
}

fn read(limits: ReadLimits, stream: &[u8], mut cut: impl FnMut(usize) -> usize) -> Outcome {
    let mut reader = FrameReader::new(limits);
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
            assert_eq!((items.len(), outcome), (before, Ok(())), "nothing comes behind the end");
        } else if let Err(error) = outcome {
            assert!(reader.is_ended(), "a violation is the end");
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

/// What the server writes, masked as a client would, is read as the same
fn comes_back(message: &Message) {
    let mut frame = Vec::new();
    put_message(&mut frame, message);
    let header = frame.len() - message.len();
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut masked = frame[..header].to_vec();
    masked[1] |= 0x80;
    masked.extend_from_slice(&key);
    masked.extend(frame[header..].iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    assert_eq!(frame[0] & 0x0f, if message.is_text() { Opcode::Text as u8 } else { Opcode::Binary as u8 });
    let mut items = Vec::new();
    let limits = ReadLimits { max_message: message.len(), max_fragments: 1 };
    assert_eq!(FrameReader::new(limits).read(&mut masked, &mut items), Ok(()));
    let copy = match message {
        Message::Text(text) => Message::Text(text.clone()),
        Message::Binary(bytes) => Message::Binary(Bytes::copy_from_slice(bytes)),
    };
    assert_eq!(items, [Incoming::Message(copy)]);
}
