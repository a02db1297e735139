//! Who writes, and when

use super::lease::{BATCHES_PER_VISIT, GROUP};
use super::queue::{BATCH_BYTES, BATCH_FRAMES};
use super::*;

#[test]
fn a_flusher_writes_what_waits_in_one_visit_and_in_order() {
    let (outbox, list, carrier) = connected(1 << 20);
    let texts: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    texts.iter().for_each(|text| assert_eq!(push(&outbox, text), Pushed::Queued));
    list.write_all();
    assert_eq!((carrier.written(), carrier.calls()), (texts, 1));
    assert_eq!(outbox.waiting(), Waiting::default());
    assert_eq!(list.written(), Written { frames: 50, bytes: 90 });
}

#[test]
fn an_outbox_is_listed_once_however_much_waits() {
    let (outbox, list, carrier) = connected(1 << 20);
    let mut listed = VecDeque::new();
    list.take(&mut listed);
    assert!(listed.is_empty(), "nothing waits");
    (0..3).for_each(|_| assert_eq!(push(&outbox, "x"), Pushed::Queued));
    outbox.set_sink(carrier.sink());
    list.take(&mut listed);
    assert_eq!(listed.len(), 1);
    assert_eq!(push(&outbox, "x"), Pushed::Queued);
    let mut again = VecDeque::new();
    list.take(&mut again);
    assert!(again.is_empty(), "it is still to be visited");
    listed[0].flush();
    assert_eq!(carrier.written(), ["x"; 4]);
    assert_eq!(push(&outbox, "y"), Pushed::Queued);
    list.take(&mut again);
    assert_eq!(again.len(), 1);
    // Visited without need, it writes nothing and stays off the list.
    again[0].flush();
    again[0].flush();
    again.clear();
    list.take(&mut again);
    assert_eq!((carrier.calls(), again.len()), (2, 0));
}

#[test]
fn the_flusher_is_woken_when_there_is_something_again() {
    let (outbox, list, _carrier) = connected(1 << 20);
    let flusher = Arc::new(Owner::default());
    let waker = Waker::from(flusher.clone());
    let mut listed = VecDeque::new();
    assert!(list.poll_listed(&mut Context::from_waker(&waker)).is_pending());
    (0..3).for_each(|_| assert_eq!(push(&outbox, "x"), Pushed::Queued));
    assert_eq!(flusher.wakes(), 1);
    assert!(list.poll_listed(&mut Context::from_waker(&waker)).is_ready());
    list.take(&mut listed);
    assert_eq!(listed.len(), 1);
    assert!(list.poll_listed(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(flusher.wakes(), 1);
}

#[test]
fn what_waits_without_a_sink_flows_when_one_comes() {
    let list = FlushList::new();
    let outbox = Outbox::new(1 << 20, list.clone());
    assert_eq!(push(&outbox, "x"), Pushed::Queued);
    let mut listed = VecDeque::new();
    list.take(&mut listed);
    assert!(listed.is_empty(), "there is nobody to write to");
    assert_eq!(waiting(&outbox, &list), ["x"]);
}

#[test]
fn what_a_sink_leaves_is_put_back_in_its_place() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    assert!(owner.poll(&outbox).is_pending());
    carrier.takes(2);
    (0..5).for_each(|number| _ = push(&outbox, &number.to_string()));
    let bytes = outbox.waiting().bytes;
    list.write_all();
    assert_eq!(outbox.waiting(), Waiting { frames: 3, bytes: bytes / 5 * 3 });
    assert_eq!(push(&outbox, "5"), Pushed::Queued);
    carrier.takes(1);
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!(push(&outbox, "6"), Pushed::Queued);
    carrier.takes_all();
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!(carrier.written(), ["0", "1", "2", "3", "4", "5", "6"]);
    assert_eq!(list.written().frames, 7);
}

#[test]
fn a_blocked_sink_is_the_owners_business() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    assert!(owner.poll(&outbox).is_pending());
    carrier.takes(1);
    (0..2).for_each(|_| _ = push(&outbox, "x"));
    list.write_all();
    assert_eq!((owner.wakes(), carrier.calls()), (1, 1), "the flusher met a full socket and told the owner");
    assert_eq!(push(&outbox, "x"), Pushed::Queued);
    list.write_all();
    assert_eq!((owner.wakes(), carrier.calls()), (1, 1), "flushers leave it alone");
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!((owner.wakes(), carrier.calls()), (1, 2), "the owner waits for the socket itself");
    // A visit that was due already would take the place of the owner, who would then wait in vain.
    outbox.flush();
    assert_eq!(carrier.calls(), 2);
    carrier.takes_all();
    assert_eq!(owner.wakes(), 2);
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!(carrier.written(), ["x"; 3]);
    // From here on flushers write again, and the owner sleeps.
    assert_eq!(push(&outbox, "y"), Pushed::Queued);
    list.write_all();
    assert_eq!((carrier.written().len(), owner.wakes()), (4, 2));
}

