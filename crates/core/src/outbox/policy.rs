//! Delivery policies, and the outcome of a push

/// How hard an outbox tries to deliver a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::exhaustive_enums, reason = "queues match every kind")]
pub enum Delivery {
    /// The frame is sent, or the client is closed.
    #[default]
    Reliable,
    /// The frame is dropped if the client cannot take it now.
    Volatile,
    /// A packet of the protocol or an acknowledgement: no overflow policy drops it.
    Protocol,
}

/// What happens to a [`Delivery::Reliable`] frame when the client has stalled with the limit reached.
///
/// A client that reads never meets a policy: while its carrier accepts bytes, everything is queued. In each case the
/// remaining frames keep their order, and protocol packets and acknowledgements are kept. Nothing is dropped for a
/// frame that would not fit even then; that frame is dropped itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(clippy::exhaustive_enums, reason = "queues match every policy")]
pub enum Overflow {
    /// The policy [set on the outbox](crate::Outbox::set_overflow), by default `Close`.
    #[default]
    Inherit,
    /// The frame is queued; the client is closed as a slow consumer if it makes no progress for too long.
    Close,
    /// The frame is dropped.
    DropNewest,
    /// The oldest frames are dropped until the new one fits.
    DropOldest,
    /// A waiting frame with the same [key](crate::Frame::key) is replaced, whether or not there is room.
    KeepLatest,
}

/// The outcome of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "callers match every outcome")]
pub enum Pushed {
    /// The frame waits, or is being written.
    Queued,
    /// The frame waits behind a backlog at high water: once no lock is held, call
    /// [`Outbox::relieve`](crate::Outbox::relieve).
    Backlogged,
    /// The frame waits, and this many older frames were dropped for it.
    Displaced(u32),
    /// The frame was dropped, as its delivery or the overflow policy allows.
    Dropped,
    /// The frame was not queued: the outbox is closed.
    Closed,
    /// The frame was not queued, and this push closed the outbox: more than its hard cap would have waited.
    Overflowed,
}

/// The depth of an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Waiting {
    /// Frames that wait, without those a writer has in hand
    pub frames: usize,
    /// Their bytes, as counted against the limit
    pub bytes: usize,
}
