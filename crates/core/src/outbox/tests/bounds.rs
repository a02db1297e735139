//! Limits and overflow policies.

use super::queue::{BATCH_FRAMES, ENTRY_COST};
use super::*;

/// Cost of a frame besides its message bytes.
const EACH: usize = ENTRY_COST;

#[test]
fn counts_bytes_and_frames() {
    let outbox = Outbox::new(exactly(2 * (EACH + 3)), FlushList::new());
    assert_eq!(push(&outbox, "abc"), PushOutcome::Queued);
    assert_eq!(push(&outbox, "def"), PushOutcome::Queued);
    assert_eq!(outbox.waiting(), QueueDepth { frames: 2, bytes: 2 * (EACH + 3) });
    assert_eq!(push(&outbox, ""), PushOutcome::Overflowed);
    assert_eq!(push(&outbox, ""), PushOutcome::Closed);
    assert_eq!(outbox.closed(), Some(CloseReason::OutboxFull));
}

#[test]
fn accepts_any_size_when_empty() {
    let (outbox, list, carrier) = connected(exactly(100));
    let large = "x".repeat(10_000);
    for delivery in [Delivery::Reliable, Delivery::Volatile, Delivery::Protocol] {
        assert_eq!(outbox.push(frame(&large), delivery, Overflow::Close), PushOutcome::Queued);
        assert_eq!(outbox.push(frame("x"), Delivery::Reliable, Overflow::DropNewest), PushOutcome::Dropped);
        list.write_all();
    }
    assert_eq!(carrier.written(), [&*large; 3]);
}

#[test]
fn accepts_maximum_limit() {
    let outbox = Outbox::new(usize::MAX, FlushList::new());
    for delivery in [Delivery::Reliable, Delivery::Protocol] {
        assert_eq!(outbox.push(frame("x"), delivery, Overflow::Close), PushOutcome::Queued);
    }
}

#[test]
fn give_up_frees_the_queue() {
    without_locking_up(|| {
        let (outbox, list, carrier) = connected(100);
        let owner = Arc::new(Owner::default());
        assert!(owner.poll(&outbox).is_pending());
        carrier.takes(0);
        let first = frame("first");
        assert_eq!(outbox.push(first.clone(), Delivery::Reliable, Overflow::Close), PushOutcome::Queued);
        list.write_all();
        assert!(owner.poll(&outbox).is_pending());
        assert!(first.is_shared());
        let woken = owner.wakes();
        assert_eq!(outbox.evict(CloseReason::SlowConsumer), EACH + 5);
        assert_eq!((outbox.waiting(), first.is_shared()), (QueueDepth::default(), false));
        assert_eq!(owner.wakes(), woken + 1);
        assert_eq!(owner.poll(&outbox), Poll::Ready(CloseReason::SlowConsumer));
        assert_eq!(push(&outbox, "third"), PushOutcome::Closed);
        // The first reason is kept.
        assert_eq!(outbox.evict(CloseReason::OutboxFull), 0);
        outbox.close(CloseReason::ServerShutdown);
        assert_eq!(outbox.closed(), Some(CloseReason::SlowConsumer));
        assert!(!carrier.is_held());
    });
}

#[test]
fn give_up_accepts_only_final_frame() {
    without_locking_up(|| {
        let (outbox, list, carrier) = connected(100);
        let owner = Arc::new(Owner::default());
        carrier.takes(0);
        assert_eq!(push(&outbox, "lost"), PushOutcome::Queued);
        list.write_all();
        outbox.evict(CloseReason::SlowConsumer);
        assert_eq!(owner.poll(&outbox), Poll::Ready(CloseReason::SlowConsumer));
        assert!(carrier.is_held());
        assert_eq!(outbox.push_protocol(frame("pong")), PushOutcome::Closed);
        assert_eq!(outbox.push_last(frame("goodbye")), PushOutcome::Queued);
        assert_eq!(outbox.push_last(frame("again")), PushOutcome::Closed);
        assert_eq!(push(&outbox, "no"), PushOutcome::Closed, "application frames are rejected");
        outbox.finish();
        assert_eq!(outbox.push_protocol(frame("more")), PushOutcome::Closed);
        assert!(owner.drain(&outbox).is_pending());
        carrier.takes_all();
        assert!(owner.drain(&outbox).is_ready());
        assert_eq!(carrier.written(), ["goodbye"]);
        outbox.close(CloseReason::SlowConsumer);
        assert!(!carrier.is_held());
    });
}

