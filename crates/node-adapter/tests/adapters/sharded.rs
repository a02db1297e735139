//! Nodes with the sharded adapter.

use std::sync::Arc;
use std::time::Duration;

use roomcast_core::{Args, Membership, Namespace, Room};
use roomcast_node_adapter::{
    Action, AdapterNamespace, Answer, Flags, Query, QueryRefused, ShardedConfig, ShardedNamespace,
    SubscriptionMode, cluster_uid,
};

use crate::network::{Network, TIMEOUT, TestNamespace};
use crate::{event, rooms, to};

impl TestNamespace for ShardedNamespace {}

const MODES: [SubscriptionMode; 3] =
    [SubscriptionMode::Static, SubscriptionMode::Dynamic, SubscriptionMode::DynamicPrivate];

fn network(count: u64, mode: SubscriptionMode) -> Network<ShardedNamespace> {
    let mut config = ShardedConfig::default();
    config.mode = mode;
    let config = Arc::new(config);
    let mut network = Network::new(count, |index| {
        ShardedNamespace::new(config.clone(), Namespace::main(), &cluster_uid(index + 1))
    });
    for node in &mut network.nodes {
        node.rooms.iter().for_each(|room| node.node.room_created(room));
    }
    network.run();
    network
}

#[test]
fn operations_act_on_other_nodes_only() {
    for mode in MODES {
        let mut network = network(3, mode);
        let now = network.now;
        let node = &mut network.nodes[0].node;
        node.broadcast(&to(&["all"], &["s2"]), &Flags::default(), &event("e", 1), now).expect("encodes");
        let volatile = Flags { volatile: true, ..Flags::default() };
        node.broadcast(&to(&["r2"], &[]), &volatile, &event("e", 2), now).expect("encodes");
        node.update(to(&["r1"], &[]), Membership::Join(rooms(&["new"])), now).expect("encodes");
        node.disconnect(to(&["all"], &["r1"]), true, now).expect("encodes");
        node.server_side_emit(&"s".into(), &Args::empty()).expect("encodes");
        network.run();
        let expected = [
            vec![],
            vec!["e 1 Reliable -", "Join([Room(\"new\")])", "server s "],
            vec!["e 2 Volatile -", "disconnect true", "server s "],
        ];
        assert_eq!(network.logs(), expected, "{mode:?}");
        let metrics = network.nodes[0].node.metrics();
        assert_eq!((metrics.unreadable, metrics.ignored), (0, 0));
    }
}

#[test]
fn requests_collect_answers_of_all_nodes() {
    MODES.into_iter().for_each(|mode| network(4, mode).check_requests());
}

#[test]
fn answers_go_to_asking_node_only() {
    let mut network = network(3, SubscriptionMode::Static);
    network.ask(Query::Fetch(to(&[], &[])));
    let channels: Vec<&str> = network.published.iter().map(|(channel, _)| &**channel).collect();
    let own = "socket.io#/#0000000000000001#";
    assert_eq!(channels, ["socket.io#/#", own, own]);
    assert_eq!(network.nodes[1].node.metrics().messages_in, 1);
}

#[test]
fn modes_select_channels() {
    let id = "x".repeat(20);
    let wide = "é".repeat(20);
    // Twenty UTF-16 units, forty bytes.
    let astral = "😀".repeat(10);
    let digits = "12345678901234567000";
    for (room, published, subscribed) in [
        ("r", [false, true, true], [false, true, true]),
        ("", [false, true, true], [false, true, true]),
        ("7", [false, true, true], [false, true, true]),
        (&id, [false, false, true], [false, false, true]),
        (&wide, [false, false, true], [false, false, true]),
        (&astral, [false, false, true], [false, false, true]),
        // A number of Node with these digits is no string of 20 characters.
        (digits, [false, false, true], [false, true, true]),
    ] {
        for (index, mode) in MODES.into_iter().enumerate() {
            let mut config = ShardedConfig::default();
            config.mode = mode;
            let mut node = ShardedNamespace::new(Arc::new(config), Namespace::main(), "u");
            let channel = format!("socket.io#/#{room}#");
            let expected = subscribed[index].then(|| channel.clone().into());
            assert_eq!(node.room_channel(&Room::new(room)), expected, "{room} {mode:?}");
            while node.poll_action().is_some() {}
            let now = network(1, mode).now;
            node.broadcast(&to(&[room], &[]), &Flags::default(), &event("e", 1), now).expect("encodes");
            let Some(Action::Publish { channel: used, .. }) = node.poll_action() else { panic!("publishes") };
            assert_eq!(&*used == channel.as_str(), published[index], "{room} {mode:?} {used}");
        }
    }
}

