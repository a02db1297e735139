//! Races between attach, detach, join, leave and broadcast.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::Duration;

use roomcast_core::{
    AckId, Args, Codec, EncodeError, Event, Frame, JoinOutcome, Membership, Namespace, Room, Router, Target,
};
use roomcast_rooms::Rooms;
use roomcast_testkit::{MemberProbe, TextCodec};

#[test]
fn join_racing_detach_leaves_nothing() {
    let (rooms, room, codec) = (Rooms::default(), Room::from("r"), TextCodec::new("t"));
    let probe = MemberProbe::new("a", &codec);
    let keys: Vec<_> = (0..ROUNDS).map(|_| rooms.attach(probe.member())).collect();
    let joined = Mutex::new(Vec::with_capacity(ROUNDS));
    let join = |round: usize| joined.lock().unwrap().push(rooms.join(keys[round], &room));
    let detach = |round: usize| assert!(rooms.detach(keys[round]));
    in_step(ROUNDS, [&join, &detach]);
    let joined = joined.into_inner().unwrap();
    assert!(joined.iter().all(|joined| matches!(joined, JoinOutcome::Joined | JoinOutcome::Detached)));
    assert_eq!((rooms.count(&room), rooms.room_count(), rooms.member_count()), (0, 0, 0));
}

#[test]
fn join_racing_leave_is_atomic() {
    let (rooms, room, codec) = (Rooms::default(), Room::from("r"), TextCodec::new("t"));
    let probe = MemberProbe::new("a", &codec);
    for already_in in [false, true] {
        let keys: Vec<_> = (0..ROUNDS).map(|_| rooms.attach(probe.member())).collect();
        if already_in {
            keys.iter().for_each(|key| assert_eq!(rooms.join(*key, &room), JoinOutcome::Joined));
        }
        let (joined, left) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let join = |round: usize| count(&joined, rooms.join(keys[round], &room) == JoinOutcome::Joined);
        let leave = |round: usize| count(&left, rooms.leave(keys[round], &room));
        in_step(ROUNDS, [&join, &leave]);
        let first = if already_in { ROUNDS } else { 0 };
        let stayed = first + joined.into_inner() - left.into_inner();
        assert_eq!(rooms.count(&room), stayed, "successful joins minus leaves");
        let of_members = keys.iter().filter(|key| rooms.rooms_of(**key).contains(&room)).count();
        assert_eq!(of_members, stayed, "members that list the room");
        keys.iter().for_each(|key| assert!(rooms.detach(*key)));
        assert_eq!((rooms.count(&room), rooms.room_count(), rooms.member_count()), (0, 0, 0));
    }
}

#[test]
fn join_survives_concurrent_room_removal() {
    let (rooms, room, codec) = (Rooms::default(), Room::from("r"), TextCodec::new("t"));
    let target = Target { rooms: vec![room.clone()], ..Target::default() };
    together(4, |thread| {
        let probe = MemberProbe::new(&format!("m{thread}"), &codec);
        let key = rooms.attach(probe.member());
        for round in 0..ROUNDS {
            assert_eq!(rooms.join(key, &room), JoinOutcome::Joined);
            if round % 16 == 0 {
                let name = format!("{thread} {round}");
                let queued = rooms.broadcast(&target, &event(&name)).flush_backlog().queued;
                assert!((1..=4).contains(&queued));
                assert!(probe.received().contains(&format!("t:{name}[]")));
            }
            assert!(rooms.count(&room) >= 1);
            assert!(rooms.leave(key, &room));
        }
        assert!(rooms.detach(key));
    });
    assert_eq!((rooms.room_count(), rooms.member_count()), (0, 0));
}

#[test]
fn concurrent_updates_keep_rooms_consistent() {
    let (rooms, codec) = (Rooms::default(), TextCodec::new("t"));
    let names = ["r", "s"].map(Room::from);
    let key = rooms.attach(MemberProbe::new("a", &codec).member());
    let (joins, leaves) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let everybody = Target::default();
    together(4, |thread| {
        for round in 0..ROUNDS {
            let room = &names[round % 2];
            match thread {
                0 => count(&joins, rooms.join(key, room) == JoinOutcome::Joined),
                1 => count(&leaves, rooms.leave(key, room)),
                2 => count(&joins, rooms.update(&everybody, &Membership::Join(vec![room.clone()])) == 1),
                _ => count(&leaves, rooms.update(&everybody, &Membership::Leave(vec![room.clone()])) == 1),
            }
        }
    });
    let of_member = rooms.rooms_of(key);
    for room in &names {
        assert_eq!(rooms.count(room), usize::from(of_member.contains(room)));
    }
    // Each successful join was either undone by a leave, or still holds.
    let remaining = joins.into_inner() - leaves.into_inner();
    assert_eq!((remaining, rooms.room_count()), (of_member.len() - 1, of_member.len() - 1));
    rooms.detach(key);
    assert_eq!(rooms.room_count(), 0);
}

