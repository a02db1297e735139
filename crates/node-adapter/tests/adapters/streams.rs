//! Nodes with the streams adapter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use roomcast_core::{Args, Membership, Namespace};
use roomcast_node_adapter::{
    Action, AdapterNamespace, EntryId, Flags, PublishRefused, Query, StreamEntry, StreamsConfig,
    StreamsNamespace, cluster_uid,
};

use crate::network::{Network, TIMEOUT, TestNamespace};
use crate::{event, rooms, to};

impl TestNamespace for StreamsNamespace {
    fn entry(&mut self, entry: &StreamEntry, now: Instant) {
        self.handle_entry(entry, now);
    }

    fn append_failed(&mut self, number: u64) {
        self.handle_append_failure(number);
    }
}

fn network(count: u64) -> Network<StreamsNamespace> {
    let config = Arc::new(StreamsConfig::default());
    Network::new(count, |index| {
        StreamsNamespace::new(config.clone(), Namespace::main(), &cluster_uid(index + 1))
    })
}

fn emit(network: &mut Network<StreamsNamespace>, node: usize, names: &[&str]) {
    for name in names {
        let event = event(name, ());
        network.nodes[node]
            .node
            .broadcast(&to(&[], &[]), &Flags::default(), &event, network.now)
            .expect("encodes");
    }
}

#[test]
fn all_nodes_apply_entries_in_stream_order() {
    let mut network = network(3);
    let now = network.now;
    let node = &mut network.nodes[0].node;
    node.broadcast(&to(&["all"], &["s2"]), &Flags::default(), &event("a", 1), now).expect("encodes");
    let volatile = Flags { volatile: true, ..Flags::default() };
    node.broadcast(&to(&["all"], &[]), &volatile, &event("b", 2), now).expect("encodes");
    node.update(to(&["all"], &["s1"]), Membership::Join(rooms(&["new"])), now).expect("encodes");
    node.disconnect(to(&["r0"], &[]), true, now).expect("encodes");
    assert_eq!(network.logs(), [[""; 0]; 3], "nothing happens before the stream has it");
    emit(&mut network, 1, &["c"]);
    network.run();
    let join = "Join([Room(\"new\")])";
    let expected = [
        vec!["a 1 Reliable 1-0", "b 2 Volatile -", join, "disconnect true", "c  Reliable 5-0"],
        vec!["a 1 Reliable 1-0", "b 2 Volatile -", "c  Reliable 5-0"],
        vec!["b 2 Volatile -", join, "c  Reliable 5-0"],
    ];
    assert_eq!(network.logs(), expected);
    for node in &network.nodes {
        assert_eq!((node.node.unconfirmed_entries(), node.node.poll_timeout()), (0, None));
    }
    assert!(network.published.is_empty());
}

#[test]
fn requests_use_pub_sub() {
    let mut network = network(4);
    network.check_requests();
    network.nodes[0].node.server_side_emit(&"told".into(), &Args::empty()).expect("encodes");
    network.run();
    assert!(network.stream.is_empty());
    assert_eq!(network.logs()[1..], [["server s ", "server told "]; 3]);
    assert!(network.published.iter().all(|(_, payload)| payload[0] != b'{'), "MessagePack");
}

#[test]
fn failed_entry_keeps_its_place() {
    let mut network = network(2);
    network.appends = vec![true, false, true, false];
    emit(&mut network, 0, &["a", "b", "c", "d"]);
    network.run();
    assert_eq!(network.logs()[0], ["a  Reliable 1-0", "b  Reliable -", "c  Reliable 2-0", "d  Reliable -"]);
    assert_eq!(network.logs()[1], ["a  Reliable 1-0", "c  Reliable 2-0"]);
}

#[test]
fn unconfirmed_entry_takes_effect_at_deadline_once() {
    let mut network = network(2);
    network.nodes[0].is_frozen = true;
    emit(&mut network, 0, &["a"]);
    network.advance(TIMEOUT - Duration::from_millis(1));
    emit(&mut network, 0, &["b"]);
    network.run();
    assert_eq!(network.logs()[0], [""; 0]);
    assert_eq!(network.nodes[0].node.poll_timeout(), Some(network.now + Duration::from_millis(1)));
    network.advance(Duration::from_millis(1));
    assert_eq!(network.logs()[0], ["a  Reliable -"]);
    // The reader catches up.
    network.nodes[0].is_frozen = false;
    network.run();
    assert_eq!(
        network.logs(),
        [["a  Reliable -", "b  Reliable 2-0"], ["a  Reliable 1-0", "b  Reliable 2-0"]]
    );
    assert_eq!(network.nodes[0].node.metrics().own, 2);
}

#[test]
fn lost_entry_takes_effect_before_later_ones() {
    let mut network = network(1);
    network.nodes[0].is_frozen = true;
    emit(&mut network, 0, &["a", "b", "c"]);
    network.run();
    // Trimmed before it was read.
    network.stream.remove(0);
    network.nodes[0].is_frozen = false;
    network.run();
    assert_eq!(network.logs()[0], ["a  Reliable -", "b  Reliable 2-0", "c  Reliable 3-0"]);
    // Read again, as after a restart of the reader.
    let entry = network.stream[0].clone();
    network.nodes[0].node.handle_entry(&entry, network.now);
    network.run();
    assert_eq!(network.nodes[0].log.len(), 3);
}

