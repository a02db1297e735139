//! Writers of an outbox and the conditions under which they write.

use super::lease::{BATCHES_PER_LEASE, GROUP};
use super::queue::{BATCH_BYTES, BATCH_FRAMES};
use super::*;

#[test]
fn writes_queue_in_order_at_once() {
    let (outbox, list, carrier) = connected(1 << 20);
    let texts: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    texts.iter().for_each(|text| assert_eq!(push(&outbox, text), PushOutcome::Queued));
    list.write_all();
    assert_eq!((carrier.written(), carrier.calls()), (texts, 1));
    assert_eq!(outbox.waiting(), QueueDepth::default());
    assert_eq!(list.written(), WriteStats { frames: 50, bytes: 90 });
}

#[test]
fn lists_outbox_only_once() {
    let (outbox, list, carrier) = connected(1 << 20);
    let mut listed = VecDeque::new();
    list.take(&mut listed);
    assert!(listed.is_empty(), "the queue is empty");
    (0..3).for_each(|_| assert_eq!(push(&outbox, "x"), PushOutcome::Queued));
    outbox.set_sink(carrier.sink());
    list.take(&mut listed);
    assert_eq!(listed.len(), 1);
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    let mut again = VecDeque::new();
    list.take(&mut again);
    assert!(again.is_empty(), "it is still listed");
    listed[0].flush();
    assert_eq!(carrier.written(), ["x"; 4]);
    assert_eq!(push(&outbox, "y"), PushOutcome::Queued);
    list.take(&mut again);
    assert_eq!(again.len(), 1);
    // A flush of an empty outbox writes nothing and does not list it.
    again[0].flush();
    again[0].flush();
    again.clear();
    list.take(&mut again);
    assert_eq!((carrier.calls(), again.len()), (2, 0));
}

#[test]
fn new_sink_with_own_bytes_is_polled_once() {
    let (outbox, list, _) = connected(1 << 20);
    let carrier = Carrier::default();
    carrier.holds_bytes();
    outbox.set_sink(carrier.sink());
    let owner = Arc::new(Owner::default());
    assert!(owner.drain(&outbox).is_pending(), "its bytes are not sent");
    (0..2).for_each(|_| list.write_all());
    assert_eq!((carrier.calls(), carrier.written().len()), (1, 0));
    assert!(owner.drain(&outbox).is_ready());

    outbox.set_sink(carrier.sink());
    push(&outbox, "x");
    (0..2).for_each(|_| list.write_all());
    assert_eq!((carrier.calls(), carrier.written()), (2, vec!["x".to_owned()]));
}

#[test]
fn successor_with_own_bytes_is_polled() {
    let (outbox, list, carrier) = connected(1 << 20);
    let successor = Carrier::default();
    successor.holds_bytes();
    let (sinks, next) = (outbox.clone(), successor.clone());
    carrier.at_each_call(move |_| sinks.set_sink(next.sink()));
    push(&outbox, "x");
    list.write_all();
    assert_eq!((carrier.written(), successor.calls()), (vec!["x".to_owned()], 1));
}

#[test]
fn wakes_flusher_on_new_work() {
    let (outbox, list, _carrier) = connected(1 << 20);
    let flusher = Arc::new(Owner::default());
    let waker = Waker::from(flusher.clone());
    let mut listed = VecDeque::new();
    assert!(list.poll_listed(&mut Context::from_waker(&waker)).is_pending());
    (0..3).for_each(|_| assert_eq!(push(&outbox, "x"), PushOutcome::Queued));
    assert_eq!(flusher.wakes(), 1);
    assert!(list.poll_listed(&mut Context::from_waker(&waker)).is_ready());
    list.take(&mut listed);
    assert_eq!(listed.len(), 1);
    assert!(list.poll_listed(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(flusher.wakes(), 1);
}

#[test]
fn writes_queue_when_sink_is_set() {
    let list = FlushList::new();
    let outbox = Outbox::new(1 << 20, list.clone());
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    let mut listed = VecDeque::new();
    list.take(&mut listed);
    assert!(listed.is_empty(), "there is no sink");
    assert_eq!(waiting(&outbox, &list), ["x"]);
}

#[test]
fn keeps_order_of_unwritten_frames() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    assert!(owner.poll(&outbox).is_pending());
    carrier.takes(2);
    (0..5).for_each(|number| _ = push(&outbox, &number.to_string()));
    let bytes = outbox.waiting().bytes;
    list.write_all();
    assert_eq!(outbox.waiting(), QueueDepth { frames: 3, bytes: bytes / 5 * 3 });
    assert_eq!(push(&outbox, "5"), PushOutcome::Queued);
    carrier.takes(1);
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!(push(&outbox, "6"), PushOutcome::Queued);
    carrier.takes_all();
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!(carrier.written(), ["0", "1", "2", "3", "4", "5", "6"]);
    assert_eq!(list.written().frames, 7);
}

#[test]
fn leaves_blocked_sink_to_owner() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    assert!(owner.poll(&outbox).is_pending());
    carrier.takes(1);
    (0..2).for_each(|_| _ = push(&outbox, "x"));
    list.write_all();
    assert_eq!((owner.wakes(), carrier.calls()), (1, 1), "the blocked flusher woke the owner");
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    list.write_all();
    assert_eq!((owner.wakes(), carrier.calls()), (1, 1), "flushers skip a blocked sink");
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!((owner.wakes(), carrier.calls()), (1, 2), "the owner registers its own waker");
    // A late flush would replace the owner's waker, and the owner would never be woken.
    outbox.flush();
    assert_eq!(carrier.calls(), 2);
    carrier.takes_all();
    assert_eq!(owner.wakes(), 2);
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!(carrier.written(), ["x"; 3]);
    // From now on flushers write again, and the owner sleeps.
    assert_eq!(push(&outbox, "y"), PushOutcome::Queued);
    list.write_all();
    assert_eq!((carrier.written().len(), owner.wakes()), (4, 2));
}

