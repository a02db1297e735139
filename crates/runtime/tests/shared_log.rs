//! Sessions that are recovered on other nodes, through a store and a log that all nodes share; on a paused clock.
#![allow(clippy::disallowed_methods, reason = "the clock is the runtime's, which is paused")]

use std::sync::Arc;
use std::time::Duration;

use roomcast_core::{Args, Event, MemberKey, Room, Router, SocketId, Target};
use roomcast_recovery::{
    NodeId, Order, PendingRecovery, Recovery, RecoveryConfig, RecoveryError, Sequencer, SessionId,
    SessionInit, SessionQueue, StoreConfig, StoredSessions,
};
use roomcast_rooms::Rooms;
use roomcast_runtime::store_sessions;
use roomcast_testkit::recovery::{
    LogFault, LogReader, MemoryEventLog, MemorySessionStore, StoreCall, StoreFault,
};
use roomcast_testkit::{ControlProbe, MemberProbe, TextCodec};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const INTERVAL: Duration = Duration::from_millis(100);
const BUDGET: usize = 1 << 20;

/// Store and log that all nodes share.
struct Cluster {
    store: Arc<MemorySessionStore>,
    log: Arc<MemoryEventLog>,
    emitted: usize,
}

struct Node {
    store: Arc<MemorySessionStore>,
    recovery: Arc<StoredSessions>,
    queue: Arc<SessionQueue>,
    reader: Arc<LogReader>,
    codec: Arc<TextCodec>,
    /// Tasks of the process.
    tasks: Vec<JoinHandle<()>>,
}

/// Client as a test sees it.
struct Client {
    name: &'static str,
    probe: MemberProbe,
    key: MemberKey,
    control: Arc<ControlProbe>,
}

impl Cluster {
    fn new() -> Self {
        Self { store: Arc::default(), log: MemoryEventLog::new(), emitted: 0 }
    }

    /// Starts a node whose entries of the log are delivered only by [`Node::deliver`].
    fn start_lagging(&self, name: &'static str) -> Node {
        let queue = SessionQueue::new(NodeId(name.into()), self.store.clone(), StoreConfig::new());
        let queue = Arc::new(queue);
        let clock = || Instant::now().into_std();
        let router = Arc::new(Rooms::default());
        let inner = Sequencer::new(router, RecoveryConfig::new(), "0123456789abcdefghij", clock);
        let recovery = StoredSessions::new("/".into(), Arc::new(inner), queue.clone());
        let reader = self.log.reader(name);
        recovery.use_event_log(reader.clone());
        let tasks = vec![tokio::spawn(store_sessions(queue.clone()))];
        Node { store: self.store.clone(), recovery, queue, reader, codec: TextCodec::new("t"), tasks }
    }

    fn start(&self, name: &'static str) -> Node {
        let mut node = self.start_lagging(name);
        let (reader, recovery) = (node.reader.clone(), node.recovery.clone());
        node.tasks.push(tokio::spawn(async move {
            loop {
                reader.wait().await;
                while reader.deliver(|target, event| _ = recovery.broadcast(target, event).flush_backlog()) {}
            }
        }));
        node
    }

    /// Emits the next number to rooms, or to all members.
    fn emit(&mut self, rooms: &[&str]) -> String {
        self.emit_except(rooms, &[])
    }

    fn emit_except(&mut self, rooms: &[&str], except: &[&str]) -> String {
        self.emitted += 1;
        let named = |names: &[&str]| names.iter().map(|room| Room::from(*room)).collect();
        let target = Target { rooms: named(rooms), except: named(except), ..Target::default() };
        let event = Event::new("/".into(), format!("e{}", self.emitted), Args::default());
        self.log.append(&target, &event).to_string()
    }
}

impl Node {
    fn probe(&self, name: &str) -> (MemberProbe, Arc<ControlProbe>) {
        let control = ControlProbe::new("{\"name\":\"ada\"}");
        (MemberProbe::new(name, &self.codec).with_control(control.clone()), control)
    }

    fn connect(&self, name: &'static str, rooms: &[&str]) -> Client {
        let (probe, control) = self.probe(name);
        let init = SessionInit { secret: secret(name).into(), owner: None, data: None };
        let key = self.recovery.attach_recoverable(probe.member(), init);
        for room in rooms {
            self.recovery.join(key, &Room::from(*room));
        }
        Client { name, probe, key, control }
    }

