//! Requests to the other nodes.

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use roomcast_core::{Args, ClusterValue, Event, Namespace, RemoteAnswers, SocketId};
use roomcast_testkit::cluster::Fault;
use tokio::time::{Instant, timeout};

use crate::host::Host;
use crate::rig::{Rig, SOON, Server, args, name, settle, text, to};

const TIMEOUT: Duration = Duration::from_millis(1500);

/// Three nodes, of which the third is frozen: it receives nothing.
async fn with_frozen() -> (Rig, Vec<Server>) {
    let mut rig = Rig::new();
    let sockets: [&[(&str, &[&str])]; 3] = [
        &[("here", &["a"])],
        &[("one", &["a", "b"]), ("two", &["a"]), ("deaf", &["c"]), ("silent", &["d"])],
        &[("three", &["a"])],
    ];
    let servers: Vec<_> =
        sockets.iter().enumerate().map(|(node, list)| rig.start(node, Host::with_sockets(list))).collect();
    settle(&servers).await;
    rig.inject(Fault::Slow { node: 2, delay: Duration::from_secs(3) });
    (rig, servers)
}

#[derive(Default)]
struct Answers(Mutex<Vec<String>>);

impl RemoteAnswers for Answers {
    fn requested(&self, recipients: usize) {
        self.0.lock().unwrap().push(format!("{recipients} recipients"));
    }

    fn answered(&self, socket: Option<SocketId>, args: Args) {
        self.0.lock().unwrap().push(format!("{} {}", socket.unwrap(), args.json()));
    }

    fn unanswered(&self, socket: Option<SocketId>) {
        self.0.lock().unwrap().push(format!("{} nothing", socket.unwrap()));
    }
}

#[tokio::test(start_paused = true)]
async fn request_times_are_counted() {
    let (_rig, servers) = with_frozen().await;
    servers[0].namespace.count(&to("a"), TIMEOUT).await.unwrap_err();
    let ClusterValue::Histogram { sum, buckets } = servers[0].value("cluster_request_seconds") else {
        panic!("no histogram")
    };
    assert_eq!(sum, TIMEOUT.as_secs_f64());
    let counted: Vec<_> = buckets.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!((counted, buckets.len()), (vec![&(5.0, 1)], 10));
}

