//! Handlers: extractors, outcomes, registration and first poll.

pub(crate) mod call;
pub(crate) mod cloned;
pub(crate) mod deduplicated;
pub(crate) mod extract;
pub(crate) mod first_poll;
mod handled;
pub(crate) mod listening;
pub(crate) mod outcome;
pub(crate) mod serial;
pub(crate) mod signature;
