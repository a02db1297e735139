//! Who wakes the flushers of other threads
#![allow(clippy::disallowed_methods, reason = "it is about threads")]

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
    let near_flusher = asleep(&near);
    assert_eq!(push(&near_outbox, "x"), Pushed::Queued);
    assert_eq!(near_flusher.wakes(), 1);
    near.wake_held();
    assert_eq!((near_flusher.wakes(), far_flusher.wakes()), (1, 1));
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

#[test]
fn a_thread_that_is_stuck_keeps_no_other_from_its_own_work() {
    let (near, far) = (FlushList::new(), FlushList::new());
    let [first, second, third] = [(); 3].map(|()| connected_to(&far, 1 << 20).0);
    let flusher = asleep(&far);
    let relay = near.relay();
    assert_eq!(push(&first, "x"), Pushed::Queued);
    assert_eq!(flusher.wakes(), 0, "this thread is to tell it later");
    std::thread::scope(|scope| _ = scope.spawn(|| assert_eq!(push(&second, "x"), Pushed::Queued)));
    assert_eq!(flusher.wakes(), 1, "another does not wait for that");
    assert_eq!(push(&third, "x"), Pushed::Queued);
    drop(relay);
    far.write_all();
    assert_eq!(flusher.wakes(), 2, "once each");
}

#[test]
fn a_flusher_that_is_awake_is_woken_by_nobody() {
    let (near, far) = (FlushList::new(), FlushList::new());
    let [first, second] = [(); 2].map(|()| connected_to(&far, 1 << 20).0);
    let flusher = asleep(&far);
    let relay = near.relay();
    assert_eq!(push(&first, "x"), Pushed::Queued);
    far.write_all();
    assert_eq!(push(&second, "x"), Pushed::Queued);
    std::thread::scope(|scope| _ = scope.spawn(|| assert_eq!(push(&first, "x"), Pushed::Queued)));
    assert_eq!(flusher.wakes(), 0, "it came by itself and has not gone to sleep again");
    drop(relay);
    assert_eq!(flusher.wakes(), 1, "as was said before");
}

#[test]
fn a_second_thread_does_not_rely_on_the_first() {
    let [near, other, far] = [(); 3].map(|()| FlushList::new());
    let [first, second, third] = [(); 3].map(|()| connected_to(&far, 1 << 20).0);
    let (flusher, other_flusher) = (asleep(&far), asleep(&other));
    let _relay = near.relay();
    assert_eq!(push(&first, "x"), Pushed::Queued);
    let second_thread = || {
        let _relay = other.relay();
        [&second, &third].into_iter().for_each(|outbox| assert_eq!(push(outbox, "x"), Pushed::Queued));
        assert_eq!((other_flusher.wakes(), flusher.wakes()), (1, 0));
        other.wake_held();
        assert_eq!(flusher.wakes(), 1, "each holds it once");
    };
    std::thread::scope(|scope| _ = scope.spawn(second_thread));
    near.wake_held();
    assert_eq!(flusher.wakes(), 2);
}
