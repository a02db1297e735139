//! CPU time of a message, compared with the bare client library on the same server.
//!
//! The publisher and the subscriber have a thread with a runtime each, whose CPU time is divided by the messages.
//! `redis-server` has to be installed.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a measurement")]

#[path = "../tests/server/mod.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod server;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use roomcast_backplane_redis::{RedisBackplane, RedisConfig};
use roomcast_cluster::{Backplane, BackplaneCommand, BackplaneEvent, Channel};
use roomcast_core::{Namespace, Room};
use rustix::time::{ClockId, clock_gettime};
use server::Redis;

fn main() {
    let server = Redis::start("client-output-buffer-limit pubsub 0 0 0");
    println!("{MESSAGES} messages of {BYTES} bytes to one subscriber, best of {ROUNDS} rounds");
    println!("{:20} {:>12} {:>12}", "µs of CPU each", "publish", "receive");
    let mut best = [[f64::MAX; 2]; 2];
    for _ in 0..ROUNDS {
        for (client, best) in best.iter_mut().enumerate() {
            let figures = if client == 0 {
                round(&server, bare_publish, bare_receive)
            } else {
                round(&server, publish, receive)
            };
            best[0] = best[0].min(figures.0);
            best[1] = best[1].min(figures.1);
        }
    }
    println!("{:20} {:12.2} {:12.2}", "bare redis client", best[0][0], best[0][1]);
    println!("{:20} {:12.2} {:12.2}", "RedisBackplane", best[1][0], best[1][1]);
    println!("{:20} {:12.2} {:12.2}", "ratio", best[1][0] / best[0][0], best[1][1] / best[0][1]);
}

/// Runs both sides, each on its thread; returns the CPU time of a message.
fn round(
    server: &Redis,
    publish: fn(String) -> f64,
    receive: fn(String, mpsc::SyncSender<()>) -> f64,
) -> (f64, f64) {
    let (url, other) = (server.url(), server.url());
    let (subscribed, wait) = mpsc::sync_channel(1);
    let receiver = thread::spawn(move || receive(other, subscribed));
    wait.recv().expect("a subscription");
    let publisher = thread::spawn(move || publish(url));
    (publisher.join().expect("a publisher"), receiver.join().expect("a receiver"))
}

/// CPU time of this thread, in µs.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

fn block_on<R>(work: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

fn channel() -> Channel {
    Channel::Room(Namespace::main(), Room::from("measured"))
}

fn engine(url: &str) -> RedisBackplane {
    RedisBackplane::new(RedisConfig::from_url(url).expect("a URL").ping_interval(Duration::from_secs(10)))
}

fn publish(url: String) -> f64 {
    block_on(async {
        let mut engine = engine(&url);
        let (channel, payload) = (channel(), Bytes::from(vec![b'x'; BYTES]));
        poll_fn(|cx| {
            while engine.poll_event(cx).is_ready() {}
            engine.poll_ready(cx)
        })
        .await;
        let start = cpu();
        let mut sent = 0;
        // As `Node::exchange` does: events, then up to 256 commands.
        poll_fn(|cx| {
            while engine.poll_event(cx).is_ready() {}
            for _ in 0..256 {
                if sent == MESSAGES || engine.poll_ready(cx).is_pending() {
                    break;
                }
                engine.send(BackplaneCommand::Publish { channel: channel.clone(), payload: payload.clone() });
                sent += 1;
            }
            if sent == MESSAGES { engine.poll_flush(cx) } else { Poll::Pending }
        })
        .await;
        (cpu() - start) / MESSAGES as f64
    })
}

fn receive(url: String, subscribed: mpsc::SyncSender<()>) -> f64 {
    block_on(async {
        let mut engine = engine(&url);
        poll_fn(|cx| {
            while engine.poll_event(cx).is_ready() {}
            engine.poll_ready(cx)
        })
        .await;
        engine.send(BackplaneCommand::Subscribe { channels: vec![channel()], token: 1 });
        let mut start = 0.0;
        let mut received = 0;
        while received < MESSAGES {
            match poll_fn(|cx| engine.poll_event(cx)).await {
                BackplaneEvent::Message { payload, .. } if payload.len() == BYTES => received += 1,
                BackplaneEvent::Subscribed { .. } => {
                    start = cpu();
                    subscribed.send(()).expect("a main thread");
                }
                event => panic!("{event:?}"),
            }
        }
        (cpu() - start) / MESSAGES as f64
    })
}

fn bare_publish(url: String) -> f64 {
    block_on(async {
        let client = redis::Client::open(url).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
        let name = format!("roomcast{}", channel());
        let payload = vec![b'x'; BYTES];
        let start = cpu();
        // Pipelines of the same size, several under way.
        let mut pending = VecDeque::new();
        let mut sent = 0;
        while sent < MESSAGES {
            let mut pipe = redis::pipe();
            for _ in 0..256.min(MESSAGES - sent) {
                pipe.cmd("PUBLISH").arg(&name).arg(&payload).ignore();
                sent += 1;
            }
            let mut connection = connection.clone();
            let work = async move { pipe.query_async::<()>(&mut connection).await };
            pending.push_back(tokio::spawn(work));
            if pending.len() == 8 {
                pending.pop_front().expect("a pipeline").await.expect("a task").expect("replies");
            }
        }
        for work in pending {
            work.await.expect("a task").expect("replies");
        }
        let _: () = redis::cmd("PING").query_async(&mut connection).await.expect("a reply");
        (cpu() - start) / MESSAGES as f64
    })
}

fn bare_receive(url: String, subscribed: mpsc::SyncSender<()>) -> f64 {
    block_on(async {
        let client = redis::Client::open(url).expect("a URL");
        let mut pubsub = client.get_async_pubsub().await.expect("a connection");
        pubsub.subscribe(format!("roomcast{}", channel())).await.expect("a subscription");
        subscribed.send(()).expect("a main thread");
        let start = cpu();
        let mut messages = pubsub.on_message();
        for _ in 0..MESSAGES {
            let message = messages.next().await.expect("a message");
            assert_eq!(message.get_payload_bytes().len(), BYTES);
        }
        (cpu() - start) / MESSAGES as f64
    })
}

const MESSAGES: usize = 300_000;
const BYTES: usize = 180;
const ROUNDS: usize = 3;
