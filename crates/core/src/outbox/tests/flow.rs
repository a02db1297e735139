//! Backpressure on senders, and limits for stalled clients.
#![allow(clippy::disallowed_methods, reason = "tests wake-ups across threads")]

use super::queue::ENTRY_COST;
use super::*;

fn fill(outbox: &Outbox) {
    (0..256).for_each(|number| assert_eq!(push(outbox, &number.to_string()), PushOutcome::Queued));
}

fn numbers(to: usize) -> Vec<String> {
    (0..to).map(|number| number.to_string()).collect()
}

#[test]
fn hard_cap_alone_bounds_writable_client() {
    let (outbox, list, carrier) = connected(Bounds::new(100, 1 << 20));
    let body = "x".repeat(1000);
    let pushed: Vec<_> = (0..900).map(|_| push(&outbox, &body)).collect();
    assert!(pushed.iter().all(|pushed| matches!(pushed, PushOutcome::Queued | PushOutcome::Backlogged)));
    for overflow in [Overflow::DropNewest, Overflow::DropOldest] {
        assert_eq!(outbox.push(frame("more"), Delivery::Reliable, overflow), PushOutcome::Backlogged);
    }
    list.write_all();
    assert_eq!((carrier.written().len(), outbox.closed()), (902, None));
}

#[test]
fn queues_for_stalled_client_to_cap() {
    let (outbox, list, carrier) = connected(Bounds::new(10 * (ENTRY_COST + 1), 20 * (ENTRY_COST + 1)));
    let owner = Arc::new(Owner::default());
    carrier.takes(0);
    assert_eq!(push(&outbox, "0"), PushOutcome::Queued);
    list.write_all();
    assert!(owner.poll(&outbox).is_pending());
    let woken = owner.wakes();
    (1..10).for_each(|_| assert_eq!(push(&outbox, "x"), PushOutcome::Queued));
    assert_eq!(owner.wakes(), woken, "within the limit the owner sleeps");
    (10..20).for_each(|_| assert_eq!(push(&outbox, "x"), PushOutcome::Queued));
    assert_eq!(owner.wakes(), woken + 1, "beyond the limit the owner is woken once");
    let attended = outbox.attend(&mut Context::from_waker(Waker::noop()));
    assert_eq!((attended.over_limit, attended.stalled), (true, 20 * (ENTRY_COST + 1)));
    assert_eq!(push(&outbox, "x"), PushOutcome::Overflowed);
}

#[test]
fn pusher_writes_at_high_water() {
    let (outbox, _list, carrier) = connected(1 << 20);
    fill(&outbox);
    assert_eq!(push(&outbox, "256"), PushOutcome::Backlogged);
    assert!(outbox.flush_backlog());
    assert_eq!(carrier.written(), numbers(257));
    assert_eq!((outbox.waiting(), push(&outbox, "x")), (QueueDepth::default(), PushOutcome::Queued));
}

#[test]
fn held_outbox_writes_nothing() {
    let (outbox, list, carrier) = connected(1 << 20);
    push(&outbox, "0");
    let hold = outbox.hold();
    push(&outbox, "1");
    list.write_all();
    assert!(outbox.flush_backlog(), "the hold applies to pushers too");
    assert_eq!(carrier.written(), numbers(0));
    drop(hold);
    list.write_all();
    assert_eq!(carrier.written(), numbers(2));
}

#[test]
fn hold_during_batch_delays_next_batch() {
    let (outbox, list, carrier) = connected(1 << 20);
    let (held, holds) = (Arc::new(Mutex::new(None)), outbox.clone());
    let keep = held.clone();
    carrier.at_each_call(move |call| {
        if call == 1 {
            *keep.lock().unwrap() = Some(holds.hold());
            push(&holds, "1");
        }
    });
    push(&outbox, "0");
    list.write_all();
    assert_eq!(carrier.written(), numbers(1));
    drop(held.lock().unwrap().take());
    list.write_all();
    assert_eq!(carrier.written(), numbers(2));
}

#[test]
fn high_water_counts_bytes() {
    let (outbox, _list, carrier) = connected(1 << 20);
    let large = "x".repeat(100_000);
    assert_eq!(push(&outbox, &large), PushOutcome::Queued, "a single frame is left to the flusher");
    assert_eq!(push(&outbox, &large), PushOutcome::Backlogged);
    assert!(outbox.flush_backlog());
    assert_eq!(carrier.written().len(), 2);
}

#[test]
fn pusher_stops_when_carrier_blocks() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    assert!(owner.poll(&outbox).is_pending());
    fill(&outbox);
    carrier.takes(100);
    assert_eq!(push(&outbox, "256"), PushOutcome::Backlogged);
    assert!(outbox.flush_backlog());
    assert_eq!((carrier.written().len(), owner.wakes()), (100, 1), "the owner waits for the socket");
    assert_eq!(push(&outbox, "257"), PushOutcome::Queued, "a blocked carrier causes no backpressure");
    assert!(outbox.flush_backlog(), "there is no backlog");
    carrier.takes_all();
    assert!(owner.poll(&outbox).is_pending());
    list.write_all();
    assert_eq!(carrier.written(), numbers(258));
}

