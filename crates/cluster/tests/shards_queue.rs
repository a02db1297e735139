//! Queue of a server that is away: what it drops is counted exactly.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use roomcast_cluster::{
    Backplane, BackplaneCommand, BackplaneEvent, Channel, ClusterAction, ClusterConfig, Node, NodeId,
    Publication, Server, ServersError, ShardedBackplane, Shards,
};
use roomcast_core::{Namespace, Room};
use roomcast_testkit::cluster::{Fault, Harness, MemoryBackplane, MemoryEngine};

const ROOMS: usize = 16;
const BYTES: usize = 10_000;
/// Twice the limit of a queue, for half of the rooms.
const MESSAGES: usize = 2 * 2 * (8 << 20) / BYTES;

/// Connection that records the numbers of the publications that it is given.
#[derive(Debug)]
struct Recorder {
    engine: MemoryBackplane,
    sent: Arc<Mutex<Vec<usize>>>,
}

impl Backplane for Recorder {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.engine.poll_ready(cx)
    }

    fn send(&mut self, command: BackplaneCommand) {
        if let BackplaneCommand::Publish { channel: Channel::Room(..), payload } = &command {
            // The number precedes the filler.
            let filler = payload.windows(16).position(|bytes| bytes == [b'x'; 16]).expect("a body");
            let number = payload[filler - 8..filler].try_into().expect("a number");
            self.sent.lock().expect("numbers").push(usize::from_le_bytes(number));
        }
        self.engine.send(command);
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.engine.poll_flush(cx)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<BackplaneEvent> {
        self.engine.poll_event(cx)
    }
}

/// Node on two engines, with the publications that it received.
struct Peer {
    node: Node,
    engine: ShardedBackplane<Recorder>,
    shards: Shards<Recorder>,
    /// Numbers of the publications that were given to each engine.
    sent: [Arc<Mutex<Vec<usize>>>; 2],
    received: BTreeSet<usize>,
    /// Rooms whose losses were reported.
    gaps: BTreeSet<Room>,
}

fn room(index: usize) -> Room {
    Room::from(format!("room-{index}"))
}

impl Peer {
    fn new(number: usize, engines: &[MemoryEngine; 2]) -> Result<Self, ServersError> {
        let sent = [(); 2].map(|()| Arc::default());
        let server = |index: usize| {
            let (mut engine, sent) = (engines[index].clone(), Arc::clone(&sent[index]));
            Server::new(format!("engine-{index}"), move || Recorder { engine: engine.connect(number), sent })
        };
        let (engine, shards) = ShardedBackplane::new(vec![server(0), server(1)])?;
        let mut settings = ClusterConfig::default();
        (settings.heartbeat_interval, settings.batch_count) = (HEARTBEAT, 1);
        let id = NodeId::new(number as u64 + 1);
        let node = Node::new(Arc::new(settings), id, 1 << 20 | number as u64, engines[0].now());
        Ok(Self { node, engine, shards, sent, received: BTreeSet::new(), gaps: BTreeSet::new() })
    }

    fn drive(&mut self, engines: &[MemoryEngine; 2]) {
        let now = engines[0].now();
        if self.node.poll_timeout().is_some_and(|at| at <= now) {
            self.node.handle_timeout(now);
        }
        self.node.exchange(&mut self.engine, &mut Context::from_waker(Waker::noop()), now);
        while let Some(action) = self.node.poll_action() {
            match action {
                ClusterAction::Deliver { publication, .. } => {
                    let number = publication.body[..8].try_into().expect("a number");
                    assert!(self.received.insert(usize::from_le_bytes(number)), "delivered twice");
                }
                ClusterAction::Gap { channel: Some(Channel::Room(_, room)), .. } => {
                    self.gaps.insert(room);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn dropped_publications_are_counted_exactly() {
    let first = MemoryEngine::new(1);
    let mut engines = [first.clone(), first.beside(2)];
    let mut peers = [0, 1].map(|number| Peer::new(number, &engines).expect("two servers"));
    let now = engines[0].now();
    (0..ROOMS).for_each(|index| peers[1].node.add_interest(&Namespace::main(), Some(&room(index)), now));
    let run = |peers: &mut [Peer; 2], engines: &mut [MemoryEngine; 2], time: Duration| {
        let end = engines[0].now() + time;
        while engines[0].now() < end {
            let next = (engines[0].now() + Duration::from_millis(5)).min(end);
            engines.iter_mut().for_each(|engine| engine.advance(next));
            peers.iter_mut().for_each(|peer| peer.drive(engines));
        }
    };
    // It is lost with all subscriptions, which the nodes hear when it returns; the nodes use the other one.
    run(&mut peers, &mut engines, 10 * HEARTBEAT);
    engines[1].inject(&Fault::Disconnect { node: 0 });
    engines[1].inject(&Fault::Down { on: true, forgets: false });
    run(&mut peers, &mut engines, 10 * HEARTBEAT);
    assert!(!peers[0].shards.metrics().servers[1].is_up);
    for number in 0..MESSAGES {
        let mut body = number.to_le_bytes().to_vec();
        body.resize(BYTES, b'x');
        let publication = Publication {
            namespace: Namespace::main(),
            rooms: vec![room(number % ROOMS)],
            except: Vec::new(),
            kind: 1,
            body: body.into(),
        };
        peers[0].node.publish(publication, engines[0].now()).expect("room in the queue");
        if number % 16 == 15 {
            run(&mut peers, &mut engines, Duration::from_millis(5));
        }
    }
    run(&mut peers, &mut engines, 10 * HEARTBEAT);
    let sent = |peers: &[Peer; 2], engine: usize| peers[0].sent[engine].lock().expect("numbers").clone();
    let (by_other, metrics) = (sent(&peers, 0), peers[0].shards.metrics());
    assert!(by_other.len() > MESSAGES / 4 && by_other.len() < MESSAGES * 3 / 4, "{}", by_other.len());
    assert_eq!(sent(&peers, 1), [0; 0]);
    let (waiting, queued) = (metrics.servers[1].queue_len, metrics.servers[1].queue_bytes);
    assert!(queued <= 8 << 20 && queued > (8 << 20) - 2 * BYTES, "{queued}");
    assert_eq!(by_other.len() + waiting + metrics.dropped as usize, MESSAGES);

    engines[1].inject(&Fault::Down { on: false, forgets: false });
    run(&mut peers, &mut engines, 10 * HEARTBEAT);
    let metrics = peers[0].shards.metrics();
    let (after, queue) = (sent(&peers, 1), metrics.servers[1].queue_len);
    assert_eq!((after.len(), queue), (waiting, 0), "all that waited");
    assert_eq!(by_other.len() + after.len() + metrics.dropped as usize, MESSAGES, "each is counted once");
    // The oldest ones were dropped, and the others kept their order.
    let on_other: BTreeSet<_> = by_other.iter().map(|number| number % ROOMS).collect();
    let on_lost = (0..MESSAGES).filter(|number| !on_other.contains(&(number % ROOMS)));
    let expected: Vec<_> = on_lost.skip(metrics.dropped as usize).collect();
    assert!(after == expected, "{:?} and {:?}", after.first(), expected.first());
    let affected: BTreeSet<_> = expected.iter().map(|number| room(number % ROOMS)).collect();
    assert_eq!(peers[1].gaps, affected, "the losses are reported for these rooms only");
}

const HEARTBEAT: Duration = Duration::from_millis(100);
