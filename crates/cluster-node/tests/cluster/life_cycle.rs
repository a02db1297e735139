//! Namespaces and nodes that come and go.

use std::time::Duration;

use roomcast_cluster_node::NodeClusterConfig;
use roomcast_core::{Cluster as _, ClusterStatus, Event, Heard, Namespace, PublishRefusal, Published};

use crate::broker::Broker;
use crate::host::Host;
use crate::rig::{SOON, Server, args, event, open, settle, to};

const REQUESTS: &str = "socket.io-request#/#";

#[tokio::test(start_paused = true)]
async fn counted_channels_are_subscribed_once() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    let host = Host::with_sockets(&[]);
    let chat: Vec<_> = (0..3).map(|index| open(&servers[0].cluster, &format!("/n{index}"), &host)).collect();
    settle().await;
    let counts =
        || ["", "n0", "n1", "n2"].map(|name| broker.subscribers(&format!("socket.io-request#/{name}#")));
    assert_eq!((counts(), broker.patterns()), ([2, 1, 1, 1], 5));
    // The broker refuses a second subscription of a connection.
    for _ in 0..3 {
        broker.stop();
        settle().await;
        broker.start();
        settle().await;
        assert_eq!((counts(), broker.patterns()), ([2, 1, 1, 1], 5));
    }
    chat[1].close();
    settle().await;
    assert_eq!((counts(), broker.patterns()), ([2, 1, 0, 1], 4));
    assert_eq!(chat[1].heard(None).await, Heard::Left);
    assert_eq!(servers[0].metric("cluster_namespaces"), 3);
}

#[tokio::test(start_paused = true)]
async fn namespace_opens_again() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    let hosts = [Host::with_sockets(&[]), Host::with_sockets(&[])];
    let first = open(&servers[0].cluster, "/n", &hosts[0]);
    assert_eq!(first.heard(None).await, Heard::Confirmed);
    let other = open(&servers[1].cluster, "/n", &Host::with_sockets(&[("s", &[])]));
    assert_eq!(other.heard(None).await, Heard::Confirmed);
    first.close();
    let second = open(&servers[0].cluster, "/n", &hosts[1]);
    assert_eq!(second.heard(None).await, Heard::Confirmed);
    assert_eq!(broker.subscribers("socket.io-request#/n#"), 2);
    other.broadcast(&to(""), &Event::new(Namespace::new("/n"), "event", args(1)));
    assert_eq!(second.count(&to(""), SOON).await.unwrap(), [0]);
    settle().await;
    assert_eq!((hosts[0].take_log().len(), hosts[1].take_log()), (0, vec![" event 1".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn closed_namespace_ends_its_requests() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    broker.freeze();
    let all = to("");
    let asked = servers[0].namespace.fetch(&all, Duration::from_secs(60));
    let closed = async {
        settle().await;
        servers[0].namespace.close();
    };
    let begin = tokio::time::Instant::now();
    assert_eq!(tokio::join!(asked, closed).0.unwrap_err().missing, None);
    assert!(begin.elapsed() < SOON);
    // While it is still subscribed, it answers others.
    assert_eq!(broker.subscribers(REQUESTS), 2);
    broker.publish(REQUESTS, r#"{"uid":"other","requestId":"r","type":5,"opts":{"rooms":[],"except":[]}}"#);
    settle().await;
    broker.thaw();
    settle().await;
    let answers = broker.take_published();
    let empty = answers.iter().filter(|(_, payload)| &payload[..] == br#"{"requestId":"r","sockets":[]}"#);
    assert_eq!((empty.count(), broker.subscribers(REQUESTS)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn leaving_node_publishes_its_queue() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    broker.freeze();
    for number in 0..100 {
        servers[0].namespace.broadcast(&to("all"), &event(number));
    }
    let left = servers[0].cluster.leave();
    let thawed = async {
        tokio::time::sleep(SOON).await;
        assert_ne!(servers[0].status(), ClusterStatus::Left);
        broker.thaw();
    };
    tokio::join!(left, thawed);
    assert_eq!(servers[0].status(), ClusterStatus::Left);
    assert_eq!(broker.subscribers(REQUESTS), 1);
    settle().await;
    assert_eq!(servers[1].host.take_log().len(), 100);
    let refused = servers[0].namespace.broadcast(&to(""), &event(0));
    assert_eq!(refused, Published::Refused(PublishRefusal::Left));
    assert_eq!(servers[0].namespace.fetch(&to(""), SOON).await.unwrap_err().missing, None);
    assert_eq!(servers[0].namespace.heard(None).await, Heard::Left);
    assert!(servers[0].namespace.confirming().confirm(SOON).await.is_err());
    // The others do not wait for it.
    assert!(servers[1].namespace.fetch(&to(""), SOON).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn dropped_cluster_ends_without_engine() {
    let broker = Broker::default();
    let config = NodeClusterConfig::new().leave_timeout(Duration::from_secs(2));
    let server = Server::start_with(&broker, Host::with_sockets(&[]), config);
    server.join().await;
    broker.stop();
    for number in 0..7 {
        server.namespace.broadcast(&to("all"), &event(number));
    }
    let Server { cluster, namespace, .. } = server;
    drop(cluster);
    tokio::time::sleep(Duration::from_millis(1900)).await;
    assert_eq!(broker.connections(), 1);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(broker.connections(), 0);
    assert_eq!(namespace.heard(None).await, Heard::Left);
}

#[tokio::test(start_paused = true)]
async fn leaving_without_engine_waits_for_it() {
    let broker = Broker::default();
    let server = Server::start(&broker, Host::with_sockets(&[]));
    server.join().await;
    broker.stop();
    // Nothing is to be published, and no subscription is left.
    server.cluster.leave().await;
    assert_eq!(server.status(), ClusterStatus::Left);
}
