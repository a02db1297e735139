//! Validation of settings when the server is built.

use std::time::Duration;

use roomcast_transport_ws::close::is_sendable;

use crate::app::error::ConfigError;
use crate::host::config::Config;
use crate::host::origin_check;
use crate::session::endpoint::Endpoint;

/// Longest time that a Socket.IO client can wait for a ping, in milliseconds.
///
/// Clients use one timer for the sum of ping interval and timeout. JavaScript timers are signed 32-bit numbers; a timer
/// that overflows fires at once.
const LONGEST_TIMER_MS: u128 = (1 << 31) - 1;

/// Validates the settings and normalises origins for comparison.
///
/// # Errors
/// Returns the first setting with which no client could be served, or which could never have an effect.
pub(crate) fn settings(config: &mut Config) -> Result<(), ConfigError> {
    let numbers = [
        ("max_payload", config.limits.max_payload, "no message would fit; allow at least 1 byte"),
        (
            "max_fragments",
            config.limits.max_fragments as usize,
            "no WebSocket message would be accepted; allow at least 1",
        ),
        (
            "outbox_limit",
            config.limits.outbox_limit,
            "nothing could wait to be sent to a client; allow at least 1 byte",
        ),
        ("outbox_max", config.limits.outbox_max, "every emit would close its client; allow at least 1 byte"),
        ("max_handlers", config.limits.max_handlers, "no handler would ever run; allow at least 1"),
        (
            "max_namespaces",
            config.limits.max_namespaces,
            "no client could join a namespace; allow at least 1",
        ),
        (
            "max_requests",
            config.limits.max_requests,
            "no request of a session would be accepted; allow at least 1",
        ),
        ("max_sessions", config.limits.max_sessions, "no session could be opened; allow at least 1"),
        (
            "max_connections_per_address",
            config.limits.max_connections_per_address.unwrap_or(usize::MAX),
            "no client could connect; allow at least 1, or leave it unset for no limit",
        ),
    ];
    at_least_one(&numbers)?;
    for (setting, time) in
        [("ping_interval", config.timeouts.ping_interval), ("ping_timeout", config.timeouts.ping_timeout)]
    {
        if time < Duration::from_millis(1) {
            return Err(ConfigError::new(setting, "is below 1 ms: every client would be closed at once"));
        }
    }
    let silence = config.timeouts.ping_interval.saturating_add(config.timeouts.ping_timeout).as_millis();
    if silence > LONGEST_TIMER_MS {
        let reason = format!(
            "and ping_timeout are {silence} ms together, but clients cannot wait for more than {LONGEST_TIMER_MS} ms \
             (24.8 days) and would disconnect at once"
        );
        return Err(ConfigError::new("ping_interval", reason));
    }
    if config.timeouts.connect_timeout.is_zero() {
        return Err(ConfigError::new(
            "connect_timeout",
            "is 0: every client of Socket.IO would be closed at once",
        ));
    }
    if config.transports.as_ref().is_some_and(Vec::is_empty) {
        return Err(ConfigError::new("transports", "is empty: no client could connect; name at least one"));
    }
    if !is_sendable(config.websocket.drain_close_code) {
        let reason = format!(
            "is {}, which is not valid in a close frame; use 1001 or 1012",
            config.websocket.drain_close_code
        );
        return Err(ConfigError::new("drain_close_code", reason));
    }
    if let Some(cookie) = &config.http.cookie {
        cookie.check().map_err(|reason| ConfigError::new("cookie", reason))?;
    }
    origin_check::normalise_settings(config).map_err(|(setting, reason)| ConfigError::new(setting, reason))
}

/// Checks that clients can reach each endpoint.
///
/// # Errors
/// Returns the first endpoint that no client can reach.
pub(crate) fn endpoints(endpoints: &[Endpoint]) -> Result<(), ConfigError> {
    let wrong = endpoints.iter().find_map(Endpoint::problem);
    wrong.map_or(Ok(()), |reason| Err(ConfigError::new("endpoint", reason)))
}

