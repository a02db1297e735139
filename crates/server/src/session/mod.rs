//! Session state outside the driver task.

pub(crate) mod endpoint;
pub(crate) mod mailbox;
pub(crate) mod pending_sessions;
pub(crate) mod recovery;
pub(crate) mod shared;
