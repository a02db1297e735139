//! Outages of the engine.

use std::time::Duration;

use roomcast_cluster_node::NodeClusterConfig;
use roomcast_core::{
    ClusterStatus, Event, Heard, IntoArgs as _, Namespace, PublishRefusal, Published, Unconfirmed,
};

use crate::broker::{BUFFER, Broker};
use crate::host::Host;
use crate::rig::{SOON, Server, event, settle, text, to};

#[tokio::test(start_paused = true)]
async fn status_follows_engine() {
    let broker = Broker::default();
    broker.stop();
    let server = Server::start(&broker, Host::with_sockets(&[]));
    settle().await;
    assert_eq!(server.status(), ClusterStatus::Joining);
    // Clients are accepted without the engine after the join timeout.
    assert_eq!(server.namespace.heard(None).await, Heard::Degraded);
    settle().await;
    assert_eq!(server.status(), ClusterStatus::Degraded);
    assert_eq!(server.namespace.heard(None).await, Heard::Degraded);
    // The engine was away from the start; others that wait for it return as well.
    server.namespace.broadcast(&to(""), &event(1));
    broker.start();
    settle().await;
    assert_eq!(server.status(), ClusterStatus::Connected);
    assert_eq!(server.namespace.heard(None).await, Heard::Confirmed);
    assert!(broker.take_published().is_empty());
    tokio::time::sleep(SOON).await;
    assert_eq!(broker.take_published().len(), 1);
    for _ in 0..2 {
        broker.stop();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(server.status(), ClusterStatus::Degraded);
        broker.start();
        settle().await;
        assert_eq!(server.status(), ClusterStatus::Connected);
    }
    assert_eq!(server.metric("cluster_disconnects"), 2);
}

#[tokio::test(start_paused = true)]
async fn outage_is_reported_as_missed() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    assert!(servers[1].host.take_missed().is_empty());
    broker.stop();
    settle().await;
    assert_eq!(servers[1].host.take_missed(), [None]);
    broker.start();
    settle().await;
    assert_eq!(servers[1].host.take_missed(), [None]);
}

#[tokio::test(start_paused = true)]
async fn queue_is_bounded_and_refusals_counted() {
    let broker = Broker::default();
    let config = NodeClusterConfig::new().queue_bytes(100_000);
    let sending = Server::start_with(&broker, Host::with_sockets(&[]), config);
    let hearing = Server::start(&broker, Host::with_sockets(&[("s", &["all"])]));
    sending.join().await;
    hearing.join().await;
    broker.stop();
    let (mut accepted, mut refused) = (Vec::new(), 0);
    for number in 0..2000 {
        match sending.namespace.broadcast(&to("all"), &event(number)) {
            Published::Accepted => accepted.push(format!("all event {number}")),
            other => {
                assert_eq!(other, Published::Refused(PublishRefusal::QueueFull));
                refused += 1;
            }
        }
        if number % 100 == 0 {
            settle().await;
            assert!(sending.metric("cluster_queue_bytes") <= 100_000);
        }
    }
    assert!(accepted.len() > 100 && refused > 100, "{} {refused}", accepted.len());
    assert_eq!(sending.metric("cluster_refused"), refused);
    broker.start();
    settle().await;
    // Other nodes may not have returned yet.
    assert!(hearing.host.take_log().is_empty());
    tokio::time::sleep(SOON).await;
    assert_eq!(hearing.host.take_log(), accepted);
    assert_eq!(sending.metric("cluster_unconfirmed"), 0);
    assert_eq!(sending.metric("cluster_queue_bytes"), 0);
    assert_eq!(sending.namespace.broadcast(&to("all"), &event(0)), Published::Accepted);
}

