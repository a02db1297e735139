//! Write half of a WebSocket.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use roomcast_core::memory::Charge;
use roomcast_core::{ConnectionError, Frame, FrameSink, Message, Readiness};

use crate::deflate::{Context as DeflateContext, DeflateWire};
use crate::frame::{Opcode, put_message};
use crate::scratch::with_write_buffer;
use crate::stream::WriteHalf;
use crate::wire::WsWire;

/// Writes shared frames without copying, and batches small frames into one system call.
#[derive(Debug)]
pub(crate) struct WsSink {
    stream: WriteHalf,
    /// The rest of a partly written frame, or of the 101; boxed, since sockets nearly always have room.
    rest: Option<Box<Rest>>,
    /// Whether the stream may buffer unsent bytes.
    unflushed: bool,
    /// Whether a close frame was taken, after which nothing may be sent.
    closed: bool,
    /// Bytes written by `poll_rest`, wrapping.
    moved: u32,
    compressor: Option<Box<Compressor>>,
}

// It fits a block of 48 bytes, of which malloc takes eight.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
const _: () = assert!(size_of::<WsSink>() <= 40, "one field more would cost each connection 16 bytes");

/// The rest of a partly written frame, and the owner of its memory charge.
#[derive(Debug)]
struct Rest {
    bytes: Bytes,
    _memory: Memory,
}

/// How the memory of a rest is charged.
#[derive(Debug)]
enum Memory {
    /// A shared frame: its bytes are charged once for all holders.
    Shared { _frame: Frame },
    /// A rendering with no other holder, charged in full.
    Exclusive { _charge: Charge },
}

impl Rest {
    /// Creates the rest of a frame after `written` of its bytes.
    fn of_frame(frame: Frame, bytes: &Bytes, written: usize) -> Self {
        // The messages of an unshared frame need not be retained.
        let memory = if frame.is_shared() {
            Memory::Shared { _frame: frame }
        } else {
            Memory::Exclusive { _charge: Charge::new(bytes.len()) }
        };
        Self { bytes: bytes.slice(written..), _memory: memory }
    }

    fn exclusive(bytes: Bytes) -> Self {
        let memory = Memory::Exclusive { _charge: Charge::new(bytes.len()) };
        Self { bytes, _memory: memory }
    }
}

/// Compression of one client's frames.
#[derive(Debug)]
pub(crate) enum Compressor {
    /// Each frame once for all clients with the same parameters.
    Shared(DeflateWire),
    /// Separately for this client, in the context of its earlier messages.
    Exclusive(DeflateContext),
}

/// Maximum bytes of one write that copies several frames together.
const CORK: usize = 64 * 1024;
/// Frames of at least this size are written without copying: a system call costs less than copying more.
const COPY_BELOW: usize = 16 * 1024;
/// Maximum bytes sent at once to a client with its own context, except for the last frame.
///
/// All of it is retained until written.
const EXCLUSIVE_CORK: usize = 16 * 1024;

/// Maximum header length of a server frame in bytes (RFC 6455 section 5.2).
const MAX_FRAME_HEADER: usize = 10;

