//! Sessions in virtual time
#![allow(clippy::disallowed_methods, reason = "the clock is that of the runtime, which is paused")]

#[allow(dead_code, reason = "what one test needs")]
mod client;
mod pauses;