#[test]
fn sends_final_frame_beyond_hard_cap() {
    let (outbox, list, carrier) = connected(exactly(1000));
    let owner = Arc::new(Owner::default());
    carrier.takes(0);
    while outbox.waiting().bytes + 2 * EACH < 1000 {
        assert_eq!(outbox.push_protocol(frame("pong")), PushOutcome::Queued);
    }
    list.write_all();
    assert_eq!(outbox.push_last(frame(&"goodbye".repeat(EACH))), PushOutcome::Queued);
    assert_eq!(owner.poll(&outbox), Poll::Ready(CloseReason::OutboxFull));
    outbox.finish();
    assert!(owner.drain(&outbox).is_pending());
    carrier.takes_all();
    assert!(owner.drain(&outbox).is_ready());
    assert_eq!(carrier.written(), ["goodbye".repeat(EACH)]);
}

#[test]
fn overflow_frees_leased_batch() {
    let (outbox, list, carrier) = connected(exactly(4 * (EACH + 1)));
    let owner = Arc::new(Owner::default());
    assert!(owner.poll(&outbox).is_pending());
    let out = frame("2");
    assert_eq!(push(&outbox, "1"), PushOutcome::Queued);
    assert_eq!(outbox.push(out.clone(), Delivery::Reliable, Overflow::Close), PushOutcome::Queued);
    carrier.takes(1);
    let pushing = outbox.clone();
    carrier.at_each_call(move |_| {
        let pushed = ["3", "4", "5"].map(|text| push(&pushing, text));
        assert_eq!(pushed, [PushOutcome::Queued, PushOutcome::Queued, PushOutcome::Overflowed]);
    });
    list.write_all();
    assert_eq!((outbox.waiting(), out.is_shared()), (QueueDepth::default(), false));
    assert_eq!(
        (carrier.written(), owner.poll(&outbox)),
        (vec!["1".into()], Poll::Ready(CloseReason::OutboxFull))
    );
}

#[test]
fn drops_leased_batch_before_final_frame() {
    let (outbox, list, carrier) = connected(exactly(4 * (EACH + 1)));
    let owner = Arc::new(Owner::default());
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!(["1", "2"].map(|text| push(&outbox, text)), [PushOutcome::Queued; 2]);
    carrier.takes(1);
    // The owner finishes the client on another thread before the flusher takes the lock again.
    let closing = outbox.clone();
    carrier.at_each_call(move |call| {
        if call > 1 {
            return;
        }
        while push(&closing, "3") == PushOutcome::Queued {}
        assert_eq!(closing.push_last(frame("goodbye")), PushOutcome::Queued);
        closing.finish();
    });
    list.write_all();
    let goodbye = QueueDepth { frames: 1, bytes: EACH + "goodbye".len() };
    assert_eq!((outbox.waiting(), carrier.written()), (goodbye, vec!["1".into()]));
    carrier.takes_all();
    assert!(owner.drain(&outbox).is_ready());
    assert_eq!(carrier.written(), ["1", "goodbye"]);
}

#[test]
fn queues_volatile_frames_while_sink_ready() {
    let volatile = |outbox: &Outbox| outbox.push(frame("v"), Delivery::Volatile, Overflow::Close);
    let list = FlushList::new();
    let outbox = Outbox::new(exactly(150), list.clone());
    assert_eq!(volatile(&outbox), PushOutcome::Dropped, "no sink yet");
    let carrier = Carrier::default();
    outbox.set_sink(carrier.sink());
    assert_eq!(volatile(&outbox), PushOutcome::Queued);
    assert_eq!(volatile(&outbox), PushOutcome::Queued);
    assert_eq!(volatile(&outbox), PushOutcome::Dropped, "full");
    list.write_all();
    carrier.takes(0);
    assert_eq!(push(&outbox, "r"), PushOutcome::Queued);
    list.write_all();
    assert_eq!(volatile(&outbox), PushOutcome::Dropped, "blocked");
    let owner = Arc::new(Owner::default());
    carrier.park();
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!(volatile(&outbox), PushOutcome::Dropped, "parked");
    carrier.takes_all();
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!(volatile(&outbox), PushOutcome::Queued);
    list.write_all();
    assert_eq!(carrier.written(), ["v", "v", "r", "v"]);
    outbox.close(CloseReason::ServerShutdown);
    assert_eq!(volatile(&outbox), PushOutcome::Closed);
}

