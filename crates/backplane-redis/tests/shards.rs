//! Nodes on several real servers, which are killed, added and removed under traffic.
//!
//! ```sh
//! cargo test --package roomcast-backplane-redis --test shards -- --ignored
//! ```

#![allow(clippy::disallowed_methods, reason = "real servers have the time of the machine")]

#[allow(dead_code, reason = "each test file uses a part")]
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast_backplane_redis::{RedisBackplane, RedisConfig, RedisShards};
use roomcast_cluster::{Channel, ClusterAction, ClusterConfig, Node, NodeId, Publication, ShardedBackplane};
use roomcast_core::{Namespace, Room};
use server::Redis;

/// Node that receives in all rooms, and publishes to them in turn.
struct Peer {
    node: Node,
    engine: ShardedBackplane<RedisBackplane>,
    shards: RedisShards,
    /// Numbers of the messages that arrived, by room.
    received: BTreeMap<usize, Vec<u64>>,
    /// Rooms with a reported gap; `None` for a gap of all rooms.
    gaps: Vec<Option<usize>>,
}

fn config(server: &Redis) -> RedisConfig {
    let config = RedisConfig::from_url(&server.url()).expect("a URL");
    config.ping_interval(Duration::from_millis(250)).sharded_channels(true)
}

fn configs(servers: &[&Redis]) -> Vec<RedisConfig> {
    servers.iter().map(|server| config(server)).collect()
}

fn room(index: usize) -> Room {
    Room::from(format!("room-{index}"))
}

fn room_index(room: &Room) -> Option<usize> {
    room.as_str().strip_prefix("room-")?.parse().ok()
}

impl Peer {
    fn new(number: u64, servers: &[&Redis]) -> Self {
        let mut settings = ClusterConfig::default();
        settings.heartbeat_interval = HEARTBEAT;
        settings.node_timeout = 30 * HEARTBEAT;
        let now = Instant::now();
        let mut node = Node::new(Arc::new(settings), NodeId::new(number), 1 << 20 | number, now);
        (0..ROOMS).for_each(|index| node.add_interest(&Namespace::main(), Some(&room(index)), now));
        let (engine, shards) = RedisShards::connect(configs(servers)).expect("servers");
        Self { node, engine, shards, received: BTreeMap::new(), gaps: Vec::new() }
    }

    fn publish(&mut self, number: u64) {
        let publication = Publication {
            namespace: Namespace::main(),
            rooms: vec![room(number as usize % ROOMS)],
            except: Vec::new(),
            kind: 1,
            body: Bytes::copy_from_slice(&number.to_le_bytes()),
        };
        self.node.publish(publication, Instant::now()).expect("room in the queue");
    }

    fn drive(&mut self) {
        let now = Instant::now();
        if self.node.poll_timeout().is_some_and(|at| at <= now) {
            self.node.handle_timeout(now);
        }
        self.node.exchange(&mut self.engine, &mut Context::from_waker(Waker::noop()), now);
        while let Some(action) = self.node.poll_action() {
            match action {
                ClusterAction::Deliver { publication, .. } => {
                    let room = room_index(&publication.rooms[0]).expect("a room");
                    let number = u64::from_le_bytes(publication.body[..].try_into().expect("a number"));
                    self.received.entry(room).or_default().push(number);
                }
                ClusterAction::Gap { channel: Some(Channel::Room(_, room)), .. } => {
                    self.gaps.push(room_index(&room));
                }
                ClusterAction::Gap { channel: None | Some(Channel::Namespace(_)), .. } => {
                    self.gaps.push(None)
                }
                _ => {}
            }
        }
    }

    fn is_settled(&self, servers: usize) -> bool {
        let metrics = self.shards.shards();
        !metrics.is_changing
            && metrics.servers.len() == servers
            && metrics.servers.iter().all(|server| server.is_up)
    }
}

/// Two nodes, the first of which publishes about a thousand messages per second.
struct Pair {
    peers: [Peer; 2],
    published: u64,
}

impl Pair {
    async fn start(servers: &[&Redis]) -> Self {
        let mut pair = Self { peers: [Peer::new(1, servers), Peer::new(2, servers)], published: 0 };
        let count = servers.len();
        pair.until(false, |peers| {
            peers.iter().all(|peer| {
                let metrics = peer.node.metrics();
                peer.is_settled(count) && metrics.nodes == 1 && metrics.degraded == 0
            })
        })
        .await;
        // Subscriptions on other servers may take longer.
        pair.run(Duration::from_millis(300), false).await;
        pair
    }

