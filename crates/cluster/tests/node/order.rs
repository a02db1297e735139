//! Order of publications to several rooms.

use std::time::Duration;

use roomcast_cluster::{ClusterAction, Publication};
use roomcast_core::{Namespace, Room};

use crate::rig::{Rig, channel, messages, publication, subscribed_pair};

/// Returns the length of each delivered publication, and the number of its excluded rooms.
fn delivered(rig: &mut Rig) -> Vec<(usize, usize)> {
    let delivered = rig.actions().into_iter().filter_map(|action| match action {
        ClusterAction::Deliver { publication, .. } => {
            Some((publication.body.len(), publication.except.len()))
        }
        _ => None,
    });
    delivered.collect()
}

fn publish_to_both(rig: &mut Rig, len: usize) {
    let rooms = vec![Room::from("a"), Room::from("b")];
    rig.node.publish(Publication { rooms, ..publication("a", len) }, rig.now).unwrap();
}

#[test]
fn publications_to_several_rooms_keep_order() {
    for first in ["a", "b"] {
        let (mut one, mut two) = subscribed_pair(|_| {});
        one.publish("a", 1).unwrap();
        publish_to_both(&mut one, 2);
        one.publish("b", 3).unwrap();
        one.publish("a", 4).unwrap();
        let commands = one.commands();
        let (on_a, on_b) = (messages(&commands, &channel("a")), messages(&commands, &channel("b")));
        // One channel is late.
        let (early, late) = if first == "a" { (on_a, on_b) } else { (on_b, on_a) };
        two.receive(early);
        two.advance(Duration::from_millis(900));
        two.receive(late);
        let mut found = delivered(&mut two);
        assert_eq!(found[..2], [(1, 0), (2, 0)], "{first}");
        found.sort_unstable();
        assert_eq!(found, [(1, 0), (2, 0), (3, 0), (4, 0)], "{first}");
        assert_eq!(two.node.metrics().gaps, 0);
        assert_eq!(two.node.metrics().reassembly_bytes, 0);
    }
}

#[test]
fn absent_copy_is_awaited_briefly() {
    let (mut one, mut two) = subscribed_pair(|_| {});
    one.publish("a", 1).unwrap();
    publish_to_both(&mut one, 2);
    let commands = one.commands();
    two.receive(messages(&commands, &channel("b")));
    two.advance(Duration::from_millis(999));
    assert_eq!(delivered(&mut two), []);
    two.advance(Duration::from_millis(1));
    assert_eq!(delivered(&mut two), [(2, 0)]);
    // An earlier publication on the late channel would break the order.
    two.receive(messages(&commands, &channel("a")));
    let gap = ClusterAction::Gap { channel: Some(channel("a")), from: Some(one.node.node_ref()), lost: None };
    assert_eq!(two.actions(), [gap]);
}

#[test]
fn common_room_orders_several() {
    let (mut one, mut two) = subscribed_pair(|_| {});
    two.node.add_interest(&Namespace::main(), Some(&Room::from("c")), two.now);
    two.advance(Duration::from_millis(10));
    two.serve();
    two.actions();
    one.now = two.now;
    for (len, room) in [(1, "b"), (2, "a")] {
        let rooms = vec![Room::from(room), Room::from("c")];
        one.node.publish(Publication { rooms, ..publication("c", len) }, one.now).unwrap();
        // The copies on channel `c` are lost.
        two.receive(messages(&one.commands(), &channel(room)));
    }
    assert_eq!(delivered(&mut two), []);
    one.publish("c", 3).unwrap();
    two.receive(one.commands());
    assert_eq!(delivered(&mut two), [(1, 0), (2, 0), (3, 0)]);
}

#[test]
fn left_room_is_not_awaited() {
    let (mut one, mut two) = subscribed_pair(|_| {});
    two.node.remove_interest(&Namespace::main(), Some(&Room::from("a")), two.now);
    publish_to_both(&mut one, 2);
    two.receive(messages(&one.commands(), &channel("b")));
    assert_eq!(delivered(&mut two), [(2, 0)]);
}

#[test]
fn overtaken_rooms_are_excluded() {
    let (mut one, mut two) = subscribed_pair(|_| {});
    publish_to_both(&mut one, 2);
    let late = messages(&one.commands(), &channel("b"));
    // The copy on channel `a` is lost, and a later publication arrives there first.
    one.publish("a", 3).unwrap();
    two.receive(one.commands());
    assert_eq!(delivered(&mut two), [(3, 0)]);
    two.receive(late);
    assert_eq!(delivered(&mut two), [(2, 1)]);
}

#[test]
fn waiting_publications_respect_memory_limit() {
    let (mut one, mut two) = subscribed_pair(|config| config.reassembly_bytes = 10_000);
    for _ in 0..100 {
        publish_to_both(&mut one, 1000);
        two.receive(messages(&one.commands(), &channel("b")));
        assert!(two.node.metrics().reassembly_bytes <= 10_000);
    }
    assert!(delivered(&mut two).len() >= 90);
}

#[test]
fn rejoined_node_sends_no_further_copies() {
    let (mut one, mut two) = subscribed_pair(|_| {});
    publish_to_both(&mut one, 2);
    one.publish("b", 3).unwrap();
    // The engine accepts one command, then nothing for longer than the timeout.
    let sent = one.node.poll_command(one.now).unwrap();
    two.receive(vec![sent]);
    two.advance(Duration::from_secs(2));
    one.advance(Duration::from_secs(10));
    let commands = one.commands();
    two.receive(commands);
    two.advance(Duration::from_secs(2));
    assert_eq!(delivered(&mut two), [(2, 0), (3, 0)]);
    assert_eq!(one.node.metrics().dropped, 1);
}