/// Checks that no setting is 0; each entry carries the reason for the error.
pub(crate) fn at_least_one(settings: &[(&'static str, usize, &str)]) -> Result<(), ConfigError> {
    let zero = settings.iter().find(|(_, value, _)| *value == 0);
    zero.map_or(Ok(()), |(setting, _, reason)| Err(ConfigError::new(setting, format!("is 0: {reason}"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Io;
    use crate::http::{Cookie, Cors};

    fn refused(config: Config) -> String {
        Io::builder().config(config).try_build().expect_err("invalid setting").to_string()
    }

    #[test]
    fn rejects_unusable_settings() {
        let config = Config::default;
        let ms = Duration::from_millis;
        for (config, setting, reason) in [
            (config().limits(|limits| limits.max_payload(0)), "max_payload", "at least 1 byte"),
            (config().limits(|limits| limits.outbox_limit(0)), "outbox_limit", "at least 1 byte"),
            (config().limits(|limits| limits.outbox_max(0)), "outbox_max", "at least 1 byte"),
            (config().limits(|limits| limits.max_fragments(0)), "max_fragments", "at least 1"),
            (config().limits(|limits| limits.max_handlers(0)), "max_handlers", "at least 1"),
            (config().limits(|limits| limits.max_namespaces(0)), "max_namespaces", "at least 1"),
            (config().limits(|limits| limits.max_requests(0)), "max_requests", "at least 1"),
            (config().limits(|limits| limits.max_sessions(0)), "max_sessions", "at least 1"),
            (
                config().limits(|limits| limits.max_connections_per_address(0)),
                "max_connections_per_address",
                "no limit",
            ),
            (config().timeouts(|timeouts| timeouts.ping_interval(ms(0))), "ping_interval", "1 ms"),
            (config().timeouts(|timeouts| timeouts.ping_timeout(ms(0))), "ping_timeout", "1 ms"),
            (
                config().timeouts(|timeouts| timeouts.ping_interval(Duration::MAX)),
                "ping_interval",
                "2147483647",
            ),
            (
                config().timeouts(|timeouts| timeouts.ping_interval(ms(1 << 30)).ping_timeout(ms(1 << 30))),
                "ping_interval",
                "2147483648",
            ),
            (
                config().timeouts(|timeouts| timeouts.connect_timeout(ms(0))),
                "connect_timeout",
                "closed at once",
            ),
            (config().transports([]), "transports", "at least one"),
            (config().websocket(|websocket| websocket.drain_close_code(1006)), "drain_close_code", "1012"),
            (config().http(|http| http.cookie(Cookie::new("a b"))), "cookie", "a b"),
            (
                config().http(|http| http.cors(Cors::new().allow_origin("app.example"))),
                "allow_origin",
                "https://app.example",
            ),
        ] {
            let said = refused(config);
            assert!(said.starts_with(&format!("invalid setting `{setting}`: ")), "{said}");
            assert!(said.contains(reason), "{setting}: {said}");
        }
    }

    #[test]
    fn accepts_longest_client_timer() {
        let longest = Duration::from_millis(LONGEST_TIMER_MS as u64 - 1);
        let config = Config::new()
            .timeouts(|timeouts| timeouts.ping_interval(longest).ping_timeout(Duration::from_millis(1)));
        assert!(Io::builder().config(config).try_build().is_ok());
    }

    #[test]
    fn rejects_unreachable_endpoints() {
        let refused =
            |endpoint| Io::builder().endpoint(endpoint).try_build().expect_err("no such path").to_string();
        assert!(refused(Endpoint::plain("ws")).contains("`/ws`"));
        assert!(refused(Endpoint::plain("/a/*/b")).contains("end"));
        assert!(refused(Endpoint::socket_io().at("chat/")).contains("`/chat/`"));
        assert!(refused(Endpoint::plain("/ws?room=1")).contains('?'));
    }

    #[test]
    #[should_panic(expected = "invalid setting `max_payload`: is 0")]
    fn build_panics_with_reason() {
        drop(Io::builder().config(Config::new().limits(|limits| limits.max_payload(0))).build());
    }
}
