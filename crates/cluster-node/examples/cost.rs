//! Prints the time per broadcast on its way out and in, without the cost of an engine, on one thread.
//!
//! ```sh
//! cargo run --release --package roomcast-cluster-node --example cost
//! ```

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use roomcast_cluster_node::{NodeCluster, NodeClusterConfig};
use roomcast_core::{
    AnswerSink, Args, ByteString, Cluster as _, ClusterHost, ClusterNamespace, ClusterValue, Event, Heard,
    Membership, Namespace, Published, Room, SocketInfo, Target,
};
use roomcast_node_adapter::{PubSub, PubSubCommand, PubSubEvent};

const EVENTS: usize = 200_000;
const ROUNDS: usize = 3;

/// Engine that records publications, or replays them to the node that subscribes.
#[derive(Debug, Default)]
struct Recorder {
    sent: Arc<Mutex<Vec<(ByteString, Bytes)>>>,
    events: VecDeque<PubSubEvent>,
    replays: bool,
    waker: Option<Waker>,
}

impl PubSub for Recorder {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<PubSubEvent> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn send(&mut self, command: PubSubCommand) {
        match command {
            PubSubCommand::Publish { channel, payload } => {
                self.sent.lock().expect("no panic").push((channel, payload));
            }
            PubSubCommand::Subscribe { patterns, token, .. } => {
                self.events.push_back(PubSubEvent::Done { token });
                if self.replays {
                    let sent = std::mem::take(&mut *self.sent.lock().expect("no panic"));
                    self.events.extend(sent.into_iter().map(|(channel, payload)| PubSubEvent::Message {
                        subscription: patterns[0].clone(),
                        channel,
                        payload,
                    }));
                }
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

    fn lost(&self) -> u64 {
        0
    }
}

/// Host that counts events, and has a number of members in each room.
#[derive(Default)]
struct Counter {
    members: usize,
    events: AtomicUsize,
}

#[async_trait]
#[rustfmt::skip]
impl ClusterHost for Counter {
    fn deliver(&self, _: &Target, _: &Event) -> usize {
        self.events.fetch_add(1, Ordering::Relaxed);
        0
    }

    fn deliver_with_ack(&self, _: &Target, _: Event, _: Arc<dyn AnswerSink>) {}
    fn update(&self, _: &Target, _: &Membership) {}
    fn disconnect(&self, _: &Target, _: bool) {}
    fn find(&self, _: &Target) -> Vec<SocketInfo> { Vec::new() }
    fn count(&self, _: &Target) -> usize { self.members }
    async fn server_side(&self, _: &ByteString, _: Args) -> Option<Args> { None }
    fn missed(&self, _: Option<&Room>) {}
}

fn start(engine: Recorder, host: &Arc<Counter>) -> (NodeCluster, Box<dyn ClusterNamespace>) {
    let cluster = NodeCluster::start(NodeClusterConfig::new().queue_bytes(1 << 30), engine);
    let host: Weak<Counter> = Arc::downgrade(host);
    let namespace = cluster.open(&Namespace::main(), host);
    (cluster, namespace)
}

fn received(cluster: &NodeCluster) -> f64 {
    let metrics = cluster.metrics();
    match metrics.iter().find(|metric| metric.name == "cluster_messages_in").map(|metric| &metric.value) {
        Some(ClusterValue::Counter(value)) => *value,
        other => panic!("{other:?}"),
    }
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
    let target = Target { rooms: vec![Room::from("room")], ..Target::default() };
    let json = format!(r#"{{"text":"{}","from":"somebody","at":1234567890}}"#, "x".repeat(100));
    let event = Event::new(Namespace::main(), "message", Args::from_validated(json.into(), Vec::new()));
    println!("{EVENTS} events of {} bytes to one room", event.args.byte_len());
    for members in [1, 0].repeat(ROUNDS) {
        let recorder = Recorder::default();
        let sent = recorder.sent.clone();
        let (_cluster, namespace) = start(recorder, &Arc::default());
        tokio::task::yield_now().await;

        let begin = now();
        for _ in 0..EVENTS {
            assert_eq!(namespace.broadcast(&target, &event), Published::Accepted);
        }
        per_event("encoding and inlet", begin.elapsed());
        let begin = now();
        namespace.confirming().confirm(Duration::from_secs(60)).await.expect("the engine accepts everything");
        per_event("task", begin.elapsed());

        let replay = Recorder { sent, replays: true, ..Recorder::default() };
        let host = Arc::new(Counter { members, ..Counter::default() });
        let (cluster, incoming) = start(replay, &host);
        assert_eq!(incoming.heard(None).await, Heard::Confirmed);
        let begin = now();
        while received(&cluster) < EVENTS as f64 {
            tokio::task::yield_now().await;
        }
        per_event(if members > 0 { "receiving and decoding" } else { "dropping unread" }, begin.elapsed());
        assert_eq!(host.events.load(Ordering::Relaxed), members * EVENTS);
    }
}
