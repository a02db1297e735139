//! Nodes that die, rejoin and return, and the losses that this implies.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use roomcast_cluster::{
    BackplaneCommand, BackplaneEvent, Channel, ClusterAction, ClusterConfig, ClusterRequest, MissingReason,
    Node, NodeId,
};
use roomcast_core::{Namespace, Room};

use crate::rig::{Rig, channel, connect, messages, subscribed_pair};

#[test]
fn nodes_that_lost_each_other_rejoin() {
    let (mut one, mut two) = (Rig::new(1, |_| {}), Rig::new(2, |_| {}));
    connect(&mut one, &mut two);
    assert_eq!(one.node.peers().collect::<Vec<_>>(), [two.node.node_ref()]);
    // A partition: both declare the other dead, so each message is from a dead incarnation.
    for _ in 0..20 {
        for rig in [&mut one, &mut two] {
            rig.serve();
            rig.advance(Duration::from_millis(500));
        }
    }
    assert_eq!((one.node.peers().count(), two.node.peers().count()), (0, 0));
    connect(&mut one, &mut two);
    let next = 1 << 20 | 1;
    assert_eq!((one.node.node_ref().incarnation, two.node.node_ref().incarnation), (next, next));
    assert_eq!(one.node.peers().collect::<Vec<_>>(), [two.node.node_ref()]);
    assert_eq!(two.node.peers().collect::<Vec<_>>(), [one.node.node_ref()]);
}

#[test]
fn frozen_node_rejoins_without_blaming_others() {
    let (mut one, mut two) = (Rig::new(1, |_| {}), Rig::new(2, |_| {}));
    connect(&mut one, &mut two);
    let request = ClusterRequest { to: None, kind: 1, body: Bytes::new(), timeout: Duration::from_secs(60) };
    one.node.request(request, one.now).unwrap();
    one.actions();
    one.now += Duration::from_secs(30);
    one.node.handle_timeout(one.now);
    one.commands();
    let actions = one.actions();
    assert!(
        matches!(&actions[..], [ClusterAction::Rejoined { .. }, ClusterAction::Done { missing, .. }]
            if missing[0].node == two.node.node_ref() && missing[0].reason == MissingReason::Interrupted),
        "{actions:?}"
    );
    assert_eq!(one.node.peers().count(), 1);
}

#[test]
fn suspended_node_reports_lost_end() {
    // Seed 51420: the end of an idle stream is lost, and a new run begins before the timeout is handled.
    let (mut one, mut two) = (Rig::new(1, |_| {}), Rig::new(2, |_| {}));
    two.node.add_interest(&Namespace::main(), Some(&Room::from("a")), two.now);
    connect(&mut one, &mut two);
    two.actions();
    one.publish("a", 10).unwrap();
    two.receive(one.commands());
    two.actions();
    (0..3).for_each(|_| one.publish("a", 10).unwrap());
    one.commands();
    // The heartbeats list the end until the stream is forgotten, and wait for the suspended node.
    let mut waiting = Vec::new();
    for _ in 0..7 {
        one.advance(Duration::from_secs(1));
        waiting.extend(messages(&one.commands(), &Channel::Nodes));
    }
    one.publish("a", 10).unwrap();
    waiting.extend(one.commands());
    two.now = one.now;
    two.receive(waiting);
    two.advance(Duration::from_millis(1500));
    let from = one.node.node_ref();
    let gap = ClusterAction::Gap { channel: Some(channel("a")), from: Some(from), lost: Some(3) };
    let actions = two.actions();
    let of_rooms =
        actions.iter().filter(|action| matches!(action, ClusterAction::Gap { channel: Some(_), .. }));
    assert_eq!(of_rooms.collect::<Vec<_>>(), [&gap], "{actions:?}");
}

#[test]
fn restarted_node_reuses_no_incarnation() {
    // Seed 12823: others know two incarnations of a node's earlier process, and name the older to the next process.
    let mut config = ClusterConfig::default();
    config.node_timeout = Duration::from_secs(3);
    let config = Arc::new(config);
    let rig = |id, incarnation, now| Rig {
        node: Node::new(config.clone(), NodeId::new(id), incarnation, now),
        now,
    };
    let (mut other, mut third) = (Rig::new(2, |_| {}), Rig::new(3, |_| {}));
    let mut earlier = rig(1, 50 << 20 | 5, other.now);
    third.now = other.now;
    connect(&mut earlier, &mut other);
    // Out of contact, it rejoins; only the third node receives its messages.
    earlier.advance(Duration::from_secs(10));
    earlier.node.handle_timeout(earlier.now);
    third.advance(earlier.now - third.now);
    third.receive(earlier.serve());
    let known = earlier.node.node_ref();
    assert_eq!(third.node.peers().collect::<Vec<_>>(), [known]);
    // The other has declared the first incarnation dead. A process starts with a clock that was set back.
    other.advance(earlier.now - other.now);
    let mut later = rig(1, 49 << 20 | 6, other.now);
    later.advance(Duration::from_millis(10));
    other.receive(later.serve());
    later.receive(other.commands());
    let reborn = later.node.node_ref();
    assert!(reborn.incarnation > 50 << 20 | 5, "{reborn}");
    assert_ne!(reborn, known);
}

