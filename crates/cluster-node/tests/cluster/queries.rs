//! Queries of this node, and answers to others.

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use roomcast_cluster_node::NodeClusterConfig;
use roomcast_core::{Args, Cluster as _, ClusterValue, RemoteAnswers, SocketId};
use tokio::time::Instant;

use crate::broker::Broker;
use crate::host::Host;
use crate::rig::{SOON, Server, args, event, settle, text, to};

/// Acknowledgements, as text.
#[derive(Default)]
struct Acks(Mutex<Vec<String>>);

impl Acks {
    fn take(&self) -> Vec<String> {
        let mut acks = std::mem::take(&mut *self.0.lock().unwrap());
        acks.sort();
        acks
    }
}

impl RemoteAnswers for Acks {
    fn requested(&self, recipients: usize) {
        self.0.lock().unwrap().push(format!("of {recipients}"));
    }

    fn answered(&self, socket: Option<SocketId>, args: Args) {
        assert_eq!(socket, None, "answers name no socket");
        self.0.lock().unwrap().push(args.json().to_owned());
    }

    fn unanswered(&self, _: Option<SocketId>) {
        panic!("the protocol has no such message");
    }
}

#[tokio::test(start_paused = true)]
async fn queries_return_answers_of_all_nodes() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 3).await;
    let namespace = &servers[0].namespace;
    let mut found = namespace.fetch(&to("all"), SOON).await.unwrap();
    found.sort_by_key(|socket| socket.id.to_string());
    let ids: Vec<_> = found.iter().map(|socket| socket.id.as_str()).collect();
    assert_eq!(ids, ["s1", "s2"]);
    let control = found[0].control.as_ref().unwrap();
    assert_eq!((control.handshake(), control.data()), (text(r#"{"url":"/s1"}"#), text("\"\"")));
    assert_eq!(namespace.count(&to("all"), SOON).await.unwrap(), [1, 1]);
    assert_eq!(namespace.count(&to("s1"), SOON).await.unwrap().iter().sum::<usize>(), 1);
    let answers = namespace.server_side_emit_with_ack(&text("echo"), &args(5), SOON).await.unwrap();
    assert_eq!(answers, [args(5), args(5)]);
    let acks = Acks::default();
    namespace.broadcast_with_ack(&to("all"), &event(1), SOON, &acks).await.unwrap();
    assert_eq!(acks.take(), ["\"s1\"", "\"s2\"", "of 1", "of 1"]);
    // A handle disconnects its socket.
    servers.iter().for_each(|server| drop(server.host.take_log()));
    control.disconnect(true);
    settle().await;
    assert_eq!(servers[1].host.take_log(), ["s1 disconnect true"]);
    assert_eq!(servers[0].metric("cluster_requests_complete"), 5);
    assert_eq!(servers[0].metric("cluster_requests_pending"), 0);
}

#[tokio::test(start_paused = true)]
async fn times_of_requests_are_counted() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    servers[0].namespace.count(&to("all"), SOON).await.unwrap();
    broker.freeze();
    servers[0].namespace.count(&to("all"), Duration::from_millis(600)).await.unwrap_err();
    let metrics = servers[0].cluster.metrics();
    let times = metrics.iter().find(|metric| metric.name == "cluster_request_seconds").unwrap();
    let ClusterValue::Histogram { sum, buckets } = &times.value else { panic!("{times:?}") };
    assert!((0.6..0.65).contains(sum), "{sum}");
    let counts: Vec<_> = buckets.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counts, [&(0.001, 1), &(1.0, 1)]);
}

#[tokio::test(start_paused = true)]
async fn counts_of_zero_are_answered() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 3).await;
    let begin = Instant::now();
    let acks = Acks::default();
    servers[0].namespace.broadcast_with_ack(&to("nobody"), &event(1), SOON, &acks).await.unwrap();
    assert_eq!(acks.take(), ["of 0", "of 0"]);
    assert!(servers[0].namespace.fetch(&to("nobody"), SOON).await.unwrap().is_empty());
    // A dropped host has no sockets.
    let Server { cluster: _cluster, namespace: _namespace, host } = servers.into_iter().next_back().unwrap();
    drop(host);
    let other = Server::start(&broker, Host::with_sockets(&[]));
    other.join().await;
    assert!(other.namespace.fetch(&to("nobody"), SOON).await.unwrap().is_empty());
    assert!(begin.elapsed() < SOON);
}

