//! Which clients may come back, and what is kept for them

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use roomcast::config::RecoveryConfig;

use super::values::duration;

/// Which clients may come back, and what is kept for them
#[derive(Args, Debug)]
#[command(next_help_heading = "Recovery of clients whose connection broke")]
pub(crate) struct Recovery {
    /// Let clients whose connection broke come back with their rooms and what they missed
    #[arg(long, env = "ROOMCAST_RECOVERY")]
    #[arg(value_parser = BoolishValueParser::new())]
    recovery: bool,

    /// How long after that they may come back
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration, requires = "recovery")]
    #[arg(env = "ROOMCAST_RECOVERY_TIME")]
    recovery_time: Duration,

    /// Ask the middlewares again about clients that come back
    #[arg(long, requires = "recovery", env = "ROOMCAST_RECOVERY_ASKS_MIDDLEWARES")]
    #[arg(value_parser = BoolishValueParser::new())]
    recovery_asks_middlewares: bool,

    /// Events kept for them in each namespace; when there are more, those who missed the oldest begin anew
    #[arg(long, value_name = "N", default_value = "10000", requires = "recovery")]
    #[arg(env = "ROOMCAST_RECOVERY_LOG_EVENTS")]
    recovery_log_events: NonZeroUsize,

    /// Bytes of those events
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024 * 1024, requires = "recovery")]
    #[arg(env = "ROOMCAST_RECOVERY_LOG_BYTES")]
    recovery_log_bytes: usize,

    /// Clients that are kept in each namespace after they went away; with more, the oldest are forgotten
    #[arg(long, value_name = "N", default_value = "10000", requires = "recovery")]
    #[arg(env = "ROOMCAST_RECOVERY_SESSIONS")]
    recovery_sessions: NonZeroUsize,

    /// Bytes of their rooms and data
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024 * 1024, requires = "recovery")]
    #[arg(env = "ROOMCAST_RECOVERY_SESSION_BYTES")]
    recovery_session_bytes: usize,
}

impl Recovery {
    /// `None` if it is off
    pub(crate) fn settings(&self) -> Option<RecoveryConfig> {
        self.recovery.then(|| {
            RecoveryConfig::new()
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
    fn it_is_off_unless_asked_for_and_then_as_the_library_has_it() {
        let parse = |flags: &[&str]| Options::try_parse_from([&["serve"], flags].concat());
        assert_eq!(parse(&[]).unwrap().recovery.settings(), None);
        assert_eq!(parse(&["--recovery"]).unwrap().recovery.settings(), Some(RecoveryConfig::default()));
        assert!(parse(&["--recovery-time=5s"]).is_err());
    }
}
