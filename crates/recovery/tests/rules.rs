//! Rules of the sequencer, one per test.

mod support;

use std::sync::Arc;
use std::time::Duration;

use roomcast_core::{
    AckId, AckRequest, Bytes, Delivery, Event, IntoArgs, JoinOutcome, Membership, Namespace, Room,
    RoomChange, RoomWatcher, Target, WatchFilter,
};
use roomcast_recovery::{Acting, Order, Owner, Recovery, RecoveryConfig, RecoveryError, SharedData};
use roomcast_testkit::{AnswerLog, ControlProbe, MemberProbe};
use support::{
    BUDGET, Client, Clock, OffsetCodec, claim, emit, emit_volatile, event, offset, recovery, session, to,
};

fn begin(config: RecoveryConfig) -> (Clock, Arc<dyn Recovery>, Client) {
    begin_as(None, config)
}

fn begin_as(owner: Option<Owner>, config: RecoveryConfig) -> (Clock, Arc<dyn Recovery>, Client) {
    let clock = Clock::new();
    let sequencer = recovery(&clock, config);
    let client = Client::connect_as(owner, &sequencer, "a", &Arc::default());
    (clock, sequencer, client)
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn restores_rooms_and_missed_events() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    client.join("red");
    emit(&*sequencer, &["red"], "1");
    emit(&*sequencer, &["red"], "lost on the way");
    client.cut(1);
    assert_eq!(sequencer.count(&Room::from("red")), 0);
    emit(&*sequencer, &[], "everybody");
    emit(&*sequencer, &["blue"], "others");
    emit(&*sequencer, &["blue", "red"], "several");
    emit(&*sequencer, &["a"], "itself");
    client.come_back().expect("recovers in time");
    emit(&*sequencer, &["red"], "now");
    let expected = ["1", "lost on the way", "everybody", "several", "itself", "welcome", "now"];
    assert_eq!(client.take_heard(), expected);
    assert_eq!(client.rooms(), ["a", "red"]);
}

#[test]
fn replay_keeps_exclusions_at_emit_time() {
    let (clock, sequencer, mut client) = begin(RecoveryConfig::default());
    client.join("team");
    client.join("muted");
    let target = |except: &str| Target {
        rooms: vec![Room::from("team")],
        except: vec![Room::from(except)],
        ..Target::default()
    };
    emit(&*sequencer, &["team"], "1");
    client.hear();
    sequencer.broadcast(&target("muted"), &event("not for it")).flush_backlog();
    client.ping(&clock);
    sequencer.leave(client.key, &Room::from("muted"));
    sequencer.broadcast(&target("muted"), &event("2")).flush_backlog();
    client.cut(1);
    client.come_back().expect("recovers in time");
    assert_eq!(client.take_heard(), ["1", "2", "welcome"]);
}

#[test]
fn bulk_leave_keeps_past_exclusions() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    client.join("muted");
    let except = Target { except: vec![Room::from("muted")], ..Target::default() };
    sequencer.broadcast(&except, &event("not for it")).flush_backlog();
    let everybody = Target::default();
    sequencer.update(&everybody, &Membership::Leave(vec![Room::from("muted")]));
    emit(&*sequencer, &[], "1");
    client.cut(1);
    client.come_back().expect("recovers in time");
    assert_eq!(client.take_heard(), ["1", "welcome"]);
}

#[test]
fn refuses_clients_that_missed_events_elsewhere() {
    let outcome = |room: Option<&str>, hears_later: bool| {
        let (_, sequencer, mut client) = begin(RecoveryConfig::default());
        client.join("red");
        emit(&*sequencer, &["red"], "1");
        client.cut(1);
        sequencer.missed(room.map(Room::from).as_ref());
        emit(&*sequencer, &["red"], "2");
        let first = client.come_back();
        if !hears_later {
            return first.map(|_| client.take_heard());
        }
        assert_eq!(first, Err(RecoveryError::Overflow));
        // One that was connected and has received a later event is recovered.
        let mut client = Client::connect(&sequencer, "b", &Arc::default());
        sequencer.missed(None);
        emit(&*sequencer, &[], "3");
        client.hear();
        client.cut(5);
        emit(&*sequencer, &[], "4");
        client.come_back().map(|_| client.take_heard())
    };
    for room in [Some("red"), Some("a"), None] {
        assert_eq!(
            outcome(room, false).expect_err("it missed an event"),
            RecoveryError::Overflow,
            "{room:?}"
        );
    }
    assert_eq!(outcome(Some("blue"), false).expect("not its room"), ["1", "2", "welcome"]);
    assert_eq!(outcome(None, true).expect("it missed nothing"), ["3", "4", "welcome"]);
}

