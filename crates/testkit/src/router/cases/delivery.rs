//! Cases for event delivery.

use roomcast_core::{
    Bytes, CloseReason, Delivery, Event, IntoArgs, JoinOutcome, Namespace, Overflow, Readiness, Receipt,
    Room, Target,
};

use super::{Subject, attach, attach_all, emit, event, queued, rooms};
use crate::{MemberProbe, TextCodec};

/// Encodes once per codec among the recipients, in any mix, and not at all without recipients.
pub async fn encodes_once_per_codec(router: Subject) {
    let codecs = [TextCodec::new("x"), TextCodec::new("y"), TextCodec::limited("z")];
    let unused = TextCodec::new("unused");
    let probes: Vec<_> =
        (0..9).map(|index| attach(&router, &format!("m{index}"), &codecs[index % codecs.len()])).collect();
    let (outsider, _) = attach(&router, "outsider", &unused);
    for (_, key) in &probes {
        router.join(*key, &Room::from("r"));
    }
    assert_eq!(emit(&router, ["r"], "news"), queued(9));
    assert_eq!(emit(&router, ["empty"], "none"), queued(0));
    for (index, (probe, _)) in probes.iter().enumerate() {
        assert_eq!(probe.received(), [format!("{}:news[]", ["x", "y", "z"][index % 3])]);
    }
    assert_eq!(codecs.each_ref().map(|codec| codec.encoded()), [1, 1, 1]);
    assert_eq!((unused.encoded(), outsider.received().len()), (0, 0));
}

