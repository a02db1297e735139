//! Memory of a node, counted at the allocator.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use roomcast_cluster::{
    BackplaneCommand, BackplaneEvent, ClusterAction, ClusterConfig, Node, NodeId, Publication,
};
use roomcast_core::{Namespace, Room};

const CHANNELS: usize = 10_000;

/// Names of 16 bytes.
fn rooms() -> Vec<Room> {
    (0..CHANNELS).map(|index| Room::from(format!("room-{index:011}"))).collect()
}

#[expect(clippy::disallowed_methods, reason = "virtual time needs a start")]
fn node(id: u64) -> (Node, Instant) {
    let now = Instant::now();
    (Node::new(Arc::new(ClusterConfig::default()), NodeId::new(id), 1, now), now)
}

/// Passes some seconds, and confirms all subscriptions. Returns the published messages.
fn pass(node: &mut Node, now: &mut Instant, seconds: u64) -> Vec<BackplaneEvent> {
    let mut messages = Vec::new();
    for _ in 0..10 * seconds {
        *now += Duration::from_millis(100);
        node.handle_timeout(*now);
        while let Some(command) = node.poll_command(*now) {
            match command {
                BackplaneCommand::Subscribe { channels, token } => {
                    node.handle_event(BackplaneEvent::Subscribed { channels, token }, *now);
                }
                BackplaneCommand::Publish { channel, payload } => {
                    messages.push(BackplaneEvent::Message { channel, payload });
                }
                _ => {}
            }
        }
        while node.poll_action().is_some() {}
    }
    messages
}

fn bytes_per_channel(work: impl FnOnce()) -> i64 {
    measure(work).bytes_current / CHANNELS as i64
}

fn publish(node: &mut Node, now: Instant, rooms: &[Room]) {
    for room in rooms {
        let (namespace, rooms) = (Namespace::main(), vec![room.clone()]);
        let publication =
            Publication { namespace, rooms, except: Vec::new(), kind: 1, body: vec![7; 20].into() };
        node.publish(publication, now).unwrap();
    }
}

/// Passes messages of another node; returns the bytes that remain for each channel.
fn hear(node: &mut Node, now: Instant, messages: &[BackplaneEvent]) -> i64 {
    bytes_per_channel(|| {
        for message in messages.iter().cloned() {
            node.handle_event(message, now);
            while let Some(action) = node.poll_action() {
                black_box(matches!(action, ClusterAction::Deliver { .. }));
            }
        }
    })
}

#[test]
fn memory_per_channel_is_bounded() {
    let rooms = rooms();
    let ((mut one, mut now_one), (mut two, mut now_two)) = (node(1), node(2));
    let subscribed = bytes_per_channel(|| {
        rooms.iter().for_each(|room| two.add_interest(&Namespace::main(), Some(room), now_two));
        pass(&mut two, &mut now_two, 10);
    });
    assert_eq!(two.metrics().channels, CHANNELS + 3);

    let published = bytes_per_channel(|| {
        publish(&mut one, now_one, &rooms);
        drop(pass(&mut one, &mut now_one, 4));
    });
    publish(&mut one, now_one, &rooms);
    let messages = pass(&mut one, &mut now_one, 1);
    let heard = hear(&mut two, now_two, &messages);
    let (mut three, mut now_three) = node(3);
    publish(&mut three, now_three, &rooms);
    let messages = pass(&mut three, &mut now_three, 1);
    let second = hear(&mut two, now_two, &messages);
    assert_eq!(two.metrics().delivered as usize, 2 * CHANNELS);
    let forgotten = bytes_per_channel(|| drop(pass(&mut one, &mut now_one, 10)));
    println!("bytes: subscribed {subscribed}, heard {heard} and {second}, published {published}");
    assert!((1..=SUBSCRIBED).contains(&subscribed), "{subscribed}");
    assert!((1..=HEARD).contains(&heard), "{heard}");
    assert!((1..=SECOND).contains(&second), "{second}");
    assert!(forgotten <= -published, "{forgotten}");
    assert!((1..=PUBLISHED).contains(&published), "{published}");
}

/// Bytes that the crate's documentation states for each subscribed channel.
const SUBSCRIBED: i64 = 400;
/// For the first node that publishes on it, in addition.
const HEARD: i64 = 220;
/// For the second such node, which costs more than later ones.
const SECOND: i64 = 360;
/// For each channel on which a node has published.
const PUBLISHED: i64 = 400;
