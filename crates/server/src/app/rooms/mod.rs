//! Rooms: hooks for their changes, and presence

pub(crate) mod on_change;
pub(crate) mod presence;
