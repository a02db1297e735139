//! Compression settings and statistics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use roomcast_core::memory::{self, Charge};

/// Message compression settings (permessage-deflate, RFC 7692).
///
/// Without them a server declines the extension. Compression costs CPU time on both ends. If secrets share a message or
/// context with attacker-chosen data, the compressed length leaks them (CRIME, BREACH); send such messages
/// uncompressed.
///
/// # Memory
///
/// By default each writing thread caches up to four compressors, and each reading thread one inflater; a connection has
/// its own inflater only during a message of more than 4 KiB on the wire. A compressor takes 371 KiB (15-bit window,
/// memory level 8; 141 KiB with 9 and 4), an inflater 47 KiB. With [`context_takeover`](Self::context_takeover) each
/// connection that uses compression holds one of each for its lifetime, within
/// [`max_context_memory`](Self::max_context_memory).
///
/// Clones share one limit and its counters.
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
    /// Creates the default settings: compression from 1,024 bytes on, no context between messages.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the smallest message that is compressed, in bytes. Default: 1,024.
    ///
    /// A message that does not shrink is sent uncompressed. Values above 1,048,575 are capped there.
    pub fn threshold(mut self, bytes: usize) -> Self {
        self.settings.threshold = bytes.min(MAX_THRESHOLD) as u32;
        self
    }

    /// Sets the compression level, from 1 (fastest) to 9 (smallest). Default: 6.
    pub fn level(mut self, level: u8) -> Self {
        self.settings.level = level.clamp(1, 9);
        self
    }

    /// Sets the memory level of a compressor in addition to its window, from 1 to 9. Default: 8.
    ///
    /// Measured with a 15-bit window: 260 KiB at 1, 266 KiB at 4, 371 KiB at 8, 483 KiB at 9.
    pub fn memory_level(mut self, level: u8) -> Self {
        self.settings.memory_level = level.clamp(1, 9);
        self
    }

    /// Sets the server's window as a power of two, from 9 to 15. Default: 15, which is 32 KiB.
    ///
    /// A client may request less. Without context takeover it then gets this value, 12 or 9, so a broadcast is
    /// compressed at most three times. A request for 8 is declined, since zlib does not support it.
    pub fn window_bits(mut self, bits: u8) -> Self {
        self.settings.window_bits = bits.clamp(MIN_WINDOW_BITS, MAX_WINDOW_BITS);
        self
    }

    /// Sets the window requested from clients, from 9 to 15. Default: 15, which asks for nothing.
    ///
    /// Applies to clients that support it (`client_max_window_bits`). It saves client memory only: an inflater always
    /// has the largest window.
    pub fn client_window_bits(mut self, bits: u8) -> Self {
        self.settings.client_window_bits = bits.clamp(MIN_WINDOW_BITS, MAX_WINDOW_BITS);
        self
    }

    /// Keeps a compression context between messages for each connection. Default: off.
    ///
    /// Similar small messages shrink several times better. The cost: messages are compressed separately for each
    /// recipient, so a broadcast to a thousand clients is compressed a thousand times on the writing thread, and each
    /// connection holds a compressor and an inflater, 418 KiB by default. A client that requests no context has none.
    pub fn context_takeover(mut self, keep: bool) -> Self {
        self.settings.context_takeover = keep;
        self
    }

    /// Sets the memory limit for the contexts of all connections, in bytes. Default: 64 MiB.
    ///
    /// A connection beyond the limit is compressed without context, which needs no memory. So is a connection whose
    /// context would leave less than half of the server's memory budget free.
    pub fn max_context_memory(mut self, bytes: usize) -> Self {
        self.settings.max_context_memory = bytes;
        self
    }

    /// Returns the compression statistics; a message compressed once for many clients counts once.
    pub fn compressed(&self) -> Compressed {
        self.totals.compressed()
    }

    pub(crate) fn least(&self) -> u32 {
        self.settings.threshold
    }

    pub(crate) fn levels(&self) -> (u8, u8) {
        (self.settings.level, self.settings.memory_level)
    }

    /// Returns the largest windows of both directions: the server's and the client's.
    pub(crate) fn windows(&self) -> (u8, u8) {
        (self.settings.window_bits, self.settings.client_window_bits)
    }

    pub(crate) fn keeps_context(&self) -> bool {
        self.settings.context_takeover
    }

    pub(crate) fn totals(&self) -> &Arc<Totals> {
        &self.totals
    }

    /// Reserves this much context memory, if available.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let taken = |reserved: usize| {
            reserved.checked_add(bytes).filter(|&all| all <= self.settings.max_context_memory)
        };
        if !memory::has_headroom(bytes) {
            return None;
        }
        let reserved = &self.totals.reserved;
        reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).ok()?;
        Some(Reservation { totals: self.totals.clone(), charge: Charge::new(bytes) })
    }
}

/// Compares the settings; statistics do not count.
impl PartialEq for Compression {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for Compression {}

/// Byte counts before and after compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Compressed {
    /// Uncompressed bytes of sent messages.
    pub deflated_from: u64,
    /// Compressed bytes of sent messages.
    pub deflated_to: u64,
    /// Compressed bytes of received messages.
    pub inflated_from: u64,
    /// Inflated bytes of received messages.
    pub inflated_to: u64,
    /// Bytes currently reserved for contexts.
    pub context_memory: u64,
}

/// Counters shared by all connections with the same settings.
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

/// A reservation of context memory, released on drop.
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

/// The smallest window that zlib supports and the RFC allows.
pub(super) const MIN_WINDOW_BITS: u8 = 9;
/// The largest window of DEFLATE.
pub(super) const MAX_WINDOW_BITS: u8 = 15;
/// Fits next to the other parameters of a [`WireKey`](roomcast_core::WireKey).
const MAX_THRESHOLD: usize = (1 << 20) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_context_limit() {
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
    fn clamps_settings_to_valid_range() {
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
