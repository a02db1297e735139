//! The engine for sharded channels on a real Redis Cluster, with its faults.
//!
//! ```sh
//! cargo test --package roomcast-backplane-redis --test cluster -- --ignored
//! ROOMCAST_REDIS_ROUNDS=100 cargo test --package roomcast-backplane-redis --test cluster -- --ignored heard_again
//! ```

#![allow(clippy::disallowed_methods, reason = "real servers have the time of the machine")]

#[allow(dead_code, reason = "each test file uses a part")]
mod server;

use std::collections::HashSet;
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_backplane_redis::{RedisClusterPubSub, RedisConfig, RedisPubSub};
use roomcast_node_adapter::{PubSub, PubSubCommand, PubSubEvent, SubscriberCount};
use server::Redis;
use server::cluster::Cluster;
use tokio::time::timeout;

fn config(cluster: &Cluster) -> RedisConfig {
    RedisConfig::from_url(&cluster.url()).expect("a URL").ping_interval(Duration::from_millis(250))
}

fn engine(cluster: &Cluster) -> RedisClusterPubSub {
    RedisClusterPubSub::new(config(cluster))
}

fn rooms(count: usize) -> Vec<ByteString> {
    (0..count).map(|index| format!("socket.io#/#{index}#").into()).collect()
}

/// Returns the times to repeat a fault.
fn rounds() -> usize {
    std::env::var("ROOMCAST_REDIS_ROUNDS").map_or(3, |text| text.parse().expect("a number"))
}

/// Waits for the next event of an engine.
async fn event(engine: &mut impl PubSub) -> PubSubEvent {
    timeout(LIMIT, poll_fn(|cx| engine.poll_event(cx))).await.expect("an event")
}

/// Lets an engine work for a time; returns its events.
async fn run(engine: &mut RedisClusterPubSub, time: Duration) -> Vec<PubSubEvent> {
    let mut events = Vec::new();
    let collect = async {
        loop {
            events.push(poll_fn(|cx| engine.poll_event(cx)).await);
        }
    };
    let _: Result<(), _> = timeout(time, collect).await;
    events
}

/// Lets engines work until a condition holds; returns the events of the first one.
async fn run_until(
    engines: [&mut RedisClusterPubSub; 2],
    mut holds: impl FnMut(&RedisClusterPubSub, &RedisClusterPubSub) -> bool,
) -> Vec<PubSubEvent> {
    let [one, other] = engines;
    let mut events = Vec::new();
    let end = Instant::now() + LIMIT;
    while !holds(one, other) {
        assert!(Instant::now() < end, "{:?} {:?}", one.metrics(), other.metrics());
        let (found, _) = tokio::join!(run(one, STEP), run(other, STEP));
        events.extend(found);
    }
    events
}

