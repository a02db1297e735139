//! Process state: settings, limits, memory budget, metrics, flushers and timers.

pub(crate) mod budget;
pub(crate) mod config;
pub(crate) mod hooks;
pub(crate) mod lifecycle;
pub(crate) mod limit;
pub(crate) mod limits;
pub(crate) mod metrics;
pub(crate) mod origin_check;
pub(crate) mod pace;
pub(crate) mod runtime;
pub(crate) mod timers;
