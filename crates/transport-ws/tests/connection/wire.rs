//! A stream whose peer is the test.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose peer is the test: it scripts reads and write capacity, and records each write.
///
/// Clones share the stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wire(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    arriving: VecDeque<Arrival>,
    reads: usize,
    /// Remaining write capacity in bytes; `None` is unlimited.
    room: Option<usize>,
    writes: Vec<Write>,
    /// Whether writes fail.
    broken: bool,
    /// Whether flushes block.
    clogged: bool,
    unflushed: bool,
    shut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug)]
enum Arrival {
    Bytes(Vec<u8>),
    End,
    Error(io::ErrorKind),
    /// Endless zeros.
    Flood,
}

/// A recorded write call.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) bytes: Vec<u8>,
    /// Address of the bytes.
    pub(crate) address: usize,
}

impl Wire {
    /// Queues bytes for a single read.
    pub(crate) fn arrive(&self, bytes: impl Into<Vec<u8>>) {
        self.arrival(Arrival::Bytes(bytes.into()));
    }

    /// Closes the peer's side.
    pub(crate) fn end(&self) {
        self.arrival(Arrival::End);
    }

    /// Makes the next read fail.
    pub(crate) fn fail(&self, kind: io::ErrorKind) {
        self.arrival(Arrival::Error(kind));
    }

    /// Makes the peer send endlessly.
    pub(crate) fn flood(&self) {
        self.arrival(Arrival::Flood);
    }

    fn arrival(&self, arrival: Arrival) {
        let mut state = self.state();
        state.arriving.push_back(arrival);
        wake(state.reader.take());
    }

    /// Returns the number of reads.
    pub(crate) fn reads(&self) -> usize {
        self.state().reads
    }

    /// Accepts this many more bytes and then blocks.
    pub(crate) fn grant(&self, bytes: usize) {
        let mut state = self.state();
        state.room = Some(state.room.unwrap_or(0) + bytes);
        wake(state.writer.take());
    }

    /// Accepts all bytes from now on.
    pub(crate) fn unblock(&self) {
        let mut state = self.state();
        (state.room, state.clogged) = (None, false);
        wake(state.writer.take());
    }

    /// Makes writes fail.
    pub(crate) fn break_writes(&self) {
        self.state().broken = true;
    }

    /// Blocks flushes until it is [unblocked](Self::unblock).
    pub(crate) fn clog(&self) {
        self.state().clogged = true;
    }

    /// Returns each write since the last call, without blocked attempts.
    pub(crate) fn writes(&self) -> Vec<Write> {
        std::mem::take(&mut self.state().writes)
    }

    /// Returns all bytes written since the last call.
    pub(crate) fn written(&self) -> Vec<u8> {
        self.writes().into_iter().flat_map(|write| write.bytes).collect()
    }

    /// Returns whether all accepted bytes were flushed.
    pub(crate) fn is_flushed(&self) -> bool {
        !self.state().unflushed
    }

    /// Returns whether the write direction was shut down.
    pub(crate) fn is_shut(&self) -> bool {
        self.state().shut
    }

    /// Returns whether the server still holds the stream.
    pub(crate) fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("not poisoned")
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        state.reads += 1;
        match state.arriving.pop_front() {
            Some(Arrival::Bytes(mut bytes)) => {
                let rest = bytes.split_off(bytes.len().min(buf.remaining()));
                buf.put_slice(&bytes);
                if !rest.is_empty() {
                    state.arriving.push_front(Arrival::Bytes(rest));
                }
            }
            Some(Arrival::End) => state.arriving.push_front(Arrival::End),
            Some(Arrival::Error(kind)) => return Poll::Ready(Err(kind.into())),
            Some(Arrival::Flood) => {
                state.arriving.push_front(Arrival::Flood);
                buf.put_slice(&[0; 100]);
            }
            None => {
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        if state.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let taken = state.room.map_or(bytes.len(), |room| room.min(bytes.len()));
        if taken == 0 && !bytes.is_empty() {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.room = state.room.map(|room| room - taken);
        state.unflushed = true;
        state.writes.push(Write { bytes: bytes[..taken].to_vec(), address: bytes.as_ptr() as usize });
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.clogged {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state().shut = true;
        Poll::Ready(Ok(()))
    }
}

fn wake(waker: Option<Waker>) {
    waker.into_iter().for_each(Waker::wake);
}
