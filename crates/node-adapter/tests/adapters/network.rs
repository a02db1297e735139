//! Nodes on one Redis in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast_core::{IntoArgs, Room, SocketId, Target};
use roomcast_node_adapter::{
    Action, AdapterNamespace, Answer, EntryId, Query, RequestNumber, Response, SocketDescription, StreamEntry,
};

pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// Namespace in a test. Adapters without a stream ignore entries.
pub(crate) trait TestNamespace: AdapterNamespace {
    fn entry(&mut self, _: &StreamEntry, _: Instant) {}
    fn append_failed(&mut self, _: u64) {}
}

/// Node with one socket, which is in the room of its id and in `rooms`.
pub(crate) struct TestNode<N> {
    pub(crate) node: N,
    pub(crate) id: SocketId,
    pub(crate) rooms: Vec<Room>,
    pub(crate) subscriptions: BTreeSet<String>,
    /// Operations that reached the node, as text.
    pub(crate) log: Vec<String>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) done: BTreeMap<RequestNumber, Option<usize>>,
    /// Whether it receives messages.
    pub(crate) is_frozen: bool,
    /// Number of entries of the stream that it has read.
    read: usize,
}

pub(crate) struct Network<N> {
    pub(crate) nodes: Vec<TestNode<N>>,
    pub(crate) now: Instant,
    pub(crate) published: Vec<(String, Bytes)>,
    pub(crate) stream: Vec<StreamEntry>,
    /// Outcomes of the next appends: `false` is a failure.
    pub(crate) appends: Vec<bool>,
}

impl<N: TestNamespace> Network<N> {
    #[allow(clippy::disallowed_methods, reason = "virtual time needs a start")]
    pub(crate) fn new(count: u64, make: impl Fn(u64) -> N) -> Self {
        let nodes = (0..count).map(|index| TestNode {
            node: make(index),
            id: SocketId::new(format!("s{index}")),
            rooms: vec![format!("s{index}").into(), "all".into(), format!("r{index}").into()],
            subscriptions: BTreeSet::new(),
            log: Vec::new(),
            answers: Vec::new(),
            done: BTreeMap::new(),
            is_frozen: false,
            read: 0,
        });
        let (published, stream, appends) = (Vec::new(), Vec::new(), Vec::new());
        let mut network = Self { nodes: nodes.collect(), now: Instant::now(), published, stream, appends };
        network.run();
        network
    }

    pub(crate) fn run(&mut self) {
        let mut sent = Vec::new();
        loop {
            for index in 0..self.nodes.len() {
                self.perform(index, &mut sent);
            }
            let has_read = self.read();
            if sent.is_empty() && !has_read {
                return;
            }
            for (channel, payload) in std::mem::take(&mut sent) {
                let heard =
                    |node: &&mut TestNode<N>| !node.is_frozen && node.subscriptions.contains(&channel);
                for TestNode { node, .. } in self.nodes.iter_mut().filter(heard) {
                    node.handle_message(&channel, &payload, self.now, &|_| unreachable!("classic only"));
                }
                self.published.push((channel, payload));
            }
        }
    }

    /// Passes new entries of the stream to all nodes; returns whether there were any.
    fn read(&mut self) -> bool {
        let Self { nodes, stream, now, .. } = self;
        let mut has_read = false;
        for TestNode { node, read, .. } in nodes.iter_mut().filter(|node| !node.is_frozen) {
            for entry in &stream[*read..] {
                node.entry(entry, *now);
                has_read = true;
            }
            *read = stream.len();
        }
        has_read
    }

