//! Behaviour of one node against a scripted engine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast_cluster::{
    BackplaneCommand, BackplaneEvent, Channel, ClusterAction, ClusterConfig, ClusterRequest, JoinResult,
    MissingReason, Node, NodeId, Publication, PublishError, QueueOverflow,
};
use roomcast_core::{Namespace, Room};

/// Node and its time.
struct Rig {
    node: Node,
    now: Instant,
}

impl Rig {
    #[expect(clippy::disallowed_methods, reason = "virtual time needs a start")]
    fn new(id: u64, configure: impl FnOnce(&mut ClusterConfig)) -> Self {
        let mut config = ClusterConfig::default();
        configure(&mut config);
        let now = Instant::now();
        Self { node: Node::new(Arc::new(config), NodeId::new(id), 1, now), now }
    }

    /// Returns the commands that are due.
    fn commands(&mut self) -> Vec<BackplaneCommand> {
        let now = self.now;
        std::iter::from_fn(|| self.node.poll_command(now)).collect()
    }

    fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.node.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.node.handle_timeout(self.now);
        }
        self.now = until;
    }

    /// Confirms what the node has subscribed to; returns all its commands.
    fn serve(&mut self) -> Vec<BackplaneCommand> {
        let commands = self.commands();
        for command in &commands {
            if let BackplaneCommand::Subscribe { channels, token } = command.clone() {
                self.node.handle_event(BackplaneEvent::Subscribed { channels, token }, self.now);
            }
        }
        commands
    }

    fn actions(&mut self) -> Vec<ClusterAction> {
        std::iter::from_fn(|| self.node.poll_action()).collect()
    }

    fn publish(&mut self, room: &str, len: usize) -> Result<(), PublishError> {
        self.node.publish(publication(room, len), self.now)
    }

    /// Passes the messages of another node.
    fn receive(&mut self, commands: Vec<BackplaneCommand>) {
        for command in commands {
            let BackplaneCommand::Publish { channel, payload } = command else { continue };
            // The inbox of another node is not subscribed.
            if !matches!(channel, Channel::Inbox(id) if id != self.node.node_ref().id) {
                self.node.handle_event(BackplaneEvent::Message { channel, payload }, self.now);
            }
        }
    }
}

fn publication(room: &str, len: usize) -> Publication {
    Publication {
        namespace: Namespace::main(),
        rooms: vec![Room::from(room)],
        except: Vec::new(),
        kind: 1,
        body: vec![7; len].into(),
    }
}

fn channel(room: &str) -> Channel {
    Channel::of(&Namespace::main(), Some(&Room::from(room)))
}

fn is_subscription(command: &BackplaneCommand) -> bool {
    matches!(command, BackplaneCommand::Subscribe { .. } | BackplaneCommand::Unsubscribe { .. })
}

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

/// Passes messages between two nodes for some heartbeats.
fn connect(one: &mut Rig, two: &mut Rig) {
    for _ in 0..10 {
        let (from_one, from_two) = (one.serve(), two.serve());
        one.receive(from_two);
        two.receive(from_one);
        one.advance(Duration::from_millis(500));
        two.advance(Duration::from_millis(500));
    }
}

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

/// Returns the messages on a channel.
fn messages(commands: &[BackplaneCommand], wanted: &Channel) -> Vec<BackplaneCommand> {
    let is_wanted = |command: &&BackplaneCommand| match command {
        BackplaneCommand::Publish { channel, .. } => channel == wanted,
        _ => false,
    };
    commands.iter().filter(is_wanted).cloned().collect()
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
    assert_eq!(actions.iter().filter(|action| **action == gap).count(), 1, "{actions:?}");
    assert_eq!(two.node.metrics().gaps, 1);
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

/// Two nodes; the second is subscribed to rooms `a` and `b`.
fn subscribed_pair(configure: impl Fn(&mut ClusterConfig)) -> (Rig, Rig) {
    let (mut one, mut two) = (Rig::new(1, &configure), Rig::new(2, &configure));
    for room in ["a", "b"] {
        two.node.add_interest(&Namespace::main(), Some(&Room::from(room)), two.now);
    }
    connect(&mut one, &mut two);
    one.actions();
    two.actions();
    (one, two)
}

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