#[test]
fn refuses_member_with_forgotten_rooms() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    for number in 0..65 {
        let room = format!("room {number}");
        sequencer.join(client.key, &Room::from(&*room));
        let except = Target { except: vec![Room::from(&*room)], ..Target::default() };
        sequencer.broadcast(&except, &event("not for it")).flush_backlog();
        sequencer.leave(client.key, &Room::from(&*room));
    }
    client.cut(0);
    assert_eq!(client.come_back(), Err(RecoveryError::Overflow));
}

#[test]
fn sends_welcome_before_missed_events() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    client.cut(0);
    emit(&*sequencer, &[], "missed");
    let claim = claim(&sequencer, &client.secret(), None, BUDGET).expect("recovers in time");
    let probe = MemberProbe::new("a", &Arc::new(OffsetCodec));
    let outbox = probe.outbox().clone();
    let mut welcome = || _ = outbox.push_protocol("welcome".into());
    claim.resume(probe.member(), None, Order::WelcomeFirst, &mut welcome).expect("recovers in time");
    assert_eq!(probe.received(), ["welcome".to_owned(), format!("{} missed", offset(1))]);
}

#[test]
fn client_without_offset_gets_all_events() {
    let clock = Clock::new();
    let sequencer = recovery(&clock, RecoveryConfig::default());
    emit(&*sequencer, &[], "before");
    let mut client = Client::connect(&sequencer, "a", &Arc::default());
    emit(&*sequencer, &[], "lost");
    client.cut(1);
    emit(&*sequencer, &[], "missed");
    client.come_back().expect("recovers in time");
    assert_eq!(client.take_heard(), ["lost", "missed", "welcome"]);
}

#[test]
fn recovers_again_and_again() {
    let (clock, sequencer, mut client) = begin(RecoveryConfig::default());
    for round in 0..5 {
        client.cut(0);
        emit(&*sequencer, &[], &format!("missed {round}"));
        clock.advance(60 * SECOND);
        client.come_back().expect("recovers each time");
        assert_eq!(client.take_heard(), [format!("missed {round}"), "welcome".to_owned()]);
    }
}

#[test]
fn recovers_despite_unrelated_dropped_events() {
    let config = RecoveryConfig::new().max_log_events(10);
    let (clock, sequencer, mut client) = begin(config);
    client.join("quiet");
    emit(&*sequencer, &["quiet"], "long ago");
    client.hear();
    for number in 0..100 {
        emit(&*sequencer, &["busy"], &number.to_string());
        clock.advance(3600 * SECOND);
    }
    client.ping(&clock);
    client.cut(0);
    for number in 0..100 {
        emit(&*sequencer, &["busy"], &number.to_string());
    }
    client.come_back().expect("no gap");
    client.cut(0);
    emit(&*sequencer, &["quiet"], "missed");
    client.come_back().expect("recovers again");
    assert_eq!(client.take_heard(), ["long ago", "welcome", "missed", "welcome"]);
}

#[test]
fn refuses_client_with_a_gap() {
    for (max_log_events, max_log_bytes) in [(10, usize::MAX), (usize::MAX, 4000)] {
        let config = RecoveryConfig::new().max_log_events(max_log_events).max_log_bytes(max_log_bytes);
        let (_, sequencer, mut first) = begin(config);
        let mut second = Client::connect(&sequencer, "b", &Arc::default());
        second.join("red");
        first.cut(0);
        second.cut(0);
        emit(&*sequencer, &["red"], "for the second");
        for _ in 0..100 {
            emit(&*sequencer, &["busy"], "for nobody");
        }
        assert_eq!(second.come_back(), Err(RecoveryError::Overflow));
        assert_eq!(second.come_back(), Err(RecoveryError::Unknown));
        first.come_back().expect("no gap");
        let stats = sequencer.usage();
        assert!(stats.events <= max_log_events && stats.bytes <= max_log_bytes);
    }
}