#[test]
fn hard_cap_bounds_protocol_frames() {
    let outbox = Outbox::new(Bounds::new(EACH, 10 * EACH), FlushList::new());
    for _ in 0..10 {
        assert_eq!(outbox.push_protocol(frame("")), PushOutcome::Queued);
    }
    assert_eq!(outbox.push_protocol(frame("")), PushOutcome::Overflowed);
    assert_eq!(outbox.closed(), Some(CloseReason::OutboxFull));
}

#[test]
fn drop_newest_rejects_the_push() {
    let list = FlushList::new();
    let outbox = Outbox::new(2 * (EACH + 1), list.clone());
    for (text, pushed) in
        [("1", PushOutcome::Queued), ("2", PushOutcome::Queued), ("3", PushOutcome::Dropped)]
    {
        assert_eq!(outbox.push(frame(text), Delivery::Reliable, Overflow::DropNewest), pushed);
    }
    assert_eq!(waiting(&outbox, &list), ["1", "2"]);
}

#[test]
fn drop_oldest_keeps_remaining_order() {
    let list = FlushList::new();
    let outbox = Outbox::new(4 * (EACH + 1), list.clone());
    let drop_oldest = |text| outbox.push(frame(text), Delivery::Reliable, Overflow::DropOldest);
    outbox.push_protocol(frame("p"));
    assert_eq!(["1", "2", "3"].map(drop_oldest), [PushOutcome::Queued; 3]);
    assert_eq!(drop_oldest("4"), PushOutcome::Displaced(1));
    outbox.push_protocol(frame("q"));
    // Protocol frames have exceeded the limit, so two frames are dropped for one.
    assert_eq!(drop_oldest("5"), PushOutcome::Displaced(2));
    assert_eq!(outbox.waiting(), QueueDepth { frames: 4, bytes: 4 * (EACH + 1) });
    assert_eq!(waiting(&outbox, &list), ["p", "4", "q", "5"]);
}

#[test]
fn parked_frames_stay_droppable() {
    let (outbox, list, carrier) = connected(4 * (EACH + 1));
    let owner = Arc::new(Owner::default());
    carrier.park();
    assert_eq!(push(&outbox, "0"), PushOutcome::Queued);
    list.write_all();
    let drop_oldest = |text| outbox.push(frame(text), Delivery::Reliable, Overflow::DropOldest);
    assert_eq!(["1", "2", "3"].map(drop_oldest), [PushOutcome::Queued; 3]);
    // The owner polls its connection, which is still parked.
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!(drop_oldest("4"), PushOutcome::Displaced(1));
    carrier.takes_all();
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!(carrier.written(), ["0", "2", "3", "4"]);
}

#[test]
fn written_protocol_frames_free_their_room() {
    let (outbox, list, carrier) = connected(exactly(2 * (EACH + 1)));
    for _ in 0..10 {
        assert_eq!(["p", "q"].map(|text| outbox.push_protocol(frame(text))), [PushOutcome::Queued; 2]);
        list.write_all();
    }
    let drop_oldest = |text| outbox.push(frame(text), Delivery::Reliable, Overflow::DropOldest);
    assert_eq!(
        ["1", "2", "3"].map(drop_oldest),
        [PushOutcome::Queued, PushOutcome::Queued, PushOutcome::Displaced(1)]
    );
    list.write_all();
    assert_eq!(carrier.written()[20..], ["2", "3"]);
}

#[test]
fn drops_nothing_for_oversized_frame() {
    let list = FlushList::new();
    let outbox = Outbox::new(3 * (EACH + 1), list.clone());
    outbox.push_protocol(frame("p"));
    outbox.push_protocol(frame("q"));
    assert_eq!(push(&outbox, "1"), PushOutcome::Queued);
    let large = frame("too large beside the protocol");
    assert_eq!(outbox.push(large, Delivery::Reliable, Overflow::DropOldest), PushOutcome::Dropped);
    assert_eq!(outbox.push(frame("v"), Delivery::Volatile, Overflow::DropOldest), PushOutcome::Dropped);
    assert_eq!(waiting(&outbox, &list), ["p", "q", "1"]);
}

#[test]
fn oversized_frame_displaces_all_droppable_frames() {
    let list = FlushList::new();
    let outbox = Outbox::new(3 * (EACH + 1), list.clone());
    assert_eq!(["1", "2", "3"].map(|text| push(&outbox, text)), [PushOutcome::Queued; 3]);
    let large = "x".repeat(1_000);
    assert_eq!(
        outbox.push(frame(&large), Delivery::Reliable, Overflow::DropOldest),
        PushOutcome::Displaced(3)
    );
    assert_eq!(waiting(&outbox, &list), [large]);
}

