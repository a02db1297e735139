//! DEFLATE compressor for messages.

use std::fmt;

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush};

use super::TAIL;

/// Compresses successive messages (RFC 7692 section 7.2.1).
pub(crate) struct Deflater(Deflate);

impl Deflater {
    /// Creates a compressor; `window_bits` is 9 to 15, `level` and `memory_level` 1 to 9.
    pub(crate) fn new(window_bits: u8, level: u8, memory_level: u8) -> Self {
        Self(Deflate::new_with_config(DeflateConfig {
            level: level.into(),
            // Negative selects raw DEFLATE, without zlib's header.
            window_bits: -i32::from(window_bits),
            mem_level: memory_level.into(),
            ..DeflateConfig::default()
        }))
    }

    /// Returns the memory of one compressor in bytes.
    pub(crate) const fn memory(window_bits: u8, memory_level: u8) -> usize {
        const HASH_TABLE: usize = 128 * 1024;
        const STATE: usize = 3200;
        // Twice the window and a two-byte chain entry for each position; then the pending output.
        (4 << window_bits) + HASH_TABLE + (7 << (memory_level + 6)) + STATE
    }

    /// Compresses a message without earlier context; returns `None` if it would not shrink.
    ///
    /// The result is at the start of `scratch`.
    pub(crate) fn compress_alone<'a>(
        &mut self,
        message: &[u8],
        scratch: &'a mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        self.0.reset();
        let room = bound(message.len());
        if scratch.len() < room {
            scratch.resize(room, 0);
        }
        let compressed = self.compress(message, &mut scratch[..room]).ok()?;
        (compressed < message.len()).then_some(&scratch[..compressed])
    }

    /// Appends a message compressed in the context of earlier ones; it may grow by a few bytes.
    ///
    /// # Errors
    ///
    /// If the compressor failed; no more messages can be sent to its client.
    pub(crate) fn compress_in_context(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let begin = out.len();
        out.resize(begin + bound(message.len()), 0);
        let compressed = self.compress(message, &mut out[begin..])?;
        out.truncate(begin + compressed);
        Ok(())
    }

    /// Compresses a whole message; returns its length in bytes without the tail.
    ///
    /// `out` has room for the worst case, so one call suffices: zlib-rs panics at level 1 if it runs out of room and is
    /// called again.
    fn compress(&mut self, message: &[u8], out: &mut [u8]) -> Result<usize, Broken> {
        let (taken, made) = (self.0.total_in(), self.0.total_out());
        self.0.compress(message, out, DeflateFlush::SyncFlush).map_err(|_| Broken)?;
        let taken = (self.0.total_in() - taken) as usize;
        let made = (self.0.total_out() - made) as usize;
        let whole = taken == message.len() && made < out.len();
        match out[..made].strip_suffix(&TAIL) {
            Some(compressed) if whole => Ok(compressed.len()),
            _ => Err(Broken),
        }
    }
}

/// Returns the largest compressed size for a message length: a literal takes nine bits at most.
const fn bound(len: usize) -> usize {
    len + len / 8 + 128
}

/// A compressor failure, which zlib reports only when misused.
#[derive(Debug)]
pub(crate) struct Broken;

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deflater")
    }
}

#[cfg(test)]
mod tests {
    use allocation_counter::measure;

    use super::*;

    #[test]
    fn compressor_allocates_declared_memory() {
        for (window_bits, memory_level) in [(9, 1), (9, 8), (12, 4), (15, 8), (15, 9)] {
            let cost = measure(|| drop(Deflater::new(window_bits, 6, memory_level)));
            let said = Deflater::memory(window_bits, memory_level);
            assert_eq!(
                (cost.count_total, cost.bytes_total),
                (1, said as u64),
                "{window_bits} {memory_level}"
            );
        }
    }

    #[test]
    fn keeps_incompressible_payload_plain() {
        let mut deflater = Deflater::new(15, 6, 8);
        let mut scratch = Vec::new();
        let mut state = 1_u64;
        let noise: Vec<u8> = (0..5000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        assert_eq!(deflater.compress_alone(&noise, &mut scratch), None);
        assert_eq!(deflater.compress_alone(b"a", &mut scratch), None);
        let zeros = deflater.compress_alone(&[0; 5000], &mut scratch).unwrap();
        assert!(zeros.len() < 50);
    }

    #[test]
    fn compresses_rfc_examples() {
        // Sections 7.2.3.1 and 7.2.3.2: "Hello" alone, and again in its own context.
        let mut deflater = Deflater::new(15, 6, 8);
        let mut out = Vec::new();
        deflater.compress_in_context(b"Hello", &mut out).unwrap();
        assert_eq!(out, [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
        out.clear();
        deflater.compress_in_context(b"Hello", &mut out).unwrap();
        assert_eq!(out, [0xf2, 0x00, 0x11, 0x00, 0x00]);
    }
}