#[test]
fn bounds_rooms_tracked_for_losses() {
    let config = RecoveryConfig::new().max_log_events(1);
    let (clock, sequencer, mut client) = begin(config);
    client.join("red");
    client.cut(0);
    for number in 0..1000 {
        emit(&*sequencer, &[&format!("room {number}")], "x");
    }
    assert_eq!(client.come_back(), Err(RecoveryError::Overflow));
    // The loss matters only for as long as the events would be retained.
    let mut client = Client::connect(&sequencer, "b", &Arc::default());
    clock.advance(3600 * SECOND);
    client.ping(&clock);
    client.cut(0);
    client.come_back().expect("losses have expired");
}

#[test]
fn client_far_behind_has_no_gap() {
    // Duration of the stall before the connection broke, and whether the log is still complete then.
    for (stuck, is_whole) in [(91, true), (180, true), (211, false), (3600, false)] {
        let (clock, sequencer, mut client) = begin(RecoveryConfig::default());
        client.ping(&clock);
        emit(&*sequencer, &[], "stuck");
        clock.advance(stuck * SECOND);
        emit(&*sequencer, &[], "stuck as well");
        client.cut(2);
        emit(&*sequencer, &[], "missed");
        if is_whole {
            client.come_back().expect("log is complete");
            assert_eq!(client.take_heard(), ["stuck", "stuck as well", "missed", "welcome"], "{stuck}");
        } else {
            assert_eq!(client.come_back(), Err(RecoveryError::Overflow), "{stuck}");
        }
    }
}

#[test]
fn offset_takes_precedence_over_ping() {
    let (clock, sequencer, mut client) = begin(RecoveryConfig::default());
    emit(&*sequencer, &[], "first");
    client.hear();
    emit(&*sequencer, &[], "answered below, never seen above");
    clock.advance(SECOND);
    client.pinged = Some(clock.now());
    client.cut(1);
    client.come_back().expect("recovers in time");
    assert_eq!(client.take_heard(), ["first", "answered below, never seen above", "welcome"]);
}

#[test]
fn refuses_replay_beyond_outbox_budget() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    client.cut(0);
    let args = Bytes::from(vec![0; 1000]).into_args().expect("bytes are arguments");
    sequencer.broadcast(&Target::default(), &Event::new(Namespace::main(), "large", args)).flush_backlog();
    let claim_with = |budget| claim(&sequencer, &client.secret(), None, budget);
    drop(claim_with(1500).expect("within the budget"));
    assert_eq!(claim_with(1000).map(drop), Err(RecoveryError::TooLarge));
    assert_eq!(claim_with(1500).map(drop), Err(RecoveryError::Unknown));
}

#[test]
fn refuses_expired_session() {
    let (clock, sequencer, mut client) = begin(RecoveryConfig::default());
    client.cut(0);
    clock.advance(120 * SECOND);
    client.come_back().expect("at the time limit");
    client.cut(0);
    assert_eq!(sequencer.usage().sessions, 1);
    clock.advance(120 * SECOND + Duration::from_nanos(1));
    assert_eq!(client.come_back(), Err(RecoveryError::Expired));
    assert_eq!(sequencer.usage().sessions, 0);
}

#[test]
fn drops_events_older_than_retention() {
    let (clock, sequencer, _) = begin(RecoveryConfig::default());
    emit(&*sequencer, &[], "old");
    clock.advance(210 * SECOND);
    assert_eq!(sequencer.usage().events, 1);
    clock.advance(SECOND);
    let stats = sequencer.usage();
    assert_eq!((stats.events, stats.bytes), (0, 0));
}

#[test]
fn token_is_valid_once_while_disconnected() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    assert_eq!(client.come_back(), Err(RecoveryError::Unknown));
    client.cut(0);
    let claim = claim(&sequencer, &client.secret(), None, BUDGET).expect("recovers in time");
    assert_eq!(client.come_back(), Err(RecoveryError::Unknown));
    drop(claim);
    client.come_back().expect("claim was released");
    assert_eq!(client.come_back(), Err(RecoveryError::Unknown));
}

#[test]
fn detached_member_is_not_retained() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    assert!(sequencer.detach(client.key));
    assert!(!sequencer.detach_and_retain(client.key, "".into(), None));
    assert_eq!(client.come_back(), Err(RecoveryError::Unknown));
}