#[test]
fn only_plain_broadcasts_to_one_room_use_its_channel() {
    let mut network = network(2, SubscriptionMode::DynamicPrivate);
    let now = network.now;
    let node = &mut network.nodes[0].node;
    for (recipients, own) in [
        (to(&["a"], &[]), true),
        (to(&["a"], &["b"]), true),
        (to(&["a", "b"], &[]), false),
        (to(&[], &["a"]), false),
    ] {
        node.broadcast(&recipients, &Flags::default(), &event("e", 1), now).expect("encodes");
        let Some(Action::Publish { channel, .. }) = node.poll_action() else { panic!("publishes") };
        assert_eq!(channel == "socket.io#/#a#", own, "{recipients:?}");
    }
    network.ask(Query::Broadcast(to(&["a"], &[]), Flags::default(), event("e", 1)));
    assert_eq!(network.published[0].0, "socket.io#/#");
}

#[test]
fn subscriptions_follow_rooms() {
    let mut network = network(1, SubscriptionMode::Dynamic);
    let names = |network: &Network<ShardedNamespace>| -> Vec<String> {
        let node = &network.nodes[0];
        let all: std::collections::BTreeSet<String> =
            node.node.subscriptions().map(ToString::to_string).collect();
        assert_eq!(all, node.subscriptions, "a new connection gets the same");
        all.iter().filter_map(|channel| Some(channel.strip_prefix("socket.io#/#")?.to_owned())).collect()
    };
    assert_eq!(names(&network), ["", "0000000000000001#", "all#", "r0#", "s0#"]);
    let node = &mut network.nodes[0].node;
    node.room_created(&"all".into());
    node.room_created(&"new".into());
    node.room_created(&"0000000000000001".into());
    node.room_created(&"x".repeat(20).into());
    node.room_deleted(&"r0".into());
    node.room_deleted(&"never".into());
    network.run();
    assert_eq!(names(&network), ["", "0000000000000001#", "all#", "new#", "s0#"]);
    // A room with the name of the node does not end the subscription to its answers.
    network.nodes[0].node.room_deleted(&"0000000000000001".into());
    network.run();
    assert_eq!(names(&network).len(), 5);
    let now = network.now;
    network.nodes[0].node.close(now);
    network.nodes[0].node.close(now);
    network.nodes[0].node.room_created(&"late".into());
    network.run();
    assert!(names(&network).is_empty());
}

#[test]
fn closed_node_is_not_waited_for() {
    let mut network = network(3, SubscriptionMode::Dynamic);
    let now = network.now;
    network.nodes[2].node.close(now);
    network.run();
    let request = network.ask(Query::Fetch(to(&[], &[])));
    assert_eq!((network.missing(request), network.nodes[0].answers.len()), (Some(Some(0)), 1));
}

#[test]
fn lone_node_publishes_no_request() {
    let mut network = network(1, SubscriptionMode::Dynamic);
    let request = network.ask(Query::Fetch(to(&[], &[])));
    assert_eq!(network.missing(request), Some(Some(0)));
    assert!(network.published.is_empty());
}

