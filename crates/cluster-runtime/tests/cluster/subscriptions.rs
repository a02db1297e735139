//! Interest in rooms, reports of loss, and the status.

use std::time::Duration;

use roomcast_core::{Cluster as _, ClusterStatus, Heard, Published, Room};
use roomcast_testkit::cluster::Fault;
use tokio::time::Instant;

use crate::host::Host;
use crate::rig::{Rig, SOON, event, settle, to};

#[tokio::test(start_paused = true)]
async fn rooms_are_heard_in_order_of_calls() {
    let (_rig, servers) = Rig::connected(2).await;
    let (namespace, room) = (&servers[1].namespace, Room::from("a"));
    assert_eq!(namespace.heard(Some(&room)).await, Heard::Left);
    namespace.room_created(&room);
    assert_eq!(namespace.heard(Some(&room)).await, Heard::Confirmed);
    namespace.room_deleted(&room);
    assert_eq!(namespace.heard(Some(&room)).await, Heard::Left);
    namespace.room_created(&room);
    namespace.room_deleted(&room);
    namespace.room_created(&room);
    assert_eq!(namespace.heard(Some(&room)).await, Heard::Confirmed);
    assert_eq!(namespace.heard(None).await, Heard::Confirmed);
    servers[0].namespace.broadcast(&to("a"), &event(1));
    tokio::time::sleep(SOON).await;
    assert_eq!(servers[1].host.take_log(), ["a event 1"]);
}

#[tokio::test(start_paused = true)]
async fn unconfirmed_room_is_degraded() {
    let (mut rig, servers) = Rig::connected(2).await;
    rig.inject(Fault::Deaf { node: 1, on: true });
    let (namespace, room, before) = (&servers[1].namespace, Room::from("a"), Instant::now());
    namespace.room_created(&room);
    assert_eq!(namespace.heard(Some(&room)).await, Heard::Degraded);
    assert_eq!(before.elapsed(), Duration::from_secs(1));
    tokio::time::sleep(SOON).await;
    assert_eq!(servers[1].status(), ClusterStatus::Degraded);
    rig.inject(Fault::Deaf { node: 1, on: false });
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(servers[1].status(), ClusterStatus::Connected);
    // Events until the confirmation were lost.
    assert_eq!(servers[1].host.take_missed(), [Some("a".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn status_follows_first_subscriptions() {
    let mut rig = Rig::new();
    rig.inject(Fault::Down { on: true, forgets: true });
    let server = rig.start(0, Host::with_sockets(&[]));
    tokio::time::sleep(Duration::from_millis(990)).await;
    assert_eq!(server.status(), ClusterStatus::Joining);
    // Others may exist, as far as it knows.
    assert!(!server.namespace.is_alone());
    tokio::time::sleep(SOON).await;
    assert_eq!(server.status(), ClusterStatus::Degraded);
    assert_eq!(server.namespace.heard(None).await, Heard::Degraded);
    rig.inject(Fault::Down { on: false, forgets: true });
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(server.status(), ClusterStatus::Connected);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(server.namespace.is_alone());

    let server = rig.start(1, Host::with_sockets(&[]));
    assert_eq!(server.status(), ClusterStatus::Joining);
    tokio::time::sleep(SOON).await;
    assert_eq!(server.status(), ClusterStatus::Connected);
}

#[tokio::test(start_paused = true)]
async fn losses_are_reported_to_hosts() {
    let (mut rig, servers) = Rig::connected(3).await;
    servers[1].join("a").await;
    servers[0].namespace.broadcast(&to("a"), &event(1));
    tokio::time::sleep(SOON).await;
    // A message that is lost without a successor is noticed by the heartbeats.
    rig.inject(Fault::Loss(1000));
    servers[0].namespace.broadcast(&to("a"), &event(2));
    tokio::time::sleep(SOON).await;
    rig.inject(Fault::Loss(0));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(servers[1].host.take_missed(), [Some("a".to_owned())]);
    assert_eq!(servers[2].host.take_missed(), []);

    // The connection breaks: all rooms are affected.
    rig.inject(Fault::Disconnect { node: 1 });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(servers[1].host.take_missed().contains(&None));
    assert_eq!(servers[0].host.take_missed(), []);
}

#[tokio::test(start_paused = true)]
async fn orderly_join_and_leave_are_no_loss() {
    let (mut rig, servers) = Rig::connected(2).await;
    servers[1].join("a").await;
    for node in 2..6 {
        let new = rig.start(node, Host::with_sockets(&[]));
        new.namespace.broadcast(&to("a"), &event(node));
        tokio::time::sleep(Duration::from_millis(1500)).await;
        new.namespace.broadcast(&to("a"), &event(node));
        new.connection.leave().await;
        tokio::time::sleep(SOON).await;
        assert_eq!(servers[1].host.take_log().len(), 2, "{node}");
        assert_eq!(servers[1].metric("cluster_nodes"), 1);
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    for server in &servers {
        assert_eq!(server.host.take_missed(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn goodbye_without_last_event_is_a_loss() {
    let (mut rig, servers) = Rig::connected(3).await;
    servers[1].join("a").await;
    servers[0].namespace.broadcast(&to("a"), &event(1));
    tokio::time::sleep(SOON).await;
    rig.inject(Fault::Loss(1000));
    servers[0].namespace.broadcast(&to("a"), &event(2));
    assert_eq!(servers[0].namespace.confirming().confirm(Duration::from_secs(1)).await, Ok(()));
    rig.inject(Fault::Loss(0));
    servers[0].connection.leave().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(servers[1].host.take_missed(), [Some("a".to_owned())]);
    assert_eq!(servers[2].host.take_missed(), []);
}

#[tokio::test(start_paused = true)]
async fn events_omitted_by_lone_node_are_a_loss() {
    let mut rig = Rig::new();
    rig.start(2, Host::with_sockets(&[])).connection.leave().await;
    let servers = [rig.start(0, Host::with_sockets(&[]))];
    settle(&servers).await;
    assert!(servers[0].namespace.is_alone());
    // Heartbeats of the second node do not arrive, so the first publishes nothing.
    rig.inject(Fault::Slow { node: 0, delay: Duration::from_millis(400) });
    let second = rig.start(1, Host::with_sockets(&[]));
    second.join("a").await;
    assert_eq!(servers[0].namespace.broadcast(&to("a"), &event(1)), Published::NotNeeded);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!servers[0].namespace.is_alone());
    assert!(second.host.take_missed().contains(&None));
    assert_eq!(servers[0].host.take_missed(), []);
}

#[tokio::test(start_paused = true)]
async fn partition_is_reported_on_both_sides() {
    let (mut rig, servers) = Rig::connected(2).await;
    rig.inject(Fault::Partition(vec![0, 1]));
    tokio::time::sleep(Duration::from_secs(7)).await;
    for server in &servers {
        assert_eq!(server.host.take_missed(), [None], "node left");
        assert!(server.namespace.is_alone());
    }
    rig.inject(Fault::Partition(Vec::new()));
    tokio::time::sleep(Duration::from_secs(3)).await;
    for server in &servers {
        assert!(server.host.take_missed().contains(&None), "node joined");
        assert!(!server.namespace.is_alone());
    }
    let rejoins: u64 = servers.iter().map(|server| server.metric("cluster_rejoins")).sum();
    assert!(rejoins > 0);
    settle(&servers).await;
}
