//! Heartbeats, idle clients, and missing binary.

use std::time::Duration;

use roomcast_core::{Action, CloseReason, Lane};
use roomcast_plain::{Mode, PlainConfig};

use crate::client::Client;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn pings_go_out_at_intervals_and_silence_ends_the_session() {
    let mut client = Client::admitted(Mode::Plain);
    assert_eq!(client.pass_to_timeout(), 25 * SECOND);
    assert!(matches!(client.next(), Some(Action::Ping(Lane::Primary))));
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
fn any_traffic_is_a_sign_of_life() {
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
fn a_client_at_the_door_has_to_be_alive_too() {
    let mut client = Client::knocking(Mode::Json, PlainConfig::default());
    assert_eq!(client.pass_to_timeout(), 25 * SECOND);
    assert!(matches!(client.next(), Some(Action::Ping(Lane::Primary))));
    assert_eq!(client.pass_to_timeout(), 20 * SECOND);
    client.assert_ends(CloseReason::IdleTimeout);
}

#[test]
fn nothing_is_waited_for_before_the_connection_is_open() {
    let mut client = Client::new(Mode::Plain, PlainConfig::default());
    assert_eq!(client.poll_timeout(), None);
    client.timeout();
    client.assert_idle();
}

#[test]
fn announced_binary_has_to_come_in_time() {
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
fn binary_that_came_in_time_leaves_no_deadline() {
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
fn durations_without_end_are_never_over() {
    let forever = Duration::MAX;
    let config = PlainConfig::new().ping_interval(forever).ping_timeout(forever).attachment_timeout(forever);
    let mut client = Client::admitted_with(Mode::Json, config);
    client.text(r#"[{"binary":1},"a"]"#);
    assert_eq!(client.poll_timeout(), None);
    client.pass(1_000_000 * SECOND);
    client.timeout();
    client.assert_idle();
}
