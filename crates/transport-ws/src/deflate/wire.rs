//! Frame rendering for clients with negotiated compression.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use roomcast_core::{Frame, Message, Wire, WireKey};

use super::deflater::Broken;
use super::{Compression, Deflater, Reservation, Totals};
use crate::frame::{Opcode, frame_len, put_compressed, put_message};

/// Compression parameters of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Params {
    window_bits: u8,
    level: u8,
    memory_level: u8,
    threshold: u32,
}

impl Params {
    fn new(compression: &Compression, window_bits: u8) -> Self {
        let (level, memory_level) = compression.levels();
        Self { window_bits, level, memory_level, threshold: compression.least() }
    }

    /// Packs four bits each, and twenty for the threshold.
    fn packed(self) -> u32 {
        let [window_bits, level, memory_level] =
            [self.window_bits, self.level, self.memory_level].map(u32::from);
        self.threshold << 12 | window_bits << 8 | level << 4 | memory_level
    }

    /// Returns whether to compress a message. An empty one has no compressed form in a context.
    fn fits(self, message: &Message) -> bool {
        message.len() >= (self.threshold as usize).max(1)
    }

    fn deflater(self) -> Deflater {
        Deflater::new(self.window_bits, self.level, self.memory_level)
    }
}

/// Renders each message as one frame, compressed without context if that makes it smaller.
///
/// A frame without any message that shrinks gets an empty form, which means the form of [`WsWire`](crate::WsWire).
#[derive(Debug)]
pub(crate) struct DeflateWire {
    params: Params,
    totals: Arc<Totals>,
}

impl DeflateWire {
    pub(crate) fn new(compression: &Compression, window_bits: u8) -> Self {
        Self { params: Params::new(compression, window_bits), totals: compression.totals().clone() }
    }

    /// Returns the compressed form of a frame, if it has one.
    ///
    /// Rendered once for all clients with the same parameters. A frame that already caches its maximum of forms gets no
    /// more, rather than one for each recipient.
    pub(crate) fn compressed<'a>(&self, frame: &'a Frame) -> Option<&'a Bytes> {
        let worth_it =
            frame.may_compress() && frame.messages().iter().any(|message| self.params.fits(message));
        if !worth_it {
            return None;
        }
        frame.cached(self).filter(|bytes| !bytes.is_empty())
    }
}

impl Wire for DeflateWire {
    fn key(&self) -> WireKey {
        WireKey::of::<Self>(self.params.packed())
    }

    fn render(&self, messages: &[Message]) -> Bytes {
        TOOLS.with_borrow_mut(|tools| {
            let Tools { deflaters, scratch } = tools;
            let deflater = deflater(deflaters, self.params);
            let most: usize = messages.iter().map(|message| frame_len(message.len())).sum();
            let mut out = BytesMut::new();
            let mut shrank = false;
            for message in messages {
                let payload = message.as_bytes();
                let compressed =
                    if self.params.fits(message) { deflater.compress_alone(payload, scratch) } else { None };
                match compressed {
                    Some(compressed) => {
                        shrank = true;
                        self.totals.deflated(payload.len(), compressed.len());
                        if messages.len() == 1 {
                            out.reserve(frame_len(compressed.len()));
                        }
                        put_compressed(&mut out, opcode(message), compressed);
                    }
                    None if messages.len() == 1 => {}
                    None => {
                        out.reserve(most - out.len());
                        put_message(&mut out, message);
                    }
                }
            }
            if scratch.len() > KEPT_SCRATCH {
                *scratch = Vec::new();
            }
            if shrank { out.freeze() } else { Bytes::new() }
        })
    }
}

/// Compressors and scratch memory of a thread.
#[derive(Default)]
struct Tools {
    /// Most recently used first.
    deflaters: Vec<(Params, Deflater)>,
    scratch: Vec<u8>,
}

thread_local! {
    // Compressors without context, shared by the connections of a thread with the same settings: a compressor takes 371
    // KiB by default, and a broadcast is compressed once for all. Not a parameter, since core calls `Wire::render` from
    // whichever connection needs the bytes first. At most `KEPT_DEFLATERS` and `KEPT_SCRATCH` bytes.
    static TOOLS: RefCell<Tools> = RefCell::default();
}

/// Compressors cached for each thread: the three windows of one setting, and one more.
const KEPT_DEFLATERS: usize = 4;
/// Bytes of scratch memory cached for each thread.
const KEPT_SCRATCH: usize = 256 * 1024;