#[test]
fn refuses_invalid_offsets() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    emit(&*sequencer, &[], "1");
    client.cut(0);
    for nonsense in ["", "hello", "-1", &offset(2), &offset(u64::MAX), &format!("{} ", offset(1))] {
        let refused = claim(&sequencer, &client.secret(), Some(nonsense), BUDGET).map(|_| ());
        assert_eq!(refused, Err(RecoveryError::Offset), "{nonsense}");
    }
    client.come_back().expect("refused offsets change nothing");
}

#[test]
fn ignores_offset_of_earlier_session() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    emit(&*sequencer, &[], "1");
    client.hear();
    // The client was not recovered, and starts a new session in the same log or in that of another server.
    for left in [client.last.clone(), Some(format!("{}-9", "z".repeat(20)))] {
        let mut anew = Client::connect(&sequencer, "b", &Arc::default());
        anew.last = left;
        anew.cut(0);
        emit(&*sequencer, &[], "missed");
        anew.come_back().expect("offset is ignored");
        assert_eq!(anew.take_heard(), ["missed", "welcome"]);
    }
}

#[test]
fn does_not_replay_events_before_join() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    emit(&*sequencer, &["red", "blue"], "before");
    client.join("red");
    // Joined twice by an update.
    for _ in 0..2 {
        sequencer.update(&to(&["a"]), &Membership::Join(vec![Room::from("blue")]));
        emit(&*sequencer, &["blue"], "blue");
    }
    emit(&*sequencer, &["red"], "red");
    client.cut(3);
    // The client claims an offset older than its join.
    client.last = Some(offset(0));
    client.come_back().expect("recovers in time");
    assert_eq!(client.take_heard(), ["blue", "blue", "red", "welcome"]);
}

/// Watcher that emits on every room change.
struct Presence(std::sync::Weak<dyn Recovery>, std::sync::Mutex<Vec<String>>);

impl RoomWatcher for Presence {
    fn room_changed(&self, change: &RoomChange) {
        let (what, room) = match change {
            RoomChange::Joined { room, .. } => ("joined", room),
            RoomChange::Left { room, .. } => ("left", room),
            _ => return,
        };
        self.1.lock().expect("not poisoned").push(format!("{what} {room}"));
        if let Some(sequencer) = self.0.upgrade() {
            emit(&*sequencer, &[room.as_str()], what);
        }
    }
}

#[test]
fn watcher_may_emit_during_recovery() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    let presence = Arc::new(Presence(Arc::downgrade(&sequencer), std::sync::Mutex::default()));
    sequencer.watch(presence.clone(), WatchFilter::Members);
    client.join("red");
    client.cut(0);
    client.come_back().expect("recovers in time");
    assert_eq!(client.take_heard(), ["joined", "left", "left", "welcome", "joined", "joined"]);
    let told = presence.1.lock().expect("not poisoned").clone();
    assert_eq!(told[..1], ["joined red"]);
    assert_eq!(told[3..], ["joined a", "joined red"]);
}

#[test]
fn restores_rooms_joined_by_update() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    sequencer.update(&to(&["a"]), &Membership::Join(vec![Room::from("red"), Room::from("blue")]));
    sequencer.update(&to(&["a"]), &Membership::Leave(vec![Room::from("blue")]));
    client.cut(0);
    emit(&*sequencer, &["red"], "red");
    emit(&*sequencer, &["blue"], "blue");
    client.come_back().expect("recovers in time");
    assert_eq!(client.take_heard(), ["red", "welcome"]);
    assert_eq!(client.rooms(), ["a", "red"]);
}

#[test]
fn does_not_restore_rooms_beyond_limit() {
    let sequencer = recovery(&Clock::new(), RecoveryConfig::default());
    let limited = || {
        let control = ControlProbe::with_max_rooms(2);
        MemberProbe::with_limit("a", &Arc::new(OffsetCodec), BUDGET).with_control(control)
    };
    let key = sequencer.attach_recoverable(limited().member(), session("secret", None));
    sequencer.join(key, &Room::from("one"));
    let more = ["two", "three"].map(Room::from).into();
    assert_eq!(sequencer.update(&to(&["a"]), &Membership::Join(more)), 1);
    assert!(sequencer.detach_and_retain(key, "null".into(), None));
    ["one", "two", "three"].iter().for_each(|name| emit(&*sequencer, &[name], name));
    let claim = claim(&sequencer, "secret", None, BUDGET).expect("recovers in time");
    let probe = limited();
    let key = claim.resume(probe.member(), None, Order::MissedFirst, &mut || {}).expect("recovers in time");
    assert_eq!(probe.received(), [(1, "one"), (2, "two")].map(|(at, name)| format!("{} {name}", offset(at))));
    assert_eq!(sequencer.rooms_of(key).len(), 3);
}