/// Passes time in steps, and messages between nodes in both directions.
fn pass(one: &mut Rig, two: &mut Rig, time: Duration) {
    let step = Duration::from_millis(10);
    for _ in 0..time.as_millis() / step.as_millis() {
        let (from_one, from_two) = (one.serve(), two.serve());
        one.receive(from_two);
        two.receive(from_one);
        one.advance(step);
        two.advance(step);
    }
}

/// Returns the reported gaps, without their numbers.
fn gaps(rig: &mut Rig) -> Vec<Option<Channel>> {
    let gaps = rig.actions().into_iter().filter_map(|action| match action {
        ClusterAction::Gap { channel, .. } => Some(channel),
        _ => None,
    });
    gaps.collect()
}

#[test]
fn orderly_join_and_leave_lose_nothing() {
    let (mut one, mut two) = subscribed_pair(|_| {});
    let mut new = Rig::at(3, two.now);
    // The new node publishes at once, and both hear each other from its start.
    for number in 0..200 {
        if number % 20 == 0 {
            new.publish("a", 10).unwrap();
            one.publish("b", 10).unwrap();
        }
        let (from_one, from_two, from_new) = (one.serve(), two.serve(), new.serve());
        for rig in [&mut one, &mut two, &mut new] {
            let own = rig.node.node_ref();
            for (from, commands) in [(1, &from_one), (2, &from_two), (3, &from_new)] {
                if own.id != NodeId::new(from) {
                    rig.receive(commands.clone());
                }
            }
            rig.advance(Duration::from_millis(10));
        }
    }
    assert_eq!(two.node.peers().count(), 2);
    one.node.leave(one.now);
    two.receive(one.commands());
    for _ in 0..10 {
        let from_new = new.serve();
        two.serve();
        two.receive(from_new);
        two.advance(Duration::from_millis(500));
        new.advance(Duration::from_millis(500));
    }
    assert_eq!(two.node.peers().collect::<Vec<_>>(), [new.node.node_ref()]);
    assert_eq!((gaps(&mut two), gaps(&mut new)), (vec![], vec![]));
}

#[test]
fn goodbye_names_lost_publications() {
    let (mut one, mut two) = subscribed_pair(|_| {});
    one.publish("a", 10).unwrap();
    two.receive(one.commands());
    // The last publication is lost; the goodbye arrives.
    one.publish("a", 10).unwrap();
    one.commands();
    one.node.leave(one.now);
    two.receive(one.commands());
    assert_eq!(gaps(&mut two), []);
    two.advance(Duration::from_secs(1));
    assert_eq!(gaps(&mut two), [Some(channel("a"))]);
}

#[test]
fn restart_does_not_hide_lost_end() {
    let (mut one, mut two) = subscribed_pair(|_| {});
    one.publish("a", 10).unwrap();
    one.commands();
    one.node.leave(one.now);
    two.receive(one.commands());
    // Its next process follows before the loss is certain. Late messages of this one are dropped.
    let mut next = Rig::at_incarnation(1, 2 << 20, two.now);
    two.receive(next.serve());
    assert_eq!(gaps(&mut two), [Some(channel("a"))]);
    two.advance(Duration::from_secs(2));
    assert_eq!(gaps(&mut two), []);
}

#[test]
fn goodbye_without_all_ends_is_a_gap() {
    for rooms in [20, 40] {
        let (mut one, mut two) = subscribed_pair(|config| config.max_payload = 1 << 10);
        for number in 0..rooms {
            one.publish(&format!("room-{number}"), 10).unwrap();
        }
        one.node.leave(one.now);
        two.receive(one.commands());
        // Some of the rooms may have had a member here.
        let expected = if rooms == 40 { vec![None] } else { vec![] };
        assert_eq!(gaps(&mut two), expected, "{rooms}");
    }
}

#[test]
fn dead_node_that_returns_is_a_gap() {
    let (mut one, mut two) = subscribed_pair(|_| {});
    two.advance(Duration::from_secs(6));
    assert!(matches!(two.actions()[..], [ClusterAction::NodeLeft { .. }]));
    // Its later messages were not accepted.
    one.publish("a", 10).unwrap();
    two.receive(one.commands());
    let mut next = Rig::at_incarnation(1, 2 << 20, two.now);
    two.receive(next.serve());
    assert_eq!(gaps(&mut two), [None]);
}

