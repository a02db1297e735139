//! End-to-end flow control: reading clients lose nothing, and clients that do not read are closed in time.
//!
//! Every case runs over a matrix of servers and transports ([`matrix`](support::matrix)). `FLOW_MATRIX=full` runs each
//! case with all combinations and loads, which takes minutes.

#![allow(clippy::disallowed_methods, reason = "it waits on the wall clock, and blocks threads on purpose")]

mod bursts;
mod client;
mod events;
mod letting_go;
mod receipts;
mod recovering;
mod senders;
mod stalls;
mod support;
