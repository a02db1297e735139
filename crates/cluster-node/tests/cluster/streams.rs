//! Nodes with the streams adapter: order, offsets and the log of events.

use std::time::Duration;

use roomcast_cluster_node::NodeClusterConfig;
use roomcast_core::{
    ClusterStatus, Delivery, Event, EventLogError, IntoArgs as _, LogQuery, Membership, Namespace,
    PublishRefusal, Published, Room, Target,
};

use crate::broker::Broker;
use crate::host::Host;
use crate::rig::{SOON, Server, event, open, settle, to};
use crate::stream_log::MemoryStream;

/// Emits numbered events to all.
fn emit(server: &Server, numbers: impl IntoIterator<Item = usize>) {
    for number in numbers {
        assert_eq!(server.namespace.broadcast(&to("all"), &event(number)), Published::Accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn all_nodes_deliver_in_stream_order() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 3).await;
    assert!(servers[0].namespace.orders_events());
    emit(&servers[0], [1]);
    assert!(servers[0].host.take_log().is_empty(), "not at the call");
    emit(&servers[1], [2]);
    emit(&servers[0], [3]);
    settle().await;
    let logs: Vec<_> = servers.iter().map(|server| server.host.take_log()).collect();
    assert_eq!(logs[0].len(), 3);
    assert!(logs[0].iter().all(|line| line.starts_with("all event ") && line.contains(" @")), "{logs:?}");
    assert_eq!((&logs[1], &logs[2]), (&logs[0], &logs[0]));
    let offsets = stream.entries().iter().map(|entry| format!("@{}", entry.id)).collect::<Vec<_>>();
    assert!(logs[0].iter().zip(&offsets).all(|(line, offset)| line.ends_with(offset.as_str())));
    assert!(broker.take_published().is_empty());
    for server in &servers {
        assert_eq!((server.metric("cluster_queue_bytes"), server.status()), (0, ClusterStatus::Connected));
    }
}

#[tokio::test(start_paused = true)]
async fn own_reader_decides_when_events_are_delivered() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 2).await;
    stream.freeze_reader(0, true);
    emit(&servers[0], [1]);
    assert_eq!(servers[0].namespace.confirming().confirm(SOON).await, Ok(()), "stored");
    assert_eq!((servers[0].host.take_log().len(), servers[1].host.take_log().len()), (0, 1));
    assert!(servers[0].metric("cluster_queue_bytes") > 0, "events in memory are counted");
    stream.freeze_reader(0, false);
    settle().await;
    assert_eq!((servers[0].host.take_log().len(), servers[0].metric("cluster_queue_bytes")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn other_operations_act_on_other_nodes_only() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 2).await;
    let namespace = &servers[0].namespace;
    let volatile = Target { delivery: Delivery::Volatile, ..to("all") };
    namespace.broadcast(&volatile, &event(1));
    namespace.update(&to("all"), &Membership::Join(vec![Room::from("new")]));
    namespace.disconnect(&to("s1"), true);
    settle().await;
    assert!(servers[0].host.take_log().is_empty(), "the server has acted");
    let expected = ["all event 1", "all Join([Room(\"new\")])", "s1 disconnect true"];
    assert_eq!(servers[1].host.take_log(), expected);
    assert_eq!(servers[0].metric("cluster_stream_delivered_before"), 0);
    // Requests use pub/sub.
    assert_eq!(namespace.count(&to("all"), SOON).await.ok(), Some(vec![1]));
    assert_eq!(stream.entries().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn namespaces_share_the_stream() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 2).await;
    let hosts = [Host::with_sockets(&[("x0", &[])]), Host::with_sockets(&[("x1", &[])])];
    let other: Vec<_> =
        servers.iter().zip(&hosts).map(|(server, host)| open(&server.cluster, "/other", host)).collect();
    settle().await;
    let other_event = Event::new(Namespace::new("/other"), "event", (9_u64,).into_args().unwrap());
    other[0].broadcast(&to(""), &other_event);
    emit(&servers[0], [1]);
    settle().await;
    for (server, host) in servers.iter().zip(&hosts) {
        assert_eq!((server.host.take_log().len(), host.take_log().len()), (1, 1));
    }
    other[0].close();
    settle().await;
    other[1].broadcast(&to(""), &other_event);
    settle().await;
    assert_eq!((hosts[0].take_log().len(), hosts[1].take_log().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn log_returns_missed_events() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 2).await;
    let logs: Vec<_> = servers.iter().map(|server| server.namespace.event_log().expect("a log")).collect();
    // Also of an empty stream.
    let begin = logs[1].latest().await.expect("a latest entry");
    let volatile = Target { delivery: Delivery::Volatile, ..to("all") };
    servers[0].namespace.broadcast(&volatile, &event(0));
    let except = Target { except: vec![Room::from("s1")], ..to("all") };
    servers[0].namespace.broadcast(&except, &event(1));
    servers[0].namespace.broadcast(&to("elsewhere"), &event(2));
    servers[0].namespace.broadcast(&to(""), &event(3));
    emit(&servers[1], 4..500);
    settle().await;
    let rooms = [Room::from("s1"), Room::from("all")];
    let query = |after| LogQuery { after, rooms: &rooms, max_bytes: 1 << 20 };
    let missed = logs[0].missed(&query(&begin)).await.expect("missed events");
    let numbers: Vec<_> = missed.events.iter().map(|event| event.args.json().to_string()).collect();
    assert_eq!(numbers, (3..500).map(|number| number.to_string()).collect::<Vec<_>>());
    let last = stream.entries().last().expect("entries").id.to_string();
    assert_eq!((&*missed.until, logs[0].latest().await.as_deref()), (&*last, Ok(&*last)));
    assert_eq!(missed.events.last().and_then(|event| event.offset.as_deref()), Some(&*last));
    assert_eq!(logs[0].position().as_deref(), Some(&*last));
    assert_eq!(logs[0].reached(&last).await, Ok(()));
    let none = logs[0].missed(&query(&last)).await.expect("no missed events");
    assert!(none.events.is_empty());
    let small = LogQuery { max_bytes: 1000, ..query(&begin) };
    assert_eq!(logs[0].missed(&small).await.map(|_| ()), Err(EventLogError::TooLarge));
    assert_eq!(logs[0].missed(&query("5-")).await.map(|_| ()), Err(EventLogError::InvalidOffset));
    assert_eq!(logs[0].missed(&query("5-5")).await.map(|_| ()), Err(EventLogError::Trimmed));
    stream.trim(10);
    assert_eq!(logs[0].missed(&query(&begin)).await.map(|_| ()), Err(EventLogError::Trimmed));
}

#[tokio::test(start_paused = true)]
async fn position_is_reached_after_deliveries() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 2).await;
    let log = servers[1].namespace.event_log().expect("a log");
    stream.freeze_reader(1, true);
    emit(&servers[0], [1]);
    settle().await;
    let latest = log.latest().await.expect("a latest entry");
    let early = tokio::time::timeout(SOON, log.reached(&latest)).await;
    assert!(early.is_err(), "not read yet");
    let reached = log.reached(&latest);
    stream.freeze_reader(1, false);
    assert_eq!(reached.await, Ok(()));
    assert_eq!(servers[1].host.take_log().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn leaving_node_stores_its_entries() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 2).await;
    emit(&servers[0], 0..50);
    roomcast_core::Cluster::leave(&servers[0].cluster).await;
    settle().await;
    assert_eq!(servers[1].host.take_log().len(), 50);
    assert_eq!(
        servers[0].metric("cluster_stream_delivered_before"),
        0,
        "clients that left recover elsewhere"
    );
    let refused = servers[0].namespace.broadcast(&to("all"), &event(1));
    assert_eq!(refused, Published::Refused(PublishRefusal::Left));
    let log = servers[0].namespace.event_log().expect("a log");
    assert!(matches!(log.latest().await, Err(EventLogError::Unavailable(_))));
}

#[tokio::test(start_paused = true)]
async fn smaller_limit_of_others_is_noticed() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let config = NodeClusterConfig::new().streams(|streams| streams.max_len = 300);
    let host = Host::with_sockets(&[]);
    let server = Server::start_streams_with(&broker, &stream, host, config);
    server.join().await;
    settle().await;
    emit(&server, 0..200);
    settle().await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(server.metric("cluster_stream_smallest_max_len"), 0);
    emit(&server, 0..200);
    settle().await;
    stream.trim(40);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(server.metric("cluster_stream_smallest_max_len"), 40);
    assert_eq!(server.metric("cluster_stream_entries"), 40);
}
