//! Sessions stored as they change, on a paused clock.
#![allow(clippy::disallowed_methods, reason = "the clock is the runtime's, which is paused")]

use std::sync::Arc;
use std::time::Duration;

use roomcast_core::{Member, MemberKey, Room, Router, Target};
use roomcast_recovery::{
    NodeId, Order, Recovery, RecoveryConfig, RecoveryError, Sequencer, SessionId, SessionInit, SessionQueue,
    SessionStore, SharedData, StoreConfig, StoredSession, StoredSessions,
};
use roomcast_rooms::Rooms;
use roomcast_runtime::store_sessions;
use roomcast_testkit::recovery::{MemorySessionStore, StoreCall, StoreFault};
use roomcast_testkit::{ControlProbe, MemberProbe, TextCodec};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const INTERVAL: Duration = Duration::from_millis(100);

struct Node {
    queue: Arc<SessionQueue>,
    recovery: Arc<StoredSessions>,
    codec: Arc<TextCodec>,
    writer: JoinHandle<()>,
}

impl Node {
    fn new(name: &'static str, store: &Arc<MemorySessionStore>, config: StoreConfig) -> Self {
        let store = store.clone();
        let queue = Arc::new(SessionQueue::new(NodeId(name.into()), store, config));
        let recovery = RecoveryConfig::new().max_sessions(100_000).max_session_bytes(1 << 30);
        let clock = || Instant::now().into_std();
        let inner = Sequencer::new(Arc::new(Rooms::default()), recovery, "0123456789abcdefghij", clock);
        let recovery = StoredSessions::new("/".into(), Arc::new(inner), queue.clone());
        let writer = tokio::spawn(store_sessions(queue.clone()));
        Self { queue, recovery, codec: TextCodec::new("t"), writer }
    }

    fn member(&self, socket: &str) -> Member {
        MemberProbe::new(socket, &self.codec).member()
    }

    fn attach(&self, socket: &str) -> MemberKey {
        self.attach_member(self.member(socket))
    }

    fn attach_member(&self, member: Member) -> MemberKey {
        let secret = format!("secret of {}", member.id).into();
        self.recovery.attach_recoverable(member, SessionInit { secret, owner: None, data: None })
    }

    fn join(&self, key: MemberKey, room: &str) {
        self.recovery.join(key, &Room::from(room));
    }

    fn disconnect(&self, key: MemberKey, data: &str) {
        assert!(self.recovery.detach_and_retain(key, data.into(), None));
    }

    async fn recover(&self, socket: &str) -> Result<MemberKey, RecoveryError> {
        let pending =
            self.recovery.clone().claim(&format!("secret of {socket}"), None, 1 << 20).outcome().await?;
        pending.resume(self.member(socket), None, Order::MissedFirst, &mut || {})
    }
}

fn id(socket: &str) -> SessionId {
    SessionId { namespace: "/".into(), secret: format!("secret of {socket}").into() }
}

fn rooms(session: Option<StoredSession>) -> Option<Vec<String>> {
    let mut rooms: Vec<_> = session?.rooms.iter().map(|room| room.as_str().to_owned()).collect();
    rooms.sort();
    Some(rooms)
}

fn writes(calls: &[StoreCall]) -> Vec<&[String]> {
    calls
        .iter()
        .filter_map(|call| match call {
            StoreCall::Write(sockets, _) => Some(&sockets[..]),
            _ => None,
        })
        .collect()
}