#[test]
fn late_owner_resumes_blocked_sink() {
    let (outbox, list, carrier) = connected(1 << 20);
    carrier.takes(1);
    (0..2).for_each(|_| _ = push(&outbox, "x"));
    list.write_all();
    carrier.takes_all();
    let owner = Arc::new(Owner::default());
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!(carrier.written(), ["x"; 2]);
}

#[test]
fn parked_sink_wakes_no_task() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    assert!(owner.poll(&outbox).is_pending());
    carrier.park();
    assert!(!outbox.is_parked(), "the sink has not been polled yet");
    (0..2).for_each(|_| _ = push(&outbox, "x"));
    list.write_all();
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    list.write_all();
    assert_eq!((carrier.calls(), owner.wakes()), (1, 0));
    assert!(outbox.is_parked());
    carrier.takes_all();
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!((carrier.written().len(), owner.wakes()), (3, 0));
}

#[test]
fn polls_parked_sink_again_after_lease() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    carrier.park();
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    let (visiting, visitor) = (outbox.clone(), owner.clone());
    // The owner attends while a flusher has leased the sink, so it cannot poll the sink.
    carrier.at_each_call(move |_| assert!(visitor.poll(&visiting).is_pending()));
    list.write_all();
    assert_eq!(owner.wakes(), 1);
    carrier.takes_all();
    carrier.at_each_call(|_| {});
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!(carrier.written(), ["x"]);
}

#[test]
fn unpark_writes_without_owner() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    assert!(owner.poll(&outbox).is_pending());
    carrier.park();
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    list.write_all();
    assert!(outbox.is_parked());
    carrier.takes_all();
    outbox.unpark();
    assert_eq!((carrier.written().len(), owner.wakes()), (1, 0));
    // Without a queue, the next flush writes.
    carrier.park();
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    list.write_all();
    carrier.takes_all();
    assert!(owner.poll(&outbox).is_pending());
    outbox.unpark();
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    list.write_all();
    assert_eq!((carrier.written().len(), owner.wakes()), (3, 0));
    outbox.close(CloseReason::TransportClose);
    outbox.unpark();
}

#[test]
fn unpark_during_lease_wakes_owner() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    assert!(owner.poll(&outbox).is_pending());
    let unparked = outbox.clone();
    carrier.at_each_call(move |_| unparked.unpark());
    // The sink is ready before the lease, and parked after it.
    carrier.park();
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    list.write_all();
    assert_eq!((outbox.is_parked(), owner.wakes()), (true, 1));
}

#[test]
fn does_not_wake_owner_needlessly() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    let (visiting, visitor) = (outbox.clone(), owner.clone());
    carrier.at_each_call(move |_| assert!(visitor.poll(&visiting).is_pending()));
    (0..3).for_each(|_| {
        assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
        list.write_all();
    });
    assert_eq!((carrier.written().len(), owner.wakes()), (3, 0));
    // Attendance while the sink was ready causes no wake-up when the sink parks later.
    carrier.at_each_call(|_| {});
    carrier.park();
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    list.write_all();
    assert_eq!((outbox.is_parked(), owner.wakes()), (true, 0));
}

