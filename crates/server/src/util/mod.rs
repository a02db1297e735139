//! Clock, ids, event names, memory that threads reuse, cooperative yield and rate-limited logging.

pub(crate) mod clock;
pub(crate) mod coop;
pub(crate) mod heads;
pub(crate) mod ids;
pub(crate) mod log_limit;
pub(crate) mod names;
pub(crate) mod scratch;
