//! Rules that each recovery implementation must keep.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use roomcast_core::{ByteString, Delivery, Room, Target};
use roomcast_recovery::{Claim, Order, Recovery, RecoveryConfig, RecoveryError, SharedData};

use super::client::{BUDGET, Client, WELCOME, claim, emit, event, to};
use crate::{MemberProbe, TextCodec};

/// Creates the recovery under test, with these settings and around an empty router.
pub type Make<'a> = &'a dyn Fn(RecoveryConfig) -> Arc<dyn Recovery>;

fn fresh(make: Make<'_>) -> Arc<dyn Recovery> {
    make(RecoveryConfig::new())
}

/// A client that returns has its key, id, rooms and data.
pub async fn restores_key_rooms_and_data(make: Make<'_>) {
    let recovery = fresh(make);
    let mut client = Client::attach(&recovery, "a");
    client.join("red");
    client.join("blue");
    recovery.leave(client.key, &Room::from("blue"));
    let (key, data) = (client.key, SharedData::from("1"));
    client.lose_with(data.clone(), None);
    assert!(recovery.rooms_of(key).is_empty(), "a disconnected member is in no room");
    let pending = client.claim().await.expect("the session is retained");
    assert_eq!(pending.key(), key, "a session of this process keeps its key");
    assert_eq!(pending.rooms(), [Room::from("red")]);
    // Handles from before the disconnect share the data.
    data.set("2".into());
    assert_eq!(pending.data().get(), "2");
    client.resume(pending, Order::MissedFirst).expect("nothing prevents it");
    assert_eq!(client.rooms(), ["red"]);
    assert_eq!(recovery.count(&Room::from("red")), 1);
}

/// Missed events arrive once and in order, before all later ones.
pub async fn replays_missed_events_in_order(make: Make<'_>) {
    let recovery = fresh(make);
    let mut client = Client::attach(&recovery, "a");
    client.join("red");
    emit(&recovery, &[], "heard");
    assert_eq!(client.heard(), ["heard"]);
    client.lose();
    emit(&recovery, &[], "1");
    emit(&recovery, &["red"], "2");
    emit(&recovery, &["blue"], "others");
    emit(&recovery, &["a"], "3");
    emit(&recovery, &["red", "a"], "4");
    let pending = client.claim().await.expect("the session is retained");
    emit(&recovery, &["red"], "5");
    client.resume(pending, Order::MissedFirst).expect("nothing prevents it");
    emit(&recovery, &["red"], "6");
    assert_eq!(client.heard(), ["1", "2", "3", "4", "5", WELCOME, "6"]);
    emit(&recovery, &[], "7");
    assert_eq!(client.heard(), ["7"]);
}

/// The client's offset decides which events it has missed, also if more were sent to it.
pub async fn replays_events_lost_on_the_way(make: Make<'_>) {
    let recovery = fresh(make);
    let mut client = Client::attach(&recovery, "a");
    for name in ["1", "2", "3", "4"] {
        emit(&recovery, &[], name);
    }
    assert_eq!(client.heard_all_but(2), ["1", "2"]);
    client.lose();
    emit(&recovery, &[], "5");
    client.come_back().await.expect("nothing prevents it");
    assert_eq!(client.heard(), ["3", "4", "5", WELCOME]);
    // The replay itself may be lost.
    emit(&recovery, &[], "6");
    client.lose();
    client.come_back().await.expect("nothing prevents it");
    assert_eq!(client.heard(), ["6", WELCOME]);
}

/// A client without an offset receives all events since it was attached that are not known to have arrived.
pub async fn client_without_offset_misses_everything(make: Make<'_>) {
    let recovery = fresh(make);
    emit(&recovery, &[], "before");
    let mut client = Client::attach(&recovery, "a");
    emit(&recovery, &[], "1");
    client.send("2");
    client.lose();
    client.come_back().await.expect("nothing prevents it");
    assert_eq!(client.heard(), ["1", "2", WELCOME]);
}

/// An up-to-date client receives no event again.
pub async fn replays_nothing_that_was_received(make: Make<'_>) {
    let recovery = fresh(make);
    let mut client = Client::attach(&recovery, "a");
    for round in 0..5 {
        let name = round.to_string();
        emit(&recovery, &[], &name);
        assert_eq!(client.heard().last(), Some(&name));
        client.lose();
        client.come_back().await.expect("nothing prevents it");
        assert_eq!(client.heard(), [WELCOME]);
    }
}