#[test]
fn drained_when_carrier_accepted_everything() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    assert!(owner.drain(&outbox).is_ready(), "the queue is empty");
    carrier.takes(1);
    (0..2).for_each(|_| _ = push(&outbox, "x"));
    outbox.finish();
    assert_eq!(push(&outbox, "late"), PushOutcome::Closed);
    assert_eq!(outbox.push_protocol(frame("late")), PushOutcome::Closed);
    assert!(owner.drain(&outbox).is_pending());
    list.write_all();
    assert_eq!(owner.wakes(), 1);
    assert!(owner.drain(&outbox).is_pending());
    carrier.takes(1);
    assert_eq!(owner.wakes(), 2);
    assert!(owner.drain(&outbox).is_pending(), "the last frame may be partly written");
    carrier.takes_all();
    assert!(owner.drain(&outbox).is_ready());
    assert_eq!(carrier.written(), ["x"; 2]);
    assert_eq!(outbox.closed(), None);
}

#[test]
fn not_drained_during_lease() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    let (draining, drainer) = (outbox.clone(), owner.clone());
    carrier.at_each_call(move |_| assert!(drainer.drain(&draining).is_pending()));
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    list.write_all();
    assert_eq!((owner.wakes(), carrier.written()), (1, vec!["x".into()]));
    assert!(owner.drain(&outbox).is_ready());
}

#[test]
fn wakes_drain_without_finish() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    assert!(owner.drain(&outbox).is_pending());
    list.write_all();
    assert_eq!((owner.wakes(), carrier.written().len()), (1, 1));
    assert!(owner.drain(&outbox).is_ready());
    // One wait causes one wake-up.
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    list.write_all();
    assert_eq!(owner.wakes(), 1);
}

#[test]
fn owner_of_parked_sink_sleeps() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    carrier.park();
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    list.write_all();
    outbox.finish();
    for _ in 0..3 {
        assert!(owner.drain(&outbox).is_pending());
    }
    assert_eq!(owner.wakes(), 0, "the owner has nothing to do");
    carrier.takes_all();
    assert!(owner.drain(&outbox).is_ready());
    assert_eq!((owner.wakes(), carrier.written()), (0, vec!["x".to_owned()]));
}

#[test]
fn closed_outbox_is_drained() {
    let (outbox, _list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    assert!(owner.drain(&outbox).is_pending());
    outbox.close(CloseReason::PingTimeout);
    assert_eq!(owner.wakes(), 1);
    assert!(owner.drain(&outbox).is_ready());
    assert!(!carrier.is_held());
}

#[test]
fn broken_sink_sets_close_reason() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    assert!(owner.poll(&outbox).is_pending());
    carrier.breaks(ConnectionError::TooBig { limit: 1 });
    let first = frame("first");
    assert_eq!(outbox.push(first.clone(), Delivery::Reliable, Overflow::Close), PushOutcome::Queued);
    list.write_all();
    assert_eq!(outbox.closed(), Some(CloseReason::MessageTooBig));
    assert_eq!((owner.wakes(), first.is_shared(), carrier.is_held()), (1, false, false));
    assert_eq!(outbox.waiting(), QueueDepth::default());
    assert_eq!(owner.poll(&outbox), Poll::Ready(CloseReason::MessageTooBig));
}

#[test]
fn owner_sees_broken_sink_at_once() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    carrier.takes(0);
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    list.write_all();
    carrier.breaks(ConnectionError::Io(std::io::ErrorKind::BrokenPipe.into()));
    assert_eq!(owner.poll(&outbox), Poll::Ready(CloseReason::TransportClose));
}

#[test]
fn panic_in_sink_closes_one_client() {
    let list = FlushList::new();
    let clients: Vec<_> = (0..3 * GROUP).map(|_| connected_to(&list, 1 << 20)).collect();
    let (outbox, carrier) = &clients[GROUP / 2];
    let owner = Arc::new(Owner::default());
    assert!(owner.poll(outbox).is_pending());
    carrier.at_each_call(|_| panic!("as asked"));
    clients
        .iter()
        .for_each(|(outbox, _)| (0..2).for_each(|_| assert_eq!(push(outbox, "x"), PushOutcome::Queued)));
    list.write_all();
    assert_eq!(owner.wakes(), 1);
    assert_eq!(owner.poll(outbox), Poll::Ready(CloseReason::TransportError));
    assert_eq!(push(outbox, "x"), PushOutcome::Closed);
    for (at, (outbox, carrier)) in clients.iter().enumerate().filter(|(at, _)| *at != GROUP / 2) {
        assert_eq!((carrier.written().len(), outbox.closed()), (2, None), "{at}");
    }
}