/// Lets the writer act without time passing.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn collects_bursts_into_few_writes() {
    let store = Arc::new(MemorySessionStore::new());
    let node = Node::new("a", &store, StoreConfig::new());
    let keys: Vec<_> = (0..10).map(|number| node.attach(&format!("s{number}"))).collect();
    let data = SharedData::default();
    // 10,000 changes within a second.
    for step in 0..1_000 {
        for key in &keys {
            match step % 3 {
                0 => node.join(*key, &format!("r{}", step % 7)),
                1 => _ = node.recovery.leave(*key, &Room::from("r3")),
                _ => node.recovery.data_changed(*key, &data),
            }
        }
        sleep(Duration::from_millis(1)).await;
    }
    node.join(keys[4], "last");
    sleep(INTERVAL * 2).await;
    let calls = store.take_calls();
    assert!((8..=12).contains(&calls.len()), "{} writes", calls.len());
    assert!(writes(&calls).iter().all(|sockets| sockets.len() <= keys.len()));
    for (number, key) in keys.iter().enumerate() {
        let own = Room::from(format!("s{number}").as_str());
        let mut expected = node.recovery.rooms_of(*key);
        expected.retain(|room| *room != own);
        let mut expected: Vec<_> = expected.iter().map(|room| room.as_str().to_owned()).collect();
        expected.sort();
        assert_eq!(rooms(store.get(&id(&format!("s{number}")))), Some(expected));
    }
    // No change was made since.
    sleep(INTERVAL * 10).await;
    assert_eq!(store.take_calls(), []);
}

#[tokio::test(start_paused = true)]
async fn writes_in_order_in_bounded_batches() {
    let store = Arc::new(MemorySessionStore::new());
    let node = Node::new("a", &store, StoreConfig::new().batch_bytes(4_000));
    let names: Vec<_> = (0..100).map(|number| format!("s{number}")).collect();
    names.iter().for_each(|name| _ = node.attach(name));
    sleep(INTERVAL * 2).await;
    let calls = store.take_calls();
    let written: Vec<_> = writes(&calls).concat();
    assert_eq!(written, names);
    assert!(calls.len() > 2);
    let largest = calls.iter().map(|call| match call {
        StoreCall::Write(_, bytes) => *bytes,
        other => panic!("{other:?}"),
    });
    // One session more than fits.
    assert!(largest.max() < Some(4_400));
    assert!(!store.has_overlapped());
}

#[tokio::test(start_paused = true)]
async fn stores_data_rooms_and_handshake() {
    let store = Arc::new(MemorySessionStore::new());
    let node = Node::new("a", &store, StoreConfig::new());
    let control = ControlProbe::new("{\"name\":\"ada\"}");
    let probe = MemberProbe::new("s", &node.codec).with_control(control);
    let key = node.attach_member(probe.member());
    node.join(key, "red");
    sleep(INTERVAL * 2).await;
    let stored = store.get(&id("s")).expect("it is stored");
    assert!(stored.connected && !stored.handshake.is_empty());
    assert_eq!(
        (stored.data.as_ref(), rooms(Some(stored.clone()))),
        ("{\"name\":\"ada\"}", Some(vec!["red".into()]))
    );
    node.disconnect(key, "[1]");
    sleep(INTERVAL * 2).await;
    let away = store.get(&id("s")).expect("it is stored");
    assert!(!away.connected && away.rooms == stored.rooms && away.handshake == stored.handshake);
    assert_eq!(away.data, "[1]");
    // Data that changes while the client is away is stored too.
    node.recovery.data_changed(key, &"[2]".into());
    sleep(INTERVAL * 2).await;
    assert_eq!(store.get(&id("s")).expect("it is stored").data, "[2]");
}

trait StateExt {
    fn with_rooms(self, rooms: &[&str]) -> Self;
}

impl StateExt for StoredSession {
    fn with_rooms(mut self, rooms: &[&str]) -> Self {
        self.rooms = rooms.iter().map(|room| Room::from(*room)).collect();
        self
    }
}

#[tokio::test(start_paused = true)]
async fn bulk_changes_are_stored() {
    let store = Arc::new(MemorySessionStore::new());
    let node = Node::new("a", &store, StoreConfig::new());
    for name in ["s1", "s2"] {
        node.attach(name);
    }
    sleep(INTERVAL * 2).await;
    let target = Target::default();
    node.recovery.update(&target, &roomcast_core::Membership::Join(vec![Room::from("red")]));
    sleep(INTERVAL * 2).await;
    for name in ["s1", "s2"] {
        assert_eq!(store.get(&id(name)), Some(StoredSession::new(name.into()).with_rooms(&["red"])));
    }
}

