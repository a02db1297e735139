//! What a server offers its clients, and what came of it

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use roomcast_core::memory::{self, Charge};

/// Whether and how messages are compressed for clients that can (permessage-deflate, RFC 7692)
///
/// A server without it declines the extension. Compression costs time on both ends, and where secrets stand beside
/// what somebody else chooses, in one message or in one context, its length tells about them (CRIME, BREACH); send
/// such messages uncompressed.
///
/// # Memory
///
/// As it is by default, each thread that writes keeps up to four compressors, and each thread that reads one
/// inflater; a connection has an inflater of its own only while a message under way is longer than 4 KiB on the
/// wire. A compressor takes 371 KiB (window of 15 bits, memory level 8; 141 KiB with 9 and 4), an inflater 47 KiB.
/// With [`context_takeover`](Self::context_takeover) each connection that uses compression has one of each for its
/// lifetime, within [`max_context_memory`](Self::max_context_memory).
///
/// Clones count together, against one limit.
///
/// ```
/// use roomcast_transport_ws::{Compression, WebSocket};
///
/// let transport = WebSocket::new().compression(Compression::new().threshold(512));
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Compression {
    settings: Settings,
    totals: Arc<Totals>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settings {
    threshold: u32,
    level: u8,
    memory_level: u8,
    window_bits: u8,
    client_window_bits: u8,
    context_takeover: bool,
    max_context_memory: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threshold: 1024,
            level: 6,
            memory_level: 8,
            window_bits: MAX_WINDOW_BITS,
            client_window_bits: MAX_WINDOW_BITS,
            context_takeover: false,
            max_context_memory: 64 * 1024 * 1024,
        }
    }
}

impl Compression {
    /// Compression as it is by default: from 1,024 bytes on, and no context from one message to the next
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes from which a message is compressed; a smaller one goes as it is. Default: 1,024
    ///
    /// A message that does not shrink goes as it is, too. More than 1,048,575 counts as that.
    pub fn threshold(mut self, bytes: usize) -> Self {
        self.settings.threshold = bytes.min(MAX_THRESHOLD) as u32;
        self
    }

    /// How hard to try, from 1, fast, to 9, small. Default: 6
    pub fn level(mut self, level: u8) -> Self {
        self.settings.level = level.clamp(1, 9);
        self
    }

    /// How much memory a compressor may take beside its window, from 1 to 9. Default: 8
    ///
    /// Measured with a window of 15 bits: 260 KiB at 1, 266 KiB at 4, 371 KiB at 8, 483 KiB at 9.
    pub fn memory_level(mut self, level: u8) -> Self {
        self.settings.memory_level = level.clamp(1, 9);
        self
    }

    /// The window of what is sent, as a power of two, from 9 to 15. Default: 15, which is 32 KiB
    ///
    /// A client may ask for less. Without context takeover it then gets this, 12 or 9, so that however clients ask
    /// a broadcast is compressed three times at most. To ask for 8 is declined, since zlib cannot do it.
    pub fn window_bits(mut self, bits: u8) -> Self {
        self.settings.window_bits = bits.clamp(MIN_WINDOW_BITS, MAX_WINDOW_BITS);
        self
    }

    /// The window that clients are told to use for what they send, from 9 to 15. Default: 15, which tells nothing
    ///
    /// For clients that say they can be told (`client_max_window_bits`). It saves their memory, not ours: an
    /// inflater always has the largest window.
    pub fn client_window_bits(mut self, bits: u8) -> Self {
        self.settings.client_window_bits = bits.clamp(MIN_WINDOW_BITS, MAX_WINDOW_BITS);
        self
    }

    /// Keeps what was sent as the context of what follows, for each connection. Default: off
    ///
    /// Small messages that are alike shrink several times better. The price: each recipient's messages are
    /// compressed for it alone, so a broadcast to a thousand is compressed a thousand times, on the thread that
    /// writes; and each connection holds a compressor and an inflater, 418 KiB as they are by default. A client that
    /// asks for no context has none.
    pub fn context_takeover(mut self, keep: bool) -> Self {
        self.settings.context_takeover = keep;
        self
    }

    /// Bytes that the contexts of all connections may have together. Default: 64 MiB
    ///
    /// A connection that finds no room left is compressed without context, which needs none. So is one whose context
    /// would leave less than half of the server's memory budget free.
    pub fn max_context_memory(mut self, bytes: usize) -> Self {
        self.settings.max_context_memory = bytes;
        self
    }

