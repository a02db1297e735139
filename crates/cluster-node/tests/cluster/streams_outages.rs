//! Nodes with the streams adapter, and outages of the stream.

use std::time::Duration;

use roomcast_cluster_node::NodeClusterConfig;
use roomcast_core::{
    ClusterStatus, EventLogError, Heard, LogQuery, PublishRefusal, Published, Room, Unconfirmed,
};

use crate::broker::Broker;
use crate::host::Host;
use crate::rig::{SOON, Server, event, settle, to};
use crate::stream_log::MemoryStream;

fn emit(server: &Server, numbers: impl IntoIterator<Item = usize>) {
    for number in numbers {
        assert_eq!(server.namespace.broadcast(&to("all"), &event(number)), Published::Accepted);
    }
}

/// Returns the numbers of the delivered events, with `@` if they have an offset, or `~` if it is provisional.
fn delivered(server: &Server) -> String {
    let log = server.host.take_log();
    let shown = log.iter().map(|line| {
        let number = line.split(' ').nth(2).expect("an event");
        match line.split_once('@') {
            Some((_, offset)) if offset.contains('/') => format!("{number}~"),
            Some(_) => format!("{number}@"),
            None => number.to_owned(),
        }
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[tokio::test(start_paused = true)]
async fn local_delivery_continues_without_stream() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 2).await;
    let log = servers[0].namespace.event_log().expect("a log");
    let begin = log.latest().await.expect("a latest entry");
    emit(&servers[0], [1]);
    settle().await;
    stream.stop();
    emit(&servers[0], [2]);
    settle().await;
    assert_eq!((delivered(&servers[0]), delivered(&servers[1])), ("1@".into(), "1@".into()));
    tokio::time::sleep(Duration::from_millis(260)).await;
    assert_eq!((delivered(&servers[0]), servers[0].status()), ("2~".into(), ClusterStatus::Degraded));
    emit(&servers[0], [3]);
    settle().await;
    assert_eq!(delivered(&servers[0]), "3~");
    assert!(matches!(log.reached("9999-0").await, Err(EventLogError::Unavailable(_))));
    assert!(matches!(log.latest().await, Err(EventLogError::Unavailable(_))));
    stream.start();
    settle().await;
    emit(&servers[0], [4]);
    settle().await;
    assert_eq!(servers[0].status(), ClusterStatus::Connected);
    assert_eq!((delivered(&servers[0]), delivered(&servers[1])), ("4@".into(), "2@ 3@ 4@".into()));
    assert_eq!(servers[0].metric("cluster_stream_delivered_before"), 2);
    let missed = missed(&servers[1], &begin).await.expect("events");
    assert_eq!(missed, "1 2 3 4", "of a client that was away during the outage");
    assert!(servers.iter().all(|server| server.host.take_missed().is_empty()), "nothing is lost");
}

/// Returns the numbers of the events that a client with an offset has missed, when it returns to a server.
async fn missed(server: &Server, offset: &str) -> Result<String, EventLogError> {
    let log = server.namespace.event_log().expect("a log");
    let query = LogQuery { after: offset, rooms: &[Room::from("all")], max_bytes: 9999 };
    let missed = log.missed(&query).await?;
    let numbers: Vec<_> = missed.events.iter().map(|event| event.args.json().to_string()).collect();
    Ok(numbers.join(" "))
}

#[tokio::test(start_paused = true)]
async fn events_of_outage_are_missed_only_by_absent_clients() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 2).await;
    emit(&servers[0], [1]);
    settle().await;
    let offset = |line: &String| line.split_once('@').expect("an offset").1.to_owned();
    let absent = offset(&servers[0].host.take_log()[0]);
    // The second is stored, and not read. The others wait.
    stream.freeze_reader(0, true);
    emit(&servers[0], [2]);
    settle().await;
    stream.stop();
    tokio::time::sleep(Duration::from_millis(260)).await;
    emit(&servers[0], [3, 4]);
    settle().await;
    let offsets: Vec<_> = servers[0].host.take_log().iter().map(offset).collect();
    let log = servers[0].namespace.event_log().expect("a log");
    assert_eq!(offsets.len(), 3);
    assert!(offsets.iter().all(|offset| log.is_provisional(offset)) && !log.is_provisional(&absent));
    assert!(log.settled().await.is_err());

    // Other servers return before this one.
    stream.start();
    settle().await;
    let last = offsets.last().expect("an offset");
    assert_eq!(missed(&servers[1], last).await.as_deref(), Ok(""));
    let (id, number) = last.rsplit_once('/').expect("a number");
    let later = format!("{id}/{}", number.parse::<u64>().expect("a number") + 1);
    let early = missed(&servers[1], &later).await;
    assert!(matches!(early, Err(EventLogError::Unavailable(_))), "it would be doubled once it is stored");
    assert!(log.settled().await.is_err(), "a client of this server would lose one");
    stream.freeze_reader(0, false);
    settle().await;
    emit(&servers[1], [5]);
    settle().await;
    assert_eq!(log.settled().await, Ok(()));
    for server in &servers {
        assert_eq!(missed(server, &absent).await.as_deref(), Ok("2 3 4 5"));
        for (offset, expected) in offsets.iter().zip(["3 4 5", "4 5", "5"]) {
            assert_eq!(missed(server, offset).await.as_deref(), Ok(expected));
        }
    }
    let last = offset(&servers[0].host.take_log()[0]);
    assert!(!log.is_provisional(&last));
    assert_eq!(missed(&servers[1], &last).await.as_deref(), Ok(""));
}