/// Recipients whose codec cannot encode the event are counted; the others get it.
pub async fn unsupported_codec_affects_no_other_member(router: Subject) {
    let (able, limited) = (TextCodec::new("able"), TextCodec::limited("limited"));
    let full = attach_all(&router, &able, ["a", "b"]);
    let plain = attach_all(&router, &limited, ["c", "d", "e"]);
    let args = Bytes::from_static(b"picture").into_args().expect("bytes are an argument");
    let receipt =
        router.broadcast(&Target::default(), &Event::new(Namespace::main(), "image", args)).flush_backlog();
    assert_eq!(receipt, Receipt { queued: 2, unsupported: 3, ..Receipt::default() });
    // A refusal is also requested only once.
    assert_eq!((able.encoded(), limited.encoded()), (1, 1));
    for (probe, _) in &full {
        assert_eq!(probe.received(), [r#"able:image[{"_placeholder":true,"num":0}]"#, "picture"]);
    }
    for (probe, _) in &plain {
        assert_eq!((probe.received(), probe.outbox().closed()), (vec![], None));
    }
}

/// A volatile event is dropped for a member whose connection is absent or blocked.
pub async fn drops_volatile_for_blocked_members(router: Subject) {
    let codec = TextCodec::new("t");
    let away = MemberProbe::detached("away", &codec, 1 << 20);
    let blocked = MemberProbe::new("blocked", &codec);
    let ready = MemberProbe::new("ready", &codec);
    for probe in [&away, &blocked, &ready] {
        router.attach(probe.member());
    }
    blocked.sink().set(Readiness::Blocked);
    assert_eq!(router.broadcast(&Target::default(), &event("reliable")).flush_backlog(), queued(3));
    assert_eq!(blocked.received(), [""; 0]);
    let target = Target { delivery: Delivery::Volatile, ..Target::default() };
    let receipt = router.broadcast(&target, &event("volatile")).flush_backlog();
    assert_eq!(receipt, Receipt { queued: 1, dropped: 2, ..Receipt::default() });
    assert_eq!(ready.received(), ["t:reliable[]", "t:volatile[]"]);
    away.connect();
    assert_eq!(away.received(), ["t:reliable[]"]);
}

/// A member whose outbox is full is closed and counted; the others are unaffected.
pub async fn full_outbox_closes_one_member(router: Subject) {
    let codec = TextCodec::new("t");
    let slow = MemberProbe::with_limit("slow", &codec, 200);
    slow.sink().set(Readiness::Blocked);
    router.attach(slow.member());
    let (quick, _) = attach(&router, "quick", &codec);
    let mut closed = 0;
    for _ in 0..10 {
        let receipt = router.broadcast(&Target::default(), &event("news")).flush_backlog();
        assert_eq!(receipt.queued + receipt.closed, 2);
        closed += receipt.closed;
    }
    assert_eq!(slow.outbox().closed(), Some(CloseReason::OutboxFull));
    assert!(closed > 1, "a closed member counts as closed until it is detached");
    assert_eq!(quick.received().len(), 10);
}

/// The target's overflow policy applies.
pub async fn applies_overflow_policy_of_target(router: Subject) {
    let codec = TextCodec::new("t");
    let slow = MemberProbe::detached("slow", &codec, 160);
    router.attach(slow.member());
    let send = |name: &str, overflow| {
        router.broadcast(&Target { overflow, ..Target::default() }, &event(name)).flush_backlog()
    };
    assert_eq!(send("one", Overflow::Close), queued(1));
    assert_eq!(send("two", Overflow::Close), queued(1));
    let dropped = Receipt { dropped: 1, ..Receipt::default() };
    assert_eq!(send("new", Overflow::DropNewest), dropped);
    assert_eq!(send("new", Overflow::DropOldest), Receipt { queued: 1, ..dropped });
    assert_eq!(slow.outbox().closed(), None);
    slow.connect();
    assert_eq!(slow.received(), ["t:two[]", "t:new[]"]);
}

/// A keyed event replaces the queued one with the same key.
pub async fn keeps_latest_event_per_key(router: Subject) {
    let codec = TextCodec::new("t");
    let away = MemberProbe::detached("away", &codec, 1 << 20);
    router.attach(away.member());
    let target = Target { overflow: Overflow::KeepLatest, ..Target::default() };
    let send = |name, key: &str| {
        router.broadcast(&target, &Event { key: Some(key.into()), ..event(name) }).flush_backlog()
    };
    assert_eq!(send("a1", "a"), queued(1));
    assert_eq!(send("b1", "b"), queued(1));
    assert_eq!(send("a2", "a"), Receipt { queued: 1, dropped: 1, ..Receipt::default() });
    assert_eq!(router.broadcast(&target, &event("keyless")).flush_backlog(), queued(1));
    away.connect();
    assert_eq!(away.received(), ["t:b1[]", "t:a2[]", "t:keyless[]"]);
}

/// Each receiver keeps the order of each sender under concurrent sends, joins and leaves.
pub async fn keeps_order_per_sender(router: Subject) {
    const EVENTS: usize = 400;
    const SENDERS: usize = 3;
    let codec = TextCodec::new("t");
    let steady = attach_all(&router, &codec, ["a", "b", "c", "d"]);
    for (_, key) in &steady {
        router.join(*key, &Room::from("r"));
        router.join(*key, &Room::from("s"));
    }
    let (fickle, fickle_key) = attach(&router, "fickle", &codec);
    std::thread::scope(|scope| {
        let send = |sender| {
            let router = &router;
            scope.spawn(move || {
                let targets = [vec![], rooms(["r"]), rooms(["r", "s"]), rooms(["a", "b", "c", "d"])];
                for number in 0..EVENTS {
                    let target =
                        Target { rooms: targets[number % targets.len()].clone(), ..Target::default() };
                    let receipt =
                        router.broadcast(&target, &event(&format!("{sender} {number}"))).flush_backlog();
                    assert!(receipt.queued >= 4, "{receipt:?}");
                }
            })
        };
        let senders: Vec<_> = (0..SENDERS).map(send).collect();
        while !senders.iter().all(|sender| sender.is_finished()) {
            assert_eq!(router.join(fickle_key, &Room::from("r")), JoinOutcome::Joined);
            assert!(router.leave(fickle_key, &Room::from("r")));
        }
    });
    for (probe, _) in &steady {
        for (sender, numbers) in by_sender(&probe.received(), SENDERS).iter().enumerate() {
            assert!(numbers.iter().copied().eq(0..EVENTS), "{} of sender {sender}: {numbers:?}", probe.id());
        }
    }
    for numbers in by_sender(&fickle.received(), SENDERS) {
        assert!(numbers.is_sorted_by(|earlier, later| earlier < later), "{numbers:?}");
    }
}

fn by_sender(texts: &[String], senders: usize) -> Vec<Vec<usize>> {
    let mut numbers = vec![Vec::new(); senders];
    for text in texts {
        let name = text.strip_prefix("t:").and_then(|text| text.strip_suffix("[]")).expect("event text");
        let (sender, number) = name.split_once(' ').expect("sender and number");
        numbers[sender.parse::<usize>().expect("sender number")].push(number.parse().expect("event number"));
    }
    numbers
}
