//! Frames of broadcasts that several queues share.

use super::queue::ENTRY_COST;
use super::*;
use crate::memory::tests::NET;

/// Pushes a broadcast to all outboxes.
fn broadcast(outboxes: &[&Outbox], text: &str) -> Vec<PushOutcome> {
    broadcast_in(0, outboxes, text)
}

/// Pushes a broadcast to all outboxes, in this codec.
fn broadcast_in(codec: usize, outboxes: &[&Outbox], text: &str) -> Vec<PushOutcome> {
    let shared = SharedFrame::of_codec(frame(text), codec);
    let push = |outbox: &&Outbox| outbox.push_shared(&shared, Delivery::Reliable, Overflow::Inherit);
    outboxes.iter().map(push).collect()
}

/// Returns two outboxes on one list, and starts a turn.
fn two(bounds: impl Into<Bounds>) -> (FlushList, [(Outbox, Carrier); 2]) {
    let (list, bounds) = (FlushList::new(), bounds.into());
    list.write_all();
    let outboxes = [connected_to(&list, bounds), connected_to(&list, bounds)];
    (list, outboxes)
}

#[test]
fn broadcasts_join_into_one_frame() {
    let (list, [(a, at_a), (b, at_b)]) = two(1 << 20);
    let each = ENTRY_COST + 1;
    for (number, text) in (1..).zip(["1", "2", "3"]) {
        assert_eq!(broadcast(&[&a, &b], text), [PushOutcome::Queued; 2]);
        assert_eq!(a.waiting(), QueueDepth { frames: number, bytes: number * each });
    }
    list.write_all();
    assert_eq!((at_a.written(), at_b.written()), (vec!["123".to_owned()], vec!["123".to_owned()]));
    assert_eq!(list.written(), WriteStats { frames: 6, bytes: 6 });
    assert_eq!(a.waiting(), QueueDepth::default());
}

#[test]
fn each_codec_joins_its_own_frames() {
    const CODECS: usize = 6;
    for codecs in 1..=CODECS {
        let list = FlushList::new();
        list.write_all();
        let clients: Vec<_> = (0..2 * codecs).map(|_| connected_to(&list, exactly(1 << 20))).collect();
        for text in ["1", "2", "3"] {
            for (codec, pair) in clients.chunks(2).enumerate() {
                let pair = [&pair[0].0, &pair[1].0];
                assert_eq!(broadcast_in(codec, &pair, &format!("{codec}{text}")), [PushOutcome::Queued; 2]);
            }
        }
        list.write_all();
        for (codec, pair) in clients.chunks(2).enumerate() {
            let joined = ["1", "2", "3"].map(|text| format!("{codec}{text}"));
            for (_, carrier) in pair {
                let written = carrier.written();
                assert_eq!(written.concat(), joined.concat());
                // More codecs than the thread has turns lose their runs, but no order.
                assert!(codecs > 4 || written.len() == 1, "{written:?}");
            }
        }
    }
}

#[test]
fn other_frames_keep_their_place() {
    let (list, [(a, at_a), (b, at_b)]) = two(1 << 20);
    let _ = broadcast(&[&a, &b], "1");
    let _ = broadcast(&[&a], "2");
    let _ = broadcast(&[&a, &b], "3");
    assert_eq!(push(&a, "x"), PushOutcome::Queued);
    let _ = broadcast(&[&a, &b], "4");
    assert_eq!(b.push(frame("y"), Delivery::Volatile, Overflow::Close), PushOutcome::Queued);
    let _ = broadcast(&[&b, &a], "5");
    list.write_all();
    assert_eq!((at_a.written().concat(), at_b.written().concat()), ("123x45".into(), "134y5".into()));
    let _ = broadcast(&[&a, &b], "6");
    list.write_all();
    assert_eq!((at_a.written().concat(), at_b.written().concat()), ("123x456".into(), "134y56".into()));
}

#[test]
fn long_sequences_keep_order() {
    let (list, [(a, at_a), (b, at_b)]) = two(1 << 20);
    let texts: Vec<_> = (0..1000).map(|number| format!("{number:0>200} ")).collect();
    for text in &texts {
        let _ = broadcast(&[&a, &b], text);
    }
    list.write_all();
    for carrier in [at_a, at_b] {
        assert!(carrier.written().iter().all(|joined| joined.len() <= 16 * 1024));
        assert_eq!(carrier.written().concat(), texts.concat());
    }
}

#[test]
fn keyed_frames_are_not_joined() {
    let (list, [(a, at_a), (b, _)]) = two(1 << 20);
    for text in ["1", "2", "3"] {
        let shared = SharedFrame::of_codec(keyed("k", text), 0);
        for outbox in [&a, &b] {
            let pushed = outbox.push_shared(&shared, Delivery::Reliable, Overflow::KeepLatest);
            assert!(matches!(pushed, PushOutcome::Queued | PushOutcome::Displaced(1)), "{pushed:?}");
        }
    }
    list.write_all();
    assert_eq!(at_a.written(), ["3"]);
}