#[tokio::test(start_paused = true)]
async fn lone_node_answers_itself() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 1).await;
    let begin = Instant::now();
    assert!(servers[0].namespace.fetch(&to(""), SOON).await.unwrap().is_empty());
    assert!(begin.elapsed() < SOON);
}

#[tokio::test(start_paused = true)]
async fn silent_nodes_are_numbered() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 3).await;
    // Only one has a handler.
    servers[1].host.handlers[0].store(0, Ordering::Relaxed);
    let begin = Instant::now();
    let error = servers[0].namespace.server_side_emit_with_ack(&text("unknown"), &args(1), SOON).await;
    let error = error.unwrap_err();
    assert_eq!((error.missing, error.nodes.len(), error.partial.len()), (Some(2), 0, 0));
    assert!(begin.elapsed() >= SOON && begin.elapsed() < 2 * SOON);
    assert_eq!(servers[0].metric("cluster_requests_partial"), 1);
}

#[tokio::test(start_paused = true)]
async fn refused_count_leaves_number_unknown() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 3).await;
    broker.refuse_counts();
    let error = servers[0].namespace.count(&to("all"), SOON).await.unwrap_err();
    assert_eq!((error.missing, error.partial), (None, vec![1, 1]));
    assert_eq!(servers[0].metric("cluster_counts_failed"), 1);
    let acks = Acks::default();
    let error =
        servers[0].namespace.broadcast_with_ack(&to("all"), &event(1), SOON, &acks).await.unwrap_err();
    assert_eq!((error.missing, acks.take().len()), (None, 4));
}

#[tokio::test(start_paused = true)]
async fn count_without_reply_has_a_deadline() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    broker.freeze();
    let begin = Instant::now();
    let error = servers[0].namespace.fetch(&to(""), SOON).await.unwrap_err();
    assert_eq!((error.missing, error.partial.len()), (None, 0));
    assert!(begin.elapsed() >= SOON && begin.elapsed() < 2 * SOON);
    // A request that has ended is not sent later.
    broker.take_published();
    broker.thaw();
    settle().await;
    assert!(broker.take_published().is_empty());
}

#[tokio::test(start_paused = true)]
async fn lost_count_is_repeated() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    broker.freeze();
    let all = to("");
    let asked = servers[0].namespace.count(&all, Duration::from_secs(10));
    let outage = async {
        settle().await;
        broker.stop();
        tokio::time::sleep(SOON).await;
        broker.start();
    };
    assert_eq!(tokio::join!(asked, outage).0.unwrap(), [1]);
}

