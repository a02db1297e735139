//! Cases for room membership.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use roomcast_core::{JoinOutcome, MemberKey, MemberLimit, Membership, Room, RouterStats, Target};

use super::{Subject, attach_all, emit, event, queued, rooms};
use crate::{ControlProbe, MemberProbe, TextCodec};

/// A detached member is in no room and cannot join one.
pub async fn detached_member_leaves_all_rooms(router: Subject) {
    let codec = TextCodec::new("t");
    let room = Room::from("r");
    let [(a, a_key), (b, b_key)] = attach_all(&router, &codec, ["a", "b"]);
    router.join(a_key, &room);
    router.join(b_key, &room);
    assert!(router.detach(a_key));
    assert!(!router.detach(a_key));
    assert_eq!(router.join(a_key, &room), JoinOutcome::Detached);
    assert_eq!(router.join(a_key, &Room::from("a")), JoinOutcome::Detached);
    assert!(!router.leave(a_key, &room));
    assert_eq!(router.rooms_of(a_key), []);
    assert_eq!(router.count(&room), 1);
    assert_eq!(emit(&router, ["r"], "room"), queued(1));
    assert_eq!(router.broadcast(&Target::default(), &event("all")).flush_backlog(), queued(1));
    // An unknown key addresses no member.
    let unknown = MemberKey(u64::MAX);
    assert_eq!(router.join(unknown, &room), JoinOutcome::Detached);
    assert!(!router.leave(unknown, &room));
    assert!(!router.detach(unknown));
    assert_eq!(a.received(), [""; 0]);
    assert_eq!(b.received(), ["t:room[]", "t:all[]"]);
}

/// Rooms are listed with the member's own room first, then the rooms it joined.
pub async fn lists_own_room_first(router: Subject) {
    let codec = TextCodec::new("t");
    let [(_, key), _] = attach_all(&router, &codec, ["m", "z"]);
    assert_eq!(router.rooms_of(key), rooms(["m"]));
    for room in ["z", "a", "b"] {
        router.join(key, &Room::from(room));
    }
    router.leave(key, &Room::from("b"));
    let mut of_member = router.rooms_of(key);
    assert_eq!(of_member.remove(0), Room::from("m"));
    of_member.sort();
    assert_eq!(of_member, rooms(["a", "z"]));
}

/// Counts local members, by room or by id.
pub async fn counts_members_of_room(router: Subject) {
    let codec = TextCodec::new("t");
    let room = Room::from("r");
    assert_eq!(router.count(&room), 0);
    let probes = attach_all(&router, &codec, ["a", "b", "c"]);
    for (index, (_, key)) in probes.iter().enumerate() {
        router.join(*key, &room);
        assert_eq!(router.count(&room), index + 1);
    }
    assert_eq!(router.count(&Room::from("b")), 1);
    for (index, (_, key)) in probes.iter().enumerate() {
        router.detach(*key);
        assert_eq!(router.count(&room), 2 - index);
    }
    assert_eq!(router.count(&Room::from("b")), 0);
}

/// A member cannot exceed its room limit, and its control is notified; others and existing rooms are unaffected.
pub async fn enforces_room_limit_of_member(router: Subject) {
    let codec = TextCodec::new("t");
    let control = ControlProbe::with_max_rooms(2);
    let key = router.attach(MemberProbe::new("m", &codec).with_control(control.clone()).member());
    let [(_, other)] = attach_all(&router, &codec, ["o"]);
    let join = |name: &str| router.join(key, &Room::from(name));
    assert_eq!(
        [join("a"), join("m"), join("b")],
        [JoinOutcome::Joined, JoinOutcome::Already, JoinOutcome::Joined]
    );
    assert_eq!(
        [join("c"), join("a"), join("m")],
        [JoinOutcome::Full, JoinOutcome::Already, JoinOutcome::Already]
    );
    assert_eq!(control.limited(), [MemberLimit::Rooms]);
    assert_eq!(router.count(&Room::from("c")), 0);
    // The same holds for bulk joins; members below the limit are moved.
    let join_all = |names| router.update(&Target::default(), &Membership::Join(names));
    assert_eq!(join_all(rooms(["c", "d"])), 1);
    assert_eq!(control.limited().len(), 3);
    assert_eq!(router.rooms_of(key).len(), 3);
    assert_eq!(router.rooms_of(other).len(), 3);
    // Leaving a room frees a place for another.
    assert!(router.leave(key, &Room::from("a")));
    assert_eq!(join_all(rooms(["e", "f"])), 2);
    assert_eq!(router.rooms_of(key).len(), 3);
    assert_eq!(["b", "c", "e", "f"].map(|room| router.count(&Room::from(room))), [1, 1, 2, 1]);
    assert_eq!(control.limited().len(), 4);
    router.detach(key);
    assert_eq!(join("g"), JoinOutcome::Detached);
    assert_eq!(control.limited().len(), 4);
}

