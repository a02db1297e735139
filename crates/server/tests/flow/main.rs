//! Flow control from end to end: a client that reads loses nothing, and a client that does not read is closed in time
//!
//! Every case runs over a matrix of servers and transports ([`matrix`](support::matrix)). `FLOW_MATRIX=full` tries
//! each case with all of them and in all sizes, which takes minutes.

#![allow(
    clippy::disallowed_methods,
    reason = "it waits by the clock on the wall, and blocks threads on purpose"
)]

mod bursts;
mod client;
mod events;
mod letting_go;
mod receipts;
mod recovering;
mod senders;
mod stalls;
mod support;
