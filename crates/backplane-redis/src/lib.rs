//! Message engine of Roomcast clusters on Redis pub/sub.
mod config;
mod connection;
mod metrics;
mod native;

pub use config::{ConfigError, RedisConfig};
pub use metrics::RedisMetrics;
pub use native::RedisBackplane;