#[test]
fn an_owner_that_was_not_there_yet_finds_the_sink_blocked() {
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
fn a_parked_sink_waits_for_the_owner_and_disturbs_nobody() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    assert!(owner.poll(&outbox).is_pending());
    carrier.park();
    assert!(!outbox.is_parked(), "nobody has asked it yet");
    (0..2).for_each(|_| _ = push(&outbox, "x"));
    list.write_all();
    assert_eq!(push(&outbox, "x"), Pushed::Queued);
    list.write_all();
    assert_eq!((carrier.calls(), owner.wakes()), (1, 0));
    assert!(outbox.is_parked());
    carrier.takes_all();
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!((carrier.written().len(), owner.wakes()), (3, 0));
}

#[test]
fn a_parked_sink_that_is_handed_something_while_lent_out_is_asked_again() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    carrier.park();
    assert_eq!(push(&outbox, "x"), Pushed::Queued);
    let (visiting, visitor) = (outbox.clone(), owner.clone());
    // The owner comes with something to write to while a flusher holds the sink, and goes in vain.
    carrier.at_each_call(move |_| assert!(visitor.poll(&visiting).is_pending()));
    list.write_all();
    assert_eq!(owner.wakes(), 1);
    carrier.takes_all();
    carrier.at_each_call(|_| {});
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!(carrier.written(), ["x"]);
}

#[test]
fn an_owner_is_not_woken_for_what_it_need_not_know() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    let (visiting, visitor) = (outbox.clone(), owner.clone());
    carrier.at_each_call(move |_| assert!(visitor.poll(&visiting).is_pending()));
    (0..3).for_each(|_| {
        assert_eq!(push(&outbox, "x"), Pushed::Queued);
        list.write_all();
    });
    assert_eq!((carrier.written().len(), owner.wakes()), (3, 0));
    // That it came while the sink was ready is forgotten when it parks later.
    carrier.at_each_call(|_| {});
    carrier.park();
    assert_eq!(push(&outbox, "x"), Pushed::Queued);
    list.write_all();
    assert_eq!((outbox.is_parked(), owner.wakes()), (true, 0));
}

#[test]
fn drained_means_handed_over() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    assert!(owner.drain(&outbox).is_ready(), "nothing waits");
    carrier.takes(1);
    (0..2).for_each(|_| _ = push(&outbox, "x"));
    outbox.finish();
    assert_eq!(push(&outbox, "late"), Pushed::Closed);
    assert_eq!(outbox.push_protocol(frame("late")), Pushed::Closed);
    assert!(owner.drain(&outbox).is_pending());
    list.write_all();
    assert_eq!(owner.wakes(), 1);
    assert!(owner.drain(&outbox).is_pending());
    carrier.takes(1);
    assert_eq!(owner.wakes(), 2);
    assert!(owner.drain(&outbox).is_pending(), "the last frame is cut short as far as anybody knows");
    carrier.takes_all();
    assert!(owner.drain(&outbox).is_ready());
    assert_eq!(carrier.written(), ["x"; 2]);
    assert_eq!(outbox.closed(), None);
}

#[test]
fn what_a_flusher_is_about_to_write_is_not_handed_over_yet() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    let (draining, drainer) = (outbox.clone(), owner.clone());
    carrier.at_each_call(move |_| assert!(drainer.drain(&draining).is_pending()));
    assert_eq!(push(&outbox, "x"), Pushed::Queued);
    list.write_all();
    assert_eq!((owner.wakes(), carrier.written()), (1, vec!["x".into()]));
    assert!(owner.drain(&outbox).is_ready());
}