#[tokio::test(start_paused = true)]
async fn dead_store_takes_bounded_memory() {
    for fault in [StoreFault::Frozen, StoreFault::Failing] {
        let store = Arc::new(MemorySessionStore::new());
        let limit = 1 << 20;
        let node = Node::new("a", &store, StoreConfig::new().max_bytes(limit));
        let live = node.attach("live");
        store.set_fault(fault);
        let data = format!("\"{}\"", "x".repeat(1_000));
        for number in 0..6_000 {
            let key = node.attach(&format!("s{number}"));
            node.join(live, &format!("r{}", number % 10));
            match number % 2 {
                0 => node.disconnect(key, &data),
                _ => _ = node.recovery.detach(key),
            }
            if number % 30 == 0 {
                assert!(node.queue.waiting().1 <= limit);
                sleep(Duration::from_millis(70)).await;
            }
        }
        let stats = node.queue.stats();
        assert!(stats.dropped > 1_000 && stats.failed > 0, "{stats:?}");
        assert_eq!((store.len(), stats.written), (0, 0));
        // While it fails, attempts become rare.
        store.take_calls();
        sleep(Duration::from_secs(60)).await;
        assert!(store.take_calls().len() <= 14);
        store.set_fault(StoreFault::None);
        sleep(Duration::from_secs(11)).await;
        assert_eq!(node.queue.waiting().0, 0);
        assert_eq!(rooms(store.get(&id("live"))).map(|rooms| rooms.len()), Some(10));
        // The latest disconnected sessions are stored.
        assert!(store.get(&id("s5998")).is_some_and(|stored| !stored.connected && stored.data == data));
        assert!(store.len() > 500 && !store.has_overlapped());
        assert!(!node.writer.is_finished());
    }
}

