//! Amount of data that was written to carriers

use std::ops::AddAssign;

/// What was handed to carriers
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Written {
    /// Frames, those of the protocol and of the carrier included
    pub frames: u64,
    /// Bytes of their messages, without what the carrier puts around them
    pub bytes: u64,
}

impl AddAssign for Written {
    fn add_assign(&mut self, other: Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
    }
}