    async fn claim(
        &self,
        name: &str,
        offset: Option<&str>,
    ) -> Result<Box<dyn PendingRecovery>, RecoveryError> {
        self.recovery.clone().claim(&secret(name), offset, BUDGET).outcome().await
    }

    fn resume(&self, name: &'static str, pending: Box<dyn PendingRecovery>) -> Result<Client, RecoveryError> {
        let (probe, control) = self.probe(name);
        let key = pending.resume(probe.member(), None, Order::MissedFirst, &mut || {})?;
        Ok(Client { name, probe, key, control })
    }

    async fn recover(&self, name: &'static str, offset: Option<&str>) -> Result<Client, RecoveryError> {
        let pending = self.claim(name, offset).await?;
        assert_eq!(*pending.id(), SocketId::new(name));
        self.resume(name, pending)
    }

    fn disconnect(&self, client: &Client, delivered_until: Option<Instant>) {
        let until = delivered_until.map(Instant::into_std);
        assert!(self.recovery.detach_and_retain(client.key, "1".into(), until));
    }

    /// Delivers the next entries of the log.
    fn deliver(&self, entries: usize) {
        for _ in 0..entries {
            let host =
                |target: &Target, event: &Event| _ = self.recovery.broadcast(target, event).flush_backlog();
            assert!(self.reader.deliver(host));
        }
    }

    /// Ends the process without a word.
    fn kill(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.store.disconnect(self.queue.node());
    }

    fn rooms(&self, client: &Client) -> Vec<String> {
        let mut rooms: Vec<_> =
            self.recovery.rooms_of(client.key).iter().map(|room| room.as_str().to_owned()).collect();
        rooms.sort();
        rooms
    }

    fn members(&self) -> usize {
        self.recovery.stats().members
    }
}

impl Client {
    /// Returns the numbers of the events received since the last call.
    fn numbers(&self) -> Vec<usize> {
        let number = |text: &String| text.strip_prefix("t:e")?.split('[').next()?.parse().ok();
        self.probe.received().iter().map(|text| number(text).expect("an event")).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn secret(name: &str) -> String {
    format!("secret of {name}")
}

fn id(name: &str) -> SessionId {
    SessionId { namespace: "/".into(), secret: secret(name).into() }
}

/// Waits until changes are stored and events delivered.
async fn settle() {
    sleep(INTERVAL * 3).await;
}

#[tokio::test(start_paused = true)]
async fn client_of_killed_node_recovers_elsewhere() {
    let mut cluster = Cluster::new();
    let (a, b) = (cluster.start("a"), cluster.start("b"));
    cluster.emit(&[]);
    settle().await;
    let client = a.connect("s", &["red", "blue"]);
    settle().await;
    let offset = cluster.emit(&["red"]);
    settle().await;
    assert_eq!(client.numbers(), [2]);
    a.kill();
    cluster.emit(&["red"]);
    cluster.emit(&["green"]);
    cluster.emit(&["s"]);
    cluster.emit_except(&[], &["s"]);
    cluster.emit_except(&["red"], &["blue"]);
    cluster.emit(&["red", "blue"]);
    settle().await;
    let back = b.recover("s", Some(&offset)).await.expect("it recovers");
    assert_eq!(back.numbers(), [3, 5, 8]);
    assert_eq!(b.rooms(&back), ["blue", "red", "s"]);
    cluster.emit(&["blue"]);
    settle().await;
    assert_eq!(back.numbers(), [9]);
    let stored = cluster.store.get(&id("s")).expect("it is stored");
    assert!(stored.connected);
    assert_eq!(cluster.store.holder(&id("s")), Some(b.queue.node().clone()));
}

#[tokio::test(start_paused = true)]
async fn recovered_data_is_that_of_the_store() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.start("a"), cluster.start("b"));
    let [killed, away] = ["killed", "away"].map(|name| a.connect(name, &[]));
    settle().await;
    a.disconnect(&away, None);
    settle().await;
    for (client, data) in [(&killed, "{\"name\":\"ada\"}"), (&away, "1")] {
        let pending = b.claim(client.name, None).await.expect("it recovers");
        assert_eq!(pending.data().get(), data);
        assert_ne!(pending.key(), client.key);
    }
}

