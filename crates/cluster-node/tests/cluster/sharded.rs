//! The sharded adapter: channels of rooms, and nodes in other modes.

use std::time::Duration;

use roomcast_cluster_node::{NodeClusterConfig, SubscriptionMode};
use roomcast_core::{Cluster as _, ClusterStatus, Event, Heard, Membership, Namespace, Room};

use crate::broker::Broker;
use crate::host::Host;
use crate::rig::{SOON, Server, args, event, open, settle, text, to};

const MODES: [SubscriptionMode; 3] =
    [SubscriptionMode::Static, SubscriptionMode::Dynamic, SubscriptionMode::DynamicPrivate];
const COMMON: &str = "socket.io#/#";
const ROOM: &str = "socket.io#/#all#";

fn config(mode: SubscriptionMode) -> NodeClusterConfig {
    NodeClusterConfig::new().sharded(|sharded| sharded.mode = mode)
}

/// Starts nodes with one socket each, `s0`, `s1` and so on, in the room `all`.
async fn connected(broker: &Broker, mode: SubscriptionMode, count: usize) -> Vec<Server> {
    let mut servers = Vec::new();
    for index in 0..count {
        let id = format!("s{index}");
        let server = Server::start_with(broker, Host::with_sockets(&[(&id, &["all"])]), config(mode));
        server.join().await;
        for room in [id.as_str(), "all"].map(Room::from) {
            server.namespace.room_created(&room);
            assert_eq!(server.namespace.heard(Some(&room)).await, Heard::Confirmed);
        }
        servers.push(server);
    }
    settle().await;
    broker.take_published();
    servers
}