#[test]
fn keep_latest_moves_key_to_end() {
    let list = FlushList::new();
    let outbox = Outbox::new(1_000, list.clone());
    let keep = |frame| outbox.push(frame, Delivery::Reliable, Overflow::KeepLatest);
    assert_eq!(keep(keyed("a", "a1")), PushOutcome::Queued);
    assert_eq!(keep(keyed("b", "b1")), PushOutcome::Queued);
    assert_eq!(keep(frame("free")), PushOutcome::Queued);
    assert_eq!(keep(keyed("a", "a2")), PushOutcome::Displaced(1));
    assert_eq!(push(&outbox, "other"), PushOutcome::Queued);
    assert_eq!(keep(frame("keyless")), PushOutcome::Queued);
    assert_eq!(outbox.push(keyed("a", "a3"), Delivery::Reliable, Overflow::Close), PushOutcome::Queued);
    assert_eq!(keep(keyed("a", "a4")), PushOutcome::Displaced(2));
    assert_eq!(outbox.waiting().frames, 5);
    assert_eq!(waiting(&outbox, &list), ["b1", "free", "other", "keyless", "a4"]);
}

#[test]
fn keep_latest_reuses_room_of_key() {
    let list = FlushList::new();
    let outbox = Outbox::new(2 * (EACH + 2), list.clone());
    let keep = |frame, delivery| outbox.push(frame, delivery, Overflow::KeepLatest);
    assert_eq!(keep(keyed("a", "a1"), Delivery::Reliable), PushOutcome::Queued);
    assert_eq!(push(&outbox, "xx"), PushOutcome::Queued);
    assert_eq!(keep(keyed("a", "a2"), Delivery::Reliable), PushOutcome::Displaced(1));
    // If the newer frame does not fit, the older one stays.
    assert_eq!(keep(keyed("a", "too large"), Delivery::Reliable), PushOutcome::Dropped);
    assert_eq!(keep(keyed("a", "a3"), Delivery::Volatile), PushOutcome::Dropped);
    assert_eq!(keep(keyed("b", "b1"), Delivery::Reliable), PushOutcome::Dropped);
    assert_eq!(waiting(&outbox, &list), ["xx", "a2"]);
}

#[test]
fn distinguishes_keys_with_equal_hashes() {
    let mut seen = std::collections::HashMap::new();
    let alike = (0..1_000_000).find_map(|number: u32| {
        let key = number.to_string();
        let hash = keyed(&key, "").key_hash();
        Some([seen.insert(hash, key.clone())?, key])
    });
    let [one, other] = alike.expect("a million keys contain a hash collision");
    let list = FlushList::new();
    let outbox = Outbox::new(1000, list.clone());
    let push =
        |key: &str, text: &str| outbox.push(keyed(key, text), Delivery::Reliable, Overflow::KeepLatest);
    assert_eq!([push(&one, "1"), push(&other, "2")], [PushOutcome::Queued; 2]);
    assert_eq!(push(&one, "3"), PushOutcome::Displaced(1));
    assert_eq!(outbox.push(frame("4"), Delivery::Reliable, Overflow::KeepLatest), PushOutcome::Queued);
    assert_eq!(waiting(&outbox, &list), ["2", "3", "4"]);
}

#[test]
fn inherit_uses_policy_of_outbox() {
    let list = FlushList::new();
    let outbox = Outbox::new(2 * (EACH + 1), list.clone());
    outbox.set_overflow(Overflow::DropOldest);
    assert_eq!(["1", "2", "3"].map(|text| push(&outbox, text))[2], PushOutcome::Displaced(1));
    assert_eq!(outbox.push(frame("4"), Delivery::Reliable, Overflow::DropNewest), PushOutcome::Dropped);
    outbox.set_overflow(Overflow::Inherit);
    assert_eq!(push(&outbox, "5"), PushOutcome::Queued, "`Close` queues beyond the limit");
}

#[test]
fn policies_keep_frames_in_flight() {
    let (outbox, list, carrier) = connected(exactly(3 * (EACH + 2)));
    carrier.takes(0);
    for text in ["a1", "b1"] {
        outbox.push(keyed(&text[..1], text), Delivery::Reliable, Overflow::KeepLatest);
    }
    list.write_all();
    // The sink had both frames in its batch and may have read them.
    assert_eq!(outbox.push(keyed("a", "a2"), Delivery::Reliable, Overflow::KeepLatest), PushOutcome::Queued);
    assert_eq!(outbox.push(frame("xx"), Delivery::Reliable, Overflow::DropOldest), PushOutcome::Displaced(1));
    assert_eq!(waiting(&outbox, &list), ["a1", "b1", "xx"]);
}