/// Events that excluded a member, by its key or by a room, are not replayed to it.
pub async fn excluded_members_miss_nothing(make: Make<'_>) {
    let recovery = fresh(make);
    let mut client = Client::attach(&recovery, "a");
    client.join("red");
    client.lose();
    let skip = Target { skip: Some(client.key), ..Target::default() };
    recovery.broadcast(&skip, &event("its own")).flush_backlog();
    let except = Target { except: vec![Room::from("red")], ..Target::default() };
    recovery.broadcast(&except, &event("not for red")).flush_backlog();
    emit(&recovery, &[], "for all");
    client.come_back().await.expect("nothing prevents it");
    assert_eq!(client.heard(), ["for all", WELCOME]);
}

/// Volatile events have no offset and are not replayed.
pub async fn volatile_events_are_not_retained(make: Make<'_>) {
    let recovery = fresh(make);
    let mut client = Client::attach(&recovery, "a");
    let volatile = Target { delivery: Delivery::Volatile, ..Target::default() };
    recovery.broadcast(&volatile, &event("volatile")).flush_backlog();
    assert_eq!((client.heard(), client.offset.clone()), (vec!["volatile".to_owned()], None));
    client.lose();
    recovery.broadcast(&volatile, &event("volatile")).flush_backlog();
    client.come_back().await.expect("nothing prevents it");
    assert_eq!(client.heard(), [WELCOME]);
}

/// An event that arrives with an offset keeps it, and a client can return with it.
pub async fn offsets_from_outside_are_kept(make: Make<'_>) {
    let recovery = fresh(make);
    let mut client = Client::attach(&recovery, "a");
    let outside = |offset: &'static str, name: &str| {
        let mut event = event(name);
        event.offset = Some(ByteString::from_static(offset));
        recovery.broadcast(&Target::default(), &event).flush_backlog();
    };
    outside("1700000000000-0", "1");
    outside("1700000000000-1", "2");
    assert_eq!(client.heard_all_but(1), ["1"]);
    assert_eq!(client.offset.as_deref(), Some("1700000000000-0"));
    client.lose();
    outside("1700000000001-0", "3");
    client.come_back().await.expect("nothing prevents it");
    assert_eq!(client.heard(), ["2", "3", WELCOME]);
    assert_eq!(client.offset.as_deref(), Some("1700000000001-0"));
}

/// The welcome is first if the protocol requires it.
pub async fn welcome_may_precede_missed_events(make: Make<'_>) {
    let recovery = fresh(make);
    let mut client = Client::attach(&recovery, "a");
    client.lose();
    emit(&recovery, &[], "missed");
    let pending = client.claim().await.expect("the session is retained");
    client.resume(pending, Order::WelcomeFirst).expect("nothing prevents it");
    emit(&recovery, &[], "later");
    assert_eq!(client.heard(), [WELCOME, "missed", "later"]);
}

/// Only the token of a disconnected client claims its session.
pub async fn wrong_token_claims_nothing(make: Make<'_>) {
    let recovery = fresh(make);
    let (mut away, present) = (Client::attach(&recovery, "a"), Client::attach(&recovery, "b"));
    away.lose();
    for secret in ["", "a", "nobody", &present.secret(), &away.secret().to_uppercase()] {
        let refused = claim(&recovery, secret, None, BUDGET).await.map(|pending| pending.id().clone());
        assert_eq!(refused, Err(RecoveryError::Unknown), "claim by {secret:?}");
    }
    away.come_back().await.expect("the session is still retained");
}

/// Of concurrent claims one wins, and none while a claim is pending.
pub async fn one_of_concurrent_claims_wins(make: Make<'_>) {
    let recovery = fresh(make);
    let mut client = Client::attach(&recovery, "a");
    client.lose();
    let claims = [(); 2].map(|()| {
        let (recovery, secret) = (recovery.clone(), client.secret());
        tokio::spawn(async move { claim(&recovery, &secret, None, BUDGET).await })
    });
    let mut won = Vec::new();
    for claim in claims {
        won.extend(claim.await.expect("no panic").ok());
    }
    assert_eq!(won.len(), 1, "claims that won");
    assert!(client.claim().await.is_err(), "the session is claimed");
    client.resume(won.remove(0), Order::MissedFirst).expect("nothing prevents it");
    assert!(client.claim().await.is_err(), "the client is attached");
    assert_eq!(recovery.count(&Room::from("a")), 1);
}