#[tokio::test(start_paused = true)]
async fn fetch_names_frozen_node_at_timeout() {
    let (_rig, servers) = with_frozen().await;
    let before = Instant::now();
    let error = servers[0].namespace.fetch(&to("a"), TIMEOUT).await.unwrap_err();
    assert_eq!(before.elapsed(), TIMEOUT);
    assert_eq!((error.missing, error.nodes), (Some(1), vec![name(2)]));
    let mut found = error.partial;
    found.sort_by_key(|socket| socket.id.clone());
    let ids: Vec<_> = found.iter().map(|socket| (socket.id.as_str(), socket.rooms.len())).collect();
    assert_eq!(ids, [("one", 2), ("two", 1)]);
    let control = found[0].control.as_ref().unwrap();
    assert_eq!((control.handshake(), control.data()), (text(r#"{"url":"/one"}"#), text(r#""""#)));
    servers[1].join("one").await;
    control.disconnect(true);
    tokio::time::sleep(SOON).await;
    assert_eq!(servers[1].host.take_log(), ["one disconnect true"]);
}

#[tokio::test(start_paused = true)]
async fn count_and_servers_name_frozen_node() {
    let (_rig, servers) = with_frozen().await;
    let before = Instant::now();
    let error = servers[0].namespace.count(&to("a"), TIMEOUT).await.unwrap_err();
    assert_eq!((error.missing, error.nodes, error.partial), (Some(1), vec![name(2)], vec![2]));
    assert_eq!(before.elapsed(), TIMEOUT);
    let asked = servers[0].namespace.server_side_emit_with_ack(&text("echo"), &args(9), TIMEOUT).await;
    let error = asked.unwrap_err();
    assert_eq!((error.missing, error.nodes, error.partial), (Some(1), vec![name(2)], vec![args(9)]));
    assert_eq!(before.elapsed(), 2 * TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_arrive_until_timeout() {
    let (_rig, servers) = with_frozen().await;
    let answers = Answers::default();
    let before = Instant::now();
    let event = Event::new(Namespace::main(), "ask", Args::empty());
    let asked = servers[0].namespace.broadcast_with_ack(&to(""), &event, TIMEOUT, &answers).await;
    assert_eq!(before.elapsed(), TIMEOUT);
    // The second node is incomplete, since one of its sockets stays silent.
    let error = asked.unwrap_err();
    assert_eq!((error.missing, error.nodes), (Some(2), vec![name(1), name(2)]));
    let log = answers.0.into_inner().unwrap();
    assert_eq!(log, ["4 recipients", r#"one "one""#, r#"two "two""#, "deaf nothing"]);
    // The answering node holds the sink until the deadline by its own clock.
    tokio::time::sleep(SOON).await;
    assert!(servers[1].host.sinks.lock().unwrap()[0].upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn late_acknowledgement_completes_broadcast() {
    let mut rig = Rig::new();
    let servers =
        [rig.start(0, Host::with_sockets(&[])), rig.start(1, Host::with_sockets(&[("silent", &[])]))];
    settle(&servers).await;
    let (answers, event) = (Answers::default(), Event::new(Namespace::main(), "ask", Args::empty()));
    let before = Instant::now();
    let answer = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let sink = servers[1].host.sinks.lock().unwrap()[0].upgrade().expect("the sink is held");
        sink.answered(&"silent".into(), args(3));
    };
    let target = to("");
    let asked = servers[0].namespace.broadcast_with_ack(&target, &event, TIMEOUT, &answers);
    let (asked, ()) = tokio::join!(asked, answer);
    assert_eq!(asked, Ok(()));
    assert!(before.elapsed() < Duration::from_millis(710), "{:?}", before.elapsed());
    assert_eq!(answers.0.into_inner().unwrap(), ["1 recipients", "silent 3"]);
    tokio::time::sleep(SOON).await;
    assert!(servers[1].host.sinks.lock().unwrap()[0].upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn lone_node_gets_empty_answers() {
    let (_rig, servers) = Rig::connected(1).await;
    let (namespace, before) = (&servers[0].namespace, Instant::now());
    assert!(namespace.fetch(&to("a"), TIMEOUT).await.unwrap().is_empty());
    assert_eq!(namespace.count(&to("a"), TIMEOUT).await, Ok(Vec::new()));
    assert_eq!(namespace.server_side_emit_with_ack(&text("echo"), &args(1), TIMEOUT).await, Ok(Vec::new()));
    let event = Event::new(Namespace::main(), "ask", Args::empty());
    assert_eq!(namespace.broadcast_with_ack(&to(""), &event, TIMEOUT, &Answers::default()).await, Ok(()));
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn large_answers_are_split() {
    let mut rig = Rig::new();
    let ids: Vec<String> = (0..300).map(|number| format!("socket-{number:03}")).collect();
    let sockets: Vec<(&str, &[&str])> = ids.iter().map(|id| (id.as_str(), &[] as &[&str])).collect();
    let configure = |config: &mut roomcast_cluster::ClusterConfig| config.queue_bytes = 2 << 20;
    let servers = [
        rig.start_with(0, Host::with_sockets(&[]), configure),
        rig.start_with(1, Host::with_sockets(&sockets), configure),
    ];
    settle(&servers).await;
    // Three times the queue in total.
    servers[1].host.data_len.store(20_000, Ordering::Relaxed);
    let before = servers[1].metric("cluster_messages_out");
    let found = servers[0].namespace.fetch(&to(""), TIMEOUT).await.unwrap();
    assert_eq!(found.iter().map(|socket| socket.id.as_str()).collect::<Vec<_>>(), ids);
    assert!(servers[1].metric("cluster_messages_out") - before >= 40);
    // One that no message can carry leaves its node incomplete.
    servers[1].host.data_len.store(17 << 20, Ordering::Relaxed);
    let error = servers[0].namespace.fetch(&to("socket-007"), TIMEOUT).await.unwrap_err();
    assert_eq!((error.nodes, error.partial.len()), (vec![name(1)], 0));
    assert_eq!(servers[1].metric("cluster_answers_dropped"), 0);
}

#[tokio::test(start_paused = true)]
async fn failing_handlers_count_as_missing() {
    let (_rig, servers) = Rig::connected(2).await;
    let namespace = &servers[0].namespace;
    for event in ["unknown", "panic", "later"] {
        let asked = namespace.server_side_emit_with_ack(&text(event), &args(1), TIMEOUT).await;
        assert_eq!(asked.unwrap_err().nodes, [name(1)], "{event}");
    }
    // The third was dropped at the deadline.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let [started, ended] = servers[1].host.handlers.each_ref().map(|count| count.load(Ordering::Relaxed));
    assert_eq!((started, ended), (3, 1));
    assert_eq!(servers[1].metric("cluster_handlers"), 0);
    let asked = namespace.server_side_emit_with_ack(&text("later"), &args(1), Duration::from_secs(5)).await;
    assert_eq!(asked, Ok(vec![args(1)]));
}

#[tokio::test(start_paused = true)]
async fn handlers_are_bounded() {
    let mut rig = Rig::new();
    let engine = rig.connect(1);
    let config = roomcast_cluster_runtime::ConnectionConfig::new().max_handlers(3);
    let config = config.handler_timeout(Duration::from_secs(2));
    let servers =
        [rig.start(0, Host::with_sockets(&[])), Server::start(config, engine, Host::with_sockets(&[]))];
    settle(&servers).await;
    for number in 0..5 {
        servers[0].namespace.server_side_emit(&text("later"), &args(number));
    }
    tokio::time::sleep(SOON).await;
    assert_eq!(servers[1].host.take_log(), ["later 0", "later 1", "later 2"]);
    assert_eq!(
        (servers[1].metric("cluster_handlers"), servers[1].metric("cluster_handlers_refused")),
        (3, 2)
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(servers[1].metric("cluster_handlers"), 0);
    assert_eq!(servers[1].host.handlers[1].load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn dropped_queries_are_cancelled() {
    let (_rig, servers) = with_frozen().await;
    let (namespace, target) = (&servers[0].namespace, to("a"));
    for _ in 0..10 {
        let query = namespace.fetch(&target, Duration::from_secs(60));
        assert!(timeout(SOON, query).await.is_err());
    }
    // A future that was never polled has sent nothing.
    drop(namespace.count(&to("a"), TIMEOUT));
    tokio::time::sleep(SOON).await;
    assert_eq!(servers[0].metric("cluster_requests_pending"), 0);
    assert_eq!(servers[0].metric("cluster_answer_bytes"), 0);
    assert_eq!(servers[0].metric("cluster_queue_bytes"), 0);
}