#[tokio::test(start_paused = true)]
async fn replayed_event_before_received_ones_has_provisional_offset() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 2).await;
    emit(&servers[0], [1]);
    settle().await;
    stream.freeze_reader(0, true);
    stream.lose_answers(1);
    emit(&servers[0], [2]);
    settle().await;
    stream.stop();
    tokio::time::sleep(Duration::from_millis(260)).await;
    emit(&servers[0], [3]);
    settle().await;
    let received = servers[0].host.take_log().pop().expect("an event");
    let (_, received) = received.split_once('@').expect("an offset");
    // The first server writes its event once it has read the one without an answer.
    stream.start();
    settle().await;
    emit(&servers[1], [4]);
    settle().await;
    stream.freeze_reader(0, false);
    settle().await;
    emit(&servers[1], [5]);
    settle().await;

    let log = servers[1].namespace.event_log().expect("a log");
    let query = LogQuery { after: received, rooms: &[Room::from("all")], max_bytes: 9999 };
    let replayed = log.missed(&query).await.expect("events").events;
    let offsets: Vec<_> = replayed.iter().map(|event| event.offset.as_deref().expect("an offset")).collect();
    assert_eq!(offsets.iter().map(|offset| log.is_provisional(offset)).collect::<Vec<_>>(), [true, false]);
    for (offset, expected) in offsets.into_iter().zip(["5", ""]) {
        for server in &servers {
            assert_eq!(missed(server, offset).await.as_deref(), Ok(expected));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn joins_wait_for_position_in_stream() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    stream.stop();
    let server = Server::start_streams(&broker, &stream, Host::with_sockets(&[]));
    assert_eq!(server.namespace.heard(None).await, Heard::Degraded);
    let server = Server::start_streams(&broker, &stream, Host::with_sockets(&[]));
    let heard = server.namespace.heard(None);
    tokio::time::sleep(Duration::from_millis(500)).await;
    stream.start();
    assert_eq!(heard.await, Heard::Confirmed);
}

#[tokio::test(start_paused = true)]
async fn short_interruption_keeps_order_and_offsets() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 2).await;
    emit(&servers[0], [1]);
    settle().await;
    stream.stop();
    emit(&servers[0], [2, 3]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    stream.start();
    emit(&servers[0], [4]);
    settle().await;
    for server in &servers {
        assert_eq!(delivered(server), "1@ 2@ 3@ 4@");
    }
}

#[tokio::test(start_paused = true)]
async fn entry_without_answer_is_stored_once() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 2).await;
    for round in 0..20 {
        stream.lose_answers(1 + round % 3);
        emit(&servers[0], round * 10..round * 10 + 10);
        assert_eq!(servers[0].namespace.confirming().confirm(SOON).await, Ok(()));
    }
    settle().await;
    let expected: Vec<_> = (0..200).map(|number| format!("{number}@")).collect();
    for server in &servers {
        assert_eq!(delivered(server), expected.join(" "));
    }
    assert_eq!(stream.entries().len(), 200);
    assert_eq!(servers[0].metric("cluster_stream_repeated"), 0);
    assert!(servers[0].metric("cluster_stream_found") >= 20);
}

#[tokio::test(start_paused = true)]
async fn entries_of_dead_server_are_appended_again() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 2).await;
    stream.freeze();
    emit(&servers[0], [1, 2, 3]);
    settle().await;
    stream.stop();
    stream.start();
    settle().await;
    for server in &servers {
        assert_eq!(delivered(server), "1@ 2@ 3@");
    }
    assert_eq!(servers[0].metric("cluster_stream_repeated"), 3);
    assert_eq!(servers[0].metric("cluster_unconfirmed"), 0);
}

#[tokio::test(start_paused = true)]
async fn frozen_stream_delays_own_events_for_limited_time() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 1).await;
    stream.freeze();
    emit(&servers[0], [1]);
    tokio::time::sleep(Duration::from_millis(4900)).await;
    assert_eq!(delivered(&servers[0]), "");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(delivered(&servers[0]), "1~");
    stream.stop();
    stream.start();
    settle().await;
    assert_eq!(delivered(&servers[0]), "");
    assert_eq!(servers[0].metric("cluster_stream_delivered_before"), 1);
}