    /// What was compressed and inflated so far; a message that is compressed once for many counts once
    pub fn compressed(&self) -> Compressed {
        self.totals.compressed()
    }

    pub(crate) fn least(&self) -> u32 {
        self.settings.threshold
    }

    pub(crate) fn levels(&self) -> (u8, u8) {
        (self.settings.level, self.settings.memory_level)
    }

    /// The largest windows of both directions: ours, and that of the client
    pub(crate) fn windows(&self) -> (u8, u8) {
        (self.settings.window_bits, self.settings.client_window_bits)
    }

    pub(crate) fn keeps_context(&self) -> bool {
        self.settings.context_takeover
    }

    pub(crate) fn totals(&self) -> &Arc<Totals> {
        &self.totals
    }

    /// Takes this much of what contexts may have, if it is there
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let taken = |reserved: usize| {
            reserved.checked_add(bytes).filter(|&all| all <= self.settings.max_context_memory)
        };
        if !memory::can_spare(bytes) {
            return None;
        }
        let reserved = &self.totals.reserved;
        reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).ok()?;
        Some(Reservation { totals: self.totals.clone(), charge: Charge::new(bytes) })
    }
}

/// Equal settings; what was counted is no part of it
impl PartialEq for Compression {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for Compression {}

/// Bytes before and after
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Compressed {
    /// Bytes of messages that were compressed
    pub deflated_from: u64,
    /// Bytes that came of them
    pub deflated_to: u64,
    /// Bytes of compressed messages from clients
    pub inflated_from: u64,
    /// Bytes that came of them
    pub inflated_to: u64,
    /// Bytes that are reserved for contexts of connections right now
    pub context_memory: u64,
}

/// What all connections with the same settings count together
#[derive(Debug, Default)]
pub(crate) struct Totals {
    reserved: AtomicUsize,
    deflated: [AtomicU64; 2],
    inflated: [AtomicU64; 2],
}

impl Totals {
    pub(crate) fn deflated(&self, from: usize, to: usize) {
        add(&self.deflated, from, to);
    }

    pub(crate) fn inflated(&self, from: usize, to: usize) {
        add(&self.inflated, from, to);
    }

    fn compressed(&self) -> Compressed {
        let both = |of: &[AtomicU64; 2]| of.each_ref().map(|bytes| bytes.load(Ordering::Relaxed));
        let ([deflated_from, deflated_to], [inflated_from, inflated_to]) =
            (both(&self.deflated), both(&self.inflated));
        let context_memory = self.reserved.load(Ordering::Relaxed) as u64;
        Compressed { deflated_from, deflated_to, inflated_from, inflated_to, context_memory }
    }
}

fn add(counters: &[AtomicU64; 2], from: usize, to: usize) {
    counters[0].fetch_add(from as u64, Ordering::Relaxed);
    counters[1].fetch_add(to as u64, Ordering::Relaxed);
}

/// A part of the memory that contexts may have; given back when it is dropped
#[derive(Debug)]
pub(crate) struct Reservation {
    totals: Arc<Totals>,
    charge: Charge,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.totals.reserved.fetch_sub(self.charge.bytes(), Ordering::Relaxed);
    }
}

/// The smallest window that zlib can compress with and the RFC allows
pub(super) const MIN_WINDOW_BITS: u8 = 9;
/// The largest window of DEFLATE
pub(super) const MAX_WINDOW_BITS: u8 = 15;
/// Fits beside the other parameters of a [`WireKey`](roomcast_core::WireKey)
const MAX_THRESHOLD: usize = (1 << 20) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_have_a_limit_that_clones_share() {
        let compression = Compression::new().max_context_memory(100);
        let first = compression.reserve(60).unwrap();
        assert!(compression.clone().reserve(41).is_none());
        let second = compression.clone().reserve(40).unwrap();
        assert_eq!(compression.compressed().context_memory, 100);
        assert!(compression.reserve(usize::MAX).is_none());
        drop((first, second));
        assert_eq!(compression.compressed().context_memory, 0);
        assert!(compression.reserve(100).is_some());
    }

    #[test]
    fn settings_outside_of_what_there_is_count_as_the_nearest() {
        let wild = Compression::new()
            .threshold(usize::MAX)
            .level(0)
            .memory_level(200)
            .window_bits(8)
            .client_window_bits(16);
        let tame = Compression::new()
            .threshold(1_048_575)
            .level(1)
            .memory_level(9)
            .window_bits(9)
            .client_window_bits(15);
        assert_eq!(wild, tame);
        assert_ne!(tame, Compression::new());
    }
}
