//! Per-thread buffers shared by all connections of the thread.
//!
//! A thread serves thousands of connections and reads or writes one at a time. Separate buffers would cost each
//! connection 16 KiB for reading and up to 128 KiB for writing. They are not parameters, since the callers of
//! `poll_recv` and `poll_send` know only the traits of `roomcast-core`, and other transports need no such buffers.
//!
//! A buffer in use is removed from its place: nested uses get an empty one, and a panic drops it.

use std::cell::Cell;

use crate::frame::Incoming;

/// Buffers of one read.
#[derive(Default)]
pub(crate) struct ReadBuffers {
    /// Received bytes; keeps its length, which is the largest read.
    pub(crate) bytes: Vec<u8>,
    /// Decoded frames other than messages.
    pub(crate) others: Vec<Incoming>,
}

/// Frame capacity cached for each thread; a read full of empty frames decodes to many more.
const KEPT_FRAMES: usize = 1024;
/// Write-buffer capacity cached for each thread, in bytes.
const KEPT_WRITE: usize = 128 * 1024;

thread_local! {
    // Without it an echo costs 70 % more (plain; Socket.IO 42 %). At most 16 KiB and `KEPT_FRAMES` frames.
    static READ: Cell<ReadBuffers> = const { Cell::new(ReadBuffers { bytes: Vec::new(), others: Vec::new() }) };
    // Without it an echo costs 4 % more. At most `KEPT_WRITE` bytes.
    static WRITE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Calls `read` with the read buffers, whose list of frames is empty.
#[inline]
pub(crate) fn with_read_buffers<R>(read: impl FnOnce(&mut ReadBuffers) -> R) -> R {
    let mut buffers = READ.take();
    let result = read(&mut buffers);
    buffers.others.clear();
    buffers.others.shrink_to(KEPT_FRAMES);
    READ.set(buffers);
    result
}

/// Calls `write` with an empty write buffer.
#[inline]
pub(crate) fn with_write_buffer<R>(write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut buffer = WRITE.take();
    let result = write(&mut buffer);
    buffer.clear();
    buffer.shrink_to(KEPT_WRITE);
    WRITE.set(buffer);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_use_gets_empty_buffer() {
        with_write_buffer(|outer| {
            outer.extend_from_slice(b"outer");
            with_write_buffer(|inner| assert!(inner.is_empty()));
            assert_eq!(outer, b"outer");
        });
        with_write_buffer(|buffer| assert!(buffer.is_empty()));
    }

    #[test]
    fn large_buffers_are_not_kept() {
        with_write_buffer(|buffer| buffer.resize(4 * KEPT_WRITE, 0));
        assert!(with_write_buffer(|buffer| buffer.capacity()) <= KEPT_WRITE);
        let ping = || Incoming::Ping(bytes::Bytes::new());
        with_read_buffers(|buffers| buffers.others.extend((0..4 * KEPT_FRAMES).map(|_| ping())));
        assert!(with_read_buffers(|buffers| buffers.others.capacity()) <= KEPT_FRAMES);
    }
}