/// A pending recovery that is dropped, or whose claim is, leaves the session claimable.
pub async fn dropped_claim_is_put_back(make: Make<'_>) {
    let recovery = fresh(make);
    let mut client = Client::attach(&recovery, "a");
    client.join("red");
    client.lose();
    emit(&recovery, &["red"], "1");
    drop(client.claim().await.expect("the session is retained"));
    emit(&recovery, &["red"], "2");
    drop(recovery.clone().claim(&client.secret(), None, BUDGET));
    if let Claim::Pending(mut future) = recovery.clone().claim(&client.secret(), None, BUDGET) {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => {}
            Poll::Ready(result) => drop(result.expect("the session is claimable")),
        }
    }
    // A store may need time to take the claim back.
    tokio::time::sleep(Duration::from_secs(1)).await;
    emit(&recovery, &["red"], "3");
    client.come_back().await.expect("the session was put back");
    assert_eq!(client.heard(), ["1", "2", "3", WELCOME]);
    assert_eq!(client.rooms(), ["red"]);
}

/// A client that was disconnected for too long is refused.
pub async fn late_client_is_refused(make: Make<'_>) {
    let time = Duration::from_secs(30);
    let recovery = make(RecoveryConfig::new().max_disconnection(time));
    let (mut early, late) = (Client::attach(&recovery, "early"), Client::attach(&recovery, "late"));
    early.lose();
    late.lose();
    tokio::time::sleep(time / 2).await;
    early.come_back().await.expect("it is in time");
    tokio::time::sleep(time).await;
    assert!(late.claim().await.is_err(), "it is too late");
}

/// Events that were lost on the way to this node end the recoveries that they may concern, and no others.
pub async fn lost_events_end_recoveries(make: Make<'_>) {
    let recovery = fresh(make);
    let mut clients = ["red", "blue"].map(|room| {
        let client = Client::attach(&recovery, &format!("in {room}"));
        client.join(room);
        client.lose();
        client
    });
    recovery.missed(Some(&Room::from("red")));
    let refused = clients[0].claim().await;
    assert!(refused.is_err(), "it may have missed an event to its room");
    clients[1].come_back().await.expect("it has missed nothing");
    clients[1].lose();
    recovery.missed(None);
    assert!(clients[1].claim().await.is_err(), "it may have missed an event to all members");
    // A client that received a later event has noticed the gap or never had one.
    let mut connected = Client::attach(&recovery, "connected");
    recovery.missed(None);
    emit(&recovery, &[], "later");
    assert_eq!(connected.heard(), ["later"]);
    connected.lose();
    connected.come_back().await.expect("it has missed nothing since");
}

/// A forgotten session cannot be recovered, and neither can one that is being recovered.
pub async fn forgotten_session_is_refused(make: Make<'_>) {
    let recovery = fresh(make);
    let client = Client::attach(&recovery, "a");
    assert!(!recovery.forget(client.key), "it is attached");
    client.lose();
    assert!(recovery.forget(client.key));
    assert!(client.claim().await.is_err());
    let mut pending = Client::attach(&recovery, "b");
    pending.lose();
    let claimed = pending.claim().await.expect("the session is retained");
    assert!(recovery.forget(pending.key));
    assert_eq!(pending.resume(claimed, Order::MissedFirst), Err(RecoveryError::Unknown));
    assert!(pending.claim().await.is_err());
    assert_eq!(recovery.count(&Room::from("b")), 0);
}