#[test]
fn replay_respects_skip_and_except() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    client.join("red");
    let mut other = Client::connect(&sequencer, "b", &Arc::default());
    let skip = Target { skip: Some(client.key), ..Target::default() };
    let except = |room: &str| Target { except: vec![Room::from(room)], ..Target::default() };
    sequencer.broadcast(&skip, &event("1: while it is there")).flush_backlog();
    client.cut(0);
    other.cut(0);
    sequencer.broadcast(&skip, &event("2: while it is away")).flush_backlog();
    sequencer.broadcast(&except("red"), &event("3: not for red")).flush_backlog();
    sequencer.broadcast(&except("a"), &event("4: not for a")).flush_backlog();
    sequencer.broadcast(&except("blue"), &event("5: not for blue")).flush_backlog();
    client.last = None;
    client.come_back().expect("recovers in time");
    assert_eq!(client.take_heard(), ["5: not for blue", "welcome"]);
    other.come_back().expect("recovers in time");
    let heard = other.take_heard();
    assert_eq!(heard.len(), 6, "{heard:?}");
}

#[test]
fn does_not_replay_volatile_or_acknowledged() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    emit_volatile(&*sequencer, &[], "volatile");
    client.hear();
    assert_eq!(client.last, None);
    client.cut(0);
    emit_volatile(&*sequencer, &[], "volatile");
    let mut asks = event("asks");
    asks.ack = Some(AckRequest { id: AckId(1), answers: Arc::new(AnswerLog::default()) });
    sequencer.broadcast(&Target::default(), &asks).flush_backlog();
    client.come_back().expect("recovers in time");
    assert_eq!(client.take_heard(), ["volatile", "welcome"]);
    assert_eq!(sequencer.usage().events, 0);
}

#[test]
fn drops_longest_disconnected_first() {
    for (max_sessions, max_session_bytes) in [(3, usize::MAX), (usize::MAX, 3 * 600)] {
        let config = RecoveryConfig::new().max_sessions(max_sessions).max_session_bytes(max_session_bytes);
        let (clock, sequencer, _) = begin(config);
        let codec = Arc::default();
        let mut clients: Vec<_> =
            (0..20).map(|id| Client::connect(&sequencer, &format!("c{id}"), &codec)).collect();
        for client in &mut clients {
            client.cut(0);
            clock.advance(SECOND);
        }
        let kept = sequencer.usage().sessions;
        assert!((1..=6).contains(&kept), "{kept}");
        for (index, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.come_back().is_ok(), index >= 20 - kept, "{index}");
        }
    }
}

#[test]
fn log_shares_event_arguments() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    client.cut(0);
    let bytes = Bytes::from(vec![7; 1000]);
    let args = bytes.clone().into_args().expect("bytes are arguments");
    sequencer.broadcast(&Target::default(), &Event::new(Namespace::main(), "binary", args)).flush_backlog();
    let claim = claim(&sequencer, &client.secret(), None, BUDGET).expect("recovers in time");
    let probe = MemberProbe::new("a", &roomcast_testkit::TextCodec::new("t"));
    claim.resume(probe.member(), None, Order::MissedFirst, &mut || ()).expect("recovers in time");
    probe.received();
    drop(sequencer);
    drop(probe);
    assert!(!bytes.is_unique(), "log shares the bytes");
}

/// Owners of test clients.
const ATTACKER: Owner = Owner::Client(1);
const VICTIM: Owner = Owner::Client(2);

#[test]
fn sessions_of_owner_evict_no_others() {
    let (clock, sequencer, mut victim) = begin_as(Some(VICTIM), RecoveryConfig::default());
    victim.join("red");
    victim.cut(0);
    for visit in 0..10_001 {
        let mut visitor =
            Client::connect_as(Some(ATTACKER), &sequencer, &format!("visitor {visit}"), &Arc::default());
        visitor.cut(0);
        clock.advance(Duration::from_millis(1));
    }
    assert_eq!(sequencer.usage().sessions, 10_000 / 4 + 1, "a quarter of the limit");
    emit(&*sequencer, &["red"], "missed");
    victim.come_back().expect("session is retained");
    assert_eq!(victim.take_heard(), ["missed", "welcome"]);
}