#[test]
fn lease_ends_for_waiting_pusher() {
    let (outbox, list, carrier) = connected(1 << 20);
    (0..200).for_each(|number| assert_eq!(push(&outbox, &number.to_string()), PushOutcome::Queued));
    let pusher = outbox.clone();
    carrier.at_each_call(move |call| {
        if call == 1 {
            let pushed: Vec<_> = (200..600).map(|number| push(&pusher, &number.to_string())).collect();
            assert!(pushed.contains(&PushOutcome::Backlogged));
            assert!(!pusher.flush_backlog(), "another writer has the sink");
        }
    });
    let flusher = Arc::new(Owner::default());
    let waker = Waker::from(flusher.clone());
    let mut listed = VecDeque::new();
    list.take(&mut listed);
    assert!(list.poll_listed(&mut Context::from_waker(&waker)).is_pending());
    listed[0].flush();
    assert_eq!(carrier.calls(), 1, "the lease ends after its batch");
    listed.clear();
    assert_eq!((flusher.wakes(), list.take(&mut listed)), (1, true), "the rest is urgent");
    assert!(!list.take(&mut VecDeque::new()));
    assert!(outbox.flush_backlog());
    assert_eq!(carrier.written(), numbers(600));
}

#[test]
fn urgent_outbox_bypasses_deferred_wakes() {
    let (near, far) = (FlushList::new(), FlushList::new());
    let (outbox, carrier) = connected_to(&far, 1 << 20);
    let flusher = Arc::new(Owner::default());
    let waker = Waker::from(flusher.clone());
    assert!(far.poll_listed(&mut Context::from_waker(&waker)).is_pending());
    let _deferred = DeferredWakes::enter(&near);
    let pusher = outbox.clone();
    carrier.at_each_call(move |_| {
        (0..300).for_each(|_| _ = push(&pusher, "x"));
        assert!(!pusher.flush_backlog());
    });
    fill(&outbox);
    assert_eq!(flusher.wakes(), 0, "the wake-up is deferred");
    outbox.flush();
    assert_eq!(flusher.wakes(), 1);
}

#[test]
fn heartbeat_precedes_the_queue() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    let attend = |owner: &Arc<Owner>| outbox.attend(&mut Context::from_waker(&Waker::from(owner.clone())));
    carrier.takes(0);
    (0..3).for_each(|number| _ = push(&outbox, &number.to_string()));
    list.write_all();
    assert!(!attend(&owner).heartbeat);
    assert_eq!(outbox.push_heartbeat(frame("old ping")), PushOutcome::Queued);
    assert_eq!(
        outbox.push_heartbeat(frame("ping")),
        PushOutcome::Queued,
        "the new heartbeat replaces the old one"
    );
    assert!(attend(&owner).heartbeat, "its bytes have not reached the carrier");
    carrier.takes(1);
    assert!(!attend(&owner).heartbeat);
    carrier.takes_all();
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!(carrier.written(), ["ping", "0", "1", "2"]);
    // Also with an empty queue.
    outbox.push_heartbeat(frame("ping"));
    list.write_all();
    assert_eq!((carrier.written().len(), outbox.waiting()), (5, QueueDepth::default()));
    assert!(owner.drain(&outbox).is_ready());
}

#[test]
fn lone_heartbeat_waits_for_sink() {
    let list = FlushList::new();
    let outbox = Outbox::new(1 << 20, list.clone());
    outbox.push_heartbeat(frame("ping"));
    let owner = Arc::new(Owner::default());
    assert!(owner.drain(&outbox).is_pending());
    assert_eq!(waiting(&outbox, &list), ["ping"]);
    assert!(owner.drain(&outbox).is_ready());
}

#[test]
fn senders_wait_for_low_water() {
    let (outbox, list, carrier) = connected(1 << 20);
    let sender = Arc::new(Owner::default());
    let waker = Waker::from(sender.clone());
    let poll = || outbox.poll_writable(&mut Context::from_waker(&waker));
    assert!(poll().is_ready());
    fill(&outbox);
    assert!(poll().is_pending() && poll().is_pending());
    carrier.takes(100);
    list.write_all();
    assert_eq!(sender.wakes(), 0, "156 frames are still queued");
    carrier.takes(100);
    Arc::new(Owner::default()).poll(&outbox).is_pending();
    assert_eq!(sender.wakes(), 1);
    assert!(poll().is_ready());
    (0..200).for_each(|_| _ = push(&outbox, "x"));
    assert!(poll().is_pending());
    outbox.set_stalled();
    assert_eq!(sender.wakes(), 2);
    assert!(poll().is_ready(), "senders do not wait for a stalled client");
    carrier.takes(1);
    assert!(Arc::new(Owner::default()).poll(&outbox).is_pending());
    assert!(poll().is_pending(), "the client makes progress again");
    outbox.evict(CloseReason::SlowConsumer);
    assert_eq!(sender.wakes(), 3);
    assert!(poll().is_ready());
}

#[test]
fn orders_clients_by_last_progress() {
    let list = FlushList::new();
    let [first, second] = [(); 2].map(|()| connected_to(&list, 1 << 20));
    for (outbox, carrier) in [&first, &second] {
        carrier.takes(0);
        assert!(outbox.status().writable);
        assert_eq!(push(outbox, "x"), PushOutcome::Queued);
        list.write_all();
        assert!(!outbox.status().writable);
    }
    let age = |outbox: &Outbox| outbox.status().order;
    assert!((age(&second.0).wrapping_sub(age(&first.0)) as i32) > 0);
    assert_eq!(push(&first.0, "y"), PushOutcome::Queued);
    first.1.takes(1);
    assert!(Arc::new(Owner::default()).poll(&first.0).is_pending());
    assert!((age(&first.0).wrapping_sub(age(&second.0)) as i32) > 0, "progress updates the order");
}
