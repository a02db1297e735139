//! Process-wide ledger of delivery memory; the only test in its binary, since tests of a binary share the ledger.

use std::cell::RefCell;
use std::sync::mpsc;
use std::thread;

use roomcast_core::Frame;
use roomcast_core::memory::{self, Charge, SLACK};

thread_local! {
    static FIRST: RefCell<Vec<Charge>> = const { RefCell::new(Vec::new()) };
    static LAST: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

/// Runs a closure on a new thread and waits for the end of the thread, including its thread-local destructors.
fn on_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(run).join().unwrap())
}

#[test]
fn process_holds_what_threads_charged() {
    assert_eq!(memory::in_use(), 0);

    // Charged by one thread, released by another.
    let charged = on_thread(|| (0..100).map(|_| Charge::new(10_000)).collect::<Vec<_>>());
    assert_eq!(memory::in_use(), 1_000_000);
    drop(charged);
    assert_eq!(memory::in_use(), 0);

    // The charges of a running thread are visible up to its slack.
    let (go, wait) = mpsc::sync_channel::<()>(1);
    let (ready, seen) = mpsc::sync_channel(1);
    thread::scope(|scope| {
        let other = scope.spawn(move || {
            let charges: Vec<_> = (0..1000).map(|_| Charge::new(1234)).collect();
            ready.send(()).unwrap();
            wait.recv().unwrap();
            drop(charges);
        });
        seen.recv().unwrap();
        assert!(memory::in_use().abs_diff(1_234_000) <= SLACK, "{}", memory::in_use());
        go.send(()).unwrap();
        other.join().unwrap();
    });
    assert_eq!(memory::in_use(), 0);

    // Releases by destructors at the end of a thread count in any order.
    for charges_first in [true, false] {
        on_thread(|| {
            if charges_first {
                drop(Charge::new(1));
            }
            FIRST.with_borrow_mut(|charges| charges.push(Charge::default()));
            LAST.with_borrow_mut(|frames| frames.push(Frame::new("x".repeat(100))));
            FIRST.with_borrow_mut(|charges| charges.push(Charge::new(3 * SLACK + 1)));
        });
        assert_eq!(memory::in_use(), 0, "{charges_first}");
    }
}
