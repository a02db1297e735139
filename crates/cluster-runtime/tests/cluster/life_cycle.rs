//! Start and end of connections.

use std::time::Duration;

use roomcast_core::{Cluster as _, ClusterStatus, Heard, PublishRefusal, Published, Room};
use roomcast_testkit::cluster::Fault;
use tokio::time::{Instant, timeout};

use crate::rig::{Rig, SOON, args, event, name, text, to};

#[tokio::test(start_paused = true)]
async fn goodbye_follows_queued_publications() {
    let (_rig, servers) = Rig::connected(2).await;
    for number in 0..1000 {
        servers[0].namespace.broadcast(&to(""), &event(number));
    }
    servers[0].connection.leave().await;
    assert_eq!(servers[0].status(), ClusterStatus::Left);
    tokio::time::sleep(SOON).await;
    assert_eq!(servers[1].host.take_log().len(), 1000);
    assert!(servers[1].namespace.is_alone());
    assert_eq!(servers[1].metric("cluster_nodes_lost"), 0);

    let namespace = &servers[0].namespace;
    let refused = namespace.broadcast(&to(""), &event(1));
    assert_eq!(refused, Published::Refused(PublishRefusal::Left));
    assert_eq!(namespace.heard(None).await, Heard::Left);
    assert!(namespace.fetch(&to(""), SOON).await.is_err());
    namespace.room_created(&Room::from("a"));
    namespace.close();
    // A second call returns at once.
    servers[0].connection.leave().await;
}

#[tokio::test(start_paused = true)]
async fn cancelled_leave_takes_effect() {
    let (mut rig, servers) = Rig::connected(2).await;
    rig.inject(Fault::Down { on: true, forgets: false });
    servers[0].namespace.broadcast(&to(""), &event(1));
    assert!(timeout(SOON, servers[0].connection.leave()).await.is_err());
    let refused = servers[0].namespace.broadcast(&to(""), &event(2));
    assert_eq!(refused, Published::Refused(PublishRefusal::Left));
    rig.inject(Fault::Down { on: false, forgets: false });
    tokio::time::sleep(SOON).await;
    assert_eq!(servers[0].status(), ClusterStatus::Left);
    assert_eq!(servers[1].host.take_log(), [" event 1"]);
}

#[tokio::test(start_paused = true)]
async fn dropped_connection_ends_its_task() {
    let (mut rig, mut servers) = Rig::connected(3).await;
    let namespace = servers.remove(0).namespace;
    tokio::time::sleep(SOON).await;
    assert_eq!(servers[0].metric("cluster_nodes"), 1);
    assert_eq!(namespace.heard(None).await, Heard::Left);

    // Without an engine it ends after five seconds.
    rig.inject(Fault::Down { on: true, forgets: false });
    servers[0].namespace.broadcast(&to(""), &event(1));
    let namespace = servers.remove(0).namespace;
    let before = Instant::now();
    let asked = namespace.server_side_emit_with_ack(&text("echo"), &args(1), Duration::from_secs(60)).await;
    assert_eq!(asked.unwrap_err().nodes, [name(2)]);
    assert_eq!(before.elapsed(), Duration::ZERO);
    let confirm = namespace.confirming().confirm(Duration::from_secs(60)).await;
    assert_eq!(confirm, Err(PublishRefusal::Left.into()));
    assert_eq!(before.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn ids_and_tags_belong_together() {
    let (_rig, servers) = Rig::connected(2).await;
    let tag = servers[0].connection.id_tag();
    assert_eq!(tag, servers[0].connection.id().tag());
    // The room of an own socket id needs no subscription.
    let room = Room::from(format!("{tag}abcdefghijkl"));
    assert_eq!(servers[0].namespace.heard(Some(&room)).await, Heard::Confirmed);
    servers[1].namespace.broadcast(&to(room.as_str()), &event(1));
    tokio::time::sleep(SOON).await;
    assert_eq!(servers[0].host.take_log(), [format!("{room} event 1")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_work_in_real_time() {
    let (_rig, servers) = Rig::connected(2).await;
    servers[1].join("a").await;
    servers[0].namespace.broadcast(&to("a"), &event(1));
    assert_eq!(servers[0].namespace.confirming().confirm(Duration::from_secs(5)).await, Ok(()));
    let before = Instant::now();
    loop {
        if servers[1].host.take_log() == ["a event 1"] {
            break;
        }
        assert!(before.elapsed() < Duration::from_secs(5), "event has not arrived");
        tokio::time::sleep(SOON).await;
    }
}