/// A session ends with a plain detach, and a member without a token has none.
pub async fn detached_session_is_not_retained(make: Make<'_>) {
    let recovery = fresh(make);
    let client = Client::attach(&recovery, "a");
    assert!(recovery.detach(client.key));
    assert!(!recovery.detach_and_retain(client.key, "1".into(), None), "it is detached already");
    assert!(client.claim().await.is_err());
    let plain = recovery.attach(MemberProbe::new("plain", &TextCodec::new("t")).member());
    assert!(recovery.detach_and_retain(plain, "1".into(), None));
    for secret in ["", "plain"] {
        assert!(claim(&recovery, secret, None, BUDGET).await.is_err());
    }
}

/// Events to a disconnected member alone are replayed to it.
pub async fn queued_events_reach_returning_member(make: Make<'_>) {
    let recovery = fresh(make);
    let (mut client, mut other) = (Client::attach(&recovery, "a"), Client::attach(&recovery, "b"));
    assert!(!recovery.queue_for_absent(client.key, Delivery::Reliable, &event("connected")));
    client.lose();
    assert!(recovery.queue_for_absent(client.key, Delivery::Reliable, &event("1")));
    assert!(!recovery.queue_for_absent(client.key, Delivery::Volatile, &event("volatile")));
    let pending = client.claim().await.expect("the session is retained");
    assert!(recovery.queue_for_absent(client.key, Delivery::Reliable, &event("2")));
    client.resume(pending, Order::MissedFirst).expect("nothing prevents it");
    assert_eq!(client.heard(), ["1", "2", WELCOME]);
    assert_eq!(other.heard(), [""; 0]);
}

/// A replay over the budget is refused.
pub async fn replay_over_budget_is_refused(make: Make<'_>) {
    let recovery = fresh(make);
    let client = Client::attach(&recovery, "a");
    client.lose();
    (0..100).for_each(|_| emit(&recovery, &[], &"x".repeat(1_000)));
    let refused = claim(&recovery, &client.secret(), None, 10_000).await.map(|pending| pending.id().clone());
    assert_eq!(refused, Err(RecoveryError::TooLarge));
}

/// A client is never recovered with a gap: it is refused if a missed event is no longer retained.
pub async fn dropped_events_end_recoveries(make: Make<'_>) {
    let recovery = make(RecoveryConfig::new().max_log_events(10));
    let (mut lucky, unlucky) = (Client::attach(&recovery, "lucky"), Client::attach(&recovery, "unlucky"));
    lucky.join("quiet");
    unlucky.join("busy");
    lucky.lose();
    unlucky.lose();
    (0..200).for_each(|_| emit(&recovery, &["busy"], "dropped"));
    emit(&recovery, &["quiet"], "missed");
    assert!(unlucky.claim().await.is_err());
    match lucky.come_back().await {
        Ok(()) => assert_eq!(lucky.heard(), ["missed", WELCOME]),
        // An implementation need not know the rooms of dropped events.
        Err(refused) => assert_eq!(refused, RecoveryError::Overflow),
    }
}

/// An implementation that knows attached members by their tokens reports them exactly.
pub async fn attached_members_are_found_by_token(make: Make<'_>) {
    let recovery = fresh(make);
    let mut client = Client::attach(&recovery, "a");
    let secret = client.secret();
    let Some((key, id)) = recovery.attached(&secret) else {
        // Takeovers are optional.
        return;
    };
    assert_eq!((key, id.as_str()), (client.key, "a"));
    assert_eq!((recovery.attached("nobody"), recovery.attached("")), (None, None));
    client.lose();
    assert_eq!(recovery.attached(&secret), None);
    client.come_back().await.expect("nothing prevents it");
    assert_eq!(recovery.attached(&secret).map(|(key, _)| key), Some(client.key));
    recovery.detach(client.key);
    assert_eq!(recovery.attached(&secret), None);
}

/// Retained sessions are counted, and a flush ends.
pub async fn usage_counts_retained_sessions(make: Make<'_>) {
    let recovery = fresh(make);
    let mut client = Client::attach(&recovery, "a");
    assert_eq!(recovery.usage().sessions, 0);
    client.lose();
    assert_eq!(recovery.usage().sessions, 1);
    client.come_back().await.expect("nothing prevents it");
    assert_eq!(recovery.usage().sessions, 0);
    let flushed = tokio::time::timeout(Duration::from_secs(60), recovery.flush()).await;
    assert!(flushed.is_ok(), "the flush ends");
    assert_eq!(recovery.find(&to(&["a"])).len(), 1);
}
