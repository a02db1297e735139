//! Sessions stored outside the process as they change.

use std::sync::{Arc, Mutex, Weak, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use roomcast_cluster_runtime::{ClusterConnection, ConnectionConfig};
use roomcast_core::{Cluster, ClusterHost, ClusterNamespace, ClusterStatus};
use roomcast_runtime::store_sessions;
use roomcast_server::namespace::Namespace;
use roomcast_server::recovery::{NodeId, SessionId, SessionQueue, SessionStore, StoreConfig, StoredSessions};
use roomcast_server::server::Drain;
use roomcast_server::socket::{CloseReason, RecoveryRefused};
use roomcast_server::{Config, Io, Socket, Value};
use roomcast_testkit::cluster::{Harness as _, MemoryEngine};
use roomcast_testkit::recovery::{MemorySessionStore, StoreFault};
use serde_json::json;

use crate::recovery::Returner;
use crate::support::recorder::{Recorder, arrivals, ear};
use crate::support::serve::{On, Running, serve_on, until};
use crate::support::ws::Message;

struct Scene {
    io: Io,
    server: Running,
    sockets: Recorder<Socket>,
    reasons: Recorder<CloseReason>,
    store: Arc<MemorySessionStore>,
    queue: Arc<SessionQueue>,
}

/// Cluster that records the sessions stored when the node says goodbye.
#[derive(Debug)]
struct Witness {
    inner: ClusterConnection,
    store: Arc<MemorySessionStore>,
    at_goodbye: Arc<Mutex<Option<usize>>>,
}

#[async_trait]
impl Cluster for Witness {
    fn open(&self, namespace: &Namespace, host: Weak<dyn ClusterHost>) -> Box<dyn ClusterNamespace> {
        self.inner.open(namespace, host)
    }

    fn id_tag(&self) -> &str {
        self.inner.id_tag()
    }

    fn status(&self) -> ClusterStatus {
        self.inner.status()
    }

    async fn leave(&self) {
        *self.at_goodbye.lock().expect("not poisoned") = Some(self.store.len());
        self.inner.leave().await;
    }
}

fn open(at_goodbye: Option<&Arc<Mutex<Option<usize>>>>, config: StoreConfig) -> Scene {
    let store = Arc::new(MemorySessionStore::new());
    let queue = Arc::new(SessionQueue::new(NodeId("a".into()), store.clone(), config));
    let stored = queue.clone();
    let config = Config::new()
        .recovery(|recovery| recovery)
        .session_fence(queue.fence().clone())
        .recovery_factory(move |name, inner| StoredSessions::new(name.clone(), inner, stored.clone()));
    let mut builder = Io::builder().config(config);
    if let Some(at_goodbye) = at_goodbye {
        let engine = MemoryEngine::new(1).connect(0);
        let inner = ClusterConnection::start_thread(ConnectionConfig::new(), engine).expect("a thread");
        let (store, at_goodbye) = (store.clone(), at_goodbye.clone());
        builder = builder.cluster(Witness { inner, store, at_goodbye });
    }
    let io = builder.build();
    let sockets = arrivals(&io);
    let (told, reasons) = ear();
    io.on_disconnect(move |reason: CloseReason| {
        let _ = told.send(reason);
        async {}
    });
    // One thread, so that a test can freeze all tasks.
    let server = serve_on(&io, On::CurrentThread);
    drop(server.spawn(store_sessions(queue.clone())));
    Scene { io, server, sockets, reasons, store, queue }
}

fn quick() -> StoreConfig {
    StoreConfig::new().interval(Duration::from_millis(5))
}

fn id(client: &Returner) -> SessionId {
    let shows = client.shows(None);
    SessionId { namespace: Namespace::main(), secret: shows["pid"].as_str().expect("a token").into() }
}

#[test]
fn stores_sessions_of_clients() {
    let scene = open(None, quick());
    let client = Returner::connect(&scene.server.dial);
    let (id, socket) = (id(&client), scene.sockets.next());
    until(|| scene.store.get(&id).is_some());
    socket.join("red");
    socket.set_data(&json!({ "name": "ada" })).expect("valid JSON");
    let stored = || scene.store.get(&id).expect("it is stored");
    until(|| !stored().rooms.is_empty() && stored().data == "{\"name\":\"ada\"}");
    assert_eq!((stored().socket.as_str(), stored().rooms[0].as_str()), (client.sid.as_str(), "red"));
    let handshake: Value = serde_json::from_str(&stored().handshake).expect("JSON");
    assert!(handshake["headers"].is_object() && stored().connected);
    // Away, recovered, taken over, and gone.
    let (sid, shows) = client.vanish();
    until(|| !stored().connected);
    let back = Returner::connect_with(&scene.server.dial, "/", &shows);
    assert_eq!(back.sid, sid);
    until(|| stored().connected);
    let again = Returner::connect_with(&scene.server.dial, "/", &shows);
    assert_eq!(again.sid, sid);
    let last = scene.sockets.take(2).remove(1);
    assert_eq!(last.data::<Value>().expect("valid JSON"), Some(json!({ "name": "ada" })));
    assert!(last.is_in("red"));
    last.disconnect();
    until(|| scene.store.is_empty());
    assert_eq!(scene.queue.stats().displaced, 0);
}

#[test]
fn drain_stores_sessions_before_goodbye() {
    let at_goodbye = Arc::default();
    let scene = open(Some(&at_goodbye), StoreConfig::new().interval(Duration::from_secs(60)));
    scene.store.set_fault(StoreFault::Slow(Duration::from_millis(50)));
    let clients: Vec<_> = (0..3).map(|_| Returner::connect(&scene.server.dial)).collect();
    scene.sockets.take(3);
    assert!(scene.store.is_empty());
    let drained = scene.server.block_on(scene.io.drain(Drain::default()));
    assert_eq!((drained.closed, drained.left), (3, 0));
    assert_eq!(*at_goodbye.lock().expect("not poisoned"), Some(3));
    for client in &clients {
        assert!(scene.store.get(&id(client)).is_some_and(|stored| !stored.connected));
    }
}

#[test]
fn frozen_store_delays_drain_for_bounded_time() {
    let at_goodbye = Arc::default();
    let scene = open(Some(&at_goodbye), quick());
    scene.store.set_fault(StoreFault::Frozen);
    let _client = Returner::connect(&scene.server.dial);
    scene.sockets.next();
    let drained = scene.server.block_on(scene.io.drain(Drain::default()));
    assert_eq!((drained.closed, drained.left), (1, 0));
    assert_eq!(*at_goodbye.lock().expect("not poisoned"), Some(0));
}

#[test]
fn session_claimed_elsewhere_ends_silently() {
    let scene = open(None, quick());
    let mut client = Returner::connect(&scene.server.dial);
    let mut other = Returner::connect(&scene.server.dial);
    let socket = scene.sockets.take(2).into_iter().find(|socket| socket.id().as_str() == client.sid);
    let (socket, id) = (socket.expect("it connected"), id(&client));
    until(|| scene.store.get(&id).is_some());
    let claimed = scene.server.block_on(scene.store.claim(&NodeId("b".into()), &id)).expect("it works");
    let claimed = claimed.expect("it is stored").session;
    // The next change shows it.
    socket.join("red");
    assert_eq!(client.engine.receive(), Ok(Message::Text("1".to_owned())));
    assert!(client.engine.receive().is_err());
    until(|| scene.io.client_count() == 1);
    assert_eq!((scene.io.count(&*client.sid), scene.io.count("red")), (0, 0));
    assert!(!socket.is_connected() && socket.emit("late", ()).is_err());
    socket.set_data(&1).expect("valid JSON");
    // Neither retained here nor written again.
    let back = Returner::connect_with(&scene.server.dial, "/", &client.shows(None));
    assert_ne!(back.sid, client.sid);
    assert_eq!(scene.io.metrics().recovery_refused(RecoveryRefused::Unknown), 1);
    scene.server.block_on(scene.queue.flush());
    assert_eq!(scene.store.get(&id), Some(claimed));
    // The application saw no disconnect; that of another client is still reported.
    assert_eq!(scene.reasons.all(), []);
    other.engine.send("1".to_owned().into());
    assert_eq!(scene.reasons.next(), CloseReason::ClientNamespaceDisconnect);
}

#[expect(clippy::disallowed_methods, reason = "the process is frozen for longer than its lease")]
#[test]
fn woken_process_runs_no_handlers_of_moved_clients() {
    let lease = Duration::from_millis(400);
    let scene = open(None, quick().lease(lease));
    let (told, events) = ear();
    scene.io.on("say", move |socket: Socket| {
        let _ = told.send(socket.id().to_string());
        async {}
    });
    let mut moved = Returner::connect(&scene.server.dial);
    let mut closed = Returner::connect(&scene.server.dial);
    let mut stayed = Returner::connect(&scene.server.dial);
    let sockets = scene.sockets.take(3);
    let ids = [&moved, &closed].map(id);
    let stored = [&moved, &closed, &stayed].map(id);
    until(|| stored.iter().all(|id| scene.store.get(id).is_some()));
    let (frozen, is_frozen) = mpsc::sync_channel(1);
    let (thaw, thawed) = mpsc::sync_channel::<()>(1);
    drop(scene.server.spawn(async move {
        let _ = frozen.send(());
        let _ = thawed.recv();
    }));
    is_frozen.recv().expect("the process freezes");
    // So that only the confirmation tells of the claims, as when the news is behind the clients' messages.
    scene.store.disconnect(&NodeId("a".into()));
    // In the buffers of the sockets when the process wakes up.
    let say = || Message::Text("2[\"say\"]".to_owned());
    moved.engine.send(say());
    closed.engine.send(say());
    stayed.engine.send(say());
    let (closed_id, _) = closed.vanish();
    std::thread::sleep(lease + Duration::from_millis(100));
    let elsewhere = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let claims = ids.map(|id| {
        let claimed = elsewhere.block_on(scene.store.claim(&NodeId("b".into()), &id)).expect("it works");
        claimed.expect("it is stored").session
    });
    thaw.send(()).expect("the process is frozen");
    assert_eq!(events.next(), stayed.sid);
    // The connection that is still open is closed.
    assert!(matches!(moved.engine.receive(), Ok(Message::Text(text)) if text == "1"));
    assert!(moved.engine.receive().is_err());
    until(|| scene.io.client_count() == 1);
    drop(sockets);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(
        (scene.reasons.all(), events.all()),
        (Vec::new(), Vec::new()),
        "of {closed_id} and {}",
        moved.sid
    );
    assert_eq!(claims[0].socket.as_str(), moved.sid);
    assert_eq!((scene.queue.stats().displaced, scene.queue.stats().confirmed), (2, 1));
    stayed.engine.send(say());
    assert_eq!(events.next(), stayed.sid);
}
