//! What is known of a session outside the task that drives it

pub(crate) mod endpoint;
pub(crate) mod inbox;
pub(crate) mod recovery;
pub(crate) mod shared;
pub(crate) mod unjoined;
