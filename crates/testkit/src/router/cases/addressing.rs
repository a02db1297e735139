//! Cases for target selection.

use roomcast_core::{CloseReason, Delivery, JoinOutcome, Overflow, Receipt, Room, Scope, Target};

use super::{Subject, asking, attach, attach_all, emit, event, queued, rooms};
use crate::{AnswerLog, TextCodec};

/// A target without rooms addresses every member.
pub async fn reaches_all_members(router: Subject) {
    let codec = TextCodec::new("t");
    assert_eq!(router.broadcast(&Target::default(), &event("nobody")).flush_backlog(), Receipt::default());
    let probes = attach_all(&router, &codec, ["a", "b", "c"]);
    assert_eq!(router.broadcast(&Target::default(), &event("news")).flush_backlog(), queued(3));
    for (probe, _) in &probes {
        assert_eq!(probe.received(), ["t:news[]"]);
    }
}

/// `skip` excludes one member, by its key.
pub async fn skips_the_sender(router: Subject) {
    let codec = TextCodec::new("t");
    let [(a, key), (b, _)] = attach_all(&router, &codec, ["a", "b"]);
    let everybody = Target { skip: Some(key), ..Target::default() };
    assert_eq!(router.broadcast(&everybody, &event("news")).flush_backlog(), queued(1));
    let both = Target { rooms: rooms(["a", "b"]), skip: Some(key), ..Target::default() };
    assert_eq!(router.broadcast(&both, &event("more")).flush_backlog(), queued(1));
    assert_eq!(a.received(), [""; 0]);
    assert_eq!(b.received(), ["t:news[]", "t:more[]"]);
}

/// A room addresses only its current members.
pub async fn reaches_current_room_members(router: Subject) {
    let codec = TextCodec::new("t");
    let [(a, a_key), (b, b_key), (c, _)] = attach_all(&router, &codec, ["a", "b", "c"]);
    let room = Room::from("r");
    assert_eq!(emit(&router, ["r"], "empty"), queued(0));
    assert_eq!(router.join(a_key, &room), JoinOutcome::Joined);
    assert_eq!(router.join(b_key, &room), JoinOutcome::Joined);
    assert_eq!(router.join(b_key, &room), JoinOutcome::Already);
    assert_eq!(emit(&router, ["r"], "both"), queued(2));
    assert!(router.leave(a_key, &room));
    assert!(!router.leave(a_key, &room));
    assert_eq!(emit(&router, ["r"], "one"), queued(1));
    assert_eq!(router.join(a_key, &room), JoinOutcome::Joined);
    assert!(router.leave(b_key, &room));
    assert_eq!(emit(&router, ["r"], "other"), queued(1));
    assert_eq!(a.received(), ["t:both[]", "t:other[]"]);
    assert_eq!(b.received(), ["t:both[]", "t:one[]"]);
    assert_eq!(c.received(), [""; 0]);
}

/// A member of several of the rooms gets one copy.
pub async fn reaches_overlapping_rooms_once(router: Subject) {
    let codec = TextCodec::new("t");
    let [(a, a_key), (b, b_key), (c, _)] = attach_all(&router, &codec, ["a", "b", "c"]);
    for room in ["r", "s"] {
        router.join(a_key, &Room::from(room));
    }
    router.join(b_key, &Room::from("s"));
    assert_eq!(emit(&router, ["r", "s", "none"], "news"), queued(2));
    assert_eq!(emit(&router, ["r", "r"], "same"), queued(1));
    assert_eq!(emit(&router, ["r", "a"], "own"), queued(1));
    assert_eq!(a.received(), ["t:news[]", "t:same[]", "t:own[]"]);
    assert_eq!(b.received(), ["t:news[]"]);
    assert_eq!(c.received(), [""; 0]);
}

/// `except` takes rooms and ids, and ignores unknown names.
pub async fn excludes_rooms_and_ids(router: Subject) {
    let codec = TextCodec::new("t");
    let [(a, a_key), (b, b_key), (c, c_key), (d, _)] = attach_all(&router, &codec, ["a", "b", "c", "d"]);
    for key in [a_key, b_key, c_key] {
        router.join(key, &Room::from("r"));
    }
    router.join(b_key, &Room::from("muted"));
    let mut target = Target { except: rooms(["muted", "c", "none"]), ..Target::default() };
    assert_eq!(router.broadcast(&target, &event("all")).flush_backlog(), queued(2));
    target.rooms = rooms(["r"]);
    assert_eq!(router.broadcast(&target, &event("room")).flush_backlog(), queued(1));
    // The room itself is excluded: no recipient remains, and nothing deadlocks.
    target.except = rooms(["r", "r"]);
    assert_eq!(router.broadcast(&target, &event("none")).flush_backlog(), queued(0));
    target.rooms = rooms(["d", "b"]);
    assert_eq!(router.broadcast(&target, &event("ids")).flush_backlog(), queued(1));
    assert_eq!(a.received(), ["t:all[]", "t:room[]"]);
    assert_eq!(b.received(), [""; 0]);
    assert_eq!(c.received(), [""; 0]);
    assert_eq!(d.received(), ["t:all[]", "t:ids[]"]);
}

/// The room of a socket's own id exists without a join and cannot be left.
pub async fn reaches_socket_by_id(router: Subject) {
    let codec = TextCodec::new("t");
    let [(a, a_key), (b, _)] = attach_all(&router, &codec, ["a", "b"]);
    assert_eq!(emit(&router, ["a"], "hello"), queued(1));
    assert_eq!(router.join(a_key, &Room::from("a")), JoinOutcome::Already);
    assert!(!router.leave(a_key, &Room::from("a")));
    assert_eq!(emit(&router, ["a"], "still"), queued(1));
    router.detach(a_key);
    assert_eq!(emit(&router, ["a"], "gone"), queued(0));
    assert_eq!(a.received(), ["t:hello[]", "t:still[]"]);
    assert_eq!(b.received(), [""; 0]);
}

