//! Room-change hooks and presence

pub(crate) mod on_change;
pub(crate) mod presence;