    async fn step(&mut self, publishes: bool) {
        if publishes {
            self.peers[0].publish(self.published);
            self.published += 1;
        }
        self.peers.iter_mut().for_each(Peer::drive);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    async fn run(&mut self, time: Duration, publishes: bool) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.step(publishes).await;
        }
    }

    async fn until(&mut self, publishes: bool, holds: impl Fn(&[Peer; 2]) -> bool) {
        let end = Instant::now() + LIMIT;
        while !holds(&self.peers) {
            let metrics = self.peers.each_ref().map(|peer| peer.shards.shards());
            assert!(Instant::now() < end, "{metrics:?}");
            self.step(publishes).await;
        }
    }

    /// Changes the servers of both nodes at different times, and waits until the change is complete.
    async fn change(&mut self, servers: &[&Redis]) {
        self.peers[1].shards.set(configs(servers)).expect("servers");
        self.run(Duration::from_millis(300), true).await;
        self.peers[0].shards.set(configs(servers)).expect("servers");
        let count = servers.len();
        self.until(true, |peers| peers.iter().all(|peer| peer.is_settled(count))).await;
        self.run(Duration::from_millis(200), true).await;
    }

    /// Returns the messages that did not arrive, by room; the others arrived once and in order.
    fn missing(&self) -> BTreeMap<usize, Vec<u64>> {
        let mut missing = BTreeMap::<usize, Vec<u64>>::new();
        for room in 0..ROOMS {
            let received = self.peers[1].received.get(&room).cloned().unwrap_or_default();
            assert!(received.is_sorted_by(|one, other| one < other), "room {room}: {received:?}");
            let sent = (0..self.published).filter(|number| *number as usize % ROOMS == room);
            let lost: Vec<_> = sent.filter(|number| received.binary_search(number).is_err()).collect();
            if !lost.is_empty() {
                missing.insert(room, lost);
            }
        }
        missing
    }
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn servers_come_and_go_without_loss() {
    let servers = [(); 4].map(|()| Redis::start(""));
    let [one, two, three, four] = servers.each_ref();
    let mut pair = Pair::start(&[one, two]).await;
    pair.run(Duration::from_millis(500), true).await;
    pair.change(&[one, two, three]).await;
    pair.change(&[two, three]).await;
    pair.change(&[three, four, one, two]).await;
    pair.change(&[four]).await;
    pair.run(Duration::from_millis(300), false).await;
    assert_eq!(pair.missing(), BTreeMap::new());
    let metrics = pair.peers[1].node.metrics();
    assert_eq!((metrics.lost, metrics.gaps, metrics.late), (0, 0, 0), "{metrics:?}");
    assert!(pair.published > 1000 && pair.peers.iter().all(|peer| peer.shards.shards().changes == 4));
    // The removed servers have no subscriber left.
    for server in [one, two, three] {
        assert_eq!(server.command(&["PUBSUB", "SHARDCHANNELS"]), "*0\r\n");
    }
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn lost_server_affects_its_rooms_only() {
    let mut servers = [(); 3].map(|()| Redis::start(""));
    let mut pair = Pair::start(&servers.each_ref()).await;
    pair.run(Duration::from_millis(500), true).await;
    assert_eq!(pair.peers[1].gaps, []);
    servers[0].kill();
    pair.run(Duration::from_millis(1500), true).await;
    assert_eq!(pair.peers[1].node.metrics().nodes, 1, "membership needs one server");
    servers[0].restart();
    let count = servers.len();
    pair.until(true, |peers| peers.iter().all(|peer| peer.is_settled(count))).await;
    pair.run(Duration::from_millis(1500), true).await;
    let before = pair.published;
    pair.run(Duration::from_millis(500), true).await;
    pair.run(Duration::from_millis(500), false).await;

    let missing = pair.missing();
    let gaps = &pair.peers[1].gaps;
    assert!(!gaps.contains(&None), "a gap of all rooms");
    let affected: Vec<usize> = (0..ROOMS).filter(|room| gaps.contains(&Some(*room))).collect();
    assert!(affected.len() > ROOMS / 6 && affected.len() < ROOMS / 2, "{affected:?}");
    for (room, lost) in &missing {
        assert!(affected.contains(room), "room {room} missed {lost:?} without a report");
        assert!(lost.iter().all(|number| *number < before), "room {room} misses {lost:?} after the return");
    }
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn rooms_of_lost_server_move_when_removed() {
    let mut servers = [(); 3].map(|()| Redis::start(""));
    let mut pair = Pair::start(&servers.each_ref()).await;
    pair.run(Duration::from_millis(300), true).await;
    servers[0].kill();
    pair.run(Duration::from_millis(700), true).await;
    pair.change(&[&servers[1], &servers[2]]).await;
    let before = pair.published;
    pair.run(Duration::from_millis(500), true).await;
    pair.run(Duration::from_millis(300), false).await;
    let missing = pair.missing();
    for (room, lost) in &missing {
        assert!(lost.iter().all(|number| *number < before), "room {room} misses {lost:?} after the removal");
        assert!(pair.peers[1].gaps.contains(&Some(*room)), "room {room} missed {lost:?} without a report");
    }
    // The publications that waited for the lost server were sent by the others.
    let lost: usize = missing.values().map(Vec::len).sum();
    assert!(lost < 50, "{missing:?}");
}

const ROOMS: usize = 60;
const HEARTBEAT: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(20);
