//! Numbering costs a few allocations per event, regardless of its size, and none per recipient.

mod support;

use std::sync::Arc;

use allocation_counter::measure;
use roomcast_core::{
    Bytes, Event, FlushList, Flusher, IntoArgs, Member, MemberKey, Namespace, Outbox, Room, Router, SocketId,
    Target,
};
use roomcast_recovery::RecoveryConfig;
use roomcast_rooms::Rooms;
use roomcast_testkit::MemorySink;
use support::{Clock, OffsetCodec, sequencer};

/// Measures the allocations and bytes of one broadcast to a room, once all buffers have their size.
fn cost(router: &dyn Router, members: usize, bytes: usize) -> (u64, u64) {
    let list = FlushList::new();
    let codec = Arc::new(OffsetCodec);
    for index in 0..members {
        let outbox = Outbox::new(1 << 30, list.clone());
        outbox.set_sink(MemorySink::new().boxed());
        let id = SocketId::new(format!("m{index}"));
        let acks = Default::default();
        let key = router.attach(Member {
            key: MemberKey::next(),
            id,
            codec: codec.clone(),
            outbox,
            acks,
            control: None,
        });
        router.join(key, &Room::from("red"));
    }
    let args = Bytes::from(vec![7; bytes]).into_args().expect("bytes are arguments");
    let event = Event::new(Namespace::main(), "news", args);
    let target = Target { rooms: vec![Room::from("red")], ..Target::default() };
    let mut flusher = Flusher::new(list);
    let mut once = || {
        let info = measure(|| assert_eq!(router.broadcast(&target, &event).flush_backlog().queued, members));
        flusher.write(usize::MAX);
        (info.count_total, info.bytes_total)
    };
    (0..40).for_each(|_| _ = once());
    // Queues are reallocated now and then, so the minimum counts.
    (0..20).map(|_| once()).min().expect("a minimum")
}

#[test]
fn numbering_cost_independent_of_size() {
    let sequenced = |members, bytes| {
        let config = RecoveryConfig::new().max_log_events(16);
        cost(&*sequencer(&Clock::new(), config), members, bytes)
    };
    let (plain, plain_bytes) = cost(&Rooms::default(), 1, 0);
    let (one, one_bytes) = sequenced(1, 0);
    println!("{plain} allocations, {plain_bytes} bytes without numbering; {one}, {one_bytes} bytes with it");
    // The offset, and the rooms of the event.
    assert!(one <= plain + 4, "{one} instead of {plain} allocations");
    assert!(one_bytes <= plain_bytes + 200, "{one_bytes} instead of {plain_bytes} bytes");
    let (_, large_bytes) = sequenced(1, 100_000);
    assert!(large_bytes <= one_bytes + 1000, "arguments are shared: {large_bytes}");
    let (plain_many, _) = cost(&Rooms::default(), 500, 0);
    let (many, _) = sequenced(500, 0);
    assert_eq!(many - plain_many, one - plain, "allocations per recipient");
}
