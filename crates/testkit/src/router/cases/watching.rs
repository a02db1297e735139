//! Cases for room watchers, member lookup and disconnects.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use roomcast_core::{
    JoinOutcome, MemberKey, Membership, Room, RoomChange, RoomWatcher, SocketInfo, Target, WatchFilter,
};

use super::{Subject, attach, attach_all, event, rooms};
use crate::{ControlProbe, MemberProbe, RoomLog, TextCodec};

fn attach_with_control(router: &Subject, id: &str, data: &'static str) -> (Arc<ControlProbe>, MemberKey) {
    let control = ControlProbe::new(data);
    let probe = MemberProbe::new(id, &TextCodec::new("t")).with_control(control.clone());
    (control, router.attach(probe.member()))
}

/// Lookups return members with their rooms and their data.
pub async fn find_returns_rooms_and_data(router: Subject) {
    let (_, a) = attach_with_control(&router, "a", r#"{"name":"ada"}"#);
    let (_, b) = attach(&router, "b", &TextCodec::new("t"));
    let keys = (Some(a), Some(b));
    for (key, room) in [(a, "r"), (b, "r"), (a, "s")] {
        router.join(key, &Room::from(room));
    }
    let target = Target { rooms: rooms(["r"]), ..Target::default() };
    {
        let mut found = router.find(&target);
        found.sort_by(|one, other| one.id.cmp(&other.id));
        let [a, b] = &mut found[..] else { panic!("expected two members: {found:?}") };
        a.rooms[1..].sort();
        assert_eq!((a.id.as_str(), &a.rooms), ("a", &rooms(["a", "r", "s"])));
        assert_eq!((b.id.as_str(), &b.rooms), ("b", &rooms(["b", "r"])));
        let data = |found: &SocketInfo| found.control.as_ref().map(|control| control.data().to_string());
        assert_eq!((data(a), data(b)), (Some(r#"{"name":"ada"}"#.to_owned()), None));
        assert_eq!((a.key, b.key), keys);
    }
}

/// Each addressed member gets one disconnect request and stays until it has left.
pub async fn disconnects_each_addressed_member_once(router: Subject) {
    let [(a, a_key), (b, b_key), (c, _)] = ["a", "b", "c"].map(|id| attach_with_control(&router, id, "{}"));
    let (_, d) = attach(&router, "d", &TextCodec::new("t"));
    for key in [a_key, b_key, d] {
        router.join(key, &Room::from("r"));
        router.join(key, &Room::from("s"));
    }
    let target = Target { rooms: rooms(["r", "s"]), except: rooms(["b"]), ..Target::default() };
    assert_eq!(router.disconnect(&target, false), 1, "one of the two members has a control");
    assert_eq!(router.disconnect(&Target { rooms: rooms(["c"]), ..Target::default() }, true), 1);
    assert_eq!((a.disconnected(), b.disconnected(), c.disconnected()), (vec![false], vec![], vec![true]));
    assert_eq!(router.count(&Room::from("r")), 3);
}

/// Reports a room's creation with the first member, each change, and its deletion with the last.
pub async fn reports_room_creation_and_deletion(router: Subject) {
    let log = RoomLog::new();
    router.watch(log.clone(), WatchFilter::Members);
    let codec = TextCodec::new("t");
    let [(_, a), (_, b)] = attach_all(&router, &codec, ["a", "b"]);
    assert_eq!(log.take(), ["created a", "a joined a", "created b", "b joined b"]);
    let room = Room::from("r");
    router.join(a, &room);
    assert_eq!(log.take(), ["created r", "a joined r"]);
    router.join(a, &room);
    router.leave(b, &room);
    router.join(a, &Room::from("a"));
    assert_eq!(log.take(), [""; 0], "no report without a change");
    router.join(b, &room);
    router.leave(a, &room);
    assert_eq!(log.take(), ["b joined r", "a left r"]);
    router.update(&Target::default(), &Membership::Join(rooms(["r"])));
    assert_eq!(log.take(), ["a joined r"]);
    router.detach(b);
    let mut gone = log.take();
    assert_eq!(
        gone.iter().position(|change| change == "b left b").map(|at| &*gone[at + 1]),
        Some("deleted b")
    );
    gone.sort();
    assert_eq!(gone, ["b left b", "b left r", "deleted b"]);
    router.update(&Target::default(), &Membership::Leave(rooms(["r"])));
    assert_eq!(log.take(), ["a left r", "deleted r"]);
    router.detach(b);
    router.detach(a);
    assert_eq!(log.take(), ["a left a", "deleted a"]);
    // A further watcher takes nothing from the first.
    let second = RoomLog::new();
    router.watch(second.clone(), WatchFilter::Members);
    attach(&router, "c", &codec);
    assert_eq!(log.take(), ["created c", "c joined c"]);
    assert_eq!(second.take(), ["created c", "c joined c"]);
}

/// A filter limits the reports to rooms, or to rooms that members have joined.
pub async fn watch_filter_limits_reports(router: Subject) {
    let codec = TextCodec::new("t");
    let (_, early) = attach(&router, "early", &codec);
    router.join(early, &Room::from("old"));
    let [rooms, joined] = [WatchFilter::Rooms, WatchFilter::JoinedRooms].map(|filter| {
        let log = RoomLog::new();
        router.watch(log.clone(), filter);
        log
    });
    let (_, a) = attach(&router, "a", &codec);
    assert_eq!((rooms.take(), joined.take()), (vec!["created a".to_owned()], vec![]));
    for room in ["old", "r"] {
        router.join(a, &Room::from(room));
        router.leave(a, &Room::from(room));
    }
    let changes = ["created r", "deleted r"];
    assert_eq!(rooms.take(), changes);
    assert_eq!(joined.take(), changes);
    // A guest in the room of an id.
    router.join(early, &Room::from("a"));
    assert_eq!((rooms.take(), joined.take()), (vec![], vec!["created a".to_owned()]));
    router.detach(a);
    router.leave(early, &Room::from("a"));
    assert_eq!(rooms.take(), ["deleted a"]);
    assert_eq!(joined.take(), ["deleted a"]);
    router.leave(early, &Room::from("old"));
    router.detach(early);
    assert_eq!(rooms.take(), ["deleted old", "deleted early"]);
    assert_eq!(joined.take(), ["deleted old"]);
}

/// State before the watcher is not reported; later changes to it are.
pub async fn late_watcher_sees_later_changes(router: Subject) {
    let codec = TextCodec::new("t");
    let [(_, a), (_, b)] = attach_all(&router, &codec, ["a", "b"]);
    router.join(a, &Room::from("r"));
    let log = RoomLog::new();
    router.watch(log.clone(), WatchFilter::Members);
    router.join(b, &Room::from("r"));
    router.join(b, &Room::from("s"));
    assert_eq!(log.take(), ["b joined r", "created s", "b joined s"]);
    router.leave(a, &Room::from("r"));
    router.leave(b, &Room::from("r"));
    assert_eq!(log.take(), ["a left r", "b left r", "deleted r"]);
    router.detach(a);
    assert_eq!(log.take(), ["a left a", "deleted a"]);
}

/// A room named after a socket id contains its owner and its guests.
pub async fn id_room_includes_owner_and_guests(router: Subject) {
    let log = RoomLog::new();
    router.watch(log.clone(), WatchFilter::Members);
    let codec = TextCodec::new("t");
    let (_, guest) = attach(&router, "guest", &codec);
    log.take();
    router.join(guest, &Room::from("a"));
    assert_eq!(log.take(), ["created a", "guest joined a"]);
    let (_, owner) = attach(&router, "a", &codec);
    assert_eq!(log.take(), ["a joined a"]);
    router.leave(guest, &Room::from("a"));
    router.join(guest, &Room::from("a"));
    assert_eq!(log.take(), ["guest left a", "guest joined a"]);
    router.detach(owner);
    assert_eq!(log.take(), ["a left a"]);
    router.leave(guest, &Room::from("a"));
    assert_eq!(log.take(), ["guest left a", "deleted a"]);
}

/// A watcher is called without a lock held: it may change reported rooms, and those changes are reported later.
pub async fn watcher_may_call_router(router: Subject) {
    struct Host {
        router: OnceLock<(Subject, MemberKey)>,
        log: Arc<RoomLog>,
    }
    impl RoomWatcher for Host {
        fn room_changed(&self, change: &RoomChange) {
            self.log.room_changed(change);
            let Some((router, key)) = self.router.get() else { return };
            if let RoomChange::Joined { room, .. } = change
                && room.as_str() == "r"
            {
                assert_eq!(router.join(*key, &Room::from("hosted")), JoinOutcome::Joined);
                assert!(router.leave(*key, room));
                assert_eq!(router.count(&Room::from("hosted")), 1);
            }
        }
    }
    let log = RoomLog::new();
    let host = Arc::new(Host { router: OnceLock::new(), log: log.clone() });
    router.watch(host.clone(), WatchFilter::Members);
    let (_, key) = attach(&router, "a", &TextCodec::new("t"));
    let _ = host.router.set((router.clone(), key));
    log.take();
    router.join(key, &Room::from("r"));
    let expected = ["created r", "a joined r", "created hosted", "a joined hosted", "a left r", "deleted r"];
    assert_eq!(log.take(), expected);
}

/// A member is registered under its key before it is reported, so the watcher can use the key.
pub async fn watcher_may_use_new_member(router: Subject) {
    struct Host {
        router: OnceLock<Subject>,
        joined: Mutex<Vec<JoinOutcome>>,
    }
    impl RoomWatcher for Host {
        fn room_changed(&self, change: &RoomChange) {
            let RoomChange::Joined { room, socket, key, .. } = change else { return };
            let Some(router) = self.router.get().filter(|_| room.as_str() == socket.as_str()) else { return };
            let joined = router.join(*key, &Room::from("hall"));
            self.joined.lock().expect("lock is not poisoned").push(joined);
            let but_it = Target { skip: Some(*key), ..Target::default() };
            let _ = router.broadcast(&but_it, &event(socket.as_str()));
            if socket.as_str() == "unwanted" {
                assert!(router.detach(*key));
            }
        }
    }
    let host = Arc::new(Host { router: OnceLock::new(), joined: Mutex::default() });
    let _ = host.router.set(router.clone());
    router.watch(host.clone(), WatchFilter::Members);
    let codec = TextCodec::new("t");
    let [(a, a_key), (unwanted, unwanted_key)] = attach_all(&router, &codec, ["a", "unwanted"]);
    assert_eq!(
        *host.joined.lock().expect("lock is not poisoned"),
        [JoinOutcome::Joined, JoinOutcome::Joined]
    );
    assert_eq!((a.received(), unwanted.received()), (vec!["t:unwanted[]".to_owned()], vec![]));
    assert_eq!(router.rooms_of(a_key), rooms(["a", "hall"]));
    assert_eq!(router.rooms_of(unwanted_key), []);
    assert!(!router.detach(unwanted_key));
    assert_eq!(["unwanted", "hall"].map(|room| router.count(&Room::from(room))), [0, 1]);
    let _ = router.broadcast(&Target::default(), &event("later"));
    assert_eq!(unwanted.received(), [""; 0]);
}

/// A concurrent detach leaves no trace, however early it finds the member.
pub async fn concurrent_detach_leaves_no_trace(router: Subject) {
    const ROUNDS: usize = 500;
    let codec = TextCodec::new("t");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    for key in router.find(&Target::default()).into_iter().filter_map(|found| found.key) {
                        router.join(key, &Room::from("r"));
                        router.detach(key);
                    }
                }
            });
        }
        for round in 0..ROUNDS {
            let (_, key) = attach(&router, &format!("m{round}"), &codec);
            router.detach(key);
            assert_eq!(router.count(&Room::from(format!("m{round}").as_str())), 0);
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!((router.find(&Target::default()).len(), router.count(&Room::from("r"))), (0, 0));
}

/// Returns the members that joined a room, as of the preceding changes, without owners of the name.
pub async fn survey_reports_rooms_in_order(router: Subject) {
    struct Reports(Mutex<Vec<(String, Vec<MemberKey>)>>);
    impl RoomWatcher for Reports {
        fn room_changed(&self, change: &RoomChange) {
            if let RoomChange::Present { room, members } = change {
                let mut keys: Vec<_> = members.iter().map(|member| member.key).collect();
                keys.sort();
                self.0.lock().expect("lock is not poisoned").push((room.to_string(), keys));
            }
        }
    }
    let codec = TextCodec::new("t");
    // Two attachments of one id count as two.
    let [(_, a), (_, again), (_, b)] = attach_all(&router, &codec, ["a", "a", "b"]);
    for (key, room) in [(a, "r"), (again, "r"), (b, "a")] {
        router.join(key, &Room::from(room));
    }
    let reports = Arc::new(Reports(Mutex::default()));
    let take = || {
        let mut taken = std::mem::take(&mut *reports.0.lock().expect("lock is not poisoned"));
        taken.sort();
        taken
    };
    router.survey();
    router.watch(reports.clone(), WatchFilter::Members);
    assert_eq!(take(), []);
    router.survey();
    assert_eq!(take(), [("a".to_owned(), vec![b]), ("r".to_owned(), vec![a, again])]);
    router.detach(a);
    router.leave(b, &Room::from("a"));
    router.survey();
    assert_eq!(take(), [("r".to_owned(), vec![again])]);
}

/// The log checks each report against the surrounding changes.
pub async fn survey_fits_concurrent_changes(router: Subject) {
    const ROUNDS: usize = 200;
    let codec = TextCodec::new("t");
    let log = RoomLog::new();
    let [(_, early)] = attach_all(&router, &codec, ["early"]);
    router.join(early, &Room::from("r"));
    router.watch(log.clone(), WatchFilter::Members);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (router, codec) = (&router, &codec);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let (_, key) = attach(router, &format!("{thread} {round}"), codec);
                    for room in ["r", "s", "early"].map(Room::from) {
                        router.join(key, &room);
                        router.leave(key, &Room::from("s"));
                    }
                    router.detach(key);
                }
            });
        }
        scope.spawn(|| (0..ROUNDS).for_each(|_| router.survey()));
    });
    router.survey();
    assert_eq!(log.members("r"), Some(vec!["early".to_owned()]));
    router.detach(early);
    assert_eq!(log.room_count(), 0);
}