#[test]
fn does_not_retain_member_over_share() {
    let (_, sequencer, mut victim) = begin_as(Some(VICTIM), RecoveryConfig::default());
    victim.cut(0);
    let mut huge = Client::connect_as(Some(ATTACKER), &sequencer, "huge", &Arc::default());
    for room in 0..18 {
        huge.join(&format!("{room}{}", "r".repeat(900_000)));
    }
    huge.cut(0);
    assert_eq!(huge.come_back(), Err(RecoveryError::Unknown));
    // Sessions within the share alone do not exceed it together.
    for number in 0..18 {
        let mut large =
            Client::connect_as(Some(ATTACKER), &sequencer, &format!("large {number}"), &Arc::default());
        large.join(&"r".repeat(900_000));
        large.cut(0);
    }
    assert_eq!(sequencer.usage().sessions, 1 + 4, "four of 900 KB are a quarter of 16 MiB");
    victim.come_back().expect("session is retained");
}

#[test]
fn evicts_sessions_of_largest_owner() {
    let config = RecoveryConfig::new().max_sessions(8);
    let (clock, sequencer, mut victim) = begin_as(Some(VICTIM), config);
    victim.cut(0);
    // More owners than shares: each within its own, and too many together.
    for visit in 0..20 {
        let mut visitor = Client::connect_as(
            Some(Owner::Client(10 + visit % 5)),
            &sequencer,
            &format!("visitor {visit}"),
            &Arc::default(),
        );
        visitor.cut(0);
        clock.advance(SECOND);
    }
    assert_eq!(sequencer.usage().sessions, 8);
    victim.come_back().expect("smallest owner is evicted last");
}

#[test]
fn events_of_owner_evict_no_others() {
    let (_, sequencer, mut victim) = begin_as(Some(VICTIM), RecoveryConfig::default());
    victim.join("red");
    victim.cut(0);
    emit(&*sequencer, &["red"], "missed");
    let large = |name: &str, len: usize| {
        let args = "x".repeat(len).into_args().expect("a text");
        sequencer.broadcast(&to(&["own"]), &Event::new(Namespace::main(), name, args)).flush_backlog();
    };
    {
        let _acting = Acting::begin(ATTACKER);
        for _ in 0..18 {
            large("large", 1_000_000);
        }
        assert_eq!(sequencer.usage().events, 1 + 4, "four of 1 MB are a quarter of 16 MiB");
        // An event above the share is not retained, and evicts none.
        large("huge", 5_000_000);
        assert_eq!(sequencer.usage().events, 1 + 4);
        for _ in 0..10_001 {
            large("small", 1);
        }
        assert_eq!(sequencer.usage().events, 1 + 10_000 / 4);
    }
    emit(&*sequencer, &["red"], "missed too");
    victim.come_back().expect("no event is lost");
    assert_eq!(victim.take_heard(), ["missed", "missed too", "welcome"]);
    // A member of that room has a gap, and starts a new session.
    let (_, sequencer, mut member) = begin(RecoveryConfig::default());
    member.join("own");
    member.cut(0);
    let _acting = Acting::begin(ATTACKER);
    for _ in 0..10_001 {
        emit(&*sequencer, &["own"], "small");
    }
    assert_eq!(member.come_back(), Err(RecoveryError::Overflow));
}

#[test]
fn recovered_client_keeps_its_key() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    let before = client.key;
    client.cut(0);
    assert_eq!(sequencer.join(before, &Room::from("red")), JoinOutcome::Detached);
    client.come_back().expect("recovers in time");
    assert_eq!(client.key, before);
    assert_eq!(sequencer.join(before, &Room::from("red")), JoinOutcome::Joined);
}

#[test]
fn replays_direct_event_to_recipient_only() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    let mut guest = Client::connect(&sequencer, "guest", &Arc::default());
    // A room with the id of the other client.
    guest.join("a");
    client.send("for a alone");
    emit(&*sequencer, &["a"], "for both");
    client.cut(2);
    guest.cut(1);
    client.come_back().expect("recovers in time");
    guest.come_back().expect("recovers in time");
    assert_eq!(client.take_heard(), ["for a alone", "for both", "welcome"]);
    assert_eq!(guest.take_heard(), ["for both", "welcome"]);
}

