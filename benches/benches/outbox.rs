//! Outbox of one client: pushing and flushing frames.
//!
//! Measured, on one thread: pushing shared frames to an outbox, its entry in the flush list, and writing the frames
//! with one copy of their bytes. Not measured: encoding and rendering, done once beforehand, system calls, and
//! contention.

mod common;

use std::hint::black_box;

use criterion::{BenchmarkId, Throughput};
use roomcast_core::{Delivery, FlushList, Flusher, Frame, Outbox, Overflow};
use roomcast_transport_ws::WsWire;

use common::{CopySink, settings, size_name, text};

fn main() {
    let mut criterion = settings();
    let mut group = criterion.benchmark_group("outbox/push_and_flush");
    for frames in [1, 64] {
        for bytes in [64, 1024] {
            let list = FlushList::new();
            let outbox = Outbox::new(1 << 20, list.clone());
            let mut flusher = Flusher::new(list);
            outbox.set_sink(Box::new(CopySink));
            let frame = Frame::new(text(bytes));
            black_box(frame.wire(&WsWire));
            group.throughput(Throughput::Elements(frames));
            group.bench_function(BenchmarkId::new(size_name(bytes), frames), |bencher| {
                bencher.iter(|| {
                    for _ in 0..frames {
                        outbox.push(frame.clone(), Delivery::Reliable, Overflow::Close);
                    }
                    flusher.write_all();
                });
            });
            assert_eq!(outbox.waiting().frames, 0);
        }
    }
    group.finish();
    criterion.final_summary();
}