#[test]
fn applies_changes_during_group_write() {
    let list = FlushList::new();
    let [first, closed, moved, flooded] = [(); 4].map(|()| connected_to(&list, exactly(1 << 20)));
    for (outbox, _) in [&first, &closed, &moved, &flooded] {
        assert_eq!(push(outbox, "x"), PushOutcome::Queued);
    }
    let new = Carrier::default();
    first.1.at_each_call({
        let (closed, moved, flooded) = (closed.0.clone(), moved.0.clone(), flooded.0.clone());
        let new = new.clone();
        move |_| {
            closed.close(CloseReason::PingTimeout);
            moved.set_sink(new.sink());
            let much = "y".repeat(1 << 20);
            assert_eq!(push(&flooded, &much), PushOutcome::Queued);
            assert_eq!(push(&flooded, &much), PushOutcome::Overflowed);
        }
    });
    list.write_all();
    assert_eq!(first.1.written(), ["x"]);
    assert!(!closed.1.is_held() && !moved.1.is_held());
    // Frames in the batch of a sink count as sent, even if the sink is replaced.
    assert_eq!([moved.1.written(), new.written()].concat(), ["x"]);
    assert_eq!(push(&moved.0, "z"), PushOutcome::Queued);
    list.write_all();
    assert_eq!(new.written().last().map(String::as_str), Some("z"));
    assert_eq!(flooded.0.closed(), Some(CloseReason::OutboxFull));
}

#[test]
fn panic_leaves_unused_leases_intact() {
    let list = FlushList::new();
    let [first, untouched, moved, closed, flooded] = [(); 5].map(|()| connected_to(&list, exactly(1 << 20)));
    let clients = [&first, &untouched, &moved, &closed, &flooded];
    clients.iter().for_each(|(outbox, _)| assert_eq!(push(outbox, "x"), PushOutcome::Queued));
    let new = Carrier::default();
    let owner = Arc::new(Owner::default());
    assert!(owner.poll(&closed.0).is_pending());
    first.1.at_each_call({
        let [moved, closed, flooded] = [&moved, &closed, &flooded].map(|(outbox, _)| outbox.clone());
        let new = new.clone();
        move |_| {
            moved.set_sink(new.sink());
            closed.close(CloseReason::PingTimeout);
            let much = "y".repeat(1 << 20);
            assert_eq!(push(&flooded, &much), PushOutcome::Queued);
            assert_eq!(push(&flooded, &much), PushOutcome::Overflowed);
            panic!("as asked");
        }
    });
    list.write_all();
    assert_eq!(first.0.closed(), Some(CloseReason::TransportError));
    assert_eq!(untouched.1.written(), ["x"]);
    assert_eq!((moved.1.written().len(), new.written(), moved.1.is_held()), (0, vec!["x".into()], false));
    assert_eq!((closed.1.written().len(), closed.1.is_held(), owner.wakes()), (0, false, 1));
    assert_eq!((flooded.0.waiting(), flooded.1.written().len()), (QueueDepth::default(), 0));
    assert_eq!(flooded.0.closed(), Some(CloseReason::OutboxFull));
}

#[test]
fn writes_frames_pushed_during_lease() {
    let (outbox, list, carrier) = connected(1 << 20);
    let pushing = outbox.clone();
    carrier.at_each_call(move |call| {
        if call < 4 {
            assert_eq!(push(&pushing, &call.to_string()), PushOutcome::Queued);
        }
    });
    assert_eq!(push(&outbox, "0"), PushOutcome::Queued);
    let mut listed = VecDeque::new();
    list.take(&mut listed);
    listed[0].flush();
    assert_eq!(carrier.written(), ["0", "1", "2", "3"]);
    listed.clear();
    list.take(&mut listed);
    assert!(listed.is_empty());
}

#[test]
fn lease_ends_after_maximum_batches() {
    let (outbox, list, carrier) = connected(1 << 20);
    let pushing = outbox.clone();
    carrier.at_each_call(move |call| assert_eq!(push(&pushing, &call.to_string()), PushOutcome::Queued));
    assert_eq!(push(&outbox, "0"), PushOutcome::Queued);
    let mut listed = VecDeque::new();
    list.take(&mut listed);
    listed[0].flush();
    assert_eq!(carrier.calls(), BATCHES_PER_LEASE);
    // The outbox is listed again with its remaining frames.
    carrier.at_each_call(|_| {});
    list.write_all();
    let expected: Vec<_> = (0..=BATCHES_PER_LEASE).map(|number| number.to_string()).collect();
    assert_eq!(carrier.written(), expected);
}

#[test]
fn limits_batch_frames_and_bytes() {
    let (outbox, list, carrier) = connected(usize::MAX);
    for number in 0..2 * BATCH_FRAMES + 1 {
        assert_eq!(push(&outbox, &number.to_string()), PushOutcome::Queued);
    }
    list.write_all();
    assert_eq!(carrier.calls(), 3);
    let large = "x".repeat(BATCH_BYTES);
    let pushed = [(); 3].map(|()| push(&outbox, &large));
    assert_eq!(pushed, [PushOutcome::Queued, PushOutcome::Backlogged, PushOutcome::Backlogged]);
    list.write_all();
    assert_eq!(carrier.calls(), 6);
}
