//! [`FrameSink`]: write half of a connection.

use std::collections::VecDeque;
use std::fmt;
use std::task::Context;

use crate::{ConnectionError, Frame};

/// Write half of a connection.
///
/// [`Connection::poll_open`](crate::Connection::poll_open) returns it and the [`Outbox`](crate::Outbox) holds it. The
/// outbox leases it to one writer at a time: a flusher, a sender that flushes the outbox, or the task that owns the
/// connection. It is called without any lock held, on any thread. Dropping the sink means that nothing more is written;
/// the outbox does so when it is closed.
///
/// # Wakers
///
/// Flushers and senders pass a waker that does nothing. When [`poll_send`](Self::poll_send) returns
/// [`Blocked`](Readiness::Blocked) to one of them, the outbox wakes the owner, which calls again with its own waker.
/// So a sink only has to register the waker of the latest call. A sink that returns [`Parked`](Readiness::Parked) is
/// called again when its owner is next polled, for example because a request has arrived.
///
/// # Examples
///
/// A sink that writes into a memory buffer of 8 bytes:
///
/// ```
/// use std::collections::VecDeque;
/// use std::sync::{Arc, Mutex};
/// use std::task::{Context, Waker};
///
/// use bytes::Bytes;
/// use roomcast_core::{ConnectionError, Frame, FrameSink, Readiness};
///
/// #[derive(Debug, Default)]
/// struct Pipe {
///     bytes: Vec<u8>,
///     writer: Option<Waker>, // woken when bytes are taken
/// }
///
/// #[derive(Debug, Default)]
/// struct Sink {
///     pipe: Arc<Mutex<Pipe>>,
///     rest: Bytes, // of a frame that is partly written
/// }
///
/// impl FrameSink for Sink {
///     fn poll_send(
///         &mut self,
///         cx: &mut Context<'_>,
///         batch: &mut VecDeque<Frame>,
///     ) -> Result<Readiness, ConnectionError> {
///         let mut pipe = self.pipe.lock().unwrap();
///         loop {
///             let taken = self.rest.split_to(self.rest.len().min(8 - pipe.bytes.len()));
///             pipe.bytes.extend_from_slice(&taken);
///             if !self.rest.is_empty() {
///                 pipe.writer = Some(cx.waker().clone());
///                 return Ok(Readiness::Blocked);
///             }
///             let Some(frame) = batch.pop_front() else { return Ok(Readiness::Ready) };
///             for message in frame.messages() {
///                 self.rest = Bytes::copy_from_slice(message.as_bytes()); // a `Wire` would share it
///             }
///         }
///     }
/// }
///
/// let mut sink = Sink::default();
/// let mut cx = Context::from_waker(Waker::noop());
/// let mut batch = VecDeque::from(["hello".into(), "world".into()]);
/// assert_eq!(sink.poll_send(&mut cx, &mut batch).unwrap(), Readiness::Blocked);
/// assert_eq!(std::mem::take(&mut sink.pipe.lock().unwrap().bytes), b"hellowor");
/// assert_eq!(sink.poll_send(&mut cx, &mut batch).unwrap(), Readiness::Ready);
/// assert_eq!(sink.pipe.lock().unwrap().bytes, b"ld");
/// ```
pub trait FrameSink: Send + fmt::Debug {
    /// Removes frames from the front of `batch` and writes them, as many as the carrier accepts now.
    ///
    /// With an empty `batch`, it only continues a partly written frame and reports the readiness. On
    /// [`Readiness::Ready`], `batch` is empty. Otherwise the frames that were not accepted stay in `batch`; a partly
    /// written frame is removed, and the sink keeps the rest. On `Blocked`, the waker of `cx` is registered to be woken
    /// when there is room. A flusher passes a waker that does nothing; the outbox then wakes the owner, which polls
    /// again.
    ///
    /// # Errors
    ///
    /// Returns an error if the carrier failed; the outbox is then closed with [`ConnectionError::reason`].
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError>;

    /// Prefetches the memory that the next [`poll_send`](Self::poll_send) reads first; changes nothing.
    ///
    /// A flusher calls it for several sinks before it writes to the first, so that their cache misses overlap. The sink
    /// itself is [prefetched](crate::prefetch) before; an implementation does it for the memory that the sink refers to.
    ///
    /// The default does nothing.
    fn prefetch(&self) {}

    /// Returns whether the sink of a new connection holds bytes that precede the first frame.
    ///
    /// The outbox asks once, when it gets the sink, and then calls [`poll_send`](Self::poll_send) soon, even without
    /// frames. An example is the HTTP response that opened the connection, which then shares a write with the first
    /// frames.
    ///
    /// The default returns `false`.
    fn has_unsent(&self) -> bool {
        false
    }

    /// Returns the maximum bytes of frames that the outbox joins into one frame.
    ///
    /// Consecutive events of broadcasts may arrive as one [`Frame`] of several messages, which is rendered once for all
    /// recipients. The messages then have at most this many bytes together, including 64 bytes for each. Return less if
    /// what the carrier sends at once is limited.
    ///
    /// The default has no limit; the outbox joins at most 16 KiB.
    fn max_joined(&self) -> usize {
        usize::MAX
    }

    /// Returns a counter of the bytes that the carrier sent after [`poll_send`](Self::poll_send) accepted them.
    ///
    /// Implement it for carriers that accept more at once than they write. An example is an HTTP response that is
    /// accepted complete and then written slice by slice while the sink is [`Parked`](Readiness::Parked). If the value
    /// differs from an earlier one of the same sink, bytes have left for the client since, so its stall clock restarts.
    /// If it is equal, none have, or the carrier holds none that it counts.
    ///
    /// The counter never decreases, but wraps around at 2⁶⁴: compare for inequality, or use `wrapping_sub`. It counts
    /// bytes as the carrier sends them, for example compressed. A carrier may count in steps of up to
    /// [`ResponseBody::SLICE`](crate::ResponseBody::SLICE), omit bodies that fit in one step, and count bytes that it
    /// drops when it fails. Bytes in the buffers of the operating system count as sent.
    ///
    /// May be called at any time and under a lock, so an implementation should only read an atomic.
    ///
    /// The default returns 0, for carriers whose only visible progress is acceptance in `poll_send`.
    fn moved(&self) -> u64 {
        0
    }
}

/// Whether a carrier accepts more bytes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "transports and drivers match every state")]
pub enum Readiness {
    /// The carrier accepts more.
    Ready,
    /// The carrier has no room; the registered waker is woken when it has.
    Blocked,
    /// There is nothing to write to until the owner receives it, such as the next GET of a polling client.
    Parked,
}
