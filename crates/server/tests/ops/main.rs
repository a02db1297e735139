//! Operating the server: limits, proxies, origins, draining, health checks and metrics.
#![allow(clippy::disallowed_methods, reason = "tests read a clock")]

mod admin;
mod drain;
mod hangups;
mod limits;
mod listen;
mod opening;
mod origin;
mod proxy;
mod repeated_polls;
mod support;
