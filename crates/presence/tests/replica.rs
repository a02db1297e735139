//! Replicas on a network without reports of loss, and single rules.

mod sim;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use roomcast_cluster::{NodeId, NodeRef};
use roomcast_core::{MemberKey, Namespace, PresenceUpdate, RemoteKey};
use roomcast_presence::{AskId, PresenceAction, PresenceAnswer, PresenceConfig, PresenceReplica, RoomName};

use self::sim::{Members, Server, data, member};

/// Replicas whose messages arrive after one step, or are lost.
struct Network {
    now: Instant,
    config: PresenceConfig,
    nodes: BTreeMap<usize, Node>,
    /// Messages, by arrival and order.
    messages: VecDeque<(Instant, usize, Message)>,
    rng: Rng,
    /// Part of the messages that are lost, in percent.
    loss: u32,
    publications: usize,
    bytes: usize,
}

struct Node {
    replica: PresenceReplica,
    server: Server,
}

enum Message {
    Publication { from: usize, name: RoomName, body: Bytes },
    Ask { from: usize, id: AskId, body: Bytes },
    Part { id: AskId, body: Bytes },
    Done { id: AskId, is_complete: bool },
}

impl Network {
    #[expect(clippy::disallowed_methods, reason = "an `Instant` has no other constructor")]
    fn new(nodes: usize, seed: u64, configure: impl FnOnce(&mut PresenceConfig)) -> Self {
        let now = Instant::now();
        let mut config = PresenceConfig::default();
        configure(&mut config);
        let node = |_| Node { replica: PresenceReplica::new(config.clone(), now), server: Server::default() };
        let mut network = Self {
            now,
            nodes: (0..nodes).map(|number| (number, node(number))).collect(),
            config,
            messages: VecDeque::new(),
            rng: Rng::with_seed(seed),
            loss: 0,
            publications: 0,
            bytes: 0,
        };
        for one in 0..nodes {
            for other in (0..nodes).filter(|other| *other != one) {
                network.replica(one).node_joined(reference(other), now);
            }
        }
        network
    }

    fn replica(&mut self, node: usize) -> &mut PresenceReplica {
        &mut self.nodes.get_mut(&node).expect("a node").replica
    }

    fn join(&mut self, node: usize, name: &RoomName, key: u64, number: u64) {
        let now = self.now;
        let node = self.nodes.get_mut(&node).expect("a node");
        node.server.own.entry(name.clone()).or_default().insert(MemberKey(key), number);
        node.replica.join(name, MemberKey(key), member(MemberKey(key), number), now);
    }

    fn leave(&mut self, node: usize, name: &RoomName, key: u64) {
        let now = self.now;
        let node = self.nodes.get_mut(&node).expect("a node");
        node.server.own.entry(name.clone()).or_default().remove(&MemberKey(key));
        node.replica.leave(name, MemberKey(key), None, now);
    }

