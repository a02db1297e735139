//! What clients are given time for

use std::time::Duration;

use clap::Args;
use roomcast::{Config, Server};

use super::values::duration;

/// What clients are given time for
#[derive(Args, Debug)]
#[command(next_help_heading = "Times")]
pub(crate) struct Times {
    /// Milliseconds between a sign of life and the next ping
    #[arg(long, value_name = "MS", default_value_t = 25_000, env = "ROOMCAST_PING_INTERVAL")]
    ping_interval: u64,

    /// Milliseconds a client has to answer a ping
    #[arg(long, value_name = "MS", default_value_t = 20_000, env = "ROOMCAST_PING_TIMEOUT")]
    ping_timeout: u64,

    /// How long a client of Socket.IO has to join a namespace before it is closed
    #[arg(long, value_name = "TIME", default_value = "45s", value_parser = duration)]
    #[arg(env = "ROOMCAST_CONNECT_TIMEOUT")]
    connect_timeout: Duration,

    /// How long a client has to prove a better transport, before it stays where it was
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    #[arg(env = "ROOMCAST_UPGRADE_TIMEOUT")]
    upgrade_timeout: Duration,

    /// How long a client has to send the binary attachments that it announced, before it is closed
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    #[arg(env = "ROOMCAST_ATTACHMENT_TIMEOUT")]
    attachment_timeout: Duration,

    /// How long the body of a POST may take to come, before it is told 408 and its session ends
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    #[arg(env = "ROOMCAST_BODY_TIMEOUT")]
    body_timeout: Duration,

    /// How long a connection that is being closed has to take what waits for it, and to answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    #[arg(env = "ROOMCAST_CLOSE_TIMEOUT")]
    close_timeout: Duration,

    /// How long a client with more than --outbox waiting may stall before it is closed
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    #[arg(env = "ROOMCAST_STALL_TIMEOUT")]
    stall_timeout: Duration,

    /// How long the headers of a request, or a TLS handshake, may take to come
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    #[arg(env = "ROOMCAST_HEADER_TIMEOUT")]
    header_timeout: Duration,

    /// How long a connection may stay open without a request; longer than a load balancer keeps it
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = duration)]
    #[arg(env = "ROOMCAST_KEEP_ALIVE_TIMEOUT")]
    keep_alive_timeout: Duration,
}

impl Times {
    /// Those that hold wherever the server runs
    pub(crate) fn config(&self, config: Config) -> Config {
        config.timeouts(|timeouts| {
            timeouts
                .ping_interval(Duration::from_millis(self.ping_interval))
                .ping_timeout(Duration::from_millis(self.ping_timeout))
                .connect_timeout(self.connect_timeout)
                .upgrade_timeout(self.upgrade_timeout)
                .attachment_timeout(self.attachment_timeout)
                .body_timeout(self.body_timeout)
                .close_timeout(self.close_timeout)
                .stall_timeout(self.stall_timeout)
        })
    }

    /// Those of HTTP
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
        options.times.config(Config::new())
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        assert_eq!(config(&[]), Config::new());
    }

    #[test]
    fn each_is_set_by_its_flag() {
        let five = Duration::from_secs(5);
        for (flag, expected) in [
            ("--ping-interval=5000", Config::new().timeouts(|timeouts| timeouts.ping_interval(five))),
            ("--ping-timeout=5000", Config::new().timeouts(|timeouts| timeouts.ping_timeout(five))),
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
