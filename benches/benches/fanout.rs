//! Fan-out of one event: to all, to all but the sender, to a room.
//!
//! Measured, on one thread: finding the recipients, encoding the event once per codec, rendering it once, pushing it to
//! each recipient's outbox, flushing each outbox, and one copy of the bytes per recipient in place of the kernel's. The
//! queues are empty at the end of each round, so a round includes all of its costs.
//!
//! Not measured: system calls, task wake-ups, several threads, and clients (see `loopback` and the load generator).

mod common;

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use roomcast_core::{Codec, FlushList, Flusher, MemberKey, Room, Router, Target};
use roomcast_plain::Mode;
use roomcast_rooms::Rooms;
use roomcast_socketio::DefaultCodec;

use common::{event, member, settings, size_name};

const MEMBERS: [usize; 4] = [10, 100, 1_000, 10_000];
const PAYLOADS: [usize; 3] = [64, 1024, 16 * 1024];

fn main() {
    let mut criterion = settings().sample_size(10);
    let plain = [Mode::Plain.codec()];
    for members in MEMBERS {
        let mut hall = Hall::with(members, &plain);
        hall.bench(&mut criterion, "to_all", members, Target::default());
        let but_one = Target { skip: Some(hall.keys[members / 2]), ..Target::default() };
        hall.bench(&mut criterion, "to_all_but_the_sender", members - 1, but_one);
        // Add as many members outside the room.
        hall.add(members, &plain, None);
        hall.bench(&mut criterion, "to_a_room", members, to_the_room());
    }
    // Three kinds of clients in turn: three encodings, three renderings.
    let mixed = [DefaultCodec::shared() as Arc<dyn Codec>, Mode::Plain.codec(), Mode::Json.codec()];
    Hall::with(1_000, &mixed).bench(&mut criterion, "to_a_mixed_room", 1_000, to_the_room());
    criterion.final_summary();
}

/// Members of one room.
struct Hall {
    rooms: Rooms,
    flush: FlushList,
    keys: Vec<MemberKey>,
}

const ROOM: &str = "lobby";

fn to_the_room() -> Target {
    Target { rooms: vec![Room::from(ROOM)], ..Target::default() }
}

impl Hall {
    fn with(members: usize, codecs: &[Arc<dyn Codec>]) -> Self {
        let mut hall = Self { rooms: Rooms::default(), flush: FlushList::new(), keys: Vec::new() };
        hall.add(members, codecs, Some(&Room::from(ROOM)));
        hall
    }

    fn add(&mut self, members: usize, codecs: &[Arc<dyn Codec>], room: Option<&Room>) {
        for codec in codecs.iter().cycle().take(members) {
            let key = self.rooms.attach(member(self.keys.len(), codec, &self.flush));
            self.keys.push(key);
            if let Some(room) = room {
                self.rooms.join(key, room);
            }
        }
    }

    fn bench(&self, criterion: &mut Criterion, pattern: &str, recipients: usize, target: Target) {
        let mut group = criterion.benchmark_group(format!("fanout/{pattern}"));
        group.throughput(Throughput::Elements(recipients as u64)).sampling_mode(SamplingMode::Flat);
        for bytes in PAYLOADS {
            let event = event(bytes);
            group.bench_function(BenchmarkId::new(size_name(bytes), recipients), |bencher| {
                bencher.iter(|| {
                    let receipt = self.rooms.broadcast(&target, &event).flush_backlog();
                    Flusher::new(self.flush.clone()).write_all();
                    assert_eq!(receipt.queued, recipients);
                });
            });
        }
    }
}
