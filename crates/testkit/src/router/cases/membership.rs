//! Who is where

use roomcast_core::{Joined, MemberKey, Membership, Room, RouterStats, Target};

use super::{Subject, attach_all, emit, event, queued, rooms};
use crate::TextCodec;

/// Who is detached is in no room, and can join none
pub async fn out_is_out(router: Subject) {
    let codec = TextCodec::new("t");
    let room = Room::from("r");
    let [(a, a_key), (b, b_key)] = attach_all(&router, &codec, ["a", "b"]);
    router.join(a_key, &room);
    router.join(b_key, &room);
    assert!(router.detach(a_key));
    assert!(!router.detach(a_key));
    assert_eq!(router.join(a_key, &room), Joined::Detached);
    assert_eq!(router.join(a_key, &Room::from("a")), Joined::Detached);
    assert!(!router.leave(a_key, &room));
    assert_eq!(router.rooms_of(a_key), []);
    assert_eq!(router.count(&room), 1);
    assert_eq!(emit(&router, ["r"], "room"), queued(1));
    assert_eq!(router.broadcast(&Target::default(), &event("all")), queued(1));
    // A key that was never given names nobody.
    let unknown = MemberKey(u64::MAX);
    assert_eq!(router.join(unknown, &room), Joined::Detached);
    assert!(!router.leave(unknown, &room));
    assert!(!router.detach(unknown));
    assert_eq!(a.received(), [""; 0]);
    assert_eq!(b.received(), ["t:room[]", "t:all[]"]);
}

/// Its own room first, then those it joined
pub async fn the_rooms_of_a_member(router: Subject) {
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

/// Members here, by room or by id
pub async fn how_many_are_in_a_room(router: Subject) {
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

/// Everybody named joins or leaves, and only those who were changed are counted
pub async fn rooms_of_many_changed_at_once(router: Subject) {
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
    // The very room that names them may be left, and one's own cannot.
    assert_eq!(router.update(&target, &Membership::Leave(rooms(["r", "a"]))), 2);
    assert_eq!(router.rooms_of(a), rooms(["a"]));
    assert_eq!(router.rooms_of(c), rooms(["c"]));
    let by_id = Target { rooms: rooms(["c"]), ..Target::default() };
    assert_eq!(router.update(&by_id, &Membership::Join(rooms(["c", "r"]))), 1);
    assert_eq!(router.rooms_of(c), rooms(["c", "r"]));
}

/// Members, and rooms that somebody has joined; a router that does not know says nothing
pub async fn how_much_there_is(router: Subject) {
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
