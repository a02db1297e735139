//! The store of sessions on real servers.
//!
//! ```sh
//! cargo test --package roomcast-backplane-redis --test sessions -- --ignored
//! ```

#![allow(clippy::disallowed_methods, reason = "real servers have the time of the machine")]

#[allow(dead_code, reason = "each test file uses a part")]
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use roomcast_backplane_redis::{RedisConfig, RedisSessionStore};
use roomcast_core::{Args, Room};
use roomcast_node_adapter::{CodecLimits, decode_session, encode_session};
use roomcast_recovery::{Confirmed, Epoch, NodeId, SessionId, SessionStore, SessionWrite, StoredSession};
use server::Redis;
use tokio::time::timeout;

fn store(server: &Redis) -> Arc<RedisSessionStore> {
    let config = RedisConfig::from_url(&server.url()).expect("a URL");
    Arc::new(RedisSessionStore::new(config.connect_timeout(Duration::from_millis(500))))
}

fn node(name: &'static str) -> NodeId {
    NodeId(name.into())
}

fn id(secret: &str) -> SessionId {
    SessionId { namespace: "/chat".into(), secret: secret.into() }
}

fn session(socket: &str, rooms: &[&str]) -> StoredSession {
    let mut session = StoredSession::new(socket.into());
    session.rooms = rooms.iter().map(|room| Room::from(*room)).collect();
    session.data = "{\"name\":\"ada\"}".into();
    session.handshake = "{\"url\":\"/\"}".into();
    session.handled = "[\"order\"]".into();
    session.offset = "7-0".into();
    session
}

fn write(secret: &str, epoch: Epoch, session: StoredSession) -> SessionWrite {
    SessionWrite { id: id(secret), epoch, session }
}

/// Returns the value of a key, or nothing.
fn value(server: &Redis, key: &str) -> Option<String> {
    let reply = server.command(&["GET", key]);
    reply.strip_prefix('$')?.split("\r\n").nth(1).map(str::to_owned).filter(|value| !value.is_empty())
}

