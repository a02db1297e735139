//! Prints the time per publication on its way out and in, without the cost of an engine.
//!
//! All but the marked part runs on one thread, so that elapsed time is processor time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use roomcast_cluster::{Backplane, BackplaneCommand, BackplaneEvent, Channel};
use roomcast_cluster_runtime::{ClusterConnection, ConnectionConfig};
use roomcast_core::{
    AnswerSink, Args, ByteString, Cluster as _, ClusterHost, ClusterNamespace, Event, Membership, Namespace,
    Published, Room, SocketInfo, Target,
};

const EVENTS: usize = 200_000;
const ROOMS: usize = 100;
const ROUNDS: usize = 3;

/// Engine that records publications, or replays recorded ones.
#[derive(Debug, Default)]
struct Recorder {
    sent: Arc<Mutex<Vec<(Channel, bytes::Bytes)>>>,
    events: VecDeque<BackplaneEvent>,
    confirms: bool,
    waker: Option<Waker>,
}

impl Backplane for Recorder {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn send(&mut self, command: BackplaneCommand) {
        match command {
            BackplaneCommand::Publish { channel, payload } if !self.confirms => {
                self.sent.lock().expect("no panic").push((channel, payload));
            }
            BackplaneCommand::Subscribe { channels, token } if self.confirms => {
                self.events.push_back(BackplaneEvent::Subscribed { channels, token });
                let is_room = |(channel, _): &(Channel, bytes::Bytes)| matches!(channel, Channel::Room(..));
                let sent = std::mem::take(&mut *self.sent.lock().expect("no panic"));
                let message = |(channel, payload)| BackplaneEvent::Message { channel, payload };
                self.events.extend(sent.into_iter().filter(is_room).map(message));
            }
            _ => {}
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<BackplaneEvent> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Host that counts events.
#[derive(Default)]
struct Counter {
    events: AtomicUsize,
    bytes: AtomicUsize,
}

#[async_trait]
impl ClusterHost for Counter {
    fn deliver(&self, _: &Target, event: &Event) -> usize {
        self.bytes.fetch_add(event.args.byte_len(), Ordering::Relaxed);
        self.events.fetch_add(1, Ordering::Relaxed);
        0
    }

    fn deliver_with_ack(&self, _: &Target, _: Event, _: Arc<dyn AnswerSink>) {}

    fn update(&self, _: &Target, _: &Membership) {}

    fn disconnect(&self, _: &Target, _: bool) {}

    fn find(&self, _: &Target) -> Vec<SocketInfo> {
        Vec::new()
    }

    fn count(&self, _: &Target) -> usize {
        0
    }

    async fn server_side(&self, _: &ByteString, _: Args) -> Option<Args> {
        None
    }

    fn missed(&self, _: Option<&Room>) {}
}

fn open(connection: &ClusterConnection, host: &Arc<Counter>) -> Box<dyn ClusterNamespace> {
    let host: Weak<Counter> = Arc::downgrade(host);
    connection.open(&Namespace::main(), host)
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn now() -> Instant {
    Instant::now()
}

fn per_event(what: &str, time: Duration) {
    println!("{what}: {:.0} ns", time.as_nanos() as f64 / EVENTS as f64);
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let targets: Vec<Target> = (0..ROOMS)
        .map(|room| Target { rooms: vec![Room::from(format!("room-{room}"))], ..Target::default() })
        .collect();
    let json = format!(r#"{{"text":"{}","from":"somebody","at":1234567890}}"#, "x".repeat(100));
    let event = Event::new(Namespace::main(), "message", Args::from_validated(json.into(), Vec::new()));
    println!("{EVENTS} events of {} bytes to {ROOMS} rooms", event.args.byte_len());
    for _ in 0..ROUNDS {
        let recorder = Recorder::default();
        let sent = recorder.sent.clone();
        let config = || ConnectionConfig::new().node(|node| node.queue_bytes = 1 << 30);
        let connection = ClusterConnection::start(config(), recorder);
        let namespace = open(&connection, &Arc::default());
        tokio::task::yield_now().await;

        let start = now();
        for number in 0..EVENTS {
            let published = namespace.broadcast(&targets[number % ROOMS], &event);
            assert_eq!(published, Published::Accepted);
        }
        per_event("encoding and inlet", start.elapsed());

        let start = now();
        namespace.confirming().confirm(Duration::from_secs(60)).await.expect("the engine accepts everything");
        per_event("task, node and batches", start.elapsed());

        let start = now();
        for number in 0..EVENTS {
            namespace.broadcast(&targets[number % ROOMS], &event);
            if number % 16 == 0 {
                tokio::task::yield_now().await;
            }
        }
        namespace.confirming().confirm(Duration::from_secs(60)).await.expect("the engine accepts everything");
        per_event("both, the task running after each 16 events", start.elapsed());

        let messages = sent.lock().expect("no panic").len();
        let start = now();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for number in 0..EVENTS / 2 {
                        namespace.broadcast(&targets[number % ROOMS], &event);
                    }
                });
            }
        });
        per_event("encoding and inlet, on two threads at once, for each thread", start.elapsed() * 2);

        let replay = Recorder { sent, confirms: true, ..Recorder::default() };
        let host = Arc::new(Counter::default());
        let receiver = ClusterConnection::start(config(), replay);
        let incoming = open(&receiver, &host);
        for target in &targets {
            incoming.room_created(&target.rooms[0]);
        }
        incoming.heard(targets.last().and_then(|target| target.rooms.first())).await;
        let start = now();
        while host.events.load(Ordering::Relaxed) < 2 * EVENTS {
            tokio::task::yield_now().await;
        }
        per_event("receiving and decoding", start.elapsed() / 2);
        println!("events per message: {:.1}", 2.0 * EVENTS as f64 / messages as f64);
    }
}