#[test]
fn stale_key_does_not_affect_successor() {
    let (rooms, room, codec) = (Rooms::default(), Room::from("r"), TextCodec::new("t"));
    let to_both = Target { rooms: vec![room.clone(), Room::from("a")], ..Target::default() };
    for _ in 0..ROUNDS / 10 {
        let old = rooms.attach(MemberProbe::new("a", &codec).member());
        rooms.join(old, &room);
        let newer = MemberProbe::new("a", &codec);
        let start = Barrier::new(2);
        let new = std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                rooms.leave(old, &room);
                assert!(rooms.detach(old));
            });
            start.wait();
            let new = rooms.attach(newer.member());
            assert_eq!(rooms.join(new, &room), JoinOutcome::Joined);
            new
        });
        assert_eq!((rooms.count(&room), rooms.count(&Room::from("a"))), (1, 1));
        assert_eq!(rooms.broadcast(&to_both, &event("hello")).flush_backlog().queued, 1);
        assert_eq!(newer.received(), ["t:hello[]"]);
        assert!(rooms.detach(new));
        assert_eq!((rooms.room_count(), rooms.count(&Room::from("a"))), (0, 0));
    }
}

#[test]
fn crossing_broadcasts_do_not_deadlock() {
    within(Duration::from_secs(60), || {
        let (rooms, codec) = (Rooms::default(), TextCodec::new("t"));
        let (r, s) = (Room::from("r"), Room::from("s"));
        let steady = [&r, &s].map(|room| {
            let probe = MemberProbe::new(&format!("always in {room}"), &codec);
            rooms.join(rooms.attach(probe.member()), room);
            probe
        });
        let rs = Target { rooms: vec![r.clone(), s.clone()], ..Target::default() };
        let sr = Target { rooms: vec![s.clone(), r.clone()], ..Target::default() };
        let r_not_s = Target { rooms: vec![r.clone()], except: vec![s.clone()], ..Target::default() };
        let s_not_r = Target { rooms: vec![s.clone()], except: vec![r.clone()], ..Target::default() };
        together(6, |thread| {
            let probe = MemberProbe::new(&format!("m{thread}"), &codec);
            let key = rooms.attach(probe.member());
            for round in 0..ROUNDS {
                match thread {
                    0 => assert!(rooms.broadcast(&rs, &event("rs")).flush_backlog().queued >= 2),
                    1 => assert!(rooms.broadcast(&sr, &event("sr")).flush_backlog().queued >= 2),
                    2 => assert!(rooms.broadcast(&r_not_s, &event("r")).flush_backlog().queued >= 1),
                    3 => assert!(rooms.broadcast(&s_not_r, &event("s")).flush_backlog().queued >= 1),
                    _ => {
                        assert_eq!(rooms.join(key, &r), JoinOutcome::Joined);
                        assert_eq!(rooms.join(key, &s), JoinOutcome::Joined);
                        assert!(rooms.leave(key, if round % 2 == 0 { &r } else { &s }));
                        assert!(rooms.leave(key, if round % 2 == 0 { &s } else { &r }));
                    }
                }
                if round % 64 == 0 {
                    steady.iter().chain([&probe]).for_each(|probe| _ = probe.received());
                }
            }
            assert!(rooms.detach(key));
        });
        assert_eq!((rooms.room_count(), rooms.member_count()), (2, 2));
    });
}

#[test]
fn long_broadcast_delays_only_own_room() {
    /// Blocks in the middle of a broadcast until released.
    #[derive(Debug)]
    struct Gate {
        reached: Mutex<mpsc::SyncSender<()>>,
        open: Mutex<mpsc::Receiver<()>>,
    }
    impl Codec for Gate {
        fn encode(&self, _: &Event) -> Result<Frame, EncodeError> {
            self.reached.lock().unwrap().send(()).unwrap();
            self.open.lock().unwrap().recv().unwrap();
            Ok(Frame::new("let go"))
        }

        fn encode_answer(&self, _: &Namespace, _: AckId, _: &Args) -> Result<Frame, EncodeError> {
            Err(EncodeError::Ack)
        }
    }

    within(Duration::from_secs(60), || {
        let (reached, is_reached) = mpsc::sync_channel(1);
        let (open, is_open) = mpsc::sync_channel(1);
        let gate = Arc::new(Gate { reached: Mutex::new(reached), open: Mutex::new(is_open) });
        let (rooms, room, codec) = (Rooms::default(), Room::from("r"), TextCodec::new("t"));
        let target = Target { rooms: vec![room.clone()], ..Target::default() };
        let slow = rooms.attach(MemberProbe::new("slow", &gate).member());
        rooms.join(slow, &room);
        let (newcomer, other) =
            (rooms.attach(MemberProbe::new("n", &codec).member()), MemberProbe::new("o", &codec));
        let other_key = rooms.attach(other.member());
        let waits = AtomicBool::new(true);
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(rooms.broadcast(&target, &event("long")).flush_backlog().queued, 1));
            is_reached.recv().unwrap();
            scope.spawn(|| {
                assert_eq!(rooms.join(newcomer, &room), JoinOutcome::Joined);
                assert!(!waits.load(Ordering::SeqCst), "join did not wait for the broadcast to its room");
            });
            // While both are in progress: enough names to hit every shard of the map.
            for number in 0..1_000 {
                let room = Room::new(format!("room {number}"));
                assert_eq!(rooms.join(other_key, &room), JoinOutcome::Joined);
                let target = Target { rooms: vec![room.clone()], ..Target::default() };
                assert_eq!(rooms.broadcast(&target, &event("short")).flush_backlog().queued, 1);
                assert!(rooms.leave(other_key, &room));
                let late = rooms.attach(MemberProbe::new("late", &codec).member());
                assert!(rooms.detach(late));
            }
            waits.store(false, Ordering::SeqCst);
            open.send(()).unwrap();
        });
        assert_eq!((other.received().len(), rooms.count(&room)), (1_000, 2));
    });
}

