//! Publications, and their way to the hosts.

use std::sync::Arc;

use roomcast_cluster_node::NodeClusterConfig;
use roomcast_core::{
    Delivery, Event, IntoArgs as _, Membership, Namespace, Overflow, PublishRefusal, Published, Target,
};

use crate::broker::Broker;
use crate::host::Host;
use crate::rig::{Server, args, event, open, settle, text, to};

#[tokio::test(start_paused = true)]
async fn publications_reach_other_nodes() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 3).await;
    let namespace = &servers[0].namespace;
    assert!(!namespace.is_alone());
    assert_eq!(namespace.broadcast(&to(""), &event(1)), Published::Accepted);
    namespace.broadcast(&to("all"), &event(2));
    let several = Target {
        rooms: vec!["all".into(), "7".into()],
        except: vec!["s2".into()],
        delivery: Delivery::Volatile,
        overflow: Overflow::KeepLatest,
        ..Target::default()
    };
    let mut keyed = event(3);
    (keyed.key, keyed.compress) = (Some("key".into()), false);
    namespace.broadcast(&several, &keyed);
    namespace.update(&to("all"), &Membership::Join(vec!["new".into()]));
    namespace.disconnect(&to("all"), true);
    namespace.server_side_emit(&text("told"), &args(4));
    settle().await;
    let expected = [
        " event 1",
        "all event 2",
        "all+7 event 3",
        "all Join([Room(\"new\")])",
        "all disconnect true",
        "told 4",
    ];
    for server in &servers[1..] {
        assert_eq!(server.host.take_log(), expected);
    }
    // A node does not deliver its own publications.
    assert!(servers[0].host.take_log().is_empty());
    assert_eq!((servers[0].metric("cluster_messages_out"), servers[1].metric("cluster_messages_in")), (6, 6));
}

#[tokio::test(start_paused = true)]
async fn rooms_of_socket_ids_are_routed() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 3).await;
    servers[0].namespace.broadcast(&to("s1"), &event(1));
    servers[0].namespace.broadcast(&to("nobody"), &event(2));
    settle().await;
    assert_eq!(servers[1].host.take_log(), ["s1 event 1"]);
    assert!(servers[2].host.take_log().is_empty());
    assert_eq!((servers[1].metric("cluster_unwanted"), servers[2].metric("cluster_unwanted")), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn namespaces_are_not_confused() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    let names = ["/a", "/a#b", "/ab", "/a*", "/a*?[b]\\^"];
    let mut opened = Vec::new();
    for server in &servers {
        let hosts: Vec<_> = names.iter().map(|_| Host::with_sockets(&[("s", &["b", "#"])])).collect();
        let namespaces: Vec<_> =
            names.iter().zip(&hosts).map(|(name, host)| open(&server.cluster, name, host)).collect();
        opened.push((namespaces, hosts));
    }
    settle().await;
    for (index, name) in names.iter().enumerate() {
        let event = Event::new(Namespace::new(*name), "event", args(index));
        for room in ["", "b", "#"] {
            opened[0].0[index].broadcast(&to(room), &event);
        }
    }
    settle().await;
    for (index, host) in opened[1].1.iter().enumerate() {
        let expected = ["", "b", "#"].map(|room| format!("{room} event {index}"));
        assert_eq!(host.take_log(), expected, "{}", names[index]);
    }
    assert!(servers[1].host.take_log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn harmful_events_are_refused() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    let namespace = &servers[0].namespace;
    let refused = Published::Refused(PublishRefusal::Unsupported);
    let reserved = Event::new(Namespace::main(), "disconnecting", args(1));
    assert_eq!(namespace.broadcast(&to(""), &reserved), refused);
    assert_eq!(namespace.server_side_emit(&text("error"), &args(1)), refused);
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let deep = roomcast_core::Args::from_json(deep.into(), Vec::new()).unwrap();
    assert_eq!(namespace.broadcast(&to(""), &Event::new(Namespace::main(), "deep", deep)), refused);
    settle().await;
    assert!(broker.take_published().is_empty());
    assert_eq!(servers[0].metric("cluster_refused"), 3);
}

#[tokio::test(start_paused = true)]
async fn unreadable_messages_are_counted() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    for channel in ["socket.io#/#", "socket.io#/#all#", "socket.io-request#/#", "socket.io-response#/#"] {
        for payload in [&b""[..], b"{", b"\x93", b"nonsense", b"{\"type\":5,\"requestId\":\"x\"}"] {
            broker.publish(channel, payload.to_vec());
        }
    }
    broker.take_published();
    servers[0].namespace.broadcast(&to(""), &event(1));
    settle().await;
    assert_eq!(servers[1].host.take_log(), [" event 1"]);
    assert_eq!(servers[1].metric("cluster_unreadable"), 19);
    // The last message of the response channel is an answer to another node, and none is answered.
    assert_eq!(broker.take_published().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn panic_affects_one_event() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    servers[0].namespace.broadcast(&to(""), &Event::new(Namespace::main(), "panic", args(0)));
    servers[0].namespace.broadcast(&to(""), &event(1));
    settle().await;
    assert_eq!(servers[1].host.take_log(), [" event 1"]);
    assert_eq!(servers[1].metric("cluster_host_panics"), 1);
}

#[tokio::test(start_paused = true)]
async fn prefixes_separate_clusters() {
    let broker = Broker::default();
    let host = || Host::with_sockets(&[("s", &["all"])]);
    let start = |prefix: &str| Server::start_with(&broker, host(), NodeClusterConfig::new().prefix(prefix));
    let servers = [start("chat"), start("chat"), start("chat2"), start("ch*")];
    settle().await;
    servers[0].namespace.broadcast(&to("all"), &event(1));
    settle().await;
    assert_eq!(servers[1].host.take_log(), ["all event 1"]);
    assert!(servers[2..].iter().all(|server| server.host.take_log().is_empty()));
}

#[tokio::test(start_paused = true)]
async fn large_publications_are_refused() {
    let broker = Broker::default();
    let config = NodeClusterConfig::new().max_publication(1000);
    let server = Server::start_with(&broker, Arc::default(), config);
    let large = Event::new(Namespace::main(), "e", ("x".repeat(1000),).into_args().unwrap());
    let refused = server.namespace.broadcast(&to(""), &large);
    assert_eq!(refused, Published::Refused(PublishRefusal::TooLarge));
    assert_eq!(server.namespace.broadcast(&to(""), &event(1)), Published::Accepted);
}
