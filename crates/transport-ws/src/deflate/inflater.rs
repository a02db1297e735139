//! DEFLATE decompressor for messages.

use std::cell::Cell;
use std::fmt;

use roomcast_core::Message;
use zlib_rs::{Inflate, InflateFlush, Status};

use super::{Inflated, TAIL};
use crate::frame::{Opcode, Violation};

/// Inflates successive messages (RFC 7692 section 7.2.2).
pub(crate) struct Inflater {
    stream: Inflate,
    /// Whether a final block was received; later bytes are another stream.
    ended: bool,
}

impl Inflater {
    /// Memory of one inflater in bytes: always the largest window, regardless of the client's offer.
    pub(crate) const MEMORY: usize = 47_552;

    fn new() -> Self {
        Self { stream: Inflate::new(false, 15), ended: false }
    }

    fn restart(&mut self) {
        self.stream.reset(false);
        self.ended = false;
    }

    /// Inflates all of `input` and passes on the output in small pieces.
    pub(crate) fn feed(
        &mut self,
        mut input: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        if input.is_empty() {
            // No output is ever pending, so a message of many tiny fragments pays for none of this twice.
            return Ok(());
        }
        let mut out = [0; PIECE];
        loop {
            if self.ended {
                if input.is_empty() {
                    return Ok(());
                }
                self.restart();
            }
            let (taken, made) = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.decompress(input, &mut out, InflateFlush::SyncFlush);
            let taken = (self.stream.total_in() - taken) as usize;
            let made = (self.stream.total_out() - made) as usize;
            input = &input[taken..];
            if made > 0 {
                take(&out[..made])?;
            }
            // Delivered before the error, so the result does not depend on how the message was split.
            match status.map_err(|_| Violation::InvalidDeflate)? {
                Status::StreamEnd => self.ended = true,
                // Output room was left, so no output is pending.
                _ if made < out.len() && input.is_empty() => return Ok(()),
                _ if made == 0 && taken == 0 => return Err(Violation::InvalidDeflate),
                _ => {}
            }
        }
    }

