//! Timeouts that clients and connections are given.

use std::time::Duration;

use clap::Args;
use roomcast::{Config, Server};

use super::units::time;

/// Timeouts that clients and connections are given.
#[derive(Args, Debug)]
#[command(next_help_heading = "Timeouts")]
pub(crate) struct Timeouts {
    /// Time between the last sign of life of a client and the next ping
    #[arg(long, value_name = "TIME", default_value = "25s", value_parser = time)]
    #[arg(env = "ROOMCAST_PING_INTERVAL")]
    ping_interval: Duration,

    /// Time a client has to answer a ping
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = time)]
    #[arg(env = "ROOMCAST_PING_TIMEOUT")]
    ping_timeout: Duration,

    /// Time a Socket.IO client has to join a namespace before it is closed
    #[arg(long, value_name = "TIME", default_value = "45s", value_parser = time)]
    #[arg(env = "ROOMCAST_CONNECT_TIMEOUT")]
    connect_timeout: Duration,

    /// Time a client has to prove a better transport; after that its session stays on the first
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    #[arg(env = "ROOMCAST_UPGRADE_TIMEOUT")]
    upgrade_timeout: Duration,

    /// Time a client has to send the binary attachments it announced, before it is closed
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    #[arg(env = "ROOMCAST_ATTACHMENT_TIMEOUT")]
    attachment_timeout: Duration,

    /// Time in which the body of a POST must arrive; after that it is answered with 408 and its session ends
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    #[arg(env = "ROOMCAST_BODY_TIMEOUT")]
    body_timeout: Duration,

    /// Time a closing connection has to take what is queued for it, and to answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    #[arg(env = "ROOMCAST_CLOSE_TIMEOUT")]
    close_timeout: Duration,

    /// Time a client with more than --outbox queued may stall before it is closed
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    #[arg(env = "ROOMCAST_STALL_TIMEOUT")]
    stall_timeout: Duration,

    /// Time in which the headers of a request, or a TLS handshake, must arrive
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    #[arg(env = "ROOMCAST_HEADER_TIMEOUT")]
    header_timeout: Duration,

    /// Time a connection may stay open without a request; set it longer than that of a load balancer
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = time)]
    #[arg(env = "ROOMCAST_KEEP_ALIVE_TIMEOUT")]
    keep_alive_timeout: Duration,
}

impl Timeouts {
    /// Returns the settings with those of the flags.
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

    /// Returns the server with the times of HTTP.
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
        let options = Options::try_parse_from([&["serve"], flags].concat()).expect("flags that there are");
        options.timeouts.config(Config::new())
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        assert_eq!(config(&[]), Config::new());
    }

    #[test]
    fn each_is_set_by_its_flag() {
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