#[tokio::test(start_paused = true)]
async fn flush_stores_everything_at_once() {
    let store = Arc::new(MemorySessionStore::new());
    let node =
        Node::new("a", &store, StoreConfig::new().interval(Duration::from_secs(60)).batch_bytes(1_000));
    store.set_fault(StoreFault::Slow(Duration::from_millis(30)));
    let keys: Vec<_> = (0..20).map(|number| node.attach(&format!("s{number}"))).collect();
    keys.iter().for_each(|key| node.disconnect(*key, "1"));
    let began = Instant::now();
    let (first, second) = (node.recovery.flush(), node.queue.flush());
    tokio::join!(first, second);
    assert!(began.elapsed() < Duration::from_secs(1));
    let is_stored = |number: &usize| {
        store.get(&id(&format!("s{number}"))).is_some_and(|stored| !stored.connected && stored.data == "1")
    };
    assert!((0..20).all(|number| is_stored(&number)));
    assert_eq!(node.queue.waiting().0, 0);
    // Without changes it returns at once, and the interval holds again.
    node.queue.flush().await;
    store.take_calls();
    node.attach("later");
    sleep(Duration::from_secs(59)).await;
    assert_eq!(store.take_calls(), []);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(store.take_calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn flush_waits_for_write_in_progress() {
    let store = Arc::new(MemorySessionStore::new());
    let node = Node::new("a", &store, StoreConfig::new());
    store.set_fault(StoreFault::Slow(Duration::from_secs(2)));
    let key = node.attach("s");
    sleep(INTERVAL + Duration::from_millis(1)).await;
    assert_eq!(store.take_calls().len(), 1);
    node.join(key, "during");
    let began = Instant::now();
    node.queue.flush().await;
    assert!(began.elapsed() >= Duration::from_secs(3));
    assert_eq!(rooms(store.get(&id("s"))), Some(vec!["during".into()]));
}

#[tokio::test(start_paused = true)]
async fn clean_disconnect_removes_session() {
    let store = Arc::new(MemorySessionStore::new());
    let node = Node::new("a", &store, StoreConfig::new());
    let [stored, unknown] = ["stored", "unknown"].map(|name| node.attach(name));
    assert!(node.recovery.detach(unknown));
    sleep(INTERVAL * 2).await;
    assert!(store.get(&id("unknown")).is_none() && store.get(&id("stored")).is_some());
    assert_eq!(store.take_calls().len(), 1, "nothing to remove");
    assert!(node.recovery.detach(stored));
    sleep(INTERVAL * 2).await;
    assert!(store.is_empty());
    // A retained session that is forgotten, and one that ends while it is being written.
    let forgotten = node.attach("forgotten");
    node.disconnect(forgotten, "1");
    sleep(INTERVAL * 2).await;
    assert_eq!(store.len(), 1);
    store.set_fault(StoreFault::Slow(Duration::from_millis(300)));
    let ends = node.attach("ends");
    sleep(INTERVAL * 2).await;
    node.recovery.forget(forgotten);
    node.recovery.detach(ends);
    sleep(Duration::from_secs(2)).await;
    assert!(store.is_empty());
    assert_eq!(node.queue.stats().removed, 3);
}

#[tokio::test(start_paused = true)]
async fn lost_answers_are_repeated() {
    let store = Arc::new(MemorySessionStore::new());
    let node = Node::new("a", &store, StoreConfig::new());
    let (key, gone) = (node.attach("s"), node.attach("gone"));
    store.set_fault(StoreFault::AnswersLost);
    sleep(INTERVAL * 2).await;
    node.join(key, "red");
    node.recovery.detach(gone);
    sleep(INTERVAL * 5).await;
    store.set_fault(StoreFault::None);
    sleep(Duration::from_secs(6)).await;
    assert_eq!(rooms(store.get(&id("s"))), Some(vec!["red".into()]));
    assert_eq!((store.len(), node.queue.waiting().0), (1, 0));
    assert!(node.queue.stats().failed > 0);
}

#[tokio::test(start_paused = true)]
async fn timed_out_write_counts_as_failed() {
    let store = Arc::new(MemorySessionStore::new());
    let node = Node::new("a", &store, StoreConfig::new().write_timeout(Duration::from_secs(1)));
    store.set_fault(StoreFault::Frozen);
    node.attach("s");
    sleep(Duration::from_millis(1_150)).await;
    assert_eq!(node.queue.stats().failed, 1);
    store.set_fault(StoreFault::None);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(store.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn claimed_elsewhere_is_displaced() {
    let store = Arc::new(MemorySessionStore::new());
    let node = Node::new("a", &store, StoreConfig::new());
    let [live, away] = [ControlProbe::new(""), ControlProbe::new("")];
    let attach = |name: &str, control: &Arc<ControlProbe>| {
        let probe = MemberProbe::new(name, &node.codec).with_control(control.clone());
        node.attach_member(probe.member())
    };
    let (live_key, away_key) = (attach("live", &live), attach("away", &away));
    node.disconnect(away_key, "1");
    sleep(INTERVAL * 2).await;
    let other = NodeId("b".into());
    for name in ["live", "away"] {
        let claimed = store.claim(&other, &id(name)).await.expect("it works").expect("it is stored");
        assert_eq!(claimed.previous, NodeId("a".into()));
    }
    let claimed = [store.get(&id("live")), store.get(&id("away"))];
    store.take_calls();
    node.join(live_key, "late");
    node.recovery.data_changed(away_key, &"2".into());
    sleep(INTERVAL * 2).await;
    assert_eq!([store.get(&id("live")), store.get(&id("away"))], claimed);
    assert_eq!((live.displaced(), away.displaced()), (1, 0));
    assert_eq!(node.queue.stats().displaced, 2);
    // Neither is written or removed again, nor recovered here.
    store.take_calls();
    node.join(live_key, "later");
    node.recovery.data_changed(away_key, &"3".into());
    node.recovery.detach(live_key);
    sleep(INTERVAL * 5).await;
    assert_eq!(store.take_calls(), []);
    assert_eq!(node.recover("away").await, Err(RecoveryError::Unknown));
    assert_eq!([store.get(&id("live")), store.get(&id("away"))], claimed);
}

#[tokio::test(start_paused = true)]
async fn recovers_only_if_store_agrees() {
    let store = Arc::new(MemorySessionStore::new());
    let node = Node::new("a", &store, StoreConfig::new());
    let lose = |name: &str| {
        let key = node.attach(name);
        node.join(key, "red");
        node.disconnect(key, "1");
        key
    };
    // Before it is stored, after it, and again.
    let key = lose("s");
    assert_eq!(node.recover("s").await, Ok(key));
    for _ in 0..3 {
        sleep(INTERVAL * 2).await;
        assert!(store.get(&id("s")).is_some_and(|stored| stored.connected));
        node.disconnect(key, "1");
        sleep(INTERVAL * 2).await;
        assert!(store.get(&id("s")).is_some_and(|stored| !stored.connected));
        assert_eq!(node.recover("s").await, Ok(key));
    }
    // Claimed elsewhere, and claimed and removed elsewhere; this node has not noticed.
    let other = NodeId("b".into());
    for removes in [false, true] {
        lose("t");
        sleep(INTERVAL * 2).await;
        let claimed = store.claim(&other, &id("t")).await.expect("it works").expect("it is stored");
        if removes {
            store.remove(&other, &[(id("t"), claimed.epoch)]).await.expect("it works");
        }
        assert_eq!(node.recover("t").await, Err(RecoveryError::Unknown));
        store.remove(&other, &[(id("t"), claimed.epoch.next())]).await.expect("it works");
    }
    assert_eq!(node.recover("nobody").await, Err(RecoveryError::Unknown));
}

#[tokio::test(start_paused = true)]
async fn failed_claim_keeps_session_claimable() {
    let store = Arc::new(MemorySessionStore::new());
    let node = Node::new("a", &store, StoreConfig::new());
    let key = node.attach("s");
    node.disconnect(key, "1");
    sleep(INTERVAL * 2).await;
    for fault in [StoreFault::Failing, StoreFault::AnswersLost] {
        store.set_fault(fault);
        assert_eq!(node.recover("s").await, Err(RecoveryError::Unavailable));
    }
    // Dropped while it waits, with and without its effect in the store.
    for fault in [StoreFault::Frozen, StoreFault::Slow(Duration::from_secs(9))] {
        store.set_fault(fault);
        let given_up = tokio::time::timeout(Duration::from_secs(1), node.recover("s")).await;
        assert!(given_up.is_err());
    }
    store.set_fault(StoreFault::None);
    assert_eq!(node.recover("s").await, Ok(key));
    sleep(INTERVAL * 2).await;
    assert!(store.get(&id("s")).is_some_and(|stored| stored.connected));
    assert_eq!(node.queue.stats().displaced, 0);
}

#[tokio::test(start_paused = true)]
async fn own_claim_during_write_displaces_nothing() {
    let store = Arc::new(MemorySessionStore::new());
    let node = Node::new("a", &store, StoreConfig::new());
    let key = node.attach("s");
    sleep(INTERVAL * 2).await;
    node.disconnect(key, "1");
    store.set_fault(StoreFault::Slow(Duration::from_millis(500)));
    sleep(INTERVAL + Duration::from_millis(1)).await;
    // The write of the disconnect is in progress.
    store.set_fault(StoreFault::None);
    assert_eq!(node.recover("s").await, Ok(key));
    settle().await;
    sleep(Duration::from_secs(2)).await;
    assert!(store.get(&id("s")).is_some_and(|stored| stored.connected));
    assert_eq!(node.queue.stats().displaced, 0);
    assert_eq!(node.recovery.rooms_of(key), [Room::from("s")]);
}