#[test]
fn keeps_order_during_flush() {
    const EVENTS: usize = 3_000;
    let (rooms, room, codec) = (Rooms::default(), Room::from("r"), TextCodec::new("t"));
    let probes: Vec<_> = (0..4).map(|index| MemberProbe::new(&format!("m{index}"), &codec)).collect();
    for probe in &probes {
        rooms.join(rooms.attach(probe.member()), &room);
    }
    let targets =
        [Target::default(), Target { rooms: vec![room.clone(), Room::from("m0")], ..Target::default() }];
    let (sending, received) = (AtomicUsize::new(2), Mutex::new(vec![Vec::new(); probes.len()]));
    together(4, |thread| match thread {
        0 | 1 => {
            let _done = Countdown(&sending);
            for number in 0..EVENTS {
                let target = &targets[number % targets.len()];
                let queued =
                    rooms.broadcast(target, &event(&format!("{thread} {number}"))).flush_backlog().queued;
                assert!(queued >= 4, "steady members get each event: {queued}");
            }
        }
        2 => {
            while sending.load(Ordering::Acquire) != 0 {
                for (probe, received) in probes.iter().zip(received.lock().unwrap().iter_mut()) {
                    received.extend(probe.received());
                }
            }
        }
        _ => {
            let guest = MemberProbe::new("guest", &codec);
            while sending.load(Ordering::Acquire) != 0 {
                let key = rooms.attach(guest.member());
                rooms.join(key, &room);
                assert!(rooms.detach(key));
                guest.received();
            }
        }
    });
    for (probe, mut received) in probes.iter().zip(received.into_inner().unwrap()) {
        received.extend(probe.received());
        for sender in 0..2 {
            let prefix = format!("t:{sender} ");
            let mut expected =
                (0..EVENTS).map(|number| format!("{prefix}{number}[]")).collect::<VecDeque<_>>();
            for text in received.iter().filter(|text| text.starts_with(&prefix)) {
                assert_eq!(expected.pop_front().as_ref(), Some(text), "{}", probe.id());
            }
            assert!(expected.is_empty(), "{} misses {}", probe.id(), expected.len());
        }
    }
}

const ROUNDS: usize = 20_000;

struct Countdown<'a>(&'a AtomicUsize);

impl Drop for Countdown<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

fn count(counter: &AtomicUsize, happened: bool) {
    counter.fetch_add(usize::from(happened), Ordering::Relaxed);
}

fn event(name: &str) -> Event {
    Event::new(Namespace::main(), name.to_owned(), Args::empty())
}

/// Runs `work` on several threads that start together.
fn together(threads: usize, work: impl Fn(usize) + Sync) {
    let start = Barrier::new(threads);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                start.wait();
                work(thread);
            });
        }
    });
}

/// Runs both parts on separate threads, synchronized by spinning before every round: threads that have to be woken
/// rarely collide.
fn in_step(rounds: usize, parts: [&(dyn Fn(usize) + Sync); 2]) {
    /// Number of rounds that a thread has begun; the maximum once it has ended, even by a panic.
    struct Progress<'a>(&'a AtomicUsize);
    impl Drop for Progress<'_> {
        fn drop(&mut self) {
            self.0.store(usize::MAX, Ordering::Release);
        }
    }

    let progress = [AtomicUsize::new(0), AtomicUsize::new(0)];
    std::thread::scope(|scope| {
        for (own, part) in parts.into_iter().enumerate() {
            let progress = &progress;
            scope.spawn(move || {
                let begun = Progress(&progress[own]);
                for round in 0..rounds {
                    begun.0.store(round + 1, Ordering::Release);
                    let mut spins = 0;
                    while progress[1 - own].load(Ordering::Acquire) <= round {
                        spins += 1;
                        if spins < 1_000 { std::hint::spin_loop() } else { std::thread::yield_now() }
                    }
                    // The threads alternate in starting later, so that over time every pair of steps overlaps.
                    let delay = if round % 2 == own { round % 128 } else { 0 };
                    (0..delay).for_each(|_| std::hint::spin_loop());
                    part(round);
                }
            });
        }
    });
}

/// Runs `work` on another thread, and panics if it exceeds the time limit.
#[expect(clippy::disallowed_methods, reason = "a deadlock must not block the test thread")]
fn within(limit: Duration, work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::sync_channel(1);
    let worker = std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    match is_done.recv_timeout(limit) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("deadlock"),
        _ => worker.join().unwrap(),
    }
}