#[tokio::test(start_paused = true)]
async fn refused_entry_reaches_own_clients_only() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 2).await;
    stream.refuse(1);
    let confirming = servers[0].namespace.confirming();
    emit(&servers[0], [1, 2]);
    let reason = "OOM".into();
    assert_eq!(confirming.confirm(SOON).await, Err(Unconfirmed::RefusedByEngine { reason }));
    settle().await;
    assert_eq!((delivered(&servers[0]), delivered(&servers[1])), ("1 2@".into(), "2@".into()));
    assert_eq!(servers[0].metric("cluster_stream_refused"), 1);
    emit(&servers[0], [3]);
    assert_eq!(servers[0].namespace.confirming().confirm(SOON).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn refusal_before_question_is_reported() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 2).await;
    let confirming = || servers[0].namespace.confirming();
    let oldest = confirming();
    stream.refuse(1);
    let (first, abandoned) = (confirming(), confirming());
    emit(&servers[0], [1]);
    settle().await;
    assert_eq!(servers[0].metric("cluster_stream_refused"), 1);
    let second = confirming();
    emit(&servers[0], [2]);
    settle().await;
    let refused = || Err(Unconfirmed::RefusedByEngine { reason: "OOM".into() });
    assert_eq!(second.confirm(SOON).await, Ok(()), "it began after the refusal");
    assert_eq!(first.confirm(SOON).await, refused());
    drop(abandoned);
    assert_eq!(oldest.confirm(SOON).await, refused());
    assert_eq!(confirming().confirm(SOON).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn queue_is_bounded_during_outage() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let host = Host::with_sockets(&[("s", &["all"])]);
    let config = NodeClusterConfig::new().queue_bytes(100_000);
    let server = Server::start_streams_with(&broker, &stream, host, config);
    server.join().await;
    settle().await;
    stream.stop();
    let mut accepted = 0;
    while server.namespace.broadcast(&to("all"), &event(accepted)) == Published::Accepted {
        accepted += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(accepted < 1000, "unbounded queue");
    }
    let refused = server.namespace.broadcast(&to("all"), &event(0));
    assert_eq!(refused, Published::Refused(PublishRefusal::QueueFull));
    assert_eq!(server.host.take_log().len(), accepted, "the server delivers refused events");
    assert!(server.metric("cluster_queue_bytes") <= 100_000);
    stream.start();
    settle().await;
    assert_eq!((stream.entries().len(), server.metric("cluster_queue_bytes")), (accepted, 0));
    assert!(server.host.take_log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn gaps_are_reported_to_all_namespaces() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 2).await;
    emit(&servers[0], [1]);
    settle().await;
    // Trimmed before the reader of one node has read it.
    stream.freeze_reader(1, true);
    settle().await;
    emit(&servers[0], [2, 3, 4]);
    settle().await;
    stream.trim(1);
    stream.freeze_reader(1, false);
    settle().await;
    assert_eq!((servers[0].host.take_missed().len(), servers[1].host.take_missed()), (0, vec![None]));
    assert_eq!(servers[1].metric("cluster_stream_gaps"), 1);
    // The stream is replaced.
    stream.stop();
    stream.trim(0);
    stream.start();
    settle().await;
    for server in &servers {
        assert_eq!(server.host.take_missed(), [None]);
        delivered(server);
    }
    emit(&servers[0], [5]);
    settle().await;
    assert_eq!((delivered(&servers[0]), delivered(&servers[1])), ("5@".into(), "5@".into()));
}

#[tokio::test(start_paused = true)]
async fn stream_that_lost_its_end_repeats_nothing() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 2).await;
    emit(&servers[0], 0..5);
    settle().await;
    stream.stop();
    stream.truncate(4);
    stream.start();
    settle().await;
    emit(&servers[0], [5]);
    settle().await;
    for server in &servers {
        assert_eq!(server.host.take_missed(), [None]);
        assert_eq!(delivered(server), "0@ 1@ 2@ 3@ 4@ 5@");
    }
}

#[tokio::test(start_paused = true)]
async fn pub_sub_outage_loses_no_events() {
    let (broker, stream) = (Broker::default(), MemoryStream::default());
    let servers = Server::connected_by_stream(&broker, &stream, 2).await;
    broker.stop();
    emit(&servers[0], [1]);
    settle().await;
    broker.start();
    emit(&servers[0], [2]);
    settle().await;
    for server in &servers {
        assert_eq!((delivered(server), server.host.take_missed()), ("1@ 2@".into(), vec![]));
    }
}
