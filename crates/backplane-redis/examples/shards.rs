//! CPU time of a message and total rate, on one, two and four servers.
//!
//! One node publishes to 64 rooms, another receives. Each has a thread with a runtime, whose CPU time is divided by the
//! messages. `redis-server` has to be installed.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a measurement")]

#[path = "../tests/server/mod.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod server;

use std::future::poll_fn;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast_backplane_redis::{RedisBackplane, RedisConfig, RedisShards};
use roomcast_cluster::{Backplane, ClusterAction, ClusterConfig, Node, NodeId, Publication};
use roomcast_core::{Namespace, Room};
use rustix::time::{ClockId, clock_gettime};
use server::Redis;

fn main() {
    println!("{MESSAGES} messages of {BYTES} bytes to one receiver, best of {ROUNDS} rounds");
    println!("{:24} {:>10} {:>10} {:>12}", "µs of CPU each", "publish", "receive", "messages/s");
    for (name, count, is_sharded) in [
        ("RedisBackplane", 1, false),
        ("RedisShards, 1 server", 1, true),
        ("RedisShards, 2 servers", 2, true),
        ("RedisShards, 4 servers", 4, true),
    ] {
        let servers: Vec<_> =
            (0..count).map(|_| Redis::start("client-output-buffer-limit pubsub 0 0 0")).collect();
        let urls: Vec<_> = servers.iter().map(Redis::url).collect();
        let rounds: Vec<_> = (0..ROUNDS).map(|_| round(&urls, is_sharded)).collect();
        let least = |part: fn(&Round) -> f64| rounds.iter().map(part).fold(f64::MAX, f64::min);
        let rate = MESSAGES as f64 / least(|round| round.seconds);
        println!(
            "{name:24} {:10.2} {:10.2} {rate:12.0}",
            least(|round| round.publish),
            least(|round| round.receive)
        );
    }
}

struct Round {
    publish: f64,
    receive: f64,
    seconds: f64,
}

fn round(urls: &[String], is_sharded: bool) -> Round {
    let (ready, wait) = mpsc::sync_channel(1);
    let (publisher, receiver) = (urls.to_vec(), urls.to_vec());
    let receiver = thread::spawn(move || block_on(receive(&receiver, is_sharded, &ready)));
    wait.recv().expect("subscriptions");
    let publisher = thread::spawn(move || block_on(publish(&publisher, is_sharded)));
    let (publish, started) = publisher.join().expect("a publisher");
    let (receive, ended) = receiver.join().expect("a receiver");
    Round { publish, receive, seconds: (ended - started).as_secs_f64() }
}

fn block_on<R>(work: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// CPU time of this thread, in µs.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

fn engine(urls: &[String], is_sharded: bool) -> Box<dyn Backplane> {
    let config =
        |url: &String| RedisConfig::from_url(url).expect("a URL").ping_interval(Duration::from_secs(10));
    if is_sharded {
        Box::new(RedisShards::connect(urls.iter().map(config).collect()).expect("servers").0)
    } else {
        Box::new(RedisBackplane::new(config(&urls[0])))
    }
}

/// Creates a node that sends one publication per message.
fn node(number: u64) -> Node {
    let mut settings = ClusterConfig::default();
    settings.heartbeat_interval = Duration::from_millis(200);
    settings.node_timeout = Duration::from_secs(20);
    settings.batch_count = 1;
    Node::new(Arc::new(settings), NodeId::new(number), 1 << 20 | number, Instant::now())
}

fn room(index: usize) -> Room {
    Room::from(format!("room-{index}"))
}

/// Lets a node work until `done` holds, which is called after each exchange.
async fn drive(node: &mut Node, engine: &mut dyn Backplane, mut done: impl FnMut(&mut Node) -> bool) {
    loop {
        let work = poll_fn(|cx| {
            let now = Instant::now();
            if node.poll_timeout().is_some_and(|at| at <= now) {
                node.handle_timeout(now);
            }
            node.exchange(engine, cx, now);
            if done(node) { Poll::Ready(()) } else { Poll::Pending }
        });
        if tokio::time::timeout(Duration::from_millis(20), work).await.is_ok() {
            return;
        }
    }
}

async fn publish(urls: &[String], is_sharded: bool) -> (f64, Instant) {
    let (mut node, mut engine) = (node(1), engine(urls, is_sharded));
    // With several servers, the first publications wait for the announcements of the others.
    let until = Instant::now() + Duration::from_secs(1);
    drive(&mut node, &mut *engine, |node| node.peers().count() == 1 && Instant::now() > until).await;
    let body = Bytes::from(vec![b'x'; BYTES]);
    let (started, before) = (Instant::now(), cpu());
    let mut sent = 0;
    while sent < MESSAGES {
        let now = Instant::now();
        while sent < MESSAGES && node.queue_bytes() < QUEUE_BYTES {
            let publication = Publication {
                namespace: Namespace::main(),
                rooms: vec![room(sent % ROOMS)],
                except: Vec::new(),
                kind: 1,
                body: body.clone(),
            };
            node.publish(publication, now).expect("room in the queue");
            sent += 1;
        }
        drive(&mut node, &mut *engine, |node| node.queue_bytes() < QUEUE_BYTES / 2).await;
    }
    drive(&mut node, &mut *engine, |node| node.queue_bytes() == 0).await;
    let each = (cpu() - before) / MESSAGES as f64;
    // The rest is in the buffers of the connections.
    let until = Instant::now() + Duration::from_secs(2);
    drive(&mut node, &mut *engine, |_| Instant::now() > until).await;
    (each, started)
}

async fn receive(urls: &[String], is_sharded: bool, ready: &mpsc::SyncSender<()>) -> (f64, Instant) {
    let (mut node, mut engine) = (node(2), engine(urls, is_sharded));
    let now = Instant::now();
    (0..ROOMS).for_each(|index| node.add_interest(&Namespace::main(), Some(&room(index)), now));
    let until = now + Duration::from_millis(500);
    drive(&mut node, &mut *engine, |_| Instant::now() > until).await;
    ready.send(()).expect("a publisher");
    let (mut received, mut before) = (0, None);
    drive(&mut node, &mut *engine, |node| {
        while let Some(action) = node.poll_action() {
            match action {
                ClusterAction::Deliver { .. } => {
                    before.get_or_insert_with(cpu);
                    received += 1;
                }
                ClusterAction::Gap { channel, .. } => assert_eq!(received, 0, "a gap of {channel:?}"),
                _ => {}
            }
        }
        received == MESSAGES
    })
    .await;
    ((cpu() - before.expect("a message")) / MESSAGES as f64, Instant::now())
}

const MESSAGES: usize = 200_000;
const BYTES: usize = 180;
const ROUNDS: usize = 3;
const ROOMS: usize = 64;
const QUEUE_BYTES: usize = 1 << 20;