impl WsSink {
    /// Creates the write half; `unsent` precedes the first frame.
    pub(crate) fn new(stream: WriteHalf, compressor: Option<Compressor>, unsent: Bytes) -> Self {
        let compressor = compressor.map(Box::new);
        let rest = (!unsent.is_empty()).then(|| Box::new(Rest::exclusive(unsent)));
        Self { stream, rest, unflushed: false, closed: false, moved: 0, compressor }
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>, batch: &mut VecDeque<Frame>) -> Poll<io::Result<()>> {
        if self.closed {
            // Pushed by a thread that had not yet seen the close.
            batch.clear();
        }
        loop {
            ready!(self.poll_rest(cx, batch))?;
            let Some(first) = batch.front() else { break };
            if matches!(self.compressor.as_deref(), Some(Compressor::Exclusive(_))) {
                ready!(self.poll_exclusive(cx, batch))?;
                continue;
            }
            let wire = shared(self.compressor.as_deref());
            let mut offered = Offered { frames: 1, bytes: 0, closes: false };
            let direct = if let Some(bytes) = compressed(wire, first)
                && (batch.len() == 1 || bytes.len() >= COPY_BELOW)
            {
                Some(Cow::Borrowed(bytes))
            } else if batch.len() == 1 && first.is_shared() || size(wire, first) >= COPY_BELOW {
                let rendered = first.rendered(WsWire::wire_key()).map(Cow::Borrowed);
                Some(rendered.unwrap_or_else(|| Cow::Owned(first.wire(&WsWire))))
            } else {
                None
            };
            let outcome = if let Some(bytes) = direct {
                offered.bytes = bytes.len();
                offered.closes = is_close(first);
                self.stream.poll_write(cx, &bytes)
            } else {
                with_write_buffer(|corked| {
                    offered = fill(wire, corked, batch);
                    self.stream.poll_write(cx, corked)
                })
            };
            let written = ready!(outcome)?;
            if written == offered.bytes {
                self.advance_whole(batch, &offered);
            } else {
                self.advance(batch, written)?;
            }
        }
        if self.unflushed {
            return self.stream.poll_flush(cx).map_ok(|()| self.unflushed = false);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the front of a batch for a client with its own context.
    ///
    /// Bytes compressed in a context must be sent, so the sink retains all unwritten bytes.
    fn poll_exclusive(&mut self, cx: &mut Context<'_>, batch: &mut VecDeque<Frame>) -> Poll<io::Result<()>> {
        let Some(Compressor::Exclusive(context)) = self.compressor.as_deref_mut() else {
            return Poll::Ready(Ok(()));
        };
        let (outcome, was_empty) = with_write_buffer(|corked| {
            while let Some(frame) = batch.front()
                && corked.len() < EXCLUSIVE_CORK
            {
                match frame.rendered(WsWire::wire_key()) {
                    // Frames of this wire only, such as a pong, are never compressed.
                    Some(bytes) if frame.messages().is_empty() => corked.extend_from_slice(bytes),
                    _ => context.append(frame, corked).map_err(|_| io::Error::other("compression failed"))?,
                }
                if is_close(frame) {
                    self.closed = true;
                    batch.clear();
                    break;
                }
                batch.pop_front();
            }
            let outcome = self.stream.poll_write(cx, corked);
            let written = match &outcome {
                Poll::Ready(Ok(written)) => *written,
                _ => 0,
            };
            self.unflushed = self.stream.buffers();
            let rest = &corked[written..];
            self.rest = (!rest.is_empty()).then(|| Box::new(Rest::exclusive(Bytes::copy_from_slice(rest))));
            Ok::<_, io::Error>((outcome, corked.is_empty()))
        })?;
        match ready!(outcome)? {
            0 if !was_empty => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Writes the rest of a partly written frame, together with the frames after it if all are small.
    fn poll_rest(&mut self, cx: &mut Context<'_>, batch: &mut VecDeque<Frame>) -> Poll<io::Result<()>> {
        while let Some(Rest { bytes: rest, .. }) = self.rest.as_deref_mut() {
            if rest.is_empty() {
                self.rest = None;
                break;
            }
            let is_exclusive = matches!(self.compressor.as_deref(), Some(Compressor::Exclusive(_)));
            let mut offered = Offered { frames: 0, bytes: rest.len(), closes: false };
            let outcome = if is_exclusive || batch.is_empty() || rest.len() >= COPY_BELOW {
                self.stream.poll_write(cx, rest)
            } else {
                with_write_buffer(|corked| {
                    corked.extend_from_slice(rest);
                    offered = fill(shared(self.compressor.as_deref()), corked, batch);
                    self.stream.poll_write(cx, corked)
                })
            };
            let written = ready!(outcome)?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_rest = written.min(rest.len());
            rest.advance(of_rest);
            self.moved = self.moved.wrapping_add(of_rest as u32);
            self.unflushed = self.stream.buffers();
            if !rest.is_empty() {
                continue;
            }
            self.rest = None;
            if written == offered.bytes {
                self.advance_whole(batch, &offered);
            } else if written > of_rest {
                self.advance(batch, written - of_rest)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Removes completely written frames from the batch.
    fn advance_whole(&mut self, batch: &mut VecDeque<Frame>, offered: &Offered) {
        self.unflushed = self.stream.buffers();
        if offered.closes {
            self.closed = true;
            return batch.clear();
        }
        Frame::recycle_all(batch.drain(..offered.frames));
    }

    /// Removes written frames from the batch, and retains the rest of a partly written one.
    fn advance(&mut self, batch: &mut VecDeque<Frame>, mut written: usize) -> io::Result<()> {
        let wire = shared(self.compressor.as_deref());
        if written == 0 && batch.front().is_some_and(|frame| wire_len(wire, frame) > 0) {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unflushed = self.stream.buffers();
        while let Some(frame) = batch.front() {
            let (len, closes) = (wire_len(wire, frame), is_close(frame));
            let is_cut = written < len;
            if is_cut && written == 0 {
                break;
            }
            let cut = is_cut.then(|| compressed(wire, frame).cloned().unwrap_or_else(|| frame.wire(&WsWire)));
            let frame = batch.pop_front();
            if let (Some(bytes), Some(frame)) = (cut, frame) {
                self.rest = Some(Box::new(Rest::of_frame(frame, &bytes, written)));
            }
            written = written.saturating_sub(len);
            if closes {
                self.closed = true;
                batch.clear();
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

    fn prefetch(&self) {
        self.stream.prefetch();
    }

    fn has_unsent(&self) -> bool {
        self.rest.is_some()
    }

    fn moved(&self) -> u64 {
        self.moved.into()
    }
}

/// The frames of one write.
struct Offered {
    frames: usize,
    bytes: usize,
    /// Whether the last of them is a close frame.
    closes: bool,
}

/// Copies the frames of one write from the front of the batch, behind what `corked` holds.
fn fill(wire: Option<&DeflateWire>, corked: &mut Vec<u8>, batch: &VecDeque<Frame>) -> Offered {
    let mut offered = Offered { frames: 0, bytes: 0, closes: false };
    for frame in batch {
        if wire.is_none()
            && let Some(message) = exclusive(frame)
        {
            let size = message.len() + MAX_FRAME_HEADER;
            if !corked.is_empty() && (corked.len() + size > CORK || size >= COPY_BELOW) {
                break;
            }
            put_message(corked, message);
            offered.frames += 1;
            continue;
        }
        let size = size(wire, frame);
        if !corked.is_empty() && (corked.len() + size > CORK || size >= COPY_BELOW) {
            break;
        }
        match compressed(wire, frame).or_else(|| frame.rendered(WsWire::wire_key())) {
            Some(bytes) => corked.extend_from_slice(bytes),
            // These bytes have no other user, so they are not cached.
            None if !frame.is_shared() => {
                frame.messages().iter().for_each(|message| put_message(corked, message));
            }
            None => corked.extend_from_slice(&frame.wire(&WsWire)),
        }
        offered.frames += 1;
        if is_close(frame) {
            offered.closes = true;
            break;
        }
    }
    offered.bytes = corked.len();
    offered
}

/// Returns the single message of an unshared and unrendered frame, such as an acknowledgement.
fn exclusive(frame: &Frame) -> Option<&Message> {
    match frame.messages() {
        [message] if !frame.is_shared() && frame.rendered(WsWire::wire_key()).is_none() => Some(message),
        _ => None,
    }
}

/// Returns the maximum size of a frame on this wire in bytes.
fn size(wire: Option<&DeflateWire>, frame: &Frame) -> usize {
    match compressed(wire, frame) {
        Some(bytes) => bytes.len(),
        None => frame.len() + MAX_FRAME_HEADER * frame.messages().len(),
    }
}

fn shared(compressor: Option<&Compressor>) -> Option<&DeflateWire> {
    match compressor {
        Some(Compressor::Shared(wire)) => Some(wire),
        _ => None,
    }
}

/// Returns the compressed form of a frame, if any.
fn compressed<'a>(wire: Option<&DeflateWire>, frame: &'a Frame) -> Option<&'a Bytes> {
    wire?.compressed(frame)
}

/// Returns the size of a frame on this wire in bytes; renders it only if it must be compressed.
fn wire_len(wire: Option<&DeflateWire>, frame: &Frame) -> usize {
    if let Some(bytes) = compressed(wire, frame) {
        return bytes.len();
    }
    match frame.messages() {
        [] => frame.rendered(WsWire::wire_key()).map_or(0, Bytes::len),
        messages => messages.iter().map(|message| crate::frame::frame_len(message.len())).sum(),
    }
}

/// Returns whether this is the last frame that a server sends (RFC 6455 section 5.5.1).
fn is_close(frame: &Frame) -> bool {
    frame.messages().is_empty()
        && frame.rendered(WsWire::wire_key()).is_some_and(|bytes| bytes.first() == Some(&CLOSE))
}

/// FIN and the opcode of a close frame.
const CLOSE: u8 = 0x80 | Opcode::Close as u8;