#[test]
fn forgotten_session_cannot_be_recovered() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    assert!(!sequencer.forget(client.key), "connected");
    client.cut(0);
    assert!(sequencer.forget(client.key) && !sequencer.forget(client.key));
    assert_eq!(client.come_back(), Err(RecoveryError::Unknown));
    // The same for a pending recovery, whether resumed or dropped.
    for turned_away in [false, true] {
        let mut client = Client::connect(&sequencer, "a", &Arc::default());
        client.cut(0);
        let claim = claim(&sequencer, &client.secret(), None, BUDGET).expect("recovers in time");
        assert!(sequencer.forget(client.key));
        if turned_away {
            drop(claim);
        } else {
            let probe = MemberProbe::new("a", &roomcast_testkit::TextCodec::new("t"));
            let refused =
                claim.resume(probe.member(), None, Order::MissedFirst, &mut || panic!("welcome was sent"));
            assert_eq!(refused, Err(RecoveryError::Unknown));
        }
        assert_eq!(client.come_back(), Err(RecoveryError::Unknown));
        assert_eq!(sequencer.usage().sessions, 0);
    }
}

#[test]
fn replays_event_sent_while_disconnected() {
    let (_, sequencer, mut client) = begin(RecoveryConfig::default());
    let later = |name: &str, delivery| sequencer.queue_for_absent(client.key, delivery, &event(name));
    assert!(!later("it is here", Delivery::Reliable));
    let key = client.key;
    client.cut(0);
    let later = |name: &str, delivery| sequencer.queue_for_absent(key, delivery, &event(name));
    assert!(later("1", Delivery::Reliable) && !later("volatile", Delivery::Volatile));
    let claim = claim(&sequencer, &client.secret(), None, BUDGET).expect("recovers in time");
    assert!(later("2", Delivery::Reliable));
    drop(claim);
    client.come_back().expect("recovers in time");
    assert_eq!(client.take_heard(), ["1", "2", "welcome"]);
    assert!(!later("it is here", Delivery::Reliable));
}

#[test]
fn counts_data_set_while_disconnected() {
    let config = RecoveryConfig::new().max_session_bytes(20_000);
    let (_, sequencer, mut client) = begin(config);
    let data = SharedData::default();
    assert!(sequencer.detach_and_retain(client.key, data.clone(), None));
    data.set("x".repeat(10_000).into());
    sequencer.data_changed(client.key, &data);
    let claim = claim(&sequencer, &client.secret(), None, BUDGET).expect("within the budget");
    assert_eq!(claim.data().get().len(), 10_000);
    drop(claim);
    data.set("x".repeat(30_000).into());
    sequencer.data_changed(client.key, &data);
    assert_eq!(client.come_back(), Err(RecoveryError::Unknown));
}

#[test]
fn shares_apply_to_disconnected_members() {
    let config = RecoveryConfig::new().max_log_events(8).max_session_bytes(40_000);
    let (_, sequencer, mut victim) = begin_as(Some(VICTIM), config);
    victim.cut(0);
    let mut huge = Client::connect_as(Some(ATTACKER), &sequencer, "huge", &Arc::default());
    huge.cut(0);
    huge.come_back().expect("recovers in time");
    let data = SharedData::default();
    assert!(sequencer.detach_and_retain(huge.key, data.clone(), None));
    // Events retained for a disconnected member count against their emitter.
    emit(&*sequencer, &[], "missed");
    {
        let _acting = Acting::begin(ATTACKER);
        for _ in 0..20 {
            assert!(sequencer.queue_for_absent(huge.key, Delivery::Reliable, &event("later")));
        }
    }
    assert_eq!(sequencer.usage().events, 1 + 8 / 4);
    // After its recovery it keeps its owner, and exceeds the share while disconnected again.
    data.set("x".repeat(15_000).into());
    sequencer.data_changed(huge.key, &data);
    assert_eq!(sequencer.usage().sessions, 1);
    assert_eq!(huge.come_back(), Err(RecoveryError::Unknown));
    victim.come_back().expect("no event is lost");
    assert_eq!(victim.take_heard(), ["missed", "welcome"]);
}
