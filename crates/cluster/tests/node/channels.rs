//! Subscriptions, the queue towards the engine, and requests.

use std::time::Duration;

use bytes::Bytes;
use roomcast_cluster::{
    BackplaneCommand, BackplaneEvent, Channel, ClusterAction, ClusterConfig, ClusterRequest, JoinResult,
    MissingReason, NodeId, PublishError, QueueOverflow,
};
use roomcast_core::{Namespace, Room};

use crate::rig::{Rig, channel, is_subscription, publication};

#[test]
fn thousands_of_joins_share_commands() {
    let mut rig = Rig::new(1, |_| {});
    rig.advance(Duration::from_millis(10));
    rig.serve();
    let mut commands = 0;
    // 10,000 joins and as many leaves within a second.
    for index in 0..10_000 {
        let room = Room::from(format!("room-{index}"));
        rig.node.add_interest(&Namespace::main(), Some(&room), rig.now);
        rig.advance(Duration::from_micros(100));
        rig.node.remove_interest(&Namespace::main(), Some(&room), rig.now);
        commands += rig.serve().iter().filter(|command| is_subscription(command)).count();
    }
    assert!((1..=250).contains(&commands), "{commands} commands");
    rig.advance(Duration::from_secs(10));
    rig.serve();
    assert_eq!(rig.node.metrics().channels, 3);
}

#[test]
fn rejoined_room_stays_subscribed() {
    let mut rig = Rig::new(1, |_| {});
    let room = Room::from("a");
    for _ in 0..100 {
        rig.node.add_interest(&Namespace::main(), Some(&room), rig.now);
        rig.advance(Duration::from_millis(10));
        rig.serve();
        rig.node.remove_interest(&Namespace::main(), Some(&room), rig.now);
        rig.advance(Duration::from_secs(1));
        rig.serve();
    }
    assert_eq!(rig.node.metrics().subscribe_commands, 1);
}

#[test]
fn own_ids_cost_no_subscription() {
    let mut rig = Rig::new(1, |_| {});
    let tag = NodeId::new(1).tag();
    for index in 0..1000 {
        let room = Room::from(format!("{tag}{index:012}"));
        rig.node.add_interest(&Namespace::main(), Some(&room), rig.now);
    }
    rig.advance(Duration::from_secs(1));
    let commands: Vec<_> = rig.serve().into_iter().filter(is_subscription).collect();
    assert!(matches!(&commands[..], [BackplaneCommand::Subscribe { channels, .. }] if channels.len() == 3));
}

#[test]
fn busy_channel_is_sent_in_batches() {
    let mut rig = Rig::new(1, |_| {});
    rig.serve();
    for _ in 0..1000 {
        rig.publish("a", 20).unwrap();
        rig.publish("b", 20).unwrap();
    }
    let sent = rig.commands().len();
    assert_eq!(sent, 2 * 1000_usize.div_ceil(256));
    assert_eq!(rig.node.metrics().queue_bytes, 0);
}

#[test]
fn large_publication_is_split_or_rejected() {
    let (mut one, mut two) = (Rig::new(1, |_| {}), Rig::new(2, |_| {}));
    two.node.add_interest(&Namespace::main(), Some(&Room::from("a")), two.now);
    two.advance(Duration::from_millis(10));
    two.serve();
    one.now = two.now;
    one.publish("a", 3 << 20).unwrap();
    let commands = one.commands();
    for command in &commands {
        if let BackplaneCommand::Publish { payload, .. } = command {
            assert!(payload.len() <= 256 << 10, "{}", payload.len());
        }
    }
    two.receive(commands);
    let actions = two.actions();
    let is_whole = |action: &ClusterAction| matches!(action, ClusterAction::Deliver { publication: found, .. } if *found == publication("a", 3 << 20));
    assert!(actions.iter().any(is_whole));
    assert_eq!(two.node.metrics().reassembly_bytes, 0);

    let error = one.publish("a", 17 << 20).unwrap_err();
    assert!(matches!(error, PublishError::TooLarge { limit, .. } if limit == 16 << 20), "{error}");
    assert_eq!(one.node.metrics().rejected, 1);
}