/// Fills an outbox to its limit, pushes more during a lease, and has the sink return the whole batch.
fn blocked(frames: usize) -> (Outbox, FlushList) {
    let (outbox, list, carrier) = connected(exactly(frames * (EACH + 4)));
    let old = |number| outbox.push(frame(&format!("{number:04}")), Delivery::Reliable, Overflow::Close);
    assert!((0..frames).all(|number| old(number) == PushOutcome::Queued));
    carrier.takes(0);
    let pushing = outbox.clone();
    carrier.at_each_call(move |_| {
        assert!(pushing.waiting().frames < frames, "a batch is in flight");
        assert_eq!(
            pushing.push(frame("late"), Delivery::Reliable, Overflow::DropNewest),
            PushOutcome::Dropped
        );
    });
    list.write_all();
    assert_eq!(carrier.calls(), 1);
    assert_eq!(outbox.waiting(), QueueDepth { frames, bytes: frames * (EACH + 4) });
    (outbox, list)
}

#[test]
fn batch_in_flight_keeps_its_room() {
    for frames in [2, 10, 3 * BATCH_FRAMES] {
        let (outbox, _list) = blocked(frames);
        assert_eq!(outbox.push(frame(""), Delivery::Reliable, Overflow::DropNewest), PushOutcome::Dropped);
        assert_eq!(outbox.push_protocol(frame("")), PushOutcome::Overflowed);
    }
}

#[test]
fn returned_batch_leaves_room_for_newest() {
    for frames in [4, 10, 3 * BATCH_FRAMES] {
        let (outbox, list) = blocked(frames);
        for number in frames..3 * frames {
            let newest = frame(&format!("{number:04}"));
            assert_eq!(
                outbox.push(newest, Delivery::Reliable, Overflow::DropOldest),
                PushOutcome::Displaced(1)
            );
        }
        let came_back = (frames / 2).min(BATCH_FRAMES);
        let numbers = (0..came_back).chain(2 * frames + came_back..3 * frames);
        let expected: Vec<_> = numbers.map(|number| format!("{number:04}")).collect();
        assert_eq!(waiting(&outbox, &list), expected);
    }
}

#[test]
fn accepts_any_size_behind_batch() {
    for overflow in [Overflow::Close, Overflow::DropNewest, Overflow::DropOldest] {
        let (outbox, list, carrier) = connected(exactly(1000));
        carrier.takes(0);
        assert_eq!(push(&outbox, "out"), PushOutcome::Queued);
        let pushing = outbox.clone();
        carrier.at_each_call(move |_| {
            let large = frame(&"x".repeat(10_000));
            assert_eq!(pushing.push(large, Delivery::Reliable, overflow), PushOutcome::Queued);
            assert_eq!(pushing.push(frame("v"), Delivery::Volatile, overflow), PushOutcome::Dropped);
        });
        list.write_all();
        carrier.at_each_call(|_| {});
        carrier.takes_all();
        assert!(Arc::new(Owner::default()).poll(&outbox).is_pending());
        assert_eq!(carrier.written().len(), 2);
        // The whole limit is available again.
        assert_eq!(outbox.push_protocol(frame(&"x".repeat(1000 - EACH))), PushOutcome::Queued);
        assert_eq!(outbox.push_protocol(frame("")), PushOutcome::Overflowed);
    }
}

#[test]
fn written_frames_free_their_room() {
    let (outbox, list, carrier) = connected(exactly(4 * (EACH + 1)));
    for text in ["1", "2", "3", "4"] {
        assert_eq!(push(&outbox, text), PushOutcome::Queued);
    }
    carrier.takes(1);
    list.write_all();
    assert_eq!(outbox.waiting(), QueueDepth { frames: 3, bytes: 3 * (EACH + 1) });
    assert_eq!(push(&outbox, "5"), PushOutcome::Queued);
    assert_eq!(outbox.push(frame("6"), Delivery::Reliable, Overflow::DropNewest), PushOutcome::Dropped);
    assert_eq!(waiting(&outbox, &list), ["2", "3", "4", "5"]);
    for _ in 0..10 {
        assert_eq!(["6", "7", "8", "9"].map(|text| push(&outbox, text)), [PushOutcome::Queued; 4]);
        assert_eq!(outbox.push(frame(""), Delivery::Reliable, Overflow::DropNewest), PushOutcome::Dropped);
        list.write_all();
        assert_eq!(outbox.waiting(), QueueDepth::default());
    }
}