#[test]
fn frozen_node_ends_request_at_deadline() {
    let mut network = network(3, SubscriptionMode::Dynamic);
    network.nodes[2].is_frozen = true;
    let fetch = network.ask(Query::Fetch(to(&[], &[])));
    let broadcast = network.ask(Query::Broadcast(to(&[], &[]), Flags::default(), event("e", 1)));
    network.advance(TIMEOUT - Duration::from_millis(1));
    assert_eq!((network.missing(fetch), network.missing(broadcast)), (None, None));
    network.advance(Duration::from_millis(1));
    assert_eq!((network.missing(fetch), network.missing(broadcast)), (Some(Some(1)), Some(Some(1))));
    assert_eq!(network.nodes[0].answers.len(), 3, "answers of the other node were passed on");
    assert_eq!(network.nodes[0].node.metrics().partial, 2);
    // The node continues, and answers late.
    let (channel, payload) = network.published[0].clone();
    network.nodes[2].is_frozen = false;
    network.nodes[2].node.handle_message(&channel, &payload, network.now, &|_| true);
    network.run();
    assert_eq!(network.nodes[0].node.metrics().late, 1);
}

#[test]
fn cancelled_and_surplus_requests_leave_no_action() {
    let mut config = ShardedConfig::default();
    config.max_requests = 1;
    let now = network(1, SubscriptionMode::Static).now;
    let mut node = ShardedNamespace::new(Arc::new(config), Namespace::main(), "u");
    while node.poll_action().is_some() {}
    let request = node.begin(Query::Fetch(to(&[], &[])), TIMEOUT, now).expect("begins");
    assert_eq!(node.begin(Query::Fetch(to(&[], &[])), TIMEOUT, now), Err(QueryRefused::TooMany));
    node.cancel(request);
    node.handle_node_count(request, Some(3), now);
    assert!(node.poll_action().is_none());
    assert_eq!((node.pending_requests(), node.poll_timeout()), (0, None));
    // An unknown number of nodes: the request ends at its deadline.
    let request = node.begin(Query::Fetch(to(&[], &[])), TIMEOUT, now).expect("begins");
    node.handle_node_count(request, None, now);
    node.handle_timeout(now + TIMEOUT);
    let actions: Vec<Action> = std::iter::from_fn(|| node.poll_action()).collect();
    assert!(matches!(
        &actions[..],
        [Action::CountNodes { .. }, Action::Publish { .. }, Action::Done { missing: None, .. }]
    ));
}

#[test]
fn messages_of_no_use_are_counted() {
    let mut network = network(1, SubscriptionMode::Dynamic);
    let now = network.now;
    let node = &mut network.nodes[0].node;
    for (payload, expected) in [
        (&br#"{"uid":"0000000000000001","nsp":"/","type":3,"data":{}}"#[..], [1, 0, 0, 0]),
        // Before version 8.3 there is no namespace.
        (br#"{"uid":"u","type":5,"data":{"opts":{"rooms":[],"except":[]},"rooms":[]}}"#, [1, 1, 0, 0]),
        (br#"{"uid":"u","nsp":"/x","type":3,"data":{}}"#, [1, 2, 0, 0]),
        (br#"{"uid":"u","nsp":"/","type":2}"#, [1, 3, 0, 0]),
        (br#"{"uid":"u","nsp":"/","type":3,"data":{}}"#, [1, 3, 1, 0]),
        (b"\xc1", [1, 3, 2, 0]),
        (br#"{"uid":"u","nsp":"/","type":11,"data":{"requestId":"other","clientCount":1}}"#, [1, 4, 2, 0]),
        (
            br#"{"uid":"u","nsp":"/","type":11,"data":{"requestId":"00000000000000017","clientCount":1}}"#,
            [1, 4, 2, 1],
        ),
    ] {
        node.handle_message("socket.io#/#", &payload.into(), now, &|_| true);
        let metrics = node.metrics();
        assert_eq!([metrics.own, metrics.ignored, metrics.unreadable, metrics.late], expected);
    }
    assert!(node.poll_action().is_none());
    assert!(network.nodes[0].answers.iter().all(|answer| matches!(answer, Answer::Count(_))));
}
