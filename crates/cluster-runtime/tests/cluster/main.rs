//! Connections of several nodes over an engine in memory, on paused time.

mod confirming;
mod flow;
mod host;
mod life_cycle;
mod queries;
mod rig;
mod subscriptions;