    /// Checks that a message ends here, and resets for the next.
    ///
    /// The tail must produce no output: otherwise the message was cut inside a block.
    fn finish(&mut self, keeps_context: bool) -> Result<(), Violation> {
        if self.ended {
            return Ok(());
        }
        let nothing = |_: &[u8]| Err(Violation::InvalidDeflate);
        self.feed(&TAIL, nothing)?;
        if !keeps_context {
            self.feed(&LAST_BLOCK, nothing)?;
            if !self.ended {
                return Err(Violation::InvalidDeflate);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inflater")
    }
}

/// An empty final block; it ends only a stream that is between two blocks.
const LAST_BLOCK: [u8; 5] = [1, 0, 0, 0xff, 0xff];
/// Size of one output piece in bytes; the limit is exceeded by at most this much before detection.
const PIECE: usize = 8 * 1024;

thread_local! {
    // Shared by all connections without context, as it carries no state between messages: `Inflater::MEMORY` bytes for
    // each thread, not for each connection. Not a parameter, since callers of `poll_recv` know only core's traits. At
    // most one.
    static SHARED: Cell<Option<Inflater>> = const { Cell::new(None) };
}

/// Inflation state of one client.
#[derive(Debug, Default)]
pub(crate) struct Inflating {
    keeps_context: bool,
    context: Option<Inflater>,
    /// Compressed and inflated bytes.
    counted: (usize, usize),
}

impl Inflating {
    pub(crate) fn new(keeps_context: bool) -> Self {
        Self { keeps_context, ..Self::default() }
    }

    /// Inflates a message that arrived in one piece.
    pub(crate) fn whole(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        max_message: usize,
    ) -> Result<Message, Violation> {
        let mut inflated = Inflated::new(opcode);
        let mut inflater = self.begin();
        inflater.feed(payload, |piece| inflated.push(piece, max_message))?;
        self.end(inflater, payload.len(), inflated.len())?;
        inflated.finish()
    }

    /// Takes the inflater for the next message.
    pub(crate) fn begin(&mut self) -> Inflater {
        if self.keeps_context {
            return self.context.take().unwrap_or_else(Inflater::new);
        }
        let mut inflater = SHARED.take().unwrap_or_else(Inflater::new);
        inflater.restart();
        inflater
    }

    /// Returns the inflater after a complete message.
    pub(crate) fn end(&mut self, mut inflater: Inflater, from: usize, to: usize) -> Result<(), Violation> {
        // Formally even an empty message has a byte, but an absent one cannot be invalid.
        if from > 0 {
            inflater.finish(self.keeps_context)?;
        }
        self.counted.0 += from;
        self.counted.1 += to;
        if self.keeps_context {
            self.context = Some(inflater);
        } else {
            // Cheaper than `LocalKey::set`.
            SHARED.with(|shared| shared.set(Some(inflater)));
        }
        Ok(())
    }

    /// Returns the compressed and inflated bytes since the last call.
    pub(crate) fn take_counted(&mut self) -> (usize, usize) {
        std::mem::take(&mut self.counted)
    }
}

#[cfg(test)]
mod tests {
    use allocation_counter::measure;
    use proptest::prelude::*;

    use super::*;
    use crate::deflate::Deflater;

    fn inflate(side: &mut Inflating, payload: &[u8]) -> Result<Vec<u8>, Violation> {
        side.whole(Opcode::Binary, payload, 1 << 20).map(|message| message.as_bytes().to_vec())
    }

    #[test]
    fn inflates_rfc_examples() {
        // Section 7.2.3: one block, a context, no compression, BFINAL, two blocks.
        let hello = Ok(b"Hello".to_vec());
        let mut keeping = Inflating::new(true);
        assert_eq!(inflate(&mut keeping, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), hello);
        assert_eq!(inflate(&mut keeping, &[0xf2, 0x00, 0x11, 0x00, 0x00]), hello);
        for mut side in [Inflating::new(true), Inflating::new(false)] {
            let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
            let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
            let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
            for payload in [&stored[..], &last, &two, &last, &last[..7], &stored] {
                assert_eq!(inflate(&mut side, payload), hello, "{payload:x?}");
            }
            assert_eq!(inflate(&mut side, &[0]), Ok(Vec::new()));
            assert_eq!(inflate(&mut side, &[]), Ok(Vec::new()));
        }
    }

    #[test]
    fn refuses_invalid_deflate_data() {
        let reference_to_nothing = [0xf2, 0x00, 0x11, 0x00, 0x00];
        for payload in [&[0x06][..], &[0xff; 20], &[0x00, 0x05, 0x00, 0x00, 0x00], &reference_to_nothing] {
            assert_eq!(inflate(&mut Inflating::new(false), payload), Err(Violation::InvalidDeflate));
            assert_eq!(inflate(&mut Inflating::new(true), payload), Err(Violation::InvalidDeflate));
        }
    }

    #[test]
    fn refuses_message_cut_inside_block() {
        let text = "the quick brown fox jumps over the lazy dog, ".repeat(20);
        let mut scratch = Vec::new();
        let whole = Deflater::new(15, 6, 8).compress_alone(text.as_bytes(), &mut scratch).unwrap();
        for cut in 1..whole.len() - 1 {
            assert_eq!(
                inflate(&mut Inflating::new(false), &whole[..cut]),
                Err(Violation::InvalidDeflate),
                "{cut}"
            );
        }
        let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48];
        assert_eq!(inflate(&mut Inflating::new(true), &stored), Err(Violation::InvalidDeflate));
    }

    #[test]
    fn inflater_allocates_declared_memory() {
        let cost = measure(|| drop(Inflater::new()));
        assert_eq!((cost.count_total, cost.bytes_total), (1, Inflater::MEMORY as u64));
    }

    proptest! {
        #[test]
        fn round_trips_with_and_without_context(
            messages in prop::collection::vec(
                prop_oneof!["[a-c]{1,3000}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 1..400)],
                1..6,
            ),
            window_bits in 9_u8..=15,
            level in 1_u8..=9,
            memory_level in 1_u8..=9,
        ) {
            let mut keeping = (Deflater::new(window_bits, level, memory_level), Inflating::new(true));
            let mut alone = (Deflater::new(window_bits, level, memory_level), Inflating::new(false));
            let mut scratch = Vec::new();
            for message in messages {
                let mut compressed = Vec::new();
                keeping.0.compress_in_context(&message, &mut compressed).unwrap();
                prop_assert_eq!(inflate(&mut keeping.1, &compressed), Ok(message.clone()));
                if let Some(compressed) = alone.0.compress_alone(&message, &mut scratch) {
                    prop_assert!(compressed.len() < message.len());
                    prop_assert_eq!(inflate(&mut alone.1, compressed), Ok(message));
                }
            }
        }
    }
}
