//! Delivery policies, and the outcome of a push.

/// Delivery guarantee of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::exhaustive_enums, reason = "queues match every kind")]
pub enum Delivery {
    /// The frame is sent, or the client is closed.
    #[default]
    Reliable,
    /// The frame is dropped if the connection cannot accept it now.
    Volatile,
    /// Protocol packet or acknowledgement; no overflow policy drops it.
    Protocol,
}

/// Policy for a [`Delivery::Reliable`] frame when the client has stalled and the limit is reached.
///
/// No policy applies to a client that reads: while its carrier accepts bytes, every frame is queued. Remaining frames
/// keep their order, and protocol packets and acknowledgements are never dropped. If dropping older frames would not
/// make enough room, the new frame is dropped instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(clippy::exhaustive_enums, reason = "queues match every policy")]
pub enum Overflow {
    /// Uses the policy [set on the outbox](crate::Outbox::set_overflow), by default `Close`.
    #[default]
    Inherit,
    /// Queues the frame; the client is closed as a slow consumer if it makes no progress for too long.
    Close,
    /// Drops the new frame.
    DropNewest,
    /// Drops the oldest frames until the new one fits.
    DropOldest,
    /// Replaces queued frames with the same [key](crate::Frame::key), whether or not there is room.
    KeepLatest,
}

/// Outcome of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "callers match every outcome")]
pub enum PushOutcome {
    /// The frame was queued.
    Queued,
    /// The frame was queued behind a backlog at high water.
    ///
    /// The pusher has to call [`Outbox::flush_backlog`](crate::Outbox::flush_backlog) once it holds no lock.
    Backlogged,
    /// The frame was queued, and this many older frames were dropped for it.
    Displaced(u32),
    /// The frame was dropped, as its delivery guarantee or the overflow policy allows.
    Dropped,
    /// The frame was not queued: the outbox is closed.
    Closed,
    /// The frame was not queued: it exceeded the hard cap, and this push closed the outbox.
    Overflowed,
}

/// Depth of an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct QueueDepth {
    /// Queued frames, without those in flight.
    pub frames: usize,
    /// Bytes of these frames, as counted against the limit.
    pub bytes: usize,
}
