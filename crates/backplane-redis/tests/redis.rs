//! The engine on real servers, with their faults.
//!
//! ```sh
//! cargo test --package roomcast-backplane-redis --test redis -- --ignored
//! ```

#![allow(clippy::disallowed_methods, reason = "real servers have the time of the machine")]

#[allow(dead_code, reason = "each test file uses a part")]
mod server;

use std::future::poll_fn;
use std::io::Write;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast_backplane_redis::{RedisBackplane, RedisConfig};
use roomcast_cluster::{Backplane, BackplaneCommand, BackplaneEvent, Channel};
use roomcast_core::{Namespace, Room};
use server::Redis;
use tokio::time::timeout;

fn room(name: &str) -> Channel {
    Channel::Room(Namespace::main(), Room::from(name))
}

fn config(server: &Redis) -> RedisConfig {
    RedisConfig::from_url(&server.url()).expect("a URL").ping_interval(Duration::from_millis(250))
}

fn engine(server: &Redis) -> RedisBackplane {
    RedisBackplane::new(config(server))
}

/// Waits for the next event of an engine.
async fn event(engine: &mut RedisBackplane) -> BackplaneEvent {
    timeout(LIMIT, poll_fn(|cx| engine.poll_event(cx))).await.expect("an event")
}

/// Lets an engine work for a time, and returns its events.
async fn run(engine: &mut RedisBackplane, time: Duration) -> Vec<BackplaneEvent> {
    let mut events = Vec::new();
    let collect = async {
        loop {
            events.push(poll_fn(|cx| engine.poll_event(cx)).await);
        }
    };
    let _: Result<(), _> = timeout(time, collect).await;
    events
}

/// Completes when the engine takes a command; returns the events until then.
async fn ready(engine: &mut RedisBackplane) -> Vec<BackplaneEvent> {
    let mut events = Vec::new();
    let work = poll_fn(|cx| {
        while let Poll::Ready(event) = engine.poll_event(cx) {
            events.push(event);
        }
        engine.poll_ready(cx)
    });
    timeout(LIMIT, work).await.expect("a connection");
    events
}

async fn flush(engine: &mut RedisBackplane) {
    let work = poll_fn(|cx| {
        while engine.poll_event(cx).is_ready() {}
        engine.poll_flush(cx)
    });
    timeout(LIMIT, work).await.expect("an empty queue");
}

/// Subscribes, and waits for the confirmation; other events are dropped.
async fn subscribe(engine: &mut RedisBackplane, channels: Vec<Channel>, token: u64) {
    ready(engine).await;
    engine.send(BackplaneCommand::Subscribe { channels: channels.clone(), token });
    loop {
        if let BackplaneEvent::Subscribed { channels: confirmed, token: found } = event(engine).await {
            assert_eq!((confirmed, found), (channels, token));
            return;
        }
    }
}

async fn publish(engine: &mut RedisBackplane, channel: &Channel, text: &str) {
    ready(engine).await;
    let payload = Bytes::copy_from_slice(text.as_bytes());
    engine.send(BackplaneCommand::Publish { channel: channel.clone(), payload });
}

/// Returns the payload of the next message.
async fn message(engine: &mut RedisBackplane) -> String {
    loop {
        if let BackplaneEvent::Message { payload, .. } = event(engine).await {
            return String::from_utf8_lossy(&payload).into_owned();
        }
    }
}

/// Checks that each accepted publication is counted once.
fn assert_ledger(engine: &RedisBackplane) {
    let metrics = engine.metrics();
    let sum = metrics.confirmed + metrics.refused + metrics.unconfirmed + metrics.queued;
    assert_eq!(metrics.accepted, sum, "{metrics:?}");
}

/// Publishes and receives on a channel, after an outage.
async fn assert_whole(one: &mut RedisBackplane, other: &mut RedisBackplane) {
    let channel = room("whole");
    subscribe(other, vec![channel.clone()], 99).await;
    publish(one, &channel, "whole").await;
    flush(one).await;
    while message(other).await != "whole" {}
}