fn deflater(kept: &mut Vec<(Params, Deflater)>, params: Params) -> &mut Deflater {
    let found = kept.iter().position(|(theirs, _)| *theirs == params);
    let (params, deflater) = match found {
        Some(at) => kept.remove(at),
        None => {
            kept.truncate(KEPT_DEFLATERS - 1);
            (params, params.deflater())
        }
    };
    kept.insert(0, (params, deflater));
    &mut kept[0].1
}

/// Compression context of one client: the messages already sent.
#[derive(Debug)]
pub(crate) struct Context {
    params: Params,
    totals: Arc<Totals>,
    /// Created by the first compressed message.
    deflater: Option<Deflater>,
    _memory: Reservation,
}

impl Context {
    pub(crate) fn new(compression: &Compression, window_bits: u8, memory: Reservation) -> Self {
        let params = Params::new(compression, window_bits);
        Self { params, totals: compression.totals().clone(), deflater: None, _memory: memory }
    }

    /// Appends a frame with messages.
    ///
    /// The compressed bytes must be sent, as the client needs them to inflate later messages.
    pub(crate) fn append(&mut self, frame: &Frame, out: &mut Vec<u8>) -> Result<(), Broken> {
        let mut compressed = Vec::new();
        for message in frame.messages() {
            if !frame.may_compress() || !self.params.fits(message) {
                put_message(out, message);
                continue;
            }
            compressed.clear();
            let deflater = self.deflater.get_or_insert_with(|| self.params.deflater());
            deflater.compress_in_context(message.as_bytes(), &mut compressed)?;
            self.totals.deflated(message.len(), compressed.len());
            put_compressed(out, opcode(message), &compressed);
        }
        Ok(())
    }
}

fn opcode(message: &Message) -> Opcode {
    if message.is_text() { Opcode::Text } else { Opcode::Binary }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(compression: &Compression, window_bits: u8) -> DeflateWire {
        DeflateWire::new(compression, window_bits)
    }

    #[test]
    fn compresses_frame_once_per_parameters() {
        let compression = Compression::new();
        let frame = Frame::new("all work and no play ".repeat(100));
        let once = wire(&compression, 15).compressed(&frame).unwrap().clone();
        for _ in 0..3 {
            assert_eq!(wire(&compression, 15).compressed(&frame).unwrap().as_ptr(), once.as_ptr());
        }
        assert_eq!(compression.compressed().deflated_from, 2100);
        assert_eq!(compression.compressed().deflated_to, once.len() as u64 - 2);
        assert_eq!(once[0], 0xc1);

        let other = wire(&Compression::new().level(1), 15);
        assert_ne!(other.compressed(&frame).unwrap().as_ptr(), once.as_ptr());
        assert_ne!(wire(&compression, 9).compressed(&frame).unwrap().as_ptr(), once.as_ptr());
    }

    #[test]
    fn leaves_small_or_incompressible_frames_plain() {
        let compression = Compression::new().threshold(100);
        let wire = wire(&compression, 15);
        assert!(wire.compressed(&Frame::new("a".repeat(99))).is_none());
        assert!(wire.compressed(&Frame::new("a".repeat(100))).is_some());
        assert!(wire.compressed(&Frame::new("a".repeat(100)).without_compression()).is_none());
        assert!(
            wire.compressed(&Frame::of_wire(crate::WsWire::wire_key(), Bytes::from(vec![0; 200]))).is_none()
        );

        let noise = Bytes::from((0..=255).collect::<Vec<u8>>());
        let before = compression.compressed();
        let frame = Frame::new(noise);
        assert!(wire.compressed(&frame).is_none());
        // Cached from then on.
        assert_eq!(frame.rendered(wire.key()), Some(&Bytes::new()));
        assert_eq!(compression.compressed(), before);
    }

    #[test]
    fn compresses_each_attachment_separately() {
        let wire = wire(&Compression::new().threshold(100), 15);
        let messages: Vec<Message> = vec![
            "head".into(),
            Bytes::from(vec![7; 300]).into(),
            Bytes::from((0..=255).collect::<Vec<u8>>()).into(),
        ];
        let bytes = wire.compressed(&Frame::from_messages(messages)).unwrap().clone();
        assert_eq!(bytes[..6], *b"\x81\x04head");
        assert_eq!(bytes[6], 0xc2);
        let last = bytes.len() - 260;
        assert_eq!(bytes[last..last + 4], [0x82, 126, 1, 0]);
    }
}
