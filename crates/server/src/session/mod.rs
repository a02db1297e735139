//! Session state outside the driver task.

pub(crate) mod endpoint;
pub(crate) mod inbox;
pub(crate) mod recovery;
pub(crate) mod shared;
pub(crate) mod unjoined;