async fn put(store: &RedisSessionStore, holder: &NodeId, write: SessionWrite) -> bool {
    store.write(holder, &[write]).await.expect("redis works").is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn claims_return_what_was_written() {
    let server = Redis::start("");
    let (store, other) = (store(&server), store(&server));
    let [a, b] = [node("a"), node("b")];
    let deep = format!("{}1{}", "[".repeat(120), "]".repeat(120));
    let mut all = vec![session("s0", &["red", "7", "ü \"x\""]), session("s1", &[]), session("s2", &["s"])];
    all[1].data = "".into();
    all[1].connected = false;
    all[2].data = deep.into();
    let batch: Vec<_> = all
        .iter()
        .enumerate()
        .map(|(number, session)| write(&format!("p{number}"), Epoch::FIRST, session.clone()))
        .collect();
    assert_eq!(store.write(&a, &batch).await, Ok(Vec::new()));
    for (number, mut expected) in all.into_iter().enumerate() {
        let secret = format!("p{number}");
        let claimed = other.claim(&b, &id(&secret)).await.expect("redis works").expect("it is stored");
        if expected.data.is_empty() {
            expected.data = "{}".into();
        }
        assert_eq!(claimed.session, expected);
        assert_eq!((claimed.epoch, claimed.previous), (Epoch(2), a.clone()));
    }
    assert_eq!(other.claim(&b, &id("unknown")).await, Ok(None));
    // A token of another namespace claims nothing.
    let elsewhere = SessionId { namespace: "/".into(), ..id("p0") };
    assert_eq!(other.claim(&b, &elsewhere).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn former_holder_neither_writes_nor_removes() {
    let server = Redis::start("");
    let store = store(&server);
    let [a, b] = [node("a"), node("b")];
    assert!(put(&store, &a, write("p", Epoch::FIRST, session("s", &["old"]))).await);
    assert!(put(&store, &a, write("p", Epoch::FIRST, session("s", &["new"]))).await);
    let claimed = store.claim(&b, &id("p")).await.expect("redis works").expect("it is stored");
    assert_eq!(claimed.session.rooms, [Room::from("new")]);
    assert!(!put(&store, &a, write("p", Epoch::FIRST, session("s", &["late"]))).await);
    store.remove(&a, &[(id("p"), Epoch::FIRST)]).await.expect("redis works");
    assert!(put(&store, &b, write("p", claimed.epoch, session("s", &["there"]))).await);
    let again = store.claim(&a, &id("p")).await.expect("redis works").expect("it is stored");
    assert_eq!((again.epoch, &again.previous), (Epoch(3), &b));
    assert_eq!(again.session.rooms, [Room::from("there")]);
    // A claim whose answer was lost leaves a lower epoch with the holder.
    assert!(put(&store, &a, write("p", Epoch::FIRST, session("s", &[]))).await);
    store.remove(&a, &[(id("p"), Epoch::FIRST)]).await.expect("redis works");
    assert_eq!(store.claim(&b, &id("p")).await, Ok(None));
    // One key remains for each node that wrote.
    assert!(server.command(&["DBSIZE"]).starts_with(":2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn sessions_move_to_node_servers_and_back() {
    let server = Redis::start("");
    let store = store(&server);
    let [a, b] = [node("a"), node("b")];
    assert!(put(&store, &a, write("p", Epoch::FIRST, session("s", &["red"]))).await);
    // As a Node server claims it: MULTI, GET, DEL, EXEC.
    let stored = value(&server, "sio:session:p").expect("it is stored");
    let read = decode_session(&stored, &CodecLimits::default()).expect("Node's form");
    assert_eq!((read.id.as_str(), &*read.secret, read.data.json()), ("s", "p", "{\"name\":\"ada\"}"));
    assert_eq!(read.rooms, [Room::from("s"), Room::from("red")]);
    server.command(&["DEL", "sio:session:p"]);
    // The holder finds it gone, and must not bring it back.
    assert!(!put(&store, &a, write("p", Epoch::FIRST, session("s", &["late"]))).await);
    assert_eq!(store.claim(&b, &id("p")).await, Ok(None));
    // The Node server stores it when its client disconnects.
    let returned = roomcast_node_adapter::StoredSession {
        data: Args::from_validated("{\"name\":\"bob\"}".into(), Vec::new()),
        rooms: vec![Room::from("s"), Room::from("blue")],
        ..read
    };
    let text = encode_session(&returned).expect("a session");
    server.command(&["SET", "sio:session:p", &text, "PX", "60000"]);
    assert!(!put(&store, &a, write("p", Epoch::FIRST, session("s", &["late"]))).await);
    store.remove(&a, &[(id("p"), Epoch::FIRST)]).await.expect("redis works");
    let claimed = store.claim(&b, &id("p")).await.expect("redis works").expect("it is stored");
    assert_eq!(
        (claimed.session.rooms, &*claimed.session.data),
        (vec![Room::from("blue")], "{\"name\":\"bob\"}")
    );
    assert_eq!((claimed.previous, &*claimed.session.offset), (node(""), ""));
    assert!(put(&store, &b, write("p", claimed.epoch, session("s", &["here"]))).await);
    // One that a Node server wrote first.
    server.command(&["SET", "sio:session:q", &text, "PX", "60000"]);
    let claimed = store.claim(&b, &id("q")).await.expect("redis works").expect("it is stored");
    assert!(
        claimed.epoch > Epoch::FIRST && put(&store, &b, write("q", claimed.epoch, session("s", &[]))).await
    );
    // One that is not readable.
    server.command(&["SET", "sio:session:r", "not a session"]);
    assert!(store.claim(&b, &id("r")).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn disconnected_sessions_expire() {
    let server = Redis::start("");
    let config = RedisConfig::from_url(&server.url()).expect("a URL");
    let store = RedisSessionStore::new(config)
        .key_prefix("app{1}:")
        .max_disconnection(Duration::from_millis(200))
        .max_silence(Duration::from_secs(60));
    let a = node("a");
    let mut away = session("away", &[]);
    away.connected = false;
    let batch = [write("away", Epoch::FIRST, away), write("here", Epoch::FIRST, session("here", &[]))];
    assert_eq!(store.write(&a, &batch).await, Ok(Vec::new()));
    assert!(value(&server, "app{1}:here").is_some() && server.command(&["DBSIZE"]).starts_with(":5"));
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(store.claim(&a, &id("away")).await, Ok(None));
    assert!(server.command(&["DBSIZE"]).starts_with(":3"));
    // It has expired with its record, so it can be written again.
    assert!(put(&store, &a, write("away", Epoch::FIRST, session("away", &[]))).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn claims_wait_for_live_holders_only() {
    let server = Redis::start("");
    let (store, other) = (store(&server), store(&server));
    let [a, b] = [node("a"), node("b")];
    for secret in ["dead", "live", "frozen", "late"] {
        assert!(put(&store, &a, write(secret, Epoch::FIRST, session("s", &[]))).await);
    }
    let claim = async |secret: &str| {
        let began = Instant::now();
        let claimed = other.claim(&b, &id(secret)).await.expect("redis works").expect("it is stored");
        (claimed.epoch, began.elapsed())
    };
    let lease = Duration::from_secs(1);
    store.renew(&a, lease).await.expect("redis works");
    // The holder is not subscribed, as after its death.
    let (_, took) = claim("dead").await;
    assert!(took < Duration::from_millis(250), "{took:?}");
    let (told, mut claims) = tokio::sync::mpsc::channel(8);
    let (holder, holder_id) = (store.clone(), a.clone());
    let listening = tokio::spawn(async move {
        while let Ok(found) = holder.claimed_elsewhere(&holder_id).await {
            if told.send(found).await.is_err() {
                return;
            }
        }
    });
    let is_subscribed = || server.command(&["PUBSUB", "NUMSUB", "sio:session:claimed:a"]).contains(":1");
    assert!(server::until(Duration::from_secs(5), is_subscribed));
    store.renew(&a, lease).await.expect("redis works");
    let releasing = async {
        let found = claims.recv().await.expect("a claim");
        assert_eq!(found, [(id("live"), Epoch(2))]);
        tokio::time::sleep(Duration::from_millis(100)).await;
        store.release(&a, &found).await.expect("redis works");
    };
    let ((epoch, took), ()) = tokio::join!(claim("live"), releasing);
    assert!(
        epoch == Epoch(2) && took >= Duration::from_millis(100) && took < Duration::from_millis(400),
        "{took:?}"
    );
    // It does not answer: until its lease has run out, and afterwards.
    store.renew(&a, lease).await.expect("redis works");
    let (_, took) = claim("frozen").await;
    assert!(took >= lease - Duration::from_millis(100) && took < lease * 3, "{took:?}");
    let (_, took) = claim("late").await;
    assert!(took < Duration::from_millis(250), "{took:?}");
    listening.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn lost_sessions_are_not_confirmed() {
    let server = Redis::start("");
    let store = store(&server);
    let [a, b] = [node("a"), node("b")];
    let secrets = ["kept", "claimed", "ended", "at node", "again"];
    let held: Vec<_> = secrets.iter().map(|secret| (id(secret), Epoch::FIRST)).collect();
    for secret in secrets {
        assert!(put(&store, &a, write(secret, Epoch::FIRST, session("s", &[]))).await);
    }
    assert_eq!(store.confirm(&a, &held).await, Ok(Confirmed::default()));
    for secret in ["claimed", "ended"] {
        assert!(store.claim(&b, &id(secret)).await.expect("redis works").is_some());
    }
    store.remove(&b, &[(id("ended"), Epoch(2))]).await.expect("redis works");
    server.command(&["DEL", "sio:session:at node"]);
    // Its claim, whose answer was lost.
    assert!(store.claim(&a, &id("again")).await.expect("redis works").is_some());
    let confirmed = store.confirm(&a, &held).await.expect("redis works");
    assert_eq!(
        confirmed,
        Confirmed { claimed: vec![id("claimed"), id("at node")], missing: vec![id("ended")] }
    );
    // A server that has lost everything has no claims.
    server.command(&["FLUSHALL"]);
    store.renew(&a, Duration::from_secs(1)).await.expect("redis works");
    assert_eq!(store.confirm(&a, &held).await, Ok(Confirmed::default()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn outages_fail_calls_and_end() {
    let mut server = Redis::start("");
    let store = store(&server);
    let a = node("a");
    assert!(put(&store, &a, write("p", Epoch::FIRST, session("s", &[]))).await);
    let news = tokio::spawn({
        let (store, a) = (store.clone(), a.clone());
        async move { store.claimed_elsewhere(&a).await }
    });
    let is_subscribed = || server.command(&["PUBSUB", "NUMSUB", "sio:session:claimed:a"]).contains(":1");
    assert!(server::until(Duration::from_secs(5), is_subscribed));
    server.kill();
    // Claims may have been missed.
    assert!(
        timeout(Duration::from_secs(5), news).await.expect("it ends").expect("it does not panic").is_err()
    );
    assert!(store.write(&a, &[write("p", Epoch::FIRST, session("s", &[]))]).await.is_err());
    assert!(store.claim(&a, &id("p")).await.is_err());
    server.restart();
    // Sessions are written again, and scripts loaded again.
    assert!(put(&store, &a, write("p", Epoch(5), session("s", &[]))).await);
    assert_eq!(store.claim(&a, &id("p")).await.expect("redis works").expect("it is stored").epoch, Epoch(6));
    server.command(&["SCRIPT", "FLUSH"]);
    assert!(store.claim(&a, &id("p")).await.is_err());
    assert!(store.claim(&a, &id("p")).await.expect("redis works").is_some());
    // A frozen server executes the commands of an ended call before it ends their connection.
    server.freeze();
    let call =
        timeout(Duration::from_millis(300), put(&store, &a, write("p", Epoch(6), session("s", &["late"]))));
    assert!(call.await.is_err());
    server.thaw();
    assert!(put(&store, &a, write("p", Epoch(6), session("s", &["last"]))).await);
    let claimed = store.claim(&a, &id("p")).await.expect("redis works").expect("it is stored");
    assert_eq!(claimed.session.rooms, [Room::from("last")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn works_with_documented_permissions() {
    let rules = "user default off\nuser roomcast on >secret resetchannels ~sio:session:* ~{sio:session:* \
                 &sio:session:* -@all +evalsha +script|load +get +set +del +exists +hmget +hset +pexpire \
                 +publish +subscribe +ping +client|id +client|kill\nuser root on nopass ~* &* +@all";
    // The test's own commands need no permission.
    let rules = rules.replace("user default off\n", "");
    let server = Redis::start(&rules);
    let config = RedisConfig::from_url(&server.url()).expect("a URL").credentials("roomcast", "secret");
    let store = Arc::new(RedisSessionStore::new(config));
    let [a, b] = [node("a"), node("b")];
    assert!(put(&store, &a, write("p", Epoch::FIRST, session("s", &[]))).await);
    let news = tokio::spawn({
        let (store, a) = (store.clone(), a.clone());
        async move { store.claimed_elsewhere(&a).await }
    });
    let is_subscribed = || server.command(&["PUBSUB", "NUMSUB", "sio:session:claimed:a"]).contains(":1");
    assert!(server::until(Duration::from_secs(5), is_subscribed));
    let claimed = store.claim(&b, &id("p")).await.expect("permitted").expect("it is stored");
    assert_eq!(news.await.expect("it does not panic"), Ok(vec![(id("p"), claimed.epoch)]));
    store.release(&a, &[(id("p"), claimed.epoch)]).await.expect("permitted");
    store.renew(&a, Duration::from_secs(1)).await.expect("permitted");
    let confirmed = store.confirm(&a, &[(id("p"), Epoch::FIRST)]).await.expect("permitted");
    assert_eq!(confirmed.claimed, [id("p")]);
    store.remove(&b, &[(id("p"), claimed.epoch)]).await.expect("permitted");
}