#[test]
fn unconfirmed_entries_are_limited() {
    let mut config = StreamsConfig::default();
    config.max_unconfirmed = 2;
    let mut node = StreamsNamespace::new(Arc::new(config), Namespace::main(), "u");
    let now = network(1).now;
    let emit =
        |node: &mut StreamsNamespace| node.broadcast(&to(&[], &[]), &Flags::default(), &event("e", ()), now);
    assert_eq!(
        (emit(&mut node), emit(&mut node), emit(&mut node)),
        (Ok(()), Ok(()), Err(PublishRefused::QueueFull))
    );
    assert_eq!(node.disconnect(to(&[], &[]), true, now), Err(PublishRefused::QueueFull));
    node.close(now);
    let actions: Vec<Action> = std::iter::from_fn(|| node.poll_action()).collect();
    let delivered = actions.iter().filter(|action| matches!(action, Action::Deliver { .. })).count();
    assert_eq!((delivered, node.unconfirmed_entries()), (2, 0), "they take effect before the node closes");
}

#[test]
fn refused_event_takes_no_effect() {
    let mut network = network(1);
    let now = network.now;
    let refused =
        network.nodes[0].node.broadcast(&to(&[], &[]), &Flags::default(), &event("connect", ()), now);
    assert!(matches!(refused, Err(PublishRefused::Encode(_))));
    network.run();
    assert_eq!(network.nodes[0].node.unconfirmed_entries(), 0);
    assert!(network.stream.is_empty() && network.logs()[0].is_empty());
}

#[test]
fn each_type_is_accepted_on_both_ways() {
    let mut network = network(2);
    let entry = |kind: &str, data: &str| StreamEntry {
        id: EntryId::new(9, 0),
        sender: "other".into(),
        namespace: "/".into(),
        kind: kind.into(),
        data: data.into(),
        number: None,
    };
    // Emitters put events for servers on the stream; requests there are answered too.
    let emitted = entry("9", r#"{"packet":["hi",1]}"#);
    let asked = entry("7", r#"{"requestId":"q","opts":{"rooms":[],"except":[],"flags":{}}}"#);
    let node = &mut network.nodes[0].node;
    node.handle_entry(&emitted, network.now);
    node.handle_entry(&asked, network.now);
    let broadcast = br#"{"uid":"u","nsp":"/","type":3,"data":{"packet":{"type":2,"data":["e"]},"opts":{"rooms":[],"except":[]}}}"#;
    node.handle_message("socket.io#/#", &broadcast[..].into(), network.now, &|_| true);
    network.run();
    assert_eq!(network.logs()[0], ["server hi 1", "e  Reliable -"]);
    assert_eq!(network.published[0].0, "socket.io#/#other#");
}

#[test]
fn entries_of_no_use_are_counted() {
    let mut network = network(1);
    let now = network.now;
    let node = &mut network.nodes[0].node;
    let own = node.uid().clone();
    for (sender, namespace, kind, data, expected) in [
        (&*own, "/", "3", "{", [1, 0, 0]),
        ("u", "/x", "3", "{}", [1, 1, 0]),
        ("u", "/", "2", "", [1, 2, 0]),
        ("u", "/", "3", "", [1, 2, 1]),
        ("u", "/", "x", "{}", [1, 2, 2]),
        ("u", "/", "3", "not base64!", [1, 2, 3]),
        ("u", "/", "3", "wQ==", [1, 2, 4]),
    ] {
        let (sender, namespace) = (sender.into(), namespace.into());
        let (kind, data) = (kind.into(), data.into());
        node.handle_entry(
            &StreamEntry { id: EntryId::ZERO, sender, namespace, kind, data, number: None },
            now,
        );
        let metrics = node.metrics();
        assert_eq!([metrics.own, metrics.ignored, metrics.unreadable], expected);
    }
    assert!(node.poll_action().is_none());
}

#[test]
fn closed_node_is_not_waited_for() {
    let mut network = network(3);
    let now = network.now;
    network.nodes[2].node.close(now);
    network.nodes[2].node.close(now);
    network.run();
    let request = network.ask(Query::Count(to(&[], &[])));
    assert_eq!((network.missing(request), network.nodes[0].answers.len()), (Some(Some(0)), 1));
}

#[test]
fn repeated_entry_is_delivered_once() {
    let mut network = network(2);
    emit(&mut network, 0, &["a", "b"]);
    network.run();
    let mut repeated = network.stream[0].clone();
    repeated.id = EntryId::new(9, 0);
    network.stream.push(repeated);
    emit(&mut network, 0, &["c"]);
    network.run();
    for node in &network.nodes {
        let names: Vec<_> = node.log.iter().map(|line| &line[..1]).collect();
        assert_eq!((names, node.node.metrics().repeated), (vec!["a", "b", "c"], 1));
    }
}

#[test]
fn released_entries_have_provisional_offsets() {
    let mut network = network(2);
    network.nodes[0].is_frozen = true;
    emit(&mut network, 0, &["a"]);
    network.run();
    let node = &mut network.nodes[0].node;
    assert!(!node.was_released(1));
    node.note_position(Some(EntryId::new(0, 5)));
    node.release_unconfirmed();
    assert!(node.was_released(1) && !node.was_released(2) && node.has_released());
    network.nodes[0].is_frozen = false;
    emit(&mut network, 0, &["b"]);
    network.run();
    let provisional = format!("a  Reliable 0-5/{}/1", cluster_uid(1));
    assert_eq!(network.logs()[0], [&provisional, "b  Reliable 2-0"]);
    assert_eq!(network.logs()[1], ["a  Reliable 1-0", "b  Reliable 2-0"]);
    let node = &network.nodes[0].node;
    assert!(!node.was_released(1) && !node.has_released(), "it came back");
}
