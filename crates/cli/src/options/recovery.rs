//! Settings of connection state recovery.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use roomcast::Config;

use super::units::{size, time};

/// Settings of connection state recovery.
#[derive(Args, Debug)]
#[command(next_help_heading = "Recovery")]
pub(crate) struct Recovery {
    /// Restore rooms and missed events of clients that reconnect (connection state recovery)
    #[arg(long, env = "ROOMCAST_RECOVERY")]
    #[arg(value_parser = BoolishValueParser::new())]
    recovery: bool,

    /// Time after a disconnect in which a client can recover
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = time, requires = "recovery")]
    #[arg(env = "ROOMCAST_RECOVERY_TIME")]
    recovery_time: Duration,

    /// Run connect middlewares again for recovered clients
    #[arg(long, requires = "recovery", env = "ROOMCAST_RECOVERY_ASKS_MIDDLEWARES")]
    #[arg(value_parser = BoolishValueParser::new())]
    recovery_asks_middlewares: bool,

    /// Events kept per namespace; a client that missed a dropped one cannot recover
    #[arg(long, value_name = "N", default_value = "10000", requires = "recovery")]
    #[arg(env = "ROOMCAST_RECOVERY_LOG_EVENTS")]
    recovery_log_events: NonZeroUsize,

    /// Total size of events kept per namespace
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = size::<usize>)]
    #[arg(requires = "recovery")]
    #[arg(env = "ROOMCAST_RECOVERY_LOG_BYTES")]
    recovery_log_bytes: usize,

    /// Disconnected clients kept per namespace; beyond it the oldest are dropped
    #[arg(long, value_name = "N", default_value = "10000", requires = "recovery")]
    #[arg(env = "ROOMCAST_RECOVERY_SESSIONS")]
    recovery_sessions: NonZeroUsize,

    /// Total size of rooms and data kept for them per namespace
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = size::<usize>)]
    #[arg(requires = "recovery")]
    #[arg(env = "ROOMCAST_RECOVERY_SESSION_BYTES")]
    recovery_session_bytes: usize,
}

impl Recovery {
    /// Returns the time in which a client can recover; `None` without recovery.
    #[cfg(feature = "redis")]
    pub(crate) fn time(&self) -> Option<Duration> {
        self.recovery.then_some(self.recovery_time)
    }

    /// Applies the flags to `config`.
    pub(crate) fn config(&self, config: Config) -> Config {
        if !self.recovery {
            return config;
        }
        config.recovery(|recovery| {
            recovery
                .max_disconnection(self.recovery_time)
                .skip_middlewares(!self.recovery_asks_middlewares)
                .max_log_events(self.recovery_log_events.get())
                .max_log_bytes(self.recovery_log_bytes)
                .max_sessions(self.recovery_sessions.get())
                .max_session_bytes(self.recovery_session_bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::Options;

    #[test]
    fn is_off_with_library_defaults() {
        let parse = |flags: &[&str]| Options::try_parse_from([&["serve"], flags].concat());
        let config = |flags: &[&str]| parse(flags).unwrap().recovery.config(Config::new());
        assert_eq!(config(&[]), Config::new());
        assert_eq!(config(&["--recovery"]), Config::new().recovery(|recovery| recovery));
        assert!(parse(&["--recovery-time=5s"]).is_err());
    }
}