#[test]
fn node_unknown_for_long_is_a_gap() {
    // The second node hears the first after less than an interval, or after more heartbeats than list an end.
    for (tenths, expected) in [(10, vec![]), (60, vec![None])] {
        let (mut one, mut two) = (Rig::new(1, |_| {}), Rig::new(2, |_| {}));
        two.node.add_interest(&Namespace::main(), Some(&Room::from("a")), two.now);
        // A third node keeps either from being alone.
        let mut third = Rig::at(3, one.now);
        for _ in 0..tenths {
            let (from_one, from_third) = (one.serve(), third.serve());
            third.receive(from_one);
            one.receive(from_third.clone());
            two.serve();
            two.receive(from_third);
            [&mut one, &mut two, &mut third]
                .into_iter()
                .for_each(|rig| rig.advance(Duration::from_millis(100)));
        }
        assert_eq!(gaps(&mut two), []);
        one.publish("b", 10).unwrap();
        two.receive(one.serve());
        assert_eq!(gaps(&mut two), expected, "{tenths}");
        // Once heard, it is not reported again.
        pass(&mut one, &mut two, Duration::from_secs(4));
        assert_eq!(gaps(&mut two), []);
    }
}

#[test]
fn lone_node_announces_omissions() {
    let (mut one, mut two) = (Rig::new(1, |_| {}), Rig::new(2, |_| {}));
    assert!(!one.node.is_alone());
    for _ in 0..12 {
        one.serve();
        two.serve();
        one.advance(Duration::from_millis(100));
        two.advance(Duration::from_millis(100));
    }
    // Either would have noticed another one, and publishes nothing.
    assert!(one.node.is_alone() && two.node.is_alone());
    pass(&mut one, &mut two, Duration::from_millis(2500));
    assert!(!one.node.is_alone() && !two.node.is_alone());
    assert!(gaps(&mut one).contains(&None) && gaps(&mut two).contains(&None));
    pass(&mut one, &mut two, Duration::from_secs(8));
    assert_eq!((gaps(&mut one), gaps(&mut two)), (vec![], vec![]));
    // A node that starts later is not concerned.
    let mut new = Rig::at(3, one.now);
    for _ in 0..100 {
        let (from_one, from_new) = (one.serve(), new.serve());
        new.receive(from_one);
        one.receive(from_new);
        one.advance(Duration::from_millis(10));
        new.advance(Duration::from_millis(10));
    }
    assert_eq!(new.node.peers().count(), 1);
    assert_eq!((gaps(&mut one), gaps(&mut new)), (vec![], vec![]));
}

#[test]
fn new_node_misses_nothing_of_lone_one() {
    let mut one = Rig::new(1, |_| {});
    for _ in 0..100 {
        one.serve();
        one.advance(Duration::from_millis(100));
    }
    assert!(one.node.is_alone());
    let mut new = Rig::at(2, one.now);
    // Its first heartbeat precedes its subscriptions, so that the other publishes before they are in effect.
    one.receive(new.serve());
    assert!(!one.node.is_alone());
    pass(&mut new, &mut one, Duration::from_secs(5));
    assert_eq!((gaps(&mut one), gaps(&mut new)), (vec![], vec![]));
}

#[test]
fn goodbye_announces_omissions() {
    // Seed 42828: a node is alone only shortly, and leaves before its next heartbeat.
    let (mut one, mut two) = subscribed_pair(|_| {});
    while !one.node.is_alone() {
        two.receive(one.serve());
        one.advance(Duration::from_millis(10));
        two.now = one.now;
    }
    assert_eq!(gaps(&mut two), []);
    one.node.leave(one.now);
    let commands = one.commands();
    assert!(matches!(commands[0], BackplaneCommand::Publish { channel: Channel::Nodes, .. }));
    two.receive(vec![commands[0].clone()]);
    assert_eq!(gaps(&mut two), [None]);
}

#[test]
fn node_without_engine_is_not_alone() {
    let mut rig = Rig::new(1, |_| {});
    let serve = |rig: &mut Rig| {
        for _ in 0..20 {
            rig.serve();
            rig.advance(Duration::from_millis(100));
        }
    };
    serve(&mut rig);
    assert!(rig.node.is_alone());
    // The engine accepts nothing: others may have joined.
    rig.advance(Duration::from_secs(3));
    assert!(!rig.node.is_alone());
    serve(&mut rig);
    assert!(rig.node.is_alone());
    rig.node.handle_event(BackplaneEvent::Unsubscribed { channels: Vec::new() }, rig.now);
    assert!(!rig.node.is_alone());
    serve(&mut rig);
    assert!(rig.node.is_alone());
}
