//! How much may wait for one client

/// The bounds of an outbox, in bytes: bodies plus 64 for each frame.
///
/// Kept in 32 bits each, since every client has an outbox: a bound of 4 GiB or more is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    limit: u32,
    max: u32,
}

impl Bounds {
    /// The hard cap where none is given: 64 MiB.
    pub const DEFAULT_MAX: usize = 64 * 1024 * 1024;

    /// Bounds with a limit from which a stalled client may be closed, and a hard cap that is never passed.
    ///
    /// A hard cap below the limit is raised to it.
    pub fn new(limit: usize, max: usize) -> Self {
        let bound = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self { limit: bound(limit), max: bound(max.max(limit)) }
    }

    /// Bytes that may wait for a stalled client before it can be closed as a slow consumer.
    pub fn limit(&self) -> usize {
        Self::bytes(self.limit)
    }

    /// Bytes that may wait for any client.
    pub fn max(&self) -> usize {
        Self::bytes(self.max)
    }

    fn bytes(bound: u32) -> usize {
        if bound == u32::MAX { usize::MAX } else { bound as usize }
    }
}

impl From<usize> for Bounds {
    /// Bounds with this limit and the default hard cap.
    fn from(limit: usize) -> Self {
        Self::new(limit, Self::DEFAULT_MAX)
    }
}