    /// Lets time pass in steps of a millisecond.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.step();
            // Without messages, until the next timeout.
            let next = self.nodes.values().filter_map(|node| node.replica.poll_timeout()).min();
            let idle = self.messages.is_empty();
            let soon = self.now + Duration::from_millis(1);
            self.now = if idle { next.map_or(until, |next| next.clamp(soon, until.max(soon))) } else { soon };
        }
        self.step();
    }

    fn step(&mut self) {
        let now = self.now;
        while self.messages.front().is_some_and(|(at, ..)| *at <= now)
            && let Some((_, to, message)) = self.messages.pop_front()
        {
            self.deliver(to, message);
        }
        let numbers: Vec<_> = self.nodes.keys().copied().collect();
        for number in numbers.iter().copied() {
            let node = self.nodes.get_mut(&number).expect("a node");
            node.replica.handle_timeout(now);
            while let Some(action) = node.replica.poll_action() {
                match action {
                    PresenceAction::Watch(name, watch) => {
                        node.server.watch(name.clone());
                        node.replica.heard(&name, watch, now);
                    }
                    PresenceAction::Unwatch(name) => node.server.unwatch(&name),
                    PresenceAction::Update(name, update) => {
                        node.server.update(&name, update).expect("it follows")
                    }
                    other => panic!("unknown action {other:?}"),
                }
            }
            let (mut out, others) = (Vec::new(), numbers.iter().filter(|other| **other != number));
            while let Some(publication) = node.replica.poll_publication(now) {
                self.publications += 1;
                self.bytes += publication.body.len();
                for to in others.clone() {
                    let (name, body) = (publication.name.clone(), publication.body.clone());
                    out.push((*to, Message::Publication { from: number, name, body }));
                }
            }
            while let Some(ask) = node.replica.poll_ask(now) {
                let to = numbers.iter().copied().find(|to| reference(*to) == ask.node).expect("a node");
                out.push((to, Message::Ask { from: number, id: ask.id, body: ask.body }));
            }
            for (to, message) in out {
                self.send(to, message);
            }
        }
    }

    fn send(&mut self, to: usize, message: Message) {
        let at = self.now + Duration::from_millis(1);
        let is_lost = self.rng.u32(..100) < self.loss;
        match message {
            // The end of a question is certain; it has no answer then.
            Message::Ask { from, id, .. } if is_lost => {
                let end = Message::Done { id, is_complete: false };
                self.messages.push_back((at, from, end));
            }
            _ if is_lost => {}
            message => self.messages.push_back((at, to, message)),
        }
    }

    fn deliver(&mut self, to: usize, message: Message) {
        let now = self.now;
        match message {
            Message::Publication { from, name, body } => {
                self.replica(to).receive(reference(from), &name, body, now).expect("it decodes");
            }
            Message::Ask { from, id, body } => {
                let mut answer = PresenceAnswer::new(body).expect("it decodes");
                let mut is_complete = true;
                loop {
                    let part = answer.next_part(self.replica(to));
                    if self.rng.u32(..100) < self.loss {
                        is_complete = false;
                    } else {
                        self.send_certainly(from, Message::Part { id, body: part.body });
                    }
                    if part.expected.is_some() {
                        break;
                    }
                }
                self.send_certainly(from, Message::Done { id, is_complete });
            }
            Message::Part { id, body } => self.replica(to).answer(id, body, now).expect("it decodes"),
            Message::Done { id, is_complete } => self.replica(to).answered(id, is_complete, now),
        }
    }

    fn send_certainly(&mut self, to: usize, message: Message) {
        self.messages.push_back((self.now + Duration::from_millis(1), to, message));
    }

    fn truth(&self, but: usize, name: &RoomName) -> Members {
        let others = self.nodes.iter().filter(|(number, _)| **number != but);
        let members = others.flat_map(|(number, node)| {
            let node_number = reference(*number).id.get();
            let own = node.server.own.get(name).into_iter().flatten();
            own.map(move |(key, number)| (RemoteKey { node: node_number, member: *key }, *number))
        });
        members.collect()
    }

    /// Compares the views of all watched rooms with the truth.
    fn compare(&self) -> Result<(), String> {
        for (number, node) in &self.nodes {
            for name in node.server.watched() {
                let (known, truth) = (node.server.members(&name), self.truth(*number, &name));
                if known != Some(&truth) {
                    return Err(format!("node {number} in {name:?} has {known:?} instead of {truth:?}"));
                }
            }
        }
        Ok(())
    }
}

fn reference(number: usize) -> NodeRef {
    NodeRef { id: NodeId::new(number as u64 + 1), incarnation: 7 }
}

fn room(name: &str) -> RoomName {
    RoomName { namespace: Namespace::main(), room: name.into() }
}

