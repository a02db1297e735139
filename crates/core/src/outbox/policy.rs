//! What may become of a frame, and what became of it

/// What may become of a frame that a client does not take
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// Sent, or the client is closed as a slow consumer
    #[default]
    Reliable,
    /// Dropped if the client cannot take it now
    Volatile,
    /// A packet of the protocol itself, or an answer: never dropped for the budget's sake, yet bounded
    Protocol,
}

/// What happens when a [`Delivery::Reliable`] frame does not fit
///
/// In each case what remains keeps its order, and protocol packets and answers are not dropped. Nothing is dropped
/// for a frame that would not fit even so; that frame is dropped itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Overflow {
    /// What the outbox was [told](crate::Outbox::set_overflow) to do, which is `Close` unless it was told otherwise
    #[default]
    Inherit,
    /// The client is closed as a slow consumer
    Close,
    /// The frame is dropped
    DropNewest,
    /// Frames that wait longest are dropped until it fits
    DropOldest,
    /// A frame that waits under the same [key](crate::Frame::key) is dropped, whether or not there is room
    KeepLatest,
}

/// What became of a push
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It waits, or is on its way
    Queued,
    /// It waits, and this many older frames were dropped for it
    Displaced(u32),
    /// It was dropped, as its delivery allows
    Dropped,
    /// The client is gone, or has just been closed because this did not fit
    Closed,
}

/// What waits in an outbox
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Frames
    pub frames: usize,
    /// Bytes, as counted against the limit
    pub bytes: usize,
}
