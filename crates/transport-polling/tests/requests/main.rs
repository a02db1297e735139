//! The requests of a polling client, well-behaved and otherwise

mod client;
mod closing;
mod gets;
mod posts;
mod progress;
