//! Amount of data written to carriers.

use std::ops::AddAssign;

/// Amount of data that carriers accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WriteStats {
    /// Frames, including protocol and carrier frames.
    pub frames: u64,
    /// Message bytes, without the carrier's framing.
    pub bytes: u64,
}

impl AddAssign for WriteStats {
    fn add_assign(&mut self, other: Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
    }
}