    fn perform(&mut self, index: usize, sent: &mut Vec<(String, Bytes)>) {
        let counted = self.nodes[index].node.counted_channel().to_string();
        let count = self.nodes.iter().filter(|node| node.subscriptions.contains(&counted)).count() as u64;
        let TestNode { node, id, rooms, log, answers, done, subscriptions, .. } = &mut self.nodes[index];
        let matches = |target: &Target| {
            (target.rooms.is_empty() || target.rooms.iter().any(|room| rooms.contains(room)))
                && !target.except.iter().any(|room| rooms.contains(room))
        };
        let own_id = || id.as_str().into_args().expect("serializable");
        while let Some(action) = node.poll_action() {
            match action {
                Action::Subscribe { channel } => {
                    assert!(subscriptions.insert(channel.to_string()), "{channel} is subscribed to once");
                }
                Action::Unsubscribe { channel } => {
                    assert!(subscriptions.remove(&*channel), "{channel} was subscribed to");
                }
                Action::Publish { channel, payload } => sent.push((channel.to_string(), payload)),
                Action::Append { stream, fields, number, .. } => {
                    assert_eq!(stream, "socket.io");
                    if self.appends.is_empty() || self.appends.remove(0) {
                        let id = EntryId::new(self.stream.len() as u64 + 1, 0);
                        let bytes = |text: &[u8]| Bytes::copy_from_slice(text);
                        let fields = fields
                            .iter()
                            .map(|(name, value)| (bytes(name.as_bytes()), bytes(value.as_bytes())));
                        let entry =
                            StreamEntry::from_fields(id, fields).expect("valid").expect("of the adapter");
                        self.stream.push(entry);
                    } else {
                        node.append_failed(number);
                    }
                }
                Action::CountNodes { request } => node.handle_node_count(request, Some(count), self.now),
                Action::Deliver { target, event } if matches(&target) => {
                    let offset = event.offset.as_deref().unwrap_or("-");
                    log.push(format!("{} {} {:?} {offset}", event.name, event.args.json(), target.delivery));
                }
                Action::Update { target, change, .. } if matches(&target) => log.push(format!("{change:?}")),
                Action::Disconnect { target, close, .. } if matches(&target) => {
                    log.push(format!("disconnect {close}"));
                }
                Action::Find { asker, target, .. } => {
                    let found = matches(&target).then(|| describe(id, rooms));
                    node.answer(&asker, &Response::Sockets(found.into_iter().collect())).expect("encodes");
                }
                Action::ServerSide { name, args, asker } => {
                    log.push(format!("server {name} {}", args.json()));
                    if let Some(asker) = asker {
                        node.answer(&asker, &Response::ServerSide(own_id())).expect("encodes");
                    }
                }
                Action::DeliverWithAck { asker, target, timeout, event } => {
                    assert_eq!((timeout, event.offset), (Some(TIMEOUT), None));
                    // The acknowledgement may overtake the count.
                    if matches(&target) {
                        node.answer(&asker, &Response::Ack(own_id())).expect("encodes");
                    }
                    let count = u64::from(matches(&target));
                    node.answer(&asker, &Response::ClientCount(count)).expect("encodes");
                }
                Action::Answer { answer, .. } => answers.push(answer),
                Action::Done { request, missing, .. } => {
                    assert_eq!(done.insert(request, missing), None, "a request ends once");
                }
                _ => {}
            }
        }
    }

    pub(crate) fn ask(&mut self, query: Query) -> RequestNumber {
        let number = self.nodes[0].node.begin(query, TIMEOUT, self.now).expect("begins");
        self.run();
        number
    }

    pub(crate) fn advance(&mut self, time: Duration) {
        self.now += time;
        for node in &mut self.nodes {
            node.node.handle_timeout(self.now);
        }
        self.run();
    }

    pub(crate) fn missing(&self, request: RequestNumber) -> Option<Option<usize>> {
        self.nodes[0].done.get(&request).copied()
    }

    pub(crate) fn logs(&self) -> Vec<Vec<&str>> {
        self.nodes.iter().map(|node| node.log.iter().map(|line| &**line).collect()).collect()
    }

    /// Runs all requests, and checks that node 0 gets the answers of three others.
    pub(crate) fn check_requests(&mut self) {
        use roomcast_core::Args;
        use roomcast_node_adapter::Flags;

        use crate::{event, to};

        for query in [
            Query::Count(to(&["all"], &["r2"])),
            Query::Fetch(to(&["r3"], &[])),
            Query::ServerSide("s".into(), Args::empty()),
            Query::Broadcast(to(&["all"], &["r1"]), Flags::default(), event("e", 1)),
        ] {
            let request = self.ask(query);
            assert_eq!(self.missing(request), Some(Some(0)));
        }
        let text = |text: &str| text.into_args().expect("serializable");
        let found = describe(&self.nodes[3].id, &self.nodes[3].rooms);
        let expected = [
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
        assert_eq!(self.nodes[0].answers, expected.concat());
        let node = &self.nodes[0].node;
        assert_eq!((node.pending_requests(), node.poll_timeout()), (0, None));
    }
}

pub(crate) fn describe(id: &SocketId, rooms: &[Room]) -> SocketDescription {
    SocketDescription { id: id.clone(), rooms: rooms.to_vec(), handshake: "{}".into(), data: "{}".into() }
}
