//! Who wakes the flushers of other threads

use super::*;

/// Lets the flusher of a list fall asleep
fn asleep(list: &FlushList) -> Arc<Owner> {
    let flusher = Arc::new(Owner::default());
    let waker = Waker::from(flusher.clone());
    assert!(list.poll_listed(&mut Context::from_waker(&waker)).is_pending());
    flusher
}

#[test]
fn others_are_woken_by_the_flusher_of_the_thread_that_gives_them_work() {
    let (near, far) = (FlushList::new(), FlushList::new());
    let (near_outbox, _near_carrier) = connected_to(&near, 1 << 20);
    let (far_outbox, _far_carrier) = connected_to(&far, 1 << 20);
    let (near_flusher, far_flusher) = (asleep(&near), asleep(&far));
    let relay = near.relay();
    (0..3).for_each(|_| assert_eq!(push(&far_outbox, "x"), Pushed::Queued));
    assert_eq!((near_flusher.wakes(), far_flusher.wakes()), (1, 0));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(near.poll_listed(&mut cx).is_ready(), "it has somebody to wake");
    near.wake_held();
    assert_eq!(far_flusher.wakes(), 1);
    assert!(near.poll_listed(&mut cx).is_pending());

    // What is its own wakes it, and nobody else.
    assert_eq!(push(&near_outbox, "x"), Pushed::Queued);
    near.wake_held();
    assert_eq!(far_flusher.wakes(), 1);
    drop(relay);
}

#[test]
fn nobody_stays_asleep_when_a_thread_stops_relaying() {
    let (near, far) = (FlushList::new(), FlushList::new());
    let (outbox, _carrier) = connected_to(&far, 1 << 20);
    let flusher = asleep(&far);
    let relay = near.relay();
    assert_eq!(push(&outbox, "x"), Pushed::Queued);
    assert_eq!(flusher.wakes(), 0);
    drop(relay);
    assert_eq!(flusher.wakes(), 1);
    far.write_all();
    let flusher = asleep(&far);
    assert_eq!(push(&outbox, "x"), Pushed::Queued);
    assert_eq!(flusher.wakes(), 1, "from now on at once");
}

#[test]
fn other_threads_wake_at_once() {
    let (near, far) = (FlushList::new(), FlushList::new());
    let (outbox, _carrier) = connected_to(&far, 1 << 20);
    let flusher = asleep(&far);
    let _relay = near.relay();
    std::thread::scope(|scope| _ = scope.spawn(|| assert_eq!(push(&outbox, "x"), Pushed::Queued)));
    assert_eq!(flusher.wakes(), 1);
}
