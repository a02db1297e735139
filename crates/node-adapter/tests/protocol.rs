//! Several nodes on one Redis in memory, in virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast_core::{Args, Event, IntoArgs, Membership, Namespace, Room, SocketId};
use roomcast_node_adapter::{
    Answer, ClassicAction, ClassicConfig, ClassicNamespace, Flags, Query, QueryRefused, Recipients,
    RequestNumber, Response, SocketDescription, Wanted, encode_response, node_uid,
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Node with one socket, which is in the room of its id and in `rooms`.
struct TestNode {
    node: ClassicNamespace,
    id: SocketId,
    rooms: Vec<Room>,
    /// Operations that reached the node, as text.
    log: Vec<String>,
    answers: Vec<Answer>,
    done: BTreeMap<RequestNumber, Option<usize>>,
    /// Whether it receives messages.
    is_frozen: bool,
}

struct Cluster {
    nodes: Vec<TestNode>,
    now: Instant,
    published: Vec<(String, Bytes)>,
    /// Answer of Redis to NUMSUB, if not the number of nodes.
    subscribers: Option<Option<u64>>,
}

impl Cluster {
    #[allow(clippy::disallowed_methods, reason = "virtual time needs a start")]
    fn new(count: u64, config: ClassicConfig) -> Self {
        let config = Arc::new(config);
        let nodes = (0..count).map(|index| TestNode {
            node: ClassicNamespace::new(config.clone(), Namespace::main(), &node_uid(index + 1)),
            id: SocketId::new(format!("s{index}")),
            rooms: vec![format!("s{index}").into(), "all".into(), format!("r{index}").into()],
            log: Vec::new(),
            answers: Vec::new(),
            done: BTreeMap::new(),
            is_frozen: false,
        });
        Self { nodes: nodes.collect(), now: Instant::now(), published: Vec::new(), subscribers: None }
    }

    fn run(&mut self) {
        let mut sent = Vec::new();
        loop {
            for index in 0..self.nodes.len() {
                self.perform(index, &mut sent);
            }
            if sent.is_empty() {
                return;
            }
            for (channel, payload) in std::mem::take(&mut sent) {
                for TestNode { node, rooms, .. } in self.nodes.iter_mut().filter(|node| !node.is_frozen) {
                    if node.channels().classify(&channel).is_some() {
                        let has_room = |room: &str| rooms.iter().any(|own| own.as_str() == room);
                        node.handle_message(&channel, &payload, self.now, has_room);
                    }
                }
                self.published.push((channel, payload));
            }
        }
    }

    fn perform(&mut self, index: usize, sent: &mut Vec<(String, Bytes)>) {
        let all = self.nodes.len() as u64;
        let TestNode { node, id, rooms, log, answers, done, .. } = &mut self.nodes[index];
        let matches = |target: &roomcast_core::Target| {
            (target.rooms.is_empty() || target.rooms.iter().any(|room| rooms.contains(room)))
                && !target.except.iter().any(|room| rooms.contains(room))
        };
        while let Some(action) = node.poll_action() {
            match action {
                ClassicAction::Publish { channel, payload } => sent.push((channel.to_string(), payload)),
                ClassicAction::CountNodes { request } => {
                    let count = self.subscribers.unwrap_or(Some(all));
                    node.handle_node_count(request, count, self.now);
                }
                ClassicAction::Deliver { target, event } if matches(&target) => {
                    log.push(format!("{} {} {:?}", event.name, event.args.json(), target.delivery));
                }
                ClassicAction::Update { target, change, asker } if matches(&target) => {
                    log.push(format!("{change:?}"));
                    if let Some(asker) = asker {
                        node.answer(&asker, &Response::Done).expect("encodes");
                    }
                }
                ClassicAction::Disconnect { target, close, asker } if matches(&target) => {
                    log.push(format!("disconnect {close}"));
                    if let Some(asker) = asker {
                        node.answer(&asker, &Response::Done).expect("encodes");
                    }
                }
                ClassicAction::Find { asker, target, wanted } => {
                    let found = matches(&target);
                    let response = match wanted {
                        Wanted::Ids => Response::Ids(found.then(|| id.clone()).into_iter().collect()),
                        Wanted::Rooms => Response::Rooms(rooms.clone()),
                        _ => Response::Sockets(found.then(|| describe(id, rooms)).into_iter().collect()),
                    };
                    node.answer(&asker, &response).expect("encodes");
                }
                ClassicAction::ServerSide { name, args, asker } => {
                    log.push(format!("server {name} {}", args.json()));
                    if let Some(asker) = asker {
                        let answer = id.as_str().into_args().expect("serializable");
                        node.answer(&asker, &Response::ServerSide(answer)).expect("encodes");
                    }
                }
                ClassicAction::DeliverWithAck { asker, target, timeout, .. } => {
                    assert_eq!(timeout, Some(TIMEOUT));
                    let count = u64::from(matches(&target));
                    // The acknowledgement may overtake the count.
                    if count == 1 {
                        let answer = id.as_str().into_args().expect("serializable");
                        node.answer(&asker, &Response::Ack(answer)).expect("encodes");
                    }
                    node.answer(&asker, &Response::ClientCount(count)).expect("encodes");
                }
                ClassicAction::Answer { answer, .. } => answers.push(answer),
                ClassicAction::Done { request, missing, .. } => {
                    assert_eq!(done.insert(request, missing), None, "a request ends once");
                }
                _ => {}
            }
        }
    }

    fn ask(&mut self, query: Query) -> RequestNumber {
        let number = self.nodes[0].node.begin(query, TIMEOUT, self.now).expect("begins");
        self.run();
        number
    }

    fn advance(&mut self, time: Duration) {
        self.now += time;
        for node in &mut self.nodes {
            node.node.handle_timeout(self.now);
        }
        self.run();
    }

    fn missing(&self, request: RequestNumber) -> Option<Option<usize>> {
        self.nodes[0].done.get(&request).copied()
    }

    fn logs(&self) -> Vec<&[String]> {
        self.nodes.iter().map(|node| &node.log[..]).collect()
    }
}

fn describe(id: &SocketId, rooms: &[Room]) -> SocketDescription {
    SocketDescription { id: id.clone(), rooms: rooms.to_vec(), handshake: "{}".into(), data: "{}".into() }
}

fn to(rooms: &[&str], except: &[&str]) -> Recipients {
    let names = |names: &[&str]| names.iter().map(|name| Room::new(*name)).collect();
    Recipients { rooms: names(rooms), except: names(except) }
}

fn event() -> Event {
    Event::new(Namespace::main(), "e", 1.into_args().expect("serializable"))
}

#[test]
fn operations_act_on_other_nodes_only() {
    let mut cluster = Cluster::new(3, ClassicConfig::default());
    let node = &mut cluster.nodes[0].node;
    node.broadcast(&to(&["all"], &["s2"]), &Flags::default(), &event()).expect("encodes");
    node.broadcast(&to(&["r2"], &[]), &Flags { volatile: true, ..Flags::default() }, &event())
        .expect("encodes");
    node.update(to(&["r1"], &[]), Membership::Join(vec!["new".into()]));
    node.disconnect(to(&["all"], &["r1"]), true);
    node.server_side_emit(&"s".into(), &Args::empty()).expect("encodes");
    cluster.run();
    assert_eq!(
        cluster.logs(),
        [
            &[][..],
            &["e 1 Reliable".to_owned(), "Join([Room(\"new\")])".into(), "server s ".into()],
            &["e 1 Volatile".to_owned(), "disconnect true".into(), "server s ".into()],
        ]
    );
    assert_eq!(cluster.nodes[0].node.metrics().unwanted, 1, "a room of another node is not read");
}

#[test]
fn requests_collect_answers_of_all_nodes() {
    let mut cluster = Cluster::new(4, ClassicConfig::default());
    for query in [
        Query::Count(to(&["all"], &[])),
        Query::Count(to(&["all"], &["r2"])),
        Query::Fetch(to(&["r3"], &[])),
        Query::ServerSide("s".into(), Args::empty()),
        Query::Broadcast(to(&["all"], &["r1"]), Flags::default(), event()),
    ] {
        let request = cluster.ask(query);
        assert_eq!(cluster.missing(request), Some(Some(0)));
    }
    let text = |text: &str| text.into_args().expect("serializable");
    let node3 = &cluster.nodes[3];
    let found = describe(&node3.id, &node3.rooms);
    let expected = [
        [Answer::Count(1), Answer::Count(1), Answer::Count(1)].to_vec(),
        [Answer::Count(1), Answer::Count(0), Answer::Count(1)].to_vec(),
        [Answer::Sockets(vec![]), Answer::Sockets(vec![]), Answer::Sockets(vec![found])].to_vec(),
        ["s1", "s2", "s3"].map(|id| Answer::ServerSide(text(id))).to_vec(),
        vec![
            Answer::Recipients(0),
            Answer::Ack(text("s2")),
            Answer::Recipients(1),
            Answer::Ack(text("s3")),
            Answer::Recipients(1),
        ],
    ];
    assert_eq!(cluster.nodes[0].answers, expected.concat());
    assert_eq!(cluster.nodes[0].node.pending_requests(), 0);
    assert_eq!(cluster.nodes[0].node.poll_timeout(), None);
}

#[test]
fn lone_node_publishes_no_request() {
    let mut cluster = Cluster::new(1, ClassicConfig::default());
    for subscribers in [Some(1), Some(0)] {
        cluster.subscribers = Some(subscribers);
        let request = cluster.ask(Query::Fetch(to(&[], &[])));
        assert_eq!(cluster.missing(request), Some(Some(0)));
    }
    assert!(cluster.published.is_empty());
}

#[test]
fn frozen_node_ends_request_at_deadline() {
    let mut cluster = Cluster::new(3, ClassicConfig::default());
    cluster.nodes[2].is_frozen = true;
    let fetch = cluster.ask(Query::Fetch(to(&[], &[])));
    let broadcast = cluster.ask(Query::Broadcast(to(&[], &[]), Flags::default(), event()));
    cluster.advance(TIMEOUT - Duration::from_millis(1));
    assert_eq!((cluster.missing(fetch), cluster.missing(broadcast)), (None, None));
    cluster.advance(Duration::from_millis(1));
    assert_eq!((cluster.missing(fetch), cluster.missing(broadcast)), (Some(Some(1)), Some(Some(1))));
    assert_eq!(cluster.nodes[0].answers.len(), 3, "answers of the other node were passed on");
    assert_eq!(cluster.nodes[0].node.metrics().partial, 2);
    // Later answers are counted and dropped.
    let id = format!("{}1", cluster.nodes[0].node.uid());
    let late = encode_response(&id, &Response::Sockets(vec![])).expect("encodes");
    let channel = cluster.nodes[0].node.channels().response().clone();
    cluster.nodes[0].node.handle_message(&channel, &late, cluster.now, |_| true);
    assert_eq!(cluster.nodes[0].node.metrics().late, 1);
}

#[test]
fn unknown_number_of_nodes_waits_for_deadline() {
    let mut cluster = Cluster::new(3, ClassicConfig::default());
    cluster.subscribers = Some(None);
    let request = cluster.ask(Query::Count(to(&["all"], &[])));
    assert_eq!(cluster.missing(request), None);
    assert_eq!(cluster.nodes[0].answers, [Answer::Count(1), Answer::Count(1)]);
    cluster.advance(TIMEOUT);
    assert_eq!(cluster.missing(request), Some(None));
}

#[test]
fn answers_use_own_channels_if_told() {
    let mut config = ClassicConfig::default();
    config.own_response_channels = true;
    let mut cluster = Cluster::new(2, config);
    let first = cluster.ask(Query::Fetch(to(&[], &[])));
    let second = cluster.ask(Query::ServerSide("s".into(), Args::empty()));
    assert_eq!((cluster.missing(first), cluster.missing(second)), (Some(Some(0)), Some(Some(0))));
    let channels: Vec<&str> = cluster.published.iter().map(|(channel, _)| &**channel).collect();
    let own = format!("socket.io-response#/#{}#", cluster.nodes[0].node.uid());
    assert_eq!(channels, ["socket.io-request#/#", &own, "socket.io-request#/#", "socket.io-response#/#"]);
}

#[test]
fn cancelled_request_leaves_no_action() {
    let mut cluster = Cluster::new(3, ClassicConfig::default());
    let now = cluster.now;
    let node = &mut cluster.nodes[0].node;
    let request = node.begin(Query::Fetch(to(&[], &[])), TIMEOUT, now).expect("begins");
    node.cancel(request);
    node.handle_node_count(request, Some(3), now);
    assert!(node.poll_action().is_none());
    assert_eq!((node.pending_requests(), node.poll_timeout()), (0, None));
}

#[test]
fn pending_requests_are_limited_and_closed() {
    let mut config = ClassicConfig::default();
    config.max_requests = 1;
    let mut cluster = Cluster::new(2, config);
    cluster.nodes[1].is_frozen = true;
    let request = cluster.ask(Query::Fetch(to(&[], &[])));
    let refused = cluster.nodes[0].node.begin(Query::Fetch(to(&[], &[])), TIMEOUT, cluster.now);
    assert_eq!(refused, Err(QueryRefused::TooMany));
    cluster.nodes[0].node.close(cluster.now);
    cluster.run();
    assert_eq!(cluster.missing(request), Some(Some(1)));
}

#[test]
fn old_adapters_get_answers_of_owner() {
    let mut cluster = Cluster::new(2, ClassicConfig::default());
    for (request, logged) in [
        (r#"{"uid":"old000","requestId":"q","type":2,"sid":"s1","room":"a"}"#, "Join([Room(\"a\")])"),
        (r#"{"uid":"old000","requestId":"q","type":3,"sid":"s1","room":7}"#, "Leave([Room(\"7\")])"),
        (r#"{"uid":"old000","requestId":"q","type":4,"sid":"s1","close":true}"#, "disconnect true"),
    ] {
        for node in &mut cluster.nodes {
            node.log.clear();
            node.node.handle_message("socket.io-request#/#", &request.into(), cluster.now, |_| true);
        }
        cluster.published.clear();
        cluster.run();
        assert_eq!(cluster.logs(), [&[][..], &[logged.to_owned()]]);
        assert_eq!(cluster.published, [("socket.io-response#/#".to_owned(), r#"{"requestId":"q"}"#.into())]);
    }
}

#[test]
fn unreadable_messages_are_counted() {
    let mut cluster = Cluster::new(1, ClassicConfig::default());
    let node = &mut cluster.nodes[0].node;
    for (channel, payload) in [
        ("socket.io#/#", &b"\x93"[..]),
        ("socket.io-request#/#", b"{"),
        ("socket.io-request#/#", br#"{"uid":"u","type":5,"opts":{"rooms":[],"except":[]}}"#),
        ("socket.io-response#/#", b"\xc1"),
    ] {
        node.handle_message(channel, &Bytes::copy_from_slice(payload), cluster.now, |_| true);
    }
    assert_eq!((node.metrics().unreadable, node.metrics().messages_in), (4, 4));
    node.handle_message("socket.io-request#/#", &br#"{"type":99}"#[..].into(), cluster.now, |_| true);
    assert_eq!(node.metrics().ignored, 1);
    assert!(node.poll_action().is_none());
}
