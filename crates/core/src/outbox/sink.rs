//! The write half of a connection, as an outbox sees it

use std::collections::VecDeque;
use std::fmt;
use std::task::Context;

use crate::{ConnectionError, Frame};

/// The write half of a connection.
///
/// [`Connection::poll_open`](crate::Connection::poll_open) returns it, the [`Outbox`](crate::Outbox) holds it, and it is lent to
/// one writer at a time: a flusher, a sender that relieves the outbox, or the task that owns the connection. It is called
/// without any lock held, on any thread. Dropping it says that nothing more is written; the outbox does so when it is closed.
///
/// # Wakers
///
/// Flushers and senders pass a waker that does nothing. When [`poll_send`](Self::poll_send) returns
/// [`Blocked`](Readiness::Blocked) to one of them, the outbox wakes the owner, which calls again with its own waker. So it is
/// enough to register the waker of each call, in place of the one before. A sink that returns [`Parked`](Readiness::Parked) is
/// called again when its owner is next polled, for example because a request has arrived.
///
/// # Examples
///
/// A sink that writes into memory and has room for 8 bytes until they are taken:
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
    /// Takes frames from the front of `batch` and hands their bytes to the carrier, as many as it takes now
    ///
    /// An empty `batch` asks only to go on with a frame that was cut short, and for the readiness. On
    /// [`Readiness::Ready`] `batch` is empty. On any other answer what was not taken stays in `batch`; a frame of
    /// which a part was written is taken, and the sink keeps the rest. On `Blocked` the task of `cx` is registered
    /// to be woken when there is room; a flusher passes a waker that does nothing, and then wakes the owner, who
    /// asks again.
    ///
    /// # Errors
    /// When the carrier is broken; the outbox is then closed with [`ConnectionError::reason`].
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError>;

    /// Looks at the memory that the next [`poll_send`](Self::poll_send) needs first, and changes nothing
    ///
    /// A flusher that is about to write to several calls it for all of them, so that the processor fetches side by
    /// side what it would otherwise wait for one by one.
    ///
    /// Default: does nothing.
    fn prefetch(&self) {}

    /// Returns a counter of bytes that the carrier has moved on since [`poll_send`](Self::poll_send) took them.
    ///
    /// For carriers that take more at once than they write, such as an HTTP response that is taken complete and then
    /// written slice by slice while the sink is [`Parked`](Readiness::Parked). A value that differs from an earlier
    /// one of the same sink means that bytes have left for the client since, so its stall clock starts again. An equal
    /// value means that none have, or that the carrier holds none that it counts.
    ///
    /// The counter never decreases, but wraps around at 2⁶⁴: compare for inequality, or use `wrapping_sub`. It counts
    /// bytes as the carrier sends them, for example compressed. A carrier may count in steps of up to
    /// [`ResponseBody::SLICE`](crate::ResponseBody::SLICE), leave out what it takes in one such step, and count bytes
    /// that it drops when it breaks. Bytes in the buffers of the operating system count as moved.
    ///
    /// May be called at any time, under a lock; an implementation reads an atomic or the like.
    ///
    /// Default: 0, for carriers whose acceptance in `poll_send` is all the progress that can be seen.
    fn moved(&self) -> u64 {
        0
    }
}

/// Whether a carrier can take more now
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "transports and drivers match every state")]
pub enum Readiness {
    /// It can
    Ready,
    /// It has no room; the owner is woken, or asks to be, when there is
    Blocked,
    /// There is nothing to write to until the owner is handed something, such as the next GET of a polling client
    Parked,
}
