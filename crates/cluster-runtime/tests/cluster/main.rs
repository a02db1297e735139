//! Connections of several nodes over an engine in memory, on paused time.

#![allow(clippy::disallowed_methods, reason = "tests read the clock that they pause")]

mod confirming;
mod flow;
mod host;
mod life_cycle;
mod queries;
mod rig;
mod subscriptions;