/// A name that is an id addresses that socket and all members of a room of that name.
pub async fn id_and_room_share_name(router: Subject) {
    let codec = TextCodec::new("t");
    let [(a, _), (b, b_key), (c, _)] = attach_all(&router, &codec, ["a", "b", "c"]);
    assert_eq!(router.join(b_key, &Room::from("a")), JoinOutcome::Joined);
    assert_eq!(router.count(&Room::from("a")), 2);
    assert_eq!(emit(&router, ["a"], "both"), queued(2));
    assert_eq!(emit(&router, ["a", "b"], "once"), queued(2));
    let but_a = Target { except: rooms(["a"]), ..Target::default() };
    assert_eq!(router.broadcast(&but_a, &event("rest")).flush_backlog(), queued(1));
    assert!(router.leave(b_key, &Room::from("a")));
    assert_eq!(emit(&router, ["a"], "id"), queued(1));
    assert_eq!(a.received(), ["t:both[]", "t:once[]", "t:id[]"]);
    assert_eq!(b.received(), ["t:both[]", "t:once[]"]);
    assert_eq!(c.received(), ["t:rest[]"]);
}

/// An id addresses its newest member; a late leave or detach of the older member does not affect it.
pub async fn id_reaches_newest_member(router: Subject) {
    let codec = TextCodec::new("t");
    let room = Room::from("r");
    let [(old, old_key)] = attach_all(&router, &codec, ["a"]);
    router.join(old_key, &room);
    let [(new, new_key)] = attach_all(&router, &codec, ["a"]);
    assert_ne!(old_key, new_key);
    assert_eq!(emit(&router, ["a"], "id"), queued(1));
    assert_eq!(emit(&router, ["r"], "old room"), queued(1));
    assert_eq!(router.join(new_key, &room), JoinOutcome::Joined);
    assert_eq!(emit(&router, ["r"], "both"), queued(2));
    assert!(router.leave(old_key, &room));
    assert_eq!(emit(&router, ["r"], "late leave"), queued(1));
    assert!(router.detach(old_key));
    assert_eq!(emit(&router, ["a"], "late detach"), queued(1));
    assert_eq!(emit(&router, ["r"], "room"), queued(1));
    assert!(!router.detach(old_key));
    assert_eq!(old.received(), ["t:old room[]", "t:both[]"]);
    assert_eq!(new.received(), ["t:id[]", "t:both[]", "t:late leave[]", "t:late detach[]", "t:room[]"]);
    assert!(router.detach(new_key));
    assert_eq!(emit(&router, ["a", "r"], "nobody"), queued(0));
}

/// A direct target reaches one member in any rooms.
pub async fn direct_target_reaches_one_member(router: Subject) {
    let (able, limited) = (TextCodec::new("able"), TextCodec::limited("limited"));
    let [(a, _), (b, _)] = attach_all(&router, &able, ["a", "b"]);
    let (c, _) = attach(&router, "c", &limited);
    assert_eq!(
        router.send(&a.member(), Delivery::Reliable, Overflow::Inherit, &mut event("hello")).flush_backlog(),
        queued(1)
    );
    assert_eq!(a.received(), ["able:hello[]"]);
    assert_eq!(b.received(), [""; 0]);
    let (request, log) = AnswerLog::request(3);
    let question = asking("question", &request);
    assert_eq!(
        router
            .send(&b.member(), Delivery::Reliable, Overflow::Inherit, &mut question.clone())
            .flush_backlog(),
        queued(1)
    );
    let unsupported = Receipt { unsupported: 1, ..Receipt::default() };
    assert_eq!(
        router
            .send(&c.member(), Delivery::Reliable, Overflow::Inherit, &mut question.clone())
            .flush_backlog(),
        unsupported
    );
    assert_eq!((b.received(), b.acks().len()), (vec!["able:question[]#3".to_owned()], 1));
    assert_eq!((log.unanswered(), c.acks().len()), (vec![c.id().clone()], 0));
    b.outbox().close(CloseReason::TransportClose);
    let closed = Receipt { closed: 1, ..Receipt::default() };
    assert_eq!(
        router.send(&b.member(), Delivery::Reliable, Overflow::Inherit, &mut event("late")).flush_backlog(),
        closed
    );
    assert_eq!(able.encoded(), 3);
}

/// Returns the ids of the members that a broadcast would reach.
pub async fn lists_ids_of_recipients(router: Subject) {
    let codec = TextCodec::new("t");
    let [(_, a), (_, b), (_, c)] = attach_all(&router, &codec, ["a", "b", "c"]);
    for (key, room) in [(a, "r"), (b, "r"), (b, "s"), (c, "s")] {
        router.join(key, &Room::from(room));
    }
    let node = Target { scope: Scope::Node, ..Target::default() };
    let cases = [
        (node.clone(), vec!["a", "b", "c"]),
        (Target { rooms: rooms(["r", "s", "a"]), ..node.clone() }, vec!["a", "b", "c"]),
        (Target { rooms: rooms(["r", "c"]), except: rooms(["s"]), ..node.clone() }, vec!["a"]),
        (Target { rooms: rooms(["s"]), skip: Some(b), ..node.clone() }, vec!["c"]),
        (Target { rooms: rooms(["none"]), ..node }, vec![]),
    ];
    for (target, expected) in cases {
        let found = router.find(&target);
        let mut named: Vec<_> = found.iter().map(|found| found.id.as_str()).collect();
        named.sort_unstable();
        assert_eq!(named, expected, "{target:?}");
    }
}
