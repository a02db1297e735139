//! The queue after an outage of the engine, which keeps nothing for nodes that have not subscribed again.

use std::time::Duration;

use roomcast_cluster::{BackplaneCommand, BackplaneEvent, Channel, ClusterAction, ClusterConfig};

use crate::rig::{Rig, channel, is_subscription, messages, subscribed_pair};

const DELAY: Duration = Duration::from_millis(500);
/// Longer than the delay of subscribe commands.
const SHORT: Duration = Duration::from_millis(10);

/// The engine of a node loses its connection for a time.
fn lose_engine(rig: &mut Rig, time: Duration) {
    rig.node.handle_event(BackplaneEvent::Unsubscribed { channels: Vec::new() }, rig.now);
    rig.advance(time);
}

/// Returns the number of publications that were delivered.
fn delivered(rig: &mut Rig) -> usize {
    rig.actions().iter().filter(|action| matches!(action, ClusterAction::Deliver { .. })).count()
}

fn has_messages(commands: &[BackplaneCommand], room: &str) -> bool {
    !messages(commands, &channel(room)).is_empty()
}

#[test]
fn queue_waits_until_others_return() {
    let (mut one, mut two) = subscribed_pair(|_| {});
    lose_engine(&mut one, Duration::from_secs(1));
    lose_engine(&mut two, Duration::from_secs(1));
    one.publish("a", 10).unwrap();
    one.publish("b", 10).unwrap();
    // It is back first: it subscribes, and sends a heartbeat that reaches no node.
    let commands = one.serve();
    assert!(is_subscription(&commands[0]), "{commands:?}");
    one.advance(DELAY - SHORT);
    two.now = one.now;
    let more = one.serve();
    assert!(!has_messages(&commands, "a") && !has_messages(&more, "a"));
    assert_eq!(one.node.metrics().queue_len, 2);
    // The heartbeat of the other follows its subscriptions.
    one.receive(two.serve());
    let commands = one.serve();
    assert!(has_messages(&commands, "a") && has_messages(&commands, "b"));
    two.receive(commands);
    assert_eq!(delivered(&mut two), 2);
}

#[test]
fn wait_for_others_is_bounded() {
    let (mut one, mut two) = subscribed_pair(|_| {});
    lose_engine(&mut one, Duration::from_secs(1));
    lose_engine(&mut two, Duration::from_secs(1));
    one.publish("a", 10).unwrap();
    // The engine is away: the queue is work that it does not accept.
    assert!(one.node.has_commands(one.now));
    assert!(!has_messages(&one.serve(), "a"));
    assert!(!has_messages(&one.serve(), "a"));
    one.advance(DELAY - SHORT);
    assert!(!has_messages(&one.serve(), "a"));
    assert!(one.node.poll_timeout().is_some_and(|at| at <= one.now + SHORT));
    one.advance(SHORT);
    assert!(has_messages(&one.serve(), "a"));
}

#[test]
fn heartbeats_before_own_return_do_not_count() {
    let (mut one, mut two) = subscribed_pair(|_| {});
    two.advance(Duration::from_millis(1500));
    let stale = two.serve();
    lose_engine(&mut one, SHORT);
    one.publish("a", 10).unwrap();
    one.receive(stale);
    assert!(!has_messages(&one.serve(), "a"));
}

#[test]
fn nodes_that_left_are_not_awaited() {
    let (mut one, mut two) = subscribed_pair(|_| {});
    lose_engine(&mut one, SHORT);
    one.publish("a", 10).unwrap();
    assert!(!has_messages(&one.serve(), "a"));
    two.node.leave(two.now);
    one.receive(two.commands());
    assert!(has_messages(&one.serve(), "a"));
    // Without others there is nothing to wait for.
    lose_engine(&mut one, SHORT);
    one.publish("a", 10).unwrap();
    assert!(has_messages(&one.serve(), "a"));
}

#[test]
fn queue_survives_death_on_both_sides() {
    // From shorter than the timeout to longer: each may have declared the other dead, or be about to.
    for tenths in 30..80 {
        let (mut one, mut two) = subscribed_pair(|_| {});
        let time = Duration::from_millis(100 * tenths);
        // A frozen engine still accepts some heartbeats, and is noticed later.
        for rig in [&mut one, &mut two] {
            for _ in 0..3 {
                rig.advance(Duration::from_millis(700));
                rig.commands();
            }
            lose_engine(rig, time - Duration::from_millis(2100));
        }
        one.publish("a", 10).unwrap();
        two.actions();
        let mut count = 0;
        for step in 0..60 {
            let (from_one, from_two) = (one.serve(), if step > 20 { two.serve() } else { Vec::new() });
            if step > 20 {
                two.receive(from_one);
            }
            one.receive(from_two);
            count += delivered(&mut two);
            one.advance(SHORT);
            two.advance(SHORT);
        }
        assert_eq!(count, 1, "after {time:?}: {:?}", two.node.metrics());
        assert_eq!(two.node.peers().collect::<Vec<_>>(), [one.node.node_ref()], "{time:?}");
    }
}

#[test]
fn goodbye_follows_delayed_queue() {
    let (mut one, mut two) = subscribed_pair(|_| {});
    lose_engine(&mut one, SHORT);
    lose_engine(&mut two, SHORT);
    one.publish("a", 10).unwrap();
    one.node.leave(one.now);
    assert!(!has_messages(&one.serve(), "a"));
    assert!(one.actions().iter().all(|action| !matches!(action, ClusterAction::Left)));
    // Its heartbeat follows the confirmation.
    two.serve();
    one.receive(two.serve());
    let commands = one.serve();
    assert!(has_messages(&commands, "a"));
    let goodbye = commands
        .iter()
        .rposition(|command| matches!(command, BackplaneCommand::Publish { channel: Channel::Nodes, .. }));
    let message = commands.iter().position(
        |command| matches!(command, BackplaneCommand::Publish { channel: of, .. } if *of == channel("a")),
    );
    assert!(goodbye > message, "{commands:?}");
    assert!(one.actions().iter().any(|action| matches!(action, ClusterAction::Left)));
}

#[test]
fn delay_of_zero_sends_at_once() {
    let (mut one, _two) = subscribed_pair(|config: &mut ClusterConfig| config.resume_delay = Duration::ZERO);
    lose_engine(&mut one, SHORT);
    one.publish("a", 10).unwrap();
    let mut commands = one.serve();
    one.advance(Duration::ZERO);
    commands.extend(one.serve());
    assert!(has_messages(&commands, "a"));
}
