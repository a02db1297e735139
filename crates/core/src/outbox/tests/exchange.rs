//! Sinks that are replaced, closed or moved to another outbox.

use super::lease::BATCHES_PER_LEASE;
use super::queue::BATCH_FRAMES;
use super::*;

#[test]
fn replaces_sink_at_any_call() {
    // At every call of a lease with several batches, including the last.
    for at in 1..=BATCHES_PER_LEASE {
        without_locking_up(move || {
            let (outbox, list, _) = connected(1 << 20);
            let (old, new) = (Carrier::default(), Carrier::default());
            let closing = outbox.clone();
            // A sink may use its outbox in `Drop`: it is dropped under no lock.
            outbox.set_sink(old.sink_with_end(move || _ = closing.waiting()));
            let frames = BATCHES_PER_LEASE * BATCH_FRAMES + 1;
            let texts: Vec<_> = (0..frames).map(|number| number.to_string()).collect();
            texts.iter().for_each(|text| _ = push(&outbox, text));
            let (changing, next) = (outbox.clone(), new.clone());
            old.at_each_call(move |call| {
                if call == at {
                    changing.set_sink(next.sink());
                }
            });
            list.write_all();
            assert_eq!((old.calls(), old.is_held()), (at, false));
            assert_eq!([old.written(), new.written()].concat(), texts);
        });
    }
}

#[test]
fn keeps_last_successor_sink() {
    let (outbox, list, old) = connected(1 << 20);
    let [first, second] = [Carrier::default(), Carrier::default()];
    let (changing, sinks) = (outbox.clone(), [first.clone(), second.clone()]);
    old.takes(0);
    old.at_each_call(move |_| sinks.iter().for_each(|next| changing.set_sink(next.sink())));
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    list.write_all();
    assert_eq!((old.written().len(), first.written().len(), second.written()), (0, 0, vec!["x".to_owned()]));
    old.at_each_call(|_| {});
    assert!(!first.is_held() && !old.is_held());
}

#[test]
fn ignores_failure_of_replaced_sink() {
    let (outbox, list, old) = connected(1 << 20);
    let new = Carrier::default();
    let (changing, next) = (outbox.clone(), new.clone());
    old.breaks(ConnectionError::Misused("test"));
    old.at_each_call(move |_| changing.set_sink(next.sink()));
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    list.write_all();
    assert_eq!((outbox.closed(), new.written()), (None, vec!["x".to_owned()]));
}

#[test]
fn close_drops_leased_sink_after_lease() {
    without_locking_up(|| {
        let (outbox, list, _) = connected(1 << 20);
        let carrier = Carrier::default();
        let owner = Arc::new(Owner::default());
        assert!(owner.poll(&outbox).is_pending());
        let ended = outbox.clone();
        outbox.set_sink(carrier.sink_with_end(move || _ = ended.waiting()));
        carrier.takes(1);
        let closing = outbox.clone();
        carrier.at_each_call(move |_| closing.close(CloseReason::ServerShutdown));
        (0..3).for_each(|_| _ = push(&outbox, "x"));
        list.write_all();
        carrier.at_each_call(|_| {});
        assert_eq!((outbox.waiting(), carrier.is_held()), (QueueDepth::default(), false));
        assert_eq!((owner.wakes(), carrier.written().len()), (1, 1));
    });
}

#[test]
fn closed_sink_may_use_its_outbox() {
    without_locking_up(|| {
        let (outbox, _list, _) = connected(1 << 20);
        let (ended, carrier) = (outbox.clone(), Carrier::default());
        outbox.set_sink(carrier.sink_with_end(move || _ = ended.waiting()));
        outbox.close(CloseReason::ServerShutdown);
        assert!(!carrier.is_held());
    });
}

#[test]
fn drops_sink_set_after_close() {
    let (outbox, _list, carrier) = connected(1 << 20);
    outbox.close(CloseReason::ServerShutdown);
    let late = Carrier::default();
    outbox.set_sink(late.sink());
    assert!(!late.is_held() && !carrier.is_held());
}

#[test]
fn moves_sink_to_another_outbox() {
    let (outbox, list, carrier) = connected(1 << 20);
    assert_eq!(push(&outbox, "stays"), PushOutcome::Queued);
    let sink = outbox.take_sink().expect("the sink is not leased");
    assert!(outbox.take_sink().is_none());
    list.write_all();
    assert_eq!((outbox.waiting().frames, carrier.written().len()), (1, 0));
    assert_eq!(outbox.push(frame("v"), Delivery::Volatile, Overflow::Close), PushOutcome::Dropped);
    let (other, other_list) = (Outbox::new(1 << 20, list.clone()), list);
    other.set_sink(sink);
    assert_eq!(push(&other, "x"), PushOutcome::Queued);
    other_list.write_all();
    assert_eq!(carrier.written(), ["x"]);
    assert_eq!(waiting(&outbox, &other_list), ["stays"]);
}

#[test]
fn wakes_owner_to_take_leased_sink() {
    let (outbox, list, carrier) = connected(1 << 20);
    let owner = Arc::new(Owner::default());
    assert!(owner.poll(&outbox).is_pending());
    let taking = outbox.clone();
    carrier.at_each_call(move |call| {
        assert!(taking.take_sink().is_none());
        if call == 1 {
            // The failed call changes nothing for other writers.
            let pushed = taking.push(frame("v"), Delivery::Volatile, Overflow::Close);
            assert_eq!(pushed, PushOutcome::Queued);
        }
    });
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    list.write_all();
    assert_eq!((owner.wakes(), carrier.written()), (1, vec!["x".into(), "v".into()]));
    assert!(outbox.take_sink().is_some());
}