#[test]
fn announcements_heal_unreported_losses() {
    for seed in 0..300 {
        let mut network = Network::new(3, seed, |config| {
            config.max_bytes = [60, 64 << 10][(seed % 2) as usize];
            config.max_held = [3, 4096][(seed / 2 % 2) as usize];
        });
        let mut rng = Rng::with_seed(seed);
        network.loss = 40;
        let mut last = 0;
        for _ in 0..80 {
            let (node, name) = (rng.usize(..3), room(rng.choice(["a", "b"]).expect("some")));
            let own = network.nodes[&node].server.own.get(&name).into_iter().flatten();
            let keys: Vec<_> = own.map(|(key, _)| key.0).collect();
            last += 1;
            match rng.choice(keys) {
                Some(key) if rng.u32(..5) < 3 => network.leave(node, &name, key),
                Some(key) if rng.u32(..2) == 0 => network.join(node, &name, key, last),
                _ => network.join(node, &name, last, last),
            }
            network.pass(Duration::from_millis(rng.u64(..120)));
        }
        network.loss = 0;
        // The stated time.
        let heal = 3 * network.config.announce_interval;
        network.pass(heal);
        network.compare().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn churn_becomes_batches() {
    let mut network = Network::new(2, 1, |_| {});
    let name = room("a");
    network.join(1, &name, 1, 1);
    network.pass(Duration::from_millis(100));
    network.publications = 0;
    // 10,000 joins and leaves in a second, of which a half undo each other.
    for key in 0..5_000 {
        network.join(0, &name, key, 1);
        if key >= 100 {
            network.leave(0, &name, key - 100);
        }
        if key % 5 == 0 {
            network.pass(Duration::from_millis(1));
        }
    }
    network.pass(Duration::from_millis(100));
    network.compare().expect("the views are equal");
    assert!(network.publications <= 1000 / 50 + 4, "{} publications", network.publications);
    println!("{} publications of {} bytes in all", network.publications, network.bytes);
}

#[test]
fn members_follow_in_one_list() {
    let mut network = Network::new(3, 1, |config| config.max_bytes = 200);
    let name = room("a");
    (0..50).for_each(|key| network.join(0, &name, key, key));
    (50..60).for_each(|key| network.join(1, &name, key, key));
    network.pass(Duration::from_secs(2));
    network.join(2, &name, 90, 90);
    network.pass(Duration::from_millis(20));
    // The checks of the server fail on a second list, and on a change before it.
    assert_eq!(network.nodes[&2].server.members(&name).map(BTreeMap::len), Some(60));
    assert_eq!(network.nodes[&2].server.changes, 0);
}

#[test]
fn silent_node_delays_list_for_limited_time() {
    let mut network = Network::new(3, 1, |_| {});
    let name = room("a");
    network.join(0, &name, 1, 1);
    network.pass(Duration::from_millis(100));
    network.loss = 100;
    network.join(2, &name, 2, 2);
    network.pass(Duration::from_millis(900));
    assert_eq!(network.nodes[&2].server.members(&name), None);
    network.pass(Duration::from_millis(200));
    assert_eq!(network.nodes[&2].server.members(&name), Some(&Members::new()));
    // The answer comes as a change.
    network.loss = 0;
    network.pass(Duration::from_secs(5));
    assert_eq!(network.nodes[&2].server.members(&name), Some(&network.truth(2, &name)));
    assert_eq!(network.nodes[&2].server.changes, 1);
}

#[test]
fn known_versions_are_not_sent_again() {
    let mut network = Network::new(2, 1, |_| {});
    let name = room("a");
    (0..1000).for_each(|key| network.join(0, &name, key, key));
    network.join(1, &name, 5000, 1);
    network.pass(Duration::from_secs(1));
    let now = network.now;
    network.replica(1).rejoined(now);
    let ask = network.replica(1).poll_ask(now).expect("a question");
    let part = PresenceAnswer::new(ask.body).expect("it decodes").next_part(network.replica(0));
    assert_eq!(part.expected, Some(1));
    assert!(part.body.len() < 20, "{} bytes", part.body.len());
}

#[test]
fn other_incarnations_are_ignored() {
    let mut network = Network::new(2, 1, |_| {});
    let name = room("a");
    network.join(0, &name, 1, 1);
    network.join(1, &name, 2, 2);
    network.pass(Duration::from_millis(100));
    let now = network.now;
    network.join(0, &name, 3, 3);
    let late = network.replica(0).poll_publication(now).expect("a publication");
    let old = reference(0);
    let new = NodeRef { incarnation: old.incarnation + 1, ..old };
    network.replica(1).node_joined(new, now);
    assert_eq!(network.replica(1).remote(&name).count(), 0);
    network.replica(1).receive(old, &name, late.body, now).expect("it decodes");
    assert_eq!(network.replica(1).remote(&name).count(), 0);
    let mut left = BTreeSet::new();
    while let Some(action) = network.replica(1).poll_action() {
        if let PresenceAction::Update(_, PresenceUpdate::Changes(changes)) = action {
            left.extend(changes.iter().map(|change| format!("{change:?}")));
        }
    }
    assert!(left.len() == 1 && left.iter().all(|change| change.starts_with("Left")), "{left:?}");
}

#[test]
fn forgets_rooms_without_members() {
    let mut network = Network::new(2, 1, |_| {});
    for number in 0..100 {
        let name = room(&number.to_string());
        network.join(0, &name, 1, 1);
        network.join(1, &name, 1, 1);
        network.pass(Duration::from_millis(60));
        network.leave(0, &name, 1);
        network.leave(1, &name, 1);
    }
    network.pass(Duration::from_millis(200));
    for node in network.nodes.values() {
        assert!(node.replica.poll_timeout().is_none(), "{:?}", node.replica);
        assert!(format!("{:?}", node.replica).len() < 1500, "{:?}", node.replica);
    }
}

#[test]
fn new_data_is_published() {
    let mut network = Network::new(2, 1, |_| {});
    let name = room("a");
    network.join(0, &name, 1, 1);
    network.join(1, &name, 2, 2);
    network.pass(Duration::from_millis(100));
    let now = network.now;
    network.replica(0).set_data(&name, MemberKey(1), data(9), now);
    network.pass(Duration::from_millis(100));
    let remote: Vec<_> = network.replica(1).remote(&name).map(|(_, _, member)| member.data.clone()).collect();
    assert_eq!(remote, [Some(data(9))]);
}