/// Completes when the engine takes a command; returns the events until then.
async fn ready(engine: &mut impl PubSub) -> Vec<PubSubEvent> {
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

async fn subscribe(engine: &mut RedisClusterPubSub, channels: Vec<ByteString>, token: u64) {
    ready(engine).await;
    engine.send(PubSubCommand::Subscribe { channels, patterns: Vec::new(), token });
    while event(engine).await != (PubSubEvent::Done { token }) {}
}

async fn publish(engine: &mut impl PubSub, channel: &ByteString, payload: Bytes) {
    ready(engine).await;
    engine.send(PubSubCommand::Publish { channel: channel.clone(), payload });
}

async fn flush(engine: &mut impl PubSub) {
    let work = poll_fn(|cx| {
        while engine.poll_event(cx).is_ready() {}
        engine.poll_flush(cx)
    });
    timeout(LIMIT, work).await.expect("all replies");
}

fn subscriptions(engine: &RedisClusterPubSub) -> u64 {
    engine.metrics().shards.iter().map(|shard| shard.subscriptions).sum()
}

/// Checks that a message to each room arrives once.
async fn assert_heard(one: &mut RedisClusterPubSub, other: &mut RedisClusterPubSub, rooms: &[ByteString]) {
    let send = async {
        for room in rooms {
            publish(one, room, Bytes::from_static(b"heard")).await;
        }
        flush(one).await;
    };
    let receive = async {
        let mut missing: HashSet<_> = rooms.iter().cloned().collect();
        let collect = async {
            while !missing.is_empty() {
                if let PubSubEvent::Message { channel, payload, .. } =
                    poll_fn(|cx| other.poll_event(cx)).await
                    && payload == "heard"
                {
                    assert!(missing.remove(&channel), "{channel} is heard twice");
                }
            }
        };
        let is_in_time = timeout(LIMIT, collect).await.is_ok();
        assert!(is_in_time, "{} rooms are not heard, as {:?}", missing.len(), missing.iter().next());
    };
    tokio::join!(send, receive);
    assert_ledger(one);
}

/// Checks that each accepted publication is counted once.
fn assert_ledger(engine: &RedisClusterPubSub) {
    let total = engine.metrics().total;
    assert_eq!(
        total.accepted,
        total.confirmed + total.refused + total.unconfirmed + total.queued,
        "{total:?}"
    );
}

/// Engines that publish and that hear all rooms.
async fn whole(cluster: &Cluster) -> (RedisClusterPubSub, RedisClusterPubSub, Vec<ByteString>) {
    let (mut one, mut other) = (engine(cluster), engine(cluster));
    let rooms = rooms(ROOMS);
    subscribe(&mut other, rooms.clone(), 1).await;
    assert_heard(&mut one, &mut other, &rooms).await;
    (one, other, rooms)
}

/// Waits until lost subscriptions are renewed; returns the time, and checks that the loss is reported.
async fn assert_renewed(
    one: &mut RedisClusterPubSub,
    other: &mut RedisClusterPubSub,
    before: u64,
    mut since: impl FnMut() -> Option<Instant>,
) -> Duration {
    let mut started = None;
    let events = run_until([other, one], |other, _| {
        started = started.or_else(&mut since);
        let metrics = other.metrics();
        started.is_some()
            && metrics.subscriptions_lost > before
            && metrics.total.connected
            && subscriptions(other) == ROOMS as u64
    });
    let events = events.await;
    let elapsed = started.map_or(Duration::MAX, |started| started.elapsed());
    let missed = events.iter().map(|event| match event {
        PubSubEvent::Missed { subscriptions } => subscriptions.len() as u64,
        _ => 0,
    });
    // The last event may be left for the next poll.
    let told: u64 = missed.sum();
    let lost = other.metrics().subscriptions_lost - before;
    assert!(told > 0 && told <= lost, "{told} of {lost} lost subscriptions are told");
    elapsed
}

fn report(fault: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("{fault}: {} rounds, median {:?}, longest {:?}", times.len(), at(50), at(100));
    assert!(at(100) < Duration::from_secs(1), "{times:?}");
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn rooms_are_heard_again_after_cut() {
    let cluster = Cluster::start("");
    let (mut one, mut other, rooms) = whole(&cluster).await;
    let mut times = Vec::new();
    for round in 0..rounds() {
        let before = other.metrics().subscriptions_lost;
        cluster.servers[round % 3].command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        let cut = Instant::now();
        times.push(assert_renewed(&mut one, &mut other, before, || Some(cut)).await);
        assert_heard(&mut one, &mut other, &rooms).await;
    }
    report("cut", times);
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn rooms_are_heard_again_after_slot_move() {
    let cluster = Cluster::start("");
    let (mut one, mut other, rooms) = whole(&cluster).await;
    let slot = |name: &ByteString| {
        let reply = cluster.servers[0].command(&["CLUSTER", "KEYSLOT", name]);
        reply.trim_start_matches(':').trim_end().parse::<u16>().expect("a slot")
    };
    let mut times = Vec::new();
    for round in 0..rounds() {
        // Several slots of one master, each of them with at least one room.
        let (from, to) = (round % 3, (round + 1) % 3);
        let slots: HashSet<_> = rooms.iter().skip(round * 17).take(17).map(slot).collect();
        let before = other.metrics().subscriptions_lost;
        for slot in slots {
            if cluster.owner(slot) == from {
                cluster.move_slot(slot, from, to);
            }
        }
        let moved = Instant::now();
        times.push(assert_renewed(&mut one, &mut other, before, || Some(moved)).await);
        assert_heard(&mut one, &mut other, &rooms).await;
        cluster.wait_for_agreement();
    }
    report("slot move", times);
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn rooms_are_heard_again_after_failover() {
    let mut cluster = Cluster::start("");
    let (mut one, mut other, rooms) = whole(&cluster).await;
    let mut times = Vec::new();
    for round in 0..rounds() {
        let before = other.metrics().subscriptions_lost;
        let masters = cluster.masters();
        let killed = masters[round % masters.len()];
        cluster.servers[killed].kill();
        let promoted = &cluster.servers[(killed + 3) % 6];
        let accepts = || cluster.is_master(promoted).then(Instant::now);
        times.push(assert_renewed(&mut one, &mut other, before, accepts).await);
        assert_heard(&mut one, &mut other, &rooms).await;
        cluster.servers[killed].restart();
        run_until([&mut other, &mut one], |_, _| cluster.is_whole()).await;
    }
    report("failover", times);
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn order_is_kept_while_slot_moves() {
    let cluster = Cluster::start("");
    let (mut one, mut other) = (engine(&cluster), engine(&cluster));
    let room = rooms(1).remove(0);
    subscribe(&mut other, vec![room.clone()], 1).await;
    let reply = cluster.servers[0].command(&["CLUSTER", "KEYSLOT", &room]);
    let slot = reply.trim_start_matches(':').trim_end().parse::<u16>().expect("a slot");
    let mut received = Vec::new();
    for number in 0..20_000_u32 {
        publish(&mut one, &room, Bytes::from(number.to_string())).await;
        if number % 2000 == 999 {
            let from = cluster.owner(slot);
            cluster.move_slot(slot, from, (from + 1) % 3);
            cluster.wait_for_agreement();
        }
        if number % 50 == 0 {
            received.extend(run(&mut other, Duration::from_millis(1)).await);
            run(&mut one, Duration::from_millis(1)).await;
        }
    }
    flush(&mut one).await;
    received.extend(run(&mut other, Duration::from_secs(1)).await);
    let numbers = received.iter().filter_map(|event| match event {
        PubSubEvent::Message { payload, .. } => std::str::from_utf8(payload).ok()?.parse::<u32>().ok(),
        _ => None,
    });
    let numbers: Vec<_> = numbers.collect();
    assert!(numbers.is_sorted_by(|one, other| one < other));
    // Messages of the time without a subscription are lost.
    assert!(numbers.len() > 15_000 && numbers.last() == Some(&19_999), "{}", numbers.len());
    assert_ledger(&one);
    let total = one.metrics().total;
    assert_eq!((total.confirmed, total.refused, total.unconfirmed), (20_000, 0, 0));
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn frozen_master_is_noticed() {
    let cluster = Cluster::start("");
    let (mut one, mut other, rooms) = whole(&cluster).await;
    let before = other.metrics().subscriptions_lost;
    cluster.servers[0].freeze();
    let accepts = || cluster.is_master(&cluster.servers[3]).then(Instant::now);
    let mut sent = 0;
    // The other masters go on.
    for room in &rooms {
        publish(&mut one, room, Bytes::from(vec![b'x'; 2000])).await;
        sent += 1;
    }
    assert_eq!(sent, ROOMS);
    let elapsed = assert_renewed(&mut one, &mut other, before, accepts).await;
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    assert_ledger(&one);
    let total = one.metrics().total;
    assert!(total.confirmed >= ROOMS as u64, "{total:?}");
    cluster.servers[0].thaw();
    run_until([&mut other, &mut one], |_, _| cluster.is_whole()).await;
    // Publications are refused until the publishing engine knows the new master too.
    let frozen = format!("127.0.0.1:{}", cluster.servers[0].port);
    run_until([&mut other, &mut one], |_, one| {
        let metrics = one.metrics();
        metrics.total.connected && metrics.shards.iter().all(|shard| shard.address != frozen)
    })
    .await;
    assert_heard(&mut one, &mut other, &rooms).await;
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn overrun_of_output_buffer_is_told() {
    let cluster = Cluster::start("client-output-buffer-limit pubsub 1mb 0 0");
    let (mut one, mut other, rooms) = whole(&cluster).await;
    let before = other.metrics().subscriptions_lost;
    // The receiver does not read, so the server ends its connection.
    let is_cut = || cluster.servers[0].command(&["CLIENT", "LIST", "TYPE", "pubsub"]) == "$0\r\n\r\n";
    assert!(!is_cut());
    let cut = Instant::now();
    while !is_cut() {
        assert!(cut.elapsed() < LIMIT, "the server does not end the connection");
        for room in rooms.iter().take(200) {
            publish(&mut one, room, Bytes::from(vec![b'x'; 20_000])).await;
        }
    }
    let renewed = assert_renewed(&mut one, &mut other, before, || Some(Instant::now())).await;
    assert!(renewed < Duration::from_secs(1), "{renewed:?}");
    assert_heard(&mut one, &mut other, &rooms).await;
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn overrun_of_single_server_is_reported() {
    let server = Redis::start("client-output-buffer-limit pubsub 1mb 0 0");
    let engine = || RedisPubSub::new(RedisConfig::from_url(&server.url()).expect("a URL"));
    let (mut one, mut other) = (engine(), engine());
    let subscribe = PubSubCommand::Subscribe { channels: vec!["a".into()], patterns: Vec::new(), token: 1 };
    ready(&mut other).await;
    other.send(subscribe.clone());
    while event(&mut other).await != (PubSubEvent::Done { token: 1 }) {}
    let is_cut = || server.command(&["CLIENT", "LIST", "TYPE", "pubsub"]) == "$0\r\n\r\n";
    assert!(!is_cut());
    let start = Instant::now();
    while !is_cut() {
        assert!(start.elapsed() < LIMIT, "the server does not end the connection");
        for _ in 0..100 {
            publish(&mut one, &"a".into(), Bytes::from(vec![b'x'; 20_000])).await;
        }
    }
    flush(&mut one).await;
    while event(&mut other).await != PubSubEvent::Unsubscribed {}
    assert_eq!(other.metrics().disconnects, 1);
    ready(&mut other).await;
    other.send(subscribe);
    while event(&mut other).await != (PubSubEvent::Done { token: 1 }) {}
    publish(&mut one, &"a".into(), Bytes::from_static(b"again")).await;
    flush(&mut one).await;
    while !matches!(event(&mut other).await, PubSubEvent::Message { payload, .. } if payload == "again") {}
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn counts_follow_churn_of_many_rooms() {
    let cluster = Cluster::start("");
    let mut engine = engine(&cluster);
    let rooms = rooms(100_000);
    subscribe(&mut engine, rooms.clone(), 1).await;
    // Rooms change several times before there is room for a command.
    for token in 0..10 {
        engine.send(PubSubCommand::Unsubscribe {
            channels: rooms.clone(),
            patterns: Vec::new(),
            token: 2 + 2 * token,
        });
        let channels = rooms[..50_000].to_vec();
        engine.send(PubSubCommand::Subscribe { channels, patterns: Vec::new(), token: 3 + 2 * token });
        let end = rooms[..50_000].to_vec();
        if token < 9 {
            let last = 100 + token;
            engine.send(PubSubCommand::Unsubscribe { channels: end, patterns: Vec::new(), token: last });
        }
    }
    flush(&mut engine).await;
    for (room, expected) in [(&rooms[0], 1), (&rooms[49_999], 1), (&rooms[50_000], 0), (&rooms[99_999], 0)] {
        engine.send(PubSubCommand::Count { channel: room.clone(), token: 7 });
        let count = SubscriberCount::Known(expected);
        while event(&mut engine).await != (PubSubEvent::Counted { token: 7, count }) {}
    }
    assert_eq!(subscriptions(&engine), 50_000);
    let calls: u64 = cluster
        .masters()
        .into_iter()
        .map(|index| {
            let stats = cluster.servers[index].command(&["INFO", "commandstats"]);
            let calls =
                stats.split("cmdstat_ssubscribe:calls=").nth(1).and_then(|rest| rest.split(',').next());
            calls.expect("subscriptions").parse::<u64>().expect("a number")
        })
        .sum();
    // One command for each slot at most, in each batch.
    assert!(calls < 110_000, "{calls}");
}

/// Commands of the user that the documentation names.
const RULES: &str = "on >secret resetchannels &socket.io* -@all +spublish +ssubscribe +sunsubscribe +ping \
                     +cluster|slots +pubsub|shardnumsub +client|id +client|kill";

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn access_rules_suffice_as_documented() {
    let cluster = Cluster::start("");
    for server in &cluster.servers {
        let rules: Vec<_> = RULES.split_whitespace().collect();
        let reply = server.command(&[&["ACL", "SETUSER", "roomcast"], &rules[..]].concat());
        assert_eq!(reply, "+OK\r\n");
    }
    let url = cluster.url().replacen("redis://", "redis://roomcast:secret@", 1);
    let mut engine = RedisClusterPubSub::new(RedisConfig::from_url(&url).expect("a URL"));
    let room = rooms(1).remove(0);
    subscribe(&mut engine, vec![room.clone()], 1).await;
    publish(&mut engine, &room, Bytes::from_static(b"x")).await;
    while !matches!(event(&mut engine).await, PubSubEvent::Message { .. }) {}
    engine.send(PubSubCommand::Count { channel: room, token: 2 });
    let count = SubscriberCount::Known(1);
    while event(&mut engine).await != (PubSubEvent::Counted { token: 2, count }) {}
    engine.send(PubSubCommand::Subscribe { channels: vec!["other".into()], patterns: Vec::new(), token: 3 });
    while event(&mut engine).await != (PubSubEvent::Refused { token: 3 }) {}
    assert_eq!(engine.metrics().total.subscriptions_refused, 1);
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn tls_and_user_hold_through_failover() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../server/tests/certificates");
    let mut cluster = Cluster::start_tls(&format!("user roomcast {RULES}\n"), &format!("{folder}/one"));
    let url = cluster.url().replacen("rediss://", "rediss://roomcast:secret@", 1);
    let engine = |certificate: &str| {
        let config = RedisConfig::from_url(&url).expect("a URL").ping_interval(Duration::from_millis(250));
        let config = config.ca_file(format!("{folder}/{certificate}.crt")).expect("a certificate");
        RedisClusterPubSub::new(config)
    };
    let (mut one, mut other) = (engine("one"), engine("one"));
    let rooms = rooms(ROOMS);
    subscribe(&mut other, rooms.clone(), 1).await;
    assert_heard(&mut one, &mut other, &rooms).await;
    // Each connection uses TLS: the servers name these ports to others.
    let ports: Vec<_> = cluster.tls_ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let shards = other.metrics().shards;
    assert_eq!(shards.len(), 3);
    assert!(shards.iter().all(|shard| ports.contains(&shard.address.to_string())), "{shards:?}");

    let before = other.metrics().subscriptions_lost;
    cluster.servers[1].kill();
    let accepts = || cluster.is_master(&cluster.servers[4]).then(Instant::now);
    let elapsed = assert_renewed(&mut one, &mut other, before, accepts).await;
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    assert_heard(&mut one, &mut other, &rooms).await;
    cluster.servers[1].restart();
    run_until([&mut other, &mut one], |_, _| cluster.is_whole()).await;

    // The certificate of the servers is unknown.
    let mut distrusting = engine("two");
    run(&mut distrusting, Duration::from_secs(1)).await;
    assert!(!distrusting.metrics().total.connected, "{:?}", distrusting.metrics());
}

const LIMIT: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(5);
const ROOMS: usize = 5000;