#[tokio::test(start_paused = true)]
async fn every_operation_reaches_other_nodes() {
    for mode in MODES {
        let broker = Broker::default();
        let servers = connected(&broker, mode, 3).await;
        let namespace = &servers[0].namespace;
        for target in [to(""), to("all"), to("s1")] {
            namespace.broadcast(&target, &event(1));
        }
        namespace.update(&to("all"), &Membership::Join(vec!["new".into()]));
        namespace.disconnect(&to("s2"), true);
        namespace.server_side_emit(&text("hello"), &args(1));
        settle().await;
        let log = servers[1].host.take_log();
        let expected = [" event 1", "all event 1", "s1 event 1", "s2 disconnect true", "hello 1"];
        for entry in expected {
            assert!(log.iter().any(|line| line == entry), "{mode:?}: {entry} in {log:?}");
        }
        assert_eq!(log.len(), 6, "{mode:?}: {log:?}");
        assert!(servers[0].host.take_log().is_empty());
        assert_eq!(namespace.count(&to("all"), SOON).await.unwrap(), [1, 1]);
        let found = namespace.fetch(&to("s2"), SOON).await.unwrap();
        assert_eq!(found.iter().map(|socket| socket.id.as_str()).collect::<Vec<_>>(), ["s2"]);
        let answers = namespace.server_side_emit_with_ack(&text("echo"), &args(5), SOON).await.unwrap();
        assert_eq!(answers, [args(5), args(5)]);
        assert_eq!(servers[0].metric("cluster_mixed"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn rooms_are_subscribed_while_they_have_members() {
    for (mode, in_room, in_id) in
        [(MODES[0], 0, 0), (SubscriptionMode::Dynamic, 1, 0), (SubscriptionMode::DynamicPrivate, 1, 1)]
    {
        let broker = Broker::default();
        let server = Server::start_with(&broker, Host::with_sockets(&[]), config(mode));
        server.join().await;
        let [room, id] = ["all", "abcdefghij0123456789"].map(Room::from);
        let counts = || [ROOM, "socket.io#/#abcdefghij0123456789#"].map(|name| broker.subscribers(name));
        for _ in 0..2 {
            for room in [&room, &id] {
                server.namespace.room_created(room);
                assert_eq!(server.namespace.heard(Some(room)).await, Heard::Confirmed);
            }
            assert_eq!(counts(), [in_room, in_id], "{mode:?}");
            assert_eq!(server.metric("cluster_rooms"), (in_room + in_id) as u64);
            [&room, &id].into_iter().for_each(|room| server.namespace.room_deleted(room));
            settle().await;
            assert_eq!((counts(), server.metric("cluster_rooms")), ([0, 0], 0));
        }
        if in_room > 0 {
            assert_eq!(server.namespace.heard(Some(&room)).await, Heard::Left);
        }
        server.namespace.room_created(&room);
        settle().await;
        server.cluster.leave().await;
        assert_eq!((counts(), broker.subscribers(COMMON)), ([0, 0], 0));
    }
}

#[tokio::test(start_paused = true)]
async fn rooms_without_members_cost_nothing() {
    let broker = Broker::default();
    let servers = connected(&broker, SubscriptionMode::Dynamic, 2).await;
    let before = servers[1].metric("cluster_messages_in");
    for _ in 0..10 {
        servers[0].namespace.broadcast(&to("elsewhere"), &event(1));
    }
    settle().await;
    assert_eq!((servers[1].metric("cluster_messages_in"), broker.take_published().len()), (before, 10));
}

#[tokio::test(start_paused = true)]
async fn churn_of_rooms_is_coalesced() {
    let broker = Broker::default();
    let server = Server::start_with(&broker, Host::with_sockets(&[]), config(SubscriptionMode::Dynamic));
    server.join().await;
    broker.take_commands();
    broker.freeze();
    let rooms: Vec<_> = (0..1000).map(|number| Room::from(format!("room{number}").as_str())).collect();
    for round in 0..21 {
        for room in &rooms {
            if round % 2 == 0 {
                server.namespace.room_created(room);
            } else {
                server.namespace.room_deleted(room);
            }
        }
        settle().await;
        assert!(server.metric("cluster_rooms") <= 1000);
    }
    broker.thaw();
    settle().await;
    assert_eq!(server.namespace.heard(Some(&rooms[999])).await, Heard::Confirmed);
    settle().await;
    assert_eq!((server.metric("cluster_rooms"), server.metric("cluster_rooms_unconfirmed")), (1000, 0));
    let commands = broker.take_commands();
    assert!(commands <= 16, "{commands}");
}

#[tokio::test(start_paused = true)]
async fn rooms_are_restored_after_outage() {
    let broker = Broker::default();
    let servers = connected(&broker, SubscriptionMode::Dynamic, 2).await;
    let rooms: Vec<_> = (0..1000).map(|number| format!("room{number}")).collect();
    for room in &rooms {
        servers[1].namespace.room_created(&Room::from(room.as_str()));
    }
    settle().await;
    for _ in 0..3 {
        broker.stop();
        settle().await;
        assert_eq!(servers[1].host.take_missed(), [None]);
        servers[1].namespace.room_deleted(&Room::from("room0"));
        servers[1].namespace.room_created(&Room::from("room0"));
        broker.start();
        settle().await;
        assert_eq!(servers[1].host.take_missed(), [None], "once all are subscribed again");
        assert_eq!(servers[1].status(), ClusterStatus::Connected);
        let all = rooms.iter().all(|room| broker.subscribers(&format!("{COMMON}{room}#")) == 1);
        assert!(all && servers[1].metric("cluster_rooms_unconfirmed") == 0);
        tokio::time::sleep(SOON).await;
        servers[1].host.take_log();
        rooms.iter().step_by(100).for_each(|room| _ = servers[0].namespace.broadcast(&to(room), &event(1)));
        settle().await;
        assert_eq!(servers[1].host.take_log().len(), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn refused_rooms_are_requested_again() {
    let broker = Broker::default();
    let servers = connected(&broker, SubscriptionMode::Dynamic, 1).await;
    broker.refuse_subscriptions(1);
    let room = Room::from("late");
    servers[0].namespace.room_created(&room);
    assert_eq!(servers[0].namespace.heard(Some(&room)).await, Heard::Degraded);
    assert_eq!(servers[0].namespace.heard(Some(&room)).await, Heard::Confirmed);
    assert_eq!(servers[0].metric("cluster_subscribe_retries"), 1);
}

#[tokio::test(start_paused = true)]
async fn room_shares_channel_of_other_namespace() {
    let broker = Broker::default();
    for room_first in [true, false] {
        let server = Server::start_with(&broker, Host::with_sockets(&[]), config(SubscriptionMode::Dynamic));
        let hosts = [Host::with_sockets(&[("s", &["b"])]), Host::with_sockets(&[("t", &[])])];
        let room = Room::from("b");
        let one = open(&server.cluster, "/n", &hosts[0]);
        if room_first {
            one.room_created(&room);
            assert_eq!(one.heard(Some(&room)).await, Heard::Confirmed);
        }
        let other = open(&server.cluster, "/n#b", &hosts[1]);
        assert_eq!(other.heard(None).await, Heard::Confirmed);
        one.room_created(&room);
        assert_eq!(one.heard(Some(&room)).await, Heard::Confirmed);
        let sender = Server::start_with(&broker, Host::with_sockets(&[]), config(SubscriptionMode::Dynamic));
        let senders = ["/n", "/n#b"].map(|name| open(&sender.cluster, name, &Host::with_sockets(&[])));
        let emit = async || {
            senders[0].broadcast(&to("b"), &Event::new(Namespace::new("/n"), "event", args(1)));
            senders[1].broadcast(&to(""), &Event::new(Namespace::new("/n#b"), "event", args(2)));
            settle().await;
            [hosts[0].take_log(), hosts[1].take_log()]
        };
        for sender in &senders {
            assert_eq!(sender.heard(None).await, Heard::Confirmed);
        }
        assert_eq!(emit().await, [["b event 1"], [" event 2"]]);
        // Either remains when the other ends.
        if room_first {
            one.room_deleted(&room);
            settle().await;
            assert_eq!(emit().await[1], [" event 2"]);
        } else {
            other.close();
            settle().await;
            assert_eq!(emit().await[0], ["b event 1"]);
        }
        tokio::join!(server.cluster.leave(), sender.cluster.leave());
    }
}

#[tokio::test(start_paused = true)]
async fn other_modes_are_noticed() {
    for (one, other) in [(MODES[0], MODES[1]), (MODES[1], MODES[2]), (MODES[2], MODES[0])] {
        let broker = Broker::default();
        let servers = [one, other]
            .map(|mode| Server::start_with(&broker, Host::with_sockets(&[("s", &["all"])]), config(mode)));
        for server in &servers {
            server.join().await;
        }
        settle().await;
        for server in &servers {
            assert!(server.metric("cluster_mixed") > 0, "{one:?} and {other:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn static_node_server_is_noticed() {
    let broker = Broker::default();
    let servers = connected(&broker, SubscriptionMode::Dynamic, 1).await;
    let publish = |rooms: &str| {
        let opts = format!(r#""opts":{{"rooms":{rooms},"except":[],"flags":{{}}}}"#);
        let data = format!(r#"{{"packet":{{"type":2,"data":["e"]}},{opts}}}"#);
        broker.publish(COMMON, format!(r#"{{"uid":"node","nsp":"/","type":3,"data":{data}}}"#));
    };
    for rooms in ["[]", r#"["a","b"]"#, r#"["abcdefghij0123456789"]"#] {
        publish(rooms);
    }
    settle().await;
    assert_eq!((servers[0].host.take_log().len(), servers[0].metric("cluster_mixed")), (3, 0));
    publish(r#"["all"]"#);
    settle().await;
    assert_eq!((servers[0].host.take_log().len(), servers[0].metric("cluster_mixed")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn other_adapters_are_noticed() {
    for (channel, config) in [
        ("socket.io-request#/#", config(SubscriptionMode::Dynamic)),
        ("socket.io#/#", NodeClusterConfig::new()),
    ] {
        let broker = Broker::default();
        broker.set_other_kind(channel, 0);
        let server = Server::start_with(&broker, Host::with_sockets(&[]), config);
        server.join().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(server.metric("cluster_mixed"), 0);
        broker.set_other_kind(channel, 2);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(server.metric("cluster_mixed"), 1);
    }
}
