//! Memory cost of an outbox: little while it is idle, no allocation for a client that keeps up.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use roomcast_core::{
    ConnectionError, Delivery, FlushList, Flusher, Frame, FrameSink, Outbox, Overflow, PushOutcome, Readiness,
};

/// Sink that discards all frames.
#[derive(Debug)]
struct Nowhere;

impl FrameSink for Nowhere {
    fn poll_send(
        &mut self,
        _cx: &mut Context<'_>,
        batch: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError> {
        batch.clear();
        Ok(Readiness::Ready)
    }
}

fn push(outbox: &Outbox, frame: &Frame) {
    assert_eq!(outbox.push(frame.clone(), Delivery::Reliable, Overflow::Close), PushOutcome::Queued);
}

#[test]
fn fast_client_costs_no_allocation() {
    let (list, frame) = (FlushList::new(), Frame::new("shared by all"));
    let outboxes: Vec<_> = (0..100).map(|_| Outbox::new(1 << 20, list.clone())).collect();
    outboxes.iter().for_each(|outbox| outbox.set_sink(Box::new(Nowhere)));
    let mut flusher = Flusher::new(list.clone());
    let mut cx = Context::from_waker(Waker::noop());
    let mut round = || {
        outboxes.iter().for_each(|outbox| push(outbox, &frame));
        flusher.write(usize::MAX);
        assert!(outboxes.iter().all(|outbox| outbox.poll_owner(&mut cx).is_pending()));
    };
    // Both queues that the flusher swaps grow to their final size.
    (0..2).for_each(|_| round());
    assert_eq!(measure(|| (0..10).for_each(|_| round())).count_total, 0);
    assert!(flusher.poll_ready(&mut cx).is_pending());
}

#[test]
fn shrinks_outbox_after_burst() {
    let (list, frame) = (FlushList::new(), Frame::new("shared by all"));
    let outbox = Outbox::new(1 << 20, list.clone());
    let mut flusher = Flusher::new(list.clone());
    let burst = measure(|| {
        (0..10_000).for_each(|_| push(&outbox, &frame));
        outbox.set_sink(Box::new(Nowhere));
        for _ in 0..20 {
            flusher.write(usize::MAX);
        }
        assert_eq!(outbox.waiting().frames, 0);
        let _ = outbox.take_sink();
    });
    assert!(burst.bytes_max > 100_000, "{burst:?}");
    // The rest belongs to the pool of the writing thread (one batch) and to the list (one entry).
    assert!(burst.bytes_current < 2_000, "{burst:?}");
}

#[test]
fn limits_idle_outbox_memory() {
    let list = FlushList::new();
    let mut outboxes = Vec::with_capacity(100);
    let idle = measure(|| outboxes.extend((0..100).map(|_| Outbox::new(1 << 20, list.clone()))));
    assert_eq!(idle.count_total, 100, "one allocation each");
    let each = idle.bytes_current / 100;
    println!("{each} bytes for an idle outbox");
    assert!(each <= 256, "{each} bytes");
    let mut cx = Context::from_waker(Waker::noop());
    assert!(outboxes.iter().all(|outbox| outbox.poll_owner(&mut cx) == Poll::Pending));
}