#[test]
fn policies_drop_single_frames_of_stalled_client() {
    let each = ENTRY_COST + 1;
    let (list, [(a, at_a), (b, at_b)]) = two(Bounds::new(3 * each, 100 * each));
    at_a.takes(0);
    let _ = push(&a, "0");
    list.write_all();
    a.set_overflow(Overflow::DropOldest);
    assert_eq!(broadcast(&[&a, &b], "1"), [PushOutcome::Queued; 2]);
    assert_eq!(broadcast(&[&a, &b], "2"), [PushOutcome::Queued; 2]);
    assert_eq!(broadcast(&[&a, &b], "3"), [PushOutcome::Displaced(1), PushOutcome::Queued]);
    a.set_overflow(Overflow::DropNewest);
    assert_eq!(broadcast(&[&a, &b], "4"), [PushOutcome::Dropped, PushOutcome::Queued]);
    assert_eq!(a.waiting(), QueueDepth { frames: 3, bytes: 3 * each });
    assert_eq!(waiting(&a, &list).concat(), "023");
    assert_eq!(at_b.written().concat(), "1234");
}

#[test]
fn volatile_frames_are_dropped_when_blocked() {
    let (list, [(a, at_a), (b, _)]) = two(1 << 20);
    at_a.takes(0);
    let _ = push(&a, "0");
    list.write_all();
    let _ = broadcast(&[&a, &b], "1");
    let shared = SharedFrame::of_codec(frame("2"), 0);
    assert_eq!(a.push_shared(&shared, Delivery::Volatile, Overflow::Close), PushOutcome::Dropped);
    assert_eq!(b.push_shared(&shared, Delivery::Volatile, Overflow::Close), PushOutcome::Queued);
    assert_eq!(waiting(&a, &list).concat(), "01");
}

#[test]
fn refused_joined_frame_is_written_later() {
    let (list, [(a, at_a), (b, at_b)]) = two(1 << 20);
    let owner = Arc::new(Owner::default());
    let _ = push(&a, "0");
    let _ = broadcast(&[&a, &b], "1");
    let _ = broadcast(&[&a, &b], "2");
    at_a.takes(1);
    list.write_all();
    assert_eq!(a.waiting(), QueueDepth { frames: 2, bytes: 2 * (ENTRY_COST + 1) });
    let _ = broadcast(&[&a, &b], "3");
    at_a.takes_all();
    assert!(owner.poll(&a).is_pending());
    list.write_all();
    assert_eq!((at_a.written().concat(), at_b.written().concat()), ("0123".into(), "123".into()));
}

#[test]
fn hard_cap_ends_a_sequence() {
    let each = ENTRY_COST + 1;
    let (_list, [(a, _), (b, _)]) = two(exactly(2 * each));
    for text in ["1", "2"] {
        assert_eq!(broadcast(&[&a, &b], text), [PushOutcome::Queued; 2]);
    }
    assert_eq!(broadcast(&[&a, &b], "3"), [PushOutcome::Overflowed; 2]);
    assert_eq!(broadcast(&[&a], "4"), [PushOutcome::Closed]);
}

#[test]
fn backlog_is_reported_at_high_water() {
    let (_list, [(a, _), (b, _)]) = two(1 << 20);
    let outcomes: Vec<_> = (0..300).map(|_| broadcast(&[&a, &b], "x")[0]).collect();
    let backlogged = outcomes.iter().position(|outcome| *outcome == PushOutcome::Backlogged);
    assert_eq!(backlogged, Some(256));
}

#[test]
fn threads_share_a_queue_in_order() {
    let (list, [(a, at_a), (b, at_b)]) = two(1 << 20);
    std::thread::scope(|scope| {
        for name in ["x", "y"] {
            let (a, b, list) = (&a, &b, &list);
            scope.spawn(move || {
                for number in 0..2000 {
                    let _ = broadcast(&[a, b], &format!("{name}{number} "));
                    if number % 50 == 0 {
                        list.write_all();
                    }
                }
            });
        }
    });
    list.write_all();
    for carrier in [at_a, at_b] {
        let written = carrier.written().concat();
        for name in ["x", "y"] {
            let of_one = written.split_whitespace().filter(|word| word.starts_with(name));
            assert!(of_one.eq((0..2000).map(|number| format!("{name}{number}"))), "in order, each once");
        }
    }
}

#[test]
fn releases_memory_of_sequences() {
    let before = NET.get();
    {
        let (list, [(a, at_a), (b, _)]) = two(1 << 20);
        for _ in 0..3 {
            for _ in 0..100 {
                let _ = broadcast(&[&a, &b], "x");
            }
            assert!(NET.get() > before);
            list.write_all();
        }
        assert_eq!(at_a.written().concat().len(), 300);
        at_a.takes(0);
        for _ in 0..100 {
            let _ = broadcast(&[&a, &b], "x");
        }
        list.write_all();
    }
    assert_eq!(NET.get(), before);
}