#[test]
fn whoever_waits_for_the_drain_is_woken_even_without_a_finish() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    assert_eq!(push(&outbox, "x"), Pushed::Queued);
    assert!(owner.drain(&outbox).is_pending());
    list.write_all();
    assert_eq!((owner.wakes(), carrier.written().len()), (1, 1));
    assert!(owner.drain(&outbox).is_ready());
    // It waited once, so it is woken once.
    assert!(owner.poll(&outbox).is_pending());
    assert_eq!(push(&outbox, "x"), Pushed::Queued);
    list.write_all();
    assert_eq!(owner.wakes(), 1);
}

#[test]
fn an_owner_that_waits_for_a_parked_sink_sleeps() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    carrier.park();
    assert_eq!(push(&outbox, "x"), Pushed::Queued);
    list.write_all();
    outbox.finish();
    for _ in 0..3 {
        assert!(owner.drain(&outbox).is_pending());
    }
    assert_eq!(owner.wakes(), 0, "nothing has happened that it could act on");
    carrier.takes_all();
    assert!(owner.drain(&outbox).is_ready());
    assert_eq!((owner.wakes(), carrier.written()), (0, vec!["x".to_owned()]));
}

#[test]
fn a_closed_outbox_is_drained() {
    let (outbox, _list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    assert_eq!(push(&outbox, "x"), Pushed::Queued);
    assert!(owner.drain(&outbox).is_pending());
    outbox.close(CloseReason::PingTimeout);
    assert_eq!(owner.wakes(), 1);
    assert!(owner.drain(&outbox).is_ready());
    assert!(!carrier.is_held());
}

#[test]
fn a_broken_sink_closes_with_the_reason_of_its_error() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    assert!(owner.poll(&outbox).is_pending());
    carrier.breaks(ConnectionError::TooBig { limit: 1 });
    let first = frame("first");
    assert_eq!(outbox.push(first.clone(), Delivery::Reliable, Overflow::Close), Pushed::Queued);
    list.write_all();
    assert_eq!(outbox.closed(), Some(CloseReason::MessageTooBig));
    assert_eq!((owner.wakes(), first.is_shared(), carrier.is_held()), (1, false, false));
    assert_eq!(outbox.waiting(), Waiting::default());
    assert_eq!(owner.poll(&outbox), Poll::Ready(CloseReason::MessageTooBig));
}

#[test]
fn a_sink_that_breaks_under_the_owner_says_so_at_once() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    carrier.takes(0);
    assert_eq!(push(&outbox, "x"), Pushed::Queued);
    list.write_all();
    carrier.breaks(ConnectionError::Io(std::io::ErrorKind::BrokenPipe.into()));
    assert_eq!(owner.poll(&outbox), Poll::Ready(CloseReason::TransportClose));
}

#[test]
fn a_sink_that_panics_takes_its_client_along_and_nobody_else() {
    let list = FlushList::new();
    let clients: Vec<_> = (0..3 * GROUP).map(|_| connected_to(&list, 1 << 20)).collect();
    let (outbox, carrier) = &clients[GROUP / 2];
    let owner = Arc::new(Owner::default());
    assert!(owner.poll(outbox).is_pending());
    carrier.at_each_call(|_| panic!("as asked"));
    clients.iter().for_each(|(outbox, _)| (0..2).for_each(|_| assert_eq!(push(outbox, "x"), Pushed::Queued)));
    list.write_all();
    assert_eq!(owner.wakes(), 1);
    assert_eq!(owner.poll(outbox), Poll::Ready(CloseReason::TransportError));
    assert_eq!(push(outbox, "x"), Pushed::Closed);
    for (at, (outbox, carrier)) in clients.iter().enumerate().filter(|(at, _)| *at != GROUP / 2) {
        assert_eq!((carrier.written().len(), outbox.closed()), (2, None), "{at}");
    }
}

