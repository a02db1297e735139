//! Events that arrive with an offset from outside.

mod support;

use std::sync::Arc;
use std::time::Duration;

use roomcast_core::{Delivery, Event, Member, Overflow, Target};
use roomcast_recovery::{Acting, Owner, Recovery, RecoveryConfig, RecoveryError};
use roomcast_testkit::MemberProbe;
use support::{Client, Clock, OffsetCodec, emit, event, offset, recovery, to};

fn begin(config: RecoveryConfig) -> (Clock, Arc<dyn Recovery>, Client) {
    let clock = Clock::new();
    let recovery = recovery(&clock, config);
    let client = Client::connect(&recovery, "a", &Arc::default());
    (clock, recovery, client)
}

fn outside(offset: &str, name: &str) -> Event {
    Event { offset: Some(offset.into()), ..event(name) }
}

fn emit_outside(recovery: &dyn Recovery, rooms: &[&str], offset: &str, name: &str) {
    recovery.broadcast(&to(rooms), &outside(offset, name)).flush_backlog();
}

#[test]
fn event_keeps_its_offset() {
    let (_, recovery, mut client) = begin(RecoveryConfig::default());
    emit_outside(&*recovery, &[], "1700000000000-0", "1");
    client.hear();
    assert_eq!(client.last.as_deref(), Some("1700000000000-0"));
    let probe = MemberProbe::new("b", &Arc::new(OffsetCodec));
    let member = Member { key: recovery.attach(probe.member()), ..probe.member() };
    let _ = recovery.send(&member, Delivery::Reliable, Overflow::Close, &mut outside("x-1", "2"));
    assert_eq!(probe.received(), ["x-1 2"]);
}

#[test]
fn replays_from_either_kind_in_arrival_order() {
    for last in [Some("9-9".to_owned()), Some(offset(2)), Some("5-1".to_owned()), Some(offset(4)), None] {
        let (_, recovery, mut client) = begin(RecoveryConfig::default());
        // The offsets do not ascend; only their arrival counts.
        emit_outside(&*recovery, &[], "9-9", "1");
        emit(&*recovery, &[], "2");
        emit_outside(&*recovery, &[], "5-1", "3");
        emit(&*recovery, &[], "4");
        client.cut(4);
        emit_outside(&*recovery, &[], "7-7", "5");
        client.last = last.clone();
        client.come_back().expect("recovers in time");
        let seen = ["9-9".to_owned(), offset(2), "5-1".to_owned(), offset(4)];
        let from = last.and_then(|last| seen.iter().position(|seen| *seen == last)).map_or(1, |at| at + 2);
        let expected: Vec<_> =
            (from..=5).map(|number| number.to_string()).chain(["welcome".into()]).collect();
        assert_eq!(client.take_heard(), expected);
    }
}

#[test]
fn own_offset_is_numbered_anew() {
    let (_, recovery, mut client) = begin(RecoveryConfig::default());
    emit(&*recovery, &[], "1");
    emit_outside(&*recovery, &[], &offset(1), "an event that was emitted again");
    client.hear();
    assert_eq!(client.last, Some(offset(2)));
}

#[test]
fn unnumbered_event_loses_its_offset() {
    let (_, recovery, mut client) = begin(RecoveryConfig::default());
    let volatile = Target { delivery: Delivery::Volatile, ..Target::default() };
    recovery.broadcast(&volatile, &outside("1-1", "volatile")).flush_backlog();
    assert_eq!(client.take_heard(), ["volatile"]);
    assert_eq!((client.last.clone(), recovery.usage().events), (None, 0));
}

#[test]
fn bounds_apply_to_outside_offsets() {
    let (_, recovery, _) = begin(RecoveryConfig::new().max_log_events(10));
    for number in 0..100 {
        emit_outside(&*recovery, &[], &format!("{number}-0"), "x");
    }
    assert_eq!(recovery.usage().events, 10);
}

#[test]
fn dropped_offset_needs_proof_of_arrival() {
    for is_confirmed in [true, false] {
        let (clock, recovery, mut client) = begin(RecoveryConfig::new().max_log_events(2));
        client.join("quiet");
        emit_outside(&*recovery, &["quiet"], "1-0", "received");
        client.hear();
        clock.advance(Duration::from_secs(1));
        if is_confirmed {
            client.ping(&clock);
        }
        (0..5).for_each(|_| emit(&*recovery, &["busy"], "for nobody"));
        client.cut(0);
        emit(&*recovery, &["quiet"], "missed");
        if is_confirmed {
            client.come_back().expect("received everything up to the ping");
            assert_eq!(client.take_heard(), ["received", "missed", "welcome"]);
        } else {
            assert_eq!(client.come_back(), Err(RecoveryError::Overflow));
        }
    }
}

#[test]
fn event_over_share_counts_as_dropped() {
    let (_, recovery, mut client) = begin(RecoveryConfig::new().max_log_bytes(4000));
    let _acting = Acting::begin(Owner::Client(1));
    emit_outside(&*recovery, &[&"r".repeat(2000), "a"], "1-0", "large");
    client.hear();
    assert_eq!((client.last.as_deref(), recovery.usage().events), (Some("1-0"), 0));
    client.cut(0);
    assert_eq!(client.come_back(), Err(RecoveryError::Overflow));
}

#[test]
fn repeated_offset_means_last_event() {
    let (_, recovery, mut client) = begin(RecoveryConfig::new().max_log_events(3));
    for (offset, name) in [("1-0", "1"), ("2-0", "2"), ("1-0", "3"), ("3-0", "4")] {
        emit_outside(&*recovery, &[], offset, name);
    }
    client.hear();
    client.cut(0);
    client.last = Some("1-0".into());
    client.come_back().expect("its last event is in the log");
    assert_eq!(client.take_heard(), ["1", "2", "3", "4", "4", "welcome"]);
}
