//! The write half of a WebSocket

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use roomcast_core::{ConnectionError, Frame, FrameSink, Readiness};

use crate::frame::put_message;
use crate::stream::WriteHalf;
use crate::wire::WsWire;

/// Writes shared frames as they are, and several small ones in one system call
#[derive(Debug)]
pub(crate) struct WsSink {
    stream: WriteHalf,
    /// What is left of a frame of which a part was written
    rest: Bytes,
    /// Whether the stream may hold bytes that it has taken and not sent
    unflushed: bool,
}

/// Bytes that one write carries at most when frames are copied together
const CORK: usize = 64 * 1024;
/// Frames from this size on are written from where they lie: a system call costs less than copying more
const COPY_BELOW: usize = 16 * 1024;

thread_local! {
    // One for each thread that writes, not for each connection: it is empty whenever no write is under way.
    static CORKED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl WsSink {
    pub(crate) fn new(stream: WriteHalf) -> Self {
        Self { stream, rest: Bytes::new(), unflushed: false }
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>, batch: &mut VecDeque<Frame>) -> Poll<io::Result<()>> {
        while self.rest.has_remaining() {
            match self.stream.poll_write(cx, &self.rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.rest.advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        while let Some(first) = batch.front() {
            let outcome = if batch.len() == 1 && first.is_shared() || wire_len(first) >= COPY_BELOW {
                let bytes = first.wire(&WsWire);
                self.stream.poll_write(cx, &bytes)
            } else {
                let mut corked = CORKED.take();
                fill(&mut corked, batch);
                let outcome = self.stream.poll_write(cx, &corked);
                corked.clear();
                CORKED.set(corked);
                outcome
            };
            match outcome {
                Poll::Ready(Ok(written)) => self.advance(batch, written)?,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
            if self.rest.has_remaining() {
                return self.poll_batch(cx, batch);
            }
        }
        if self.unflushed {
            return self.stream.poll_flush(cx).map_ok(|()| self.unflushed = false);
        }
        Poll::Ready(Ok(()))
    }

    /// Drops what was written from the batch, and keeps the rest of a frame that was cut
    fn advance(&mut self, batch: &mut VecDeque<Frame>, mut written: usize) -> io::Result<()> {
        if written == 0 && batch.front().is_some_and(|frame| wire_len(frame) > 0) {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unflushed = matches!(self.stream, WriteHalf::Shared(_));
        while let Some(frame) = batch.front() {
            let len = wire_len(frame);
            if written < len {
                if written > 0 {
                    self.rest = frame.wire(&WsWire).slice(written..);
                    batch.pop_front();
                }
                break;
            }
            written -= len;
            batch.pop_front();
            if written == 0 && batch.front().is_some_and(|next| wire_len(next) > 0) {
                break;
            }
        }
        Ok(())
    }
}

impl FrameSink for WsSink {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError> {
        match self.poll_batch(cx, batch) {
            Poll::Ready(Ok(())) => Ok(Readiness::Ready),
            Poll::Ready(Err(error)) => Err(error.into()),
            Poll::Pending => Ok(Readiness::Blocked),
        }
    }
}

/// Copies frames from the front of the batch, as many as go together into one write
fn fill(corked: &mut Vec<u8>, batch: &VecDeque<Frame>) {
    for frame in batch {
        let len = wire_len(frame);
        if !corked.is_empty() && corked.len() + len > CORK || len >= COPY_BELOW {
            break;
        }
        match frame.rendered(WsWire::wire_key()) {
            Some(bytes) => corked.extend_from_slice(bytes),
            // Nobody else needs these bytes, so they are not kept.
            None if !frame.is_shared() => {
                frame.messages().iter().for_each(|message| put_message(corked, message));
            }
            None => corked.extend_from_slice(&frame.wire(&WsWire)),
        }
    }
}

/// Bytes of a frame on this wire, without rendering it
fn wire_len(frame: &Frame) -> usize {
    match frame.messages() {
        [] => frame.rendered(WsWire::wire_key()).map_or(0, Bytes::len),
        messages => messages.iter().map(|message| crate::frame::frame_len(message.len())).sum(),
    }
}
