//! Clock, ids, the last event, memory that threads reuse, cooperative yield and rate-limited logging.

pub(crate) mod clock;
pub(crate) mod coop;
pub(crate) mod header_interner;
pub(crate) mod ids;
pub(crate) mod last_event;
pub(crate) mod log_limit;
pub(crate) mod scratch;