#[tokio::test(start_paused = true)]
async fn dropped_future_withdraws_request() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    let (name, args) = (text("unknown"), args(1));
    let asked = servers[0].namespace.server_side_emit_with_ack(&name, &args, SOON);
    assert!(tokio::time::timeout(SOON / 2, asked).await.is_err());
    settle().await;
    assert_eq!(servers[0].metric("cluster_requests_pending"), 0);
    assert_eq!(servers[0].metric("cluster_queue_bytes"), 0);
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_are_withdrawn_at_deadline() {
    let broker = Broker::default();
    let asking = Server::start(&broker, Host::with_sockets(&[]));
    let answering = Server::start(&broker, Host::with_sockets(&[("silent", &["all"]), ("quick", &["all"])]));
    asking.join().await;
    answering.join().await;
    let acks = Acks::default();
    let ended = asking.namespace.broadcast_with_ack(&to("all"), &event(1), SOON, &acks).await;
    // All nodes have reported their recipients, so no node is missing.
    assert!(ended.is_ok() || ended.unwrap_err().missing == Some(0));
    assert_eq!(acks.take(), ["\"quick\"", "of 2"]);
    settle().await;
    let sink = answering.host.sinks.lock().unwrap().pop().unwrap();
    assert!(sink.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn requests_of_old_adapters_are_answered() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    broker.publish(
        "socket.io-request#/#",
        r#"{"uid":"old","requestId":"r1","type":2,"sid":"s1","room":"new"}"#,
    );
    broker.publish(
        "socket.io-request#/#",
        r#"{"uid":"old","requestId":"r2","type":4,"sid":"s9","close":true}"#,
    );
    broker.publish("socket.io-request#/#", r#"{"uid":"old","requestId":"r3","type":0,"rooms":["all"]}"#);
    broker.publish("socket.io-request#/#", r#"{"uid":"old","requestId":"r4","type":1}"#);
    broker.take_published();
    settle().await;
    let published = broker.take_published();
    let answers_to = |id: &str| {
        let texts = published.iter().map(|(channel, payload)| {
            assert_eq!(channel, "socket.io-response#/#");
            String::from_utf8(payload.to_vec()).unwrap()
        });
        let id = format!("\"{id}\"");
        let mut answers: Vec<_> = texts.filter(|text| text.contains(&id)).collect();
        answers.sort();
        answers
    };
    // Only a node with the socket answers, but each node answers with its list.
    assert_eq!(answers_to("r1"), [r#"{"requestId":"r1"}"#]);
    assert!(answers_to("r2").is_empty());
    let ids = ["s0", "s1"].map(|id| format!(r#"{{"requestId":"r3","sockets":["{id}"]}}"#));
    assert_eq!(answers_to("r3"), ids);
    assert_eq!(answers_to("r4").len(), 2);
    assert_eq!(servers[1].host.take_log(), ["s1 Join([Room(\"new\")])", "s9 disconnect true"]);
}

#[tokio::test(start_paused = true)]
async fn answers_use_channel_of_asker() {
    let broker = Broker::default();
    let config = || NodeClusterConfig::new().classic(|classic| classic.own_response_channels = true);
    let start = |id| Server::start_with(&broker, Host::with_sockets(&[(id, &[])]), config());
    let servers = [start("s0"), start("s1")];
    settle().await;
    assert_eq!(servers[0].namespace.count(&to("s1"), SOON).await.unwrap(), [1]);
    let published = broker.take_published();
    let answer = published.iter().find(|(channel, _)| channel.starts_with("socket.io-response#/#"));
    assert_eq!(answer.unwrap().0.len(), "socket.io-response#/#".len() + 7);
}

#[tokio::test(start_paused = true)]
async fn handlers_are_limited() {
    let broker = Broker::default();
    let asking = Server::start(&broker, Host::with_sockets(&[]));
    let config = NodeClusterConfig::new().max_handlers(1).handler_timeout(Duration::from_secs(5));
    let answering = Server::start_with(&broker, Host::with_sockets(&[]), config);
    asking.join().await;
    answering.join().await;
    asking.namespace.server_side_emit(&text("later"), &args(1));
    asking.namespace.server_side_emit(&text("later"), &args(2));
    settle().await;
    assert_eq!((answering.metric("cluster_handlers"), answering.metric("cluster_handlers_refused")), (1, 1));
    tokio::time::sleep(Duration::from_secs(4)).await;
    let answers = asking.namespace.server_side_emit_with_ack(&text("later"), &args(3), 10 * SOON).await;
    assert_eq!(answers.unwrap(), [args(3)]);
}

#[tokio::test(start_paused = true)]
async fn large_answers_are_dropped() {
    let broker = Broker::default();
    let asking = Server::start(&broker, Host::with_sockets(&[]));
    let config = NodeClusterConfig::new().max_publication(10_000);
    let answering = Server::start_with(&broker, Host::with_sockets(&[("s1", &["all"])]), config);
    asking.join().await;
    answering.join().await;
    answering.host.data_len.store(20_000, Ordering::Relaxed);
    let error = asking.namespace.fetch(&to("all"), SOON).await.unwrap_err();
    assert_eq!(error.missing, Some(1));
    assert_eq!(answering.metric("cluster_answers_dropped"), 1);
    // A count needs no description.
    assert_eq!(asking.namespace.count(&to("all"), SOON).await.unwrap(), [1]);
}