#[tokio::test(start_paused = true)]
async fn waiting_requests_are_bounded() {
    let broker = Broker::default();
    let config = NodeClusterConfig::new().queue_bytes(1_000_000);
    let server = Server::start_with(&broker, Host::with_sockets(&[]), config);
    server.join().await;
    broker.stop();
    let args = ("x".repeat(100_000),).into_args().unwrap();
    let ask = || server.namespace.server_side_emit_with_ack(&TEXT, &args, SOON);
    let answers = tokio::join!(ask(), ask(), ask(), ask(), ask(), ask(), async {
        settle().await;
        server.metric("cluster_queue_bytes")
    });
    assert!((600_000..700_000).contains(&answers.6));
    for error in [answers.0, answers.1, answers.5] {
        assert_eq!(error.unwrap_err().missing, None);
    }
    settle().await;
    assert_eq!(server.metric("cluster_queue_bytes"), 0);
    let large = ("x".repeat(600_000),).into_args().unwrap();
    let ask = || server.namespace.server_side_emit_with_ack(&TEXT, &large, SOON);
    drop(tokio::join!(ask(), ask()));
    assert_eq!(server.metric("cluster_refused"), 1);
}

static TEXT: roomcast_core::ByteString = roomcast_core::ByteString::from_static("event");

#[tokio::test(start_paused = true)]
async fn lost_publications_are_counted() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    let namespace = &servers[0].namespace;
    namespace.broadcast(&to("all"), &event(0));
    assert_eq!(namespace.confirming().confirm(SOON).await, Ok(()));
    broker.freeze();
    for number in 0..BUFFER + 3 {
        namespace.broadcast(&to("all"), &event(number));
    }
    let confirmed = namespace.confirming().confirm(Duration::from_secs(10));
    let outage = async {
        settle().await;
        broker.stop();
    };
    let (confirmed, ()) = tokio::join!(async { tokio::time::timeout(SOON, confirmed).await }, outage);
    // The rest of the queue is not passed to the engine while it is away.
    assert!(confirmed.is_err());
    broker.start();
    let begin = tokio::time::Instant::now();
    assert_eq!(namespace.confirming().confirm(SOON).await, Ok(()));
    assert!(begin.elapsed() < SOON);
    assert_eq!(servers[0].metric("cluster_unconfirmed"), BUFFER as u64);
    // The first one arrived before.
    assert_eq!(servers[1].host.take_log().len(), 1 + 3);
}

#[tokio::test(start_paused = true)]
async fn confirmation_reports_losses() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    broker.freeze();
    servers[0].namespace.broadcast(&to("all"), &event(1));
    let outage = async {
        settle().await;
        broker.stop();
        broker.start();
    };
    let (confirmed, ()) =
        tokio::join!(servers[0].namespace.confirming().confirm(Duration::from_secs(10)), outage);
    assert_eq!(confirmed, Err(Unconfirmed::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn blocked_engine_degrades_status() {
    let broker = Broker::default();
    let servers = Server::connected(&broker, 2).await;
    broker.freeze();
    for number in 0..2 * BUFFER {
        servers[0].namespace.broadcast(&to("all"), &event(number));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(servers[0].status(), ClusterStatus::Degraded);
    broker.thaw();
    settle().await;
    assert_eq!(servers[0].status(), ClusterStatus::Connected);
    assert_eq!(servers[1].host.take_log().len(), 2 * BUFFER);
    assert_eq!(servers[0].metric("cluster_unconfirmed"), 0);
}

#[tokio::test(start_paused = true)]
async fn refused_subscription_is_requested_again() {
    let broker = Broker::default();
    broker.refuse_subscriptions(2);
    let server = Server::start(&broker, Host::with_sockets(&[]));
    assert_eq!(server.namespace.heard(None).await, Heard::Degraded);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(server.status(), ClusterStatus::Degraded);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.namespace.heard(None).await, Heard::Confirmed);
    assert_eq!((server.status(), server.metric("cluster_subscribe_retries")), (ClusterStatus::Connected, 2));
}

#[tokio::test(start_paused = true)]
async fn publishing_takes_no_time() {
    let broker = Broker::default();
    let server = Server::start(&broker, Host::with_sockets(&[]));
    server.join().await;
    broker.freeze();
    let begin = tokio::time::Instant::now();
    let event = Event::new(Namespace::main(), "large", ("x".repeat(10_000),).into_args().unwrap());
    for _ in 0..5000 {
        server.namespace.broadcast(&to(""), &event);
        server.namespace.server_side_emit(&text("told"), &event.args);
    }
    // Time passes only while all tasks wait.
    assert!(begin.elapsed().is_zero());
    assert!(server.metric("cluster_refused") > 0);
}
