//! The write half of a connection, as an outbox sees it

use std::collections::VecDeque;
use std::fmt;
use std::task::Context;

use crate::{ConnectionError, Frame};

/// The write half of a connection
///
/// Held by the [`Outbox`](crate::Outbox) and lent to one writer at a time. It is called without any lock held.
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
