//! Requests of a polling client, valid and invalid.

mod client;
mod closing;
mod gets;
mod posts;
mod progress;
