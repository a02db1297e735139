//! Room membership: joining and leaving among many memberships.
//!
//! Measured, on one thread: a member joins and leaves a room; a client is attached, joins a room, and is detached. The
//! process already has this many memberships, in rooms of 100 members, where each member is in 10 rooms. Members and
//! rooms are visited in large steps, so that caches help no more than in a server. Not measured: contention, and the
//! application's work.

mod common;

use criterion::{BatchSize, BenchmarkId, Throughput};
use roomcast_core::{FlushList, JoinOutcome, MemberKey, Room, Router};
use roomcast_plain::Mode;
use roomcast_rooms::Rooms;

use common::{member, settings};

const MEMBERSHIPS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const ROOMS_OF_EACH: usize = 10;
const MEMBERS_OF_EACH: usize = 100;
/// Step that is coprime to the numbers of members and rooms.
const STEP: usize = 7_919;

fn main() {
    let mut criterion = settings();
    for memberships in MEMBERSHIPS {
        let town = Town::with(memberships);
        let mut group = criterion.benchmark_group("rooms");
        group.throughput(Throughput::Elements(1));
        let mut at = 0;
        group.bench_function(BenchmarkId::new("join_and_leave", memberships), |bencher| {
            bencher.iter(|| {
                at = (at + STEP) % town.keys.len();
                // The next room after the member's rooms, which are consecutive.
                let room = &town.names[(at + ROOMS_OF_EACH) % town.names.len()];
                assert_eq!(town.rooms.join(town.keys[at], room), JoinOutcome::Joined);
                town.rooms.leave(town.keys[at], room)
            });
        });
        let (codec, flush) = (Mode::Plain.codec(), FlushList::new());
        let mut number = town.keys.len();
        group.bench_function(BenchmarkId::new("come_and_go", memberships), |bencher| {
            bencher.iter_batched(
                || {
                    number += STEP;
                    (member(number, &codec, &flush), &town.names[number % town.names.len()])
                },
                |(member, room)| {
                    let key = town.rooms.attach(member);
                    town.rooms.join(key, room);
                    town.rooms.detach(key)
                },
                BatchSize::SmallInput,
            );
        });
    }
    criterion.final_summary();
}

/// Members and rooms, with every member in ten rooms.
struct Town {
    rooms: Rooms,
    keys: Vec<MemberKey>,
    names: Vec<Room>,
}

impl Town {
    fn with(memberships: usize) -> Self {
        let (codec, flush, rooms) = (Mode::Plain.codec(), FlushList::new(), Rooms::default());
        let members = memberships / ROOMS_OF_EACH;
        // At least one room that a member is not in.
        let count = (memberships / MEMBERS_OF_EACH).max(ROOMS_OF_EACH + 1);
        let names: Vec<_> = (0..count).map(|number| Room::new(format!("room-{number}"))).collect();
        let keys: Vec<_> = (0..members).map(|number| rooms.attach(member(number, &codec, &flush))).collect();
        for (at, key) in keys.iter().enumerate() {
            for room in names.iter().cycle().skip(at % count).take(ROOMS_OF_EACH) {
                rooms.join(*key, room);
            }
        }
        Self { rooms, keys, names }
    }
}