#[test]
fn queue_policies_bound_memory() {
    let policies = [QueueOverflow::DropOldest, QueueOverflow::DropNewest, QueueOverflow::Reject];
    for policy in policies {
        let mut rig = Rig::new(1, |config| {
            config.queue_bytes = 100_000;
            config.queue_overflow = policy;
        });
        rig.serve();
        let rejected = (0..10_000).filter(|_| rig.publish("a", 1000).is_err()).count() as u64;
        let metrics = rig.node.metrics();
        assert!(metrics.queue_bytes <= 100_000 && metrics.queue_bytes > 90_000, "{policy:?}: {metrics:?}");
        let lost = 10_000 - metrics.queue_len as u64;
        let expected = if policy == QueueOverflow::Reject { (0, lost) } else { (lost, 0) };
        assert_eq!((metrics.dropped, metrics.rejected), expected, "{policy:?}");
        assert_eq!(rejected, metrics.rejected);
    }
}

#[test]
fn dropped_publications_are_a_gap() {
    for policy in [QueueOverflow::DropOldest, QueueOverflow::DropNewest] {
        let configure = |config: &mut ClusterConfig| {
            config.queue_bytes = 10_000;
            config.queue_overflow = policy;
        };
        let (mut one, mut two) = (Rig::new(1, configure), Rig::new(2, |_| {}));
        two.node.add_interest(&Namespace::main(), Some(&Room::from("a")), two.now);
        two.advance(Duration::from_millis(10));
        two.serve();
        one.now = two.now;
        one.publish("a", 10).unwrap();
        two.receive(one.commands());
        two.actions();
        (0..100).for_each(|_| one.publish("a", 1000).unwrap());
        two.receive(one.commands());
        one.publish("a", 10).unwrap();
        two.receive(one.commands());
        let lost: u64 = two
            .actions()
            .iter()
            .filter_map(|action| match action {
                ClusterAction::Gap { lost, .. } => *lost,
                _ => None,
            })
            .sum();
        assert_eq!(lost, one.node.metrics().dropped, "{policy:?}");
    }
}

#[test]
fn unconfirmed_join_is_degraded_and_retried() {
    let mut rig = Rig::new(1, |_| {});
    let room = Room::from("a");
    rig.node.add_interest(&Namespace::main(), Some(&room), rig.now);
    let ticket = rig.node.await_join(&Namespace::main(), Some(&room), rig.now);
    rig.advance(Duration::from_millis(999));
    assert_eq!(rig.actions(), []);
    rig.commands();
    rig.advance(Duration::from_millis(1));
    assert_eq!(rig.actions(), [ClusterAction::Heard { ticket, outcome: JoinResult::Degraded }]);
    let metrics = rig.node.metrics();
    assert_eq!((metrics.degraded, metrics.degraded_joins), (1, 1));
    rig.advance(Duration::from_millis(100));
    assert!(rig.serve().iter().any(is_subscription));
    let metrics = rig.node.metrics();
    assert_eq!((metrics.degraded, metrics.subscribe_retries), (0, 4));
    let gap = ClusterAction::Gap { channel: Some(channel("a")), from: None, lost: None };
    assert_eq!(rig.actions(), [gap]);
}

#[test]
fn request_to_absent_node_ends_at_once() {
    let mut rig = Rig::new(1, |_| {});
    let timeout = Duration::from_secs(5);
    let request = |to| ClusterRequest { to, kind: 1, body: Bytes::new(), timeout };
    rig.node.request(request(None), rig.now).unwrap();
    let ended = rig.actions();
    assert!(matches!(&ended[..], [ClusterAction::Done { missing, .. }] if missing.is_empty()), "{ended:?}");
    rig.node.request(request(Some(NodeId::new(9))), rig.now).unwrap();
    let ended = rig.actions();
    let ClusterAction::Done { missing, .. } = &ended[0] else { panic!("{ended:?}") };
    assert_eq!((missing[0].node.id, missing[0].reason), (NodeId::new(9), MissingReason::NotInCluster));
}

#[test]
fn leaving_node_sends_its_queue_first() {
    let (mut one, mut two) = (Rig::new(1, |_| {}), Rig::new(2, |_| {}));
    two.node.add_interest(&Namespace::main(), Some(&Room::from("a")), two.now);
    two.advance(Duration::from_millis(10));
    two.serve();
    one.now = two.now;
    one.publish("a", 10).unwrap();
    one.node.leave(one.now);
    assert_eq!(one.publish("a", 10), Err(PublishError::Left));
    let commands = one.commands();
    assert!(matches!(commands.last(), Some(BackplaneCommand::Unsubscribe { .. })));
    assert_eq!(one.actions(), [ClusterAction::Left]);
    two.receive(commands);
    let names: Vec<_> = two
        .actions()
        .iter()
        .map(|action| match action {
            ClusterAction::NodeJoined { .. } => "joined",
            ClusterAction::Deliver { .. } => "deliver",
            ClusterAction::NodeLeft { .. } => "left",
            _ => "other",
        })
        .collect();
    assert_eq!(names, ["joined", "deliver", "left"]);
}

