//! Publications: order, limits and failures.

use std::sync::atomic::Ordering;
use std::time::Duration;

use roomcast_core::{
    Args, ClusterStatus, Event, Membership, Namespace, PublishRefusal, Published, Room, Target,
};
use roomcast_testkit::cluster::Fault;

use crate::host::Host;
use crate::rig::{Rig, SOON, args, event, settle, text, to};

#[tokio::test(start_paused = true)]
async fn publications_reach_other_nodes() {
    let (_rig, servers) = Rig::connected(3).await;
    servers[1].join("a").await;
    let namespace = &servers[0].namespace;
    assert_eq!(namespace.broadcast(&to("a"), &event(1)), Published::Accepted);
    assert_eq!(namespace.broadcast(&to(""), &event(2)), Published::Accepted);
    assert_eq!(namespace.update(&to("a"), &Membership::Join(vec!["b".into()])), Published::Accepted);
    assert_eq!(namespace.disconnect(&to("a"), true), Published::Accepted);
    assert_eq!(namespace.server_side_emit(&text("hello"), &args(5)), Published::Accepted);
    tokio::time::sleep(SOON).await;
    let mut log = servers[1].host.take_log();
    log.sort();
    assert_eq!(log, [" event 2", "a Join([Room(\"b\")])", "a disconnect true", "a event 1", "hello 5"]);
    // The third node has no member in the room.
    assert_eq!(servers[2].host.take_log(), [" event 2", "hello 5"]);
    assert_eq!(servers[0].host.take_log(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn rooms_keep_order_of_each_thread() {
    const EVENTS: usize = 2000;
    let (_rig, servers) = Rig::connected(2).await;
    for room in ["a", "b", "c"] {
        servers[1].join(room).await;
    }
    std::thread::scope(|scope| {
        for room in ["a", "b", "c", ""] {
            let namespace = &servers[0].namespace;
            scope.spawn(move || {
                for number in 0..EVENTS {
                    assert_eq!(namespace.broadcast(&to(room), &event(number)), Published::Accepted);
                }
            });
        }
    });
    tokio::time::sleep(SOON).await;
    let log = servers[1].host.take_log();
    for room in ["a", "b", "c", ""] {
        let of_room = |entry: &&String| entry.starts_with(&format!("{room} "));
        let expected: Vec<String> = (0..EVENTS).map(|number| format!("{room} event {number}")).collect();
        assert!(log.iter().filter(of_room).eq(&expected), "{room}");
    }
}

#[tokio::test(start_paused = true)]
async fn lone_node_publishes_nothing() {
    let (_rig, servers) = Rig::connected(1).await;
    let namespace = &servers[0].namespace;
    assert!(namespace.is_alone());
    assert_eq!(namespace.broadcast(&to("a"), &event(1)), Published::NotNeeded);
    assert_eq!(servers[0].metric("cluster_published"), 0);
}

#[tokio::test(start_paused = true)]
async fn full_queue_refuses_at_once() {
    const LIMIT: usize = 100_000;
    let mut rig = Rig::new();
    let servers =
        [0, 1].map(|node| rig.start_with(node, Host::with_sockets(&[]), |config| config.queue_bytes = LIMIT));
    settle(&servers).await;
    servers[1].join("a").await;
    rig.inject(Fault::Down { on: true, forgets: true });
    let namespace = &servers[0].namespace;
    let before = tokio::time::Instant::now();
    let mut accepted = 0;
    for number in 0..10_000 {
        match namespace.broadcast(&to("a"), &event(number)) {
            Published::Accepted => accepted += 1,
            Published::Refused(PublishRefusal::QueueFull) => {}
            other => panic!("{other:?}"),
        }
        // Sometimes the task runs in between.
        if number % 1000 == 0 {
            tokio::task::yield_now().await;
        }
        assert!(servers[0].metric("cluster_queue_bytes") <= LIMIT as u64);
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert!((300..10_000).contains(&accepted), "{accepted}");
    assert_eq!(servers[0].metric("cluster_refused"), 10_000 - accepted);

    // The heartbeat is due within a second, and the engine counts as down a moment later.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(servers[0].status(), ClusterStatus::Degraded);
    // The queue of the node counts them more exactly, so that a few more fit.
    while namespace.broadcast(&to("a"), &event(0)) == Published::Accepted {
        tokio::time::sleep(SOON).await;
    }
    assert!(servers[0].metric("cluster_queue_bytes") <= LIMIT as u64);
    rig.inject(Fault::Down { on: false, forgets: true });
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(servers[0].status(), ClusterStatus::Connected);
    assert_eq!(servers[0].metric("cluster_queue_bytes"), 0);
    servers[1].host.take_log();
    assert_eq!(namespace.broadcast(&to("a"), &event(7)), Published::Accepted);
    tokio::time::sleep(SOON).await;
    assert_eq!(servers[1].host.take_log(), ["a event 7"]);
    assert_eq!(servers[0].metric("cluster_dropped"), 0);
}

#[tokio::test(start_paused = true)]
async fn excessive_publications_are_refused() {
    let (_rig, servers) = Rig::connected(2).await;
    servers[1].join("a").await;
    let namespace = &servers[0].namespace;
    let large = Event::new(Namespace::main(), "large", Args::from_text("x".repeat(16 << 20).into()));
    assert_eq!(namespace.broadcast(&to("a"), &large), Published::Refused(PublishRefusal::TooLarge));
    let rooms: Vec<Room> = (0..5000).map(|room| Room::from(room.to_string())).collect();
    let many = Target { rooms: rooms.clone(), ..Target::default() };
    assert_eq!(namespace.broadcast(&many, &event(1)), Published::Refused(PublishRefusal::TooManyRooms));
    let change = Membership::Join(rooms);
    assert_eq!(namespace.update(&to("a"), &change), Published::Refused(PublishRefusal::TooManyRooms));
    assert_eq!(servers[0].metric("cluster_refused"), 3);
    // Just within the limits.
    let large = Event::new(Namespace::main(), "large", Args::from_text("x".repeat((16 << 20) - 1000).into()));
    assert_eq!(namespace.broadcast(&to("a"), &large), Published::Refused(PublishRefusal::QueueFull));
    let large = Event::new(Namespace::main(), "large", Args::from_text("x".repeat(700 << 10).into()));
    assert_eq!(namespace.broadcast(&to("a"), &large), Published::Accepted);
    tokio::time::sleep(SOON).await;
    assert_eq!(servers[1].host.delivered.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn panicking_host_ends_nothing() {
    let (_rig, servers) = Rig::connected(2).await;
    let panics = Event::new(Namespace::main(), "panic", Args::empty());
    servers[0].namespace.broadcast(&to(""), &panics);
    servers[0].namespace.server_side_emit(&text("panic"), &Args::empty());
    servers[0].namespace.broadcast(&to(""), &event(1));
    tokio::time::sleep(SOON).await;
    assert_eq!(servers[1].host.take_log(), ["panic ", " event 1"]);
    assert_eq!(servers[1].metric("cluster_host_panics"), 2);
}

#[tokio::test(start_paused = true)]
async fn dropped_hosts_count_as_unwanted() {
    let (_rig, mut servers) = Rig::connected(3).await;
    servers[1].namespace.close();
    servers[2].host = Host::with_sockets(&[]);
    servers[0].namespace.broadcast(&to(""), &event(1));
    tokio::time::sleep(SOON).await;
    assert_eq!(servers[1].metric("cluster_unwanted"), 1);
    assert_eq!(servers[2].metric("cluster_unwanted"), 1);
    assert_eq!(servers[0].namespace.count(&to(""), SOON).await, Ok(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn burst_does_not_starve_other_tasks() {
    let (_rig, servers) = Rig::connected(2).await;
    for number in 0..20_000 {
        servers[0].namespace.broadcast(&to(""), &event(number));
    }
    // Another task runs while the burst is delivered.
    let host = servers[1].host.clone();
    let turns = tokio::spawn(async move {
        let mut turns = 0;
        while host.delivered.load(Ordering::Relaxed) < 20_000 {
            tokio::task::yield_now().await;
            turns += 1;
        }
        turns
    });
    let turns = turns.await.unwrap();
    assert!((50..10_000).contains(&turns), "{turns} turns");
}
