//! A broadcast allocates for itself, and nothing per recipient.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;

use allocation_counter::measure;
use roomcast_core::{
    AckTable, Args, Codec, ConnectionError, Event, FlushList, Flusher, Frame, FrameSink, Member, MemberKey,
    Namespace, Outbox, Readiness, Room, Router, SocketId, Target,
};
use roomcast_rooms::Rooms;
use roomcast_testkit::TextCodec;

/// Sink that discards everything.
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

struct Hall {
    rooms: Rooms,
    list: FlushList,
    flusher: Flusher,
}

impl Hall {
    /// Creates members that are all in the rooms `r` and `s`, with two codecs in alternation.
    fn with(members: usize) -> Self {
        let codecs: [Arc<dyn Codec>; 2] = [TextCodec::new("x"), TextCodec::new("y")];
        let (rooms, list) = (Rooms::default(), FlushList::new());
        for index in 0..members {
            let outbox = Outbox::new(1 << 20, list.clone());
            outbox.set_sink(Box::new(Nowhere));
            let id = SocketId::new(format!("m{index}"));
            let codec = codecs[index % codecs.len()].clone();
            let key = rooms.attach(Member {
                key: MemberKey::next(),
                id,
                codec,
                outbox,
                acks: Some(AckTable::default()),
                control: None,
            });
            rooms.join(key, &Room::from("r"));
            rooms.join(key, &Room::from("s"));
        }
        Self { rooms, flusher: Flusher::new(list.clone()), list }
    }

    fn broadcast_and_flush(&mut self, target: &Target, event: &Event) -> usize {
        let receipt = self.rooms.broadcast(target, event).flush_backlog();
        self.flusher.write(usize::MAX);
        receipt.queued
    }

    /// Counts the allocations of one broadcast and its flush, once all buffers have their size.
    fn allocations(&mut self, target: &Target, event: &Event, recipients: usize) -> u64 {
        for _ in 0..3 {
            assert_eq!(self.broadcast_and_flush(target, event), recipients);
        }
        measure(|| assert_eq!(self.broadcast_and_flush(target, event), recipients)).count_total
    }
}

#[test]
fn allocations_independent_of_recipient_count() {
    let event = Event::new(Namespace::main(), "news", Args::empty());
    let rooms = |names: &[&str]| names.iter().copied().map(Room::from).collect::<Vec<_>>();
    let to_all = Target::default();
    let to_room = Target { rooms: rooms(&["r"]), ..Target::default() };
    let but_two = Target { rooms: rooms(&["r"]), except: rooms(&["m0", "m1"]), ..Target::default() };
    let but_room = Target { except: rooms(&["r"]), ..Target::default() };
    let to_both = Target { rooms: rooms(&["r", "s"]), ..Target::default() };
    let (mut small, mut large) = (Hall::with(10), Hall::with(2_000));
    for (target, missing) in [(to_all, 0), (to_room, 0), (but_two, 2), (to_both, 0)] {
        let few = small.allocations(&target, &event, 10 - missing);
        let many = large.allocations(&target, &event, 2_000 - missing);
        println!("{few} allocations for {target:?}");
        assert_eq!(few, many, "{target:?}");
        assert!((1..20).contains(&few), "{few} allocations for {target:?}");
    }
    assert_eq!(small.allocations(&but_room, &event, 0), large.allocations(&but_room, &event, 0));
}

#[test]
fn releases_memory_on_detach() {
    let hall = Hall::with(2_000);
    let (codec, room) = (TextCodec::new("x"), Room::from("large once"));
    let info = measure(|| {
        let keys: Vec<_> = (0..5_000)
            .map(|index| {
                let outbox = Outbox::new(1 << 20, hall.list.clone());
                let id = SocketId::new(format!("guest {index}"));
                let key = hall.rooms.attach(Member {
                    key: MemberKey::next(),
                    id,
                    codec: codec.clone(),
                    outbox,
                    acks: Some(AckTable::default()),
                    control: None,
                });
                hall.rooms.join(key, &room);
                key
            })
            .collect();
        keys.iter().for_each(|key| assert!(hall.rooms.detach(*key)));
    });
    // The tables of ids and keys keep their slots, one to three pointers each.
    let per_guest = info.bytes_current / 5_000;
    println!("{per_guest} bytes left per detached member");
    assert!(per_guest < 160, "{per_guest} bytes left per detached member");
}