#[test]
fn marks_pass_with_earlier_publications() {
    let mut rig = Rig::new(1, |config| config.queue_bytes = 2 << 20);
    rig.serve();
    let idle = rig.node.mark();
    assert!(rig.node.has_passed(idle));
    rig.publish("a", 10).unwrap();
    rig.publish("b", 600 << 10).unwrap();
    let mark = rig.node.mark();
    assert_eq!(rig.node.mark(), mark);
    // Channels take turns, so later publications may be sent before earlier ones.
    rig.publish("c", 10).unwrap();
    rig.publish("a", 10).unwrap();
    let later = rig.node.mark();
    let mut passed = Vec::new();
    while !rig.node.has_passed(later) {
        let Some(BackplaneCommand::Publish { channel, .. }) = rig.node.poll_command(rig.now) else {
            panic!()
        };
        passed.push((channel, rig.node.has_passed(mark)));
    }
    // The large one has three parts, of which the last is sent last.
    let names = |room: &str, is_passed| (channel(room), is_passed);
    let expected =
        [names("a", false), names("b", false), names("c", false), names("b", false), names("b", true)];
    assert_eq!(passed, expected);

    // Dropped publications pass too.
    (0..100).for_each(|_| rig.publish("d", 10 << 10).unwrap());
    let mark = rig.node.mark();
    (0..300).for_each(|_| rig.publish("d", 10 << 10).unwrap());
    assert!(rig.node.has_passed(mark));
    assert_eq!(rig.node.metrics().queue_bytes, rig.node.queue_bytes());
}

#[test]
fn left_room_is_unsubscribed_after_lost_connection() {
    let mut rig = Rig::new(1, |_| {});
    let room = Room::from("a");
    rig.node.add_interest(&Namespace::main(), Some(&room), rig.now);
    // The engine accepts nothing, so that the command stays queued.
    rig.advance(Duration::from_millis(10));
    rig.node.remove_interest(&Namespace::main(), Some(&room), rig.now);
    rig.node.handle_event(BackplaneEvent::Unsubscribed { channels: Vec::new() }, rig.now);
    rig.advance(Duration::from_secs(20));
    let mut subscribed = Vec::new();
    for command in rig.commands() {
        match command {
            BackplaneCommand::Subscribe { channels, .. } => subscribed.extend(channels),
            BackplaneCommand::Unsubscribe { channels } => {
                subscribed.retain(|channel| !channels.contains(channel));
            }
            _ => {}
        }
    }
    assert!(!subscribed.contains(&channel("a")), "{subscribed:?}");
    assert!(subscribed.contains(&Channel::Nodes));
}

#[test]
fn late_confirmation_is_accepted() {
    let mut rig = Rig::new(1, |_| {});
    let room = Room::from("a");
    rig.node.add_interest(&Namespace::main(), Some(&room), rig.now);
    rig.advance(Duration::from_millis(10));
    // The room is left when the subscription is due again, and joined once more.
    let commands = rig.commands();
    rig.advance(Duration::from_millis(994));
    rig.node.remove_interest(&Namespace::main(), Some(&room), rig.now);
    rig.advance(Duration::from_millis(100));
    for command in commands {
        if let BackplaneCommand::Subscribe { channels, token } = command {
            rig.node.handle_event(BackplaneEvent::Subscribed { channels, token }, rig.now);
        }
    }
    rig.node.add_interest(&Namespace::main(), Some(&room), rig.now);
    let ticket = rig.node.await_join(&Namespace::main(), Some(&room), rig.now);
    assert_eq!(rig.actions(), [ClusterAction::Heard { ticket, outcome: JoinResult::Confirmed }]);
}

#[test]
fn split_publications_respect_queue_limit() {
    for len in (1000..20_000).step_by(777) {
        let mut rig = Rig::new(1, |config| {
            config.queue_bytes = 16 << 10;
            config.max_payload = 1 << 10;
        });
        rig.serve();
        for _ in 0..20 {
            let _ = rig.publish("a", len);
            assert!(rig.node.metrics().queue_bytes <= 16 << 10, "{len}");
        }
    }
}