#[test]
fn what_happens_to_a_client_while_another_of_its_group_is_written_happens() {
    let list = FlushList::new();
    let [first, closed, moved, flooded] = [(); 4].map(|()| connected_to(&list, exactly(1 << 20)));
    for (outbox, _) in [&first, &closed, &moved, &flooded] {
        assert_eq!(push(outbox, "x"), Pushed::Queued);
    }
    let new = Carrier::default();
    first.1.at_each_call({
        let (closed, moved, flooded) = (closed.0.clone(), moved.0.clone(), flooded.0.clone());
        let new = new.clone();
        move |_| {
            closed.close(CloseReason::PingTimeout);
            moved.set_sink(new.sink());
            let much = "y".repeat(1 << 20);
            assert_eq!(push(&flooded, &much), Pushed::Queued);
            assert_eq!(push(&flooded, &much), Pushed::Overflowed);
        }
    });
    list.write_all();
    assert_eq!(first.1.written(), ["x"]);
    assert!(!closed.1.is_held() && !moved.1.is_held());
    // What a sink has in hand counts as sent, whoever takes its place.
    assert_eq!([moved.1.written(), new.written()].concat(), ["x"]);
    assert_eq!(push(&moved.0, "z"), Pushed::Queued);
    list.write_all();
    assert_eq!(new.written().last().map(String::as_str), Some("z"));
    assert_eq!(flooded.0.closed(), Some(CloseReason::OutboxFull));
}

#[test]
fn whose_turn_never_comes_misses_nothing() {
    let list = FlushList::new();
    let [first, untouched, moved, closed, flooded] = [(); 5].map(|()| connected_to(&list, exactly(1 << 20)));
    let clients = [&first, &untouched, &moved, &closed, &flooded];
    clients.iter().for_each(|(outbox, _)| assert_eq!(push(outbox, "x"), Pushed::Queued));
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
            assert_eq!(push(&flooded, &much), Pushed::Queued);
            assert_eq!(push(&flooded, &much), Pushed::Overflowed);
            panic!("as asked");
        }
    });
    list.write_all();
    assert_eq!(first.0.closed(), Some(CloseReason::TransportError));
    assert_eq!(untouched.1.written(), ["x"]);
    assert_eq!((moved.1.written().len(), new.written(), moved.1.is_held()), (0, vec!["x".into()], false));
    assert_eq!((closed.1.written().len(), closed.1.is_held(), owner.wakes()), (0, false, 1));
    assert_eq!((flooded.0.waiting(), flooded.1.written().len()), (Waiting::default(), 0));
    assert_eq!(flooded.0.closed(), Some(CloseReason::OutboxFull));
}

#[test]
fn what_is_pushed_while_the_sink_is_out_is_written_in_the_same_visit() {
    let (outbox, list, carrier) = connected(1 << 20);
    let pushing = outbox.clone();
    carrier.at_each_call(move |call| {
        if call < 4 {
            assert_eq!(push(&pushing, &call.to_string()), Pushed::Queued);
        }
    });
    assert_eq!(push(&outbox, "0"), Pushed::Queued);
    let mut listed = VecDeque::new();
    list.take(&mut listed);
    listed[0].flush();
    assert_eq!(carrier.written(), ["0", "1", "2", "3"]);
    listed.clear();
    list.take(&mut listed);
    assert!(listed.is_empty());
}

#[test]
fn a_visit_ends_even_if_there_is_always_more() {
    let (outbox, list, carrier) = connected(1 << 20);
    let pushing = outbox.clone();
    carrier.at_each_call(move |call| assert_eq!(push(&pushing, &call.to_string()), Pushed::Queued));
    assert_eq!(push(&outbox, "0"), Pushed::Queued);
    let mut listed = VecDeque::new();
    list.take(&mut listed);
    listed[0].flush();
    assert_eq!(carrier.calls(), BATCHES_PER_VISIT);
    // It comes behind the others on the list, with all it has left.
    carrier.at_each_call(|_| {});
    list.write_all();
    let expected: Vec<_> = (0..=BATCHES_PER_VISIT).map(|number| number.to_string()).collect();
    assert_eq!(carrier.written(), expected);
}

#[test]
fn a_visit_takes_bounded_batches() {
    let (outbox, list, carrier) = connected(usize::MAX);
    for number in 0..2 * BATCH_FRAMES + 1 {
        assert_eq!(push(&outbox, &number.to_string()), Pushed::Queued);
    }
    list.write_all();
    assert_eq!(carrier.calls(), 3);
    let large = "x".repeat(BATCH_BYTES);
    let pushed = [(); 3].map(|()| push(&outbox, &large));
    assert_eq!(pushed, [Pushed::Queued, Pushed::Backlogged, Pushed::Backlogged]);
    list.write_all();
    assert_eq!(carrier.calls(), 6);
}