/// Messages that are sent before the receiver has read the earlier ones: at most 3.5 MB.
const PART: usize = 100;

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn messages_keep_order_and_content() {
    let server = Redis::start("");
    let (mut one, mut other) = (engine(&server), engine(&server));
    let channels = vec![room("a"), room("7"), Channel::Nodes];
    subscribe(&mut other, channels.clone(), 5).await;
    let payloads: Vec<Bytes> = (0..3000_usize)
        .map(|index| Bytes::from([&index.to_le_bytes()[..], &vec![b'\r'; index * 37 % 70_000]].concat()))
        .collect();
    // A part at a time, so that Redis never holds more for the receiver than its output buffer limit.
    for (part, payloads) in payloads.chunks(PART).enumerate() {
        let send = async {
            for (index, payload) in payloads.iter().enumerate() {
                ready(&mut one).await;
                let channel = channels[(part * PART + index) % 3].clone();
                one.send(BackplaneCommand::Publish { channel, payload: payload.clone() });
            }
            flush(&mut one).await;
        };
        let receive = async {
            for (index, expected) in payloads.iter().enumerate() {
                let index = part * PART + index;
                let event = event(&mut other).await;
                let BackplaneEvent::Message { channel, payload } = event else {
                    panic!("{index}: {event:?}")
                };
                assert!(channel == channels[index % 3] && payload == expected, "{index}");
            }
        };
        tokio::join!(send, receive);
    }
    let metrics = one.metrics();
    assert_eq!((metrics.accepted, metrics.confirmed, metrics.queued), (3000, 3000, 0));
    assert_eq!(other.metrics().received, 3000);
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn subscriptions_are_confirmed_and_batched() {
    let server = Redis::start("");
    let mut engine = engine(&server);
    let channels: Vec<_> = (0..1000).map(|index| room(&index.to_string())).collect();
    subscribe(&mut engine, channels.clone(), 1).await;
    // Subscribed channels are confirmed again.
    subscribe(&mut engine, channels.clone(), 2).await;
    let stats = server.command(&["INFO", "commandstats"]);
    assert!(stats.contains("cmdstat_subscribe:calls=2,"), "{stats}");
    let numbers = |server: &Redis| server.command(&["PUBSUB", "NUMSUB", "roomcastr1./7"]);
    assert!(numbers(&server).ends_with(":1\r\n"));
    engine.send(BackplaneCommand::Unsubscribe { channels });
    flush(&mut engine).await;
    assert!(numbers(&server).ends_with(":0\r\n"));
    let stats = server.command(&["INFO", "commandstats"]);
    assert!(stats.contains("cmdstat_unsubscribe:calls=1,"), "{stats}");
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn publications_follow_earlier_subscriptions() {
    let server = Redis::start("");
    let mut engine = engine(&server);
    for round in 0..200 {
        ready(&mut engine).await;
        let channel = room(&round.to_string());
        engine.send(BackplaneCommand::Subscribe { channels: vec![channel.clone()], token: round });
        engine.send(BackplaneCommand::Publish { channel, payload: Bytes::from(round.to_string()) });
    }
    for round in 0..200_u64 {
        assert_eq!(message(&mut engine).await, round.to_string());
    }
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn rooms_without_members_cost_receiver_nothing() {
    let server = Redis::start("");
    let (mut one, mut other) = (engine(&server), engine(&server));
    subscribe(&mut other, vec![room("a")], 1).await;
    for _ in 0..100 {
        publish(&mut one, &room("b"), "x").await;
    }
    publish(&mut one, &room("a"), "end").await;
    flush(&mut one).await;
    assert_eq!(message(&mut other).await, "end");
    assert_eq!(other.metrics().received, 1);
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn prefixes_separate_clusters() {
    let server = Redis::start("");
    let mut one = RedisBackplane::new(config(&server).prefix("one:"));
    let mut other = engine(&server);
    subscribe(&mut other, vec![room("a")], 1).await;
    subscribe(&mut one, vec![room("a")], 1).await;
    publish(&mut one, &room("a"), "one").await;
    assert_eq!(message(&mut one).await, "one");
    assert!(run(&mut other, Duration::from_millis(100)).await.is_empty());
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn restart_of_server_is_survived() {
    let mut server = Redis::start("");
    let (mut one, mut other) = (engine(&server), engine(&server));
    subscribe(&mut other, vec![room("a")], 1).await;
    publish(&mut one, &room("a"), "before").await;
    flush(&mut one).await;
    assert_eq!(message(&mut other).await, "before");
    server.kill();
    assert_eq!(event(&mut other).await, BackplaneEvent::Unsubscribed { channels: Vec::new() });
    run(&mut one, Duration::from_millis(300)).await;
    assert!(poll_fn(|cx| Poll::Ready(one.poll_ready(cx))).await.is_pending());
    assert!(!one.metrics().connected);
    server.restart();
    let returned = Instant::now();
    tokio::join!(ready(&mut one), ready(&mut other));
    assert!(returned.elapsed() < Duration::from_secs(1), "{:?}", returned.elapsed());
    assert_whole(&mut one, &mut other).await;
    assert_ledger(&one);
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn frozen_server_is_noticed() {
    let server = Redis::start("");
    let (mut one, mut other) = (engine(&server), engine(&server));
    subscribe(&mut other, vec![room("a")], 1).await;
    ready(&mut one).await;
    server.freeze();
    let frozen = Instant::now();
    let mut sent = 0;
    // No call blocks: the queue fills, then the engine takes no more.
    while poll_fn(|cx| Poll::Ready(one.poll_ready(cx))).await.is_ready() {
        let payload = Bytes::from(vec![0; 60_000]);
        one.send(BackplaneCommand::Publish { channel: room("a"), payload });
        sent += 1;
        assert!(sent < 10_000, "unbounded queue");
    }
    let both = async {
        tokio::join!(run(&mut one, Duration::from_millis(1200)), event(&mut other));
    };
    timeout(LIMIT, both).await.expect("the loss of the connection");
    // Four intervals of 250 ms, and some time for a busy machine.
    assert!(frozen.elapsed() < Duration::from_millis(2500), "{:?}", frozen.elapsed());
    let metrics = one.metrics();
    assert_eq!((metrics.accepted, metrics.disconnects), (sent, 2), "{metrics:?}");
    assert!(metrics.unconfirmed > 0);
    assert_ledger(&one);
    server.thaw();
    let returned = Instant::now();
    tokio::join!(ready(&mut one), ready(&mut other));
    assert!(returned.elapsed() < Duration::from_secs(1), "{:?}", returned.elapsed());
    flush(&mut one).await;
    let metrics = one.metrics();
    assert_eq!((metrics.queued, metrics.accepted), (0, metrics.confirmed + metrics.unconfirmed));
    assert_whole(&mut one, &mut other).await;
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn connection_without_replies_takes_no_more() {
    let server = Redis::start("");
    let mut engine = RedisBackplane::new(config(&server).ping_interval(Duration::from_millis(500)));
    subscribe(&mut engine, vec![room("a")], 1).await;
    server.freeze();
    publish(&mut engine, &room("a"), "first").await;
    // It is lost after 1.5 s at the earliest.
    run(&mut engine, Duration::from_millis(1200)).await;
    assert!(poll_fn(|cx| Poll::Ready(engine.poll_ready(cx))).await.is_pending());
    assert!(engine.metrics().connected);
    server.thaw();
    assert_eq!(message(&mut engine).await, "first");
    publish(&mut engine, &room("a"), "second").await;
    assert_eq!(message(&mut engine).await, "second");
    flush(&mut engine).await;
    let metrics = engine.metrics();
    assert_eq!((metrics.confirmed, metrics.unconfirmed, metrics.disconnects), (2, 0, 0), "{metrics:?}");
}

/// Answers the commands of a new connection, and sends messages without end after `SUBSCRIBE`, which gets no reply.
fn serve_messages_only(mut stream: std::net::TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(5)))?;
    let mut is_subscriber = false;
    loop {
        let mut input = [0; 4096];
        let text = match std::io::Read::read(&mut stream, &mut input) {
            Ok(0) => return Ok(()),
            Ok(len) => String::from_utf8_lossy(&input[..len]).into_owned(),
            Err(_) => String::new(),
        };
        is_subscriber |= text.contains("SUBSCRIBE");
        match &text {
            _ if is_subscriber => stream.write_all(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n")?,
            text if text.contains("PING") => stream.write_all(b"+PONG\r\n")?,
            text if text.contains("CLIENT") => stream.write_all(b":1\r\n")?,
            _ => {}
        }
    }
}

#[tokio::test]
async fn unanswered_commands_end_a_busy_connection() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve_messages_only(stream));
        }
    });
    let config = RedisConfig::from_url(&format!("redis://127.0.0.1:{port}")).expect("a URL");
    let mut engine = RedisBackplane::new(config.ping_interval(Duration::from_millis(20)));
    ready(&mut engine).await;
    engine.send(BackplaneCommand::Subscribe { channels: vec![room("a")], token: 1 });
    assert_eq!(event(&mut engine).await, BackplaneEvent::Unsubscribed { channels: Vec::new() });
    assert!(engine.metrics().received > 10, "{:?}", engine.metrics());
    // It connects and subscribes again.
    ready(&mut engine).await;
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn idle_connection_stays_open() {
    let server = Redis::start("");
    let mut engine = RedisBackplane::new(config(&server).ping_interval(Duration::from_millis(20)));
    ready(&mut engine).await;
    assert!(run(&mut engine, Duration::from_millis(500)).await.is_empty());
    subscribe(&mut engine, vec![room("a")], 1).await;
    // The reply to a ping has another form with a subscription.
    assert!(run(&mut engine, Duration::from_millis(500)).await.is_empty());
    let metrics = engine.metrics();
    assert_eq!((metrics.disconnects, metrics.connects, metrics.accepted), (0, 2, 0), "{metrics:?}");
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn killed_clients_reconnect() {
    let server = Redis::start("");
    let (mut one, mut other) = (engine(&server), engine(&server));
    subscribe(&mut other, vec![room("a")], 1).await;
    server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert_eq!(event(&mut other).await, BackplaneEvent::Unsubscribed { channels: Vec::new() });
    ready(&mut one).await;
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    // A publication on the old connection would be lost.
    let noticed = async {
        while one.metrics().disconnects == 0 {
            run(&mut one, Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, noticed).await.expect("it notices the loss");
    assert_whole(&mut one, &mut other).await;
    assert_ledger(&one);
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn slow_reader_loses_its_subscriptions() {
    // The server drops a subscriber whose output waits.
    let server = Redis::start("client-output-buffer-limit pubsub 256kb 0 0");
    let (mut one, mut other) = (engine(&server), engine(&server));
    subscribe(&mut other, vec![room("a")], 1).await;
    // The receiver is not polled meanwhile; kernel buffers hold some megabytes.
    for _ in 0..400 {
        publish(&mut one, &room("a"), &"x".repeat(60_000)).await;
    }
    flush(&mut one).await;
    let mut messages = 0;
    loop {
        match event(&mut other).await {
            BackplaneEvent::Message { .. } => messages += 1,
            BackplaneEvent::Unsubscribed { channels } => {
                assert!(channels.is_empty());
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(messages < 400);
    assert_whole(&mut one, &mut other).await;
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn refused_publications_are_counted() {
    let server = Redis::start("user limited on >secret resetchannels &roomcastr1./a +@all");
    let url = format!("redis://limited:secret@127.0.0.1:{}", server.port);
    let mut engine = RedisBackplane::new(RedisConfig::from_url(&url).expect("a URL"));
    subscribe(&mut engine, vec![room("a")], 1).await;
    for name in ["a", "b", "a", "b", "b"] {
        publish(&mut engine, &room(name), name).await;
    }
    flush(&mut engine).await;
    let metrics = engine.metrics();
    assert_eq!((metrics.confirmed, metrics.refused, metrics.unconfirmed), (2, 3, 0));
    engine.send(BackplaneCommand::Subscribe { channels: vec![room("b")], token: 2 });
    // A refusal ends neither the connection nor later commands.
    subscribe(&mut engine, vec![room("a")], 3).await;
    assert_eq!(engine.metrics().subscriptions_refused, 1);
    assert_eq!(engine.metrics().disconnects, 0);
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn server_without_memory_still_delivers() {
    let server = Redis::start("maxmemory 1\nmaxmemory-policy noeviction");
    assert!(server.command(&["SET", "a", "b"]).starts_with("-OOM"));
    let mut engine = engine(&server);
    subscribe(&mut engine, vec![room("a")], 1).await;
    publish(&mut engine, &room("a"), "through").await;
    assert_eq!(message(&mut engine).await, "through");
    assert_eq!(engine.metrics().refused, 0);
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn wrong_password_is_tried_again() {
    let server = Redis::start("requirepass old");
    let mut engine = RedisBackplane::new(config(&server).password("new"));
    run(&mut engine, Duration::from_millis(300)).await;
    assert!(engine.metrics().connect_failures > 0);
    let mut admin = std::net::TcpStream::connect(("127.0.0.1", server.port)).expect("a connection");
    Write::write_all(&mut admin, b"AUTH old\r\nCONFIG SET requirepass new\r\n").expect("commands");
    subscribe(&mut engine, vec![room("a")], 1).await;
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn oversized_messages_are_reported() {
    let server = Redis::start("");
    let mut engine = RedisBackplane::new(config(&server).max_message(1000));
    subscribe(&mut engine, vec![room("a")], 1).await;
    for len in [1000, 1001, 300_000, 3] {
        publish(&mut engine, &room("a"), &"x".repeat(len)).await;
    }
    assert_eq!(message(&mut engine).await.len(), 1000);
    assert_eq!(event(&mut engine).await, BackplaneEvent::Missed { channels: vec![room("a")] });
    assert_eq!(event(&mut engine).await, BackplaneEvent::Missed { channels: vec![room("a")] });
    assert_eq!(message(&mut engine).await, "xxx");
    assert_eq!(engine.metrics().oversized, 2);
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn sentinel_failover_is_followed() {
    let mut master = Redis::start("");
    let replica = Redis::start(&format!("replicaof 127.0.0.1 {}", master.port));
    let synced = || replica.command(&["ROLE"]).contains("connected");
    assert!(server::until(Duration::from_secs(10), synced), "no replication");
    let sentinel = Redis::sentinel(&format!(
        "sentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 500\n\
         sentinel failover-timeout main 2000",
        master.port
    ));
    let knows = || sentinel.command(&["SENTINEL", "replicas", "main"]).contains(&replica.port.to_string());
    assert!(server::until(Duration::from_secs(12), knows), "the sentinel does not know the replica");
    // The first sentinel does not exist.
    let sentinels = [format!("127.0.0.1:{}", server::free_port()), format!("127.0.0.1:{}", sentinel.port)];
    let new = || RedisBackplane::new(RedisConfig::sentinel("main", &sentinels).expect("addresses"));
    let (mut one, mut other) = (new(), new());
    assert_whole(&mut one, &mut other).await;
    assert!(master.command(&["PUBSUB", "NUMSUB", "roomcastr1./whole"]).ends_with(":1\r\n"));
    master.kill();
    let lost = async { tokio::join!(event(&mut other), run(&mut one, Duration::from_millis(100))) };
    assert_eq!(lost.await.0, BackplaneEvent::Unsubscribed { channels: Vec::new() });
    assert_whole(&mut one, &mut other).await;
    assert!(replica.command(&["ROLE"]).contains("master"));
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn order_survives_a_frozen_server() {
    let server = Redis::start("");
    let mut one = RedisBackplane::new(config(&server).ping_interval(Duration::from_millis(50)));
    // The subscriber does not notice the freeze.
    let mut other = RedisBackplane::new(config(&server).ping_interval(Duration::from_secs(30)));
    subscribe(&mut other, vec![room("a")], 1).await;
    ready(&mut one).await;
    server.freeze();
    let mut number = 0_u32;
    while poll_fn(|cx| Poll::Ready(one.poll_ready(cx))).await.is_ready() {
        let payload = Bytes::from([&number.to_be_bytes()[..], &[0; 2000]].concat());
        one.send(BackplaneCommand::Publish { channel: room("a"), payload });
        number += 1;
    }
    run(&mut one, Duration::from_millis(500)).await;
    assert!(one.metrics().unconfirmed > 100, "{:?}", one.metrics());
    server.thaw();
    flush(&mut one).await;
    publish(&mut one, &room("a"), "last").await;
    flush(&mut one).await;
    let mut last = None;
    let mut received = 0;
    loop {
        let BackplaneEvent::Message { payload, .. } = event(&mut other).await else { panic!("no message") };
        let Some(head) = payload.first_chunk::<4>().filter(|_| payload.len() > 4) else { break };
        let number = u32::from_be_bytes(*head);
        assert!(last.is_none_or(|last| last < number), "{number} follows {last:?}");
        last = Some(number);
        received += 1;
    }
    assert!(received >= one.metrics().confirmed - 1, "{received} of {:?}", one.metrics());
    assert_eq!(other.metrics().disconnects, 0);
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn tls_verifies_the_server() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../server/tests/certificates");
    let port = server::free_port();
    let _server = Redis::start(&format!(
        "tls-port {port}\ntls-cert-file {folder}/one.crt\ntls-key-file {folder}/one.key\n\
         tls-ca-cert-file {folder}/one.crt\ntls-auth-clients no"
    ));
    let config = RedisConfig::from_url(&format!("rediss://localhost:{port}")).expect("a URL");
    let config = config.ping_interval(Duration::from_millis(50));
    let trusting = |name: &str| config.clone().ca_file(format!("{folder}/{name}")).expect("a certificate");
    let mut engine = RedisBackplane::new(trusting("one.crt"));
    subscribe(&mut engine, vec![room("a")], 1).await;
    publish(&mut engine, &room("a"), &"x".repeat(200_000)).await;
    assert_eq!(message(&mut engine).await.len(), 200_000);
    assert!(run(&mut engine, Duration::from_millis(500)).await.is_empty());
    assert_eq!(engine.metrics().disconnects, 0);
    let mut stranger = RedisBackplane::new(trusting("two.crt"));
    run(&mut stranger, Duration::from_millis(300)).await;
    assert!(stranger.metrics().connects == 0 && stranger.metrics().connect_failures > 0);
}

/// Bound of each wait.
const LIMIT: Duration = Duration::from_secs(15);