#[tokio::test(start_paused = true)]
async fn recovers_three_times_in_a_row() {
    let mut cluster = Cluster::new();
    let mut nodes: Vec<_> = ["a", "b", "c", "d"].map(|name| cluster.start(name)).into_iter().rev().collect();
    let first = nodes.pop().expect("a node");
    let client = first.connect("s", &["red"]);
    settle().await;
    let mut offset = cluster.emit(&["red"]);
    settle().await;
    assert_eq!(client.numbers(), [1]);
    first.kill();
    let mut next = 2;
    for node in nodes {
        // One is missed, and one is received live. The client has the offset of the latter.
        cluster.emit(&["red"]);
        let back = node.recover("s", Some(&offset)).await.expect("it recovers");
        offset = cluster.emit(&["red"]);
        settle().await;
        assert_eq!(back.numbers(), [next, next + 1]);
        next += 2;
        node.kill();
    }
}

#[tokio::test(start_paused = true)]
async fn lost_replay_is_repeated() {
    let mut cluster = Cluster::new();
    let (a, b, c) = (cluster.start("a"), cluster.start("b"), cluster.start("c"));
    a.connect("s", &["red"]);
    settle().await;
    a.kill();
    cluster.emit(&["red"]);
    settle().await;
    // The connection breaks before the client has read the replay; first with a clean end, then without.
    let back = b.recover("s", None).await.expect("it recovers");
    b.disconnect(&back, Some(Instant::now()));
    settle().await;
    let back = b.recover("s", None).await.expect("it recovers");
    assert_eq!((back.numbers(), back.key), (vec![1], back.key));
    settle().await;
    b.kill();
    cluster.emit(&["red"]);
    assert_eq!(c.recover("s", None).await.expect("it recovers").numbers(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn client_without_events_recovers() {
    let mut cluster = Cluster::new();
    let (a, b) = (cluster.start("a"), cluster.start("b"));
    cluster.emit(&["red"]);
    settle().await;
    let early = a.connect("early", &["red"]);
    settle().await;
    cluster.emit(&["blue"]);
    settle().await;
    let late = a.connect("late", &["red"]);
    settle().await;
    a.kill();
    cluster.emit(&["red"]);
    for client in [early, late] {
        assert_eq!(b.recover(client.name, None).await.expect("it recovers").numbers(), [3]);
    }
}

#[tokio::test(start_paused = true)]
async fn recovers_after_long_quiet() {
    let mut cluster = Cluster::new();
    let (a, b) = (cluster.start("a"), cluster.start("b"));
    let [heard, quiet] = ["heard", "quiet"].map(|name| a.connect(name, &[]));
    let offset = cluster.emit(&["heard"]);
    settle().await;
    assert_eq!((heard.numbers().len(), quiet.numbers().len()), (1, 0));
    sleep(Duration::from_secs(86_400)).await;
    a.kill();
    cluster.emit(&[]);
    for (name, offset) in [("heard", Some(&*offset)), ("quiet", None)] {
        assert_eq!(b.recover(name, offset).await.expect("it recovers").numbers(), [2]);
    }
}

#[tokio::test(start_paused = true)]
async fn trimmed_events_end_recovery() {
    let mut cluster = Cluster::new();
    let (a, b) = (cluster.start("a"), cluster.start("b"));
    let client = a.connect("s", &["red"]);
    let offset = cluster.emit(&["red"]);
    settle().await;
    assert_eq!(client.numbers(), [1]);
    a.kill();
    (0..5).for_each(|_| _ = cluster.emit(&["red"]));
    cluster.log.trim(4);
    assert_eq!(b.recover("s", Some(&offset)).await.err(), Some(RecoveryError::Overflow));
    // It cannot recover later either, so it is removed.
    settle().await;
    assert!(cluster.store.is_empty());
    assert_eq!(b.recover("s", Some(&offset)).await.err(), Some(RecoveryError::Unknown));
}

#[tokio::test(start_paused = true)]
async fn proven_arrival_replaces_trimmed_offset() {
    let mut cluster = Cluster::new();
    let (a, b) = (cluster.start("a"), cluster.start("b"));
    let client = a.connect("s", &["red"]);
    let offset = cluster.emit(&["red"]);
    settle().await;
    (0..5).for_each(|_| _ = cluster.emit(&["blue"]));
    settle().await;
    // Its answer to a ping proves that it has received all events before.
    let proof = Instant::now();
    sleep(Duration::from_secs(1)).await;
    cluster.emit(&["red"]);
    settle().await;
    assert_eq!(client.numbers(), [1, 7]);
    a.disconnect(&client, Some(proof));
    settle().await;
    cluster.log.trim(1);
    let back = b.recover("s", Some(&offset)).await.expect("it recovers");
    assert_eq!(back.numbers(), [7]);
}

#[tokio::test(start_paused = true)]
async fn rolling_restart_keeps_sessions() {
    let mut cluster = Cluster::new();
    let mut old = vec![cluster.start("a"), cluster.start("b")];
    let mut clients = [old[0].connect("s0", &["red"]), old[1].connect("s1", &["red"])];
    let mut heard = [Vec::new(), Vec::new()];
    for (round, name) in ["c", "d"].into_iter().enumerate() {
        settle().await;
        cluster.emit(&["red"]);
        settle().await;
        clients.iter().zip(&mut heard).for_each(|(client, heard)| heard.extend(client.numbers()));
        let (left, joined) = (old.remove(0), cluster.start(name));
        left.disconnect(&clients[round], None);
        left.recovery.flush().await;
        cluster.emit(&["red"]);
        left.kill();
        let offset = heard[round].last().map(|number| format!("{number}-0"));
        clients[round] = joined.recover(clients[round].name, offset.as_deref()).await.expect("it recovers");
        old.push(joined);
        cluster.emit(&["red"]);
    }
    settle().await;
    clients.iter().zip(&mut heard).for_each(|(client, heard)| heard.extend(client.numbers()));
    assert_eq!(heard, [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]]);
}

#[tokio::test(start_paused = true)]
async fn events_during_claim_arrive_once() {
    for lag in 0..5 {
        let mut cluster = Cluster::new();
        let (a, b) = (cluster.start("a"), cluster.start_lagging("b"));
        a.connect("s", &["red"]);
        settle().await;
        a.kill();
        cluster.emit(&["red"]);
        cluster.emit(&["red"]);
        b.deliver(lag.min(2));
        // Events are appended and delivered while the log answers, after it, and while the client is admitted.
        cluster.log.set_fault(LogFault::Slow(Duration::from_secs(1)));
        let mut claim = Box::pin(b.claim("s", None));
        assert!(futures_poll(&mut claim).await.is_none());
        cluster.emit(&["red"]);
        cluster.emit(&["blue"]);
        b.deliver(lag.saturating_sub(2));
        sleep(Duration::from_secs(2)).await;
        let pending = match futures_poll(&mut claim).await {
            Some(pending) => pending,
            // It waits until this node has delivered all that was read.
            None => {
                assert!(lag < 2, "{lag}");
                b.deliver(2 - lag);
                claim.await
            }
        };
        let pending = pending.expect("it recovers");
        let delivered = lag.max(2);
        if delivered < 3 {
            b.deliver(1);
        }
        cluster.emit(&["red"]);
        let back = b.resume("s", pending).expect("it recovers");
        let before = back.numbers();
        while b.reader.deliver(|target, event| _ = b.recovery.broadcast(target, event).flush_backlog()) {}
        let mut heard = before.clone();
        heard.extend(back.numbers());
        assert_eq!(heard, [1, 2, 3, 5], "lag {lag}, before {before:?}");
    }
}

/// Polls a future once after all other tasks have run.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let mut future = std::pin::Pin::new(future);
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn lost_events_during_claim_end_recovery() {
    let mut cluster = Cluster::new();
    let (a, b) = (cluster.start("a"), cluster.start("b"));
    a.connect("s", &["red"]);
    settle().await;
    a.kill();
    // A loss before the claim is none for a client that reads the log.
    b.recovery.missed(None);
    cluster.emit(&["red"]);
    let pending = b.claim("s", None).await.expect("it recovers");
    drop(pending);
    let pending = b.claim("s", None).await.expect("a dropped claim leaves it claimable");
    b.recovery.missed(Some(&Room::from("red")));
    assert_eq!(b.resume("s", pending).err(), Some(RecoveryError::Overflow));
}

#[tokio::test(start_paused = true)]
async fn outage_during_claim_ends_recovery() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.start("a"), cluster.start("b"));
    a.connect("s", &["red"]);
    settle().await;
    a.kill();
    let pending = b.claim("s", None).await.expect("it recovers");
    let mut event = Event::new("/".into(), "e1", Args::default());
    event.offset = Some("p1".into());
    _ = b.recovery.broadcast(&Target::default(), &event).flush_backlog();
    assert_eq!(b.resume("s", pending).err(), Some(RecoveryError::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn failing_log_keeps_session_claimable() {
    let mut cluster = Cluster::new();
    let (a, b) = (cluster.start("a"), cluster.start("b"));
    let client = a.connect("s", &["red"]);
    settle().await;
    cluster.emit(&["red"]);
    a.disconnect(&client, None);
    settle().await;
    cluster.log.set_fault(LogFault::Failing);
    for node in [&a, &b] {
        assert_eq!(node.recover("s", None).await.err(), Some(RecoveryError::Unavailable));
    }
    cluster.log.set_fault(LogFault::None);
    cluster.store.set_fault(StoreFault::Failing);
    assert_eq!(b.recover("s", None).await.err(), Some(RecoveryError::Unavailable));
    cluster.store.set_fault(StoreFault::None);
    for offset in ["", "x", "7", "900-0"] {
        assert_eq!(b.recover("s", Some(offset)).await.err(), Some(RecoveryError::Offset));
    }
    assert_eq!(b.recover("s", None).await.expect("it recovers").numbers(), [1]);
}

#[tokio::test(start_paused = true)]
async fn concurrent_claims_attach_once() {
    let mut cluster = Cluster::new();
    let (a, b, c) = (cluster.start("a"), cluster.start("b"), cluster.start("c"));
    a.connect("s", &["red"]);
    settle().await;
    a.kill();
    cluster.emit(&["red"]);
    // Two on one node, and one on another.
    let (first, second) =
        (b.claim("s", None).await.expect("a claim"), b.claim("s", None).await.expect("a claim"));
    let kept = b.resume("s", first).expect("the first wins");
    assert_eq!(b.resume("s", second).err(), Some(RecoveryError::Unknown));
    settle().await;
    let began = Instant::now();
    let taken = c.recover("s", None).await.expect("it takes the session over");
    // The node that lost it drops its socket before. This one leaves no room, so the claim waits.
    assert_eq!((kept.control.displaced(), taken.control.displaced()), (1, 0));
    assert!(began.elapsed() >= Duration::from_millis(100));
    settle().await;
    assert_eq!((b.queue.stats().displaced, c.members()), (1, 1));
    assert_eq!(cluster.store.holder(&id("s")), Some(c.queue.node().clone()));
}

#[tokio::test(start_paused = true)]
async fn claim_in_progress_is_superseded() {
    let mut cluster = Cluster::new();
    let (a, b, c) = (cluster.start("a"), cluster.start("b"), cluster.start("c"));
    a.connect("s", &["red"]);
    settle().await;
    a.kill();
    cluster.emit(&["red"]);
    settle().await;
    let early = b.claim("s", None).await.expect("a claim");
    let late = c.claim("s", None).await.expect("a claim");
    settle().await;
    // The first node wrote no part of it.
    assert_eq!(b.resume("s", early).err(), Some(RecoveryError::Unknown));
    assert_eq!(c.resume("s", late).expect("it recovers").numbers(), [1]);
    settle().await;
    assert_eq!((b.members(), c.members()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn woken_node_confirms_before_it_acts() {
    let mut cluster = Cluster::new();
    let (a, b) = (cluster.start("a"), cluster.start("b"));
    let (moved, ended) = (a.connect("moved", &["red"]), a.connect("ended", &["red"]));
    let (stayed, lost) = (a.connect("stayed", &["red"]), a.connect("lost", &["red"]));
    settle().await;
    a.disconnect(&lost, None);
    settle().await;
    // Neither the tasks of the node nor its connection to the store respond.
    cluster.store.disconnect(&NodeId("a".into()));
    cluster.emit(&["red"]);
    settle().await;
    let back = b.recover("moved", Some("0-0")).await.expect("it recovers");
    b.recover("lost", Some("0-0")).await.expect("it recovers");
    let gone = b.recover("ended", Some("0-0")).await.expect("it recovers");
    assert!(b.recovery.detach(gone.key));
    settle().await;
    let stored = ["moved", "lost"].map(|name| cluster.store.get(&id(name)));
    assert!(cluster.store.get(&id("ended")).is_none());
    cluster.store.set_fault(StoreFault::Frozen);
    assert!(a.queue.fence().is_open(Instant::now().into_std()));
    tokio::time::advance(Duration::from_secs(30)).await;
    // It has woken up. While the store does not respond, the fence is closed, and no session is written.
    a.recovery.join(moved.key, &Room::from("late"));
    a.recovery.join(ended.key, &Room::from("late"));
    cluster.store.take_calls();
    for _ in 0..10 {
        assert!(!a.queue.fence().is_open(Instant::now().into_std()));
        sleep(Duration::from_millis(700)).await;
    }
    let is_write = |call: &StoreCall| matches!(call, StoreCall::Write(..));
    assert!(!cluster.store.take_calls().iter().any(is_write));
    assert_eq!(moved.control.displaced(), 0);
    cluster.store.set_fault(StoreFault::None);
    sleep(Duration::from_secs(6)).await;
    assert!(a.queue.fence().is_open(Instant::now().into_std()));
    let displaced = [&moved, &ended, &stayed, &back].map(|client| client.control.displaced());
    assert_eq!((displaced, a.queue.stats().displaced), ([1, 1, 0, 0], 3));
    settle().await;
    assert_eq!(["moved", "lost"].map(|name| cluster.store.get(&id(name))), stored);
    assert!(cluster.store.get(&id("ended")).is_none());
    assert_eq!(a.recover("lost", None).await.expect("it recovers").numbers(), [1]);
}

#[tokio::test(start_paused = true)]
async fn short_pauses_and_outages_keep_fence_open() {
    let cluster = Cluster::new();
    let a = cluster.start("a");
    a.connect("s", &["red"]);
    settle().await;
    let fence = a.queue.fence().clone();
    let is_open = || fence.is_open(Instant::now().into_std());
    for fault in [StoreFault::None, StoreFault::Failing, StoreFault::Frozen] {
        cluster.store.set_fault(fault);
        for _ in 0..200 {
            sleep(Duration::from_millis(90)).await;
            assert!(is_open(), "{fault:?}");
        }
    }
    cluster.store.set_fault(StoreFault::None);
    sleep(Duration::from_secs(1)).await;
    for _ in 0..5 {
        tokio::time::advance(Duration::from_millis(1_400)).await;
        assert!(is_open());
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(a.queue.stats().confirmed, 0);
    // It does not close without the task that opens it.
    a.kill();
    settle().await;
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(is_open());
}

#[tokio::test(start_paused = true)]
async fn claim_waits_for_lease_of_frozen_node() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.start("a"), cluster.start("b"));
    let client = a.connect("s", &["red"]);
    settle().await;
    // It is connected to the store, and does not run.
    a.tasks.iter().for_each(|task| task.abort());
    let began = Instant::now();
    b.recover("s", None).await.expect("it recovers");
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(1) && waited <= Duration::from_secs(2), "{waited:?}");
    let began = Instant::now();
    b.recovery.detach(client.key);
    cluster.start("c").recover("s", None).await.expect("the node that recovered it releases it");
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn all_sessions_are_refreshed() {
    let cluster = Cluster::new();
    let a = cluster.start("a");
    a.connect("s", &[]);
    settle().await;
    assert_eq!(a.queue.stats().written, 1);
    sleep(Duration::from_secs(7 * 3_600)).await;
    assert_eq!(a.queue.stats().written, 2);
}

#[tokio::test(start_paused = true)]
async fn client_returns_to_its_former_node() {
    let mut cluster = Cluster::new();
    let (a, b) = (cluster.start("a"), cluster.start("b"));
    let client = a.connect("s", &["red"]);
    settle().await;
    a.disconnect(&client, None);
    settle().await;
    cluster.emit(&["red"]);
    let there = b.recover("s", None).await.expect("it recovers");
    b.recovery.join(there.key, &Room::from("blue"));
    settle().await;
    b.disconnect(&there, None);
    settle().await;
    // The first node still retains an older state.
    cluster.emit(&["blue"]);
    settle().await;
    let back = a.recover("s", Some("1-0")).await.expect("it recovers");
    assert_eq!((back.numbers(), a.rooms(&back)), (vec![2], vec!["blue".into(), "red".into(), "s".into()]));
}