/// Concurrent joins and leaves never exceed the room limit.
pub async fn concurrent_joins_respect_room_limit(router: Subject) {
    const MAX: usize = 5;
    let control = ControlProbe::with_max_rooms(MAX);
    let probe = MemberProbe::new("m", &TextCodec::new("t")).with_control(control.clone());
    let key = router.attach(probe.member());
    let full = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (router, full) = (&router, &full);
            scope.spawn(move || {
                for number in 0..200 {
                    let room = Room::from(format!("{thread}-{}", number % 9).as_str());
                    if router.join(key, &room) == JoinOutcome::Full {
                        full.fetch_add(1, Ordering::Relaxed);
                    }
                    let there = router.rooms_of(key).len() - 1;
                    assert!(there <= MAX, "member is in {there} rooms");
                    if number % 3 == 0 {
                        router.leave(key, &room);
                    }
                }
            });
        }
    });
    assert_eq!(control.limited().len(), full.into_inner());
    for number in 0..=MAX {
        router.join(key, &Room::from(format!("last-{number}").as_str()));
    }
    assert_eq!(router.rooms_of(key).len(), 1 + MAX);
}

/// Bulk joins and leaves affect every addressed member and count only changed ones.
pub async fn bulk_changes_count_changed_members(router: Subject) {
    let codec = TextCodec::new("t");
    let [(_, a), (_, b), (_, c)] = attach_all(&router, &codec, ["a", "b", "c"]);
    router.join(a, &Room::from("r"));
    router.join(b, &Room::from("r"));
    let target = Target { rooms: rooms(["r"]), ..Target::default() };
    assert_eq!(router.update(&target, &Membership::Join(rooms(["s", "t"]))), 2);
    assert_eq!(router.update(&Target::default(), &Membership::Join(rooms(["s"]))), 1);
    assert_eq!(["r", "s", "t"].map(|room| router.count(&Room::from(room))), [2, 3, 2]);
    let but_b = Target { except: rooms(["b"]), ..Target::default() };
    assert_eq!(router.update(&but_b, &Membership::Leave(rooms(["s", "t", "none"]))), 2);
    assert_eq!(["r", "s", "t"].map(|room| router.count(&Room::from(room))), [2, 1, 1]);
    // The room that selects the members may be left; a member's own room cannot.
    assert_eq!(router.update(&target, &Membership::Leave(rooms(["r", "a"]))), 2);
    assert_eq!(router.rooms_of(a), rooms(["a"]));
    assert_eq!(router.rooms_of(c), rooms(["c"]));
    let by_id = Target { rooms: rooms(["c"]), ..Target::default() };
    assert_eq!(router.update(&by_id, &Membership::Join(rooms(["c", "r"]))), 1);
    assert_eq!(router.rooms_of(c), rooms(["c", "r"]));
}

/// Counts members and joined rooms; a router without the counts returns none.
pub async fn counts_members_and_joined_rooms(router: Subject) {
    let codec = TextCodec::new("t");
    let [(_, a), (_, b)] = attach_all(&router, &codec, ["a", "b"]);
    for (key, room) in [(a, "r"), (b, "r"), (b, "s"), (b, "a")] {
        router.join(key, &Room::from(room));
    }
    let stats = router.stats();
    assert!(stats == RouterStats::new(2, 3) || stats == RouterStats::default(), "{stats:?}");
    router.leave(b, &Room::from("s"));
    router.detach(a);
    let stats = router.stats();
    assert!(stats == RouterStats::new(1, 2) || stats == RouterStats::default(), "{stats:?}");
}
