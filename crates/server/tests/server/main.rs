//! Integration tests with clients of every kind, through the public API only.

mod acks;
mod answering;
mod closing;
mod compression;
mod deduplicated;
mod dynamic;
mod emitting;
mod extract;
mod first_clients;
mod handlers;
mod hooks;
mod leaving;
mod limits;
mod listening;
mod middleware;
mod model;
#[cfg(unix)]
mod mounted;
mod namespaces;
mod nodes;
mod nodes_presence;
mod order;
mod outgoing;
mod outside;
mod patterns;
mod plain_auth;
mod recovery;
mod registering;
mod retries;
mod rooms;
mod serial;
mod settings;
mod slow;
mod slow_polls;
mod slow_recovery;
mod stored;
#[allow(dead_code, unreachable_pub, reason = "a toolbox: not every test needs every tool")]
mod support;
mod takeover;
#[cfg(feature = "tls")]
mod tls;
mod transports;
mod typed;
mod upgrade;
