//! What every layer may use: the clock, ids, names, giving way, and a log that nobody can flood

pub(crate) mod clock;
pub(crate) mod coop;
pub(crate) mod heads;
pub(crate) mod ids;
pub(crate) mod log_limit;
pub(crate) mod names;
