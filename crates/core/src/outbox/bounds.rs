//! Limits on the queued bytes of one client.

/// Bounds of an outbox in bytes, counted as bodies plus 64 for each frame.
///
/// Each is stored in 32 bits to keep outboxes small. A bound of 4 GiB or more means no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    limit: u32,
    max: u32,
}

impl Bounds {
    /// Default hard cap: 64 MiB.
    pub const DEFAULT_MAX: usize = 64 * 1024 * 1024;

    /// Creates bounds with a limit for stalled clients and a hard cap for all clients.
    ///
    /// A stalled client may be closed above the limit; no push exceeds the hard cap. A hard cap below the limit is
    /// raised to it.
    pub fn new(limit: usize, max: usize) -> Self {
        let bound = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self { limit: bound(limit), max: bound(max.max(limit)) }
    }

    /// Returns the bytes that may be queued for a stalled client before it can be closed as a slow consumer.
    pub fn limit(&self) -> usize {
        Self::bytes(self.limit)
    }

    /// Returns the hard cap: the bytes that may be queued for any client.
    pub fn max(&self) -> usize {
        Self::bytes(self.max)
    }

    fn bytes(bound: u32) -> usize {
        if bound == u32::MAX { usize::MAX } else { bound as usize }
    }
}

impl From<usize> for Bounds {
    /// Creates bounds with this limit and the default hard cap.
    fn from(limit: usize) -> Self {
        Self::new(limit, Self::DEFAULT_MAX)
    }
}
