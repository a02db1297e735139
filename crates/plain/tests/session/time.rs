//! Heartbeats, idle clients, and missing binary.

use std::time::Duration;

use roomcast_core::{Action, CloseReason, ConnectionRole};
use roomcast_plain::{Mode, PlainConfig};

use crate::client::Client;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn sends_pings_and_ends_silent_session() {
    let mut client = Client::admitted(Mode::Plain);
    assert_eq!(client.pass_to_timeout(), 25 * SECOND);
    assert!(matches!(client.next(), Some(Action::Ping(ConnectionRole::Primary))));
    client.assert_idle();
    assert_eq!(client.poll_timeout(), Some(20 * SECOND));
    client.pass(20 * SECOND - Duration::from_nanos(1));
    client.timeout();
    client.assert_idle();
    client.pass(Duration::from_nanos(1));
    client.timeout();
    client.assert_ends(CloseReason::IdleTimeout);
}

#[test]
fn any_traffic_extends_the_deadline() {
    let mut client = Client::admitted(Mode::Json);
    for round in 0..20 {
        client.pass(20 * SECOND);
        client.timeout();
        match round % 3 {
            0 => client.activity(),
            1 => client.text(r#"["a"]"#),
            _ => client.text("[{}]"),
        }
        while let Some(action) = client.next() {
            assert!(matches!(action, Action::Ping(_) | Action::Event(_)), "{action:?}");
        }
    }
    client.pass(45 * SECOND);
    client.timeout();
    client.assert_ends(CloseReason::IdleTimeout);
}

#[test]
fn ends_silent_client_before_accept() {
    let mut client = Client::knocking(Mode::Json, PlainConfig::default());
    assert_eq!(client.pass_to_timeout(), 25 * SECOND);
    assert!(matches!(client.next(), Some(Action::Ping(ConnectionRole::Primary))));
    assert_eq!(client.pass_to_timeout(), 20 * SECOND);
    client.assert_ends(CloseReason::IdleTimeout);
}

#[test]
fn waits_for_connection_without_deadline() {
    let mut client = Client::new(Mode::Plain, PlainConfig::default());
    assert_eq!(client.poll_timeout(), None);
    client.timeout();
    client.assert_idle();
}

#[test]
fn announced_binary_has_a_deadline() {
    let mut client = Client::admitted(Mode::Json);
    client.text(r#"[{"binary":2},"a"]"#);
    for _ in 0..2 {
        client.pass(29 * SECOND);
        client.activity();
        client.timeout();
        assert!(matches!(client.next(), Some(Action::Ping(_))));
    }
    client.binary(b"only one");
    assert_eq!(client.pass_to_timeout(), 2 * SECOND);
    client.assert_refused("in time");
}

#[test]
fn complete_binary_clears_the_deadline() {
    let mut client = Client::admitted(Mode::Json);
    client.text(r#"[{"binary":1},"a"]"#);
    client.binary(b"x");
    client.event();
    client.pass(30 * SECOND);
    client.activity();
    client.timeout();
    client.next();
    client.pass(31 * SECOND);
    client.activity();
    client.timeout();
    assert!(matches!(client.next(), Some(Action::Ping(_))));
    client.assert_idle();
}

#[test]
fn unlimited_durations_never_expire() {
    let forever = Duration::MAX;
    let config = PlainConfig::new().ping_interval(forever).ping_timeout(forever).attachment_timeout(forever);
    let mut client = Client::admitted_with(Mode::Json, config);
    client.text(r#"[{"binary":1},"a"]"#);
    assert_eq!(client.poll_timeout(), None);
    client.pass(1_000_000 * SECOND);
    client.timeout();
    client.assert_idle();
}
