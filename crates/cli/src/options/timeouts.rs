//! Timeouts of clients and connections.

use std::time::Duration;

use clap::Args;
use roomcast::{Config, Server};

use super::units::time;

/// Timeouts of clients and connections.
#[derive(Args, Debug)]
#[command(next_help_heading = "Timeouts")]
pub(crate) struct Timeouts {
    /// Time from the client's last activity to the next ping
    #[arg(long, value_name = "TIME", default_value = "25s", value_parser = time)]
    #[arg(env = "ROOMCAST_PING_INTERVAL")]
    ping_interval: Duration,

    /// Time to wait for the answer to a ping
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = time)]
    #[arg(env = "ROOMCAST_PING_TIMEOUT")]
    ping_timeout: Duration,

    /// Time for a Socket.IO client to join a namespace before it is closed
    #[arg(long, value_name = "TIME", default_value = "45s", value_parser = time)]
    #[arg(env = "ROOMCAST_CONNECT_TIMEOUT")]
    connect_timeout: Duration,

    /// Time to complete a transport upgrade; after it the session stays on its first transport
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    #[arg(env = "ROOMCAST_UPGRADE_TIMEOUT")]
    upgrade_timeout: Duration,

    /// Time for a client to send the binary attachments of an event before it is closed
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    #[arg(env = "ROOMCAST_ATTACHMENT_TIMEOUT")]
    attachment_timeout: Duration,

    /// Time to receive the body of a POST; after it the request gets 408 and the session is closed
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    #[arg(env = "ROOMCAST_BODY_TIMEOUT")]
    body_timeout: Duration,

    /// Time for a closing connection to take its queued messages and complete the close handshake
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    #[arg(env = "ROOMCAST_CLOSE_TIMEOUT")]
    close_timeout: Duration,

    /// Time without progress after which a client with more than --outbox queued is closed
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    #[arg(env = "ROOMCAST_STALL_TIMEOUT")]
    stall_timeout: Duration,

    /// Time to receive request headers, and to complete a TLS handshake
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    #[arg(env = "ROOMCAST_HEADER_TIMEOUT")]
    header_timeout: Duration,

    /// Time an idle HTTP connection stays open; set it above the load balancer's idle timeout
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = time)]
    #[arg(env = "ROOMCAST_KEEP_ALIVE_TIMEOUT")]
    keep_alive_timeout: Duration,
}

impl Timeouts {
    /// Applies the flags to `config`.
    pub(crate) fn config(&self, config: Config) -> Config {
        config.timeouts(|timeouts| {
            timeouts
                .ping_interval(self.ping_interval)
                .ping_timeout(self.ping_timeout)
                .connect_timeout(self.connect_timeout)
                .upgrade_timeout(self.upgrade_timeout)
                .attachment_timeout(self.attachment_timeout)
                .body_timeout(self.body_timeout)
                .close_timeout(self.close_timeout)
                .stall_timeout(self.stall_timeout)
        })
    }

    /// Applies the HTTP timeouts to `server`.
    pub(crate) fn server(&self, server: Server) -> Server {
        server.header_timeout(self.header_timeout).keep_alive_timeout(self.keep_alive_timeout)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::Options;

    fn config(flags: &[&str]) -> Config {
        let options = Options::try_parse_from([&["serve"], flags].concat()).expect("valid flags");
        options.timeouts.config(Config::new())
    }

    #[test]
    fn matches_library_defaults() {
        assert_eq!(config(&[]), Config::new());
    }

    #[test]
    fn flag_sets_its_timeout() {
        let five = Duration::from_secs(5);
        for (flag, expected) in [
            ("--ping-interval=5s", Config::new().timeouts(|timeouts| timeouts.ping_interval(five))),
            ("--ping-timeout=5s", Config::new().timeouts(|timeouts| timeouts.ping_timeout(five))),
            ("--connect-timeout=5s", Config::new().timeouts(|timeouts| timeouts.connect_timeout(five))),
            ("--stall-timeout=5s", Config::new().timeouts(|timeouts| timeouts.stall_timeout(five))),
            ("--upgrade-timeout=5s", Config::new().timeouts(|timeouts| timeouts.upgrade_timeout(five))),
            ("--attachment-timeout=5s", Config::new().timeouts(|timeouts| timeouts.attachment_timeout(five))),
            ("--body-timeout=5s", Config::new().timeouts(|timeouts| timeouts.body_timeout(five))),
            ("--close-timeout=5s", Config::new().timeouts(|timeouts| timeouts.close_timeout(five))),
        ] {
            assert_eq!(config(&[flag]), expected, "{flag}");
            assert_ne!(config(&[flag]), Config::new(), "{flag}");
        }
    }
}