/// Concurrent changes are reported once, in a possible order.
pub async fn reports_concurrent_changes_in_order(router: Subject) {
    const ROUNDS: usize = 300;
    let codec = TextCodec::new("t");
    let log = RoomLog::new();
    let (_, steady) = attach(&router, "steady", &codec);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (router, codec) = (&router, &codec);
            scope.spawn(move || {
                let names = ["r", "s", "steady"].map(Room::from);
                let hot = Room::from("hot");
                for round in 0..ROUNDS {
                    let (_, key) = attach(router, &format!("{thread} {round}"), codec);
                    for room in &names {
                        router.join(key, room);
                    }
                    match round % 3 {
                        0 => _ = router.leave(key, &names[0]),
                        1 => {
                            _ = router.update(
                                &Target { rooms: rooms(["r"]), ..Target::default() },
                                &Membership::Leave(rooms(["s"])),
                            )
                        }
                        _ => _ = router.join(steady, &names[round % 2]),
                    }
                    // A room that repeatedly becomes empty, in sequence and concurrently.
                    for _ in 0..20 {
                        router.join(key, &hot);
                        router.leave(key, &hot);
                    }
                    router.detach(key);
                }
            });
        }
        // A watcher starts concurrently; the log itself checks the reports.
        scope.spawn(|| router.watch(log.clone(), WatchFilter::Members));
    });
    router.leave(steady, &Room::from("r"));
    router.leave(steady, &Room::from("s"));
    router.detach(steady);
    assert_eq!((log.room_count(), log.members("r")), (0, None), "{:?}", log.members("r"));
}
