//! Deferred wake-ups of flushers on other threads.
#![allow(clippy::disallowed_methods, reason = "tests wake-ups across threads")]

use super::*;

/// Puts the flusher of a list to sleep.
fn asleep(list: &FlushList) -> Arc<Owner> {
    let flusher = Arc::new(Owner::default());
    let waker = Waker::from(flusher.clone());
    assert!(list.poll_listed(&mut Context::from_waker(&waker)).is_pending());
    flusher
}

#[test]
fn own_flusher_delivers_deferred_wakes() {
    let (near, far) = (FlushList::new(), FlushList::new());
    let (near_outbox, _near_carrier) = connected_to(&near, 1 << 20);
    let (far_outbox, _far_carrier) = connected_to(&far, 1 << 20);
    let (near_flusher, far_flusher) = (asleep(&near), asleep(&far));
    let deferred = DeferredWakes::enter(&near);
    (0..3).for_each(|_| assert_eq!(push(&far_outbox, "x"), PushOutcome::Queued));
    assert_eq!((near_flusher.wakes(), far_flusher.wakes()), (1, 0));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(near.poll_listed(&mut cx).is_ready(), "a deferred wake-up is pending");
    near.wake_deferred();
    assert_eq!(far_flusher.wakes(), 1);
    assert!(near.poll_listed(&mut cx).is_pending());

    // Its own outboxes wake it and no other flusher.
    let near_flusher = asleep(&near);
    assert_eq!(push(&near_outbox, "x"), PushOutcome::Queued);
    assert_eq!(near_flusher.wakes(), 1);
    near.wake_deferred();
    assert_eq!((near_flusher.wakes(), far_flusher.wakes()), (1, 1));
    drop(deferred);
}

#[test]
fn dropping_guard_delivers_deferred_wakes() {
    let (near, far) = (FlushList::new(), FlushList::new());
    let (outbox, _carrier) = connected_to(&far, 1 << 20);
    let flusher = asleep(&far);
    let deferred = DeferredWakes::enter(&near);
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    assert_eq!(flusher.wakes(), 0);
    drop(deferred);
    assert_eq!(flusher.wakes(), 1);
    far.write_all();
    let flusher = asleep(&far);
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    assert_eq!(flusher.wakes(), 1, "wake-ups are immediate again");
}

#[test]
fn inner_guard_leaves_outer_one() {
    let (near, other, far) = (FlushList::new(), FlushList::new(), FlushList::new());
    let (outbox, _carrier) = connected_to(&far, 1 << 20);
    let outer = DeferredWakes::enter(&near);
    assert!(DeferredWakes::enter_if_none(&other).is_none());
    let flusher = asleep(&far);
    assert_eq!(push(&outbox, "x"), PushOutcome::Queued);
    assert_eq!(flusher.wakes(), 0, "the outer guard is in effect");
    drop(outer);
    assert_eq!(flusher.wakes(), 1);
    far.write_all();
    let flusher = asleep(&far);
    let only = DeferredWakes::enter_if_none(&other).expect("no guard");
    (0..3).for_each(|_| assert_eq!(push(&outbox, "x"), PushOutcome::Queued));
    assert_eq!(flusher.wakes(), 0);
    drop(only);
    assert_eq!(flusher.wakes(), 1);
}

#[test]
fn other_threads_wake_at_once() {
    let (near, far) = (FlushList::new(), FlushList::new());
    let (outbox, _carrier) = connected_to(&far, 1 << 20);
    let flusher = asleep(&far);
    let _deferred = DeferredWakes::enter(&near);
    std::thread::scope(|scope| _ = scope.spawn(|| assert_eq!(push(&outbox, "x"), PushOutcome::Queued)));
    assert_eq!(flusher.wakes(), 1);
}

#[test]
fn stuck_thread_delays_no_other() {
    let (near, far) = (FlushList::new(), FlushList::new());
    let [first, second, third] = [(); 3].map(|()| connected_to(&far, 1 << 20).0);
    let flusher = asleep(&far);
    let deferred = DeferredWakes::enter(&near);
    assert_eq!(push(&first, "x"), PushOutcome::Queued);
    assert_eq!(flusher.wakes(), 0, "the wake-up is deferred");
    std::thread::scope(|scope| _ = scope.spawn(|| assert_eq!(push(&second, "x"), PushOutcome::Queued)));
    assert_eq!(flusher.wakes(), 1, "another thread wakes directly");
    assert_eq!(push(&third, "x"), PushOutcome::Queued);
    drop(deferred);
    far.write_all();
    assert_eq!(flusher.wakes(), 2, "one wake-up each");
}

#[test]
fn awake_flusher_is_not_woken() {
    let (near, far) = (FlushList::new(), FlushList::new());
    let [first, second] = [(); 2].map(|()| connected_to(&far, 1 << 20).0);
    let flusher = asleep(&far);
    let deferred = DeferredWakes::enter(&near);
    assert_eq!(push(&first, "x"), PushOutcome::Queued);
    far.write_all();
    assert_eq!(push(&second, "x"), PushOutcome::Queued);
    std::thread::scope(|scope| _ = scope.spawn(|| assert_eq!(push(&first, "x"), PushOutcome::Queued)));
    assert_eq!(flusher.wakes(), 0, "it is still awake");
    drop(deferred);
    assert_eq!(flusher.wakes(), 1, "the deferred wake-up is delivered");
}

#[test]
fn second_thread_defers_on_its_own() {
    let [near, other, far] = [(); 3].map(|()| FlushList::new());
    let [first, second, third] = [(); 3].map(|()| connected_to(&far, 1 << 20).0);
    let (flusher, other_flusher) = (asleep(&far), asleep(&other));
    let _deferred = DeferredWakes::enter(&near);
    assert_eq!(push(&first, "x"), PushOutcome::Queued);
    let second_thread = || {
        let _deferred = DeferredWakes::enter(&other);
        [&second, &third].into_iter().for_each(|outbox| assert_eq!(push(outbox, "x"), PushOutcome::Queued));
        assert_eq!((other_flusher.wakes(), flusher.wakes()), (1, 0));
        other.wake_deferred();
        assert_eq!(flusher.wakes(), 1, "each list has one wake-up");
    };
    std::thread::scope(|scope| _ = scope.spawn(second_thread));
    near.wake_deferred();
    assert_eq!(flusher.wakes(), 2);
}
